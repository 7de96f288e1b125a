//! `vexil eval --test`: a file of cases, each a flag, a context and what is expected, on a server or against a file of flags.

use crate::cli::Common;
use crate::cli::change::read_file;
use crate::cli::output::is_table;
use crate::cli::output::print_rows;
use crate::cli::output::print_value;
use crate::cli::target::Target;
use crate::eval::Ruleset;
use crate::eval::evaluate;
use crate::model::context::Context;
use crate::model::key::is_key;
use anyhow::Context as _;
use anyhow::bail;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// Cases of one file, so that they are answered by a bounded number of requests.
const CASES_MAX: usize = 10_000;
/// Contexts in one request.
const BATCH: usize = 100;

/// One case.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// For people.
    #[serde(default)]
    name: Option<String>,
    flag: String,
    /// No context is the empty one.
    #[serde(default)]
    context: Value,
    expect: Expected,
}

/// What is expected; what is left out may be anything.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Present also if it is `null`, which is the value of a flag that cannot be evaluated.
    #[serde(default, deserialize_with = "present")]
    value: Option<Value>,
    /// The key of a variation, or its index.
    #[serde(default)]
    variation: Option<Value>,
    /// A reason like `FALLTHROUGH`, `RULE_MATCH` or `OFF`.
    #[serde(default)]
    reason: Option<String>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// What was answered.
#[derive(Debug, Default)]
struct Actual {
    value: Value,
    key: Option<String>,
    index: Option<u64>,
    reason: String,
}

/// Evaluates every case, tells those that fail, and fails if there is one.
pub(super) async fn run(
    path: &Path,
    ruleset: Option<&Ruleset>,
    target: &Target,
    common: &Common,
) -> anyhow::Result<()> {
    let cases = read(path)?;
    let actual = match ruleset {
        Some(ruleset) => cases.iter().map(|case| offline(ruleset, case)).collect(),
        None => online(&cases, target, common).await?,
    };
    let failed: Vec<Value> = cases
        .iter()
        .zip(&actual)
        .enumerate()
        .filter_map(|(i, (case, actual))| failure(i + 1, case, actual))
        .collect();
    let n_failed = failed.len();
    let answer = json!({"cases": cases.len(), "failed": n_failed, "failures": failed});
    if is_table(common.output) && n_failed > 0 {
        let columns = [
            ("CASE", "/case"),
            ("FLAG", "/flag"),
            ("WHAT", "/what"),
            ("EXPECTED", "/expected"),
            ("GOT", "/got"),
            ("REASON", "/reason"),
            ("NAME", "/name"),
        ];
        let rows = answer.get("failures").unwrap_or(&Value::Null);
        print_rows(common.output, rows, &columns)?;
    } else if is_table(common.output) {
        super::output::print(&format!("{} case(s) are as expected\n", cases.len()))?;
    } else {
        print_value(common.output, &answer)?;
    }
    if n_failed > 0 {
        bail!("{n_failed} of {} case(s) are not as expected", cases.len());
    }
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let file = read_file(path)?;
    let list = file.as_array().or_else(|| file.get("cases")?.as_array());
    let list = list.with_context(|| format!("{} must hold a list of cases", path.display()))?;
    if list.is_empty() || list.len() > CASES_MAX {
        bail!("{} must have from 1 to {CASES_MAX} cases and has {}", path.display(), list.len());
    }
    let mut cases = Vec::new();
    for (i, case) in list.iter().enumerate() {
        let place = || format!("case {} of {}", i + 1, path.display());
        let mut case = Case::deserialize(case).with_context(place)?;
        let expect = &case.expect;
        if expect.value.is_none() && expect.variation.is_none() && expect.reason.is_none() {
            bail!("{} expects nothing: it needs value, variation or reason", place());
        }
        if case.context.is_null() {
            case.context = json!({});
        }
        cases.push(case);
    }
    Ok(cases)
}

fn offline(ruleset: &Ruleset, case: &Case) -> Actual {
    let Ok(context) = Context::decode_launchdarkly(case.context.clone()) else {
        return Actual { reason: "ERROR USER_NOT_SPECIFIED".to_owned(), ..Actual::default() };
    };
    let Some(flag) = ruleset.flag(&case.flag) else {
        return Actual { reason: "ERROR FLAG_NOT_FOUND".to_owned(), ..Actual::default() };
    };
    let outcome = evaluate(ruleset, flag, &context);
    let value = outcome.value().and_then(|value| serde_json::from_str(value.get()).ok());
    // A file of LaunchDarkly's names no keys of variations.
    let index = outcome.variation.and_then(|(index, _)| u64::try_from(index).ok());
    let reason = serde_json::to_value(outcome.reason_body()).unwrap_or_default();
    Actual { value: value.unwrap_or_default(), key: None, index, reason: reason_of(&reason) }
}

