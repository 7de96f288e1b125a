//! `vexil accept-history`.

use crate::cli::Common;
use crate::cli::output::print_rows;
use clap::Args;
use serde_json::json;

/// Why it is accepted.
#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    /// Only says what would happen
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    common: Common,
}

/// Accepts that the database lacks what replicas have served.
pub(super) async fn accept(args: AcceptArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let body = args.comment.map_or_else(|| json!({}), |comment| json!({"comment": comment}));
    let path = match args.dry_run {
        true => "/api/v1/history/accept?dryRun=true",
        false => "/api/v1/history/accept",
    };
    let answer = client.ask(path, &body).await?;
    print_rows(args.common.output, &answer, &[("EPOCH", "/epoch"), ("LOST", "/lost")])
}
