//! `vexil parity`: whether a server answers what a file of LaunchDarkly's evaluates to, for each context and flag.
//!
//! The file is evaluated in this process. Contexts are read, sent and compared in batches, so neither their number nor that of
//! the flags costs memory. How lines are read is in `lines`; what is told in the end, in `report`.

mod lines;
mod report;

use crate::cli::Common;
use crate::cli::client::Client;
use crate::cli::eval::load;
use crate::cli::target::Target;
use crate::eval::CompiledFlag;
use crate::eval::ReasonBody;
use crate::eval::Ruleset;
use crate::eval::evaluate;
use crate::model::context::Context;
use crate::model::key::is_key;
use anyhow::Context as _;
use anyhow::bail;
use clap::Args;
use lines::Lines;
use report::Mismatch;
use report::Report;
use report::Side;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::fmt;
use std::path::PathBuf;

/// Contexts in one request.
const BATCH_CONTEXTS_MAX: usize = 1_000;
/// Bytes of the contexts in one request.
const BATCH_BYTES: usize = 1024 * 1024;
/// Flags in one request.
const BATCH_FLAGS_MAX: usize = 1_000;
/// About how many bytes an answer should have.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of one result beside its value, about.
const RESULT_BYTES: usize = 256;

/// What is compared.
#[derive(Debug, Args)]
pub(super) struct ParityArgs {
    /// What LaunchDarkly serves to server-side SDKs, {"flags":{…},"segments":{…}}
    #[arg(long, value_name = "FILE")]
    ruleset: PathBuf,
    /// A context on each line of this file, or of standard input (-)
    #[arg(long, value_name = "FILE")]
    contexts: PathBuf,
    /// What an SDK of LaunchDarkly answered for the context of the same line, {"flag":value,…}, as all-flags states are
    #[arg(long, value_name = "FILE")]
    expected: Option<PathBuf>,
    /// Compares values and not reasons
    #[arg(long)]
    values_only: bool,
    /// How many mismatches are told one by one; all are counted
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    limit: usize,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// The comparison did not come to its end, which is neither agreement nor a mismatch.
#[derive(Debug, Clone, Copy)]
pub struct Incomplete;

impl Incomplete {
    /// The status with which the program ends.
    pub const STATUS: u8 = 2;
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("could not compare everything")
    }
}

/// Compares, tells every mismatch, and fails if there is one.
pub(super) async fn run(args: ParityArgs) -> anyhow::Result<()> {
    let report = compare(&args).await.map_err(|error| error.context(Incomplete))?;
    report.print(args.common.output).map_err(|error| error.context(Incomplete))?;
    if let Some(detail) = report.unusable() {
        return Err(anyhow::Error::msg(detail).context(Incomplete));
    }
    match report.n_mismatches() {
        0 => Ok(()),
        n => bail!("{n} mismatch(es)"),
    }
}

/// A context with what was answered for it by others.
#[derive(Debug)]
struct Subject {
    line: usize,
    raw: Value,
    context: Context,
    expected: Option<Map<String, Value>>,
}

async fn compare(args: &ParityArgs) -> anyhow::Result<Report> {
    let client = args.common.connection.client()?;
    let ruleset = load(&args.ruleset)?;
    let groups = groups(&ruleset);
    let mut contexts = Lines::open(&args.contexts)?;
    let mut expected = args.expected.as_deref().map(Lines::open).transpose()?;
    let mut report = Report::new(ruleset.n_flags(), args.limit);
    let n_contexts_max = groups.iter().map(|group| group.n_contexts_max).min().unwrap_or(1);
    let mut batch = Vec::new();
    let mut n_bytes = 0;
    while let Some((line, text)) = contexts.next()? {
        let size = text.len();
        let read = read_context(text);
        let expected = match &mut expected {
            Some(lines) => Some(read_expected(lines, line)?),
            None => None,
        };
        let (raw, context) = match read {
            Ok(read) => read,
            Err(detail) => {
                report.unusable_line(line, &detail);
                continue;
            }
        };
        if n_bytes + size > BATCH_BYTES || batch.len() >= n_contexts_max {
            compare_batch(args, &client, &ruleset, &groups, &batch, &mut report).await?;
            batch.clear();
            n_bytes = 0;
        }
        n_bytes += size;
        batch.push(Subject { line, raw, context, expected });
    }
    if let Some((line, _)) = expected.as_mut().map(Lines::next).transpose()?.flatten() {
        bail!("line {line} of --expected has no context");
    }
    compare_batch(args, &client, &ruleset, &groups, &batch, &mut report).await?;
    Ok(report)
}

/// Flags that are asked for in one request.
#[derive(Debug, Default)]
struct Group<'r> {
    flags: Vec<&'r CompiledFlag>,
    row_bytes: usize,
    n_contexts_max: usize,
}

