//! Time and randomness: the only place that asks the system for either.
//!
//! Everything else is given a [`Clock`] and [`Ids`], so that the core stays pure and what depends on time is seen in
//! signatures.

use jiff::Timestamp;
use jiff::Unit;
use rand::RngExt;
use uuid::Uuid;

/// Tells the time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Returns the time, UTC, truncated to microseconds: PostgreSQL keeps no more, and both databases must give back what
    /// they were given.
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    pub fn now(self) -> Timestamp {
        let now = Timestamp::now();
        let rounding =
            jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
        // OK because rounding down to microseconds stays within the range of timestamps.
        now.round(rounding).unwrap_or(now)
    }
}

/// Makes ids and secrets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ids;

impl Ids {
    /// Returns an id that is unique everywhere and, as text, ordered by the time at which it was made.
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    pub fn next(self) -> String {
        Uuid::now_v7().to_string()
    }

    /// Returns a character for each `n` of `alphabet`, each chosen with equal chance by the system's secure generator.
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    pub fn secret(self, alphabet: &[u8], n: usize) -> String {
        let mut rng = rand::rng();
        let pick = |_| {
            let index = rng.random_range(0..alphabet.len());
            alphabet.get(index).copied().map_or('0', char::from)
        };
        (0..n).map(pick).collect()
    }

    /// Returns 256 bits from the system's secure generator.
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    pub fn key(self) -> [u8; 32] {
        rand::rng().random()
    }

    /// Returns a number from `0.0` to `1.0`, to spread what would otherwise happen at once.
    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    pub fn jitter(self) -> f64 {
        rand::rng().random_range(0.0..1.0)
    }
}
