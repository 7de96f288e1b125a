//! Reading instructions: everything that is wrong with their form, with its path.

use crate::change::decode_instructions;
use crate::change::tests::decode;
use crate::change::tests::listed;
use crate::model::context::Context;
use crate::model::decode::object;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::INSTRUCTIONS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::PATTERN_BYTES_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::problem::Problems;
use serde_json::Value;
use serde_json::json;

/// Checks that an instruction is refused, for exactly these reasons; paths are relative to it.
#[track_caller]
fn assert_problems(instruction: &Value, expected: &[(&str, &str)]) {
    // Behind a good instruction, so that the index is not always 0.
    let problems = decode(&json!([{"kind": "turnFlagOn"}, instruction])).unwrap_err();
    let expected: Vec<(String, &str)> = expected
        .iter()
        .map(|(path, code)| {
            let dot = if path.is_empty() { "" } else { "." };
            (format!("instructions[1]{dot}{path}"), *code)
        })
        .collect();
    let expected: Vec<(&str, &str)> =
        expected.iter().map(|(path, code)| (path.as_str(), *code)).collect();
    assert_eq!(listed(&problems), expected, "{instruction}: {problems}");
}

/// An instruction that adds a rule with this clause.
fn with_clause(clause: &Value) -> Value {
    json!({"kind": "addRule", "variation": "on", "clauses": [clause]})
}

/// Checks that a clause is refused, for exactly these reasons; paths are relative to it.
#[track_caller]
fn assert_clause_problems(clause: &Value, expected: &[(&str, &str)]) {
    let expected: Vec<(String, &str)> =
        expected.iter().map(|(path, code)| (format!("clauses[0].{path}"), *code)).collect();
    let expected: Vec<(&str, &str)> =
        expected.iter().map(|(path, code)| (path.as_str(), *code)).collect();
    assert_problems(&with_clause(clause), &expected);
}

#[test]
fn the_list_of_instructions_must_be_there() {
    let too_many = vec![json!({"kind": "turnFlagOn"}); INSTRUCTIONS_MAX + 1];
    for (body, expected) in [
        (json!({}), ("instructions", "required")),
        (json!({"instructions": null}), ("instructions", "required")),
        (json!({"instructions": {"kind": "turnFlagOn"}}), ("instructions", "wrong_type")),
        (json!({"instructions": too_many}), ("instructions", "too_many")),
        (json!({"instructions": [], "comments": ""}), ("comments", "unknown_field")),
    ] {
        let mut problems = Problems::default();
        object(body, "", &mut problems, decode_instructions);
        assert_eq!(listed(&problems), [expected]);
    }
    let just_enough = vec![json!({"kind": "turnFlagOn"}); INSTRUCTIONS_MAX];
    assert_eq!(decode(&json!(just_enough)).unwrap().len(), INSTRUCTIONS_MAX);
}

#[test]
fn an_instruction_needs_a_kind_that_is_known() {
    for (instruction, expected) in [
        (json!("turnFlagOn"), ("", "wrong_type")),
        (json!(null), ("", "wrong_type")),
        (json!(["kind"]), ("", "wrong_type")),
        (json!({}), ("kind", "required")),
        (json!({"variation": "on"}), ("kind", "required")),
        (json!({"kind": 7}), ("kind", "wrong_type")),
        (json!({"kind": "TurnFlagOn"}), ("kind", "unknown_instruction")),
        (json!({"kind": "updateName", "value": "x"}), ("kind", "unknown_instruction")),
        (json!({"kind": ""}), ("kind", "unknown_instruction")),
    ] {
        assert_problems(&instruction, &[expected]);
    }
}

