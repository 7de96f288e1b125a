//! Where on a rollout's ring a context lies: both hashes.
//!
//! Which value is hashed, and who owns which part of the ring, is in `rollout`.
// HOT: no allocation, no lock, no log.

use crate::model::attribute::Attribute;
use crate::model::attribute::whole;
use crate::model::rule::WEIGHT_TOTAL;
use sha1::Digest;
use sha1::Sha1;

/// What comes before the value in everything that a rollout hashes with MurmurHash3, hashed in advance.
///
/// The hash is MurmurHash3 (x86, 32 bit, seed 0), which takes its input in blocks of four bytes from the front: all whole
/// blocks of the prefix are mixed once, when the flag is compiled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MurmurPrefix {
    state: u32,
    /// The bytes of the prefix after its last whole block, lowest first.
    tail: u32,
    /// How many those are: `0..=3`.
    n_tail: u32,
    n_bytes: u32,
}

const BLOCK_BYTES: u32 = 4;

impl MurmurPrefix {
    /// Hashes `prefix`, which is `"{flagKey}.{salt}."`, or `"{seed}."` for a rollout with a seed.
    pub(crate) fn new(prefix: &str) -> Self {
        Self { state: 0, tail: 0, n_tail: 0, n_bytes: 0 }.then(prefix.as_bytes())
    }

    /// Returns the slot of `value` on the ring, in `0..100_000`.
    ///
    /// The slot depends only on the prefix and `value`, so a context keeps it when weights change, and rollouts with different
    /// prefixes are independent.
    pub(crate) fn slot(self, value: &str) -> u32 {
        let slot = (u64::from(self.then(value.as_bytes()).finish()) * u64::from(WEIGHT_TOTAL))
            >> u32::BITS;
        // OK because a 32-bit hash times 100_000, divided by 2^32, is below 100_000.
        u32::try_from(slot).unwrap_or_default()
    }

    fn then(mut self, bytes: &[u8]) -> Self {
        // Texts longer than 4 GiB cannot come here; the hash is defined modulo 2^32.
        self.n_bytes = self.n_bytes.wrapping_add(u32::try_from(bytes.len()).unwrap_or_default());
        let (blocks, rest) = bytes.as_chunks::<{ BLOCK_BYTES as usize }>();
        if self.n_tail == 0 {
            for block in blocks {
                self.state = mixed_in(self.state, u32::from_le_bytes(*block));
            }
        } else {
            // A block of ours is the tail so far, completed by the first bytes of the next four.
            let shift = 8 * self.n_tail;
            for block in blocks {
                let block = u32::from_le_bytes(*block);
                self.state = mixed_in(self.state, self.tail | (block << shift));
                self.tail = block >> (u32::BITS - shift);
            }
        }
        for byte in rest {
            self.tail |= u32::from(*byte) << (8 * self.n_tail);
            self.n_tail += 1;
            if self.n_tail == BLOCK_BYTES {
                self.state = mixed_in(self.state, self.tail);
                (self.tail, self.n_tail) = (0, 0);
            }
        }
        self
    }

    fn finish(self) -> u32 {
        let mut hash = self.state ^ scrambled(self.tail) ^ self.n_bytes;
        hash = (hash ^ (hash >> 16)).wrapping_mul(0x85eb_ca6b);
        hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
        hash ^ (hash >> 16)
    }
}

fn scrambled(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

fn mixed_in(state: u32, block: u32) -> u32 {
    (state ^ scrambled(block)).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

/// Returns where `value` lies between 0 and 1 on a ring that LaunchDarkly's SDKs evaluate themselves.
///
/// It is the first 60 bits of SHA-1, as a share of the largest such number, in single precision: the Go and Rust SDKs compute
/// it so, the others in double precision, which differs within about 1e-7 of a boundary.
///
/// Source: launchdarkly/go-server-sdk-evaluation v3, `evaluator_bucketing.go`.
pub(crate) fn sha1_share(prefix: &str, value: &str) -> f32 {
    let digest = Sha1::new().chain_update(prefix).chain_update(value).finalize();
    let first = digest.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes));
    (first >> 4) as f32 / SHA1_SCALE
}

/// The largest number of 60 bits.
const SHA1_SCALE: f32 = 0x0FFF_FFFF_FFFF_FFFF_u64 as f32;

/// Calls `place` with the text that is hashed for an attribute; `None` if a value of its type cannot be placed.
///
/// Texts are hashed as they are, whole numbers by their decimal digits (`98765.0` counts as `98765`).
///
/// Source: LaunchDarkly's bucketing, which admits the same types and keeps numbers in double precision.
pub(crate) fn with_hashed_text<T>(
    attribute: Attribute<'_>,
    place: impl FnOnce(&str) -> T,
) -> Option<T> {
    match attribute {
        Attribute::Text(text) => Some(place(text)),
        Attribute::Number(number) => {
            whole(number).map(|whole| place(itoa::Buffer::new().format(whole)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;

    /// Computed with an independent implementation of MurmurHash3; do not change them, every rollout depends on them.
    #[test]
    fn slots_are_fixed_for_ever() {
        for (prefix, value, expected) in [
            ("", "", 0),
            ("checkout-v2.shop.production.", "user-42", 4_691),
            ("a.b.", "x", 24_456),
            ("61.", "user-42", 27_471),
            ("new-nav.s.", "Zoë", 40_804),
            ("f.s.", "98765", 9_959),
            ("checkout-redesign.pepper1.", "user-42", 6_654),
        ] {
            assert_eq!(MurmurPrefix::new(prefix).slot(value), expected, "{prefix}{value}");
        }
    }

    /// Computed with Python; the first three also with LaunchDarkly's Python SDK.
    #[test]
    fn shares_are_those_of_other_sdks() {
        for (prefix, value, expected) in [
            ("hashKey.saltyA.", "userKeyA", 0.421_575_87_f32),
            ("checkout-redesign.pepper1.", "user-42", 0.603_899_36),
            ("61.", "user-42", 0.187_497_15),
            ("checkout-redesign.pepper1.", "98765", 0.078_373_53),
            ("beta-testers.seg-salt.", "user-42", 0.476_515_77),
            ("checkout-redesign.pepper1.", "Zoë", 0.840_023_1),
        ] {
            assert_eq!(sha1_share(prefix, value), expected, "{prefix}{value}");
        }
    }

    proptest! {
        #[test]
        fn the_prepared_hash_is_the_hash(prefix in ".{0,12}", value in ".{0,20}") {
            let whole = format!("{prefix}{value}");
            let expected = murmur3::murmur3_32(&mut whole.as_bytes(), 0).unwrap();
            prop_assert_eq!(MurmurPrefix::new(&prefix).then(value.as_bytes()).finish(), expected);
        }
    }

    #[test]
    fn whole_numbers_hash_by_their_digits() {
        let text = |value: &Value| with_hashed_text(Attribute::new(value).unwrap(), str::to_owned);
        for (number, digits) in [
            (json!(98765), "98765"),
            (json!(98765.0), "98765"),
            (json!(-0.0), "0"),
            (json!(-7), "-7"),
            (json!(9_007_199_254_740_993_i64), "9007199254740992"),
        ] {
            assert_eq!(text(&number).as_deref(), Some(digits));
        }
        for other in [json!(1.5), json!(true), json!(["a"]), json!({}), json!(1e300)] {
            assert_eq!(text(&other), None, "{other}");
        }
    }
}
