//! `vexil token`.

use crate::cli::Common;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use clap::Subcommand;
use serde_json::json;

/// What can be done with the tokens of an environment.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Makes a token; it is shown only now
    Create {
        /// For people
        name: String,
        /// server, client, mobile or admin
        #[arg(long, default_value = "server")]
        kind: String,
        /// viewer, editor, releaser, approver, projectAdmin, administrator or auditor; for admin tokens
        #[arg(long)]
        role: Option<String>,
        /// service or personal; for admin tokens
        #[arg(long)]
        holder: Option<String>,
        /// When it stops working, e.g. 2027-01-31T12:00:00Z
        #[arg(long)]
        expires_at: Option<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Lists tokens
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Gives a token another secret; it is shown only now, and the one before works on for a while
    Rotate {
        /// The token's id, as `list` shows it
        id: uuid::Uuid,
        /// For how many seconds the secret before works on: 7 days, if it is left out
        #[arg(long)]
        overlap_secs: Option<u64>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Revokes a token; its streams end
    Revoke {
        /// The token's id, as `list` shows it
        id: uuid::Uuid,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
}

/// Does something with tokens.
pub(super) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create { name, kind, role, holder, expires_at, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/tokens", target.find(&client).await?.path());
            let mut body = json!({"name": name, "kind": kind});
            if let Some(fields) = body.as_object_mut() {
                let given = [("role", role), ("holder", holder), ("expiresAt", expires_at)];
                for (name, text) in given {
                    fields.extend(text.map(|text| (name.to_owned(), json!(text))));
                }
            }
            let answer = client.post(&path, &body).await?;
            let columns = [("TOKEN", "/token"), ("KIND", "/kind"), ("ID", "/id")];
            print_rows(common.output, &answer, &columns)
        }
        TokenCommand::List { target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/tokens", target.find(&client).await?.path());
            let columns = [
                ("ID", "/id"),
                ("NAME", "/name"),
                ("KIND", "/kind"),
                ("ROLE", "/role"),
                ("HINT", "/hint"),
                ("CREATED", "/createdAt"),
                ("EXPIRES", "/expiresAt"),
                ("LAST USED", "/lastUsedAt"),
            ];
            print_rows(common.output, &client.get(&path).await?, &columns)
        }
        TokenCommand::Rotate { id, overlap_secs, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/tokens/{id}/rotate", target.find(&client).await?.path());
            let body = overlap_secs.map_or_else(|| json!({}), |secs| json!({"overlapSecs": secs}));
            let columns =
                [("TOKEN", "/token"), ("ID", "/id"), ("OLD UNTIL", "/previous/expiresAt")];
            print_rows(common.output, &client.post(&path, &body).await?, &columns)
        }
        TokenCommand::Revoke { id, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/tokens/{id}", target.find(&client).await?.path());
            client.delete(&path).await?;
            print(&format!("revoked {id}\n"))
        }
    }
}
