//! Vexil: `evaluate`, with and without the look-up of the flag by its key.
//!
//! A case's flags are in LaunchDarkly's JSON, whose names are those of Vexil's stored configuration, so they are read as they
//! are. The outcome borrows from the ruleset.

use crate::case;
use crate::case::Case;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use vexil::eval::CompiledFlag;
use vexil::eval::Outcome;
use vexil::eval::Ruleset;
use vexil::eval::RulesetChange;
use vexil::eval::compile;
use vexil::eval::compile_segment;
use vexil::eval::evaluate;
use vexil::model::context::Context;
use vexil::model::flag::FlagDefinition;
use vexil::model::rule::FlagConfig;
use vexil::model::segment::Segment;

/// One case, ready to be evaluated.
pub(crate) struct Vexil {
    ruleset: Ruleset,
    context: Context,
    key: String,
}

impl Vexil {
    /// `hash` is that of the rollouts.
    pub(crate) fn new(case: &Case, hash: &str) -> Self {
        let mut change = RulesetChange::default();
        for flag in &case.flags {
            let flag = Arc::new(compiled(flag, hash));
            change.flags.push((flag.key.clone(), Some(flag)));
        }
        for segment in &case.segments {
            let segment: Segment = serde_json::from_value(segment.clone()).unwrap();
            let segment = Arc::new(compile_segment(&segment, 1));
            change.segments.push((segment.key.clone(), Some(segment)));
        }
        Self {
            ruleset: Ruleset::default().with(1, 1, &change),
            context: Context::decode(case::context()).unwrap(),
            key: case.flags[0]["key"].as_str().unwrap().to_owned(),
        }
    }

    pub(crate) fn flag(&self) -> &CompiledFlag {
        self.ruleset.flag(&self.key).unwrap()
    }

    #[inline]
    pub(crate) fn look_up_and_evaluate(&self) -> Outcome<'_> {
        self.evaluate(self.flag())
    }

    #[inline]
    pub(crate) fn evaluate<'r>(&'r self, flag: &'r CompiledFlag) -> Outcome<'r> {
        evaluate(&self.ruleset, flag, &self.context)
    }

    /// The value as JSON.
    pub(crate) fn answer(&self) -> String {
        self.look_up_and_evaluate().value().unwrap().get().to_owned()
    }
}

fn compiled(flag: &Value, hash: &str) -> CompiledFlag {
    let values = flag["variations"].as_array().unwrap();
    let variations: Vec<Value> = values
        .iter()
        .map(|value| json!({"key": value.to_string().replace('"', ""), "value": value}))
        .collect();
    let kind = if values[0].is_boolean() { "boolean" } else { "string" };
    let definition = json!({"key": flag["key"], "kind": kind, "variations": variations});
    let definition = FlagDefinition::decode(definition).unwrap();
    let mut config: FlagConfig = serde_json::from_value(flag.clone()).unwrap();
    if let Some(rollout) = &mut config.fallthrough.rollout {
        rollout.hash = serde_json::from_value(json!(hash)).unwrap();
    }
    compile(&definition, &config, 1)
}
