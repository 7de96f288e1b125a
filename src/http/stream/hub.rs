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
use crate::http::stream::channel::END_AGE;
use crate::http::stream::channel::END_DRAIN;
use crate::http::stream::channel::END_ENVIRONMENT;
use crate::http::stream::channel::END_TOKEN;
use crate::http::stream::channel::ROWS;
use crate::http::stream::channel::Seat;
use crate::http::stream::document::prepare_announcement;
use crate::http::stream::format::Format;
use crate::http::stream::format::WEIGHTS;
use crate::http::stream::format::Weight;
use crate::http::stream::spread::Spread;
use crate::http::stream::status::Status;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::snapshot::Snapshots;
use crate::telemetry::LimitLabels;
use crate::telemetry::Metrics;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use std::collections::HashMap;
use std::ops::RangeInclusive;
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

/// Seconds after which a stream ends so that its client comes back, perhaps to another replica: an hour, give or take a fifth,
/// as the age of connections in `http/serve.rs`.
const AGE_SECS: RangeInclusive<u32> = 2_880..=4_320;

/// All streams of the process.
#[derive(Debug)]
pub struct Streams {
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) spread: Spread,
    begun: Instant,
    limits_are_shadow: bool,
    /// In which phase of its life the process is; see `drain`.
    pub(super) phase: AtomicU8,
    /// Cancelled when that is [`Phase::Leaving`](crate::http::Phase::Leaving).
    pub(super) leaving: CancellationToken,
    admission: Admission,
    channels: Mutex<HashMap<EnvId, Arc<Channel>>>,
    /// Channels that nobody watches yet.
    unwatched: Mutex<Vec<Watched>>,
    channel_opened: Notify,
}

/// A channel's streams of one weight, and its environment's position, now and as it changes.
#[derive(Debug)]
struct Watched {
    channel: Arc<Channel>,
    weight: Weight,
    positions: watch::Receiver<Position>,
    /// Whether streams may not have been woken for what was announced last.
    is_unsure: bool,
}

/// A stream's place.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) channel: Arc<Channel>,
    pub(super) seat: Arc<Seat>,
}

impl Streams {
    /// Returns no streams yet; at most `streams_max` may be open at once.
    ///
    /// What is over the other limits is only counted if they are in the shadow.
    pub fn new(
        snapshots: Arc<Snapshots>,
        metrics: Arc<Metrics>,
        streams_max: usize,
        limits_are_shadow: bool,
    ) -> Self {
        Self {
            snapshots,
            metrics,
            spread: Spread::default(),
            begun: Instant::now(),
            limits_are_shadow,
            phase: AtomicU8::default(),
            leaving: CancellationToken::new(),
            admission: Admission::new(streams_max),
            channels: Mutex::default(),
            unwatched: Mutex::default(),
            channel_opened: Notify::new(),
        }
    }

