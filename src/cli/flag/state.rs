//! `vexil flag on`, `off`, `archive`, `restore` and `delete`.

use super::CHANGE_COLUMNS;
use super::flag_key;
use crate::cli::Common;
use crate::cli::change::ChangeArgs;
use crate::cli::change::print_change;
use crate::cli::client::Client;
use crate::cli::client::Conditions;
use crate::cli::confirm::confirm;
use crate::cli::target::Target;
use crate::cli::target::keys_of;
use crate::model::key::FlagKey;
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// A flag that is to be switched, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct SwitchArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// Does nothing unless the flag is at this version
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// A flag that is to be put away, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct PutAwayArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// Does not ask
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// A flag that is to be taken back, and how.
#[derive(Debug, Args)]
pub(in crate::cli) struct TakeBackArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Turns a flag on or off in an environment.
pub(super) async fn switch(args: SwitchArgs, instruction: &str) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let place = args.target.find(&client).await?.path();
    let path = format!("{place}/flags/{}{}", args.flag, args.change.query());
    let body = args.change.body(vec![json!({"kind": instruction})]);
    let conditions = Conditions { comment: None, if_match: args.if_match };
    let answer = client.send(Method::PATCH, &path, Some(&body), &conditions).await?;
    print_change(args.common.output, &answer, CHANGE_COLUMNS)
}

/// Archives or deletes a flag in all environments.
pub(super) async fn put_away(
    args: PutAwayArgs,
    verb: &str,
    instruction: &str,
) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let project = args.target.find_project(&client).await?;
    if !args.change.dry_run && !args.yes {
        let path = format!("/api/v1/projects/{project}/environments");
        let envs = keys_of(&client.get(&path).await?).join(", ");
        let what =
            format!("{verb} 1 flag, `{}`, in all environments of {project} ({envs})", args.flag);
        confirm(&what, false)?;
    }
    redefine(&client, &project, &args.flag, &args.change, &args.common, instruction).await
}

/// Takes a flag back that was archived.
pub(super) async fn take_back(args: TakeBackArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let project = args.target.find_project(&client).await?;
    redefine(&client, &project, &args.flag, &args.change, &args.common, "restoreFlag").await
}

async fn redefine(
    client: &Client,
    project: &str,
    flag: &FlagKey,
    change: &ChangeArgs,
    common: &Common,
    instruction: &str,
) -> anyhow::Result<()> {
    let path = format!("/api/v1/projects/{project}/flags/{flag}{}", change.query());
    let body = change.body(vec![json!({"kind": instruction})]);
    let answer: Value = client.patch(&path, &body).await?;
    let columns = [("FLAG", "/flag/key"), ("ARCHIVED", "/flag/archived")];
    print_change(common.output, &answer, &columns)
}
