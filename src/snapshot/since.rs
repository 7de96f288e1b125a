//! A moment that may be set and forgotten again; reading it takes no lock.
// HOT: each evaluation asks how long something has lasted.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Since when something lasts, if it does.
#[derive(Debug)]
pub(super) struct Since {
    origin: Instant,
    /// Nanoseconds from the origin, plus one; 0 is never. Less exact, what follows a moment at once could lie before it.
    at_ns: AtomicU64,
}

impl Default for Since {
    fn default() -> Self {
        Self { origin: Instant::now(), at_ns: AtomicU64::new(0) }
    }
}

impl Since {
    /// Sets the moment; one before the origin counts as the origin.
    pub(super) fn set(&self, at: Instant) {
        let passed = at.saturating_duration_since(self.origin).as_nanos();
        let ns = u64::try_from(passed).unwrap_or(u64::MAX).saturating_add(1);
        self.at_ns.store(ns, Ordering::Release);
    }

    /// Sets the moment unless one is set; returns whether none was.
    pub(super) fn begin(&self, at: Instant) -> bool {
        let is_new = self.at_ns.load(Ordering::Acquire) == 0;
        if is_new {
            self.set(at);
        }
        is_new
    }

    /// Forgets the moment.
    pub(super) fn end(&self) {
        self.at_ns.store(0, Ordering::Release);
    }

    /// The moment; `None` if none is set.
    pub(super) fn at(&self) -> Option<Instant> {
        let ns = self.at_ns.load(Ordering::Acquire).checked_sub(1)?;
        self.origin.checked_add(Duration::from_nanos(ns))
    }

    /// How long ago the moment was; `None` if none is set.
    pub(super) fn elapsed(&self) -> Option<Duration> {
        self.at().map(|at| at.elapsed())
    }
}
