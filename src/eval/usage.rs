//! How often a compiled flag served each of its variations.
//!
//! Who evaluates for a client counts; `evaluate` itself does not, so that it stays a pure function. What becomes of the
//! counts is decided in `snapshot` and `record`.
// HOT: one atomic addition for each evaluation.

use crate::eval::Outcome;
use crate::model::event::FlagCount;
use crate::model::key::FlagKey;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// How often one version of a flag was evaluated since the counts were last taken.
#[derive(Debug)]
pub struct Usage {
    flag: FlagKey,
    version: i64,
    /// One for each variation, and behind them one for no variation.
    counts: Box<[AtomicU64]>,
}

impl Usage {
    pub(crate) fn new(flag: FlagKey, version: i64, n_variations: usize) -> Self {
        let counts = (0..=n_variations).map(|_| AtomicU64::new(0)).collect();
        Self { flag, version, counts }
    }

    /// Counts an evaluation.
    ///
    /// # Cost
    ///
    /// One atomic addition; no lock, no allocation.
    #[inline]
    pub fn count(&self, outcome: &Outcome<'_>) {
        let none = self.counts.len().saturating_sub(1);
        let index = outcome.variation.map_or(none, |(index, _)| index);
        if let Some(count) = self.counts.get(index) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes the counts that are not zero, and begins anew.
    pub fn take(&self, taken: &mut Vec<FlagCount>) {
        let none = self.counts.len().saturating_sub(1);
        for (index, count) in self.counts.iter().enumerate() {
            // Most flags were not asked for, and reading costs less than exchanging.
            if count.load(Ordering::Relaxed) == 0 {
                continue;
            }
            let n = count.swap(0, Ordering::Relaxed);
            let variation = if index == none { None } else { u32::try_from(index).ok() };
            taken.push(FlagCount { flag: self.flag.clone(), variation, version: self.version, n });
        }
    }
}
