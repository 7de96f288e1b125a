//! `vexil flag history` and `vexil flag revert`.

use super::CHANGE_COLUMNS;
use super::flag_key;
use crate::cli::Common;
use crate::cli::change::ChangeArgs;
use crate::cli::change::insert_some;
use crate::cli::change::print_change;
use crate::cli::client::Conditions;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use clap::Args;
use reqwest::Method;
use serde_json::json;

/// The flag whose versions are listed.
#[derive(Debug, Args)]
pub(in crate::cli) struct HistoryArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// So many versions, up to 200
    #[arg(long, default_value_t = 50)]
    limit: u32,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// The version that a flag goes back to, and why.
#[derive(Debug, Args)]
pub(in crate::cli) struct RevertArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// The version, as `history` shows it
    version: u64,
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

/// Lists the versions of a flag.
pub(in crate::cli) async fn history(args: HistoryArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let path = format!("{path}/flags/{}/history?limit={}", args.flag, args.limit);
    let columns = [
        ("VERSION", "/version"),
        ("AT", "/at"),
        ("BY", "/by"),
        ("CHANGES", "/changes"),
        ("COMMENT", "/comment"),
    ];
    print_rows(args.common.output, &client.get(&path).await?, &columns)
}

/// Gives a flag the configuration back that it had at a version.
pub(super) async fn revert(args: RevertArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let path = format!("{path}/flags/{}/revert{}", args.flag, args.change.query());
    let mut body = json!({"version": args.version});
    if let Some(fields) = body.as_object_mut() {
        insert_some(fields, "comment", args.change.comment.as_deref());
    }
    let conditions = Conditions { comment: None, if_match: args.if_match };
    let answer = client.send(Method::POST, &path, Some(&body), &conditions).await?;
    print_change(args.common.output, &answer, CHANGE_COLUMNS)
}
