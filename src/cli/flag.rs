//! `vexil flag`, `vexil kill` and `vexil restore`.

use crate::cli::Common;
use crate::cli::flag_history;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use crate::model::key::KEY_RULE;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use serde_json::json;

/// Which flags, and why.
#[derive(Debug, Args)]
pub(super) struct EmergencyArgs {
    /// The flags
    #[arg(required = true, value_parser = flag_key)]
    flags: Vec<FlagKey>,
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    /// Waits until every replica serves it, and fails if one has not said so in time
    #[arg(long)]
    wait: bool,
    /// How long to wait for the replicas: 5s, 500ms, up to 30s
    #[arg(long, requires = "wait", default_value = "5s")]
    timeout: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

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

/// Kills flags, one after another.
pub(super) async fn kill(args: EmergencyArgs) -> anyhow::Result<()> {
    let columns = [
        ("KILLED", "/flag"),
        ("ENVIRONMENT", "/environment"),
        ("VERSION", "/version"),
        ("WAS ON", "/was/on"),
    ];
    emergency(args, "kill", &columns).await
}

/// Restores flags, one after another.
pub(super) async fn restore(args: EmergencyArgs) -> anyhow::Result<()> {
    let columns = [
        ("RESTORED", "/flag"),
        ("ENVIRONMENT", "/environment"),
        ("VERSION", "/version"),
        ("ON", "/on"),
    ];
    emergency(args, "restore", &columns).await
}

async fn emergency(
    args: EmergencyArgs,
    verb: &str,
    columns: &[(&str, &str)],
) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let body =
        args.comment.as_ref().map_or_else(|| json!({}), |comment| json!({"comment": comment}));
    let mut query = args.target.query();
    if args.wait {
        let start = if query.is_empty() { '?' } else { '&' };
        let timeout = utf8_percent_encode(&args.timeout, NON_ALPHANUMERIC);
        query.push_str(&format!("{start}wait=applied&timeout={timeout}"));
    }
    let mut done = Vec::new();
    let mut failed = Ok(());
    for flag in &args.flags {
        match client.post(&format!("/{verb}/{flag}{query}"), &body).await {
            Ok(answer) => {
                failed = failed.and(unconfirmed(flag, &answer));
                done.push(answer);
            }
            Err(error) => {
                failed = Err(error.context(format!("could not {verb} `{flag}`")));
                break;
            }
        }
    }
    // What was done is told, whatever came after it.
    if !done.is_empty() {
        print_rows(args.common.output, &Value::Array(done), columns)?;
    }
    failed
}

/// Fails if replicas have not confirmed; it is done all the same.
fn unconfirmed(flag: &FlagKey, answer: &Value) -> anyhow::Result<()> {
    let names = answer.get("unconfirmed").and_then(Value::as_array);
    let Some(names) = names else { return Ok(()) };
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    let names = names.join(", ");
    bail!("`{flag}` is done, but these replicas have not confirmed it: {names}")
}

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
