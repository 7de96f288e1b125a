//! Which attribute a clause looks at, and what happens if it is not there.

use crate::eval::OPERATORS;
use crate::eval::tests::matches;
use serde_json::Value;
use serde_json::json;

/// A clause that asks whether an attribute is one of `values`.
fn is_in(kind: &str, attribute: &str, values: &Value) -> Value {
    json!({"contextKind": kind, "attribute": attribute, "op": "in", "values": values})
}

fn negated(mut clause: Value) -> Value {
    clause["negate"] = json!(true);
    clause
}

/// Checks a clause plain, and negated, which must give the opposite.
#[track_caller]
fn assert_clause(clause: &Value, context: &Value, expected: bool) {
    assert_eq!(matches(clause, context), Some(expected), "{clause} {context}");
    let negated = negated(clause.clone());
    assert_eq!(matches(&negated, context), Some(!expected), "{negated} {context}");
}

/// Checks that a clause matches neither plain nor negated.
#[track_caller]
fn assert_absent(clause: &Value, context: &Value) {
    assert_eq!(matches(clause, context), Some(false), "{clause} {context}");
    let negated = negated(clause.clone());
    assert_eq!(matches(&negated, context), Some(false), "{negated} {context}");
}

#[test]
fn an_absent_attribute_matches_nothing_not_even_negated() {
    for op in OPERATORS.iter().filter(|op| **op != "segmentMatch").chain(&["nope"]) {
        for kind in ["", "user"] {
            let clause = json!({"contextKind": kind, "attribute": "x", "op": op, "values": [1]});
            for context in [
                json!({"key": "u"}),
                json!({"key": "u", "x": null}),
                json!({"key": "u", "X": 1}),
                json!({"kind": "org", "key": "o", "x": 1}),
                json!({"kind": "multi", "org": {"key": "o", "x": 1}, "user": {"key": "u"}}),
                json!(null),
            ] {
                assert_absent(&clause, &context);
            }
        }
    }
    // Without values nothing can match, but the attribute is there.
    assert_clause(&is_in("user", "x", &json!([])), &json!({"key": "u", "x": 1}), false);
    assert_absent(&is_in("user", "x", &json!([])), &json!({"key": "u"}));
}

#[test]
fn a_clause_looks_at_its_own_kind() {
    let both = json!({
        "kind": "multi", "user": {"key": "u", "tier": 1}, "org": {"key": "o", "tier": 2},
    });
    let org = json!({"kind": "org", "key": "o", "tier": 2});
    assert_clause(&is_in("user", "tier", &json!([1])), &both, true);
    assert_clause(&is_in("org", "tier", &json!([1])), &both, false);
    assert_clause(&is_in("org", "tier", &json!([2])), &both, true);
    assert_clause(&is_in("", "tier", &json!([1])), &both, true);
    assert_clause(&is_in("org", "tier", &json!([2])), &org, true);
    assert_absent(&is_in("", "tier", &json!([2])), &org);
    assert_absent(&is_in("device", "tier", &json!([1])), &both);
}

#[test]
fn a_clause_about_the_kind_looks_at_every_kind_of_the_context() {
    let user = json!({"key": "u"});
    let org = json!({"kind": "org", "key": "o"});
    let both = json!({"kind": "multi", "user": {"key": "u"}, "org": {"key": "o"}});
    for clause_kind in ["", "user", "org", "device"] {
        let is_org = is_in(clause_kind, "kind", &json!(["org", "device"]));
        assert_clause(&is_org, &user, false);
        assert_clause(&is_org, &org, true);
        assert_clause(&is_org, &both, true);
        assert_clause(&is_in(clause_kind, "kind", &json!(["multi"])), &both, false);
    }
    let starts = |text: &str| json!({"attribute": "kind", "op": "startsWith", "values": [text]});
    assert_clause(&starts("us"), &both, true);
    assert_clause(&starts("or"), &both, true);
    assert_clause(&starts("mu"), &both, false);
    assert_clause(&is_in("user", "/kind", &json!(["org"])), &both, true);
}

