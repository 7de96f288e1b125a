//! How current the snapshot is: when the store last confirmed it.
// HOT: reading takes no lock, because each evaluation asks.

use crate::snapshot::history::Lost;
use crate::snapshot::since::Since;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// How long a confirmation holds; the poll renews it every second.
pub(super) const CONFIRMATION_HOLDS: Duration = Duration::from_secs(10);

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
    /// What comes from disk counts from when the earlier run last wrote down that it was confirmed, or from the start of the
    /// process if that is not known.
    pub fn unconfirmed_for(&self) -> Option<Duration> {
        self.confirmed_ago.filter(|ago| self.source == Source::Disk || *ago > CONFIRMATION_HOLDS)
    }

    /// Whether the store has not confirmed what is served for longer than a replica may keep to itself, or never has.
    pub fn is_unconfirmed(&self) -> bool {
        self.source == Source::Nothing || self.unconfirmed_for().is_some()
    }

    /// Whether the store has confirmed what is served within this time.
    pub fn is_confirmed_within(&self, time: Duration) -> bool {
        self.source == Source::Store && self.confirmed_ago.is_some_and(|ago| ago <= time)
    }
}

#[derive(Debug)]
pub(super) struct Status {
    started_at: Instant,
    /// When the store was last asked and confirmed.
    confirmed: Since,
    has_failed_since: AtomicBool,
    is_from_disk: AtomicBool,
    /// How long ago what is on disk was confirmed when this process started, in milliseconds.
    disk_age_ms: AtomicU64,
    regression: Mutex<Option<Lost>>,
    problem: Mutex<Option<&'static str>>,
}

impl Default for Status {
    fn default() -> Self {
        Self {
            started_at: Instant::now(),
            confirmed: Since::default(),
            has_failed_since: AtomicBool::new(false),
            is_from_disk: AtomicBool::new(false),
            disk_age_ms: AtomicU64::new(0),
            regression: Mutex::default(),
            problem: Mutex::default(),
        }
    }
}

impl Status {
    /// The store confirmed that what is served is current; it was asked at `asked`.
    pub(super) fn confirm(&self, asked: Instant) {
        self.confirmed.set(asked);
        self.has_failed_since.store(false, Ordering::Release);
    }

    /// When the store last confirmed; now, if it never did.
    pub(super) fn confirmed_at(&self) -> Instant {
        let now = Instant::now();
        now.checked_sub(self.confirmed.elapsed().unwrap_or_default()).unwrap_or(now)
    }

    /// The store could not be asked.
    pub(super) fn fail(&self) {
        self.has_failed_since.store(true, Ordering::Release);
    }

    /// What an earlier run left on disk is served, which was confirmed so long ago.
    pub(super) fn load_from_disk(&self, age: Duration) {
        let age = age.saturating_sub(self.started_at.elapsed());
        let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.disk_age_ms.store(age_ms, Ordering::Release);
        self.is_from_disk.store(true, Ordering::Release);
    }

    /// Notes what the store has lost that was served; `None` if nothing is.
    pub(super) fn set_regression(&self, lost: Option<Lost>) {
        *self.regression.lock().unwrap_or_else(PoisonError::into_inner) = lost;
    }

    pub(super) fn regression(&self) -> Option<Lost> {
        self.regression.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes why the store cannot be used, in general words; `None` if it can.
    pub(super) fn set_problem(&self, problem: Option<&'static str>) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    pub(super) fn problem(&self) -> Option<&'static str> {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store was asked after this moment, and has confirmed.
    pub(super) fn is_confirmed_since(&self, moment: Instant) -> bool {
        self.confirmed.at().is_some_and(|asked| asked >= moment)
    }

    pub(super) fn freshness(&self) -> Freshness {
        let is_from_disk = self.is_from_disk.load(Ordering::Acquire);
        let (source, confirmed_ago) = match self.confirmed.elapsed() {
            None if is_from_disk => {
                let age = Duration::from_millis(self.disk_age_ms.load(Ordering::Acquire));
                (Source::Disk, Some(age.saturating_add(self.started_at.elapsed())))
            }
            None => (Source::Nothing, None),
            Some(ago) => (Source::Store, Some(ago)),
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