    /// Wakes the streams that have something to do, until `stop`.
    ///
    /// What goes through all streams lets others run in between, and that takes long where there is much to do: so changes wait
    /// for neither heartbeats nor revocations, and revocations for no heartbeat.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.announce_changes() => {}
            () = self.beat_rows() => {}
            () = self.follow_directory() => {}
        }
    }

    /// Announces what changes, in each environment and for each weight by itself.
    async fn announce_changes(&self) {
        let mut moves = FuturesUnordered::new();
        // After a panic, whatever was watched before is not any more, and nobody was woken meanwhile.
        for channel in self.unwatch() {
            let watched = Watched::of(&channel, &channel.environment.positions(), true);
            moves.extend(watched.map(|watched| watched.moved(Instant::now())));
        }
        loop {
            tokio::select! {
                () = self.channel_opened.notified() => {
                    let new = std::mem::take(&mut *lock(&self.unwatched));
                    moves.extend(new.into_iter().map(|watched| watched.moved(Instant::now())));
                }
                Some(moved) = moves.next() => {
                    let Some(watched) = moved else { continue };
                    moves.push(watched.moved(Instant::now() + EVENT_SPACING));
                }
            }
        }
    }

    /// Lets one row after the other send its heartbeat, and ends the streams whose tokens expire.
    async fn beat_rows(&self) {
        let mut beats = tokio::time::interval(BEAT_SPACING);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n_expired = 0;
        for row in (0..ROWS).cycle() {
            beats.tick().await;
            self.beat(row, Instant::now()).await;
            let n_expired_now = self.snapshots.directory().n_expired();
            if std::mem::replace(&mut n_expired, n_expired_now) != n_expired_now {
                self.close_revoked().await;
            }
        }
    }

    /// Ends the streams that have lost their token or their environment, whenever the directory changes.
    async fn follow_directory(&self) {
        let mut directory = self.snapshots.directory_changes();
        loop {
            self.close_revoked().await;
            tokio::time::sleep(DIRECTORY_SPACING).await;
            // The sender lives in the snapshots, which are held here.
            if directory.changed().await.is_err() {
                return;
            }
        }
    }

    /// Admits a stream and gives it a place; without a format, what it tells depends on its client.
    ///
    /// # Errors
    ///
    /// It may not be opened now.
    pub(super) fn open(
        &self,
        environment: &Arc<Environment>,
        holder: &Holder,
        format: Option<Format>,
    ) -> Result<Place, ApiError> {
        self.admit(holder).map_err(|refusal| {
            self.metrics.streams_refused.count(refusal.name());
            refusal.error(&self.spread)
        })?;
        self.metrics.streams.inc();
        let channel = self.channel(environment);
        let old_after_secs =
            self.age_secs(Instant::now()).saturating_add(self.spread.pick(&AGE_SECS));
        let seat = channel.sit(holder.token, format, old_after_secs);
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

    fn admit(&self, holder: &Holder) -> Result<(), Refusal> {
        if !self.is_serving() {
            return Err(Refusal::Draining);
        }
        let admitted = self.admission.admit(holder, std::time::Instant::now());
        let Some(limit) = admitted.err().and_then(Refusal::limit) else { return admitted };
        let shadow = self.limits_are_shadow.then(|| self.admission.admit_in_shadow(holder));
        let mode = if matches!(shadow, Some(Ok(()))) { "shadow" } else { "enforced" };
        self.metrics.limited.get_or_create(&LimitLabels { limit, mode }).inc();
        shadow.unwrap_or(admitted)
    }

    /// Takes back what a stream was given.
    pub(super) fn close(&self, place: &Place, holder: &Holder) {
        place.channel.leave(&place.seat);
        self.admission.release(holder);
        // In this order, so that whoever sees that a stream is gone sees why.
        self.metrics.streams_closed.count(place.seat.end().unwrap_or("client"));
        self.metrics.streams.dec();
    }

    /// For how many seconds there have been streams.
    fn age_secs(&self, now: Instant) -> u32 {
        let age = now.saturating_duration_since(self.begun);
        u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
    }

    pub(super) fn channels(&self) -> Vec<Arc<Channel>> {
        lock(&self.channels).values().map(Arc::clone).collect()
    }

    /// All channels, of which none counts as new any more.
    fn unwatch(&self) -> Vec<Arc<Channel>> {
        // Under both locks, so that a channel that opens meanwhile is either among them or new, and not both.
        let channels = lock(&self.channels);
        lock(&self.unwatched).clear();
        channels.values().map(Arc::clone).collect()
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
        let status = Status::of(&self.snapshots, environment);
        let channel = Arc::new(Channel::new(Arc::clone(environment), status));
        if let Some(old) = channels.insert(environment.id, Arc::clone(&channel)) {
            // Of another environment, which had the number before; nobody would find its streams any more.
            (0..ROWS).flat_map(|row| old.seats(row)).for_each(|seat| seat.wake(END_ENVIRONMENT));
            old.gone.cancel();
        }
        lock(&self.unwatched).extend(Watched::of(&channel, &positions, false));
        self.channel_opened.notify_one();
        channel
    }

    /// Wakes one row for its heartbeat, and every stream of an environment of which there is something else to tell: the store
    /// has begun or ceased to confirm it, or something of it cannot be read, or can again.
    ///
    /// Streams of the row that are old end instead.
    async fn beat(&self, row: usize, now: Instant) {
        let age_secs = self.age_secs(now);
        for channel in self.channels() {
            for seat in channel.seats(row) {
                seat.wake(if seat.is_old(age_secs) { END_AGE } else { BEAT });
            }
            if channel.renew(Status::of(&self.snapshots, &channel.environment)) {
                wake_all(&channel).await;
            }
        }
    }

    /// Ends the streams whose token was revoked or whose environment is gone, and wakes no others.
    async fn close_revoked(&self) {
        for channel in self.channels() {
            let environment = &channel.environment;
            for row in 0..ROWS {
                let seats = channel.seats(row);
                // After them: a stream whose token is newer than the directory has lost nothing.
                let directory = self.snapshots.directory();
                for seat in seats {
                    let end = end_of(&directory, environment, &seat);
                    if end != 0 {
                        seat.wake(end);
                    }
                }
                tokio::task::yield_now().await;
            }
            if !is_served(&self.snapshots.directory(), environment) {
                let mut channels = lock(&self.channels);
                let is_it = |other: &Arc<Channel>| Arc::ptr_eq(other, &channel);
                if channels.get(&environment.id).is_some_and(is_it) {
                    channels.remove(&environment.id);
                }
                channel.gone.cancel();
            }
        }
    }
}

