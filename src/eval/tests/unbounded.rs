//! Segments whose keys LaunchDarkly keeps elsewhere: only their rules count, and the outcome says that something is missing.

use crate::eval::evaluate;
use crate::eval::tests::context;
use crate::eval::tests::flag_json;
use crate::eval::tests::ruleset;
use crate::eval::tests::segment_json;
use crate::model::launchdarkly::write_segment;
use serde_json::Value;
use serde_json::json;

/// Whether a context is in the unbounded segment `s`, which has these fields, and whether its keys were missed.
fn is_in(fields: &Value, context_json: &Value) -> (bool, bool) {
    let mut segment = segment_json(fields);
    segment["unbounded"] = json!(true);
    evaluated(segment, context_json)
}

fn evaluated(segment: Value, context_json: &Value) -> (bool, bool) {
    let clause = json!({"op": "segmentMatch", "values": ["s"]});
    let rules = json!([{"id": "r", "clauses": [clause], "variation": 1}]);
    let ruleset = ruleset(&[flag_json(&json!({"rules": rules}))], &[segment]);
    let context = context(context_json);
    let outcome = evaluate(&ruleset, ruleset.flag("f").unwrap(), &context);
    (outcome.reason.kind() == "RULE_MATCH", outcome.lacks_big_segments)
}

#[test]
fn only_the_rules_of_an_unbounded_segment_count() {
    let all = json!([{"id": "all"}]);
    let org = json!({"kind": "org", "key": "o"});
    let user = json!({"key": "u"});
    for (fields, context, expected) in [
        (json!({"generation": 1}), &user, (false, true)),
        (json!({"generation": 1, "rules": all}), &user, (true, true)),
        // Its lists are elsewhere, whatever stands here.
        (json!({"generation": 1, "included": ["u"]}), &user, (false, true)),
        (json!({"generation": 1, "excluded": ["u"], "rules": all}), &user, (true, true)),
        // Without a generation nobody knows what to ask for.
        (json!({"rules": all}), &user, (false, true)),
        (json!({"rules": all}), &org, (false, true)),
        // Nothing is missed of a context without the kind whose keys are kept.
        (json!({"generation": 1, "rules": all}), &org, (false, false)),
        (json!({"generation": 1, "rules": all, "unboundedContextKind": "org"}), &org, (true, true)),
        (
            json!({"generation": 1, "rules": all, "unboundedContextKind": "org"}),
            &user,
            (false, false),
        ),
    ] {
        assert_eq!(is_in(&fields, context), expected, "{fields} {context}");
        // SDKs that evaluate by themselves are sent what comes to the same, and nothing that they would look for elsewhere.
        let mut segment = segment_json(&fields);
        segment["unbounded"] = json!(true);
        let segment = serde_json::from_value(segment).unwrap();
        let mut sent: Value = serde_json::from_str(&write_segment(&segment, 1)).unwrap();
        assert_eq!((&sent["unbounded"], &sent["generation"]), (&json!(false), &json!(null)));
        sent["name"] = json!("s");
        assert_eq!(evaluated(sent, context), (expected.0, false), "{fields} {context}");
    }
}

#[test]
fn an_unbounded_segment_that_is_not_reached_lacks_nothing() {
    let segment = segment_json(&json!({"unbounded": true, "generation": 1}));
    let asks = json!({"op": "segmentMatch", "values": ["s"]});
    let is_x = json!({"attribute": "key", "op": "in", "values": ["x"]});
    let rules = json!([{"id": "r", "clauses": [is_x, asks], "variation": 1}]);
    let wants = json!([{"key": "p", "variation": 0}]);
    let flags = [
        flag_json(&json!({"rules": rules})),
        flag_json(&json!({"key": "p", "rules": [{"id": "r", "clauses": [asks], "variation": 1}]})),
        flag_json(&json!({"key": "q", "prerequisites": wants})),
        flag_json(&json!({"key": "off", "on": false, "prerequisites": wants})),
    ];
    let ruleset = ruleset(&flags, &[segment]);
    for (flag, key, expected) in [
        ("f", "u", false),
        ("f", "x", true),
        ("p", "u", true),
        ("q", "u", true),
        ("off", "u", false),
    ] {
        let outcome =
            evaluate(&ruleset, ruleset.flag(flag).unwrap(), &context(&json!({"key": key})));
        assert_eq!(outcome.lacks_big_segments, expected, "{flag} {key}");
    }
}
