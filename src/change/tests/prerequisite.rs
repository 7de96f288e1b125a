//! Prerequisites: adding and removing them, without circles.

use crate::change::tests::Surroundings;
use crate::change::tests::assert_change;
use crate::change::tests::assert_refused;
use crate::change::tests::assert_unchanged;
use crate::change::tests::config;
use crate::change::tests::listed;
use crate::change::tests::string_flag;
use crate::model::key::FlagKey;
use crate::model::limit::PREREQUISITES_MAX;
use serde_json::Value;
use serde_json::json;

fn add(key: &str, variation: &str) -> Value {
    json!({"kind": "addPrerequisite", "key": key, "variation": variation})
}

fn remove(key: &str) -> Value {
    json!({"kind": "removePrerequisite", "key": key})
}

/// The field `prerequisites` from pairs of key and variation.
fn wants(pairs: &[(&str, i64)]) -> Value {
    let each = |(key, variation): &(&str, i64)| json!({"key": key, "variation": variation});
    json!({"prerequisites": pairs.iter().map(each).collect::<Vec<_>>()})
}

#[test]
fn prerequisites_are_added_changed_and_removed() {
    for (before, instruction, after, words) in [
        (
            wants(&[]),
            add("b", "yes"),
            wants(&[("b", 0)]),
            "added the prerequisite `b` serving `yes`",
        ),
        (
            wants(&[("c", 0)]),
            add("b", "no"),
            wants(&[("c", 0), ("b", 1)]),
            "added the prerequisite `b` serving `no`",
        ),
        // The same flag with another variation keeps its place.
        (
            wants(&[("b", 0), ("c", 0)]),
            add("b", "no"),
            wants(&[("b", 1), ("c", 0)]),
            "added the prerequisite `b` serving `no`",
        ),
        (
            wants(&[("b", 0), ("c", 1)]),
            remove("b"),
            wants(&[("c", 1)]),
            "removed the prerequisite `b`",
        ),
    ] {
        assert_change(&before, &json!([instruction]), &after, &[words]);
    }
    assert_unchanged(&wants(&[("b", 1)]), &json!([add("b", "no")]));
}

#[test]
fn a_prerequisite_that_does_not_exist_is_refused() {
    for (before, instruction, path, code) in [
        (wants(&[]), add("none", "yes"), "instructions[0].key", "unknown_flag"),
        (wants(&[]), add("b", "on"), "instructions[0].variation", "unknown_variation"),
        (wants(&[("b", 0)]), add("b", ""), "instructions[0].variation", "unknown_variation"),
        (wants(&[("c", 0)]), remove("b"), "instructions[0].key", "unknown_prerequisite"),
    ] {
        assert_refused(&before, &json!([instruction]), &[(path, code)]);
    }
}

#[test]
fn a_circle_is_refused() {
    for key in ["f", "back"] {
        let expected = [("instructions[0].key", "cycle")];
        assert_refused(&json!({}), &json!([add(key, "yes")]), &expected);
    }
    let problems = Surroundings::new().change(&config(&json!({})), &json!([add("back", "yes")]));
    let detail = problems.unwrap_err().as_slice()[0].detail.clone();
    assert!(detail.contains("back → f → back"), "{detail}");
}

#[test]
fn a_circle_is_the_problem_of_the_instruction_that_closes_it() {
    let instructions = json!([add("b", "yes"), add("back", "yes"), add("c", "yes")]);
    assert_refused(&json!({}), &instructions, &[("instructions[1].key", "cycle")]);
}

#[test]
fn a_chain_that_would_be_too_long_is_refused() {
    // `f` would be one more than the chain may have, or `back`, which asks for it, would.
    for key in ["deep-0", "deep-1"] {
        let expected = [("instructions[0].key", "too_deep")];
        assert_refused(&json!({}), &json!([add(key, "yes")]), &expected);
    }
    assert_change(
        &json!({}),
        &json!([add("deep-2", "yes")]),
        &wants(&[("deep-2", 0)]),
        &["added the prerequisite `deep-2` serving `yes`"],
    );
}

#[test]
fn the_number_of_prerequisites_is_bounded() {
    let mut surroundings = Surroundings::new();
    let keys: Vec<String> = (0..=PREREQUISITES_MAX).map(|i| format!("p{i}")).collect();
    for key in &keys {
        surroundings.flags.insert(FlagKey::stored(key), string_flag(key, &["yes", "no"]));
    }
    let all: Vec<Value> = keys.iter().map(|key| add(key, "yes")).collect();
    let problems = surroundings.change(&config(&json!({})), &json!(all)).unwrap_err();
    let last = format!("instructions[{PREREQUISITES_MAX}].key");
    assert_eq!(listed(&problems), [(last.as_str(), "too_many")]);
    let full = &all[..PREREQUISITES_MAX];
    let applied = surroundings.change(&config(&json!({})), &json!(full)).unwrap();
    assert_eq!(applied.config.prerequisites.len(), PREREQUISITES_MAX);
    // A full flag can still change what it asks for, and swap.
    let swap = json!([add("p1", "no"), remove("p0"), add("b", "yes")]);
    let applied = surroundings.change(&applied.config, &swap).unwrap();
    assert_eq!(applied.config.prerequisites.len(), PREREQUISITES_MAX);
}
