//! Which environment a command means.

use crate::cli::client::Client;
use anyhow::bail;
use clap::Args;
use serde_json::Value;

/// The environment that is meant; needed only if the token reaches several.
#[derive(Debug, Args)]
pub(super) struct Target {
    /// The project's key
    #[arg(long, env = "VEXIL_PROJECT", global = true)]
    project: Option<String>,
    /// The environment's key
    #[arg(long, env = "VEXIL_ENVIRONMENT", global = true)]
    environment: Option<String>,
}

/// An environment that was found.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) project: String,
    pub(super) environment: String,
}

impl Place {
    /// The path of the project in the API.
    pub(super) fn project_path(&self) -> String {
        format!("/api/v1/projects/{}", self.project)
    }

    /// The path of the environment in the API.
    pub(super) fn path(&self) -> String {
        format!("{}/environments/{}", self.project_path(), self.environment)
    }
}

impl Target {
    /// The query that names the environment to routes which name none in their path.
    pub(super) fn query(&self) -> String {
        let part = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!("{name}={value}"))
        };
        let parts: Vec<String> =
            [part("project", &self.project), part("environment", &self.environment)]
                .into_iter()
                .flatten()
                .collect();
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }

    /// Finds the one environment that is meant, among those that the token reaches.
    pub(super) async fn find(&self, client: &Client) -> anyhow::Result<Place> {
        if let (Some(project), Some(environment)) = (&self.project, &self.environment) {
            let (project, environment) = (project.clone(), environment.clone());
            return Ok(Place { project, environment });
        }
        let projects = match &self.project {
            Some(project) => vec![project.clone()],
            None => keys(&client.get("/api/v1/projects").await?),
        };
        let mut places = Vec::new();
        for project in projects {
            let path = format!("/api/v1/projects/{project}/environments");
            for environment in keys(&client.get(&path).await?) {
                if self.environment.as_ref().is_none_or(|wanted| *wanted == environment) {
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

fn keys(list: &Value) -> Vec<String> {
    let items = list.get("items").and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get("key")?.as_str().map(str::to_owned)).collect()
}
