//! The pieces of flags, in LaunchDarkly's JSON and in Unleash's. The cases that they make are in `case`.

#![expect(
    clippy::needless_pass_by_value,
    reason = "pieces are put into each other as they are made"
)]

use serde_json::Value;
use serde_json::json;

/// A boolean flag in LaunchDarkly's form, with `fields` on top; on, and `false` for everyone.
pub(crate) fn flag(key: &str, fields: Value) -> Value {
    let mut flag = json!({"key": key, "version": 1, "on": true, "salt": "salt", "variations": [true, false],
        "offVariation": 1, "fallthrough": {"variation": 1}, "targets": [], "rules": [], "prerequisites": [],
        "clientSide": false});
    let (Value::Object(flag), Value::Object(fields)) = (&mut flag, fields) else {
        return flag;
    };
    flag.extend(fields);
    Value::Object(flag.clone())
}

pub(crate) fn rule(clauses: Value) -> Value {
    json!({"id": "r", "clauses": clauses, "variation": 0, "trackEvents": false})
}

pub(crate) fn clause(attribute: &str, op: &str, values: Value) -> Value {
    json!({"contextKind": "user", "attribute": attribute, "op": op, "values": values, "negate": false})
}

/// A feature in Unleash's form, with `fields` on top.
pub(crate) fn feature(name: &str, fields: Value) -> Value {
    let mut feature = json!({"name": name, "type": "release", "enabled": true, "strategies": []});
    let (Value::Object(feature), Value::Object(fields)) = (&mut feature, fields) else {
        return feature;
    };
    feature.extend(fields);
    Value::Object(feature.clone())
}

pub(crate) fn features(features: Value) -> Option<Value> {
    Some(json!({"version": 2, "features": features}))
}

/// The strategy that is on for whom all constraints hold.
pub(crate) fn strategy(constraints: Value) -> Value {
    json!({"name": "default", "constraints": constraints})
}

pub(crate) fn one_of(name: &str, values: Value) -> Value {
    json!({"contextName": name, "operator": "IN", "values": values})
}

pub(crate) fn requiring(key: &str, other: &str) -> Value {
    let prerequisites = json!([{"key": other, "variation": 0}]);
    flag(key, json!({"prerequisites": prerequisites, "fallthrough": {"variation": 0}}))
}
