//! Which environment a command means.

use crate::cli::client::Client;
use crate::model::key::EnvKey;
use crate::model::key::KEY_RULE;
use crate::model::key::ProjectKey;
use anyhow::bail;
use clap::Args;
use serde_json::Value;

/// The environment that is meant; needed only if the token reaches several.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The project's key
    #[arg(long, env = "VEXIL_PROJECT", global = true, value_parser = project_key)]
    project: Option<ProjectKey>,
    /// The environment's key
    #[arg(long, env = "VEXIL_ENVIRONMENT", global = true, value_parser = env_key)]
    environment: Option<EnvKey>,
}

/// An environment that was found.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) project: String,
    pub(super) environment: String,
}

impl Place {
    /// The path of the environment in the API.
    pub(super) fn path(&self) -> String {
        format!("/api/v1/projects/{}/environments/{}", self.project, self.environment)
    }
}

impl Target {
    /// The query that names the environment to routes which name none in their path.
    pub(super) fn query(&self) -> String {
        let project = self.project.iter().map(|key| format!("project={key}"));
        let environment = self.environment.iter().map(|key| format!("environment={key}"));
        let parts: Vec<String> = project.chain(environment).collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }

    /// The project that was named, if one was.
    pub(super) fn project(&self) -> Option<&ProjectKey> {
        self.project.as_ref()
    }

    /// Finds the one project that is meant, among those that the token reaches.
    pub(super) async fn find_project(&self, client: &Client) -> anyhow::Result<String> {
        the_project(self.project.as_ref(), client).await
    }

    /// Finds the one environment that is meant, among those that the token reaches.
    pub(super) async fn find(&self, client: &Client) -> anyhow::Result<Place> {
        if let (Some(project), Some(environment)) = (&self.project, &self.environment) {
            let (project, environment) = (project.to_string(), environment.to_string());
            return Ok(Place { project, environment });
        }
        let projects = match &self.project {
            Some(project) => vec![project.to_string()],
            None => keys_of(&client.get("/api/v1/projects").await?),
        };
        let mut places = Vec::new();
        for project in projects {
            let path = format!("/api/v1/projects/{project}/environments");
            for environment in keys_of(&client.get(&path).await?) {
                if self.environment.as_ref().is_none_or(|wanted| wanted.as_str() == environment) {
                    places.push(Place { project: project.clone(), environment });
                }
            }
        }
        match places.as_slice() {
            [] => bail!("there is no such environment within the token's reach"),
            [only] => Ok(only.clone()),
            several => {
                let name = |place: &Place| format!("{}/{}", place.project, place.environment);
                let names: Vec<String> = several.iter().map(name).collect();
                bail!(
                    "several environments could be meant ({}); name one with --project and --environment",
                    names.join(", ")
                )
            }
        }
    }
}

/// The project that was named, or the one that the token reaches.
pub(super) async fn the_project(
    named: Option<&ProjectKey>,
    client: &Client,
) -> anyhow::Result<String> {
    if let Some(project) = named {
        return Ok(project.to_string());
    }
    let projects = keys_of(&client.get("/api/v1/projects").await?);
    match projects.as_slice() {
        [] => bail!("there is no project within the token's reach"),
        [only] => Ok(only.clone()),
        several => {
            let names = several.join(", ");
            bail!("several projects could be meant ({names}); name one with --project")
        }
    }
}

/// The keys of the items of a list.
pub(super) fn keys_of(list: &Value) -> Vec<String> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get("key")?.as_str().map(str::to_owned)).collect()
}

/// Keys go into paths, so they are checked before anything is sent.
pub(super) fn project_key(text: &str) -> Result<ProjectKey, String> {
    ProjectKey::parse(text).ok_or_else(|| KEY_RULE.to_owned())
}

pub(super) fn env_key(text: &str) -> Result<EnvKey, String> {
    EnvKey::parse(text).ok_or_else(|| KEY_RULE.to_owned())
}
