//! `vexil flag`.

use crate::cli::Common;
use crate::cli::flag_history;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::cli::usage::StaleArgs;
use crate::cli::usage::UsageArgs;
use crate::cli::usage::stale;
use crate::cli::usage::usage;
use crate::model::key::FlagKey;
use crate::model::key::KEY_RULE;
use anyhow::Context;
use clap::Args;
use clap::Subcommand;
use serde_json::Value;
use serde_json::json;

/// What can be done with flags.
#[derive(Debug, Subcommand)]
pub(super) enum FlagCommand {
    /// Lists the flags of an environment
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Shows a flag with its configuration
    Show {
        /// The flag
        #[arg(value_parser = flag_key)]
        flag: FlagKey,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Lists flags that may be removed, with the reasons
    Stale(StaleArgs),
    /// Shows how often a flag was evaluated, by variation
    Usage(UsageArgs),
    /// Creates a flag; it starts off everywhere
    Create(CreateArgs),
    /// Turns a flag on in an environment
    On(SwitchArgs),
    /// Turns a flag off in an environment
    Off(SwitchArgs),
    /// Lists the versions of a flag in an environment
    History(flag_history::HistoryArgs),
    /// Gives a flag the configuration back that it had at an earlier version
    Revert(flag_history::RevertArgs),
}

/// A flag that is to be switched, and why.
#[derive(Debug, Args)]
pub(super) struct SwitchArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// A flag that is to be created.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The flag's key
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// The flag's name
    #[arg(long)]
    name: Option<String>,
    /// boolean, string, number or json
    #[arg(long, default_value = "boolean")]
    kind: String,
    /// A variation as KEY=JSON, e.g. --variation blue='"#00f"'; once for each, and none for a boolean flag
    #[arg(long = "variation", value_name = "KEY=JSON")]
    variations: Vec<String>,
    /// A tag; once for each
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Shows the flag to browsers
    #[arg(long)]
    client_side: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Keys go into paths, so they are checked before anything is sent.
pub(super) fn flag_key(text: &str) -> Result<FlagKey, String> {
    FlagKey::parse(text).ok_or_else(|| KEY_RULE.to_owned())
}

const FLAG_COLUMNS: &[(&str, &str)] = &[
    ("FLAG", "/key"),
    ("KIND", "/kind"),
    ("ON", "/on"),
    ("VERSION", "/version"),
    ("TAGS", "/tags"),
    ("KILLED", "/killed/killedAt"),
    ("NAME", "/name"),
];

/// Does something with flags.
pub(super) async fn run(command: FlagCommand) -> anyhow::Result<()> {
    match command {
        FlagCommand::List { target, common } => {
            let client = common.connection.client()?;
            let place = target.find(&client).await?;
            let answer = client.get(&format!("{}/flags", place.path())).await?;
            print_rows(common.output, &answer, FLAG_COLUMNS)
        }
        FlagCommand::Show { flag, target, common } => {
            let client = common.connection.client()?;
            let place = target.find(&client).await?;
            let answer = client.get(&format!("{}/flags/{flag}", place.path())).await?;
            print_rows(common.output, &answer, FLAG_COLUMNS)
        }
        FlagCommand::Stale(args) => stale(args).await,
        FlagCommand::Usage(args) => usage(args).await,
        FlagCommand::Create(args) => create(args).await,
        FlagCommand::On(args) => switch(args, "turnFlagOn").await,
        FlagCommand::Off(args) => switch(args, "turnFlagOff").await,
        FlagCommand::History(args) => flag_history::history(args).await,
        FlagCommand::Revert(args) => flag_history::revert(args).await,
    }
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let project = args.target.find_project(&client).await?;
    let mut body = json!({
        "key": args.flag,
        "kind": args.kind,
        "tags": args.tags,
        "clientSideAvailability": {"usingEnvironmentId": args.client_side},
    });
    if let (Some(name), Some(fields)) = (args.name, body.as_object_mut()) {
        fields.insert("name".to_owned(), Value::String(name));
    }
    if let (false, Some(fields)) = (args.variations.is_empty(), body.as_object_mut()) {
        let variations: Vec<Value> =
            args.variations.iter().map(|text| variation(text)).collect::<Result<_, _>>()?;
        fields.insert("variations".to_owned(), Value::Array(variations));
    }
    let answer = client.post(&format!("/api/v1/projects/{project}/flags"), &body).await?;
    let columns = [("FLAG", "/key"), ("KIND", "/kind"), ("TAGS", "/tags"), ("NAME", "/name")];
    print_rows(args.common.output, &answer, &columns)
}

fn variation(text: &str) -> anyhow::Result<Value> {
    let (key, value) = text
        .split_once('=')
        .with_context(|| format!("--variation must be KEY=JSON, got `{text}`"))?;
    let value: Value = serde_json::from_str(value)
        .with_context(|| format!("the value of `{key}` must be JSON; texts need quotes"))?;
    Ok(json!({"key": key, "value": value}))
}

async fn switch(args: SwitchArgs, instruction: &str) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = format!("{}/flags/{}", args.target.find(&client).await?.path(), args.flag);
    let mut body = json!({"instructions": [{"kind": instruction}]});
    if let (Some(comment), Some(fields)) = (args.comment, body.as_object_mut()) {
        fields.insert("comment".to_owned(), Value::String(comment));
    }
    let answer = client.patch(&path, &body).await?;
    let columns = [
        ("FLAG", "/flag/key"),
        ("ON", "/flag/on"),
        ("VERSION", "/version"),
        ("CHANGES", "/changes"),
    ];
    print_rows(args.common.output, &answer, &columns)
}