#[test]
fn built_in_attributes_can_be_asked_for() {
    let user = json!({"key": "u", "name": "Ann", "_meta": {"x": 1}});
    for kind in ["", "user"] {
        assert_clause(&is_in(kind, "key", &json!(["u"])), &user, true);
        assert_clause(&is_in(kind, "key", &json!(["x"])), &user, false);
        assert_clause(&is_in(kind, "name", &json!(["Ann"])), &user, true);
        assert_clause(&is_in(kind, "anonymous", &json!([true])), &user, false);
        assert_clause(&is_in(kind, "anonymous", &json!([false])), &user, true);
        assert_absent(&is_in(kind, "key", &json!(["u"])), &json!({"name": "keyless"}));
        assert_absent(&is_in(kind, "_meta", &json!([{"x": 1}])), &user);
    }
    for below in ["/key/x", "/kind/x", "/name/x", "/anonymous/x", "/_meta/x"] {
        assert_absent(&is_in("user", below, &json!([1])), &user);
    }
    let anonymous = json!({"kind": "org", "key": "o", "anonymous": true});
    assert_clause(&is_in("org", "anonymous", &json!([true])), &anonymous, true);
}

#[test]
fn with_a_kind_a_reference_walks_into_objects() {
    let user = json!({
        "key": "u", "plan": "gold", "a b.c~d": 1, "a/b": 2, "/addr/city": "literal", "": 3,
        "addr": {"city": "Ulm", "x/y": 4, "~": 5, "none": null, "": 6},
        "list": [{"x": 1}],
    });
    for (reference, value) in [
        ("plan", json!("gold")),
        ("/plan", json!("gold")),
        ("a b.c~d", json!(1)),
        ("/a~1b", json!(2)),
        ("a/b", json!(2)),
        ("/addr/city", json!("Ulm")),
        ("/addr/x~1y", json!(4)),
        ("/addr/~0", json!(5)),
        ("/list", json!({"x": 1})),
        ("/addr", json!({"city": "Ulm", "x/y": 4, "~": 5, "none": null, "": 6})),
    ] {
        assert_clause(&is_in("user", reference, &json!([value])), &user, true);
        assert_clause(&is_in("user", reference, &json!(["other"])), &user, false);
    }
    for absent in ["addr/city", "/addr/none", "/addr/city/x", "/list/0", "/list/x", "/nope", "Plan"]
    {
        assert_absent(&is_in("user", absent, &json!([1, "Ulm", null])), &user);
    }
}

#[test]
fn without_a_kind_the_attribute_is_a_plain_name() {
    let nested = json!({"key": "u", "addr": {"city": "Ulm"}, "//": 1, "/~2": 2, "/": 3});
    assert_absent(&is_in("", "/addr/city", &json!(["Ulm"])), &nested);
    // What would be no reference is a name like any other.
    for (name, value) in [("//", 1), ("/~2", 2), ("/", 3)] {
        assert_clause(&is_in("", name, &json!([value])), &nested, true);
    }
    let literal = json!({"key": "u", "/addr/city": "Ulm", "/plan": 1, "plan": 2});
    assert_clause(&is_in("", "/addr/city", &json!(["Ulm"])), &literal, true);
    assert_clause(&is_in("", "/plan", &json!([1])), &literal, true);
    // A clause that has no such field at all is as old as one whose kind is empty.
    let old = json!({"attribute": "/addr/city", "op": "in", "values": ["Ulm"]});
    assert_clause(&old, &literal, true);
    assert_absent(&is_in("", "/kind", &json!(["user"])), &literal);
}

#[test]
fn what_is_no_reference_makes_the_flag_malformed() {
    let contexts = [json!({"key": "u"}), json!({"kind": "org", "key": "o"}), json!(null)];
    for context in &contexts {
        for bad in ["", "/", "//x", "/x/", "/a//b", "/~", "/~2", "/a~", "/a/~x"] {
            for op in ["in", "matches", "nope"] {
                let clause =
                    json!({"contextKind": "user", "attribute": bad, "op": op, "values": [1]});
                assert_eq!(matches(&clause, context), None, "{clause} {context}");
                assert_eq!(matches(&negated(clause), context), None, "{bad} {context}");
            }
        }
        assert_eq!(matches(&is_in("", "", &json!([1])), context), None, "{context}");
    }
}
