//! `vexil export`, `plan`, `apply` and `drift`: flags as files.
//!
//! What differs is decided by the server; here files are read and written, and answers printed. How a project is laid out in a
//! folder is in `code/files`.

mod files;

use crate::cli::Common;
use crate::cli::confirm::confirm;
use crate::cli::confirm::confirm_on_terminal;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_value;
use crate::cli::target::project_key;
use crate::model::key::ProjectKey;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// The status of a command that found something to change.
const CHANGES: u8 = 2;

/// How a project is written into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FileFormat {
    /// For people.
    Yaml,
    /// For programs.
    Json,
}

/// What is exported, and where to.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The project's key
    #[arg(long, env = "VEXIL_PROJECT", value_parser = project_key)]
    project: ProjectKey,
    /// Only these environments; may be given several times
    #[arg(long)]
    environment: Vec<String>,
    /// How the files are written
    #[arg(long, value_enum, default_value = "yaml")]
    format: FileFormat,
    /// The file, or the folder if it is there or ends in a slash [default: standard output]
    #[arg(long, short)]
    out: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// What is planned.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// The file or folder, or - for standard input
    #[arg(long, short)]
    file: PathBuf,
    /// Who looks after what is in it
    #[arg(long, default_value = "code")]
    owner: String,
    /// Archives flags and deletes segments that the owner applied before and that are not in it any more
    #[arg(long)]
    prune: bool,
    /// Prunes also more than a tenth of them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    common: Common,
}

/// What is applied.
#[derive(Debug, Args)]
pub(super) struct ApplyArgs {
    #[command(flatten)]
    plan: PlanArgs,
    /// Why; kept in the audit log [default: the subject of the last commit]
    #[arg(long)]
    comment: Option<String>,
    /// Only says what would happen
    #[arg(long)]
    dry_run: bool,
    /// Does not ask
    #[arg(long)]
    yes: bool,
}

