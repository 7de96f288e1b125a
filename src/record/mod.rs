//! The task that writes what SDKs report and how often flags are evaluated.
//!
//! It takes payloads from the queue in `events` and counts from the flags in `snapshot`, and writes both in batches, each in
//! one transaction with the ids of its payloads: so a payload that is sent or written again counts once, and the counts of
//! replicas add up. While the store is away, one batch is tried again and again and everything else waits where it is.
//! How rows are made of payloads is in `rows`.
//!
//! # Invariants
//!
//! * No request waits for it.
//! * Counts are taken from flags only when those taken before are written, so none is lost while the store is away.
//! * What was reported to one installation is never written to another, which has its own numbers of environments.

mod rows;

use crate::clock::Clock;
use crate::clock::Ids;
use crate::events::Events;
use crate::model::event::Payload;
use crate::record::rows::Rows;
use crate::snapshot::Snapshots;
use crate::store::OTHER_INSTALLATION;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::within_timeout;
use crate::telemetry::Metrics;
use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing::info;
use tracing::warn;

/// How often counts of evaluations are written.
const COUNTS_INTERVAL: Duration = Duration::from_secs(10);
/// How long the first payload of a batch waits for others.
const LINGER: Duration = Duration::from_millis(200);
/// Rows of one batch, about.
const BATCH_ROWS: usize = 5_000;
/// How long to wait before a batch is tried again.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// How often days are prepared and old ones dropped.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(600);
/// How long to wait before that is tried again; a day that is missing is prepared by the batch that needs it.
const UPKEEP_RETRY_DELAY: Duration = Duration::from_secs(30);
/// How many days are prepared ahead.
const DAYS_AHEAD: i64 = 7;
/// How long the counts of this process are remembered: a batch is tried again as long as the store is away.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a flag that there is not is told after it was last asked for.
const UNKNOWN_KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);
/// How long the last writing may take when the process stops.
pub const LAST_WRITE_TIMEOUT: Duration = Duration::from_secs(2);

/// The task that writes.
#[derive(Debug)]
pub struct Recorder {
    /// Where it writes.
    store: Store,
    /// Where the counts of flags are.
    snapshots: Arc<Snapshots>,
    /// What SDKs have reported, and will report.
    pub events: Arc<Events>,
    metrics: Arc<Metrics>,
    clock: Clock,
    ids: Ids,
    retention_days: u32,
    /// The installation that the following is of: the batch and the queue, the key, and the days; `None` until it is known.
    installation: Option<Arc<String>>,
    /// What is being written; tried until it is.
    batch: Vec<Payload>,
    /// Whether the batch has to be written payload by payload, because one of them is refused.
    is_single: bool,
    /// Whether the batch is just being written; still so after a panic.
    is_writing: bool,
    /// Whether the database was away at the last attempt; told once.
    is_waiting: bool,
    /// The key that hashes the keys of contexts, once it is known.
    key: Option<[u8; 32]>,
    /// Days that events can be written for.
    days: BTreeSet<Date>,
    next_upkeep: Instant,
}

impl Recorder {
    /// Puts the task together.
    pub fn new(
        store: &Store,
        snapshots: &Arc<Snapshots>,
        metrics: &Arc<Metrics>,
        retention_days: u32,
    ) -> Self {
        Self {
            store: store.clone(),
            snapshots: Arc::clone(snapshots),
            events: Arc::new(Events::new(Arc::clone(metrics))),
            metrics: Arc::clone(metrics),
            clock: Clock,
            ids: Ids,
            retention_days,
            installation: None,
            batch: Vec::new(),
            is_single: false,
            is_writing: false,
            is_waiting: false,
            key: None,
            days: BTreeSet::new(),
            next_upkeep: Instant::now(),
        }
    }

    /// Writes from when the tables are there (`is_prepared`) until nothing more can come (`is_last`).
    ///
    /// May be started again after a panic; a payload that causes one is dropped.
    pub async fn run(
        this: Arc<Mutex<Self>>,
        is_prepared: CancellationToken,
        is_last: CancellationToken,
    ) {
        tokio::select! {
            () = is_prepared.cancelled() => {}
            () = is_last.cancelled() => return,
        }
        let mut this = this.lock().await;
        this.recover();
        this.write_all(&is_last).await;
    }

    /// Goes on after a panic: payload by payload, and without the one that was being written alone.
    fn recover(&mut self) {
        if !std::mem::replace(&mut self.is_writing, false) {
            return;
        }
        if self.is_single && !self.batch.is_empty() {
            self.metrics.events.dropped.count("refused");
            self.batch.remove(0);
        }
        self.is_single = true;
    }

