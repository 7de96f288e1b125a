//! Segments: reading them, and checking what they ask for.

use crate::change::apply_to_segment;
use crate::change::check_segment_references;
use crate::change::decode_segment;
use crate::change::decode_segment_instructions;
use crate::change::segments_of;
use crate::change::tests::listed;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::key::SegmentKey;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::DEPENDENCY_DEPTH_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::problem::Problems;
use crate::model::segment::Segment;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// Reads a body that replaces the segment `key`, or creates one; rules without an id are called `new-1`, `new-2`, ….
fn decode_at(key: Option<&str>, body: &Value) -> Result<Segment, Problems> {
    let key = key.map(SegmentKey::stored);
    let mut n_rules = 0;
    decode_segment(body.clone(), key.as_ref(), "salt", &mut || {
        n_rules += 1;
        format!("new-{n_rules}")
    })
}

fn decode(body: &Value) -> Result<Segment, Problems> {
    decode_at(None, body)
}

#[track_caller]
fn assert_problems(body: &Value, expected: &[(&str, &str)]) {
    let problems = decode(body).unwrap_err();
    assert_eq!(listed(&problems), expected, "{body}: {problems}");
}

/// A segment whose rules ask for these segments, one rule each.
fn asking(key: &str, keys: &[&str]) -> Segment {
    let rule = |key: &&str| json!({"clauses": [{"op": "segmentMatch", "values": [key]}]});
    let rules: Vec<Value> = keys.iter().map(rule).collect();
    decode(&json!({"key": key, "rules": rules})).unwrap()
}

/// What the segments of an environment ask for, as `check_segment_references` takes it.
fn others(list: &[(&str, &[&str])]) -> BTreeMap<SegmentKey, Vec<SegmentKey>> {
    let keys = |keys: &[&str]| keys.iter().map(|key| SegmentKey::stored(key)).collect();
    list.iter().map(|(key, asked)| (SegmentKey::stored(key), keys(asked))).collect()
}

#[test]
fn a_segment_is_read_with_all_its_fields() {
    let body = json!({
        "key": "s", "name": "S", "description": "why",
        "included": ["u1"], "excluded": ["u2", "u3"],
        "includedContexts": [{"contextKind": "org", "values": ["o1"]}],
        "excludedContexts": [{"contextKind": "device", "values": ["d1", "d2"]}],
        "rules": [
            {"id": "r", "clauses": [{"attribute": "x", "op": "in", "values": [1], "negate": true}]},
            {"weight": 0, "bucketBy": "key"},
            {"weight": 100_000, "bucketBy": "/a/b", "rolloutContextKind": "org", "clauses": []},
        ],
    });
    let clause = json!({
        "contextKind": "user", "attribute": "x", "op": "in", "values": [1], "negate": true,
    });
    let stored = json!({
        "key": "s", "name": "S", "description": "why", "salt": "salt",
        "included": ["u1"], "excluded": ["u2", "u3"],
        "includedContexts": [{"contextKind": "org", "values": ["o1"]}],
        "excludedContexts": [
            {"contextKind": "device", "values": ["d1", "d2"]},
        ],
        "rules": [
            {"id": "r", "clauses": [clause], "rolloutContextKind": "user"},
            {"id": "new-1", "clauses": [], "weight": 0, "rolloutContextKind": "user"},
            {"id": "new-2", "clauses": [], "weight": 100_000, "bucketBy": "/a/b",
                "rolloutContextKind": "org"},
        ],
    });
    let stored: Segment = serde_json::from_value(stored).unwrap();
    assert_eq!(decode(&body).unwrap(), stored);
    let smallest = decode(&json!({"key": "s"})).unwrap();
    let stored = json!({"key": "s", "name": "s", "salt": "salt"});
    assert_eq!(smallest, serde_json::from_value(stored).unwrap());
}

#[test]
fn a_replaced_segment_keeps_its_key() {
    for body in [json!({}), json!({"key": "s"}), json!({"key": null})] {
        let found = decode_at(Some("s"), &body).unwrap();
        assert_eq!((found.key.as_str(), found.name.as_str()), ("s", "s"), "{body}");
    }
    for (key, code) in [(json!("t"), "immutable"), (json!(7), "wrong_type")] {
        let problems = decode_at(Some("s"), &json!({"key": key})).unwrap_err();
        assert_eq!(listed(&problems), [("key", code)]);
    }
}