/// Writes a project into files.
pub(super) async fn export(args: ExportArgs) -> anyhow::Result<ExitCode> {
    let client = args.common.connection.client()?;
    let mut state = client.get(&format!("/api/v1/projects/{}/export", args.project)).await?;
    if !args.environment.is_empty() {
        keep_environments(&mut state, &args.environment)?;
    }
    match args.out {
        None => print(&files::text(&state, args.format)?)?,
        Some(path) => files::write(&path, &state, args.format)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn keep_environments(state: &mut Value, wanted: &[String]) -> anyhow::Result<()> {
    for env in wanted {
        if state.pointer("/environments").and_then(|all| all.get(env)).is_none() {
            bail!("there is no environment `{env}`");
        }
    }
    let keep = |place: Option<&mut Value>| {
        if let Some(Value::Object(fields)) = place {
            fields.retain(|env, _| wanted.contains(env));
        }
    };
    keep(state.get_mut("environments"));
    keep(state.get_mut("segments"));
    if let Some(Value::Object(flags)) = state.get_mut("flags") {
        flags.values_mut().for_each(|flag| keep(flag.get_mut("environments")));
    }
    Ok(())
}

/// Says what applying files would change; the status is 2 if it is anything.
pub(super) async fn plan(args: PlanArgs) -> anyhow::Result<ExitCode> {
    let client = args.common.connection.client()?;
    let (project, body) = body_of(&args)?;
    let answer = client.ask(&format!("/api/v1/projects/{project}/plan"), &body).await?;
    show(&args, &answer, "would change")?;
    Ok(if n_changes(&answer) == 0 { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}

/// Makes a project what files say.
pub(super) async fn apply(args: ApplyArgs) -> anyhow::Result<ExitCode> {
    let client = args.plan.common.connection.client()?;
    let (project, mut body) = body_of(&args.plan)?;
    let comment = args.comment.clone().or_else(|| files::last_subject(&args.plan.file));
    if let (Some(comment), Some(fields)) = (comment, body.as_object_mut()) {
        fields.insert("comment".to_owned(), Value::String(comment));
    }
    let path = format!("/api/v1/projects/{project}/apply");
    let planned = client.post(&format!("{path}?dryRun=true"), &body).await?;
    if args.dry_run {
        show(&args.plan, &planned, "would change")?;
        return Ok(ExitCode::SUCCESS);
    }
    if n_changes(&planned) > 0 && !args.yes {
        if std::io::stdin().is_terminal() {
            show(&args.plan, &planned, "would change")?;
        }
        let what = reach(&project, &planned);
        // What is taken away is never taken away by a pipeline that nobody told to.
        if n_removed(&planned) > 0 {
            confirm(&what, false)?;
        } else {
            confirm_on_terminal(&what, false)?;
        }
    }
    // What was shown is what is done, or nothing is.
    if let (Some(versions), Some(fields)) = (planned.get("versions"), body.as_object_mut()) {
        fields.insert("versions".to_owned(), versions.clone());
    }
    let applied = client.post(&path, &body).await?;
    show(&args.plan, &applied, "changed")?;
    Ok(ExitCode::SUCCESS)
}

fn body_of(args: &PlanArgs) -> anyhow::Result<(String, Value)> {
    let state = files::read(&args.file)?;
    let project = state.pointer("/project/key").and_then(Value::as_str);
    let project = project.context("the file names no project: it needs `project: {key: …}`")?;
    let project = project_key(project).map_err(|rule| anyhow::anyhow!("project.key {rule}"))?;
    let body = json!({
        "state": state,
        "owner": args.owner,
        "prune": args.prune,
        "force": args.force,
    });
    Ok((project.to_string(), body))
}

fn n_changes(answer: &Value) -> usize {
    answer.get("changes").and_then(Value::as_array).map_or(0, Vec::len)
}

/// How many flags would be archived and segments deleted.
fn n_removed(planned: &Value) -> usize {
    let changes = planned.get("changes").and_then(Value::as_array).into_iter().flatten();
    let op = |change: &&Value| change.get("op").and_then(Value::as_str).map(str::to_owned);
    changes.filter(|change| !matches!(op(change).as_deref(), Some("create" | "update"))).count()
}

/// What would be done, naming the environments.
fn reach(project: &str, planned: &Value) -> String {
    let changes = planned.get("changes").and_then(Value::as_array).into_iter().flatten();
    let mut envs: Vec<&str> =
        changes.filter_map(|change| change.get("environment").and_then(Value::as_str)).collect();
    envs.sort_unstable();
    envs.dedup();
    let place = if envs.is_empty() { String::new() } else { format!(" ({})", envs.join(", ")) };
    let removed = match n_removed(planned) {
        0 => String::new(),
        n => format!(", {n} of which take something away"),
    };
    format!("apply {} change(s){removed} to the project {project}{place}", n_changes(planned))
}

fn show(args: &PlanArgs, answer: &Value, verb: &str) -> anyhow::Result<()> {
    if !is_table(args.common.output) {
        return print_value(args.common.output, answer);
    }
    let text = |value: &Value, name: &str| {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let list = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    for change in list(answer, "changes") {
        let sign = match text(&change, "op").as_str() {
            "create" => "+",
            "update" => "~",
            _ => "-",
        };
        let env = text(&change, "environment");
        let place = if env.is_empty() { env } else { format!(" in {env}") };
        print(&format!("{sign} {} {}{place}\n", text(&change, "kind"), text(&change, "key")))?;
        for detail in list(&change, "details") {
            print(&format!("    {}\n", text(&detail, "text")))?;
        }
        if let Some(last) = change.get("lastChanged") {
            let (by, at, action) = (text(last, "by"), text(last, "at"), text(last, "action"));
            print(&format!("    last changed by {by} at {at} ({action})\n"))?;
        }
    }
    for note in list(answer, "notes") {
        print(&format!("  {}: {}\n", text(&note, "path"), text(&note, "detail")))?;
    }
    match n_changes(answer) {
        0 => print("nothing to change\n"),
        n => print(&format!("{n} thing(s) {verb}\n")),
    }
}
