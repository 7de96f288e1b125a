//! `vexil environment`.

use crate::cli::Common;
use crate::cli::change::DeedArgs;
use crate::cli::confirm::confirm;
use crate::cli::output::print_rows;
use crate::cli::target::env_key;
use crate::cli::target::project_key;
use crate::cli::target::the_project;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// What can be done with environments.
#[derive(Debug, Subcommand)]
pub(super) enum EnvironmentCommand {
    /// Lists the environments of a project
    #[command(after_help = "Example:
  vexil environment list --project demo")]
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Shows an environment
    #[command(after_help = "Example:
  vexil environment show production")]
    Show {
        /// The environment
        #[arg(value_parser = env_key)]
        key: EnvKey,
        #[command(flatten)]
        of: Of,
    },
    /// Creates an environment, in which every flag starts off
    #[command(after_help = "Examples:
  vexil environment create staging --name Staging
  vexil environment create sdk --server-sdk launchdarkly")]
    Create {
        /// The environment's key
        #[arg(value_parser = env_key)]
        key: EnvKey,
        /// For people
        #[arg(long)]
        name: Option<String>,
        /// Which server-side SDKs evaluate its flags by themselves: none or launchdarkly; cannot be changed later
        #[arg(long)]
        server_sdk: Option<String>,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        of: Of,
    },
    /// Changes an environment: its name, and what keeps it from being changed by mistake
    #[command(after_help = "Examples:
  vexil environment set production --protected true --require-comment true
  vexil environment set production --fail-closed-after-secs never")]
    Set(SetArgs),
    /// Deletes an environment with everything in it; its tokens stop working
    #[command(after_help = "Example:
  vexil environment delete staging --yes")]
    Delete {
        /// The environment
        #[arg(value_parser = env_key)]
        key: EnvKey,
        /// Does not ask
        #[arg(long, short = 'y')]
        yes: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        of: Of,
    },
}

/// The project, and who asks.
#[derive(Debug, Args)]
pub(super) struct Of {
    /// The project's key; needed only if the token reaches several
    #[arg(long, env = "VEXIL_PROJECT", value_parser = project_key)]
    project: Option<ProjectKey>,
    #[command(flatten)]
    common: Common,
}

/// What is to be changed; what is left out stays.
#[derive(Debug, Args)]
pub(super) struct SetArgs {
    /// The environment
    #[arg(value_parser = env_key)]
    key: EnvKey,
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// Whether editors may only kill, restore and turn flags off in it
    #[arg(long, value_name = "BOOL")]
    protected: Option<bool>,
    /// Whether every change must have a comment
    #[arg(long, value_name = "BOOL")]
    require_comment: Option<bool>,
    /// Whether every change of a flag must name the version that it is of
    #[arg(long, value_name = "BOOL")]
    require_if_match: Option<bool>,
    /// Whether browsers must send contexts that a backend has signed
    #[arg(long, value_name = "BOOL")]
    secure_mode: Option<bool>,
    /// After how many seconds without the database evaluations are refused, at least 10, or never
    #[arg(long, value_name = "SECONDS|never")]
    fail_closed_after_secs: Option<String>,
    #[command(flatten)]
    deed: DeedArgs,
    #[command(flatten)]
    of: Of,
}

const COLUMNS: &[(&str, &str)] = &[
    ("ENVIRONMENT", "/key"),
    ("VERSION", "/version"),
    ("SERVER SDK", "/serverSdk"),
    ("PROTECTED", "/protected"),
    ("COMMENT", "/requireComment"),
    ("IF-MATCH", "/requireIfMatch"),
    ("SECURE", "/secureMode"),
    ("FAIL CLOSED", "/failClosedAfterSecs"),
    ("NAME", "/name"),
];

/// Does something with environments.
pub(super) async fn run(command: EnvironmentCommand) -> anyhow::Result<()> {
    match command {
        EnvironmentCommand::List { of } => {
            let (client, path) = of.reach().await?;
            print_rows(of.common.output, &client.get(&path).await?, COLUMNS)
        }
        EnvironmentCommand::Show { key, of } => {
            let (client, path) = of.reach().await?;
            print_rows(of.common.output, &client.get(&format!("{path}/{key}")).await?, COLUMNS)
        }
        EnvironmentCommand::Create { key, name, server_sdk, deed, of } => {
            let mut body = Map::new();
            body.insert("key".to_owned(), json!(key));
            for (field, text) in [("name", name), ("serverSdk", server_sdk)] {
                body.extend(text.map(|text| (field.to_owned(), json!(text))));
            }
            let (client, path) = of.reach().await?;
            let body = Value::Object(body);
            let answer = deed.send(&client, Method::POST, &path, Some(&body)).await?;
            deed.print_made(of.common.output, &answer, COLUMNS)
        }
        EnvironmentCommand::Set(args) => set(args).await,
        EnvironmentCommand::Delete { key, yes, deed, of } => {
            let (client, path) = of.reach().await?;
            let path = format!("{path}/{key}");
            if !yes && !deed.dry_run {
                let flags =
                    client.get(&format!("{path}/flags?fields=key&filter=state:all")).await?;
                let n = flags.get("total").and_then(Value::as_u64).unwrap_or_default();
                let what = format!("delete the environment {key} with {n} configured flag(s)");
                confirm(&what, false)?;
            }
            let answer = deed.send(&client, Method::DELETE, &path, None).await?;
            deed.print_gone(of.common.output, &answer, &format!("deleted {key}"))
        }
    }
}

async fn set(args: SetArgs) -> anyhow::Result<()> {
    let mut body = Map::new();
    body.extend(args.name.map(|name| ("name".to_owned(), json!(name))));
    let switches = [
        ("protected", args.protected),
        ("requireComment", args.require_comment),
        ("requireIfMatch", args.require_if_match),
        ("secureMode", args.secure_mode),
    ];
    for (field, wanted) in switches {
        body.extend(wanted.map(|wanted| (field.to_owned(), json!(wanted))));
    }
    if let Some(text) = args.fail_closed_after_secs {
        let secs = match (text.as_str(), text.parse::<u64>()) {
            ("never", _) => Value::Null,
            (_, Ok(secs)) => json!(secs),
            _ => bail!("--fail-closed-after-secs must be a number of seconds or never"),
        };
        body.insert("failClosedAfterSecs".to_owned(), secs);
    }
    if body.is_empty() {
        bail!("say what is to be changed: `vexil environment set --help` lists what can be");
    }
    let (client, path) = args.of.reach().await?;
    let (path, body) = (format!("{path}/{}", args.key), Value::Object(body));
    let answer = args.deed.send(&client, Method::PATCH, &path, Some(&body)).await?;
    args.deed.print_made(args.of.common.output, &answer, COLUMNS)
}

impl Of {
    /// A client, and the path of the project's environments.
    async fn reach(&self) -> anyhow::Result<(crate::cli::client::Client, String)> {
        let client = self.common.connection.client()?;
        let project = the_project(self.project.as_ref(), &client).await?;
        Ok((client, format!("/api/v1/projects/{project}/environments")))
    }
}
