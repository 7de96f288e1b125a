//! Tests of evaluation: tables of stored flags and contexts, properties, and a second implementation to compare with.
//!
//! The tables follow LaunchDarkly's semantics. The hash behind rollouts is tested in `bucket`.

mod bound;
mod clause;
mod experiment;
mod explain;
mod flag;
mod incremental;
mod naive;
mod naive_value;
mod operator;
mod prerequisite;
mod property;
mod random;
mod rollout;
mod segment;
mod strict_context;
mod target;
mod unbounded;

use crate::eval::CompiledFlag;
use crate::eval::CompiledSegment;
use crate::eval::ErrorKind;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::eval::compile;
use crate::eval::compile_segment;
use crate::eval::evaluate;
use crate::model::context::Context;
use crate::model::flag::FlagDefinition;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// The value, the index of the variation, and the reason with its details.
type Answer = (Value, Option<usize>, String);

const MALFORMED: &str = "ERROR MALFORMED_FLAG";
const KEYLESS: &str = "ERROR TARGETING_KEY_MISSING";
/// Stands after the reason where a segment was asked whose keys are kept elsewhere.
const LACKING: &str = " without big segments";

/// The answer of a flag that [`flag_json`] made: one of its three variations.
fn served(index: usize, reason: &str) -> Answer {
    (json!(["a", "b", "c"][index]), Some(index), reason.to_owned())
}

/// An answer without a value.
fn nothing(reason: &str) -> Answer {
    (Value::Null, None, reason.to_owned())
}

/// A stored flag with these fields; what a table does not mention is filled in.
///
/// It is on, serves `a` of `a`, `b`, `c` to everyone, and `c` when it is off.
fn flag_json(fields: &Value) -> Value {
    let flag = json!({
        "key": "f",
        "name": "f",
        "kind": "string",
        "variations": [
            {"key": "va", "value": "a"}, {"key": "vb", "value": "b"}, {"key": "vc", "value": "c"},
        ],
        "defaults": {"onVariation": "va", "offVariation": "vc"},
        "on": true,
        "fallthrough": {"variation": 0},
        "offVariation": 2,
        "salt": "s",
    });
    overlaid(flag, fields)
}

/// A stored segment with these fields.
fn segment_json(fields: &Value) -> Value {
    overlaid(json!({"key": "s", "name": "s", "salt": "salt"}), fields)
}

fn overlaid(mut whole: Value, fields: &Value) -> Value {
    for (name, value) in fields.as_object().unwrap() {
        whole[name.as_str()] = value.clone();
    }
    whole
}

fn compiled_flag(stored: &Value) -> Arc<CompiledFlag> {
    let definition: FlagDefinition = serde_json::from_value(stored.clone()).unwrap();
    let config: FlagConfig = serde_json::from_value(stored.clone()).unwrap();
    Arc::new(compile(&definition, &config, 1))
}

fn compiled_segment(stored: &Value) -> Arc<CompiledSegment> {
    let segment: Segment = serde_json::from_value(stored.clone()).unwrap();
    Arc::new(compile_segment(&segment, 1))
}

/// A ruleset of stored flags and segments.
fn ruleset(flags: &[Value], segments: &[Value]) -> Ruleset {
    let flags = flags.iter().map(compiled_flag).map(|flag| (flag.key.clone(), Some(flag)));
    let segments = segments.iter().map(compiled_segment);
    let segments = segments.map(|segment| (segment.key.clone(), Some(segment)));
    let change = RulesetChange { flags: flags.collect(), segments: segments.collect() };
    Ruleset::default().with(1, 1, &change)
}

fn context(json: &Value) -> Context {
    Context::decode(json.clone()).unwrap()
}

fn experiment(in_experiment: bool) -> &'static str {
    if in_experiment { " in the experiment" } else { "" }
}

fn answer(outcome: &Outcome<'_>) -> Answer {
    let read = |json: &serde_json::value::RawValue| serde_json::from_str(json.get()).unwrap();
    let reason = match outcome.reason {
        Reason::RuleMatch { rule_index, rule_id, in_experiment } => {
            format!("RULE_MATCH {rule_index} {rule_id}{}", experiment(in_experiment))
        }
        Reason::PrerequisiteFailed { key } => format!("PREREQUISITE_FAILED {key}"),
        Reason::Error(ErrorKind::MalformedFlag) => MALFORMED.to_owned(),
        Reason::Error(ErrorKind::TargetingKeyMissing) => KEYLESS.to_owned(),
        Reason::Fallthrough { in_experiment } => {
            format!("FALLTHROUGH{}", experiment(in_experiment))
        }
        Reason::Off | Reason::TargetMatch => outcome.reason.kind().to_owned(),
    };
    let lacking = if outcome.lacks_big_segments { LACKING } else { "" };
    let reason = format!("{reason}{lacking}");
    let index = outcome.variation.map(|(index, _)| index);
    (outcome.value().map_or(Value::Null, read), index, reason)
}

/// Evaluates the flag `key` of a ruleset.
fn check_in(ruleset: &Ruleset, key: &str, context_json: &Value) -> Answer {
    let context = context(context_json);
    answer(&evaluate(ruleset, ruleset.flag(key).unwrap(), &context))
}

/// Evaluates a flag that is alone in its environment; the fields are those of [`flag_json`].
fn check(flag: &Value, context_json: &Value) -> Answer {
    check_in(&ruleset(&[flag_json(flag)], &[]), "f", context_json)
}

/// Whether a clause matches in an environment with these segments; `None` if it makes the flag malformed.
fn matches_with(segments: &[Value], clause: &Value, context_json: &Value) -> Option<bool> {
    let rule = json!({"id": "r", "clauses": [clause], "variation": 1});
    let ruleset = ruleset(&[flag_json(&json!({"rules": [rule]}))], segments);
    match check_in(&ruleset, "f", context_json) {
        (_, Some(1), reason) if reason == "RULE_MATCH 0 r" => Some(true),
        (_, Some(0), reason) if reason == "FALLTHROUGH" => Some(false),
        (_, None, reason) if reason == MALFORMED => None,
        other => panic!("neither a match nor none: {other:?}"),
    }
}

/// Whether a clause matches; `None` if it makes the flag malformed.
fn matches(clause: &Value, context_json: &Value) -> Option<bool> {
    matches_with(&[], clause, context_json)
}
