//! What is evaluated: each case as LaunchDarkly's JSON, which Vexil reads too, and as Unleash's.
//!
//! Where a list is searched, what is found stands in its middle, so that an engine that searches from the front pays half of
//! it, which is the average. How the JSON is put together is in `form`.

use crate::form::clause;
use crate::form::feature;
use crate::form::features;
use crate::form::flag;
use crate::form::one_of;
use crate::form::requiring;
use crate::form::rule;
use crate::form::strategy;
use serde_json::Value;
use serde_json::json;

/// Values of the list of `in-1000-values`.
const N_VALUES: usize = 1_000;
/// Keys of the segment of `segment-10000-keys`.
const N_SEGMENT_KEYS: usize = 10_000;
/// The user in the context; all engines put it into the same part of each rollout, though they hash differently.
const USER: &str = "user-432";

/// The same question for every engine.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// In LaunchDarkly's form; the first is asked for.
    pub(crate) flags: Vec<Value>,
    pub(crate) segments: Vec<Value>,
    /// Everything in Unleash's form; the first feature is asked for. `None` if Unleash has no such thing.
    pub(crate) unleash: Option<Value>,
    pub(crate) is_boolean: bool,
    pub(crate) has_rollout: bool,
    /// The value as JSON.
    pub(crate) expected: &'static str,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            name: "",
            flags: Vec::new(),
            segments: Vec::new(),
            unleash: None,
            is_boolean: true,
            has_rollout: false,
            expected: "true",
        }
    }
}

/// Whom every case is evaluated for.
pub(crate) fn context() -> Value {
    json!({"kind": "user", "key": USER, "email": "ada@example.com", "country": "DE", "plan": "gold", "age": 34,
        "company": "company-500", "appVersion": "2.14.0"})
}

/// All cases.
pub(crate) fn all() -> Vec<Case> {
    vec![
        off(),
        on(),
        rules(),
        in_many_values(),
        segment(),
        half_rollout(),
        three_way_rollout(),
        pattern(),
        prerequisite(),
        prerequisites(),
    ]
}

fn off() -> Case {
    Case {
        name: "off",
        flags: vec![flag("f", json!({"on": false}))],
        unleash: features(json!([feature("f", json!({"enabled": false}))])),
        expected: "false",
        ..Case::default()
    }
}

fn on() -> Case {
    Case {
        name: "on",
        flags: vec![flag("f", json!({"fallthrough": {"variation": 0}}))],
        unleash: features(json!([feature("f", json!({}))])),
        ..Case::default()
    }
}

/// Five rules of three clauses. In the first four, all clauses but the last match; the fifth matches.
fn rules() -> Case {
    let ages = [90, 80, 70, 60, 18];
    let countries = json!(["AT", "CH", "DE"]);
    let rule_for = |age: &i32| {
        rule(json!([
            clause("country", "in", countries.clone()),
            clause("email", "endsWith", json!(["@example.com"])),
            clause("age", "greaterThan", json!([age])),
        ]))
    };
    let strategy_for = |age: &i32| {
        strategy(json!([
            one_of("country", countries.clone()),
            {"contextName": "email", "operator": "STR_ENDS_WITH", "values": ["@example.com"]},
            {"contextName": "age", "operator": "NUM_GT", "value": age.to_string()},
        ]))
    };
    let rules: Vec<Value> = ages.iter().map(rule_for).collect();
    let strategies: Vec<Value> = ages.iter().map(strategy_for).collect();
    Case {
        name: "rules-5x3",
        flags: vec![flag("f", json!({"rules": rules}))],
        unleash: features(json!([feature("f", json!({"strategies": strategies}))])),
        ..Case::default()
    }
}

