//! Imports: what is refused alone, and what makes no sense in places and is kept with a note.

use crate::change::tests::import::World;
use crate::change::tests::import::clause;
use crate::change::tests::import::flag;
use crate::change::tests::import::notes;
use crate::change::tests::import::rule;
use crate::change::tests::import::with_flag;
use crate::change::tests::import::with_segment;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::PATTERN_BYTES_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::limit::VALUE_BYTES_MAX;
use crate::model::limit::VARIATIONS_MAX;
use serde_json::Value;
use serde_json::json;

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_stored_is_refused_alone() {
    let many = |n: usize, item: Value| Value::Array(vec![item; n]);
    let texts = |n: usize| Value::Array((0..n).map(|i| json!(i.to_string())).collect());
    let of_rule = |clause: Value| json!({"rules": [rule(&clause)]});
    for (fields, path, code) in [
        (json!({"variations": []}), "variations", "required"),
        (json!({"variations": 7}), "", "unreadable"),
        (json!({"salt": 7}), "", "unreadable"),
        (json!({"key": "g"}), "key", "key_differs"),
        (json!({"variations": many(VARIATIONS_MAX + 1, json!(1))}), "variations", "too_many"),
        (json!({"variations": ["x".repeat(VALUE_BYTES_MAX)]}), "variations[0]", "too_long"),
        (json!({"rules": many(RULES_MAX + 1, json!({"variation": 0}))}), "rules", "too_many"),
        (
            json!({"rules": [{"variation": 0, "clauses": many(CLAUSES_MAX + 1, clause("in", &json!([1])))}]}),
            "rules[0].clauses",
            "too_many",
        ),
        (
            of_rule(clause("in", &texts(CLAUSE_VALUES_MAX + 1))),
            "rules[0].clauses[0].values",
            "too_many",
        ),
        (of_rule(clause("matches", &texts(PATTERNS_MAX + 1))), "rules", "too_many"),
        (
            of_rule(clause("matches", &json!(["x".repeat(PATTERN_BYTES_MAX + 1)]))),
            "rules[0].clauses[0].values[0]",
            "too_long",
        ),
        (
            json!({"prerequisites": many(PREREQUISITES_MAX + 1, json!({"key": "g", "variation": 0}))}),
            "prerequisites",
            "too_many",
        ),
        (
            json!({"targets": [{"variation": 0, "values": texts(TARGET_KEYS_MAX + 1)}]}),
            "targets",
            "too_many",
        ),
        (
            json!({"targets": [{"variation": 0, "values": many(9_000, json!("x".repeat(30)))}]}),
            "",
            "too_large",
        ),
        (
            json!({"fallthrough": {"rollout": {"hash": "murmur3", "variations": [{"weight": 100_000}]}}}),
            "fallthrough.rollout.hash",
            "hash_not_served",
        ),
        (json!({"prerequisites": [{"key": "f", "variation": 0}]}), "", "cycle"),
    ] {
        let mut file = with_flag(&fields);
        file["flags"]["good"] = flag("good", &json!({}));
        let plan = World::default().plan(&file, false);
        let path = if path.is_empty() { "flags.f".to_owned() } else { format!("flags.f.{path}") };
        assert_eq!(notes(&plan), [(path.as_str(), code)], "{fields:.200}");
        assert_eq!(
            (&plan.report.flags.refused, &plan.report.flags.created),
            (&vec!["f".to_owned()], &vec!["good".to_owned()])
        );
    }
    for (fields, path, code) in [
        (json!({"included": texts(SEGMENT_KEYS_MAX + 1)}), "segments.s.included", "too_many"),
        (
            json!({"excludedContexts": [{"contextKind": "org", "values": texts(SEGMENT_KEYS_MAX + 1)}]}),
            "segments.s.excludedContexts[0].values",
            "too_many",
        ),
        (
            json!({"rules": many(RULES_MAX + 1, json!({"clauses": []}))}),
            "segments.s.rules",
            "too_many",
        ),
        (
            json!({"rules": [{"clauses": [], "weight": 1, "hash": "murmur3"}]}),
            "segments.s.rules[0].hash",
            "hash_not_served",
        ),
        (json!({"rules": 1}), "segments.s", "unreadable"),
        (
            json!({"rules": [{"clauses": [clause("segmentMatch", &json!(["s"]))]}]}),
            "segments.s",
            "cycle",
        ),
    ] {
        let plan = World::default().plan(&with_segment(&fields), false);
        assert_eq!(notes(&plan), [(path, code)]);
        assert_eq!(plan.report.segments.refused, ["s"]);
    }
    let plan = World::default().plan(&json!({"flags": {"a b": flag("a b", &json!({}))}}), false);
    assert_eq!(notes(&plan), [("flags.a b", "invalid_key")]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_makes_no_sense_in_places_is_kept_with_a_note() {
    let of_rule = |clause: Value| json!({"rules": [rule(&clause)]});
    let at = "rules[0].clauses[0]";
    let rollout = |rollout: Value| json!({"fallthrough": {"rollout": rollout}});
    for (fields, path, code, words) in [
        (
            of_rule(clause("isNear", &json!([1]))),
            format!("{at}.op"),
            "unknown_operator",
            "matches nobody",
        ),
        (
            of_rule(clause("matches", &json!(["ok", "(?!x)"]))),
            format!("{at}.values[1]"),
            "invalid_pattern",
            "passed over",
        ),
        (
            of_rule(clause("before", &json!(["yesterday"]))),
            format!("{at}.values[0]"),
            "value_type",
            "passed over",
        ),
        (
            of_rule(clause("semVerEqual", &json!(["x"]))),
            format!("{at}.values[0]"),
            "value_type",
            "passed over",
        ),
        (of_rule(clause("in", &json!([]))), format!("{at}.values"), "required", "matches nobody"),
        (
            of_rule(json!({"attribute": "", "op": "in", "values": [1]})),
            format!("{at}.attribute"),
            "invalid_attribute",
            "MALFORMED_FLAG",
        ),
        (
            of_rule(
                json!({"contextKind": "user", "attribute": "/a//b", "op": "in", "values": [1]}),
            ),
            format!("{at}.attribute"),
            "invalid_attribute",
            "MALFORMED_FLAG",
        ),
        (
            of_rule(clause("segmentMatch", &json!(["none"]))),
            format!("{at}.values[0]"),
            "unknown_segment",
            "nobody is in it",
        ),
        (
            json!({"prerequisites": [{"key": "none", "variation": 0}]}),
            "prerequisites[0].key".to_owned(),
            "unknown_flag",
            "never fulfilled",
        ),
        (
            json!({"prerequisites": [{"key": "g", "variation": 2}]}),
            "prerequisites[0].variation".to_owned(),
            "unknown_variation",
            "never fulfilled",
        ),
        (
            json!({"offVariation": 2}),
            "offVariation".to_owned(),
            "unknown_variation",
            "while the flag is off",
        ),
        (
            json!({"fallthrough": {"variation": -1}}),
            "fallthrough.variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (json!({"fallthrough": {}}), "fallthrough".to_owned(), "required", "MALFORMED_FLAG"),
        (
            json!({"targets": [{"values": ["u"], "variation": 9}]}),
            "targets[0].variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (
            json!({"rules": [{"id": "r", "variation": 9}]}),
            "rules[0].variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (
            rollout(json!({"variations": []})),
            "fallthrough.rollout.variations".to_owned(),
            "required",
            "MALFORMED_FLAG",
        ),
        (
            rollout(json!({"variations": [{"variation": 3, "weight": 100_000}]})),
            "fallthrough.rollout.variations[0].variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (
            rollout(json!({"variations": [{"variation": 0, "weight": 99_000}]})),
            "fallthrough.rollout.variations".to_owned(),
            "weights_sum",
            "what is missing",
        ),
        (
            rollout(
                json!({"contextKind": "user", "bucketBy": "//", "variations": [{"variation": 0, "weight": 100_000}]}),
            ),
            "fallthrough.rollout.bucketBy".to_owned(),
            "invalid_attribute",
            "MALFORMED_FLAG",
        ),
        (
            json!({"rules": [{"id": "r", "variation": 0}, {"id": "r", "variation": 0}]}),
            "rules[1].id".to_owned(),
            "duplicate_rule",
            "earlier rule",
        ),
        (
            json!({"variations": [{"a": 1}, null]}),
            "variations[1]".to_owned(),
            "variation_kind",
            "as it is",
        ),
    ] {
        let mut file = with_flag(&fields);
        file["flags"]["g"] = flag("g", &json!({}));
        let plan = World::default().plan(&file, false);
        assert_eq!(notes(&plan), [(format!("flags.f.{path}").as_str(), code)], "{fields}");
        assert!(plan.report.notes[0].detail.contains(words), "{}", plan.report.notes[0].detail);
        assert_eq!(plan.report.flags.created, ["f", "g"]);
    }
    // Old data, in which a name is a name.
    let plan = World::default().plan(
        &with_flag(&of_rule(json!({"attribute": "/a//b", "op": "in", "values": [1]}))),
        false,
    );
    assert_eq!(notes(&plan), []);
    let unbounded = json!({"unbounded": true, "generation": 1, "rules": [{"clauses": [clause("segmentMatch", &json!(["t"]))]}]});
    let plan = World::default().plan(&with_segment(&unbounded), false);
    let found = [
        ("segments.s.unbounded", "unbounded_segment"),
        ("segments.s.rules[0].clauses[0].values[0]", "unknown_segment"),
    ];
    assert_eq!(notes(&plan), found);
}
