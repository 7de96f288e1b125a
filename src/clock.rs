//! Time and randomness: the only place that asks the system for either.
//!
//! Everything else is given a [`Clock`] and [`Ids`], so that the core stays pure and what depends on time is seen in
//! signatures.

use jiff::Timestamp;
use jiff::Unit;
use rand::RngExt;
use std::sync::LazyLock;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;
use std::time::Instant;
use uuid::Uuid;

/// When this process first asked; what has passed since then no jump of the time of day changes.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
/// What the database's clock said at the origin, in microseconds since 1970; 0 while no database was asked.
static DATABASE_US: AtomicI64 = AtomicI64::new(0);

/// Tells the time: that of the database once it was asked, so that all replicas have one time, and else that of the system.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Returns the time, UTC, truncated to microseconds: PostgreSQL keeps no more, and both databases must give back what
    /// they were given.
    pub fn now(self) -> Timestamp {
        let database_us = DATABASE_US.load(Ordering::Relaxed);
        let now = (database_us != 0).then(|| database_us.saturating_add(passed_us(*ORIGIN)));
        let now = now.and_then(|us| Timestamp::from_microsecond(us).ok());
        now.unwrap_or_else(|| self.of_system())
    }

    /// Takes over the time that a database told, which was asked at `asked` and has just answered.
    ///
    /// What differs by no more than the answer may have been on its way changes nothing.
    pub fn follow(self, told: Timestamp, asked: Instant) {
        let on_its_way_us = passed_us(asked);
        let at_us = passed_us(*ORIGIN).saturating_sub(on_its_way_us / 2);
        let measured_us = told.as_microsecond().saturating_sub(at_us);
        let known_us = DATABASE_US.load(Ordering::Relaxed);
        if known_us == 0 || measured_us.abs_diff(known_us) > on_its_way_us.unsigned_abs() / 2 {
            DATABASE_US.store(measured_us, Ordering::Relaxed);
        }
    }

    /// By how many seconds the system's clock is ahead of the database's; negative if it is behind.
    pub fn skew_secs(self) -> f64 {
        self.of_system().duration_since(self.now()).as_secs_f64()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that may ask the system")]
    fn of_system(self) -> Timestamp {
        let now = Timestamp::now();
        let rounding =
            jiff::TimestampRound::new().smallest(Unit::Microsecond).mode(jiff::RoundMode::Trunc);
        // OK because rounding down to microseconds stays within the range of timestamps.
        now.round(rounding).unwrap_or(now)
    }
}

fn passed_us(since: Instant) -> i64 {
    i64::try_from(since.elapsed().as_micros()).unwrap_or(i64::MAX)
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
