//! Random environments and contexts in LaunchDarkly's own form, with every field that its Rust library insists on.
//!
//! Names and values come from small sets, so that things meet.

use crate::dice::Dice;
use crate::exception::NESTED_PATTERN;
use crate::exception::TIMES;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use vexil::eval::OPERATORS;

/// The flags and segments of one environment.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct World {
    pub(crate) flags: Vec<Value>,
    pub(crate) segments: Vec<Value>,
}

const N_FLAGS: u32 = 5;
const N_SEGMENTS: u32 = 4;
const KINDS: &[&str] = &["user", "org", "device"];
const NAMES: &[&str] = &["plan", "n", "addr", "/plan", "a/b", "groups", "email"];
const KEYS: &[&str] = &["u1", "u2", "u3", "98765", "Zoë"];
const TEXTS: &[&str] =
    &["", "a", "ab", "b", "Zoë", "^a", "b|Z", "[", "u1", "org", "user", "(?i)A", "\\w$"];
const VERSIONS: &[&str] = &[
    "2",
    "2.0",
    "2.0.0",
    "2.0.0+b.1",
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
    " 2",
    "18446744073709551615",
    "18446744073709551616",
    "2.0.0-18446744073709551616",
    "٢",
];

impl World {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let flags = (0..N_FLAGS).map(|i| flag(dice, i)).collect();
        Self { flags, segments: (0..N_SEGMENTS).map(|i| segment(dice, i)).collect() }
    }

    pub(crate) fn flag_keys(&self) -> impl Iterator<Item = &str> {
        self.flags.iter().filter_map(|flag| flag["key"].as_str())
    }

    /// The file as LaunchDarkly serves it.
    pub(crate) fn file(&self) -> Value {
        let by_key = |all: &[Value]| -> Map<String, Value> {
            let keyed = |body: &Value| (body["key"].as_str().unwrap().to_owned(), body.clone());
            all.iter().map(keyed).collect()
        };
        json!({"flags": by_key(&self.flags), "segments": by_key(&self.segments)})
    }
}

fn flag(dice: &mut Dice, i: u32) -> Value {
    let prerequisite = |dice: &mut Dice| {
        let key = format!("f{}", dice.below(N_FLAGS + 1));
        json!({"key": key, "variation": index(dice)})
    };
    let n_prerequisites = if dice.one_in(3) { 2 } else { 0 };
    let mut prerequisites = dice.list(n_prerequisites, prerequisite);
    if !dice.one_in(3) {
        // What was asked for may be asked for again.
        prerequisites.extend(prerequisites.first().cloned());
    }
    let n_targets = if dice.one_in(3) { 3 } else { 0 };
    let n_context_targets = if dice.one_in(3) { 3 } else { 0 };
    let rule = |dice: &mut Dice| {
        let mut rule = serve(dice);
        rule["id"] = json!(dice.pick(&["r1", "r2", ""]));
        rule["clauses"] = json!(dice.list(2, clause));
        rule["trackEvents"] = json!(false);
        rule
    };
    let variations = [
        json!([true, false, "x"]),
        json!(["a", "b", "c"]),
        json!([1, 2.5, -3]),
        json!([{"x": [1, null]}, null, []]),
    ];
    json!({
        "key": format!("f{i}"), "version": 1, "on": !dice.one_in(8), "salt": text(dice),
        "prerequisites": prerequisites,
        "targets": dice.list(n_targets, |dice| target(dice, "")),
        "contextTargets": dice.list(n_context_targets, |dice| {
            let kind = kind(dice);
            target(dice, kind)
        }),
        "rules": dice.list(3, rule), "fallthrough": serve(dice),
        "offVariation": if dice.one_in(6) { Value::Null } else { index(dice) },
        "variations": dice.pick(&variations),
    })
}

fn segment(dice: &mut Dice, i: u32) -> Value {
    let keys = |dice: &mut Dice| dice.list(1, |dice| json!(dice.pick(KEYS)));
    let contexts = |dice: &mut Dice| {
        dice.list(1, |dice| json!({"contextKind": dice.pick(KINDS), "values": keys(dice)}))
    };
    let rule = |dice: &mut Dice| {
        let mut rule = json!({"id": "r", "clauses": dice.list(2, clause)});
        if dice.one_in(2) {
            rule["weight"] = weight(dice);
        }
        divide(dice, &mut rule, "rolloutContextKind");
        rule
    };
    let mut segment = json!({
        "key": format!("s{i}"), "version": 1, "salt": text(dice), "included": keys(dice),
        "excluded": keys(dice), "includedContexts": contexts(dice),
        "excludedContexts": contexts(dice), "rules": dice.list(2, rule),
    });
    if dice.one_in(8) {
        segment["unbounded"] = json!(true);
        segment["unboundedContextKind"] = json!(dice.pick(KINDS));
        segment["generation"] = dice.pick(&[json!(1), json!(null)]);
    }
    segment
}