/// Divides the flags, so that an answer about one context is no larger than it should be.
fn groups(ruleset: &Ruleset) -> Vec<Group<'_>> {
    let mut groups: Vec<Group<'_>> = Vec::new();
    for flag in ruleset.flags() {
        let sizes = flag.variations.iter().map(|variation| variation.json().get().len());
        let bytes = RESULT_BYTES + sizes.max().unwrap_or(0);
        let has_room = |group: &&mut Group<'_>| {
            group.flags.len() < BATCH_FLAGS_MAX && group.row_bytes + bytes <= ANSWER_BYTES
        };
        if let Some(group) = groups.last_mut().filter(has_room) {
            group.flags.push(flag);
            group.row_bytes += bytes;
        } else {
            groups.push(Group { flags: vec![flag], row_bytes: bytes, n_contexts_max: 0 });
        }
    }
    for group in &mut groups {
        group.n_contexts_max = (ANSWER_BYTES / group.row_bytes.max(1)).clamp(1, BATCH_CONTEXTS_MAX);
    }
    groups
}

/// Reads a context as LaunchDarkly does, and makes sure that the server takes it.
fn read_context(text: &[u8]) -> Result<(Value, Context), String> {
    let mut raw: Value =
        serde_json::from_slice(text).map_err(|error| format!("is not JSON: {error}"))?;
    let context = Context::decode_launchdarkly(raw.clone());
    let context =
        context.map_err(|problems| format!("is no context of LaunchDarkly's: {problems}"))?;
    if let Some(fields) = raw.as_object_mut()
        && !fields.contains_key("kind")
        && !fields.contains_key("targetingKey")
    {
        // An old user is told by it at the server, which would take other fields for attributes without it.
        let custom = fields.entry("custom").or_insert_with(|| json!({}));
        if custom.is_null() {
            *custom = json!({});
        }
    }
    Context::decode(raw.clone())
        .and_then(|context| context.check_limits(1))
        .map_err(|problems| format!("is no context for the server: {problems}"))?;
    Ok((raw, context))
}

fn read_expected(lines: &mut Lines, line: usize) -> anyhow::Result<Map<String, Value>> {
    let Some((_, text)) = lines.next()? else {
        bail!("--expected has no line for the context of line {line}");
    };
    serde_json::from_slice(text)
        .with_context(|| format!("what is expected for line {line} is not {{\"flag\":value,…}}"))
}

async fn compare_batch(
    args: &ParityArgs,
    client: &Client,
    ruleset: &Ruleset,
    groups: &[Group<'_>],
    batch: &[Subject],
    report: &mut Report,
) -> anyhow::Result<()> {
    if batch.is_empty() {
        return Ok(());
    }
    let query = args.target.query();
    let separator = if query.is_empty() { '?' } else { '&' };
    let path = format!("/api/v1/evaluate{query}{separator}detail=true");
    let contexts: Vec<&Value> = batch.iter().map(|subject| &subject.raw).collect();
    for group in groups {
        // A key that the server cannot have is not asked for.
        let (asked, others): (Vec<&CompiledFlag>, Vec<_>) =
            group.flags.iter().partition(|flag| is_key(flag.key.as_str()));
        let keys: Vec<&str> = asked.iter().map(|flag| flag.key.as_str()).collect();
        let answer = client.ask(&path, &json!({"contexts": contexts, "flags": keys})).await?;
        report.version(answer.get("version").and_then(Value::as_i64));
        for (i, subject) in batch.iter().enumerate() {
            let row = answer.pointer(&format!("/results/{i}")).and_then(Value::as_array);
            let row = row.filter(|row| row.len() == asked.len());
            let row = row.context("the server's answer lacks results")?;
            for (flag, result) in asked.iter().zip(row) {
                let server = Side::from_result(result);
                compare_one(args, ruleset, flag, subject, server, report)?;
            }
            for flag in &others {
                let server = Side::new(Value::Null, &ReasonBody::FLAG_NOT_FOUND)?;
                compare_one(args, ruleset, flag, subject, server, report)?;
            }
        }
    }
    report.n_contexts += batch.len();
    Ok(())
}

fn compare_one(
    args: &ParityArgs,
    ruleset: &Ruleset,
    flag: &CompiledFlag,
    subject: &Subject,
    server: Side,
    report: &mut Report,
) -> anyhow::Result<()> {
    let outcome = evaluate(ruleset, flag, &subject.context);
    let value = outcome.value().map(|value| serde_json::from_str(value.get())).transpose()?;
    let file = Side::new(value.unwrap_or_default(), &outcome.reason_body())?;
    let key = flag.key.as_str();
    let expected = subject.expected.as_ref().and_then(|answers| Side::from_state(answers, key));
    report.n_evaluations += 1;
    let differs = |other: &Side| server.differs_from(other, args.values_only);
    if differs(&file) || expected.as_ref().is_some_and(differs) {
        report.add(Mismatch {
            flag: key.to_owned(),
            context: name_of(&subject.context),
            line: subject.line,
            file,
            expected,
            server,
        });
    }
    Ok(())
}

/// Names a context as LaunchDarkly's canonical keys do: a user by the key alone.
fn name_of(context: &Context) -> String {
    let mut names: Vec<(&str, &str)> = Vec::new();
    for kind in context.kinds() {
        names.push((&kind.kind, kind.key.as_deref().unwrap_or_default()));
    }
    names.sort_unstable();
    if let [("user", key)] = names.as_slice() {
        return (*key).to_owned();
    }
    let names: Vec<String> = names.iter().map(|(kind, key)| format!("{kind}:{key}")).collect();
    names.join(":")
}
