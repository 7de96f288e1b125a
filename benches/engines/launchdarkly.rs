//! LaunchDarkly's engine (`launchdarkly-server-sdk-evaluation`): `evaluate`, with the flag at hand.
//!
//! Its `Store` must return flags and segments by value, so prerequisites and segments are cloned whenever they are asked for;
//! the store of LaunchDarkly's own SDK does the same. The result borrows from the flag.

use crate::case;
use crate::case::Case;
use launchdarkly_server_sdk_evaluation::Context;
use launchdarkly_server_sdk_evaluation::Detail;
use launchdarkly_server_sdk_evaluation::Flag;
use launchdarkly_server_sdk_evaluation::FlagValue;
use launchdarkly_server_sdk_evaluation::Segment;
use launchdarkly_server_sdk_evaluation::Store;
use launchdarkly_server_sdk_evaluation::evaluate;
use serde_json::Value;
use serde_json::from_value;
use std::collections::HashMap;

/// One case, ready to be evaluated.
pub(crate) struct LaunchDarkly {
    store: Cloning,
    flag: Flag,
    context: Context,
}

struct Cloning {
    flags: HashMap<String, Flag>,
    segments: HashMap<String, Segment>,
}

impl Store for Cloning {
    fn flag(&self, key: &str) -> Option<Flag> {
        self.flags.get(key).cloned()
    }

    fn segment(&self, key: &str) -> Option<Segment> {
        self.segments.get(key).cloned()
    }
}

impl LaunchDarkly {
    pub(crate) fn new(case: &Case) -> Self {
        let flags = case.flags.iter().map(|flag| from_value::<Flag>(flag.clone()).unwrap());
        let segments = case.segments.iter().map(|s| from_value::<Segment>(s.clone()).unwrap());
        let store = Cloning {
            flags: flags.map(|flag| (flag.key.clone(), flag)).collect(),
            segments: segments.map(|segment| (segment.key.clone(), segment)).collect(),
        };
        let flag = from_value(case.flags[0].clone()).unwrap();
        let context = from_value(case::context()).unwrap();
        Self { store, flag, context }
    }

    #[inline]
    pub(crate) fn evaluate(&self) -> Detail<&FlagValue> {
        evaluate(&self.store, &self.flag, &self.context, None)
    }

    /// The value as JSON.
    pub(crate) fn answer(&self) -> String {
        let value: Value = serde_json::to_value(self.evaluate().value.unwrap()).unwrap();
        value.to_string()
    }
}
