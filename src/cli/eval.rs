//! `vexil eval`: what a flag serves, on a server or offline against a file of flags.
//!
//! Offline, everything happens in this process and nothing is sent anywhere.

use crate::cli::Common;
use crate::cli::cases;
use crate::cli::flag::flag_key;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::eval::Outcome;
use crate::eval::ReadRuleset;
use crate::eval::ReasonBody;
use crate::eval::Ruleset;
use crate::eval::Told;
use crate::eval::evaluate;
use crate::eval::explain;
use crate::eval::read_ruleset;
use crate::model::context::Context;
use crate::model::problem::Problems;
use anyhow::Context as _;
use anyhow::bail;
use clap::Args;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

/// Bytes of one line of a batch.
const LINE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// What is evaluated for whom.
#[derive(Debug, Args)]
pub(super) struct EvalArgs {
    /// The flag
    #[arg(required_unless_present_any = ["batch", "test"])]
    flag: Option<String>,
    /// The context as JSON, e.g. {"targetingKey":"user-1","plan":"gold"} or {"kind":"user","key":"user-1"}
    #[arg(long, default_value = "{}")]
    context: String,
    /// Evaluates against this file, {"flags":{…},"segments":{…}}, and not on a server
    #[arg(long, value_name = "FILE")]
    ruleset: Option<PathBuf>,
    /// Reads a {"flag":…,"context":…} from each line of this file, or of standard input (-), and writes a line for each
    #[arg(long, value_name = "FILE", requires = "ruleset", conflicts_with = "flag")]
    batch: Option<PathBuf>,
    /// Evaluates the cases of this file of YAML or JSON, or of standard input (-), and fails if one is not as expected
    #[arg(long, value_name = "FILE", conflicts_with_all = ["flag", "context", "batch", "explain"])]
    test: Option<PathBuf>,
    /// Tells step by step why
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// The answer about one flag, in LaunchDarkly's words.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    flag: Option<&'a str>,
    value: Option<&'a RawValue>,
    variation_index: Option<usize>,
    reason: ReasonBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Told>>,
}

/// Evaluates one flag or many.
pub(super) async fn run(args: EvalArgs) -> anyhow::Result<()> {
    if let Some(test) = &args.test {
        let ruleset = args.ruleset.as_deref().map(load).transpose()?;
        return cases::run(test, ruleset.as_ref(), &args.target, &args.common).await;
    }
    match (&args.ruleset, &args.batch, &args.flag) {
        (Some(ruleset), Some(batch), _) => {
            let ruleset = load(ruleset)?;
            let out = std::io::BufWriter::new(std::io::stdout().lock());
            if batch.as_os_str() == "-" {
                let input = BufReader::new(std::io::stdin().lock());
                return evaluate_lines(&ruleset, input, out, args.explain);
            }
            let file =
                File::open(batch).with_context(|| format!("could not open {}", batch.display()))?;
            evaluate_lines(&ruleset, BufReader::new(file), out, args.explain)
        }
        (Some(ruleset), None, Some(flag)) => offline(&load(ruleset)?, flag, &args),
        (None, _, Some(flag)) => online(flag, &args).await,
        (_, _, None) => bail!("name a flag"),
    }
}

/// Reads a file of flags; what cannot be read in it is told, and is an error only for those who evaluate it.
pub(super) fn load(path: &Path) -> anyhow::Result<Ruleset> {
    let text = std::fs::read(path).with_context(|| format!("could not read {}", path.display()))?;
    let file: Value =
        serde_json::from_slice(&text).with_context(|| format!("{} is not JSON", path.display()))?;
    let ReadRuleset { ruleset, unreadable } =
        read_ruleset(file).with_context(|| format!("{} has no flags", path.display()))?;
    let mut err = std::io::stderr().lock();
    for problem in unreadable.as_slice() {
        // OK because nothing can be done where even errors cannot be told.
        let _ = writeln!(err, "{}: {}: {}", path.display(), problem.path, problem.detail);
    }
    Ok(ruleset)
}

fn offline(ruleset: &Ruleset, flag: &str, args: &EvalArgs) -> anyhow::Result<()> {
    let context: Value = parse_context(&args.context)?;
    let context = Context::decode_launchdarkly(context);
    let answer = answer(ruleset, flag, &context, args.explain);
    let answer = serde_json::to_value(&answer).context("could not write the answer")?;
    print_rows(args.common.output, &answer, COLUMNS)?;
    if let Err(problems) = context {
        bail!("--context is not valid: {problems}");
    }
    print_steps(args, &answer)
}

const COLUMNS: &[(&str, &str)] = &[
    ("FLAG", "/flag"),
    ("VALUE", "/value"),
    ("VARIATION", "/variationIndex"),
    ("REASON", "/reason/kind"),
    ("ERROR", "/reason/errorKind"),
];

fn parse_context(text: &str) -> anyhow::Result<Value> {
    serde_json::from_str(text).context("--context must be a JSON object")
}

/// Prints the steps under a table; in JSON they are part of the answer.
fn print_steps(args: &EvalArgs, answer: &Value) -> anyhow::Result<()> {
    if !is_table(args.common.output) {
        return Ok(());
    }
    let steps = answer.get("steps").and_then(Value::as_array).into_iter().flatten();
    for text in steps.filter_map(|step| step.get("text")).filter_map(Value::as_str) {
        print(&format!("  {text}\n"))?;
    }
    Ok(())
}

