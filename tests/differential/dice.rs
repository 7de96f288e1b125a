//! Random choices from a seed.

use rand::RngExt;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::Value;

/// Makes the same choices for the same seed.
pub(crate) struct Dice(StdRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    /// `true` once in `n` times.
    pub(crate) fn one_in(&mut self, n: u32) -> bool {
        self.0.random_range(0..n) == 0
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        self.0.random_range(0..n)
    }

    pub(crate) fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        let i = self.0.random_range(0..all.len());
        all[i].clone()
    }

    /// A list of up to `n` elements.
    pub(crate) fn list(&mut self, n: u32, mut make: impl FnMut(&mut Self) -> Value) -> Vec<Value> {
        (0..self.below(n + 1)).map(|_| make(self)).collect()
    }
}
