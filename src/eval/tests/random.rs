//! Random flags, segments and contexts, as they may be stored: mostly sensible, often not.
//!
//! Names come from small sets, so that things meet: clauses ask for attributes that contexts have, prerequisites and
//! segments refer to each other, also in circles.

use crate::eval::OPERATORS;
use crate::eval::tests::flag_json;
use crate::eval::tests::segment_json;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// The flags and segments of one environment.
#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) flags: Vec<Value>,
    pub(super) segments: Vec<Value>,
}

/// What the leaves of a world are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Leaves {
    /// From small sets.
    Few,
    /// Also any text, any number, any nesting.
    Any,
}

const N_FLAGS: usize = 4;
const N_SEGMENTS: usize = 4;
const KINDS: &[&str] = &["user", "org", "device"];
const NAMES: &[&str] = &["plan", "n", "addr", "/plan", "a/b"];
const KEYS: &[&str] = &["u1", "u2", "u3", "98765"];
const TIMES: &[&str] = &[
    "2024-02-29T12:00:00Z",
    "2024-02-29t12:00:00.000000001z",
    "2024-02-29T13:30:00+01:30",
    "2024-02-31T00:00:00Z",
    "2024-03-02T0:00:00-00:00",
    "2016-12-31T23:59:60.9Z",
    "0000-01-01T00:00:00+99:59",
    "9999-12-31T23:59:59-99:59",
    "2024-02-29",
    "2024-02-29T12:00Z",
    "2024-13-01T00:00:00Z",
    "2024-01-01T00:00:00Zx",
    "1709208000000",
];
const VERSIONS: &[&str] = &[
    "2",
    "2.0",
    "2.0.0",
    "2.0.0+build.1",
    "2-rc.1",
    "2.0-rc.2",
    "2.0.0-rc.10",
    "2.0.0-rc",
    "2.0.0-rc.a",
    "2.0.0-9",
    "2.0.0-10.0",
    "1.10.0",
    "1.9",
    "v2",
    "02",
    "2.0.0.0",
    "2.",
    "2-",
    "2.0.0-01",
    "+1",
    "18446744073709551616",
    "2.0.0-18446744073709551616",
];

/// An environment.
pub(super) fn world(leaves: Leaves) -> impl Strategy<Value = World> {
    let flags: Vec<_> = (0..N_FLAGS).map(|i| flag(i, leaves)).collect();
    let segments: Vec<_> = (0..N_SEGMENTS).map(|i| segment(i, leaves)).collect();
    (flags, segments).prop_map(|(flags, segments)| World { flags, segments })
}

/// An environment of flags with nothing but one rule with one clause each, so that every clause is reached.
pub(super) fn world_of_clauses() -> impl Strategy<Value = World> {
    let segments: Vec<_> = (0..N_SEGMENTS).map(|i| segment(i, Leaves::Few)).collect();
    (vec(clause(Leaves::Few), 10), segments).prop_map(|(clauses, segments)| {
        let flag = |(i, clause): (usize, &Value)| {
            let rule = json!({"id": "r", "clauses": [clause], "variation": 1});
            flag_json(&json!({"key": format!("f{i}"), "rules": [rule]}))
        };
        World { flags: clauses.iter().enumerate().map(flag).collect(), segments }
    })
}

/// A context in the single or multi form, or none at all.
pub(super) fn context(leaves: Leaves) -> impl Strategy<Value = Value> {
    let kind = prop_oneof![2 => Just("user"), 1 => select(KINDS)];
    let single = (kind, part(leaves)).prop_map(|(kind, mut part)| {
        part.insert("kind".to_owned(), json!(kind));
        Value::Object(part)
    });
    let multi = (part(leaves), option::of(part(leaves)), option::of(part(leaves)));
    let multi = multi.prop_map(|(first, second, third)| {
        let parts = [Some(first), second, third];
        let parts = KINDS.iter().zip(parts).filter_map(|(kind, part)| part.map(|p| (*kind, p)));
        let mut whole: Map<String, Value> =
            parts.map(|(kind, part)| (kind.to_owned(), Value::Object(part))).collect();
        whole.insert("kind".to_owned(), json!("multi"));
        Value::Object(whole)
    });
    prop_oneof![8 => single, 8 => multi, 1 => Just(Value::Null)]
}

fn part(leaves: Leaves) -> impl Strategy<Value = Map<String, Value>> {
    let key = prop_oneof![9 => select(KEYS).prop_map(Some), 1 => Just(None)];
    let name = option::of(text(leaves));
    let attributes = vec(option::weighted(0.7, value(leaves)), NAMES.len());
    let comparable = (time(), version());
    let parts = (key, name, any::<Option<bool>>(), attributes, comparable);
    parts.prop_map(|(key, name, anonymous, attributes, (at, version))| {
        let built_in = [("key", json!(key)), ("name", json!(name)), ("_meta", json!({"x": 1}))];
        let mut part = Map::from_iter([("at".to_owned(), at), ("version".to_owned(), version)]);
        for (name, value) in NAMES.iter().zip(attributes) {
            part.extend(value.map(|value| ((*name).to_owned(), value)));
        }
        part.extend(built_in.map(|(name, value)| (name.to_owned(), value)));
        part.extend(anonymous.map(|anonymous| ("anonymous".to_owned(), json!(anonymous))));
        part.retain(|_, value| !value.is_null());
        part
    })
}

