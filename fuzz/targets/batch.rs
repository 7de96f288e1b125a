//! A file of flags on the first line, and on each other line a flag and a context, as `vexil eval --batch` reads them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vexil_fuzz::check;
use vexil_fuzz::eval::read_ruleset;
use vexil_fuzz::json_of;
use vexil_fuzz::model::context::Context;

/// Lines that are looked at.
const LINES_MAX: usize = 32;

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(read) = lines.next().and_then(json_of).and_then(|file| read_ruleset(file).ok()) else {
        return;
    };
    for line in lines.take(LINES_MAX).filter_map(json_of) {
        let context = line.get("context").cloned().unwrap_or_default();
        if let (Ok(context), Some(flag)) =
            (Context::decode_launchdarkly(context), line.get("flag").and_then(|key| key.as_str()))
        {
            check(&read.ruleset, flag, &context);
        }
    }
});
