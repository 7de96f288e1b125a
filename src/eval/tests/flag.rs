//! The order in which a flag decides, and what happens to data that makes no sense.

use crate::eval::RulesetChange;
use crate::eval::evaluate;
use crate::eval::tests::MALFORMED;
use crate::eval::tests::check;
use crate::eval::tests::compiled_flag;
use crate::eval::tests::context;
use crate::eval::tests::flag_json;
use crate::eval::tests::nothing;
use crate::eval::tests::ruleset;
use crate::eval::tests::served;
use crate::model::key::FlagKey;
use serde_json::Value;
use serde_json::json;
use serde_json::value::RawValue;

#[test]
fn a_flag_that_is_off_serves_its_off_variation_and_nothing_else_counts() {
    let targets = json!([{"values": ["u"], "variation": 1}]);
    for (fields, expected) in [
        (json!({}), served(2, "OFF")),
        (json!({"offVariation": 0}), served(0, "OFF")),
        (json!({"offVariation": null}), nothing("OFF")),
        (json!({"offVariation": 3}), nothing(MALFORMED)),
        (json!({"offVariation": -1}), nothing(MALFORMED)),
        (json!({"offVariation": i64::MAX}), nothing(MALFORMED)),
        (json!({"targets": targets}), served(2, "OFF")),
        (json!({"rules": [{"id": "r", "clauses": [{}], "variation": 1}]}), served(2, "OFF")),
        (json!({"prerequisites": [{"key": "f", "variation": 0}]}), served(2, "OFF")),
        (json!({"fallthrough": {}}), served(2, "OFF")),
    ] {
        let mut flag = fields.clone();
        flag["on"] = json!(false);
        assert_eq!(check(&flag, &json!({"key": "u"})), expected, "{fields}");
    }
}

#[test]
fn a_variation_out_of_range_is_malformed_wherever_it_is_chosen() {
    for index in [3, -1, i64::MAX, i64::MIN] {
        let rollout = json!({"variations": [{"variation": index, "weight": 100_000}]});
        for fields in [
            json!({"fallthrough": {"variation": index}}),
            json!({"fallthrough": {"rollout": rollout}}),
            json!({"targets": [{"values": ["u"], "variation": index}]}),
            json!({"contextTargets": [{"values": ["u"], "variation": index}]}),
            json!({"rules": [{"id": "r", "variation": index}]}),
            json!({"rules": [{"id": "r", "rollout": rollout}]}),
            json!({"on": false, "offVariation": index}),
            json!({"prerequisites": [{"key": "none", "variation": 0}], "offVariation": index}),
        ] {
            let found = check(&fields, &json!({"key": "u"}));
            assert_eq!(found, nothing(MALFORMED), "{fields}");
        }
    }
}

#[test]
fn a_variation_out_of_range_that_is_not_chosen_does_no_harm() {
    let fields = json!({
        "offVariation": 9,
        "targets": [{"values": ["other"], "variation": 9}],
        "rules": [{"id": "r", "clauses": [{"attribute": "x", "op": "in"}], "variation": 9}],
        "fallthrough": {"rollout": {"variations": [
            {"variation": 9, "weight": 0}, {"variation": 1, "weight": 100_000},
        ]}},
    });
    assert_eq!(check(&fields, &json!({"key": "u"})), served(1, "FALLTHROUGH"));
}

#[test]
fn a_variation_wins_over_a_rollout_and_neither_is_malformed() {
    let rollout = json!({"variations": [{"variation": 1, "weight": 100_000}]});
    for (serve, index) in [
        (json!({"variation": 0}), Some(0)),
        (json!({"rollout": rollout}), Some(1)),
        (json!({"variation": 0, "rollout": rollout}), Some(0)),
        (json!({"variation": 0, "rollout": {"variations": []}}), Some(0)),
        (json!({"variation": null, "rollout": rollout}), Some(1)),
        (json!({}), None),
        (json!({"variation": null, "rollout": null}), None),
        (json!({"rollout": {"variations": []}}), None),
        (json!({"rollout": {}}), None),
    ] {
        let mut rule = serve.clone();
        rule["id"] = json!("r");
        for (fields, reason) in [
            (json!({"fallthrough": serve}), "FALLTHROUGH"),
            (json!({"rules": [rule]}), "RULE_MATCH 0 r"),
        ] {
            let expected = index.map_or(nothing(MALFORMED), |index| served(index, reason));
            assert_eq!(check(&fields, &json!({"key": "u"})), expected, "{fields}");
        }
    }
}

#[test]
fn the_first_rule_whose_clauses_all_match_decides() {
    let plan = |plan: &str| json!({"attribute": "plan", "op": "in", "values": [plan]});
    let big = json!({"attribute": "size", "op": "greaterThan", "values": [10]});
    let fields = json!({"rules": [
        {"id": "both", "clauses": [plan("gold"), big], "variation": 2},
        {"id": "gold", "clauses": [plan("gold")], "variation": 1},
        {"id": "again", "clauses": [plan("gold")], "variation": 2},
        {"id": "tin", "clauses": [plan("tin")], "variation": 0},
    ]});
    for (context, expected) in [
        (json!({"key": "u", "plan": "gold", "size": 11}), served(2, "RULE_MATCH 0 both")),
        (json!({"key": "u", "plan": "gold", "size": 10}), served(1, "RULE_MATCH 1 gold")),
        (json!({"key": "u", "plan": "gold"}), served(1, "RULE_MATCH 1 gold")),
        (json!({"key": "u", "plan": "tin"}), served(0, "RULE_MATCH 3 tin")),
        (json!({"key": "u", "plan": "lead"}), served(0, "FALLTHROUGH")),
        (json!({"plan": "gold"}), served(1, "RULE_MATCH 1 gold")),
        (json!(null), served(0, "FALLTHROUGH")),
    ] {
        assert_eq!(check(&fields, &context), expected, "{context}");
    }
}