#[test]
fn fields_that_are_unknown_missing_or_of_another_type_are_refused() {
    for (instruction, expected) in [
        (json!({"kind": "turnFlagOn", "on": true}), vec![("on", "unknown_field")]),
        (json!({"kind": "turnFlagOff", "Kind": 1}), vec![("Kind", "unknown_field")]),
        (json!({"kind": "updateOffVariation"}), vec![("variation", "required")]),
        (json!({"kind": "updateOffVariation", "variation": null}), vec![("variation", "required")]),
        (json!({"kind": "updateOffVariation", "variation": 1}), vec![("variation", "wrong_type")]),
        (
            json!({"kind": "updateOffVariation", "variation": "x".repeat(NAME_CHARS_MAX + 1)}),
            vec![("variation", "too_long")],
        ),
        (json!({"kind": "removeRule"}), vec![("ruleId", "required")]),
        (json!({"kind": "removeRule", "ruleId": ["r"]}), vec![("ruleId", "wrong_type")]),
        (
            json!({"kind": "removeRule", "ruleID": "r"}),
            vec![("ruleId", "required"), ("ruleID", "unknown_field")],
        ),
        (json!({"kind": "addTargets"}), vec![("variation", "required"), ("values", "required")]),
        (json!({"kind": "removeTargets", "variation": "on"}), vec![("values", "required")]),
        (
            json!({"kind": "addTargets", "variation": "on", "values": "u"}),
            vec![("values", "wrong_type")],
        ),
        (
            json!({"kind": "addTargets", "variation": "on", "values": ["u", 1, ""]}),
            vec![("values[1]", "wrong_type"), ("values[2]", "invalid_text")],
        ),
        (json!({"kind": "addPrerequisite"}), vec![("key", "required"), ("variation", "required")]),
        (
            json!({"kind": "addPrerequisite", "key": "a b", "variation": "on"}),
            vec![("key", "invalid_key")],
        ),
        (json!({"kind": "removePrerequisite"}), vec![("key", "required")]),
        (json!({"kind": "removePrerequisite", "key": 1}), vec![("key", "wrong_type")]),
        (
            json!({
                "kind": "addRule", "variation": "on", "description": 1, "beforeRuleId": 2,
                "clauses": {},
            }),
            vec![
                ("description", "wrong_type"),
                ("clauses", "wrong_type"),
                ("beforeRuleId", "wrong_type"),
            ],
        ),
    ] {
        assert_problems(&instruction, &expected);
    }
}

#[test]
fn either_a_variation_or_weights_are_served() {
    for kind in ["updateFallthroughVariationOrRollout", "addRule"] {
        for (serve, expected) in [
            (json!({}), vec![("variation", "required")]),
            (json!({"variation": null, "rolloutWeights": null}), vec![("variation", "required")]),
            (
                json!({"variation": "on", "rolloutWeights": {"on": 100_000}}),
                vec![("rolloutWeights", "conflicting_fields")],
            ),
            (json!({"variation": 0}), vec![("variation", "wrong_type")]),
            (json!({"rolloutWeights": [100_000]}), vec![("rolloutWeights", "wrong_type")]),
            (
                json!({"variation": "on", "rolloutContextKind": "org", "rolloutBucketBy": "id"}),
                vec![
                    ("rolloutContextKind", "conflicting_fields"),
                    ("rolloutBucketBy", "conflicting_fields"),
                ],
            ),
            (
                json!({"rolloutWeights": {"on": 100_000}, "rolloutContextKind": "a b",
                    "rolloutBucketBy": "/"}),
                vec![
                    ("rolloutContextKind", "invalid_kind"),
                    ("rolloutBucketBy", "invalid_attribute"),
                ],
            ),
        ] {
            let mut instruction = serve.clone();
            instruction["kind"] = json!(kind);
            assert_problems(&instruction, &expected);
        }
    }
}

#[test]
fn weights_are_whole_and_sum_to_the_whole() {
    let kind = "updateFallthroughVariationOrRollout";
    let weights = |weights: Value| json!({"kind": kind, "rolloutWeights": weights});
    for (list, expected) in [
        (json!({}), vec![("rolloutWeights", "weights_sum")]),
        (json!({"on": 100_000, "off": 1}), vec![("rolloutWeights", "weights_sum")]),
        (json!({"on": 50_000, "off": 49_999}), vec![("rolloutWeights", "weights_sum")]),
        (json!({"on": 0, "off": 0}), vec![("rolloutWeights", "weights_sum")]),
        (json!({"on": 100_001}), vec![("rolloutWeights.on", "invalid_weight")]),
        (
            json!({"on": -1, "off": 100_001}),
            vec![("rolloutWeights.on", "invalid_weight"), ("rolloutWeights.off", "invalid_weight")],
        ),
        (
            json!({"on": 50_000.5, "off": 49_999.5}),
            vec![("rolloutWeights.on", "invalid_weight"), ("rolloutWeights.off", "invalid_weight")],
        ),
        (json!({"on": 4_295_067_296_u64}), vec![("rolloutWeights.on", "invalid_weight")]),
        (json!({"on": "100000"}), vec![("rolloutWeights.on", "invalid_weight")]),
        (json!({"on": null, "off": 100_000}), vec![("rolloutWeights.on", "invalid_weight")]),
    ] {
        assert_problems(&weights(list), &expected);
    }
    // Many weights do not overflow their sum.
    let many: serde_json::Map<String, Value> =
        (0..50_000).map(|i| (format!("v{i}"), json!(100_000))).collect();
    assert_problems(&weights(Value::Object(many)), &[("rolloutWeights", "weights_sum")]);
}

