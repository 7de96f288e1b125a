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
        /// viewer, editor or administrator; for admin tokens
        #[arg(long)]
        role: Option<String>,
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
        TokenCommand::Create { name, kind, role, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/tokens", target.find(&client).await?.path());
            let mut body = json!({"name": name, "kind": kind});
            if let (Some(role), Some(fields)) = (role, body.as_object_mut()) {
                fields.insert("role".to_owned(), json!(role));
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
            ];
            print_rows(common.output, &client.get(&path).await?, &columns)
        }
        TokenCommand::Revoke { id, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/tokens/{id}", target.find(&client).await?.path());
            client.delete(&path).await?;
            print(&format!("revoked {id}\n"))
        }
    }
}
