//! Unleash's engine (`unleash-yggdrasil`): `check_enabled` for booleans and `check_variant` for the rest, which are the calls
//! that count no metrics and so the fastest that it has.
//!
//! Both look the toggle up by its name. Both copy the whole context, in which every attribute is a text. A variant's name is
//! copied into the result.

use crate::case;
use crate::case::Case;
use serde_json::Value;
use serde_json::json;
use std::collections::HashMap;
use unleash_yggdrasil::Context;
use unleash_yggdrasil::EngineState;
use unleash_yggdrasil::VariantDef;

/// One case, ready to be evaluated.
pub(crate) struct Unleash {
    engine: EngineState,
    context: Context,
    name: String,
    is_boolean: bool,
}

impl Unleash {
    /// `None` if Unleash cannot express the case.
    pub(crate) fn new(case: &Case) -> Option<Self> {
        let state = case.unleash.clone()?;
        let name = state["features"][0]["name"].as_str().unwrap().to_owned();
        let mut engine = EngineState::default();
        let warnings = engine.take_state(serde_json::from_value(state).unwrap());
        assert!(warnings.is_none(), "{warnings:?}");
        let context = unleash_context(&case::context());
        Some(Self { engine, context, name, is_boolean: case.is_boolean })
    }

    #[inline]
    pub(crate) fn is_enabled(&self) -> Option<bool> {
        self.engine.check_enabled(&self.name, &self.context, &None)
    }

    #[inline]
    pub(crate) fn variant(&self) -> Option<VariantDef> {
        self.engine.check_variant(&self.name, &self.context, &None)
    }

    /// The value as JSON.
    pub(crate) fn answer(&self) -> String {
        if self.is_boolean {
            return self.is_enabled().unwrap().to_string();
        }
        json!(self.variant().unwrap().name).to_string()
    }
}

/// The context as Unleash has it: a user's id, and texts.
fn unleash_context(context: &Value) -> Context {
    let mut properties = HashMap::new();
    for (name, value) in context.as_object().unwrap() {
        if name != "kind" && name != "key" {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            properties.insert(name.clone(), text);
        }
    }
    let user_id = context["key"].as_str().map(str::to_owned);
    Context { user_id, properties: Some(properties), ..Context::default() }
}
