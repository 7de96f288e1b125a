//! How current the snapshot is: when the store last confirmed it.
// HOT: reading takes no lock, because each evaluation asks.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How long a confirmation holds; the poll renews it every second.
const CONFIRMATION_HOLDS: Duration = Duration::from_secs(10);

/// How current what is served is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Whether there is anything to serve.
    pub is_ready: bool,
    /// Where what is served comes from.
    pub source: Source,
    /// Whether the last attempt to confirm with the store failed, or none was made for too long.
    pub is_stale: bool,
    /// How long ago the store last confirmed it; `None` if it never did.
    pub confirmed_ago: Option<Duration>,
}

/// Where what is served comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Nothing is served.
    Nothing,
    /// The files of an earlier run; the store was not reached since.
    Disk,
    /// The store.
    Store,
}

impl Freshness {
    /// How long ago the store last confirmed what is served, if that is longer than a replica may keep to itself.
    ///
    /// What comes from disk was never confirmed; it counts from the start of the process, since nothing is known of the time
    /// before.
    pub fn unconfirmed_for(&self) -> Option<Duration> {
        self.confirmed_ago.filter(|ago| self.source == Source::Disk || *ago > CONFIRMATION_HOLDS)
    }

    /// Whether the store has confirmed what is served within this time.
    pub fn is_confirmed_within(&self, time: Duration) -> bool {
        self.source == Source::Store && self.confirmed_ago.is_some_and(|ago| ago <= time)
    }
}

#[derive(Debug)]
pub(super) struct Status {
    started_at: Instant,
    /// Milliseconds from the start of the process to the last confirmation, plus one; 0 is never.
    confirmed_at_ms: AtomicU64,
    has_failed_since: AtomicBool,
    is_from_disk: AtomicBool,
    regression: Mutex<Option<String>>,
    problem: Mutex<Option<&'static str>>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            started_at: Instant::now(),
            confirmed_at_ms: AtomicU64::new(0),
            has_failed_since: AtomicBool::new(false),
            is_from_disk: AtomicBool::new(false),
            regression: Mutex::default(),
            problem: Mutex::default(),
        }
    }
}

impl Status {
    /// The store confirmed that what is served is current.
    pub(super) fn confirm(&self) {
        let elapsed = u64::try_from(self.started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.confirmed_at_ms.store(elapsed.saturating_add(1), Ordering::Release);
        self.has_failed_since.store(false, Ordering::Release);
    }

    /// The store could not be asked.
    pub(super) fn fail(&self) {
        self.has_failed_since.store(true, Ordering::Release);
    }

    /// What an earlier run left on disk is served.
    pub(super) fn load_from_disk(&self) {
        self.is_from_disk.store(true, Ordering::Release);
    }

    /// Notes what the store has lost that was served; `None` if nothing is.
    pub(super) fn set_regression(&self, detail: Option<String>) {
        *self.regression.lock().unwrap_or_else(PoisonError::into_inner) = detail;
    }

    pub(super) fn regression(&self) -> Option<String> {
        self.regression.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why the store cannot be used, in general words; `None` if it can.
    pub(super) fn set_problem(&self, problem: Option<&'static str>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    pub(super) fn problem(&self) -> Option<&'static str> {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn freshness(&self) -> Freshness {
        let is_from_disk = self.is_from_disk.load(Ordering::Acquire);
        let elapsed = self.started_at.elapsed();
        let (source, confirmed_ago) = match self.confirmed_at_ms.load(Ordering::Acquire) {
            0 if is_from_disk => (Source::Disk, Some(elapsed)),
            0 => (Source::Nothing, None),
            at => (Source::Store, Some(elapsed.saturating_sub(Duration::from_millis(at - 1)))),
        };
        let is_overdue = confirmed_ago.is_none_or(|ago| ago > CONFIRMATION_HOLDS);
        Freshness {
            is_ready: source != Source::Nothing,
            source,
            is_stale: source != Source::Store
                || self.has_failed_since.load(Ordering::Acquire)
                || is_overdue,
            confirmed_ago,
        }
    }
}
