//! Numbers that are handed out evenly over a range, so that clients which are told to wait do not come back together.
//!
//! Not random: the multiples of the golden ratio fill a range more evenly than chance does, for any count of clients, and
//! need neither a generator nor a lock. Nothing here is a secret.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// 2^64 divided by the golden ratio. Source: Knuth, The Art of Computer Programming, volume 3, section 6.4.
const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

/// Hands out numbers.
#[derive(Debug, Default)]
pub(super) struct Spread(AtomicU64);

impl Spread {
    /// Returns a number of the range, far from those that were returned just before.
    pub(super) fn pick(&self, range: &RangeInclusive<u32>) -> u32 {
        let fraction = u128::from(self.0.fetch_add(STEP, Ordering::Relaxed));
        let width = u128::from(range.end().saturating_sub(*range.start())) + 1;
        // OK because the product, shifted, is below the width, which is at most 2^32.
        let offset = u32::try_from((fraction * width) >> u64::BITS).unwrap_or_default();
        range.start().saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_filled_evenly() {
        let spread = Spread::default();
        let mut counts = [0_u32; 10];
        for _ in 0..1_000 {
            let number = spread.pick(&(3_000..=3_009));
            counts[usize::try_from(number - 3_000).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (97..=103).contains(count)), "{counts:?}");
        assert_eq!(spread.pick(&(7..=7)), 7);
    }
}
