//! The image of an environment, as it lies in a file or in Redis: the bytes as they are, and the bytes as what was sealed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vexil_fuzz::snapshot::check_image;
use vexil_fuzz::snapshot::check_sealed;

fuzz_target!(|data: &[u8]| {
    check_sealed(data);
    check_image(data);
});
