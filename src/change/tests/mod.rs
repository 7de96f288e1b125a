//! Tests of the change language: tables of instructions with what they do and why they are refused, and properties.
//!
//! The division of a rollout's ring is also tested in `rebalance`, circles in `cycle`.

mod decode;
mod definition;
mod describe;
mod import;
mod import_refused;
mod many;
mod prerequisite;
mod property;
mod replacement;
mod rollout;
mod rule;
mod segment;
mod target;
mod whole;

use crate::change::Applied;
use crate::change::Instruction;
use crate::change::Scene;
use crate::change::apply;
use crate::change::decode_instructions;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::limit::DEPENDENCY_DEPTH_MAX;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The flag that all changes are made to: `on` is 0, `off` is 1, `beta` is 2.
fn definition() -> FlagDefinition {
    string_flag("f", &["on", "off", "beta"])
}

/// A flag whose variations have these keys, which are also their values.
fn string_flag(key: &str, variations: &[&str]) -> FlagDefinition {
    let variation = |key: &&str| json!({"key": key, "value": key});
    let variations: Vec<Value> = variations.iter().map(variation).collect();
    let body = json!({"key": key, "kind": "string", "variations": variations});
    FlagDefinition::decode(body).unwrap()
}

/// A configuration with these fields; otherwise it is off, serves `on` to everyone, and `off` while it is off.
fn config(fields: &Value) -> FlagConfig {
    let mut whole = json!({"fallthrough": {"variation": 0}, "offVariation": 1, "salt": "s"});
    for (name, value) in fields.as_object().unwrap() {
        whole[name.as_str()] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

fn decode(instructions: &Value) -> Result<Vec<Instruction>, Problems> {
    let mut problems = Problems::default();
    let body = json!({"instructions": instructions});
    let list = object(body, "", &mut problems, decode_instructions);
    problems.into_result(list.unwrap_or_default())
}

/// The environment around the flag `f`.
///
/// `b` and `c` are flags that ask for nothing, `back` asks for `f`, and `deep-0` is the start of a chain of flags that is as
/// long as it may be. There are the segments `staff` and `testers`.
struct Surroundings {
    flags: BTreeMap<FlagKey, FlagDefinition>,
    prerequisites: BTreeMap<FlagKey, Vec<FlagKey>>,
    segments: BTreeSet<SegmentKey>,
    server_sdk: ServerSdk,
}

impl Surroundings {
    fn new() -> Self {
        let deep: Vec<String> = (0..=DEPENDENCY_DEPTH_MAX).map(|i| format!("deep-{i}")).collect();
        let chain = deep.iter().zip(deep.iter().skip(1));
        let mut prerequisites: BTreeMap<FlagKey, Vec<FlagKey>> =
            chain.map(|(key, next)| (FlagKey::stored(key), vec![FlagKey::stored(next)])).collect();
        prerequisites.insert(FlagKey::stored("back"), vec![FlagKey::stored("f")]);
        let keys = ["b", "c", "back", "f"].into_iter().chain(deep.iter().map(String::as_str));
        Self {
            flags: keys
                .map(|key| (FlagKey::stored(key), string_flag(key, &["yes", "no"])))
                .collect(),
            prerequisites,
            segments: ["staff", "testers"].map(SegmentKey::stored).into(),
            server_sdk: ServerSdk::None,
        }
    }

    /// Reads instructions and applies them to the flag `f`; new rules are called `new-1`, `new-2`, ….
    fn change(&self, before: &FlagConfig, instructions: &Value) -> Result<Applied, Problems> {
        let scene = Scene {
            server_sdk: self.server_sdk,
            definition: &definition(),
            config: before,
            flags: &self.flags,
            prerequisites: &self.prerequisites,
            segments: &self.segments,
        };
        let mut n_rules = 0;
        apply(&scene, &decode(instructions)?, &mut || {
            n_rules += 1;
            format!("new-{n_rules}")
        })
    }
}

/// Applies instructions to a configuration with these fields.
fn change(before: &Value, instructions: &Value) -> Result<Applied, Problems> {
    Surroundings::new().change(&config(before), instructions)
}

/// Checks what instructions make of a configuration, and in which words they say so.
///
/// Returns the result for further checks.
#[track_caller]
fn assert_change(before: &Value, instructions: &Value, after: &Value, words: &[&str]) -> Applied {
    let applied = change(before, instructions).unwrap();
    assert_eq!(applied.config, config(after), "{instructions} on {before}");
    assert_eq!(applied.changes, words, "{instructions} on {before}");
    applied
}

/// Checks that instructions change nothing.
#[track_caller]
fn assert_unchanged(before: &Value, instructions: &Value) {
    assert_change(before, instructions, before, &[]);
}

/// The path and the code of each problem.
fn listed(problems: &Problems) -> Vec<(&str, &str)> {
    problems.as_slice().iter().map(|problem| (problem.path.as_str(), problem.code)).collect()
}

/// Checks that instructions are refused, for exactly these reasons.
#[track_caller]
fn assert_refused(before: &Value, instructions: &Value, expected: &[(&str, &str)]) {
    let problems = change(before, instructions).unwrap_err();
    assert_eq!(listed(&problems), expected, "{instructions}: {problems}");
    assert!(problems.as_slice().iter().all(|problem| !problem.detail.is_empty()));
}