fn in_many_values() -> Case {
    let values: Vec<String> = (0..N_VALUES).map(|i| format!("company-{i}")).collect();
    let rules = json!([rule(json!([clause("company", "in", json!(values))]))]);
    let strategies = json!([strategy(json!([one_of("company", json!(values))]))]);
    Case {
        name: "in-1000-values",
        flags: vec![flag("f", json!({"rules": rules}))],
        unleash: features(json!([feature("f", json!({"strategies": strategies}))])),
        ..Case::default()
    }
}

fn segment() -> Case {
    let mut keys: Vec<String> = (0..N_SEGMENT_KEYS).map(|i| format!("member-{i}")).collect();
    keys[N_SEGMENT_KEYS / 2] = USER.to_owned();
    let rules = json!([rule(json!([clause("", "segmentMatch", json!(["s"]))]))]);
    let constraints = json!([one_of("userId", json!(keys))]);
    Case {
        name: "segment-10000-keys",
        flags: vec![flag("f", json!({"rules": rules}))],
        segments: vec![
            json!({"key": "s", "name": "s", "version": 1, "included": keys, "excluded": [],
            "rules": [], "salt": "salt"}),
        ],
        unleash: Some(json!({"version": 2, "segments": [{"id": 1, "constraints": constraints}],
            "features": [feature("f", json!({"strategies": [{"name": "default", "segments": [1]}]}))]})),
        ..Case::default()
    }
}

/// Half of all users; for Unleash, its strategy `flexibleRollout`.
fn half_rollout() -> Case {
    let halves = json!({"rollout": {"contextKind": "user", "variations":
        [{"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]}});
    let parameters = json!({"rollout": "50", "stickiness": "userId", "groupId": "f"});
    let strategies = json!([{"name": "flexibleRollout", "parameters": parameters}]);
    Case {
        name: "rollout-2-way",
        flags: vec![flag("f", json!({"fallthrough": halves}))],
        unleash: features(json!([feature("f", json!({"strategies": strategies}))])),
        has_rollout: true,
        ..Case::default()
    }
}

/// Three texts; for Unleash, variants of the feature itself, which it resolves with one hash. Variants of a strategy, which
/// its interface makes now, cost a second one.
fn three_way_rollout() -> Case {
    let thirds = json!({"rollout": {"contextKind": "user", "variations":
        [{"variation": 0, "weight": 33_000}, {"variation": 1, "weight": 33_000}, {"variation": 2, "weight": 34_000}]}});
    let variant = |name, weight| json!({"name": name, "weight": weight, "weightType": "fix", "stickiness": "userId"});
    let variants = [variant("a", 330), variant("b", 330), variant("c", 340)];
    Case {
        name: "rollout-3-way",
        flags: vec![flag("f", json!({"fallthrough": thirds, "variations": ["a", "b", "c"]}))],
        unleash: features(json!([feature("f", json!({"variants": variants}))])),
        is_boolean: false,
        has_rollout: true,
        expected: "\"b\"",
        ..Case::default()
    }
}

/// Unleash has no operator for patterns.
fn pattern() -> Case {
    let pattern = r"^[a-z0-9.]+@(example|acme)\.(com|org)$";
    let rules = json!([rule(json!([clause("email", "matches", json!([pattern]))]))]);
    Case { name: "pattern", flags: vec![flag("f", json!({"rules": rules}))], ..Case::default() }
}

fn prerequisite() -> Case {
    let open = |key| flag(key, json!({"fallthrough": {"variation": 0}}));
    let child = json!({"dependencies": [{"feature": "parent"}]});
    Case {
        name: "prerequisite",
        flags: vec![requiring("f", "parent"), open("parent")],
        unleash: features(json!([feature("f", child), feature("parent", json!({}))])),
        ..Case::default()
    }
}

/// A chain of three; Unleash does not let a parent have a parent.
fn prerequisites() -> Case {
    let last = flag("c", json!({"fallthrough": {"variation": 0}}));
    Case {
        name: "prerequisites-depth-3",
        flags: vec![requiring("f", "a"), requiring("a", "b"), requiring("b", "c"), last],
        ..Case::default()
    }
}