    async fn write_all(&mut self, is_last: &CancellationToken) {
        let mut next_counts = Instant::now() + COUNTS_INTERVAL;
        while !is_last.is_cancelled() {
            if self.batch.is_empty() {
                tokio::select! {
                    () = is_last.cancelled() => break,
                    () = tokio::time::sleep_until(next_counts) => {}
                    () = self.events.arrived() => wait(LINGER, is_last).await,
                    () = tokio::time::sleep_until(self.next_upkeep) => {}
                }
            }
            self.leave_former();
            self.keep_up().await;
            if self.batch.is_empty() && Instant::now() >= next_counts {
                self.take_counts();
                next_counts = Instant::now() + COUNTS_INTERVAL;
            }
            if !self.write_next().await && !self.batch.is_empty() {
                wait(RETRY_DELAY, is_last).await;
            }
        }
        self.finish().await;
    }

    /// Writes what is there when the process stops, as far as that is soon done.
    async fn finish(&mut self) {
        let writing = async {
            while self.write_next().await {}
            if self.batch.is_empty() {
                self.take_counts();
                while self.write_next().await {}
            }
        };
        let is_written = tokio::time::timeout(LAST_WRITE_TIMEOUT, writing).await.is_ok();
        let n_lost = self.batch.len() + self.events.take(usize::MAX).len();
        if !is_written || n_lost > 0 {
            warn!(payloads = n_lost, "stopped before all events and counts were written");
        }
    }

    /// Makes payloads of how often flags were evaluated since the last time; they are the next batch.
    fn take_counts(&mut self) {
        let now = self.clock.now();
        let expires_at = now.saturating_add(REMEMBERED).unwrap_or(now);
        let mut unknown = self.events.take_unknown();
        for environment in self.snapshots.directory().environments() {
            let counts = environment.take_usage();
            let unknown = unknown.remove(&environment.id).unwrap_or_default();
            if counts.is_empty() && unknown.is_empty() {
                continue;
            }
            self.batch.push(Payload {
                env: environment.id,
                id: self.ids.next(),
                expires_at,
                at: now,
                counts,
                unknown,
                events: Vec::new(),
            });
        }
    }

    /// Drops what waits, and forgets what is known of the database, if another installation has been accepted in the place of
    /// the one that all of it is of.
    fn leave_former(&mut self) {
        let followed = self.store.followed();
        if self.installation == followed {
            return;
        }
        if std::mem::replace(&mut self.installation, followed).is_none() {
            return;
        }
        let mut dropped = std::mem::take(&mut self.batch);
        dropped.extend(self.events.take(usize::MAX));
        let unknown = self.events.take_unknown();
        let n_dropped = dropped.len() + unknown.values().map(Vec::len).sum::<usize>();
        for _ in 0..n_dropped {
            self.metrics.events.dropped.count("other_installation");
        }
        (self.key, self.is_single, self.is_waiting) = (None, false, false);
        self.days.clear();
        self.next_upkeep = Instant::now();
        warn!(dropped = n_dropped, "events of the former installation are not written to another");
    }

    /// Tries to write the batch, or the next one; returns whether there may be more to write now.
    async fn write_next(&mut self) -> bool {
        self.leave_former();
        if self.batch.is_empty() {
            self.batch = self.events.take(BATCH_ROWS);
        }
        if self.batch.is_empty() {
            self.is_single = false;
            return false;
        }
        let n = if self.is_single { 1 } else { self.batch.len() };
        let written = match self.batch.get(..n) {
            Some(payloads) => {
                self.is_writing = true;
                let known = (self.installation.as_ref(), self.key, &self.days);
                within_timeout(write(&self.store, payloads, known, &self.metrics)).await
            }
            None => return false,
        };
        self.is_writing = false;
        match written {
            Ok(Written { key, days }) => {
                self.key = Some(key);
                self.days.extend(days);
                self.is_waiting = false;
            }
            // Another installation's database is none to write to either.
            Err(StoreError::Unavailable(cause) | StoreError::Regressed(cause)) => {
                self.metrics.events.errors.inc();
                if !self.is_waiting {
                    info!(cause, "events and counts wait for the database");
                }
                self.is_waiting = true;
                return false;
            }
            Err(error) if self.is_single => {
                self.metrics.events.errors.inc();
                self.metrics.events.dropped.count("refused");
                error!(%error, "the database refuses a payload of events; it is dropped");
            }
            Err(error) => {
                self.metrics.events.errors.inc();
                warn!(%error, "the database refuses a batch of events; trying them one by one");
                self.is_single = true;
                // What is known of the tables may have been wrong.
                self.days.clear();
                return true;
            }
        }
        self.batch.drain(..n);
        if self.batch.is_empty() {
            self.is_single = false;
        }
        true
    }

