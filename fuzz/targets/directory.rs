//! The directory of environments and tokens, as it lies in a file.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vexil_fuzz::snapshot::check_directory;
use vexil_fuzz::snapshot::check_sealed;

fuzz_target!(|data: &[u8]| {
    check_sealed(data);
    check_directory(data);
});
