//! `vexil kill` and `vexil restore`.

use crate::cli::Common;
use crate::cli::client::Client;
use crate::cli::flag::flag_key;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::io::BufRead;
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
    /// Does not ask on a terminal whether the environment is the right one
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
    /// Does not ask on a terminal whether the environment is the right one
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
    /// Waits until every replica serves it, and fails if one has not said so in time
    #[arg(long)]
    wait: bool,
    /// How long to wait for the replicas: 5s, 500ms, up to 30s
    #[arg(long, requires = "wait", default_value = "5s")]
    timeout: String,
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
    if how.wait {
        let timeout = utf8_percent_encode(&how.timeout, NON_ALPHANUMERIC);
        add(format!("wait=applied&timeout={timeout}"));
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
    // One flag is named on the line; a tag or an id may mean more than one thinks.
    let names_all = tags.is_empty() && kill.is_none();
    if !names_all && !yes && std::io::stdin().is_terminal() {
        confirm(verb, tags, kill, how, &client).await?;
    }
    let answer = client.post(&format!("{path}{query}"), &Value::Object(body)).await;
    let answer = answer.with_context(|| format!("could not {verb}"))?;
    // What was done is told, whatever came after it.
    print_rows(how.common.output, &Value::Array(rows(&answer, flags)), columns)?;
    for left in answer.get("leftAlone").and_then(Value::as_array).into_iter().flatten() {
        let text = |name: &str| left.get(name).and_then(Value::as_str).unwrap_or_default();
        let (flag, reason) = (text("flag"), text("reason"));
        // OK because a closed standard error leaves nobody to tell.
        let _ = writeln!(std::io::stderr(), "left `{flag}` alone: it {reason}");
    }
    unconfirmed(&answer)
}

/// Asks on the terminal whether the environment is the right one.
async fn confirm(
    verb: &str,
    tags: &[String],
    kill: Option<&str>,
    how: &How,
    client: &Client,
) -> anyhow::Result<()> {
    let place = how.target.find(client).await?;
    let what = match kill {
        Some(id) => format!("what the kill {id} turned off"),
        None => format!("all flags with the tag {}", tags.join(" or ")),
    };
    let (project, environment) = (place.project, place.environment);
    let mut out = std::io::stderr();
    let _ = write!(out, "{verb} {what} in {project}/{environment}? [y/N] ");
    let _ = out.flush();
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("could not read the answer")?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}

/// A row for each flag of an answer, with what the answer says of all; those that were named stand in the order of their names.
fn rows(answer: &Value, named: &[FlagKey]) -> Vec<Value> {
    let list = |name: &str| answer.get(name).and_then(Value::as_array);
    let Some(flags) = list("flags") else {
        return vec![answer.clone()];
    };
    let already = |flag: &Value| json!({"flag": flag, "alreadyKilled": true});
    let already = list("alreadyKilled").into_iter().flatten().map(already);
    let common = ["project", "environment", "version", "kill", "killedAt", "unconfirmed"];
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

/// Fails if replicas have not confirmed; it is done all the same.
fn unconfirmed(answer: &Value) -> anyhow::Result<()> {
    let names = answer.get("unconfirmed").and_then(Value::as_array);
    let Some(names) = names else { return Ok(()) };
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    let names = names.join(", ");
    bail!("it is done, but these replicas have not confirmed it: {names}")
}