#[test]
fn a_rule_without_clauses_matches_everyone() {
    let fields = json!({"rules": [{"id": "all", "variation": 1}, {"id": "never", "variation": 2}]});
    for context in [json!({"key": "u"}), json!({"kind": "org", "key": "o"}), json!({}), json!(null)]
    {
        assert_eq!(check(&fields, &context), served(1, "RULE_MATCH 0 all"), "{context}");
    }
}

#[test]
fn a_bad_clause_makes_the_flag_malformed_only_when_it_is_reached() {
    let bad = json!({"contextKind": "user", "attribute": "//", "op": "in", "values": [1]});
    let x = |x: i64| json!({"attribute": "x", "op": "in", "values": [x]});
    for (rules, expected) in [
        (json!([{"id": "r", "clauses": [bad]}]), nothing(MALFORMED)),
        // Later rules would match, but the flag is malformed as a whole.
        (json!([{"id": "r", "clauses": [bad]}, {"id": "s", "variation": 1}]), nothing(MALFORMED)),
        (json!([{"id": "r", "clauses": [x(1), bad]}]), nothing(MALFORMED)),
        (json!([{"id": "r", "clauses": [x(2), bad]}]), served(0, "FALLTHROUGH")),
        (
            json!([{"id": "r", "variation": 1}, {"id": "s", "clauses": [bad]}]),
            served(1, "RULE_MATCH 0 r"),
        ),
        // What a rule serves counts only if it matches.
        (json!([{"id": "r", "clauses": [x(2)]}]), served(0, "FALLTHROUGH")),
        (json!([{"id": "r", "clauses": [x(1)]}]), nothing(MALFORMED)),
    ] {
        let found = check(&json!({"rules": rules}), &json!({"key": "u", "x": 1}));
        assert_eq!(found, expected, "{rules}");
    }
    let targeted = json!({
        "targets": [{"values": ["u"], "variation": 1}],
        "rules": [{"id": "r", "clauses": [bad]}],
    });
    assert_eq!(check(&targeted, &json!({"key": "u"})), served(1, "TARGET_MATCH"));
}

#[test]
fn values_keep_their_written_form() {
    for written in ["true", "\"Zoë\"", "10", "10.0", "0.1", "{\"b\":[1,2.5],\"a\":null}", "null"] {
        let value: Value = serde_json::from_str(written).unwrap();
        let variations = json!([{"key": "v", "value": value}]);
        let ruleset = ruleset(&[flag_json(&json!({"variations": variations}))], &[]);
        let context = context(&json!({"key": "u"}));
        let outcome = evaluate(&ruleset, ruleset.flag("f").unwrap(), &context);
        assert_eq!(outcome.value().map(RawValue::get), Some(written));
        assert_eq!(outcome.variation.map(|(_, variation)| variation.key.as_str()), Some("v"));
    }
}

#[test]
fn only_a_flag_that_serves_everyone_alike_is_static() {
    let rollout = json!({"variations": [{"variation": 1, "weight": 100_000}]});
    for (fields, is_static) in [
        (json!({}), true),
        (json!({"fallthrough": {"rollout": rollout}}), false),
        (json!({"fallthrough": {}}), false),
        (json!({"rules": [{"id": "r", "variation": 0}]}), false),
        (json!({"prerequisites": [{"key": "other", "variation": 0}]}), false),
        (json!({"targets": [{"values": ["u"], "variation": 0}]}), false),
        (
            json!({"contextTargets": [{"contextKind": "org", "values": ["o"], "variation": 0}]}),
            false,
        ),
    ] {
        assert_eq!(compiled_flag(&flag_json(&fields)).is_static, is_static, "{fields}");
    }
}

#[test]
fn a_changed_ruleset_leaves_the_old_one_as_it_was() {
    let named = |key: &str, variation: i64| {
        flag_json(&json!({"key": key, "fallthrough": {"variation": variation}}))
    };
    let old = ruleset(&[named("c", 0), named("a", 0)], &[]);
    let gone = FlagKey::stored("c");
    let changed = [named("a", 1), named("b", 2)].map(|stored| compiled_flag(&stored));
    let changed = changed.into_iter().map(|flag| (flag.key.clone(), Some(flag)));
    let flags = changed.chain([(gone, None)]).collect();
    let new = old.with(1, 2, &RulesetChange { flags, segments: Vec::new() });
    let context = context(&json!({"key": "u"}));
    for (ruleset, expected) in
        [(&old, vec![("a", Some(0)), ("c", Some(0))]), (&new, vec![("a", Some(1)), ("b", Some(2))])]
    {
        let index = |flag| evaluate(ruleset, flag, &context).variation.map(|(index, _)| index);
        let found: Vec<_> = ruleset.flags().map(|flag| (flag.key.as_str(), index(flag))).collect();
        assert_eq!(found, expected);
        assert_eq!(ruleset.flags().count(), expected.len());
    }
    assert_eq!((new.epoch, new.version), (1, 2));
    assert!(new.flag("c").is_none() && old.flag("b").is_none());
}
