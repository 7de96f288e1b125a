//! `vexil flag history` and `vexil flag revert`.

use crate::cli::Common;
use crate::cli::flag::flag_key;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use clap::Args;
use serde_json::Value;
use serde_json::json;

/// The flag whose versions are listed.
#[derive(Debug, Args)]
pub(super) struct HistoryArgs {
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
pub(super) struct RevertArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// The version, as `history` shows it
    version: u64,
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    /// Only says what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Lists the versions of a flag.
pub(super) async fn history(args: HistoryArgs) -> anyhow::Result<()> {
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
    let path = format!("{path}/flags/{}/revert?dryRun={}", args.flag, args.dry_run);
    let mut body = json!({"version": args.version});
    if let (Some(comment), Some(fields)) = (args.comment, body.as_object_mut()) {
        fields.insert("comment".to_owned(), Value::String(comment));
    }
    let columns = [
        ("FLAG", "/flag/key"),
        ("ON", "/flag/on"),
        ("VERSION", "/version"),
        ("CHANGES", "/changes"),
    ];
    print_rows(args.common.output, &client.post(&path, &body).await?, &columns)
}
