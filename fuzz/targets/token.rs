//! What stands where a token should be.

#![no_main]

use libfuzzer_sys::fuzz_target;
use vexil_fuzz::token::NewSecret;
use vexil_fuzz::token::digest;
use vexil_fuzz::token::is_mistyped;
use vexil_fuzz::token::is_trigger_secret;

const PREFIXES: [&str; 4] = ["vxs_", "vxc_", "vxm_", "vxa_"];

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let known = NewSecret::known(text);
    assert!(known.digest == digest(text) && text.ends_with(&known.hint));
    let has_prefix = PREFIXES.iter().any(|prefix| text.starts_with(prefix));
    let is_good = has_prefix && !is_mistyped(text);
    assert!(has_prefix || !is_mistyped(text));
    assert!(!is_trigger_secret(text) || text.starts_with("vxt_"));
    // If its last character were another one, it would be a typo.
    if is_good || is_trigger_secret(text) {
        let (start, last) = text.split_at(text.len() - 1);
        let other = if last == "0" { "1" } else { "0" };
        let typo = format!("{start}{other}");
        assert!(is_mistyped(&typo) || (!is_good && !is_trigger_secret(&typo)));
    }
});
