//! One context, read in each way there is, for flags that use everything.

#![no_main]

use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vexil_fuzz::check;
use vexil_fuzz::eval::Ruleset;
use vexil_fuzz::eval::read_ruleset;
use vexil_fuzz::json_of;
use vexil_fuzz::model::context::Context;

static RULESET: LazyLock<Ruleset> = LazyLock::new(|| {
    let file = json_of(include_bytes!("../seeds/ruleset.json")).unwrap();
    read_ruleset(file).unwrap().ruleset
});

fuzz_target!(|data: &[u8]| {
    let Some(value) = json_of(data) else {
        return;
    };
    let read = [Context::decode(value.clone()), Context::decode_launchdarkly(value)];
    for context in read.into_iter().flatten() {
        // Whether it is within them or not, it is evaluated.
        let _ = context.check_limits(1);
        for flag in RULESET.flags() {
            check(&RULESET, flag.key.as_str(), &context);
        }
    }
});
