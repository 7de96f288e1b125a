//! What SDKs report, between the request that brings it and the task that writes it.
//!
//! The data plane hands over what it has read and goes on; nothing here waits for a database. What is too much is dropped and
//! counted. The task that writes is in the room `record`.
//!
//! # Invariants
//!
//! * Knows no store: whoever reports cannot be held up by one.
//! * Of a context, only kinds and keys are read; attributes are not even kept in memory.
//! * Everything that waits here has a bound.

mod queue;
mod read;
mod unit;

pub use read::Counter;
pub use read::Counting;
pub use read::ReadError;
pub use read::Report;

use crate::clock::Clock;
use crate::clock::Ids;
use crate::events::queue::Queue;
use crate::model::change::EnvId;
use crate::model::event::Event;
use crate::model::event::FlagCount;
use crate::model::event::Payload;
use crate::model::event::UnknownCount;
use crate::model::key::FlagKey;
use crate::telemetry::Metrics;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// Unknown flags that are counted between two writes, in all environments.
const UNKNOWN_MAX: usize = 10_000;
/// KiB of bodies that are being read at once.
const READING_KIB_MAX: usize = 32 * 1024;
/// How long an SDK's payload is remembered, so that it counts once when it is sent again, which SDKs do after a second.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);

/// What waits to be written.
#[derive(Debug)]
pub struct Events {
    queue: Queue,
    unknown: Mutex<HashMap<(EnvId, FlagKey), u64>>,
    reading: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    clock: Clock,
    ids: Ids,
}

/// What one request of an SDK reported, as far as it is understood.
#[derive(Debug, Default)]
pub struct Reported {
    /// Counts of flags that there are.
    pub counts: Vec<FlagCount>,
    /// Counts of flags that there are not.
    pub unknown: Vec<UnknownCount>,
    /// Single events.
    pub events: Vec<Event>,
    /// When the newest counts ended.
    pub at: Option<Timestamp>,
}

impl Events {
    /// Nothing waits yet.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            queue: Queue::default(),
            unknown: Mutex::default(),
            reading: Arc::new(Semaphore::new(READING_KIB_MAX)),
            metrics,
            clock: Clock,
            ids: Ids,
        }
    }

    /// Reads the body that an SDK sent.
    ///
    /// # Errors
    ///
    /// It is not a JSON array.
    pub fn read(&self, body: &[u8], counting: Counting) -> Result<Report, ReadError> {
        let report = read::read(body, counting, self.clock.now())?;
        self.metrics.events.invalid.inc_by(report.n_invalid);
        Ok(report)
    }

    /// Takes what an SDK reported, to be written later; drops it if too much waits already.
    ///
    /// `id` identifies the payload in its environment; without one it is taken for new.
    pub fn accept(&self, env: EnvId, id: Option<String>, reported: Reported) {
        let now = self.clock.now();
        let id = id.unwrap_or_else(|| self.ids.next());
        let expires_at = now.saturating_add(REMEMBERED).unwrap_or(now);
        let Reported { counts, unknown, events, at } = reported;
        let at = at.unwrap_or(now);
        let payload = Payload { env, id, expires_at, at, counts, unknown, events };
        self.metrics.events.received.inc();
        match self.queue.push(payload) {
            Ok(n_bytes) => _ = self.metrics.events.queue_bytes.set(n_bytes),
            Err(_) => self.metrics.events.dropped.count("queue_full"),
        }
    }

    /// Counts that a flag was asked for that there is not.
    pub fn count_unknown(&self, env: EnvId, flag: &str, n: u64) {
        // What cannot be a key is nobody's flag, and might hold anything. Only questions without an answer come to the lock.
        let Some(flag) = FlagKey::parse(flag) else { return };
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = unknown.len() >= UNKNOWN_MAX;
        let key = (env, flag);
        match unknown.get_mut(&key) {
            Some(count) => *count = count.saturating_add(n),
            None if is_full => self.metrics.events.dropped.count("unknown_flags"),
            None => _ = unknown.insert(key, n),
        }
    }

    /// Takes the counts of flags that there are not, by environment.
    pub fn take_unknown(&self) -> HashMap<EnvId, Vec<UnknownCount>> {
        let taken =
            std::mem::take(&mut *self.unknown.lock().unwrap_or_else(PoisonError::into_inner));
        let mut by_environment: HashMap<EnvId, Vec<UnknownCount>> = HashMap::new();
        for ((env, flag), n) in taken {
            by_environment.entry(env).or_default().push(UnknownCount { flag, n });
        }
        by_environment
    }

    /// Takes what waits, oldest first, up to about so many rows.
    pub fn take(&self, n_rows_max: usize) -> Vec<Payload> {
        let (taken, n_bytes) = self.queue.take(n_rows_max);
        self.metrics.events.queue_bytes.set(n_bytes);
        taken
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Waits until something waits.
    pub async fn arrived(&self) {
        self.queue.arrived().await;
    }

    /// Leave to keep so many more KiB of bodies in memory, until it is dropped; `None` if they are too many.
    pub fn try_reading(&self, n_kib: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.reading).try_acquire_many_owned(n_kib).ok()
    }
}
