//! What a comparison found, and how it is told: a table on a terminal, otherwise one JSON object.

use crate::cli::output::OutputFormat;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::output::print_value;
use crate::eval::ReasonBody;
use anyhow::Context as _;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;

/// Unusable lines that are told one by one.
const UNUSABLE_TOLD_MAX: usize = 20;

/// The parts of a reason that have to agree; ids of rules may be new.
const REASON_PARTS: &[&str] =
    &["kind", "ruleIndex", "prerequisiteKey", "inExperiment", "errorKind"];

/// What one side answered.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Side {
    value: Value,
    /// `None` if that side does not tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Value>,
}

impl Side {
    pub(super) fn new(value: Value, reason: &ReasonBody<'_>) -> anyhow::Result<Self> {
        let reason = serde_json::to_value(reason).context("could not write a reason")?;
        Ok(Self { value, reason: Some(reason) })
    }

    /// Reads a result of the server's.
    pub(super) fn from_result(result: &Value) -> Self {
        let part = |name: &str| result.get(name).cloned();
        Self { value: part("value").unwrap_or_default(), reason: part("reason") }
    }

    /// Reads what an SDK's all-flags state says of a flag: nothing if it does not have it.
    pub(super) fn from_state(state: &Map<String, Value>, flag: &str) -> Option<Self> {
        let value = state.get(flag)?.clone();
        let more = state.get("$flagsState").and_then(|flags| flags.get(flag));
        let reason = more.and_then(|flag| flag.get("reason")).filter(|reason| reason.is_object());
        Some(Self { value, reason: reason.cloned() })
    }

    /// Whether the two disagree; a reason that one does not tell is no disagreement.
    pub(super) fn differs_from(&self, other: &Self, values_only: bool) -> bool {
        if !is_same(&self.value, &other.value) {
            return true;
        }
        let (Some(reason), Some(others)) = (&self.reason, &other.reason) else {
            return false;
        };
        let part_differs = |part: &&str| told(reason, part) != told(others, part);
        !values_only && REASON_PARTS.iter().any(part_differs)
    }
}

/// A part of a reason; some SDKs write `false` and others nothing.
fn told<'a>(reason: &'a Value, part: &str) -> Option<&'a Value> {
    reason.get(part).filter(|value| !matches!(value, Value::Null | Value::Bool(false)))
}

/// Whether two values are the same to LaunchDarkly's SDKs, in which every number is a double.
fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || left.as_f64() == right.as_f64()
        }
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

/// A context for which a flag is answered otherwise.
#[derive(Debug, Serialize)]
pub(super) struct Mismatch {
    pub(super) flag: String,
    /// Its canonical key.
    pub(super) context: String,
    /// Where it stands in the file of contexts.
    pub(super) line: usize,
    pub(super) file: Side,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) expected: Option<Side>,
    pub(super) server: Side,
}

/// What was compared and what was found.
#[derive(Debug)]
pub(super) struct Report {
    n_flags: usize,
    limit: usize,
    pub(super) n_contexts: usize,
    pub(super) n_evaluations: usize,
    n_unusable: usize,
    mismatches: Vec<Mismatch>,
    by_flag: BTreeMap<String, usize>,
    /// The lowest and the highest version of the environment that answered.
    versions: Option<(i64, i64)>,
}

impl Report {
    pub(super) fn new(n_flags: usize, limit: usize) -> Self {
        Self {
            n_flags,
            limit,
            n_contexts: 0,
            n_evaluations: 0,
            n_unusable: 0,
            mismatches: Vec::new(),
            by_flag: BTreeMap::new(),
            versions: None,
        }
    }

    /// Takes note of the version that answered.
    pub(super) fn version(&mut self, version: Option<i64>) {
        if let Some(version) = version {
            let (low, high) = self.versions.unwrap_or((version, version));
            self.versions = Some((low.min(version), high.max(version)));
        }
    }

    /// Counts a mismatch, and keeps it if there are not too many.
    pub(super) fn add(&mut self, mismatch: Mismatch) {
        *self.by_flag.entry(mismatch.flag.clone()).or_default() += 1;
        if self.mismatches.len() < self.limit {
            self.mismatches.push(mismatch);
        }
    }