async fn online(flag: &str, args: &EvalArgs) -> anyhow::Result<()> {
    let flag = flag_key(flag).map_err(anyhow::Error::msg)?;
    let context = parse_context(&args.context)?;
    let client = args.common.connection.client()?;
    let query = args.target.query();
    if !args.explain {
        let path = format!("/ofrep/v1/evaluate/flags/{flag}{query}");
        let answer = client.ask(&path, &json!({"context": context})).await?;
        let columns = [
            ("FLAG", "/key"),
            ("VALUE", "/value"),
            ("VARIATION", "/variant"),
            ("REASON", "/metadata/reason"),
        ];
        return print_rows(args.common.output, &answer, &columns);
    }
    let separator = if query.is_empty() { '?' } else { '&' };
    let path = format!("/api/v1/evaluate{query}{separator}explain=true");
    let answer = client.ask(&path, &json!({"contexts": [context], "flags": [flag]})).await?;
    let answer = answer.pointer("/results/0/0").context("the server explained nothing")?;
    print_rows(args.common.output, answer, COLUMNS)?;
    print_steps(args, answer)
}

/// One line of a batch.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    flag: std::borrow::Cow<'a, str>,
    #[serde(default)]
    context: Value,
}

/// Evaluates each line of `input` and writes a line for each to `out`; empty lines are skipped.
///
/// # Errors
///
/// A line cannot be read or written. What stands in a line never ends the batch; lines that are no JSON of the right shape
/// are answered with an error too, and counted at the end.
fn evaluate_lines(
    ruleset: &Ruleset,
    mut input: BufReader<impl Read>,
    mut out: impl Write,
    is_explained: bool,
) -> anyhow::Result<()> {
    let mut bytes = Vec::new();
    let mut n_unreadable = 0_u64;
    loop {
        bytes.clear();
        // Who waits for an answer before the next line gets it.
        if input.buffer().is_empty() {
            out.flush()?;
        }
        let n_bytes = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut bytes)?;
        if n_bytes == 0 {
            break;
        }
        if !bytes.ends_with(b"\n") && u64::try_from(n_bytes)? == LINE_BYTES_MAX {
            bail!("a line must be at most {LINE_BYTES_MAX} bytes");
        }
        let line = bytes.trim_ascii();
        if line.is_empty() {
            continue;
        }
        match serde_json::from_slice::<Line<'_>>(line) {
            Ok(Line { flag, context }) => {
                let context = Context::decode_launchdarkly(context);
                let answer = answer(ruleset, &flag, &context, is_explained);
                serde_json::to_writer(&mut out, &answer)?;
            }
            Err(_) => {
                n_unreadable += 1;
                serde_json::to_writer(&mut out, &error(None, ReasonBody::EXCEPTION))?;
            }
        }
        out.write_all(b"\n")?;
    }
    out.flush()?;
    if n_unreadable > 0 {
        bail!("{n_unreadable} line(s) are not {{\"flag\":…,\"context\":…}}");
    }
    Ok(())
}

fn answer<'a>(
    ruleset: &'a Ruleset,
    flag: &'a str,
    context: &Result<Context, Problems>,
    is_explained: bool,
) -> Answer<'a> {
    let Ok(context) = context else {
        return error(Some(flag), ReasonBody::USER_NOT_SPECIFIED);
    };
    let Some(found) = ruleset.flag(flag) else {
        return error(Some(flag), ReasonBody::FLAG_NOT_FOUND);
    };
    let (outcome, steps): (Outcome<'_>, _) = if is_explained {
        let (outcome, steps) = explain(ruleset, found, context);
        (outcome, Some(steps.into_iter().map(Told::from).collect()))
    } else {
        (evaluate(ruleset, found, context), None)
    };
    Answer {
        flag: Some(flag),
        value: outcome.value(),
        variation_index: outcome.variation.map(|(index, _)| index),
        reason: outcome.reason_body(),
        steps,
    }
}

fn error<'a>(flag: Option<&'a str>, reason: ReasonBody<'a>) -> Answer<'a> {
    Answer { flag, value: None, variation_index: None, reason, steps: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_answers_each_line_whatever_it_holds() {
        let flag = json!({"on": true, "variations": [1.0, "x"], "fallthrough": {"variation": 0}});
        let ruleset = read_ruleset(json!({"flags": {"f": flag, "bad": 7}})).unwrap().ruleset;
        let input = r#"{"flag":"f","context":{"kind":"user","key":"u"}}

            {"flag":"g","context":{"key":""}}
            {"flag":"f","context":{"kind":"user","key":""}}
            {"flag":"bad","context":{"key":"u"}}
            {"flag":7}
            nonsense"#;
        let mut out = Vec::new();
        assert!(
            evaluate_lines(&ruleset, BufReader::new(input.as_bytes()), &mut out, false).is_err()
        );
        let expected = [
            r#"{"flag":"f","value":1.0,"variationIndex":0,"reason":{"kind":"FALLTHROUGH"}}"#,
            r#"{"flag":"g","value":null,"variationIndex":null,"reason":{"kind":"ERROR","errorKind":"FLAG_NOT_FOUND"}}"#,
            r#"{"flag":"f","value":null,"variationIndex":null,"reason":{"kind":"ERROR","errorKind":"USER_NOT_SPECIFIED"}}"#,
            r#"{"flag":"bad","value":null,"variationIndex":null,"reason":{"kind":"ERROR","errorKind":"MALFORMED_FLAG"}}"#,
            r#"{"flag":null,"value":null,"variationIndex":null,"reason":{"kind":"ERROR","errorKind":"EXCEPTION"}}"#,
            r#"{"flag":null,"value":null,"variationIndex":null,"reason":{"kind":"ERROR","errorKind":"EXCEPTION"}}"#,
        ];
        assert_eq!(String::from_utf8(out).unwrap().lines().collect::<Vec<_>>(), expected);
    }
}
