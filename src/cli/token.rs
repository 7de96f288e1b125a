//! `vexil token`.

use crate::cli::Common;
use crate::cli::change::DeedArgs;
use crate::cli::client::Client;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

/// What can be done with the tokens of an environment.
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Makes a token; it is shown only now
    #[command(after_help = "Examples:
  vexil token create backend
  vexil token create 'on call' --kind admin --role editor
  vexil token create pipeline --wide --role editor --project demo")]
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
        /// Of the project that --project names, or without it of the installation, and not of one environment
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Lists tokens
    #[command(after_help = "Examples:
  vexil token list
  vexil token list --wide")]
    List {
        /// Of the project that --project names, or without it of the installation, and not of one environment
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Gives a token another secret; it is shown only now, and the one before works on for a while
    #[command(after_help = "Example:
  vexil token rotate 01a207e1-41f0-7d2c-b7b1-0d1b6a5f9a7e --overlap-secs 3600")]
    Rotate {
        /// The token's id, as `list` shows it
        id: uuid::Uuid,
        /// For how many seconds the secret before works on: 7 days, if it is left out
        #[arg(long)]
        overlap_secs: Option<u64>,
        /// Of the project that --project names, or without it of the installation, and not of one environment
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Revokes a token; its streams end
    #[command(after_help = "Example:
  vexil token revoke 01a207e1-41f0-7d2c-b7b1-0d1b6a5f9a7e")]
    Revoke {
        /// The token's id, as `list` shows it
        id: uuid::Uuid,
        /// Of the project that --project names, or without it of the installation, and not of one environment
        #[arg(long)]
        wide: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
}

/// Does something with tokens.
pub(super) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create {
            name,
            kind,
            role,
            holder,
            expires_at,
            wide,
            deed,
            target,
            common,
        } => {
            let client = common.connection.client()?;
            let path = tokens(wide, &target, &client).await?;
            let mut body = json!({"name": name, "kind": kind});
            if wide {
                // Only tokens for administration are wider than one environment.
                body = json!({"name": name});
                if let (Some(project), Some(fields)) = (target.project(), body.as_object_mut()) {
                    fields.insert("project".to_owned(), json!(project));
                }
            }
            if let Some(fields) = body.as_object_mut() {
                let given = [("role", role), ("holder", holder), ("expiresAt", expires_at)];
                for (name, text) in given {
                    fields.extend(text.map(|text| (name.to_owned(), json!(text))));
                }
            }
            let answer = deed.send(&client, Method::POST, &path, Some(&body)).await?;
            let columns = [("TOKEN", "/token"), ("KIND", "/kind"), ("ID", "/id")];
            deed.print_made(common.output, &answer, &columns)
        }
        TokenCommand::List { wide, target, common } => {
            let client = common.connection.client()?;
            let path = tokens(wide, &target, &client).await?;
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
        TokenCommand::Rotate { id, overlap_secs, wide, deed, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/{id}/rotate", tokens(wide, &target, &client).await?);
            let body = overlap_secs.map_or_else(|| json!({}), |secs| json!({"overlapSecs": secs}));
            let columns =
                [("TOKEN", "/token"), ("ID", "/id"), ("OLD UNTIL", "/previous/expiresAt")];
            let answer = deed.send(&client, Method::POST, &path, Some(&body)).await?;
            deed.print_made(common.output, &answer, &columns)
        }
        TokenCommand::Revoke { id, wide, deed, target, common } => {
            let client = common.connection.client()?;
            let path = format!("{}/{id}", tokens(wide, &target, &client).await?);
            let answer = deed.send(&client, Method::DELETE, &path, None).await?;
            deed.print_gone(common.output, &answer, &format!("revoked {id}"))
        }
    }
}

/// The path of the tokens of an environment, or of those that are wider.
async fn tokens(is_wide: bool, target: &Target, client: &Client) -> anyhow::Result<String> {
    if is_wide {
        return Ok("/api/v1/tokens".to_owned());
    }
    Ok(format!("{}/tokens", target.find(client).await?.path()))
}