fn target(dice: &mut Dice, kind: &str) -> Value {
    let values = dice.list(2, |dice| json!(dice.pick(KEYS)));
    let mut target = json!({"values": values, "variation": index(dice)});
    if !kind.is_empty() {
        target["contextKind"] = json!(kind);
    }
    target
}

/// A variation, a rollout, both or neither.
fn serve(dice: &mut Dice) -> Value {
    let mut serve = json!({});
    let n = dice.below(20);
    if n < 9 {
        serve["variation"] = index(dice);
    }
    if (8..19).contains(&n) {
        serve["rollout"] = rollout(dice);
    }
    serve
}

fn rollout(dice: &mut Dice) -> Value {
    let slice = |dice: &mut Dice| {
        let mut slice = json!({"variation": index(dice), "weight": weight(dice)});
        if dice.one_in(3) {
            slice["untracked"] = json!(true);
        }
        slice
    };
    let mut rollout = json!({"variations": dice.list(4, slice)});
    divide(dice, &mut rollout, "contextKind");
    if dice.one_in(3) {
        let kind = dice.pick(&["experiment", "experiment", "rollout"]);
        rollout["kind"] = json!(if dice.one_in(12) { "novel" } else { kind });
    }
    if dice.one_in(5) {
        rollout["seed"] = json!(dice.pick(&[0, 61, -7, i64::MAX]));
    }
    rollout
}

/// Adds by what a rollout or a share divides.
fn divide(dice: &mut Dice, whole: &mut Value, kind_name: &str) {
    if dice.one_in(2) {
        whole[kind_name] = json!(kind(dice));
    }
    match dice.below(40) {
        0..8 => whole["bucketBy"] = json!(reference(dice)),
        8..16 => whole["bucketBy"] = json!("account"),
        16 => whole["bucketBy"] = json!(""),
        _ => {}
    }
}

fn clause(dice: &mut Dice) -> Value {
    let (name, op, values) = match dice.below(16) {
        0..4 => {
            let keys = ["s0", "s1", "s2", "s3", "s9"];
            let segment = |dice: &mut Dice| json!(dice.pick(&keys));
            (String::new(), "segmentMatch", dice.list(2, segment))
        }
        4 => ("at".to_owned(), dice.pick(&["before", "after"]), dice.list(3, time)),
        5 => {
            let op = dice.pick(&["semVerEqual", "semVerLessThan", "semVerGreaterThan"]);
            ("version".to_owned(), op, dice.list(3, version))
        }
        6..8 => ("n".to_owned(), dice.pick(&OPERATORS[5..9]), dice.list(3, number)),
        8 => {
            let built_in = |dice: &mut Dice| dice.pick(&built_in_values());
            let name = dice.pick(&["key", "kind", "anonymous"]);
            (name.to_owned(), "in", dice.list(3, built_in))
        }
        9..12 => {
            let name = dice.pick(&["plan", "email", "key"]);
            (name.to_owned(), dice.pick(&OPERATORS[0..5]), dice.list(2, short_text))
        }
        _ => {
            let op = dice.pick(OPERATORS);
            let op = if dice.one_in(20) { "unheardOf" } else { op };
            let is_of_time = ["before", "after"].contains(&op);
            let name = if is_of_time { "at".to_owned() } else { reference(dice) };
            (name, op, dice.list(3, value))
        }
    };
    let mut values = values;
    if op == "matches" && dice.one_in(3) {
        values.push(json!(NESTED_PATTERN));
    }
    let mut clause =
        json!({"attribute": name, "op": op, "values": values, "negate": dice.one_in(3)});
    if !dice.one_in(3) {
        clause["contextKind"] = json!(if dice.one_in(2) { kind(dice) } else { "user" });
    }
    clause
}

/// A context in one of the three forms, now and then a bad one.
pub(crate) fn context(dice: &mut Dice) -> Value {
    match dice.below(20) {
        0..8 => {
            let mut single = part(dice);
            single["kind"] = json!(if dice.one_in(2) { kind(dice) } else { "user" });
            single
        }
        8..15 => {
            let mut multi = json!({"kind": "multi", "user": part(dice)});
            for kind in KINDS.iter().skip(1) {
                if dice.one_in(2) {
                    multi[*kind] = part(dice);
                }
            }
            multi
        }
        15..19 => {
            let own = ["key", "name", "anonymous"];
            let mut custom = part(dice);
            let mut user = json!({"secondary": "s"});
            for name in own {
                let value = custom.as_object_mut().unwrap().remove(name);
                user[name] = value.unwrap_or(Value::Null);
            }
            user["country"] = json!(text(dice));
            user["custom"] = custom;
            user
        }
        _ => dice.pick(&bad_contexts()),
    }
}

/// Which of the three forms a context has.
pub(crate) fn form(context: &Value) -> &'static str {
    match context.get("kind").and_then(Value::as_str) {
        None => "old user",
        Some("multi") => "multi",
        Some(_) => "single",
    }
}