fn flag(i: usize, leaves: Leaves) -> impl Strategy<Value = Value> {
    let others: Vec<String> = (0..=N_FLAGS).map(|i| format!("f{i}")).collect();
    let prerequisite = (select(others), 0..3_i64)
        .prop_map(|(key, variation)| json!({"key": key, "variation": variation}));
    let prerequisites = prop_oneof![3 => Just(Vec::new()), 1 => vec(prerequisite, 1..3)];
    let on = prop_oneof![6 => Just(true), 1 => Just(false)];
    let switches = (on, option::weighted(0.9, index(leaves)), text(leaves));
    let targets = (vec(target(leaves), 0..3), vec(target(leaves), 0..4));
    let rules = vec((vec(clause(leaves), 0..3), serve(leaves)), 0..4);
    (switches, prerequisites, targets, rules, serve(leaves)).prop_map(
        move |((on, off, salt), prerequisites, (targets, context_targets), rules, fallthrough)| {
            let rules = rules.into_iter().enumerate().map(|(i, (clauses, mut rule))| {
                rule["id"] = json!(format!("r{i}"));
                rule["clauses"] = json!(clauses);
                rule
            });
            flag_json(&json!({
                "key": format!("f{i}"), "on": on, "offVariation": off, "salt": salt,
                "prerequisites": prerequisites, "targets": targets,
                "contextTargets": context_targets, "rules": rules.collect::<Vec<_>>(),
                "fallthrough": fallthrough,
            }))
        },
    )
}

fn segment(i: usize, leaves: Leaves) -> impl Strategy<Value = Value> {
    let keys = || vec(select(KEYS), 0..2);
    let contexts = || vec(target(leaves), 0..2);
    let share = (option::of(weight(leaves)), option::of(reference(leaves)), kind(), hash());
    let rule =
        (vec(clause(leaves), 0..2), share).prop_map(|(clauses, (weight, by, kind, hash))| {
            json!({
                "id": "r", "clauses": clauses, "weight": weight, "bucketBy": by.unwrap_or_default(),
                "rolloutContextKind": kind, "hash": hash,
            })
        });
    let lists = (keys(), keys(), contexts(), contexts());
    let unbounded = (proptest::bool::weighted(0.15), kind(), option::of(1..3_i64));
    (lists, vec(rule, 0..3), text(leaves), unbounded).prop_map(
        move |(lists, rules, salt, (unbounded, unbounded_kind, generation))| {
            let (included, excluded, included_contexts, excluded_contexts) = lists;
            segment_json(&json!({
                "key": format!("s{i}"), "included": included, "excluded": excluded,
                "includedContexts": included_contexts, "excludedContexts": excluded_contexts,
                "rules": rules, "salt": salt, "unbounded": unbounded,
                "unboundedContextKind": unbounded_kind, "generation": generation,
            }))
        },
    )
}

fn target(leaves: Leaves) -> impl Strategy<Value = Value> {
    (kind(), vec(select(KEYS), 0..3), index(leaves)).prop_map(|(kind, values, variation)| {
        json!({"contextKind": kind, "values": values, "variation": variation})
    })
}

fn serve(leaves: Leaves) -> impl Strategy<Value = Value> {
    let slice = (index(leaves), weight(leaves), any::<bool>()).prop_map(
        |(variation, weight, untracked)| json!({"variation": variation, "weight": weight, "untracked": untracked}),
    );
    let seed = option::weighted(0.2, -3..3_i64);
    let by = option::weighted(0.5, reference(leaves));
    let rollout_kind = select(vec!["rollout", "rollout", "experiment", "unheard-of"]);
    let rollout = (rollout_kind, hash(), kind(), by, seed, vec(slice, 0..4)).prop_map(
        |(rollout_kind, hash, kind, by, seed, variations)| {
            json!({
                "kind": rollout_kind, "hash": hash, "contextKind": kind,
                "bucketBy": by.unwrap_or_default(), "seed": seed, "variations": variations,
            })
        },
    );
    let variation = option::weighted(0.6, index(leaves));
    (variation, option::weighted(0.9, rollout))
        .prop_map(|(variation, rollout)| json!({"variation": variation, "rollout": rollout}))
}

fn hash() -> impl Strategy<Value = &'static str> {
    select(vec!["murmur3", "sha1"])
}