#[test]
fn everything_wrong_with_a_segment_is_reported_at_once() {
    assert_problems(&json!([]), &[("", "wrong_type")]);
    assert_problems(&json!({}), &[("key", "required")]);
    assert_problems(
        &json!({
            "key": "a b", "name": 1, "unbounded": true, "salt": "mine",
            "included": ["", "u", 1], "excluded": "u",
            "includedContexts": [
                {"contextKind": "multi", "values": ["x"]}, "org", {"values": [""], "key": 1},
            ],
            "rules": [
                {"id": 1, "clauses": [{"op": "is", "values": [1]}], "weight": 100_001},
                {"weight": -1, "bucketBy": "/", "rolloutContextKind": ""},
                {"weight": 0.5, "clause": []},
                1,
                {"clauses": [{"attribute": "x", "op": "matches", "values": ["["]}]},
            ],
        }),
        &[
            ("key", "invalid_key"),
            ("name", "wrong_type"),
            ("included[0]", "invalid_text"),
            ("included[2]", "wrong_type"),
            ("excluded", "wrong_type"),
            ("includedContexts[0].contextKind", "invalid_kind"),
            ("includedContexts[1]", "wrong_type"),
            ("includedContexts[2].contextKind", "invalid_kind"),
            ("includedContexts[2].values[0]", "invalid_text"),
            ("includedContexts[2].key", "unknown_field"),
            ("rules[0].id", "wrong_type"),
            ("rules[0].clauses[0].op", "unknown_operator"),
            ("rules[0].weight", "out_of_range"),
            ("rules[1].weight", "out_of_range"),
            ("rules[1].bucketBy", "invalid_attribute"),
            ("rules[1].rolloutContextKind", "invalid_kind"),
            ("rules[2].weight", "wrong_type"),
            ("rules[2].clause", "unknown_field"),
            ("rules[3]", "wrong_type"),
            ("rules[4].clauses[0].values[0]", "invalid_pattern"),
            ("unbounded", "unknown_field"),
            ("salt", "unknown_field"),
        ],
    );
}

#[test]
fn the_lists_of_a_segment_are_bounded() {
    let keys: Vec<String> = (0..=SEGMENT_KEYS_MAX).map(|i| format!("u{i}")).collect();
    let just_enough = &keys[1..];
    let body = json!({"key": "s", "included": just_enough, "excluded": just_enough});
    assert_eq!(decode(&body).unwrap().included.len(), SEGMENT_KEYS_MAX);
    for name in ["included", "excluded"] {
        assert_problems(&json!({"key": "s", name: keys}), &[(name, "too_many")]);
    }
    let lists = json!([{"contextKind": "org", "values": keys}]);
    let expected = [("includedContexts[0].values", "too_many")];
    assert_problems(&json!({"key": "s", "includedContexts": lists}), &expected);
    let rules = vec![json!({}); RULES_MAX + 1];
    assert_problems(&json!({"key": "s", "rules": rules}), &[("rules", "too_many")]);
}

#[test]
fn lists_of_the_same_kind_are_read_as_one() {
    let list = |kind: &str, keys: &[&str]| json!({"contextKind": kind, "values": keys});
    let lists = [list("org", &["a"]), list("device", &["d"]), list("org", &["b", "a"])];
    let merged = json!([list("org", &["a", "b"]), list("device", &["d"])]);
    for name in ["includedContexts", "excludedContexts"] {
        let found = decode(&json!({"key": "s", name: lists})).unwrap();
        assert_eq!(serde_json::to_value(&found).unwrap()[name], merged);
    }
    let keys: Vec<String> = (0..SEGMENT_KEYS_MAX).map(|i| format!("o{i}")).collect();
    let full = json!({"contextKind": "org", "values": keys});
    let body = |more: Value| json!({"key": "s", "includedContexts": [full, more]});
    assert!(decode(&body(list("org", &["o7"]))).is_ok());
    assert!(decode(&body(list("device", &["o"]))).is_ok());
    assert_problems(&body(list("org", &["o"])), &[("includedContexts[1].values", "too_many")]);
}

#[test]
fn an_edit_of_keys_reaches_every_list_of_their_kind() {
    // As an older version, an import or a file may have left them.
    let lists = json!([{"contextKind": "org", "values": ["a"]}, {"contextKind": "", "values": ["u2"]},
        {"contextKind": "org", "values": ["b", "a"]}, {"contextKind": "user", "values": ["u3"]}]);
    let stored = json!({"key": "s", "name": "s", "included": ["u1"], "includedContexts": lists});
    let stored: Segment = serde_json::from_value(stored).unwrap();
    for (kind, of, values, users, orgs) in [
        ("removeIncludedTargets", "org", &["b"][..], &["u1", "u2", "u3"][..], &["a"][..]),
        ("removeIncludedTargets", "user", &["u3"], &["u1", "u2"], &["a", "b"]),
        ("addIncludedTargets", "org", &["b", "c"], &["u1", "u2", "u3"], &["a", "b", "c"]),
        ("clearIncludedTargets", "org", &[], &["u1", "u2", "u3"], &[]),
        ("clearIncludedTargets", "user", &[], &[], &["a", "b"]),
    ] {
        let mut instruction = json!({"kind": kind, "contextKind": of});
        if !values.is_empty() {
            instruction["values"] = json!(values);
        }
        let mut problems = Problems::default();
        let body = json!({"instructions": [instruction]});
        let read = object(body, "", &mut problems, decode_segment_instructions).unwrap();
        assert!(problems.is_empty(), "{problems}");
        let new_id = &mut || unreachable!();
        let sdk = ServerSdk::None;
        let (new, changes) = apply_to_segment(&stored, &|_| true, sdk, &read, new_id).unwrap();
        let of_org = new.included_contexts.first().map_or(&[][..], |list| &list.values[..]);
        assert_eq!(new.included, users, "{kind} {of}");
        assert_eq!(of_org, orgs, "{kind} {of}");
        assert!(new.included_contexts.len() <= 1 && changes.len() == 1, "{kind} {of}");
    }
}

