//! `vexil project`.

use crate::cli::Common;
use crate::cli::change::DeedArgs;
use crate::cli::confirm::confirm;
use crate::cli::output::print_rows;
use crate::cli::target::project_key;
use crate::model::key::ProjectKey;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// What can be done with projects.
#[derive(Debug, Subcommand)]
pub(super) enum ProjectCommand {
    /// Lists the projects that the token reaches
    #[command(after_help = "Example:
  vexil project list")]
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Shows a project with its environments
    #[command(after_help = "Example:
  vexil project show demo")]
    Show {
        /// The project
        #[arg(value_parser = project_key)]
        key: ProjectKey,
        #[command(flatten)]
        common: Common,
    },
    /// Creates a project
    #[command(after_help = "Example:
  vexil project create shop --name Shop")]
    Create {
        /// The project's key
        #[arg(value_parser = project_key)]
        key: ProjectKey,
        /// For people
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Renames a project
    #[command(after_help = "Example:
  vexil project set shop --name 'The shop'")]
    Set {
        /// The project
        #[arg(value_parser = project_key)]
        key: ProjectKey,
        /// For people
        #[arg(long)]
        name: String,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        common: Common,
    },
    /// Deletes a project with everything in it
    #[command(after_help = "Example:
  vexil project delete shop --yes")]
    Delete {
        /// The project
        #[arg(value_parser = project_key)]
        key: ProjectKey,
        /// Does not ask
        #[arg(long, short = 'y')]
        yes: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        common: Common,
    },
}

const COLUMNS: &[(&str, &str)] =
    &[("PROJECT", "/key"), ("CREATED", "/createdAt"), ("NAME", "/name")];

/// Does something with projects.
pub(super) async fn run(command: ProjectCommand) -> anyhow::Result<()> {
    match command {
        ProjectCommand::List { common } => {
            let answer = common.connection.client()?.get("/api/v1/projects").await?;
            print_rows(common.output, &answer, COLUMNS)
        }
        ProjectCommand::Show { key, common } => {
            let client = common.connection.client()?;
            let answer = client.get(&format!("/api/v1/projects/{key}")).await?;
            let columns =
                [("PROJECT", "/key"), ("ENVIRONMENTS", "/environments"), ("NAME", "/name")];
            print_rows(common.output, &answer, &columns)
        }
        ProjectCommand::Create { key, name, deed, common } => {
            let mut body = json!({"key": key});
            if let (Some(name), Some(fields)) = (name, body.as_object_mut()) {
                fields.insert("name".to_owned(), json!(name));
            }
            let client = common.connection.client()?;
            let path = "/api/v1/projects";
            let answer = deed.send(&client, Method::POST, path, Some(&body)).await?;
            deed.print_made(common.output, &answer, COLUMNS)
        }
        ProjectCommand::Set { key, name, deed, common } => {
            let client = common.connection.client()?;
            let body = json!({"name": name});
            let path = format!("/api/v1/projects/{key}");
            let answer = deed.send(&client, Method::PATCH, &path, Some(&body)).await?;
            deed.print_made(common.output, &answer, COLUMNS)
        }
        ProjectCommand::Delete { key, yes, deed, common } => {
            let client = common.connection.client()?;
            let path = format!("/api/v1/projects/{key}");
            if !yes && !deed.dry_run {
                let flags =
                    client.get(&format!("{path}/flags?fields=key&filter=state:all")).await?;
                let n = flags.get("total").and_then(Value::as_u64).unwrap_or_default();
                let what = format!("delete the project {key} with {n} flag(s) in all environments");
                confirm(&what, false)?;
            }
            let answer = deed.send(&client, Method::DELETE, &path, None).await?;
            deed.print_gone(common.output, &answer, &format!("deleted {key}"))
        }
    }
}
