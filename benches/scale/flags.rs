//! The flags of the rulesets: half of them 3-way rollouts, three in ten with two rules of two clauses, two in ten with targets.

use serde_json::Value;
use serde_json::json;
use vexil::model::flag::FlagDefinition;
use vexil::model::rule::FlagConfig;

/// Bytes of each flag's key, `flag-00000042`.
pub(crate) const KEY_BYTES: usize = 13;

/// A flag as it is stored.
pub(crate) struct Flag {
    pub(crate) definition: FlagDefinition,
    pub(crate) config: FlagConfig,
}

impl Flag {
    pub(crate) fn is_rollout(&self) -> bool {
        self.config.rules.is_empty() && self.config.fallthrough.rollout.is_some()
    }
}

/// Whom flags are evaluated for.
pub(crate) fn context() -> Value {
    json!({"kind": "user", "key": "user-42", "email": "ada@example.com", "country": "DE", "plan": "gold", "age": 34})
}

/// All flags of a ruleset, of which the first is a rollout.
pub(crate) fn all(n_flags: usize) -> Vec<Flag> {
    (0..n_flags).map(flag).collect()
}

fn flag(i: usize) -> Flag {
    let (variations, config) = match i % 10 {
        0..5 => (json!(["a", "b", "c"]), rollout()),
        5..8 => (json!(["a", "b"]), rules()),
        _ => (json!(["a", "b"]), targets(i)),
    };
    let variations: Vec<Value> = variations
        .as_array()
        .unwrap()
        .iter()
        .map(|value| json!({"key": value, "value": value}))
        .collect();
    let definition =
        json!({"key": format!("flag-{i:08}"), "kind": "string", "variations": variations});
    let mut config: FlagConfig = serde_json::from_value(config).unwrap();
    config.on = true;
    config.off_variation = Some(1);
    config.salt = "shop.production".to_owned();
    Flag { definition: FlagDefinition::decode(definition).unwrap(), config }
}

fn rollout() -> Value {
    json!({"fallthrough": {"rollout": {"contextKind": "user", "variations":
        [{"variation": 0, "weight": 33_000}, {"variation": 1, "weight": 33_000}, {"variation": 2, "weight": 34_000}]}}})
}

fn rules() -> Value {
    let clause = |attribute, op, values| json!({"contextKind": "user", "attribute": attribute, "op": op, "values": values});
    let rule = |id, age| {
        let clauses =
            [clause("country", "in", json!(["AT", "DE"])), clause("age", "greaterThan", age)];
        json!({"id": id, "clauses": clauses, "variation": 1})
    };
    json!({"rules": [rule("old", json!([65])), rule("adult", json!([18]))], "fallthrough": {"variation": 0}})
}

fn targets(i: usize) -> Value {
    let keys: Vec<String> = (0..20).map(|k| format!("user-{}", i + k)).collect();
    json!({"targets": [{"values": keys, "variation": 1}], "fallthrough": {"variation": 0}})
}

/// Numbers that are the same in every run. Source: Marsaglia's xorshift64.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        Self(0x9E37_79B9_7F4A_7C15)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 1).unwrap_or_default() % end
    }
}