impl Watched {
    /// A channel's streams of each weight.
    fn of(
        channel: &Arc<Channel>,
        positions: &watch::Receiver<Position>,
        is_unsure: bool,
    ) -> [Self; WEIGHTS] {
        let watched = |weight| {
            let (channel, positions) = (Arc::clone(channel), positions.clone());
            Self { channel, weight, positions, is_unsure }
        };
        Weight::ALL.map(watched)
    }

    /// Waits until there is something new, but not before `earliest`, announces it and wakes the streams; `None` when the
    /// environment is gone.
    async fn moved(mut self, earliest: Instant) -> Option<Self> {
        if earliest > Instant::now() {
            tokio::time::sleep_until(earliest).await;
        }
        let is_unsure = std::mem::take(&mut self.is_unsure);
        let announced = self.channel.announced(self.weight);
        let is_new = |position: &Position| is_unsure || *position > announced;
        let position = tokio::select! {
            position = self.positions.wait_for(is_new) => *position.ok()?,
            () = self.channel.gone.cancelled() => return None,
        };
        prepare_announcement(&self.channel, self.weight).await;
        self.channel.announce(self.weight, position);
        wake(&self.channel, self.weight).await;
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
    for weight in Weight::ALL {
        wake(channel, weight).await;
    }
}

/// Wakes every stream of a channel that has a weight, as [`wake_all`] does.
async fn wake(channel: &Channel, weight: Weight) {
    for row in 0..ROWS {
        for seat in channel.seats_of(row, weight) {
            seat.wake(0);
        }
        tokio::task::yield_now().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept under these locks is whole after each statement.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stream::body::StreamBody;
    use crate::http::stream::start::Start;
    use crate::model::key::EnvKey;
    use crate::model::key::ProjectKey;
    use crate::model::token::TokenKind;
    use crate::snapshot::Snapshots;
    use crate::snapshot::Update;
    use http_body_util::BodyExt;
    use std::task::Wake;
    use std::task::Waker;
    use tokio::task::JoinSet;

    const fn at(version: i64) -> Position {
        Position { epoch: 1, version }
    }

    /// Tells that a stream was woken.
    #[derive(Debug, Default)]
    struct Woken(CancellationToken);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.cancel();
        }
    }

    impl Woken {
        fn of(seat: &Seat) -> CancellationToken {
            let woken = Arc::new(Self::default());
            seat.register(&Waker::from(Arc::clone(&woken)));
            woken.0.clone()
        }
    }

    /// An environment of which something is served, and its streams; the second with one in each row at least.
    fn light_and_crowded(streams: &Streams) -> [Arc<Channel>; 2] {
        let [light, crowded] = [1, 2].map(|id| {
            let environment = Environment::new(id, ProjectKey::stored("p"), EnvKey::stored("e"));
            install(&environment, at(1));
            streams.channel(&Arc::new(environment))
        });
        light.sit([0; 32], Some(Format::Changes), u32::MAX);
        while crowded.seats(ROWS - 1).is_empty() {
            crowded.sit([0; 32], Some(Format::LaunchDarkly), u32::MAX);
        }
        [light, crowded]
    }

    fn channel() -> Arc<Channel> {
        let environment = Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"));
        let status = Status::of(&Snapshots::default(), &environment);
        Arc::new(Channel::new(Arc::new(environment), status))
    }

    fn install(environment: &Environment, to: Position) {
        let is_relative = to.epoch == environment.position().epoch;
        let update = Update { to, is_relative, ..Update::default() };
        assert!(environment.install(&update).0);
    }

    #[tokio::test]
    async fn a_change_does_not_wait_until_the_streams_of_another_environment_are_woken() {
        let streams = Arc::new(Streams::new(Arc::default(), Arc::default(), 10, false));
        let mut running = JoinSet::new();
        running.spawn(Arc::clone(&streams).run(CancellationToken::new()));
        // It has begun, and finds nobody whom it would have to wake.
        tokio::task::yield_now().await;
        let [light, crowded] = light_and_crowded(&streams);
        let one_of = |row| Woken::of(crowded.seats(row).first().unwrap());
        let (first, last) = (one_of(0), one_of(ROWS - 1));
        let told = Woken::of(light.seats(0).first().unwrap());
        install(&crowded.environment, at(2));
        first.cancelled().await;
        install(&light.environment, at(2));
        told.cancelled().await;
        assert_eq!(light.announced(Weight::Light), at(2));
        assert!(!last.is_cancelled(), "it has waited");
        last.cancelled().await;
    }

