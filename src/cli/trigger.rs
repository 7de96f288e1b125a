//! `vexil trigger`: secret URLs by which alert managers kill or restore a flag.

use crate::cli::Common;
use crate::cli::change::DeedArgs;
use crate::cli::flag::flag_key;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use clap::Subcommand;
use reqwest::Method;
use serde_json::json;

/// What can be done with the triggers of a flag.
#[derive(Debug, Subcommand)]
pub(super) enum TriggerCommand {
    /// Lists the triggers of a flag
    #[command(after_help = "Example:
  vexil trigger list checkout-v2")]
    List {
        /// The flag
        #[arg(value_parser = flag_key)]
        flag: FlagKey,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Makes a trigger; its URL is shown only now
    #[command(after_help = "Example:
  vexil trigger create checkout-v2 'error rate' --restore-when-resolved")]
    Create {
        /// The flag
        #[arg(value_parser = flag_key)]
        flag: FlagKey,
        /// For people
        name: String,
        /// kill or restore
        #[arg(long, default_value = "kill")]
        action: String,
        /// Undoes its kill when the alert is over
        #[arg(long)]
        restore_when_resolved: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Revokes a trigger: its URL does nothing any more
    #[command(after_help = "Example:
  vexil trigger revoke checkout-v2 01a207e1-41f0-7d2c-b7b1-0d1b6a5f9a7e")]
    Revoke {
        /// The flag
        #[arg(value_parser = flag_key)]
        flag: FlagKey,
        /// The trigger's id, as `list` shows it
        id: uuid::Uuid,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
}

/// Does something with triggers.
pub(super) async fn run(command: TriggerCommand) -> anyhow::Result<()> {
    match command {
        TriggerCommand::List { flag, target, common } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            let answer = client.get(&format!("{path}/flags/{flag}/triggers")).await?;
            let columns = [
                ("ID", "/id"),
                ("NAME", "/name"),
                ("ACTION", "/action"),
                ("RESTORES", "/restoreWhenResolved"),
                ("HINT", "/hint"),
                ("CREATED", "/createdAt"),
                ("BY", "/createdBy"),
            ];
            print_rows(common.output, &answer, &columns)
        }
        TriggerCommand::Create {
            flag,
            name,
            action,
            restore_when_resolved,
            deed,
            target,
            common,
        } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            let body = json!({"name": name, "action": action,
                "restoreWhenResolved": restore_when_resolved});
            let path = format!("{path}/flags/{flag}/triggers");
            let mut answer = deed.send(&client, Method::POST, &path, Some(&body)).await?;
            // The server knows the path only; this is what is pasted elsewhere.
            if let Some(url) = answer.get("url").and_then(|url| url.as_str()) {
                let whole = json!(format!("{}{url}", client.url()));
                if let Some(fields) = answer.as_object_mut() {
                    fields.insert("url".to_owned(), whole);
                }
            }
            let columns = [("URL", "/url"), ("ACTION", "/action"), ("ID", "/id")];
            deed.print_made(common.output, &answer, &columns)
        }
        TriggerCommand::Revoke { flag, id, deed, target, common } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            let path = format!("{path}/flags/{flag}/triggers/{id}");
            let answer = deed.send(&client, Method::DELETE, &path, None).await?;
            deed.print_gone(common.output, &answer, &format!("revoked {id}"))
        }
    }
}
