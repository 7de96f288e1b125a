//! Explanations: that they say what happened, in the order in which it happened.
//!
//! That explaining changes no answer is a property, in `property`.

use crate::eval::Step;
use crate::eval::explain;
use crate::eval::tests::answer;
use crate::eval::tests::context;
use crate::eval::tests::flag_json;
use crate::eval::tests::naive::slot;
use crate::eval::tests::ruleset;
use crate::eval::tests::segment_json;
use crate::eval::tests::served;
use serde_json::Value;
use serde_json::json;

/// The steps of an evaluation of the flag `f` as JSON, of which the last says what the outcome says.
fn steps(flags: &[Value], segments: &[Value], context_json: &Value) -> Vec<Value> {
    let ruleset = ruleset(flags, segments);
    let context = context(context_json);
    let (outcome, steps) = explain(&ruleset, ruleset.flag("f").unwrap(), &context);
    let expected = Step::Result {
        flag: "f".to_owned(),
        variation: outcome.variation.map(|(index, _)| index),
        reason: outcome.reason.kind(),
    };
    assert_eq!(steps.last(), Some(&expected), "{:?}", answer(&outcome));
    steps.iter().map(|step| serde_json::to_value(step).unwrap()).collect()
}

#[test]
fn a_flag_that_is_off_is_two_steps() {
    let steps = steps(&[flag_json(&json!({"on": false}))], &[], &json!({"key": "u"}));
    let expected = [
        json!({"step": "flag", "flag": "f", "on": false}),
        json!({"step": "result", "flag": "f", "variation": 2, "reason": "OFF"}),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn prerequisites_are_told_inside_of_those_that_ask_for_them() {
    let wants = |key: &str, variation: u32| json!([{"key": key, "variation": variation}]);
    let flags = [
        flag_json(&json!({"prerequisites": wants("p", 1)})),
        flag_json(&json!({"key": "p", "prerequisites": wants("none", 0)})),
    ];
    let expected = [
        json!({"step": "flag", "flag": "f", "on": true}),
        json!({"step": "flag", "flag": "p", "on": true}),
        json!({
            "step": "prerequisite", "flag": "p", "key": "none", "wanted": 0, "served": null,
            "isFulfilled": false,
        }),
        json!({"step": "result", "flag": "p", "variation": 2, "reason": "PREREQUISITE_FAILED"}),
        json!({
            "step": "prerequisite", "flag": "f", "key": "p", "wanted": 1, "served": 2,
            "isFulfilled": false,
        }),
        json!({"step": "result", "flag": "f", "variation": 2, "reason": "PREREQUISITE_FAILED"}),
    ];
    assert_eq!(steps(&flags, &[], &json!({"key": "u"})), expected);
}

#[test]
fn targets_rules_and_clauses_are_told_up_to_the_one_that_decides() {
    let plan = |plan: &str, negate: bool| json!({"contextKind": "user", "attribute": "plan", "op": "in", "values": [plan], "negate": negate});
    let flag = flag_json(&json!({
        "targets": [{"values": ["x"], "variation": 2}],
        "rules": [
            {"id": "tin", "clauses": [plan("tin", false), plan("gold", false)], "variation": 2},
            {"id": "gold", "clauses": [plan("tin", true)], "variation": 1},
            {"id": "all", "variation": 0},
        ],
    }));
    let steps = steps(&[flag], &[], &json!({"key": "u", "plan": "gold"}));
    let clause = |rule: u32, negate: bool, is_match: bool| {
        json!({
            "step": "clause", "flag": "f", "rule": rule, "clause": 0, "contextKind": "user",
            "attribute": "plan", "found": "gold", "op": "in", "negate": negate, "isMatch": is_match,
        })
    };
    let expected = [
        json!({"step": "flag", "flag": "f", "on": true}),
        json!({
            "step": "target", "flag": "f", "contextKind": "user", "key": "u", "variation": 2,
            "isMatch": false,
        }),
        clause(0, false, false),
        json!({"step": "rule", "flag": "f", "rule": 0, "id": "tin", "isMatch": false}),
        clause(1, true, true),
        json!({"step": "rule", "flag": "f", "rule": 1, "id": "gold", "isMatch": true}),
        json!({"step": "result", "flag": "f", "variation": 1, "reason": "RULE_MATCH"}),
    ];
    assert_eq!(steps, expected);
}

#[test]
fn segments_are_told_before_the_clause_that_asks_for_them() {
    let asks = |key: &str| json!({"op": "segmentMatch", "values": ["none", key]});
    let rules = json!([{"id": "r", "clauses": [asks("a")], "variation": 1}]);
    let share = json!({"id": "r", "clauses": [asks("b")], "weight": 100_000});
    let segments = [
        segment_json(&json!({"key": "a", "rules": [share]})),
        segment_json(&json!({"key": "b", "included": ["u"]})),
    ];
    let steps = steps(&[flag_json(&json!({"rules": rules}))], &segments, &json!({"key": "u"}));
    let told: Vec<(&str, Option<&str>, &Value)> = steps
        .iter()
        .map(|step| {
            let result =
                ["isIn", "isMatch", "on", "variation"].iter().find_map(|name| step.get(name));
            (step["step"].as_str().unwrap(), step["segment"].as_str(), result.unwrap())
        })
        .collect();
    let (yes, no, one) = (json!(true), json!(false), json!(1));
    let expected = [
        ("flag", None, &yes),
        ("segment", Some("none"), &no),
        ("segment", Some("none"), &no),
        ("segment", Some("b"), &yes),
        ("clause", Some("a"), &yes),
        ("share", Some("a"), &yes),
        ("segment", Some("a"), &yes),
        ("clause", None, &yes),
        ("rule", None, &yes),
        ("result", None, &one),
    ];
    assert_eq!(told, expected);
    assert_eq!(steps[1]["because"], "there is no such segment");
    assert_eq!(steps[3]["because"], "its key is included");
    assert_eq!(steps[6]["because"], "rule 0 matches");
}

#[test]
fn a_rollout_tells_where_a_context_lies_and_in_which_slice() {
    let own = slot("f.s.", "k");
    let slices = json!([
        {"variation": 0, "weight": own}, {"variation": 1, "weight": 10}, {"variation": 2, "weight": 5},
    ]);
    let flag = flag_json(&json!({"fallthrough": {"rollout": {"variations": slices}}}));
    let steps = steps(&[flag], &[], &json!({"key": "k"}));
    let (from, to) = (f64::from(own), f64::from(own + 10));
    let expected = json!({
        "step": "rollout", "flag": "f", "contextKind": "user", "attribute": "key", "value": "k",
        "hash": "murmur3", "bucket": from, "slice": 1, "from": from, "to": to, "variation": 1,
    });
    assert_eq!(steps[1], expected);
    assert_eq!(steps.len(), 3);
}

#[test]
fn what_makes_no_sense_is_told_as_such() {
    let bad = json!({"contextKind": "user", "attribute": "//", "op": "in", "values": [1]});
    let flag = flag_json(&json!({"rules": [{"id": "r", "clauses": [bad], "variation": 1}]}));
    let steps = steps(&[flag], &[], &json!({"key": "u"}));
    assert_eq!(steps[1]["isMatch"], Value::Null);
    let expected = json!({"step": "result", "flag": "f", "variation": null, "reason": "ERROR"});
    assert_eq!(steps[2], expected);
    assert_eq!(steps.len(), 3);
}

/// A circle that doubles with every step would otherwise fill the memory.
#[test]
fn an_explanation_has_an_end() {
    let flag = |i: usize| {
        let next = json!({"key": format!("f{}", i + 1), "variation": 0});
        let key = if i == 0 { "f".to_owned() } else { format!("f{i}") };
        let next = if i < 12 { vec![next.clone(), next] } else { Vec::new() };
        flag_json(&json!({"key": key, "prerequisites": next}))
    };
    let flags: Vec<Value> = (0..=12).map(flag).collect();
    let ruleset = ruleset(&flags, &[]);
    let user = context(&json!({"key": "u"}));
    let (outcome, steps) = explain(&ruleset, ruleset.flag("f").unwrap(), &user);
    assert_eq!(answer(&outcome), served(0, "FALLTHROUGH"));
    assert!(steps.len() <= 1_001, "{}", steps.len());
    let is_result = matches!(steps.last(), Some(Step::Result { flag, .. }) if flag == "f");
    assert!(is_result, "{:?}", steps.last());
}
