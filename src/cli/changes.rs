//! `vexil changes`: many changes of flags and segments as one.

use crate::cli::Common;
use crate::cli::change::ChangeArgs;
use crate::cli::change::insert_some;
use crate::cli::change::print_impact;
use crate::cli::change::read_file;
use crate::cli::change::unconfirmed;
use crate::cli::confirm::confirm;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_value;
use crate::cli::target::Target;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Flags and segments that are changed without asking.
const FEW: usize = 5;

/// What is changed.
#[derive(Debug, Args)]
pub(super) struct ChangesArgs {
    /// A file of YAML or JSON with `changes`, or - for standard input
    #[arg(long, short)]
    file: PathBuf,
    /// Does not ask, if more than 5 flags and segments are changed or something is archived or deleted
    #[arg(long, short = 'y')]
    yes: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Makes all changes of a file, or none.
pub(super) async fn changes(args: ChangesArgs) -> anyhow::Result<()> {
    let mut body = match read_file(&args.file)? {
        list @ Value::Array(_) => json!({"changes": list}),
        body => body,
    };
    let named = body.get("project").and_then(Value::as_str).map(str::to_owned);
    let fields = body.as_object_mut();
    let fields = fields.context("the file must hold `changes`, a list of changes")?;
    fields.shift_remove("project");
    insert_some(fields, "comment", args.change.comment.as_deref());
    let client = args.common.connection.client()?;
    let project = args.target.find_project(&client).await?;
    if named.as_ref().is_some_and(|named| *named != project) {
        bail!("the file is for the project {}, not for {project}", named.unwrap_or_default());
    }
    if !args.change.dry_run
        && let Some(what) = reach(&body, &project)
    {
        confirm(&what, args.yes)?;
    }
    let path = format!("/api/v1/projects/{project}/changes{}", args.change.query());
    let answer = client.post(&path, &body).await?;
    if !is_table(args.common.output) {
        print_value(args.common.output, &answer)?;
        return unconfirmed(&answer);
    }
    for part in list(&answer) {
        print(&format!("{}\n", subject(part)))?;
        print_impact(part)?;
    }
    let versions = answer.get("versions").and_then(Value::as_object).into_iter().flatten();
    let verb = if args.change.dry_run { "would be" } else { "is" };
    for (environment, version) in versions {
        print(&format!("{environment} {verb} at version {version}\n"))?;
    }
    unconfirmed(&answer)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.get("changes").and_then(Value::as_array).into_iter().flatten()
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// What a change is of.
fn subject(part: &Value) -> String {
    let place = text(part, "environment").map(|env| format!(" in {env}")).unwrap_or_default();
    match (text(part, "segment"), text(part, "flag")) {
        (Some(key), _) => format!("segment {key}{place}"),
        (_, key) => format!("flag {}{place}", key.unwrap_or_default()),
    }
}

/// What is to be agreed to, if it reaches far.
fn reach(body: &Value, project: &str) -> Option<String> {
    let subject = |part| (text(part, "flag"), text(part, "segment"));
    let subjects: BTreeSet<_> = list(body).map(subject).collect();
    let envs: BTreeSet<&str> = list(body).filter_map(|part| text(part, "environment")).collect();
    let instructions = list(body).filter_map(|part| part.get("instructions")?.as_array()).flatten();
    let takes_away = |instruction: &Value| {
        matches!(text(instruction, "kind"), Some("archiveFlag" | "deleteFlag"))
    };
    let n_gone = instructions.filter(|instruction| takes_away(instruction)).count();
    if subjects.len() <= FEW && n_gone == 0 {
        return None;
    }
    let envs: Vec<&str> = envs.into_iter().collect();
    let place = if envs.is_empty() { "all environments".to_owned() } else { envs.join(", ") };
    let gone =
        if n_gone == 0 { String::new() } else { format!(", archiving or deleting {n_gone},") };
    Some(format!("change {} flag(s) and segment(s){gone} of {project} in {place}", subjects.len()))
}