fn part(dice: &mut Dice) -> Value {
    let mut part = json!({
        "key": dice.pick(KEYS), "at": time(dice), "version": version(dice),
        "_meta": {"privateAttributes": ["plan"]},
    });
    for name in NAMES {
        match *name {
            "n" if dice.one_in(2) => part["n"] = number(dice),
            "plan" | "email" if dice.one_in(2) => part[*name] = json!(text(dice)),
            name if dice.one_in(2) => part[name] = value(dice),
            _ => {}
        }
    }
    let accounts =
        [json!("acme"), json!(98_765.0), json!(-0.0), json!(9_007_199_254_740_993_i64), json!(1.5)];
    if dice.one_in(2) {
        part["account"] = dice.pick(&accounts);
    }
    if dice.one_in(3) {
        part["name"] = json!(text(dice));
    }
    if dice.one_in(3) {
        part["anonymous"] = json!(dice.one_in(2));
    }
    part
}

fn bad_contexts() -> Vec<Value> {
    vec![
        json!("u"),
        json!({}),
        json!({"kind": "user"}),
        json!({"kind": "user", "key": ""}),
        json!({"kind": null, "key": "u"}),
        json!({"kind": "kind", "key": "u"}),
        json!({"kind": "a b", "key": "u"}),
        json!({"kind": "user", "key": "u", "name": 1}),
        json!({"kind": "user", "key": "u", "anonymous": null}),
        json!({"kind": "org", "key": "o", "anonymous": "yes"}),
        json!({"kind": "multi"}),
        json!({"kind": "multi", "user": {"key": ""}}),
        json!({"kind": "multi", "user": {"key": "u"}, "multi": {"key": "u"}}),
        json!({"key": 1}),
        json!({"key": "u", "custom": []}),
        // These are good.
        json!({"key": ""}),
        json!({"kind": "user", "key": "u", "name": null}),
        json!({"kind": "multi", "user": {"key": "u", "kind": "org"}}),
    ]
}

fn kind(dice: &mut Dice) -> &'static str {
    dice.pick(&["user", "user", "user", "org", "device"])
}

fn reference(dice: &mut Dice) -> String {
    let paths =
        ["/addr/city", "/addr/x~1y", "/~1plan", "/n", "/key/x", "/kind", "/addr/city/x", "none"];
    let bad = ["", "/", "//", "/~2", "/a/"];
    let name = match dice.below(24) {
        0..12 => dice.pick(NAMES),
        12..17 => dice.pick(&["key", "kind", "name", "anonymous", "country"]),
        17..23 => dice.pick(&paths),
        _ => dice.pick(&bad),
    };
    name.to_owned()
}

fn text(dice: &mut Dice) -> &'static str {
    dice.pick(TEXTS)
}

fn built_in_values() -> [Value; 7] {
    [
        json!("u1"),
        json!("u2"),
        json!("98765"),
        json!("user"),
        json!("org"),
        json!(true),
        json!(false),
    ]
}

/// One that is easily found in another.
fn short_text(dice: &mut Dice) -> Value {
    json!(dice.pick(&["", "a", "b", "u", "u1", "Z", "9"]))
}

fn index(dice: &mut Dice) -> Value {
    match dice.below(80) {
        0 => dice.pick(&[json!(-1), json!(3), json!(i64::MAX)]),
        _ => json!(dice.below(3)),
    }
}

fn weight(dice: &mut Dice) -> Value {
    match dice.below(5) {
        0 => json!(0),
        1 => json!(100_000),
        _ => json!(dice.below(100_000)),
    }
}

fn time(dice: &mut Dice) -> Value {
    let numbers = [
        json!(0),
        json!(-1.9),
        json!(1_709_208_000_000_i64),
        json!(1_709_208_000_000.7),
        json!(9e15),
        json!(1e300),
    ];
    match dice.below(10) {
        0..7 => json!(dice.pick(TIMES).0),
        7..9 => dice.pick(&numbers),
        _ => json!(dice.list(2, |dice| json!(dice.pick(TIMES).0))),
    }
}

fn version(dice: &mut Dice) -> Value {
    if dice.one_in(8) {
        return json!(dice.list(2, |dice| json!(dice.pick(VERSIONS))));
    }
    json!(if dice.one_in(2) { dice.pick(&VERSIONS[..6]) } else { dice.pick(VERSIONS) })
}

fn number(dice: &mut Dice) -> Value {
    dice.pick(&[
        json!(1),
        json!(1.0),
        json!(2),
        json!(2.5),
        json!(-3),
        json!(1e300),
        json!(98_765.0),
    ])
}

fn value(dice: &mut Dice) -> Value {
    let arrays = [
        json!([1, "a"]),
        json!([["a"]]),
        json!([null, {"city": "a"}]),
        json!([]),
        json!(["ab", "b"]),
    ];
    match dice.below(12) {
        0..4 => json!(text(dice)),
        4..8 => number(dice),
        8 => dice.pick(&[json!(true), json!(false), json!(null)]),
        9..11 => dice.pick(&arrays),
        _ => json!({"city": text(dice), "x/y": 1}),
    }
}
