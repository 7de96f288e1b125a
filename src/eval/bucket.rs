//! Where on a rollout's ring a context lies.
// HOT: no allocation, no lock, no log.

use crate::model::context::Attribute;
use crate::model::rule::WEIGHT_TOTAL;
use std::io::Read;

/// Returns the slot of `value` on the ring of a rollout, in `0..100_000`.
///
/// The slot depends only on `prefix` and `value`, so a context keeps it when weights change, and rollouts with different
/// prefixes are independent. `prefix` is `"{flagKey}.{salt}."`, or `"{seed}."` for a rollout with a seed.
///
/// # Cost
///
/// One MurmurHash3 (x86, 32 bit, seed 0) over both texts; no allocation.
pub fn slot(prefix: &str, value: &str) -> u32 {
    let mut text = prefix.as_bytes().chain(value.as_bytes());
    // OK because reading from memory cannot fail.
    let hash = murmur3::murmur3_32(&mut text, 0).unwrap_or_default();
    let slot = (u64::from(hash) * u64::from(WEIGHT_TOTAL)) >> u32::BITS;
    // OK because a 32-bit hash times 100_000, divided by 2^32, is below 100_000.
    u32::try_from(slot).unwrap_or_default()
}

/// Returns the slot of an attribute's value; `None` if a value of its type cannot be placed.
///
/// Texts are hashed as they are, whole numbers by their decimal digits (`98765.0` counts as `98765`).
///
/// Source: LaunchDarkly's bucketing, which admits the same types.
pub fn attribute_slot(prefix: &str, attribute: Attribute<'_>) -> Option<u32> {
    match attribute {
        Attribute::Text(text) => Some(slot(prefix, text)),
        Attribute::Json(value) => match value {
            serde_json::Value::String(text) => Some(slot(prefix, text)),
            serde_json::Value::Number(number) => Some(slot(prefix, &whole_digits(number)?)),
            _ => None,
        },
    }
}

fn whole_digits(number: &serde_json::Number) -> Option<String> {
    if number.is_i64() || number.is_u64() {
        return Some(number.to_string());
    }
    let float = number.as_f64()?;
    // Beyond 2^53 a float does not say which whole number is meant.
    let is_whole = float.fract() == 0.0 && float.abs() < 9_007_199_254_740_992.0;
    // Adding zero takes the sign from a negative zero.
    is_whole.then(|| format!("{:.0}", float + 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;
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
            assert_eq!(slot(prefix, value), expected, "{prefix}{value}");
        }
    }

    #[test]
    fn whole_numbers_hash_by_their_digits() {
        let text = slot("f.s.", "98765");
        for number in [json!(98765), json!(98765.0)] {
            assert_eq!(attribute_slot("f.s.", Attribute::Json(&number)), Some(text));
        }
        for other in [json!(1.5), json!(true), json!(null), json!(["a"]), json!(1e300)] {
            assert_eq!(attribute_slot("f.s.", Attribute::Json(&other)), None, "{other}");
        }
    }
}
