//! Individual targets: contexts that get a variation because of their key.

use crate::eval::tests::check;
use crate::eval::tests::served;
use serde_json::Value;
use serde_json::json;

fn target(kind: &str, values: &[&str], variation: i64) -> Value {
    json!({"contextKind": kind, "values": values, "variation": variation})
}

/// Checks which variation the targets choose; `None` if none of them does.
#[track_caller]
fn assert_target(fields: &Value, context: &Value, expected: Option<usize>) {
    let expected = expected.map_or(served(0, "FALLTHROUGH"), |index| served(index, "TARGET_MATCH"));
    assert_eq!(check(fields, context), expected, "{fields} {context}");
}

#[test]
fn without_context_targets_user_keys_are_looked_up_in_order() {
    let fields = json!({"targets": [
        {"values": ["u1", "u2"], "variation": 1},
        {"values": ["u2", "u3"], "variation": 2},
        {"values": [], "variation": 0},
    ]});
    for (context, expected) in [
        (json!({"key": "u1"}), Some(1)),
        (json!({"key": "u2"}), Some(1)),
        (json!({"key": "u3"}), Some(2)),
        (json!({"targetingKey": "u3"}), Some(2)),
        (json!({"key": "U1"}), None),
        (json!({"key": "u"}), None),
        (json!({"kind": "org", "key": "u1"}), None),
        (json!({"kind": "multi", "org": {"key": "u1"}, "user": {"key": "u3"}}), Some(2)),
        (json!({"kind": "multi", "org": {"key": "u1"}, "user": {"key": "x"}}), None),
        (json!({"plan": "u1"}), None),
        (json!(null), None),
    ] {
        assert_target(&fields, &context, expected);
    }
}

#[test]
fn a_kind_in_the_list_of_user_targets_is_ignored() {
    let fields = json!({"targets": [target("org", &["x"], 1)]});
    assert_target(&fields, &json!({"key": "x"}), Some(1));
    assert_target(&fields, &json!({"kind": "org", "key": "x"}), None);
}

#[test]
fn context_targets_decide_in_their_order() {
    let users = json!([{"values": ["u1"], "variation": 1}, {"values": ["u2"], "variation": 2}]);
    let both = json!({"kind": "multi", "user": {"key": "u2"}, "org": {"key": "o"}});
    for (context_targets, context, expected) in [
        // An entry of kind user without values stands for the users of the same variation.
        (json!([target("user", &[], 2), target("org", &["o"], 1)]), both.clone(), Some(2)),
        (json!([target("org", &["o"], 1), target("user", &[], 2)]), both.clone(), Some(1)),
        (json!([target("", &[], 2), target("org", &["o"], 1)]), both.clone(), Some(2)),
        // Without such an entry, the users of a variation are not looked at.
        (json!([target("user", &[], 1), target("org", &["o"], 1)]), both.clone(), Some(1)),
        (json!([target("org", &["x"], 1)]), json!({"key": "u1"}), None),
        (json!([target("user", &[], 1)]), json!({"key": "u2"}), None),
        (json!([target("user", &[], 0)]), json!({"key": "u1"}), None),
        // An entry of kind user with values is an entry like any other.
        (
            json!([target("user", &["u9"], 1), target("user", &[], 2)]),
            json!({"key": "u9"}),
            Some(1),
        ),
        (json!([target("", &["u9"], 1)]), json!({"key": "u9"}), Some(1)),
        (json!([target("", &["u9"], 1)]), json!({"key": "u1"}), None),
    ] {
        let fields = json!({"targets": users, "contextTargets": context_targets});
        assert_target(&fields, &context, expected);
    }
}

#[test]
fn a_placeholder_stands_for_the_first_entry_of_its_variation() {
    let fields = json!({
        "targets": [{"values": ["u1"], "variation": 1}, {"values": ["u2"], "variation": 1}],
        "contextTargets": [target("user", &[], 1)],
    });
    assert_target(&fields, &json!({"key": "u1"}), Some(1));
    assert_target(&fields, &json!({"key": "u2"}), None);
}

#[test]
fn other_kinds_are_matched_by_the_key_of_that_kind() {
    let fields = json!({"contextTargets": [target("org", &["a"], 1), target("device", &["a"], 2)]});
    for (context, expected) in [
        (json!({"kind": "org", "key": "a"}), Some(1)),
        (json!({"kind": "device", "key": "a"}), Some(2)),
        (json!({"key": "a"}), None),
        (json!({"kind": "multi", "device": {"key": "a"}, "org": {"key": "b"}}), Some(2)),
        (json!({"kind": "multi", "device": {"key": "a"}, "org": {"key": "a"}}), Some(1)),
        (json!({"kind": "multi", "device": {"key": "a"}, "org": {"name": "a"}}), Some(2)),
        (json!({"kind": "org", "name": "a"}), None),
    ] {
        assert_target(&fields, &context, expected);
    }
}

#[test]
fn targets_come_before_rules() {
    let fields = json!({
        "targets": [{"values": ["u"], "variation": 1}],
        "rules": [{"id": "r", "variation": 2}],
    });
    assert_eq!(check(&fields, &json!({"key": "u"})), served(1, "TARGET_MATCH"));
    assert_eq!(check(&fields, &json!({"key": "v"})), served(2, "RULE_MATCH 0 r"));
}
