//! Segments: who is in one, and clauses that ask for it.

use crate::eval::tests::matches_with;
use crate::eval::tests::naive::slot;
use crate::eval::tests::segment_json;
use crate::model::rule::WEIGHT_TOTAL;
use serde_json::Value;
use serde_json::json;

/// A clause that asks for segments.
fn asks(keys: &[&str]) -> Value {
    json!({"op": "segmentMatch", "values": keys})
}

/// A rule of a segment that asks for other segments.
fn rule_asking(keys: &[&str]) -> Value {
    json!({"id": "r", "clauses": [asks(keys)]})
}

/// Whether a context is in the segment `s`, which has these fields; `None` if it makes the flag malformed.
fn is_in(fields: &Value, context: &Value) -> Option<bool> {
    matches_with(&[segment_json(fields)], &asks(&["s"]), context)
}

#[test]
fn lists_decide_in_order_and_before_rules() {
    let all = json!([{"id": "all"}]);
    let org = |key: &str| json!([{"contextKind": "org", "values": [key]}]);
    let both = json!({"kind": "multi", "user": {"key": "u"}, "org": {"key": "o"}});
    for (fields, expected) in [
        (json!({}), false),
        (json!({"included": ["u"]}), true),
        (json!({"included": ["u"], "excluded": ["u"]}), true),
        (json!({"included": ["x"], "excluded": ["u"], "rules": all}), false),
        (json!({"included": ["o"]}), false),
        (json!({"excluded": ["o"], "rules": all}), true),
        (json!({"includedContexts": org("o")}), true),
        (json!({"includedContexts": org("u")}), false),
        // All that is included comes before anything that is excluded.
        (json!({"includedContexts": org("o"), "excluded": ["u"]}), true),
        (json!({"includedContexts": org("o"), "excludedContexts": org("o")}), true),
        (json!({"included": ["u"], "excludedContexts": org("o")}), true),
        (json!({"excludedContexts": org("o"), "rules": all}), false),
        (json!({"excludedContexts": org("x"), "rules": all}), true),
        (json!({"excluded": ["u"], "rules": all}), false),
        (json!({"rules": all}), true),
    ] {
        assert_eq!(is_in(&fields, &both), Some(expected), "{fields}");
    }
}

#[test]
fn lists_hold_keys_of_one_kind_each() {
    let fields = json!({
        "included": ["a"],
        "includedContexts": [
            {"contextKind": "org", "values": ["b", "c"]},
            {"contextKind": "device", "values": ["d"]},
        ],
    });
    for (context, expected) in [
        (json!({"key": "a"}), true),
        (json!({"key": "A"}), false),
        (json!({"key": "b"}), false),
        (json!({"kind": "org", "key": "a"}), false),
        (json!({"kind": "org", "key": "c"}), true),
        (json!({"kind": "device", "key": "c"}), false),
        (json!({"kind": "device", "key": "d"}), true),
        (json!({"kind": "multi", "org": {"key": "x"}, "device": {"key": "d"}}), true),
        (json!({"kind": "multi", "org": {"key": "d"}, "device": {"key": "b"}}), false),
        (json!({"name": "a"}), false),
        (json!(null), false),
    ] {
        assert_eq!(is_in(&fields, &context), Some(expected), "{context}");
    }
}

#[test]
fn any_rule_whose_clauses_all_match_lets_a_context_in() {
    let clause = |name: &str| json!({"attribute": name, "op": "in", "values": [1]});
    let fields = json!({"rules": [
        {"id": "r1", "clauses": [clause("a"), clause("b")]},
        {"id": "r2", "clauses": [clause("c")]},
    ]});
    for (context, expected) in [
        (json!({"key": "u", "a": 1, "b": 1}), true),
        (json!({"key": "u", "a": 1}), false),
        (json!({"key": "u", "c": 1}), true),
        (json!({"key": "u", "a": 1, "c": 1}), true),
        (json!({"key": "u"}), false),
        (json!({"c": 1}), true),
    ] {
        assert_eq!(is_in(&fields, &context), Some(expected), "{context}");
    }
    let everyone = json!({"rules": [{"id": "r"}]});
    for context in [json!({"key": "u"}), json!({"kind": "org", "key": "o"}), json!(null)] {
        assert_eq!(is_in(&everyone, &context), Some(true), "{context}");
    }
}

