//! `vexil kill` and `vexil restore`.

use crate::cli::Common;
use crate::cli::change::Wait;
use crate::cli::change::print_impact;
use crate::cli::change::unconfirmed;
use crate::cli::client::Client;
use crate::cli::confirm::confirm_on_terminal;
use crate::cli::flag::flag_key;
use crate::cli::output::is_table;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::cli::target::keys_of;
use crate::model::key::FlagKey;
use anyhow::Context;
use clap::Args;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::io::Write;

/// Which flags, and why.
#[derive(Debug, Args)]
pub(super) struct EmergencyArgs {
    /// The flags
    #[arg(required_unless_present = "tags", value_parser = flag_key)]
    flags: Vec<FlagKey>,
    /// All flags with this tag; once for each
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Does not ask on a terminal, where more than one flag is meant
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// Which flags, which kill, and why.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// The flags
    #[arg(required_unless_present_any = ["tags", "kill"], value_parser = flag_key)]
    flags: Vec<FlagKey>,
    /// Kills by this tag, and those of flags that have it; what was changed since is left alone
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// The id of the kill that is undone; what was changed since is left alone
    #[arg(long, conflicts_with_all = ["flags", "tags"])]
    kill: Option<String>,
    /// Does not ask on a terminal, where more than one flag is meant
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    how: How,
}

/// What kills and restores have in common.
#[derive(Debug, Args)]
struct How {
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    /// Only says what would happen: which flags would change, and what depends on them
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Kills flags, all at once.
pub(super) async fn kill(args: EmergencyArgs) -> anyhow::Result<()> {
    let EmergencyArgs { flags, tags, yes, how } = args;
    let columns = [
        ("KILLED", "/flag"),
        ("ENVIRONMENT", "/environment"),
        ("VERSION", "/version"),
        ("WAS ON", "/was/on"),
    ];
    emergency("kill", &flags, &tags, None, yes, &how, &columns).await
}

/// Restores flags, all at once.
pub(super) async fn restore(args: RestoreArgs) -> anyhow::Result<()> {
    let RestoreArgs { flags, tags, kill, yes, how } = args;
    let columns = [
        ("RESTORED", "/flag"),
        ("ENVIRONMENT", "/environment"),
        ("VERSION", "/version"),
        ("ON", "/on"),
    ];
    emergency("restore", &flags, &tags, kill.as_deref(), yes, &how, &columns).await
}

async fn emergency(
    verb: &str,
    flags: &[FlagKey],
    tags: &[String],
    kill: Option<&str>,
    yes: bool,
    how: &How,
    columns: &[(&str, &str)],
) -> anyhow::Result<()> {
    let client = how.common.connection.client()?;
    let mut body = Map::new();
    if let Some(comment) = &how.comment {
        body.insert("comment".to_owned(), Value::from(comment.as_str()));
    }
    let mut query = how.target.query();
    let mut add = |part: String| {
        query.push(if query.is_empty() { '?' } else { '&' });
        query.push_str(&part);
    };
    if let Some(parameter) = how.wait.parameter() {
        add(parameter);
    }
    if how.dry_run {
        add("dryRun=true".to_owned());
    }
    if let Some(id) = kill {
        add(format!("kill={}", utf8_percent_encode(id, NON_ALPHANUMERIC)));
    }
    let path = match flags {
        [only] if tags.is_empty() => format!("/{verb}/{only}"),
        _ => {
            if kill.is_none() {
                body.insert("flags".to_owned(), json!(flags));
                body.insert("tags".to_owned(), json!(tags));
            }
            format!("/{verb}")
        }
    };
    // One flag that is named is never asked about: that must stay quick.
    let is_one = tags.is_empty() && kill.is_none() && flags.len() == 1;
    if !is_one && !yes && !how.dry_run && std::io::stdin().is_terminal() {
        let what = reach(verb, flags, tags, kill, how, &client).await?;
        confirm_on_terminal(&what, yes)?;
    }
    let answer = client.post(&format!("{path}{query}"), &Value::Object(body)).await;
    let answer = answer.with_context(|| format!("could not {verb}"))?;
    // What was done is told, whatever came after it.
    print_rows(how.common.output, &Value::Array(rows(&answer, flags)), columns)?;
    if how.dry_run && is_table(how.common.output) {
        print_impact(&answer)?;
    }
    for left in answer.get("leftAlone").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| left.get(name).and_then(Value::as_str).unwrap_or_default();
        let (flag, reason) = (text("flag"), text("reason"));
        // OK because a closed standard error leaves nobody to tell.
        let _ = writeln!(std::io::stderr(), "left `{flag}` alone: it {reason}");
    }
    unconfirmed(&answer)
}

/// What would be done, with the environment and how many flags are named or have the tags, as far as that can be read.
async fn reach(
    verb: &str,
    flags: &[FlagKey],
    tags: &[String],
    kill: Option<&str>,
    how: &How,
    client: &Client,
) -> anyhow::Result<String> {
    let place = how.target.find(client).await?;
    let what = match kill {
        Some(id) => format!("what the kill {id} turned off"),
        None => {
            let mut keys: BTreeSet<String> = flags.iter().map(FlagKey::to_string).collect();
            let mut is_known = true;
            for tag in tags {
                let filter = format!("tag:{tag}");
                let filter = utf8_percent_encode(&filter, NON_ALPHANUMERIC);
                let path = format!("{}/flags?fields=key&filter={filter}", place.path());
                // A list that cannot be had, as when a flag is damaged, holds up no emergency.
                match client.get(&path).await {
                    Ok(list) => keys.extend(keys_of(&list)),
                    Err(_) => is_known = false,
                }
            }
            let tagged = match tags {
                [] => String::new(),
                tags => format!(" that have the tag {} or are named", tags.join(" or ")),
            };
            match is_known {
                true => format!("{} flag(s){tagged}", keys.len()),
                false => format!("all flags{tagged}"),
            }
        }
    };
    Ok(format!("{verb} {what} in {}/{}", place.project, place.environment))
}

/// A row for each flag of an answer, with what the answer says of all; those that were named stand in the order of their names.
fn rows(answer: &Value, named: &[FlagKey]) -> Vec<Value> {
    let list = |name: &str| answer.get(name).and_then(Value::as_array);
    let Some(flags) = list("flags") else {
        return vec![answer.clone()];
    };
    let already = |flag: &Value| json!({"flag": flag, "alreadyKilled": true});
    let already = list("alreadyKilled").into_iter().flatten().map(already);
    let common = ["project", "environment", "version", "kill", "killedAt", "unconfirmed", "dryRun"];
    let with_common = |mut row: Value| {
        for name in common {
            if let (Some(value), Some(fields)) = (answer.get(name), row.as_object_mut()) {
                fields.insert(name.to_owned(), value.clone());
            }
        }
        row
    };
    let mut rows: Vec<Value> = flags.iter().cloned().chain(already).map(with_common).collect();
    let place = |row: &Value| {
        let flag = row.get("flag").and_then(Value::as_str);
        named.iter().position(|key| Some(key.as_str()) == flag).unwrap_or(usize::MAX)
    };
    rows.sort_by_key(place);
    rows
}
