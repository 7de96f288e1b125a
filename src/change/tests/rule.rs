//! Rules: adding and removing them.

use crate::change::tests::assert_change;
use crate::change::tests::assert_refused;
use crate::change::tests::change;
use crate::change::tests::config;
use crate::model::limit::RULES_MAX;
use serde_json::Value;
use serde_json::json;

/// A stored rule without clauses that serves `on`.
fn rule(id: &str) -> Value {
    json!({"id": id, "variation": 0})
}

#[test]
fn a_rule_is_added_last_or_before_another() {
    let before = json!({"rules": [rule("a"), rule("b")]});
    let add = json!({"kind": "addRule", "variation": "on"});
    let before_rule = |id: &str| {
        let mut instruction = add.clone();
        instruction["beforeRuleId"] = json!(id);
        instruction
    };
    for (instruction, ids, position) in [
        (add.clone(), ["a", "b", "new-1"], 3),
        (before_rule("a"), ["new-1", "a", "b"], 1),
        (before_rule("b"), ["a", "new-1", "b"], 2),
    ] {
        let after = json!({"rules": ids.map(rule)});
        let words = format!("added rule new-1 at position {position}");
        assert_change(&before, &json!([instruction]), &after, &[&words]);
    }
    // A rule may come before one that an earlier instruction added.
    let after = json!({"rules": [rule("a"), rule("b"), rule("new-2"), rule("new-1")]});
    let words = ["added rule new-1 at position 3", "added rule new-2 at position 3"];
    assert_change(&before, &json!([add, before_rule("new-1")]), &after, &words);
}

#[test]
fn a_rule_is_stored_as_it_was_described() {
    let instruction = json!({
        "kind": "addRule", "description": "Gold in Ulm", "variation": "beta",
        "clauses": [
            {"attribute": "plan", "op": "in", "values": ["gold", 1, true]},
            {"contextKind": "org", "attribute": "/address/city", "op": "startsWith",
                "values": ["Ulm"], "negate": true},
            {"op": "segmentMatch", "values": ["staff"]},
        ],
    });
    let clauses = json!([
        {"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold", 1, true]},
        {"contextKind": "org", "attribute": "/address/city", "op": "startsWith",
            "values": ["Ulm"], "negate": true},
        {"contextKind": "user", "attribute": "", "op": "segmentMatch", "values": ["staff"]},
    ]);
    let stored = json!({
        "id": "new-1", "description": "Gold in Ulm", "variation": 2, "clauses": clauses,
    });
    assert_change(
        &json!({}),
        &json!([instruction]),
        &json!({"rules": [stored]}),
        &["added rule `Gold in Ulm` at position 1"],
    );
}

#[test]
fn a_rule_is_removed_by_its_id() {
    let before = json!({"rules": [rule("a"), rule("b"), rule("c")]});
    for (id, ids, position) in [("a", ["b", "c"], 1), ("b", ["a", "c"], 2), ("c", ["a", "b"], 3)] {
        let instruction = json!({"kind": "removeRule", "ruleId": id});
        let after = json!({"rules": ids.map(rule)});
        let words = format!("removed rule {id} from position {position}");
        assert_change(&before, &json!([instruction]), &after, &[&words]);
        // A second time it is not there.
        let expected = [("instructions[1].ruleId", "unknown_rule")];
        assert_refused(&before, &json!([instruction, instruction]), &expected);
    }
}

#[test]
fn everything_wrong_with_a_rule_is_reported_at_once() {
    let clauses = json!([{"op": "segmentMatch", "values": ["nobody"]}]);
    for (serve, path) in [
        (json!({"variation": "none"}), "instructions[0].variation"),
        (json!({"rolloutWeights": {"none": 100_000}}), "instructions[0].rolloutWeights.none"),
    ] {
        let mut instruction = serve.clone();
        instruction["kind"] = json!("addRule");
        instruction["clauses"] = clauses.clone();
        instruction["beforeRuleId"] = json!("none");
        assert_refused(
            &json!({}),
            &json!([instruction]),
            &[
                ("instructions[0].clauses[0].values[0]", "unknown_segment"),
                (path, "unknown_variation"),
                ("instructions[0].beforeRuleId", "unknown_rule"),
            ],
        );
    }
}

#[test]
fn the_number_of_rules_is_bounded() {
    let rules: Vec<Value> = (1..RULES_MAX).map(|i| rule(&format!("r{i}"))).collect();
    let before = json!({"rules": rules});
    let add = json!({"kind": "addRule", "variation": "on"});
    let applied = change(&before, &json!([add])).unwrap();
    assert_eq!(applied.config.rules.len(), RULES_MAX);
    assert_refused(&before, &json!([add, add]), &[("instructions[1]", "too_many")]);
    let remove = json!({"kind": "removeRule", "ruleId": "r1"});
    let applied = change(&before, &json!([add, remove, add])).unwrap();
    assert_eq!(applied.config.rules.len(), RULES_MAX);
    assert_eq!(applied.config.rules[0], config(&before).rules[1]);
}