fn clause(leaves: Leaves) -> impl Strategy<Value = Value> {
    let op = prop_oneof![1 => Just("in"), 2 => select([OPERATORS, &["unheardOf", ""]].concat())];
    let segment = select(vec!["s0", "s1", "s2", "s3", "s4"]).prop_map(|key| json!(key));
    let on_attribute = (kind(), reference(leaves), op, vec(value(leaves), 0..4), any::<bool>());
    let comparing = |name: &'static str, ops: &'static [&'static str], value| {
        let name = Just(name.to_owned());
        (kind(), name, select(ops), vec(value, 0..3), any::<bool>()).boxed()
    };
    let on_version = &["semVerEqual", "semVerLessThan", "semVerGreaterThan"];
    let on_segment =
        (kind(), Just(String::new()), Just("segmentMatch"), vec(segment, 0..3), any::<bool>());
    prop_oneof![
        6 => on_attribute.boxed(),
        1 => comparing("at", &["before", "after"], time().boxed()),
        1 => comparing("version", on_version, version().boxed()),
        2 => on_segment.boxed(),
    ]
    .prop_map(|(kind, attribute, op, values, negate)| {
        json!({
            "contextKind": kind, "attribute": attribute, "op": op, "values": values,
            "negate": negate,
        })
    })
}

/// What may be a point in time.
fn time() -> impl Strategy<Value = Value> {
    let numbers =
        vec![json!(0), json!(-1.9), json!(1_709_208_000_000_i64), json!(1_709_208_000_000.7)];
    or_several(prop_oneof![3 => select(TIMES).prop_map(|text| json!(text)), 1 => select(numbers)])
}

/// What may be a version.
fn version() -> impl Strategy<Value = Value> {
    or_several(select(VERSIONS).prop_map(|text| json!(text)))
}

/// A value, or now and then an array of some.
fn or_several(
    value: impl Strategy<Value = Value> + Clone + 'static,
) -> impl Strategy<Value = Value> {
    let several = vec(value.clone(), 0..3).prop_map(Value::Array);
    prop_oneof![5 => value, 1 => several]
}

fn kind() -> impl Strategy<Value = &'static str> {
    select(vec!["", "", "user", "user", "user", "org", "device"])
}

fn reference(leaves: Leaves) -> BoxedStrategy<String> {
    let built_in = vec!["key", "kind", "kind", "name", "anonymous"];
    let paths = vec!["/addr/city", "/addr/x~1y", "/~1plan", "/n", "/key/x", "none"];
    let few = prop_oneof![
        10 => select(NAMES),
        6 => select(built_in),
        6 => select(paths),
        1 => select(vec!["", "/", "//", "/~2", "/a/"]),
    ];
    or_any(few.prop_map(str::to_owned), ".{0,6}".prop_map(|text| format!("/{text}")), leaves)
}

fn text(leaves: Leaves) -> BoxedStrategy<String> {
    let few = select(vec!["", "a", "ab", "b", "a", "Zoë", "^a", "b|Z", "[", "u1", "org", "user"]);
    or_any(few.prop_map(str::to_owned), ".{0,12}", leaves)
}

fn index(leaves: Leaves) -> BoxedStrategy<i64> {
    let few = prop_oneof![50 => 0..3_i64, 1 => select(vec![-1, 3, i64::MAX])];
    or_any(few, any::<i64>(), leaves)
}

fn weight(leaves: Leaves) -> BoxedStrategy<u32> {
    let few = prop_oneof![1 => Just(0), 1 => Just(100_000), 3 => 0..100_000_u32];
    or_any(few, any::<u32>(), leaves)
}

fn value(leaves: Leaves) -> BoxedStrategy<Value> {
    let few = prop_oneof![
        4 => text(Leaves::Few).prop_map(Value::String),
        4 => select(vec![json!(1), json!(1.0), json!(2), json!(2.5), json!(98_765.0)]),
        1 => any::<Option<bool>>().prop_map(|value| json!(value)),
        2 => vec(text(Leaves::Few), 0..3).prop_map(|items| json!(items)),
        1 => select(vec![json!([1, "a"]), json!([["a"]]), json!([null, {"city": "a"}])]),
        2 => text(Leaves::Few).prop_map(|text| json!({"city": text, "x/y": 1})),
    ];
    or_any(few, anything(), leaves)
}

/// Any JSON at all, though not deep.
pub(super) fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,12}".prop_map(Value::String),
        any::<Option<bool>>().prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        let fields = vec((select(NAMES), inner.clone()), 0..3);
        let object = fields.prop_map(|fields| {
            let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
            Value::Object(fields.collect())
        });
        prop_oneof![vec(inner, 0..4).prop_map(Value::Array), object]
    })
}

/// The first strategy, or one of both if the leaves may be anything.
fn or_any<T: std::fmt::Debug + 'static>(
    few: impl Strategy<Value = T> + 'static,
    any: impl Strategy<Value = T> + 'static,
    leaves: Leaves,
) -> BoxedStrategy<T> {
    match leaves {
        Leaves::Few => few.boxed(),
        Leaves::Any => prop_oneof![2 => few, 1 => any].boxed(),
    }
}