#[test]
fn a_clause_is_checked_field_by_field() {
    for (clause, expected) in [
        (json!({"attribute": "x", "values": [1]}), vec![("op", "required")]),
        (json!({"attribute": "x", "op": 1, "values": [1]}), vec![("op", "wrong_type")]),
        (json!({"attribute": "x", "op": "is", "values": [1]}), vec![("op", "unknown_operator")]),
        (json!({"attribute": "x", "op": "In", "values": [1]}), vec![("op", "unknown_operator")]),
        (json!({"attribute": "x", "op": "in"}), vec![("values", "required")]),
        (json!({"attribute": "x", "op": "in", "values": []}), vec![("values", "required")]),
        (json!({"op": "segmentMatch", "values": []}), vec![("values", "required")]),
        (json!({"op": "in", "values": [1]}), vec![("attribute", "invalid_attribute")]),
        (
            json!({"attribute": "x", "op": "in", "values": [1], "negate": 1}),
            vec![("negate", "wrong_type")],
        ),
        (
            json!({"attribute": "x", "op": "in", "values": [1], "not": true}),
            vec![("not", "unknown_field")],
        ),
        (
            json!({
                "contextKind": "kind", "attribute": "/", "op": "matches", "values": ["(", 1, "a"],
            }),
            vec![
                ("contextKind", "invalid_kind"),
                ("attribute", "invalid_attribute"),
                ("values[0]", "invalid_pattern"),
                ("values[1]", "value_type"),
            ],
        ),
    ] {
        assert_clause_problems(&clause, &expected);
    }
    assert_problems(&with_clause(&json!("x")), &[("clauses[0]", "wrong_type")]);
}

#[test]
fn each_fault_of_a_clause_is_one_problem() {
    let too_many = vec![1; CLAUSE_VALUES_MAX + 1];
    for (clause, expected) in [
        (json!({"attribute": "x", "op": "in", "negate": true}), ("values", "required")),
        (json!({"attribute": "x", "op": "in", "values": 1}), ("values", "wrong_type")),
        (json!({"attribute": "x", "op": "in", "values": too_many}), ("values", "too_many")),
        (json!({"attribute": 1, "op": "in", "values": [1]}), ("attribute", "wrong_type")),
    ] {
        assert_clause_problems(&clause, &[expected]);
    }
}

#[test]
fn each_operator_takes_values_of_its_type() {
    let all = json!(["a", 1, 1.5, true, null, ["a"], {"a": 1}]);
    let (text, number) = (&[0][..], &[1, 2][..]);
    for (op, good) in [
        ("in", &[0, 1, 2, 3, 4, 5, 6][..]),
        ("startsWith", text),
        ("endsWith", text),
        ("contains", text),
        ("matches", text),
        ("lessThan", number),
        ("lessThanOrEqual", number),
        ("greaterThan", number),
        ("greaterThanOrEqual", number),
        ("segmentMatch", text),
    ] {
        for (i, value) in all.as_array().unwrap().iter().enumerate() {
            let instruction = with_clause(&json!({"attribute": "x", "op": op, "values": [value]}));
            if good.contains(&i) {
                assert!(decode(&json!([instruction])).is_ok(), "{op} {value}");
            } else {
                assert_problems(&instruction, &[("clauses[0].values[0]", "value_type")]);
            }
        }
    }
}

#[test]
fn attributes_and_kinds_must_be_possible() {
    for good in ["x", "a b", "a/b", "~", "/x", "/a/b~1c~0d", "key", "kind", "Zoë"] {
        let clause = json!({"attribute": good, "op": "in", "values": [1]});
        assert!(decode(&json!([with_clause(&clause)])).is_ok(), "{good}");
    }
    for bad in ["", "/", "//x", "/x/", "/a//b", "/~", "/~2"] {
        let clause = json!({"attribute": bad, "op": "in", "values": [1]});
        assert_clause_problems(&clause, &[("attribute", "invalid_attribute")]);
        // A segment is asked for without any attribute.
        let clause = json!({"attribute": bad, "op": "segmentMatch", "values": ["s"]});
        assert!(decode(&json!([with_clause(&clause)])).is_ok(), "{bad}");
    }
    for (kind, is_good) in [
        ("user", true),
        ("org", true),
        ("A-z_0.9", true),
        ("", false),
        ("multi", false),
        ("kind", false),
        ("a b", false),
        ("a/b", false),
        ("ä", false),
    ] {
        let clause = json!({"contextKind": kind, "attribute": "x", "op": "in", "values": [1]});
        assert_eq!(decode(&json!([with_clause(&clause)])).is_ok(), is_good, "{kind}");
        let targets =
            json!({"kind": "addTargets", "contextKind": kind, "variation": "on", "values": ["x"]});
        assert_eq!(decode(&json!([targets])).is_ok(), is_good, "{kind}");
    }
}

