//! All streams of the process, and the one task that wakes them.
//!
//! A stream has neither a timer nor a queue. One task watches the environments, the directory, the clock and the store's
//! confirmations, and wakes those streams that have something to do. What they then send is decided in `body`; how they are
//! closed when the process stops, in `drain`.

use crate::http::error::ApiError;
use crate::http::stream::admission::Admission;
use crate::http::stream::admission::Holder;
use crate::http::stream::admission::Refusal;
use crate::http::stream::channel::BEAT;
use crate::http::stream::channel::Channel;
use crate::http::stream::channel::END_DRAIN;
use crate::http::stream::channel::END_ENVIRONMENT;
use crate::http::stream::channel::END_TOKEN;
use crate::http::stream::channel::ROWS;
use crate::http::stream::channel::Seat;
use crate::http::stream::frame;
use crate::http::stream::spread::Spread;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::snapshot::Snapshots;
use crate::telemetry::Metrics;
use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// From the heartbeat of one row to that of the next: 20 rows give every stream one each 20 s; proxies close after 60 s.
const BEAT_SPACING: Duration = Duration::from_secs(1);
/// The least time between two events of one environment; what comes within it is sent as one event.
const EVENT_SPACING: Duration = Duration::from_millis(100);
/// The least time between two looks at which tokens and environments are gone.
const DIRECTORY_SPACING: Duration = Duration::from_millis(250);

/// All streams of the process.
#[derive(Debug)]
pub struct Streams {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) spread: Spread,
    /// In which phase of its life the process is; see `drain`.
    pub(super) phase: AtomicU8,
    /// Cancelled when that is [`Phase::Leaving`](crate::http::Phase::Leaving).
    pub(super) leaving: CancellationToken,
    admission: Admission,
    channels: Mutex<HashMap<EnvId, Arc<Channel>>>,
    /// Channels that nobody watches yet.
    unwatched: Mutex<Vec<Watched>>,
    channel_opened: Notify,
    status: ArcSwap<Status>,
}

/// Whether the store confirms what is served, as streams are told.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) is_stale: bool,
    pub(super) block: Bytes,
}

/// A channel and its environment's position, now and as it changes.
#[derive(Debug)]
struct Watched {
    channel: Arc<Channel>,
    positions: watch::Receiver<Position>,
}

/// A stream's place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) channel: Arc<Channel>,
    pub(super) seat: Arc<Seat>,
}

impl Streams {
    /// Returns no streams yet; at most `streams_max` may be open at once.
    pub fn new(snapshots: Arc<Snapshots>, metrics: Arc<Metrics>, streams_max: usize) -> Self {
        Self {
            snapshots,
            metrics,
            spread: Spread::default(),
            phase: AtomicU8::default(),
            leaving: CancellationToken::new(),
            admission: Admission::new(streams_max),
            channels: Mutex::default(),
            unwatched: Mutex::default(),
            channel_opened: Notify::new(),
            status: ArcSwap::from_pointee(Status { is_stale: false, block: frame::status(None) }),
        }
    }

