//! This project's side: a compiled ruleset, and its answers in the form that is compared.

use crate::world::World;
use serde_json::Value;
use serde_json::json;
use vexil::eval::Ruleset;
use vexil::eval::Step;
use vexil::eval::evaluate;
use vexil::eval::explain;
use vexil::eval::read_ruleset;
use vexil::model::context::Context;

pub(crate) struct Ours(Ruleset);

impl Ours {
    pub(crate) fn new(world: &World) -> Self {
        Self::read(world.file())
    }

    /// Reads a file of which every flag and segment can be read.
    pub(crate) fn read(file: Value) -> Self {
        let read = read_ruleset(file).unwrap();
        assert!(read.unreadable.is_empty(), "{:?}", read.unreadable);
        Self(read.ruleset)
    }

    /// The answer as `{"value", "variationIndex", "reason"}`.
    pub(crate) fn answer(&self, key: &str, context: &Value) -> Value {
        self.answer_for(key, decoded(context).as_ref())
    }

    /// The same for a context that was decoded, or refused.
    pub(crate) fn answer_for(&self, key: &str, context: Option<&Context>) -> Value {
        let Some(context) = context else {
            return refused();
        };
        let Some(flag) = self.0.flag(key) else {
            return error("FLAG_NOT_FOUND");
        };
        let outcome = evaluate(&self.0, flag, context);
        let value = outcome.value().map(|json| serde_json::from_str(json.get()).unwrap());
        let index = outcome.variation.map(|(index, _)| index);
        let reason = serde_json::to_value(outcome.reason_body()).unwrap();
        json!({
            "value": with_floats(&value.unwrap_or(Value::Null)), "variationIndex": index,
            "reason": reason,
        })
    }

    /// The steps that lead to the answer; none for a context that is refused.
    pub(crate) fn steps(&self, key: &str, context: Option<&Context>) -> Vec<Step> {
        let found = context.zip(self.0.flag(key));
        found.map_or(Vec::new(), |(context, flag)| explain(&self.0, flag, context).1)
    }
}

/// The context; none if it is refused.
pub(crate) fn decoded(context: &Value) -> Option<Context> {
    Context::decode_launchdarkly(context.clone()).ok()
}

/// The answer for what is no context.
pub(crate) fn refused() -> Value {
    error("USER_NOT_SPECIFIED")
}

fn error(kind: &str) -> Value {
    let reason = json!({"kind": "ERROR", "errorKind": kind});
    json!({"value": null, "variationIndex": null, "reason": reason})
}

/// The value with every number written as a float, so that equal numbers are equal.
pub(crate) fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_floats).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), with_floats(value))).collect()
        }
        other => other.clone(),
    }
}
