//! What commands that change something have in common: how it is made, and telling what came of it.

use crate::cli::client::Client;
use crate::cli::client::Conditions;
use crate::cli::output::OutputFormat;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::output::print_value;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use reqwest::Method;
use serde_json::Map;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes of a file with instructions or changes, which is what the server takes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// Thousandths of a percent in one percent.
const MILLI_PER_PERCENT: u64 = 1_000;

/// Whether a change waits for all replicas.
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// Waits until every replica serves it, and fails if one has not said so in time
    #[arg(long)]
    wait: bool,
    /// How long to wait for the replicas: 5s, 500ms, up to 30s
    #[arg(long, requires = "wait", default_value = "5s")]
    timeout: String,
}

/// How a change is made.
#[derive(Debug, Args)]
pub(super) struct ChangeArgs {
    /// Why; kept in the audit log
    #[arg(long)]
    pub(super) comment: Option<String>,
    /// Only says what would happen: what differs, who gets another variation, what depends on it
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) wait: Wait,
}

/// What goes with anything that is written besides changes by instructions.
#[derive(Debug, Args)]
pub(super) struct DeedArgs {
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    /// Only says what would happen
    #[arg(long)]
    pub(super) dry_run: bool,
}

impl DeedArgs {
    /// Sends it.
    pub(super) async fn send(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let path = if self.dry_run { format!("{path}?dryRun=true") } else { path.to_owned() };
        let conditions = Conditions { comment: self.comment.clone(), if_match: None };
        client.send(method, &path, body, &conditions).await
    }

    /// Prints what was made: a row, and of a dry run what would be done.
    pub(super) fn print_made(
        &self,
        format: Option<OutputFormat>,
        answer: &Value,
        columns: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        print_rows(format, answer, columns)?;
        if self.dry_run && is_table(format) { print_impact(answer) } else { Ok(()) }
    }

    /// Prints that something is gone, or of a dry run what would be done.
    pub(super) fn print_gone(
        &self,
        format: Option<OutputFormat>,
        answer: &Value,
        done: &str,
    ) -> anyhow::Result<()> {
        match self.dry_run {
            false => print(&format!("{done}\n")),
            true if is_table(format) => print_impact(answer),
            true => print_value(format, answer),
        }
    }
}

impl Wait {
    /// The parameter of the query, if it is to wait.
    pub(super) fn parameter(&self) -> Option<String> {
        let timeout = utf8_percent_encode(&self.timeout, NON_ALPHANUMERIC);
        self.wait.then(|| format!("wait=applied&timeout={timeout}"))
    }

    /// The whole query.
    pub(super) fn query(&self) -> String {
        self.parameter().map(|parameter| format!("?{parameter}")).unwrap_or_default()
    }
}

impl ChangeArgs {
    /// The query that makes the change as it was asked for.
    pub(super) fn query(&self) -> String {
        if self.dry_run { "?dryRun=true".to_owned() } else { self.wait.query() }
    }

    /// A body with instructions, and the comment if there is one.
    pub(super) fn body(&self, instructions: Vec<Value>) -> Value {
        let mut body = Map::new();
        body.insert("instructions".to_owned(), Value::Array(instructions));
        insert_some(&mut body, "comment", self.comment.as_deref());
        Value::Object(body)
    }
}

/// Puts a text into an object if it was given.
pub(super) fn insert_some(fields: &mut Map<String, Value>, name: &str, text: Option<&str>) {
    if let Some(text) = text {
        fields.insert(name.to_owned(), Value::from(text));
    }
}

/// Reads a file of YAML or JSON, or standard input (-).
pub(super) fn read_file(path: &Path) -> anyhow::Result<Value> {
    let could_not = || format!("could not read {}", path.display());
    let mut text = String::new();
    let input: &mut dyn Read = if path.as_os_str() == "-" {
        &mut std::io::stdin().lock()
    } else {
        &mut File::open(path).with_context(could_not)?
    };
    input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(could_not)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > FILE_BYTES_MAX {
        bail!("{} has more than {FILE_BYTES_MAX} bytes", path.display());
    }
    // YAML has JSON within it, so one reader is enough.
    yaml_serde::from_str(&text).with_context(could_not)
}

