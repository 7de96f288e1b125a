//! What a client of a stream says that it has seen last.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vexil_fuzz::http::check_last_event_id;
use vexil_fuzz::model::change::Position;

fuzz_target!(|data: &[u8]| {
    let Ok(id) = std::str::from_utf8(data) else {
        return;
    };
    for (epoch, version) in [(0, 0), (1, 10), (2, 813), (i64::MAX, i64::MAX)] {
        check_last_event_id(id, Position { epoch, version });
    }
});