    /// Tells that a line has no context that can be compared.
    pub(super) fn unusable_line(&mut self, line: usize, detail: &str) {
        self.n_unusable += 1;
        if self.n_unusable <= UNUSABLE_TOLD_MAX {
            // OK because nothing can be done where even errors cannot be told.
            let _ = writeln!(std::io::stderr(), "line {line} {detail}");
        }
    }

    /// Why the comparison is not complete, if it is not.
    pub(super) fn unusable(&self) -> Option<String> {
        if self.n_contexts == 0 {
            return Some("there is no context to compare".to_owned());
        }
        (self.n_unusable > 0).then(|| format!("{} line(s) are no contexts", self.n_unusable))
    }

    pub(super) fn n_mismatches(&self) -> usize {
        self.by_flag.values().sum()
    }

    /// Prints everything that was found.
    pub(super) fn print(&self, format: Option<OutputFormat>) -> anyhow::Result<()> {
        let answer = json!({
            "flags": self.n_flags,
            "contexts": self.n_contexts,
            "unusableContexts": self.n_unusable,
            "evaluations": self.n_evaluations,
            "versions": self.versions.map(|(low, high)| [low, high]),
            "mismatchCount": self.n_mismatches(),
            "mismatchCountByFlag": self.by_flag,
            "mismatches": self.mismatches,
        });
        if !is_table(format) {
            return print_value(format, &answer);
        }
        if let Some(mismatches) = answer.get("mismatches").filter(|_| !self.mismatches.is_empty()) {
            print_rows(format, mismatches, &self.columns())?;
        }
        let n_more = self.n_mismatches() - self.mismatches.len();
        if n_more > 0 {
            print(&format!("and {n_more} more mismatch(es)\n"))?;
        }
        print(&format!(
            "{} evaluation(s) of {} flag(s) for {} context(s), {} mismatch(es)\n",
            self.n_evaluations,
            self.n_flags,
            self.n_contexts,
            self.n_mismatches()
        ))?;
        match self.versions {
            Some((low, high)) if low != high => {
                print(&format!("the environment changed meanwhile, from version {low} to {high}\n"))
            }
            _ => Ok(()),
        }
    }

    fn columns(&self) -> Vec<(&'static str, &'static str)> {
        let mut columns = vec![
            ("FLAG", "/flag"),
            ("CONTEXT", "/context"),
            ("FILE", "/file/value"),
            ("REASON", "/file/reason/kind"),
            ("SERVER", "/server/value"),
            ("REASON", "/server/reason/kind"),
        ];
        if self.mismatches.iter().any(|mismatch| mismatch.expected.is_some()) {
            columns.push(("EXPECTED", "/expected/value"));
            columns.push(("REASON", "/expected/reason/kind"));
        }
        columns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(value: Value, reason: Value) -> Side {
        Side { value, reason: Some(reason) }
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        assert!(is_same(&json!({"a": [1, 2.5]}), &json!({"a": [1.0, 2.5]})));
        assert!(!is_same(&json!([1, 2]), &json!([2, 1])));
        assert!(!is_same(&json!({"a": 1}), &json!({"a": 1, "b": null})));
        assert!(!is_same(&json!("1"), &json!(1)));
    }

    #[test]
    fn reasons_count_unless_only_values_do_and_ids_of_rules_never_do() {
        let rule = |index: u32, id: &str| json!({"kind": "RULE_MATCH", "ruleIndex": index, "ruleId": id, "inExperiment": false});
        let first = side(json!(true), rule(0, "a"));
        let mut renamed = side(json!(true), rule(0, "b"));
        assert!(!first.differs_from(&renamed, false));
        renamed.reason = Some(json!({"kind": "RULE_MATCH", "ruleIndex": 1}));
        assert!(first.differs_from(&renamed, false));
        assert!(!first.differs_from(&renamed, true));
        assert!(first.differs_from(&side(json!(false), rule(0, "a")), true));
    }

    #[test]
    fn a_state_is_read_with_and_without_reasons() {
        let state = json!({"f": 1, "g": null, "$flagsState": {"f": {"reason": {"kind": "OFF"}}, "g": {}}, "$valid": true});
        let state = state.as_object().unwrap();
        let told = Side::from_state(state, "f").unwrap();
        assert_eq!(told.reason, Some(json!({"kind": "OFF"})));
        assert!(Side::from_state(state, "g").unwrap().reason.is_none());
        assert!(Side::from_state(state, "none").is_none());
    }
}
