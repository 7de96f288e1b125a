//! What the fuzz targets share, on top of the server's own sources.
//!
//! The rooms `model` and `eval` use no others, so they are compiled here without the rest of the server, in a minute and not in
//! many. Of other rooms there are single files, and in `snapshot` and `store` stand-ins for the types that these name.

#![allow(dead_code, unused_imports, reason = "what only other rooms use is not used here")]

#[path = "../../src/clock.rs"]
pub mod clock;
#[path = "../../src/eval/mod.rs"]
pub mod eval;
pub mod http;
#[path = "../../src/model/mod.rs"]
pub mod model;
pub mod snapshot;
#[path = "../../src/auth/token.rs"]
pub mod token;

/// What is stored of flags and segments, as the room `store` has it.
pub mod store {
    use crate::model::key::FlagKey;
    use crate::model::key::SegmentKey;

    #[derive(Debug, PartialEq, Eq)]
    pub struct ChangedFlag {
        pub key: FlagKey,
        pub version: i64,
        pub text: Option<FlagText>,
    }

    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FlagText {
        pub definition: Box<str>,
        pub config: Box<str>,
    }

    #[derive(Debug, PartialEq, Eq)]
    pub struct ChangedSegment {
        pub key: SegmentKey,
        pub version: i64,
        pub text: Option<Box<str>>,
    }
}

use eval::Ruleset;
use eval::Told;
use eval::evaluate;
use eval::explain;
use model::context::Context;
use serde_json::Value;
use serde_json::json;

/// Evaluates a flag for a context and checks what must hold for everything.
pub fn check(ruleset: &Ruleset, key: &str, context: &Context) {
    let Some(flag) = ruleset.flag(key) else {
        return;
    };
    let outcome = evaluate(ruleset, flag, context);
    let (explained, steps) = explain(ruleset, flag, context);
    let body = |outcome: &eval::Outcome<'_>| {
        let index = outcome.variation.map(|(index, _)| index);
        serde_json::to_string(&(outcome.value(), index, outcome.reason_body())).unwrap()
    };
    assert_eq!(body(&outcome), body(&explained));
    assert!(!steps.is_empty());
    let told: Vec<Told> = steps.into_iter().map(Told::from).collect();
    serde_json::to_string(&told).unwrap();
}

/// Contexts of every form.
pub fn contexts() -> Vec<Context> {
    let user = json!({
        "key": "u", "name": "Ann", "plan": "gold", "n": 98765, "at": "2024-02-29T12:00:00Z",
        "version": "2.0.0-rc.1", "groups": ["a", 1, null], "addr": {"city": "Ulm"}, "t": 1.7e12,
    });
    let mut single = user.clone();
    single["kind"] = json!("user");
    [
        single,
        json!({"kind": "multi", "user": user, "org": {"key": "o", "tier": 2}}),
        json!({"kind": "org", "key": "o", "anonymous": true}),
        json!({"key": "", "custom": {"plan": "tin"}}),
    ]
    .into_iter()
    .map(|form| Context::decode_launchdarkly(form).unwrap())
    .chain([Context::default()])
    .collect()
}

/// A value from bytes that are JSON.
pub fn json_of(data: &[u8]) -> Option<Value> {
    serde_json::from_slice(data).ok()
}