    /// Prepares days ahead and drops old ones, now and then.
    async fn keep_up(&mut self) {
        if Instant::now() < self.next_upkeep {
            return;
        }
        let now = self.clock.now();
        let today = day_of(now);
        let work = async {
            let ahead = (-1..=DAYS_AHEAD).map(|n| today.saturating_add(n.days())).collect();
            within_timeout(self.store.prepare_days(&ahead)).await?;
            self.days = ahead;
            let first = today.saturating_sub(i64::from(self.retention_days).days());
            within_timeout(self.store.drop_days_before(first)).await?;
            let asked_since = now.checked_sub(UNKNOWN_KEPT).unwrap_or(now);
            within_timeout(self.store.forget_expired(now, asked_since)).await
        };
        let delay = match work.await {
            Ok(()) => UPKEEP_INTERVAL,
            // Told by what cannot be written meanwhile.
            Err(StoreError::Unavailable(_) | StoreError::Regressed(_)) => UPKEEP_RETRY_DELAY,
            Err(error) => {
                warn!(%error, "could not prepare the days of events, or not drop old ones");
                UPKEEP_RETRY_DELAY
            }
        };
        self.next_upkeep = Instant::now() + delay;
    }
}

/// What is known after a batch was written.
struct Written {
    key: [u8; 32],
    days: BTreeSet<Date>,
}

/// Writes payloads in one transaction, those that were not written before.
async fn write(
    store: &Store,
    payloads: &[Payload],
    (installation, key, prepared): (Option<&Arc<String>>, Option<[u8; 32]>, &BTreeSet<Date>),
    metrics: &Metrics,
) -> Result<Written, StoreError> {
    let events = payloads.iter().flat_map(|payload| &payload.events);
    let days: BTreeSet<Date> =
        events.map(|event| day_of(event.at)).filter(|day| !prepared.contains(day)).collect();
    if !days.is_empty() {
        store.prepare_days(&days).await?;
    }
    let mut ids = BTreeMap::new();
    let mut by_id: HashMap<(i64, &str), &Payload> = HashMap::new();
    for payload in payloads {
        ids.insert((payload.env, payload.id.as_str()), payload.expires_at);
        by_id.entry((payload.env, payload.id.as_str())).or_insert(payload);
    }
    let mut tx = store.begin_writing().await?;
    // The database is the one that is followed, and that may have become another one since this was begun.
    if store.followed().as_ref() != installation {
        return Err(StoreError::Regressed(OTHER_INSTALLATION.to_owned()));
    }
    let key = match key {
        Some(key) => key,
        None => tx.event_setting().await?.0,
    };
    let new = tx.new_payloads(&ids).await?;
    let mut rows = Rows::default();
    for (env, id) in &new {
        if let Some(payload) = by_id.get(&(*env, id.as_str())) {
            rows.add(payload, &key);
        }
    }
    tx.add_usage(&rows.usage).await?;
    tx.note_evaluated(&rows.last).await?;
    let n_left_out = tx.add_unknown(&rows.unknown).await?;
    tx.insert_events(&rows.events).await?;
    tx.add_exposures(&rows.exposures).await?;
    tx.commit().await?;
    let n_duplicates = payloads.len().saturating_sub(new.len());
    metrics.events.duplicates.inc_by(u64::try_from(n_duplicates).unwrap_or_default());
    metrics.events.written.inc_by(u64::try_from(rows.len()).unwrap_or_default());
    for _ in 0..n_left_out {
        metrics.events.dropped.count("unknown_flags");
    }
    Ok(Written { key, days })
}

/// The day, UTC, that a time is kept with.
fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

/// Waits for a while, or until nothing more can come.
async fn wait(time: Duration, is_last: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(time) => {}
        () = is_last.cancelled() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Reported;

    #[tokio::test]
    async fn what_waits_for_one_installation_is_dropped_when_another_is_followed() {
        let store = Store::postgres(&"postgres://127.0.0.1:1/nowhere".into()).unwrap();
        let (snapshots, metrics) = (Arc::default(), Arc::<Metrics>::default());
        let mut recorder = Recorder::new(&store, &snapshots, &metrics, 1);
        let report = |recorder: &mut Recorder| {
            recorder.events.accept(1, None, Reported::default());
            recorder.batch = recorder.events.take(1);
            recorder.events.accept(1, None, Reported::default());
            recorder.events.count_unknown(1, "f", 1);
            (recorder.key, recorder.is_single) = (Some([0; 32]), true);
            recorder.days.insert(day_of(Timestamp::UNIX_EPOCH));
        };
        let keeps_all = |recorder: &Recorder| {
            let waits = !recorder.batch.is_empty() && !recorder.events.is_empty();
            waits && recorder.key.is_some() && !recorder.days.is_empty()
        };
        report(&mut recorder);
        for name in ["own", "own"] {
            store.follow(name);
            recorder.leave_former();
            assert!(keeps_all(&recorder));
        }
        store.follow("accepted");
        recorder.leave_former();
        assert!(recorder.batch.is_empty() && recorder.events.is_empty());
        assert!(recorder.events.take_unknown().is_empty());
        assert!(recorder.key.is_none() && recorder.days.is_empty() && !recorder.is_single);
        let dropped = "events_dropped_total{reason=\"other_installation\"} 3";
        assert!(metrics.render().contains(dropped), "{}", metrics.render());
        report(&mut recorder);
        recorder.leave_former();
        assert!(keeps_all(&recorder));
    }
}