    #[tokio::test]
    async fn a_change_does_not_wait_until_all_streams_are_looked_at_for_revoked_tokens() {
        let streams = Arc::new(Streams::new(Arc::default(), Arc::default(), 10, false));
        let [light, crowded] = light_and_crowded(&streams);
        install(&light.environment, at(2));
        let mut running = JoinSet::new();
        running.spawn(Arc::clone(&streams).run(CancellationToken::new()));
        let last = crowded.seats(ROWS - 1).pop().unwrap();
        while light.announced(Weight::Light) < at(2) && last.end().is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(last.end(), None, "it has waited");
        while last.end().is_none() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn everything_is_rendered_before_streams_wake_for_another_history() {
        let channel = channel();
        let (told, other) = (Format::LaunchDarkly, Format::DataSystem);
        let seat = channel.sit([0; 32], Some(told), u32::MAX);
        let [_, mut watched] = Watched::of(&channel, &channel.environment.positions(), false);
        for (epoch, version, is_rendered) in [(1, 1, true), (1, 2, false), (2, 1, true)] {
            let before = channel.announced(Weight::Heavy);
            let to = Position { epoch, version };
            install(&channel.environment, to);
            watched = watched.moved(Instant::now()).await.unwrap();
            assert_eq!(channel.announced(Weight::Heavy), to);
            let found = channel.full_block(told);
            assert_eq!(found.is_some(), is_rendered, "{to:?}");
            assert!(channel.full_block(other).is_none(), "nobody has a stream of it");
            if let Some((_, rendered)) = found {
                let (_, sent) = channel.block_since(told, Some(before), false).unwrap();
                assert_eq!(sent.as_ptr(), rendered.as_ptr(), "{to:?}");
            }
        }
        channel.leave(&seat);
        install(&channel.environment, Position { epoch: 3, version: 1 });
        watched.moved(Instant::now()).await.unwrap();
        assert!(channel.full_block(told).is_none(), "nobody has a stream of it any more");
    }

    #[tokio::test]
    async fn a_change_after_a_failover_does_not_wait_for_what_is_rendered_for_others() {
        let channel = channel();
        for format in [Format::Changes, Format::LaunchDarkly] {
            channel.sit([0; 32], Some(format), u32::MAX);
        }
        let before = channel.announced(Weight::Heavy);
        let [mut light, heavy] = Watched::of(&channel, &channel.environment.positions(), false);
        let rendering = channel.preparing(Weight::Heavy).await;
        let mut heavy = Box::pin(heavy.moved(Instant::now()));
        for to in [(2, 1), (2, 2)].map(|(epoch, version)| Position { epoch, version }) {
            install(&channel.environment, to);
            light = tokio::select! {
                biased;
                _ = &mut heavy => panic!("it is announced before it is rendered"),
                moved = light.moved(Instant::now()) => moved.unwrap(),
            };
            assert_eq!(channel.announced(Weight::Light), to);
            let sent = channel.block_since(Format::Changes, Some(before), false);
            assert_eq!(sent.map(|(at, _)| at), Some(to));
            assert_eq!(channel.announced(Weight::Heavy), before);
        }
        drop(rendering);
        heavy.await.unwrap();
        assert!(channel.full_block(Format::LaunchDarkly).is_some());
        assert_ne!(channel.announced(Weight::Heavy), before);
    }

    #[tokio::test]
    async fn an_old_stream_says_goodbye_with_its_heartbeat() {
        let streams = Arc::new(Streams::new(Arc::default(), Arc::default(), 10, false));
        let environment = Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"));
        let environment = Arc::new(environment);
        let holder = Holder { token: [0; 32], kind: TokenKind::Server, address: None };
        let channel = streams.channel(&environment);
        let seat = channel.sit(holder.token, Some(Format::Changes), streams.spread.pick(&AGE_SECS));
        let place = Place { channel, seat };
        let start = Start::After(environment.position());
        let streams_of = Arc::clone(&streams);
        let mut body = StreamBody::new(streams_of, place, &holder, Format::Changes, start);
        let mut next = async || {
            let frame = body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
            frame.map(|data| String::from_utf8(data.to_vec()).unwrap())
        };
        assert!(next().await.unwrap().starts_with("retry: "));
        let after = |secs| streams.begun + Duration::from_secs(secs);
        streams.beat(0, after(2_879)).await;
        assert_eq!(next().await.unwrap(), ": hb\n\n");
        streams.beat(0, after(4_321)).await;
        assert!(next().await.unwrap().contains("event: goodbye"));
        assert_eq!(next().await, None);
        drop(body);
        assert!(streams.metrics.render().contains("streams_closed_total{reason=\"age\"} 1"));
    }
}
