//! One flag, as LaunchDarkly serves it and as this server stores it.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use std::sync::Arc;
use vexil_fuzz::check;
use vexil_fuzz::contexts;
use vexil_fuzz::eval::Ruleset;
use vexil_fuzz::eval::RulesetChange;
use vexil_fuzz::eval::compile;
use vexil_fuzz::eval::compile_segment;
use vexil_fuzz::eval::read_ruleset;
use vexil_fuzz::json_of;
use vexil_fuzz::model::flag::FlagDefinition;
use vexil_fuzz::model::rule::FlagConfig;
use vexil_fuzz::model::segment::Segment;

fuzz_target!(|data: &[u8]| {
    let Some(body) = json_of(data) else {
        return;
    };
    // The same JSON stands for a flag and for a segment, which can ask for each other's names.
    let file = json!({
        "flags": {"f": body, "p": {"on": true, "variations": [1], "fallthrough": {"variation": 0}}},
        "segments": {"s": body, "t": {"included": ["u"]}},
    });
    let contexts = contexts();
    if let Ok(read) = read_ruleset(file) {
        contexts.iter().for_each(|context| check(&read.ruleset, "f", context));
    }
    let definition = json!({
        "key": "f", "name": "f", "kind": "json", "variations": [
            {"key": "a", "value": true}, {"key": "b", "value": [1]},
        ],
        "defaults": {"onVariation": "a", "offVariation": "b"},
    });
    let definition: FlagDefinition = serde_json::from_value(definition).unwrap();
    let Ok(config) = serde_json::from_value::<FlagConfig>(body.clone()) else {
        return;
    };
    let flag = Arc::new(compile(&definition, &config, 1));
    let mut change = RulesetChange::default();
    change.flags.push((flag.key.clone(), Some(flag)));
    if let Ok(segment) = serde_json::from_value::<Segment>(body) {
        let segment = Arc::new(compile_segment(&segment, 1));
        change.segments.push((segment.key.clone(), Some(segment)));
    }
    let ruleset = Ruleset::default().with(1, 1, &change);
    contexts.iter().for_each(|context| check(&ruleset, "f", context));
});