async fn online(cases: &[Case], target: &Target, common: &Common) -> anyhow::Result<Vec<Actual>> {
    let client = common.connection.client()?;
    let query = target.query();
    let separator = if query.is_empty() { '?' } else { '&' };
    let path = format!("/api/v1/evaluate{query}{separator}detail=true");
    let mut all = Vec::new();
    // Cases that follow each other are mostly of one flag: those go in one request.
    for group in cases.chunk_by(|left, right| left.flag == right.flag) {
        for batch in group.chunks(BATCH) {
            let Some(flag) = batch.first().map(|case| &case.flag) else { continue };
            if !is_key(flag) {
                bail!("`{flag}` cannot be the key of a flag");
            }
            let contexts: Vec<&Value> = batch.iter().map(|case| &case.context).collect();
            let body = json!({"contexts": contexts, "flags": [flag]});
            let answer = client.ask(&path, &body).await?;
            let rows = answer.get("results").and_then(Value::as_array);
            let rows = rows.context("the server evaluated nothing")?;
            if rows.len() != batch.len() {
                bail!("the server answered {} of {} contexts", rows.len(), batch.len());
            }
            all.extend(rows.iter().map(|row| told(row.get(0).unwrap_or(&Value::Null))));
        }
    }
    Ok(all)
}

fn told(result: &Value) -> Actual {
    Actual {
        value: result.get("value").cloned().unwrap_or_default(),
        key: result.get("variant").and_then(Value::as_str).map(str::to_owned),
        index: result.get("variationIndex").and_then(Value::as_u64),
        reason: reason_of(result.get("reason").unwrap_or(&Value::Null)),
    }
}

fn reason_of(reason: &Value) -> String {
    let text = |name: &str| reason.get(name).and_then(Value::as_str);
    let kind = text("kind").unwrap_or_default();
    text("errorKind").map_or_else(|| kind.to_owned(), |error| format!("{kind} {error}"))
}

/// What is not as expected, if anything.
fn failure(number: usize, case: &Case, actual: &Actual) -> Option<Value> {
    let tell = |what: &str, expected: &Value, got: Value| {
        Some(json!({
            "case": number, "name": case.name, "flag": case.flag, "context": case.context,
            "what": what, "expected": expected, "got": got, "reason": actual.reason,
        }))
    };
    if let Some(value) = &case.expect.value
        && !is_same(value, &actual.value)
    {
        return tell("value", value, actual.value.clone());
    }
    if let Some(variation) = &case.expect.variation {
        let (is_as_expected, got) = match variation {
            Value::Number(index) => (index.as_u64() == actual.index, json!(actual.index)),
            other => (
                other.as_str().is_some() && other.as_str() == actual.key.as_deref(),
                actual.key.as_ref().map_or_else(|| json!(actual.index), |key| json!(key)),
            ),
        };
        if !is_as_expected {
            return tell("variation", variation, got);
        }
    }
    if let Some(reason) = &case.expect.reason
        && *reason != actual.reason
        && Some(reason.as_str()) != actual.reason.split(' ').next()
    {
        return tell("reason", &json!(reason), json!(actual.reason));
    }
    None
}

/// Whether two values are the same; 1 and 1.0 are.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| is_same(l, r))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, l)| right.get(name).is_some_and(|r| is_same(l, r)))
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_fails_by_what_differs() {
        let actual = Actual {
            value: json!({"n": 1.0}),
            key: Some("on".to_owned()),
            index: Some(0),
            reason: "FALLTHROUGH".to_owned(),
        };
        let what = |expect: Value| {
            let case = json!({"flag": "f", "expect": expect});
            let case = Case::deserialize(&case).unwrap();
            failure(1, &case, &actual).map(|failure| failure["what"].clone())
        };
        assert_eq!(
            what(json!({"value": {"n": 1}, "variation": "on", "reason": "FALLTHROUGH"})),
            None
        );
        assert_eq!(what(json!({"variation": 0})), None);
        assert_eq!(what(json!({"value": null})), Some(json!("value")));
        assert_eq!(what(json!({"value": {"n": 1, "m": 2}})), Some(json!("value")));
        assert_eq!(what(json!({"variation": "off"})), Some(json!("variation")));
        assert_eq!(what(json!({"variation": 1})), Some(json!("variation")));
        assert_eq!(what(json!({"variation": null, "reason": "OFF"})), Some(json!("reason")));
    }
}
