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
    #[command(flatten)]
    common: Common,
}

/// Accepts that the database lacks what replicas have served.
pub(super) async fn accept(args: AcceptArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let body = args.comment.map_or_else(|| json!({}), |comment| json!({"comment": comment}));
    let answer = client.ask("/api/v1/history/accept", &body).await?;
    print_rows(args.common.output, &answer, &[("EPOCH", "/epoch"), ("LOST", "/lost")])
}