#[test]
fn a_key_may_be_in_a_list_if_a_context_can_have_it() {
    let longest = "ä".repeat(CONTEXT_KEY_CHARS_MAX);
    let too_long = format!("{longest}k");
    for name in ["included", "excluded"] {
        assert!(decode(&json!({"key": "s", name: [longest]})).is_ok());
        let expected = [(&*format!("{name}[0]"), "invalid_text")];
        assert_problems(&json!({"key": "s", name: [too_long]}), &expected);
    }
    let lists = json!([{"contextKind": "org", "values": [longest, too_long]}]);
    let expected = [("includedContexts[0].values[1]", "invalid_text")];
    assert_problems(&json!({"key": "s", "includedContexts": lists}), &expected);
}

#[test]
fn a_segment_may_do_without_a_name_but_not_with_an_empty_one() {
    assert_eq!(decode(&json!({"key": "s", "name": null})).unwrap().name, "s");
    assert_problems(&json!({"key": "s", "name": ""}), &[("name", "required")]);
}

#[test]
fn segments_that_are_asked_for_must_exist() {
    let environment = others(&[("a", &["b"]), ("b", &[]), ("s", &["gone"])]);
    // The segment's own old references do not count.
    for (keys, expected) in [
        (&[][..], vec![]),
        (&["a", "b"], vec![]),
        (&["a", "c"], vec![("rules[1].clauses[0].values[0]", "unknown_segment")]),
        (
            &["d", "a", "c"],
            vec![
                ("rules[0].clauses[0].values[0]", "unknown_segment"),
                ("rules[2].clauses[0].values[0]", "unknown_segment"),
            ],
        ),
    ] {
        let problems = check_segment_references(&asking("s", keys), &environment);
        assert_eq!(listed(&problems.err().unwrap_or_default()), expected, "{keys:?}");
    }
}

#[test]
fn a_circle_of_segments_is_refused() {
    let chain: Vec<String> = (0..=DEPENDENCY_DEPTH_MAX).map(|i| format!("deep-{i}")).collect();
    let mut environment = others(&[("a", &["b"]), ("b", &["s"]), ("c", &[])]);
    for (key, next) in chain.iter().zip(chain.iter().skip(1)) {
        environment.insert(SegmentKey::stored(key), vec![SegmentKey::stored(next)]);
    }
    environment.insert(SegmentKey::stored(&chain[DEPENDENCY_DEPTH_MAX]), Vec::new());
    for (keys, expected) in [
        (&["c"][..], vec![]),
        (&["s"], vec![("rules", "cycle")]),
        (&["b"], vec![("rules", "cycle")]),
        (&["c", "a"], vec![("rules", "cycle")]),
        (&["deep-1"], vec![("rules", "too_deep")]),
        (&["deep-3"], vec![]),
        (
            &["a", "none"],
            vec![("rules[1].clauses[0].values[0]", "unknown_segment"), ("rules", "cycle")],
        ),
    ] {
        let problems = check_segment_references(&asking("s", keys), &environment);
        assert_eq!(listed(&problems.err().unwrap_or_default()), expected, "{keys:?}");
    }
}

#[test]
fn branching_segments_are_bounded_too() {
    let doubling: Vec<(String, String)> =
        (0..9).map(|i| (format!("s{i}"), format!("s{}", i + 1))).collect();
    let mut environment = others(&[("s9", &["leaf"]), ("leaf", &[])]);
    for (key, next) in &doubling {
        environment.insert(SegmentKey::stored(key), vec![SegmentKey::stored(next); 2]);
    }
    let problems = check_segment_references(&asking("s", &[]), &environment).unwrap_err();
    assert_eq!(listed(&problems), [("rules", "too_many")]);
}

#[test]
fn only_clauses_that_ask_for_segments_refer_to_them() {
    let body = json!({"key": "s", "rules": [
        {"clauses": [
            {"op": "segmentMatch", "values": ["b", "a"]},
            {"attribute": "x", "op": "in", "values": ["c"]},
        ]},
        {"clauses": [{"op": "segmentMatch", "values": ["b"], "negate": true}]},
    ]});
    let segment = decode(&body).unwrap();
    let clauses = segment.rules.iter().flat_map(|rule| &rule.clauses);
    let found: Vec<String> = segments_of(clauses).map(|key| key.to_string()).collect();
    assert_eq!(found, ["b", "a", "b"]);
}

#[test]
fn the_rules_of_a_segment_have_different_ids() {
    let body = json!({"key": "s", "rules": [{"id": "r"}, {"id": "q"}, {"id": "r"}]});
    assert_problems(&body, &[("rules[2].id", "duplicate_rule")]);
}