#[test]
fn a_pattern_must_build_within_its_bounds() {
    let longest = "a".repeat(PATTERN_BYTES_MAX);
    let nested = format!("{}a{}", "(".repeat(100), ")".repeat(100));
    for good in ["a", "^a+$", "(?i)zoë", longest.as_str(), ""] {
        let clause = json!({"attribute": "x", "op": "matches", "values": [good]});
        assert!(decode(&json!([with_clause(&clause)])).is_ok(), "{good}");
    }
    let too_long = format!("{longest}a");
    for (bad, code) in [
        ("(", "invalid_pattern"),
        ("[a", "invalid_pattern"),
        ("a(?=b)", "invalid_pattern"),
        ("(a)\\1", "invalid_pattern"),
        ("(a{1000}){1000}", "invalid_pattern"),
        (nested.as_str(), "invalid_pattern"),
        (too_long.as_str(), "pattern_too_large"),
        (r"^[\w.]{3,64}@", "pattern_too_large"),
    ] {
        let clause = json!({"attribute": "x", "op": "matches", "values": ["a", bad]});
        assert_clause_problems(&clause, &[("values[1]", code)]);
    }
}

#[test]
fn every_list_is_bounded() {
    let clause = json!({"attribute": "x", "op": "in", "values": [1]});
    let rule = |n: usize| {
        let clauses = vec![clause.clone(); n];
        json!({"kind": "addRule", "variation": "on", "clauses": clauses})
    };
    let targets =
        |n: usize| json!({"kind": "addTargets", "variation": "on", "values": vec!["u"; n]});
    let values =
        |n: usize| with_clause(&json!({"attribute": "x", "op": "in", "values": vec![1; n]}));
    let just_enough =
        json!([rule(CLAUSES_MAX), targets(TARGET_KEYS_MAX), values(CLAUSE_VALUES_MAX)]);
    assert_eq!(decode(&just_enough).unwrap().len(), 3);
    assert_problems(&rule(CLAUSES_MAX + 1), &[("clauses", "too_many")]);
    assert_problems(&targets(TARGET_KEYS_MAX + 1), &[("values", "too_many")]);
}

#[test]
fn a_key_may_be_a_target_if_a_context_can_have_it() {
    for (key, is_good) in [
        ("k".repeat(CONTEXT_KEY_CHARS_MAX), true),
        ("k".repeat(CONTEXT_KEY_CHARS_MAX + 1), false),
        ("ä".repeat(CONTEXT_KEY_CHARS_MAX), true),
        ("ä".repeat(CONTEXT_KEY_CHARS_MAX + 1), false),
    ] {
        let context = Context::decode(json!({"key": key})).unwrap();
        assert_eq!(context.check_limits(1).is_ok(), is_good, "{key}");
        let targets = json!({"kind": "addTargets", "variation": "on", "values": ["u", key]});
        if is_good {
            assert!(decode(&json!([targets])).is_ok(), "{key}");
        } else {
            assert_problems(&targets, &[("values[1]", "invalid_text")]);
        }
    }
}

#[test]
fn the_problems_of_all_instructions_are_found_at_once() {
    let instructions = json!([
        {"kind": "nope"},
        {"kind": "turnFlagOn"},
        {"kind": "turnFlagOn", "x": 1},
        {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": {"on": 1}},
        5,
        {"kind": "addRule", "clauses": [
            {"op": "in", "attribute": "x", "values": [1]},
            {"op": "y", "values": [1]},
        ]},
    ]);
    let expected = [
        ("instructions[0].kind", "unknown_instruction"),
        ("instructions[2].x", "unknown_field"),
        ("instructions[3].rolloutWeights", "weights_sum"),
        ("instructions[4]", "wrong_type"),
        ("instructions[5].clauses[1].op", "unknown_operator"),
        ("instructions[5].variation", "required"),
    ];
    assert_eq!(listed(&decode(&instructions).unwrap_err()), expected);
}