    /// Wakes the streams that have something to do, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut moves = FuturesUnordered::new();
        let mut beats = tokio::time::interval(BEAT_SPACING);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut row = 0;
        let mut directory = self.snapshots.directory_changes();
        let mut look_at = Instant::now();
        let mut n_expired = 0;
        // After a panic, whatever was watched before is not any more.
        lock(&self.unwatched).clear();
        for channel in self.channels() {
            let positions = channel.environment.positions();
            moves.push(Watched { channel, positions }.moved(Instant::now()));
        }
        self.close_revoked().await;
        loop {
            let directory_changed = async {
                tokio::time::sleep_until(look_at).await;
                directory.changed().await
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.channel_opened.notified() => {
                    let new = std::mem::take(&mut *lock(&self.unwatched));
                    moves.extend(new.into_iter().map(|watched| watched.moved(Instant::now())));
                }
                Some(moved) = moves.next() => {
                    let Some(watched) = moved else { continue };
                    wake_all(&watched.channel).await;
                    moves.push(watched.moved(Instant::now() + EVENT_SPACING));
                }
                _ = beats.tick() => {
                    self.beat(row).await;
                    row = (row + 1) % ROWS;
                    let n_expired_now = self.snapshots.directory().n_expired();
                    if std::mem::replace(&mut n_expired, n_expired_now) != n_expired_now {
                        self.close_revoked().await;
                    }
                }
                changed = directory_changed => {
                    // The sender lives in the snapshots, which are held here.
                    if changed.is_err() { return }
                    self.close_revoked().await;
                    look_at = Instant::now() + DIRECTORY_SPACING;
                }
            }
        }
    }

    /// Admits a stream and gives it a place.
    ///
    /// # Errors
    ///
    /// It may not be opened now.
    pub(super) fn open(
        &self,
        environment: &Arc<Environment>,
        holder: &Holder,
    ) -> Result<Place, ApiError> {
        let admitted = match self.is_serving() {
            true => self.admission.admit(holder, std::time::Instant::now()),
            false => Err(Refusal::Draining),
        };
        admitted.map_err(|refusal| {
            self.metrics.streams_refused.count(refusal.name());
            refusal.error(&self.spread)
        })?;
        self.metrics.streams.inc();
        let channel = self.channel(environment);
        let seat = channel.sit(holder.token);
        // The token may have been revoked since it was looked up, and those who look for that may have passed already.
        let directory = self.snapshots.directory();
        let end = end_of(&directory, environment, &seat);
        if end != 0 {
            seat.wake(end);
        }
        if !self.is_serving() {
            seat.wake(END_DRAIN);
        }
        Ok(Place { channel, seat })
    }

    /// Takes back what a stream was given.
    pub(super) fn close(&self, place: &Place, holder: &Holder, reason: &'static str) {
        place.channel.leave(&place.seat);
        self.admission.release(holder);
        // In this order, so that whoever sees that a stream is gone sees why.
        self.metrics.streams_closed.count(reason);
        self.metrics.streams.dec();
    }

    /// Whether the store confirms what is served.
    pub(super) fn status(&self) -> arc_swap::Guard<Arc<Status>> {
        self.status.load()
    }

    pub(super) fn channels(&self) -> Vec<Arc<Channel>> {
        lock(&self.channels).values().map(Arc::clone).collect()
    }

    pub(super) fn channel(&self, environment: &Arc<Environment>) -> Arc<Channel> {
        let mut channels = lock(&self.channels);
        if let Some(channel) = channels.get(&environment.id)
            && Arc::ptr_eq(&channel.environment, environment)
        {
            return Arc::clone(channel);
        }
        // Subscribed before the channel reads the position, so that nothing falls between.
        let positions = environment.positions();
        let channel = Arc::new(Channel::new(Arc::clone(environment)));
        if let Some(old) = channels.insert(environment.id, Arc::clone(&channel)) {
            // Of another environment, which had the number before; nobody would find its streams any more.
            (0..ROWS).flat_map(|row| old.seats(row)).for_each(|seat| seat.wake(END_ENVIRONMENT));
            old.gone.notify_one();
        }
        lock(&self.unwatched).push(Watched { channel: Arc::clone(&channel), positions });
        self.channel_opened.notify_one();
        channel
    }

    /// Wakes one row for its heartbeat, and every stream if the store has begun or ceased to confirm.
    async fn beat(&self, row: usize) {
        let unconfirmed_for = self.snapshots.freshness().unconfirmed_for();
        let is_stale = unconfirmed_for.is_some();
        let has_turned = is_stale != self.status().is_stale;
        if has_turned || is_stale {
            // Rendered anew as time passes, for streams that open meanwhile.
            let block = frame::status(unconfirmed_for);
            self.status.store(Arc::new(Status { is_stale, block }));
        }
        for channel in self.channels() {
            for seat in channel.seats(row) {
                seat.wake(BEAT);
            }
            if has_turned {
                wake_all(&channel).await;
            }
        }
    }

    /// Ends the streams whose token was revoked or whose environment is gone, and wakes no others.
    async fn close_revoked(&self) {
        let directory = self.snapshots.directory();
        for channel in self.channels() {
            let environment = &channel.environment;
            for row in 0..ROWS {
                for seat in channel.seats(row) {
                    let end = end_of(&directory, environment, &seat);
                    if end != 0 {
                        seat.wake(end);
                    }
                }
                tokio::task::yield_now().await;
            }
            if !is_served(&directory, environment) {
                let mut channels = lock(&self.channels);
                let is_it = |other: &Arc<Channel>| Arc::ptr_eq(other, &channel);
                if channels.get(&environment.id).is_some_and(is_it) {
                    channels.remove(&environment.id);
                }
                channel.gone.notify_one();
            }
        }
    }
}

impl Watched {
    /// Waits until there is something new, but not before `earliest`, and announces it; `None` when the environment is gone.
    async fn moved(mut self, earliest: Instant) -> Option<Self> {
        tokio::time::sleep_until(earliest).await;
        let announced = self.channel.announced();
        let position = tokio::select! {
            position = self.positions.wait_for(|position| *position > announced) => *position.ok()?,
            () = self.channel.gone.notified() => return None,
        };
        self.channel.announce(position);
        Some(self)
    }
}

/// Why a stream has to end, as bits; zero if it has not.
fn end_of(directory: &Directory, environment: &Arc<Environment>, seat: &Seat) -> u8 {
    // In this order, because the tokens of an environment go with it.
    match (is_served(directory, environment), directory.token(&seat.token)) {
        (false, _) => END_ENVIRONMENT,
        (_, None) => END_TOKEN,
        _ => 0,
    }
}

/// Whether it is this environment, and not another with its number, that is served.
fn is_served(directory: &Directory, environment: &Arc<Environment>) -> bool {
    directory.environment(environment.id).is_some_and(|served| Arc::ptr_eq(served, environment))
}

/// Wakes every stream of a channel, and lets others run in between.
async fn wake_all(channel: &Channel) {
    for row in 0..ROWS {
        for seat in channel.seats(row) {
            seat.wake(0);
        }
        tokio::task::yield_now().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept under these locks is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