#[test]
fn a_weight_lets_in_the_slots_below_it() {
    let edge = slot("beta-testers.seg-salt.", "user-42");
    let user = json!({"key": "user-42"});
    for (weight, expected) in
        [(0, false), (edge, false), (edge + 1, true), (WEIGHT_TOTAL, true), (u32::MAX, true)]
    {
        let segment = json!({
            "key": "beta-testers", "name": "b", "salt": "seg-salt",
            "rules": [{"id": "r", "weight": weight}],
        });
        let found = matches_with(&[segment], &asks(&["beta-testers"]), &user);
        assert_eq!(found, Some(expected), "{weight}");
    }
    let never = json!({"attribute": "key", "op": "in", "values": ["x"]});
    let fields = json!({"rules": [{"id": "r", "clauses": [never], "weight": 100_000}]});
    assert_eq!(is_in(&fields, &user), Some(false));
    // A context that lies outside the share of one rule may be let in by the next.
    let fields = json!({"rules": [{"id": "r1", "weight": 0}, {"id": "r2", "weight": 100_000}]});
    assert_eq!(is_in(&fields, &user), Some(true));
}

#[test]
fn a_weight_counts_by_the_attribute_that_is_named() {
    let edge = |value: &str| slot("s.salt.", value);
    for (names, context, value) in [
        (json!({}), json!({"key": "k"}), "k"),
        (json!({"bucketBy": "key"}), json!({"key": "k"}), "k"),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": "gold"}), "gold"),
        (json!({"bucketBy": "n"}), json!({"key": "k", "n": 98_765}), "98765"),
        (json!({"bucketBy": "n"}), json!({"key": "k", "n": 98_765.0}), "98765"),
        // Without a kind the name is plain.
        (json!({"bucketBy": "/a/b"}), json!({"key": "k", "/a/b": "x", "a": {"b": "y"}}), "x"),
        (
            json!({"bucketBy": "/a/b", "rolloutContextKind": "user"}),
            json!({"key": "k", "/a/b": "x", "a": {"b": "y"}}),
            "y",
        ),
        (json!({"rolloutContextKind": "org"}), json!({"kind": "org", "key": "o"}), "o"),
        (
            json!({"rolloutContextKind": "org"}),
            json!({"kind": "multi", "org": {"key": "o"}, "user": {"key": "k"}}),
            "o",
        ),
    ] {
        for (weight, expected) in [(edge(value), false), (edge(value) + 1, true)] {
            let mut rule = names.clone();
            rule["id"] = json!("r");
            rule["weight"] = json!(weight);
            let found = is_in(&json!({"rules": [rule]}), &context);
            assert_eq!(found, Some(expected), "{rule} {context}");
        }
    }
}

#[test]
fn a_value_that_cannot_be_placed_lies_in_the_first_slot() {
    for (context, bucket_by) in [
        (json!({"key": "k"}), "plan"),
        (json!({"key": "k", "plan": null}), "plan"),
        (json!({"key": "k", "plan": true}), "plan"),
        (json!({"key": "k", "plan": 1.5}), "plan"),
        (json!({"key": "k", "plan": ["x"]}), "plan"),
        (json!({"key": "k", "plan": {"x": 1}}), "plan"),
        (json!({"name": "keyless"}), ""),
    ] {
        for (weight, expected) in [(0, false), (1, true)] {
            let rule = json!({"id": "r", "weight": weight, "bucketBy": bucket_by});
            let found = is_in(&json!({"rules": [rule]}), &context);
            assert_eq!(found, Some(expected), "{rule} {context}");
        }
    }
}

#[test]
fn a_share_of_a_kind_that_the_context_lacks_is_nobody() {
    let fields =
        |kind: &str| json!({"rules": [{"id": "r", "weight": 100_000, "rolloutContextKind": kind}]});
    for (kind, context) in [
        ("org", json!({"key": "k"})),
        ("", json!({"kind": "org", "key": "o"})),
        ("user", json!({"kind": "org", "key": "o"})),
        ("", json!(null)),
    ] {
        assert_eq!(is_in(&fields(kind), &context), Some(false), "{kind} {context}");
    }
}

