//! No evaluation allocates, and neither does counting it: measured, with a counting allocator, for every part that an evaluation can pass through.
//!
//! What the answers are is tested in `eval`; here they only prove that the part in question was reached.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "data that cannot be read must fail loudly"
)]

use serde_json::Value;
use serde_json::json;
use std::hint::black_box;
use vexil::eval::Outcome;
use vexil::eval::evaluate;
use vexil::eval::read_ruleset;
use vexil::model::context::Context;

/// Two kinds with attributes of every type.
fn context() -> Context {
    let user = json!({
        "key": "user-42", "name": "Ann", "email": "ann@example.com", "age": 42, "account": 98_765,
        "version": "2.1.0-rc.1+build", "since": "2024-02-29T12:00:00.5+01:00", "last": 1_709_208_000_000_i64,
        "groups": ["staff", "beta", 7], "address": {"city": {"name": "Ulm"}}, "paid": true,
    });
    let context = json!({"kind": "multi", "user": user, "org": {"key": "acme", "tier": 2}});
    Context::decode_launchdarkly(context).unwrap()
}

/// Evaluates the flag `f` of a file of flags twice, and checks the second time that nothing was allocated.
#[track_caller]
fn assert_frugal(file: Value, is_expected: impl Fn(&Outcome<'_>) -> bool) {
    let shown = file["flags"]["f"].to_string();
    let read = read_ruleset(file).unwrap();
    assert!(read.unreadable.is_empty(), "{:?}", read.unreadable);
    let context = context();
    let flag = read.ruleset.flag("f").unwrap();
    // A pattern makes room for its search when it is first used.
    black_box(evaluate(&read.ruleset, flag, &context));
    let mut outcome = None;
    let info = allocation_counter::measure(|| {
        let evaluated = black_box(evaluate(&read.ruleset, flag, &context));
        flag.usage.count(&evaluated);
        outcome = Some(evaluated);
    });
    assert_eq!(info.count_total, 0, "{shown}");
    let outcome = outcome.unwrap();
    assert!(is_expected(&outcome), "{outcome:?} {shown}");
}

/// A flag that is on and serves 0 to everyone, with other fields.
fn flag(fields: &Value) -> Value {
    let mut flag = json!({
        "key": "f", "on": true, "variations": ["a", "b", {"c": [1]}], "offVariation": 2,
        "fallthrough": {"variation": 0}, "salt": "s",
    });
    for (name, value) in fields.as_object().unwrap() {
        flag[name.as_str()] = value.clone();
    }
    flag
}

fn alone(fields: &Value) -> Value {
    json!({"flags": {"f": flag(fields)}})
}

fn index(outcome: &Outcome<'_>) -> Option<usize> {
    outcome.variation.map(|(index, _)| index)
}

/// Checks a clause both plain and negated, of which one must match.
#[track_caller]
fn assert_clause(clause: &Value, segments: &Value, is_match: bool) {
    for (negate, expected) in [(false, is_match), (true, !is_match)] {
        let mut clause = clause.clone();
        clause["negate"] = json!(negate);
        let rules = json!([{"id": "r", "clauses": [clause], "variation": 1}]);
        let file = json!({"flags": {"f": flag(&json!({"rules": rules}))}, "segments": segments});
        assert_frugal(file, |outcome| index(outcome) == Some(usize::from(expected)));
    }
}

/// Checks an operator that holds for an attribute of the user.
#[track_caller]
fn assert_operator(attribute: &str, op: &str, values: &Value) {
    let clause = json!({"contextKind": "user", "attribute": attribute, "op": op, "values": values});
    assert_clause(&clause, &json!({}), true);
}

fn many(prefix: &str, n: usize, last: &str) -> Vec<String> {
    (0..n).map(|i| format!("{prefix}{i}")).chain([last.to_owned()]).collect()
}

#[test]
fn the_counter_counts() {
    let info = allocation_counter::measure(|| drop(black_box(Box::new(7_u64))));
    assert_eq!(info.count_total, 1);
}

#[test]
fn flags_that_are_off_or_static() {
    assert_frugal(alone(&json!({"on": false})), |outcome| outcome.reason.kind() == "OFF");
    assert_frugal(alone(&json!({})), |outcome| outcome.reason.kind() == "FALLTHROUGH");
    let malformed = json!({"fallthrough": {"variation": 9}});
    assert_frugal(alone(&malformed), |outcome| outcome.reason.kind() == "ERROR");
}

#[test]
fn targets() {
    for values in [many("user-1", 2, "user-42"), many("user-1", 5_000, "user-42")] {
        let fields = json!({"targets": [{"values": values, "variation": 1}]});
        assert_frugal(alone(&fields), |outcome| outcome.reason.kind() == "TARGET_MATCH");
        let fields = json!({
            "targets": [{"values": values, "variation": 1}],
            "contextTargets": [
                {"contextKind": "org", "values": ["other"], "variation": 0},
                {"contextKind": "user", "values": [], "variation": 1},
            ],
        });
        assert_frugal(alone(&fields), |outcome| outcome.reason.kind() == "TARGET_MATCH");
    }
}

#[test]
fn operators() {
    let mixed = json!([true, null, {"x": 1}, "x", 42]);
    let times = json!(["2024-03-01T00:00:00Z", 1_709_300_000_000_i64, "never"]);
    for (attribute, op, values) in [
        ("email", "in", json!(["ann@example.com"])),
        ("email", "in", json!(many("someone-", 1_000, "ann@example.com"))),
        ("age", "in", mixed.clone()),
        ("paid", "in", mixed),
        ("address", "in", json!([{"city": {"name": "Ulm"}}])),
        ("name", "startsWith", json!(["Bo", "An"])),
        ("name", "endsWith", json!(["nn"])),
        ("email", "contains", json!(["@"])),
        ("email", "matches", json!(["^[a-z]+@", "(?i)EXAMPLE"])),
        ("age", "lessThan", json!([43, 1])),
        ("age", "lessThanOrEqual", json!([42])),
        ("age", "greaterThan", json!([41.5])),
        ("age", "greaterThanOrEqual", json!([42])),
        ("since", "before", times.clone()),
        ("last", "before", times),
        ("since", "after", json!(["2024-01-01T00:00:00Z"])),
        ("version", "semVerEqual", json!(["2.1.0-rc.1"])),
        ("version", "semVerLessThan", json!(["2.1", "1"])),
        ("version", "semVerGreaterThan", json!(["2.1.0-beta.11", "9"])),
    ] {
        assert_operator(attribute, op, &values);
    }
}

#[test]
fn attributes() {
    assert_operator("key", "in", &json!(["user-42"]));
    assert_operator("anonymous", "in", &json!([false]));
    assert_operator("groups", "in", &json!(["beta"]));
    assert_operator("groups", "startsWith", &json!(["be"]));
    assert_operator("groups", "greaterThan", &json!([6]));
    assert_operator("/address/city/name", "in", &json!(["Ulm"]));
    assert_operator("kind", "in", &json!(["org"]));
    let org = json!({"contextKind": "org", "attribute": "tier", "op": "in", "values": [2]});
    assert_clause(&org, &json!({}), true);
    // Old data, in which a name is a name.
    let old = json!({"attribute": "email", "op": "contains", "values": ["@"]});
    assert_clause(&old, &json!({}), true);
    assert_clause(&json!({"attribute": "age", "op": "nope", "values": [1]}), &json!({}), false);
    let absent = json!({"attribute": "nope", "op": "in", "values": [1]});
    let rules = json!([{"clauses": [absent], "variation": 1}]);
    assert_frugal(alone(&json!({"rules": rules})), |outcome| index(outcome) == Some(0));
    let bad = json!({"contextKind": "user", "attribute": "//", "op": "in", "values": [1]});
    let rules = json!([{"clauses": [bad], "variation": 1}]);
    assert_frugal(alone(&json!({"rules": rules})), |outcome| outcome.reason.kind() == "ERROR");
}

#[test]
fn segments() {
    let adult = json!({"attribute": "age", "op": "greaterThan", "values": [17]});
    let nested = json!({"op": "segmentMatch", "values": ["inner"]});
    let in_org = json!([{"contextKind": "org", "values": ["acme"]}]);
    for (segment, is_in) in [
        (json!({"included": many("user-9", 10_000, "user-42")}), true),
        (json!({"excluded": many("user-9", 10_000, "user-42"), "rules": [{}]}), false),
        (json!({"includedContexts": in_org}), true),
        (json!({"rules": [{"clauses": [adult]}]}), true),
        (json!({"rules": [{"clauses": [adult], "weight": 47_000}], "salt": "seg-salt"}), false),
        (json!({"rules": [{"clauses": [], "weight": 50_000}], "salt": "seg-salt"}), true),
        (json!({"rules": [{"clauses": [], "weight": 100_000, "hash": "murmur3"}]}), true),
        (json!({"rules": [{"clauses": [nested]}]}), true),
        (json!({"unbounded": true, "generation": 1, "rules": [{"clauses": [adult]}]}), true),
    ] {
        let mut segment = segment;
        segment["key"] = json!("beta-testers");
        let segments = json!({"beta-testers": segment, "inner": {"included": ["user-42"]}});
        let clause = json!({"op": "segmentMatch", "values": ["unknown", "beta-testers"]});
        assert_clause(&clause, &segments, is_in);
    }
}

#[test]
fn prerequisites() {
    let wants = |key: &str, variation: u32| json!([{"key": key, "variation": variation}]);
    let on = |fields: &Value| flag(fields);
    for (variation, expected) in [(0, "FALLTHROUGH"), (1, "PREREQUISITE_FAILED")] {
        let file = json!({"flags": {
            "f": flag(&json!({"prerequisites": wants("p", 0)})),
            "p": on(&json!({"key": "p", "prerequisites": wants("q", 0)})),
            "q": on(&json!({"key": "q", "fallthrough": {"variation": variation}})),
        }});
        assert_frugal(file, |outcome| outcome.reason.kind() == expected);
    }
    let circle = alone(&json!({"prerequisites": wants("f", 0)}));
    assert_frugal(circle, |outcome| outcome.reason.kind() == "ERROR");
}

#[test]
fn rollouts() {
    let slices = json!([{"variation": 1, "weight": 30_000}, {"variation": 2, "weight": 70_000}]);
    for hash in ["sha1", "murmur3"] {
        for fields in [
            json!({}),
            json!({"seed": 61}),
            json!({"kind": "experiment"}),
            json!({"contextKind": "org"}),
            json!({"contextKind": "device"}),
            json!({"bucketBy": "email"}),
            // A number, which is hashed by its digits.
            json!({"bucketBy": "account"}),
            json!({"contextKind": "user", "bucketBy": "/address/city/name"}),
            json!({"bucketBy": "groups"}),
        ] {
            let mut rollout = fields.clone();
            rollout["hash"] = json!(hash);
            rollout["variations"] = slices.clone();
            let rule = json!([{"id": "r", "rollout": rollout}]);
            for fields in [json!({"fallthrough": {"rollout": rollout}}), json!({"rules": rule})] {
                assert_frugal(alone(&fields), |outcome| {
                    outcome.is_split && [Some(1), Some(2)].contains(&index(outcome))
                });
            }
        }
    }
}
