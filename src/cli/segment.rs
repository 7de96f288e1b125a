//! `vexil segment`. What can be changed about one is in `set`.

mod set;

use crate::cli::Common;
use crate::cli::change::ChangeArgs;
use crate::cli::change::DeedArgs;
use crate::cli::change::insert_some;
use crate::cli::change::percent;
use crate::cli::change::print_change;
use crate::cli::change::read_file;
use crate::cli::confirm::confirm;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::cli::words;
use crate::model::key::KEY_RULE;
use crate::model::key::SegmentKey;
use anyhow::bail;
use clap::Args;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;

/// What can be done with segments.
#[derive(Debug, Subcommand)]
pub(super) enum SegmentCommand {
    /// Lists the segments of an environment
    #[command(after_help = "Example:
  vexil segment list")]
    List {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Shows a segment
    #[command(after_help = "Example:
  vexil segment show beta --output yaml")]
    Show {
        /// The segment
        #[arg(value_parser = segment_key)]
        segment: SegmentKey,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Creates a segment
    #[command(after_help = "Examples:
  vexil segment create beta --name 'Beta testers' --include ann --include organization:acme
  vexil segment create staff --rule 'user.email endsWith @example.com'
  vexil segment create beta --file beta.yaml")]
    Create(CreateArgs),
    /// Adds contexts to those that are in it, or to those that are not
    #[command(after_help = "Examples:
  vexil segment add beta ann bob organization:acme
  vexil segment add beta eve --excluded")]
    Add(MemberArgs),
    /// Removes contexts from those that are in it, or from those that are not
    #[command(after_help = "Examples:
  vexil segment remove beta bob
  vexil segment remove beta eve --excluded")]
    Remove(MemberArgs),
    /// Changes a segment: its name, tags, keys and rules
    #[command(after_help = "Examples:
  vexil segment set beta --name 'Beta testers' --tag +search
  vexil segment set beta --rule 'user.plan in gold => 50' --dry-run
  vexil segment set beta --instructions changes.yaml

A rule is CLAUSE [and CLAUSE]… and, for a share of those who match, => PERCENT [by user.key].
A clause is KIND.ATTRIBUTE [not] OPERATOR VALUE,… or [not] segment KEY,…")]
    Set(Box<set::SetArgs>),
    /// Deletes a segment that nothing asks for
    #[command(after_help = "Example:
  vexil segment delete beta --comment 'the test is over' --yes")]
    Delete {
        /// The segment
        #[arg(value_parser = segment_key)]
        segment: SegmentKey,
        /// Does not ask
        #[arg(long, short = 'y')]
        yes: bool,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
}

/// A segment that is to be created.
#[derive(Debug, Args)]
pub(super) struct CreateArgs {
    /// The segment's key
    #[arg(value_parser = segment_key)]
    segment: SegmentKey,
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// A tag; once for each
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// A context that is in it, e.g. ann or organization:acme; once for each
    #[arg(long = "include", value_name = "KIND:KEY")]
    included: Vec<String>,
    /// A context that is not in it, whatever the rules say; once for each
    #[arg(long = "exclude", value_name = "KIND:KEY")]
    excluded: Vec<String>,
    /// A rule, e.g. 'user.plan in gold' or 'user.plan in gold => 50' for half of them; once for each
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<String>,
    /// A file of YAML or JSON with the segment's other fields, or - for standard input
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    deed: DeedArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Contexts that come or go.
#[derive(Debug, Args)]
pub(super) struct MemberArgs {
    /// The segment
    #[arg(value_parser = segment_key)]
    segment: SegmentKey,
    /// The contexts: keys of users, or KIND:KEY
    #[arg(required = true, value_name = "KIND:KEY")]
    contexts: Vec<String>,
    /// Means those that are not in it, whatever the rules say
    #[arg(long)]
    excluded: bool,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Keys go into paths, so they are checked before anything is sent.
pub(super) fn segment_key(text: &str) -> Result<SegmentKey, String> {
    SegmentKey::parse(text).ok_or_else(|| KEY_RULE.to_owned())
}

const COLUMNS: &[(&str, &str)] = &[
    ("SEGMENT", "/key"),
    ("VERSION", "/version"),
    ("TAGS", "/tags"),
    ("CHANGED", "/changedAt"),
    ("NAME", "/name"),
];
const CHANGE_COLUMNS: &[(&str, &str)] = &[("SEGMENT", "/segment/key"), ("VERSION", "/version")];

/// Does something with segments.
pub(super) async fn run(command: SegmentCommand) -> anyhow::Result<()> {
    match command {
        SegmentCommand::List { target, common } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            print_rows(common.output, &client.get(&format!("{path}/segments")).await?, COLUMNS)
        }
        SegmentCommand::Show { segment, target, common } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            let answer = client.get(&format!("{path}/segments/{segment}")).await?;
            print_rows(common.output, &answer, COLUMNS)?;
            if is_table(common.output) {
                print(&details(&answer))?;
            }
            Ok(())
        }
        SegmentCommand::Create(args) => create(args).await,
        SegmentCommand::Add(args) => members(args, "add").await,
        SegmentCommand::Remove(args) => members(args, "remove").await,
        SegmentCommand::Set(args) => set::set(*args).await,
        SegmentCommand::Delete { segment, yes, deed, target, common } => {
            let client = common.connection.client()?;
            let place = target.find(&client).await?;
            let environment = format!("{}/{}", place.project, place.environment);
            let what = format!("delete the segment `{segment}` in {environment}");
            confirm(&what, yes || deed.dry_run)?;
            let path = format!("{}/segments/{segment}", place.path());
            let answer = deed.send(&client, Method::DELETE, &path, None).await?;
            deed.print_gone(common.output, &answer, &format!("deleted {segment}"))
        }
    }
}

/// How many contexts and rules a segment has; which they are, JSON and YAML say.
fn details(segment: &Value) -> String {
    let list = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut lines = String::new();
    for name in ["included", "excluded"] {
        let others = list(segment, &format!("{name}Contexts"));
        let n_others: usize = others.iter().map(|other| list(other, "values").len()).sum();
        let n = list(segment, name).len() + n_others;
        lines.push_str(&format!("  {name}: {n} context(s)\n"));
    }
    for rule in list(segment, "rules") {
        let id = rule.get("id").and_then(Value::as_str).unwrap_or_default();
        let n = list(&rule, "clauses").len();
        let share = rule.get("weight").and_then(Value::as_u64).map(percent);
        let share = share.unwrap_or_else(|| "everyone".to_owned());
        lines.push_str(&format!("  rule {id}, {n} clause(s): {share}\n"));
    }
    lines
}

async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let mut body = match &args.file {
        Some(path) => read_file(path)?,
        None => json!({}),
    };
    let Some(fields) = body.as_object_mut() else {
        bail!("--file must hold a segment, like `included: [ann]`");
    };
    fields.insert("key".to_owned(), json!(args.segment));
    insert_some(fields, "name", args.name.as_deref());
    insert_some(fields, "description", args.description.as_deref());
    if !args.tags.is_empty() {
        fields.insert("tags".to_owned(), json!(args.tags));
    }
    for (list, contexts) in [("included", &args.included), ("excluded", &args.excluded)] {
        if contexts.is_empty() {
            continue;
        }
        let (users, others) = by_kind(contexts);
        fields.insert(list.to_owned(), json!(users));
        if !others.is_empty() {
            fields.insert(format!("{list}Contexts"), Value::Array(others));
        }
    }
    if !args.rules.is_empty() {
        let rules: anyhow::Result<Vec<Value>> = args.rules.iter().map(|text| rule(text)).collect();
        fields.insert("rules".to_owned(), Value::Array(rules?));
    }
    let client = args.common.connection.client()?;
    let path = format!("{}/segments", args.target.find(&client).await?.path());
    let answer = args.deed.send(&client, Method::POST, &path, Some(&body)).await?;
    args.deed.print_made(args.common.output, &answer, COLUMNS)
}

async fn members(args: MemberArgs, verb: &str) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let path = format!("{path}/segments/{}{}", args.segment, args.change.query());
    let which = if args.excluded { "Excluded" } else { "Included" };
    let instructions = member_instructions(verb, which, &args.contexts);
    let answer = client.patch(&path, &args.change.body(instructions)).await?;
    print_change(args.common.output, &answer, CHANGE_COLUMNS)
}

/// An instruction for each kind of context.
fn member_instructions(verb: &str, which: &str, contexts: &[String]) -> Vec<Value> {
    let kind = format!("{verb}{which}Targets");
    let (users, others) = by_kind(contexts);
    let users = (!users.is_empty()).then(|| json!({"kind": kind, "values": users}));
    let others = others.into_iter().map(|mut other| {
        if let Some(fields) = other.as_object_mut() {
            fields.insert("kind".to_owned(), json!(kind));
        }
        other
    });
    users.into_iter().chain(others).collect()
}

/// The keys of users, and those of each other kind.
fn by_kind(contexts: &[String]) -> (Vec<&str>, Vec<Value>) {
    let (mut users, mut others) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new());
    for (kind, key) in contexts.iter().map(|text| words::context_key(text)) {
        if kind == "user" {
            users.push(key);
        } else if let Some((_, keys)) = others.iter_mut().find(|(known, _)| *known == kind) {
            keys.push(key);
        } else {
            others.push((kind, vec![key]));
        }
    }
    let others =
        others.into_iter().map(|(kind, keys)| json!({"contextKind": kind, "values": keys}));
    (users, others.collect())
}

/// Reads a rule of a segment: clauses, and for a share of those who match, `=> 50 by user.key`.
fn rule(text: &str) -> anyhow::Result<Value> {
    let (clauses, share) = words::rule(text)?;
    let mut rule = json!({"clauses": clauses});
    if let (Some(share), Some(fields)) = (share, rule.as_object_mut()) {
        let (weight, by) = match share.split_once(" by ") {
            Some((weight, by)) => (weight.trim(), Some(by.trim())),
            None => (share, None),
        };
        fields.insert("weight".to_owned(), json!(words::weight(weight)?));
        if let Some(by) = by {
            let (kind, attribute) = words::attribute(by)?;
            fields.insert("rolloutContextKind".to_owned(), json!(kind));
            fields.insert("bucketBy".to_owned(), json!(attribute));
        }
    }
    Ok(rule)
}