#[test]
fn a_bad_reference_in_a_segment_makes_the_flag_malformed_when_it_is_reached() {
    let bad = json!({"contextKind": "user", "attribute": "/~", "op": "in", "values": [1]});
    let never = json!({"attribute": "key", "op": "in", "values": ["x"]});
    let share = json!({"id": "r", "weight": 1, "bucketBy": "//", "rolloutContextKind": "org"});
    let mut unreached = share.clone();
    unreached["clauses"] = json!([never]);
    for (fields, expected) in [
        (json!({"rules": [{"id": "r", "clauses": [bad]}]}), None),
        (json!({"rules": [{"id": "r", "clauses": [never, bad]}]}), Some(false)),
        (json!({"rules": [{"id": "r", "clauses": [bad]}], "included": ["u"]}), Some(true)),
        (json!({"rules": [{"id": "r", "clauses": [bad]}], "excluded": ["u"]}), Some(false)),
        (json!({"rules": [{"id": "q"}, {"id": "r", "clauses": [bad]}]}), Some(true)),
        (json!({"rules": [share]}), None),
        (json!({"rules": [unreached]}), Some(false)),
    ] {
        assert_eq!(is_in(&fields, &json!({"key": "u"})), expected, "{fields}");
    }
}

#[test]
fn a_clause_asks_for_any_of_its_segments() {
    let segments = [
        segment_json(&json!({"key": "s1", "included": ["u"]})),
        segment_json(&json!({"key": "s2", "excluded": ["u"]})),
    ];
    for (values, expected) in [
        (json!(["s1"]), true),
        (json!(["s2"]), false),
        (json!(["s2", "s1"]), true),
        // Unknown segments and values that are no keys are passed over.
        (json!(["unknown"]), false),
        (json!(["unknown", "s1"]), true),
        (json!([1, null, ["s1"], "s1"]), true),
        (json!([1, null, ["s1"]]), false),
        (json!([]), false),
    ] {
        for negate in [false, true] {
            // The attribute means nothing here, not even if it is no reference.
            for (kind, attribute) in [("", ""), ("user", "//"), ("org", "plan")] {
                let clause = json!({
                    "contextKind": kind, "attribute": attribute, "op": "segmentMatch",
                    "values": values, "negate": negate,
                });
                let found = matches_with(&segments, &clause, &json!({"key": "u"}));
                assert_eq!(found, Some(expected != negate), "{clause}");
            }
        }
    }
}

#[test]
fn segments_may_ask_for_segments() {
    let segments = [
        segment_json(&json!({"key": "a", "rules": [rule_asking(&["b"]), rule_asking(&["c"])]})),
        segment_json(&json!({"key": "b", "rules": [rule_asking(&["d"])]})),
        segment_json(&json!({"key": "c", "rules": [rule_asking(&["d"])], "excluded": ["v"]})),
        segment_json(&json!({"key": "d", "included": ["u"]})),
        segment_json(&json!({"key": "not-d", "rules": [
            {"id": "r", "clauses": [{"op": "segmentMatch", "values": ["d"], "negate": true}]},
        ]})),
    ];
    for (key, of_u, of_v) in [("a", true, false), ("d", true, false), ("not-d", false, true)] {
        for (user, expected) in [("u", of_u), ("v", of_v)] {
            let found = matches_with(&segments, &asks(&[key]), &json!({"key": user}));
            assert_eq!(found, Some(expected), "{key} {user}");
        }
    }
    // The same segment twice, one after the other, is no circle.
    let found = matches_with(&segments, &asks(&["d", "a", "d", "a"]), &json!({"key": "v"}));
    assert_eq!(found, Some(false));
}

#[test]
fn a_circle_of_segments_is_malformed_when_it_is_reached() {
    let asking = |key: &str, of: &str| {
        segment_json(&json!({"key": key, "included": [key], "rules": [rule_asking(&[of])]}))
    };
    let own = [asking("a", "a")];
    let two = [asking("a", "b"), asking("b", "a")];
    let inner = [asking("a", "b"), asking("b", "c"), asking("c", "b")];
    for (segments, user, expected) in [
        (&own[..], "u", None),
        (&own[..], "a", Some(true)),
        (&two[..], "u", None),
        (&two[..], "b", Some(true)),
        (&inner[..], "u", None),
        (&inner[..], "c", Some(true)),
    ] {
        let found = matches_with(segments, &asks(&["a"]), &json!({"key": user}));
        assert_eq!(found, expected, "{user} in {segments:?}");
    }
    // The members of an earlier segment never reach it.
    let clause = asks(&["c", "a"]);
    assert_eq!(matches_with(&inner, &clause, &json!({"key": "c"})), Some(true));
}