/// Reads a list of instructions, or an object that has one.
pub(super) fn read_instructions(path: &Path) -> anyhow::Result<Vec<Value>> {
    let file = read_file(path)?;
    let list = file.as_array().or_else(|| file.get("instructions")?.as_array());
    list.cloned().with_context(|| format!("{} must hold a list of instructions", path.display()))
}

/// Prints the answer to a change: a row, and under it what is done and what it means.
pub(super) fn print_change(
    format: Option<OutputFormat>,
    answer: &Value,
    columns: &[(&str, &str)],
) -> anyhow::Result<()> {
    print_rows(format, answer, columns)?;
    if is_table(format) {
        if list(answer, "changes").next().is_none() {
            print("  everything is so already\n")?;
        }
        print_impact(answer)?;
    }
    unconfirmed(answer)
}

/// Prints what a change means, for people.
pub(super) fn print_impact(part: &Value) -> anyhow::Result<()> {
    for change in list(part, "changes").filter_map(Value::as_str) {
        print(&format!("  {change}\n"))?;
    }
    if let Some(moved) = part.get("moved") {
        print(&format!("  moves {}\n", moved_in_words(moved)))?;
    }
    for rule in list(part, "rulesMoved") {
        let id = rule.get("ruleId").and_then(Value::as_str).unwrap_or_default();
        print(&format!("  rule {id} moves {}\n", moved_in_words(rule)))?;
    }
    for difference in list(part, "diff") {
        let path = difference.get("path").and_then(Value::as_str).unwrap_or_default();
        let side = |name: &str| difference.get(name).map(Value::to_string);
        match (side("before"), side("after")) {
            (Some(before), Some(after)) => print(&format!("  ~ {path}: {before} -> {after}\n"))?,
            (None, Some(after)) => print(&format!("  + {path}: {after}\n"))?,
            (before, None) => print(&format!("  - {path}: {}\n", before.unwrap_or_default()))?,
        }
    }
    for warning in list(part, "warnings").filter_map(Value::as_str) {
        print(&format!("  warning: {warning}\n"))?;
    }
    for (name, words) in [("dependants", "needed by"), ("dependsOn", "needs")] {
        for other in list(part, name) {
            let text = |name: &str| other.get(name).and_then(Value::as_str);
            let (kind, key) = match text("segment") {
                Some(key) => ("segment", key),
                None => ("flag", text("flag").unwrap_or_default()),
            };
            let environment = text("environment").unwrap_or_default();
            print(&format!("  {words} the {kind} {key} in {environment}\n"))?;
        }
    }
    Ok(())
}

fn moved_in_words(moved: &Value) -> String {
    let number = |value: &Value| value.get("moved").and_then(Value::as_u64).unwrap_or_default();
    let all = percent(number(moved));
    let pairs: Vec<String> = list(moved, "between")
        .map(|pair| {
            let side = |name: &str| pair.get(name).and_then(Value::as_str).unwrap_or_default();
            format!("{} from {} to {}", percent(number(pair)), side("from"), side("to"))
        })
        .collect();
    match pairs.as_slice() {
        [] => format!("{all} of the contexts that reach it"),
        _ => format!("{all} of the contexts that reach it: {}", pairs.join(", ")),
    }
}

/// Thousandths of a percent in words.
pub(super) fn percent(milli: u64) -> String {
    let (whole, rest) = (milli / MILLI_PER_PERCENT, milli % MILLI_PER_PERCENT);
    let text = format!("{whole}.{rest:03}");
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// Fails if replicas have not confirmed; it is done all the same.
pub(super) fn unconfirmed(answer: &Value) -> anyhow::Result<()> {
    if answer.get("unconfirmed").is_none() {
        return Ok(());
    }
    let names: Vec<&str> = list(answer, "unconfirmed").filter_map(Value::as_str).collect();
    bail!("it is done, but these replicas have not confirmed it: {}", names.join(", "))
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_told_without_zeros() {
        let told = [0, 1, 10, 25_000, 33_333, 100_000].map(percent);
        assert_eq!(told, ["0%", "0.001%", "0.01%", "25%", "33.333%", "100%"]);
    }
}
