//! The other side: LaunchDarkly's Rust library, and its answers in the form that is compared.

use crate::ours::refused;
use crate::ours::with_floats;
use crate::world::World;
use launchdarkly_server_sdk_evaluation::Context;
use launchdarkly_server_sdk_evaluation::Flag;
use launchdarkly_server_sdk_evaluation::Segment;
use launchdarkly_server_sdk_evaluation::Store;
use launchdarkly_server_sdk_evaluation::evaluate;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;

pub(crate) struct Theirs {
    flags: HashMap<String, Flag>,
    segments: HashMap<String, Segment>,
}

impl Store for Theirs {
    fn flag(&self, key: &str) -> Option<Flag> {
        self.flags.get(key).cloned()
    }

    fn segment(&self, key: &str) -> Option<Segment> {
        self.segments.get(key).cloned()
    }
}

impl Theirs {
    pub(crate) fn new(world: &World) -> Self {
        Self { flags: read(&world.flags), segments: read(&world.segments) }
    }

    pub(crate) fn answer(&self, key: &str, context: &Value) -> Value {
        self.answer_for(key, decoded(context).as_ref())
    }

    /// The same for a context that was decoded, or refused.
    pub(crate) fn answer_for(&self, key: &str, context: Option<&Context>) -> Value {
        let Some(context) = context else {
            return refused();
        };
        let detail = evaluate(self, &self.flags[key], context, None);
        let mut answer = json!({"value": null, "variationIndex": null});
        for (name, value) in serde_json::to_value(&detail).unwrap().as_object().unwrap() {
            answer[name.as_str()] = value.clone();
        }
        answer["value"] = with_floats(&answer["value"]);
        // The index of a variation that is not there is kept beside the error.
        if answer["reason"]["kind"] == "ERROR" {
            answer["variationIndex"] = Value::Null;
        }
        answer
    }
}

/// The context; none if it is refused.
pub(crate) fn decoded(context: &Value) -> Option<Context> {
    serde_json::from_value(context.clone()).ok()
}

fn read<T: DeserializeOwned>(all: &[Value]) -> HashMap<String, T> {
    let read = |body: &Value| {
        let read = serde_json::from_value(body.clone());
        let read = read.unwrap_or_else(|error| panic!("{error} in {body}"));
        (body["key"].as_str().unwrap().to_owned(), read)
    };
    all.iter().map(read).collect()
}
