//! One environment's streams: where they sit, and the blocks that they share.
//!
//! When they are woken is decided in `hub`; what each sends in `body`.
// HOT: every stream passes here for every change.

use crate::http::serve::Ends;
use crate::http::stream::format::FORMATS;
use crate::http::stream::format::Format;
use crate::http::stream::format::WEIGHTS;
use crate::http::stream::format::Weight;
use crate::http::stream::status::Status;
use crate::model::change::Position;
use crate::model::token::Digest;
use crate::snapshot::Environment;
use crate::snapshot::Missed;
use arc_swap::ArcSwap;
use arc_swap::Guard;
use bytes::Bytes;
use futures_util::task::AtomicWaker;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::task::Waker;
use tokio_util::sync::CancellationToken;

/// Rows in which an environment's streams sit; one row after the other is sent its heartbeat.
pub(super) const ROWS: usize = 20;
/// Streams that come one after the other and sit in one row: those of one HTTP/2 connection are then woken together, and
/// share a write.
const SEATS_TOGETHER: usize = 64;
/// Blocks that are kept for streams which ask for the same; streams that were awake before a change all do.
const SHARED_MAX: usize = 4;

/// A stream is to send a heartbeat.
pub(super) const BEAT: u8 = 1;
/// A stream is to end because its token was revoked.
pub(super) const END_TOKEN: u8 = 1 << 1;
/// A stream is to end because its environment is gone.
pub(super) const END_ENVIRONMENT: u8 = 1 << 2;
/// A stream is to say goodbye and end because the process is about to stop.
pub(super) const END_DRAIN: u8 = 1 << 3;
/// A stream is to say goodbye and end because it is old: clients spread anew over the replicas that there are by then.
pub(super) const END_AGE: u8 = 1 << 4;
/// A stream ends because nobody has read it.
const END_STALLED: u8 = 1 << 5;
/// Why streams end, and how metrics call it; the first that applies counts.
const ENDS: [(u8, &str); 5] = [
    (END_TOKEN, "token"),
    (END_ENVIRONMENT, "environment"),
    (END_DRAIN, "stopping"),
    (END_AGE, "age"),
    (END_STALLED, "stalled"),
];

/// Where one stream can be reached.
#[derive(Debug)]
pub(super) struct Seat {
    /// The token that opened it.
    pub(super) token: Digest,
    /// In which words it tells what changed; `None` if that depends on its client.
    format: Option<Format>,
    waker: AtomicWaker,
    /// What it is to do when it wakes, as bits.
    wanted: AtomicU8,
    row: u8,
    /// Seconds after the first stream of the process at which it is old.
    old_after_secs: u32,
    /// Its place in the row; changes under the row's lock.
    place: AtomicUsize,
}

impl Seat {
    /// Takes note of who polls the stream; what is wanted must be looked at afterwards.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// What the stream is to do.
    pub(super) fn wanted(&self) -> u8 {
        self.wanted.load(Ordering::Acquire)
    }

    /// Why the stream is to end; `None` if it is not.
    pub(super) fn end(&self) -> Option<&'static str> {
        let wanted = self.wanted();
        ENDS.iter().find(|(end, _)| wanted & end != 0).map(|(_, reason)| *reason)
    }

    /// Whether it is old when so many seconds have passed.
    pub(super) fn is_old(&self, secs: u32) -> bool {
        secs >= self.old_after_secs
    }

    /// Returns whether a heartbeat is wanted, and takes the wish away.
    pub(super) fn take_beat(&self) -> bool {
        self.wanted.fetch_and(!BEAT, Ordering::AcqRel) & BEAT != 0
    }

    /// Wakes the stream; `wanted` is what it is to do besides looking for changes.
    pub(super) fn wake(&self, wanted: u8) {
        self.wanted.fetch_or(wanted, Ordering::AcqRel);
        self.waker.wake();
    }
}

impl Ends for Seat {
    fn register(&self, waker: &Waker) {
        Self::register(self, waker);
    }

    fn is_over(&self) -> bool {
        self.end().is_some()
    }

    fn give_up(&self) {
        self.wanted.fetch_or(END_STALLED, Ordering::AcqRel);
    }
}

/// One environment's streams.
#[derive(Debug)]
pub(super) struct Channel {
    pub(super) environment: Arc<Environment>,
    /// Cancelled when the environment is gone.
    pub(super) gone: CancellationToken,
    rows: [Mutex<Vec<Arc<Seat>>>; ROWS],
    /// Streams that have come so far.
    n_come: AtomicUsize,
    /// What goes on for the streams of each weight.
    telling: [Telling; WEIGHTS],
    /// What is shared, for each format.
    shared: [Mutex<Shared>; FORMATS],
    /// Streams that are open in each format.
    n_open: [AtomicUsize; FORMATS],
    status: ArcSwap<Status>,
}

/// What goes on for an environment's streams of one weight.
#[derive(Debug)]
struct Telling {
    /// Up to where streams send; behind the environment's own position for a moment, so that bursts become one event.
    announced: Mutex<Position>,
    /// Held by the one who prepares what is large, while others wait for it.
    preparing: tokio::sync::Mutex<()>,
}

/// What an environment's streams share in one format.
#[derive(Debug, Default)]
struct Shared {
    /// The latest blocks, oldest first.
    blocks: VecDeque<Block>,
    /// The full block's JSON compressed, and where it leads.
    compressed: Option<(Position, Bytes)>,
}

/// A block that was rendered once.
#[derive(Debug)]
struct Block {
    /// What its receivers had seen before; `None` if that does not matter.
    since: Option<Position>,
    to: Position,
    bytes: Bytes,
}

impl Channel {
    /// Returns a channel without streams.
    pub(super) fn new(environment: Arc<Environment>, status: Status) -> Self {
        let at = environment.position();
        let telling = |_| Telling { announced: Mutex::new(at), preparing: Default::default() };
        Self {
            environment,
            gone: CancellationToken::new(),
            rows: std::array::from_fn(|_| Mutex::default()),
            n_come: AtomicUsize::new(0),
            telling: std::array::from_fn(telling),
            shared: std::array::from_fn(|_| Mutex::default()),
            n_open: std::array::from_fn(|_| AtomicUsize::new(0)),
            status: ArcSwap::from_pointee(status),
        }
    }

    /// How it is with the environment, as its streams are told.
    pub(super) fn status(&self) -> Guard<Arc<Status>> {
        self.status.load()
    }

    /// Notes how it is with the environment; returns whether that has to be told.
    pub(super) fn renew(&self, status: Status) -> bool {
        let has_turned = status.told != self.status().told;
        if has_turned || status.told.is_stale {
            // Written anew as time passes, for streams that open meanwhile.
            self.status.store(Arc::new(status));
        }
        has_turned
    }

    /// Gives a stream a seat; very many streams are spread evenly over the rows.
    pub(super) fn sit(
        &self,
        token: Digest,
        format: Option<Format>,
        old_after_secs: u32,
    ) -> Arc<Seat> {
        if let Some(n) = self.n_open(format) {
            n.fetch_add(1, Ordering::Relaxed);
        }
        let row = self.n_come.fetch_add(1, Ordering::Relaxed) / SEATS_TOGETHER % ROWS;
        let mut seats = self.row(row);
        let seat = Arc::new(Seat {
            token,
            format,
            waker: AtomicWaker::new(),
            wanted: AtomicU8::new(0),
            row: u8::try_from(row).unwrap_or_default(),
            old_after_secs,
            place: AtomicUsize::new(seats.len()),
        });
        seats.push(Arc::clone(&seat));
        seat
    }

    /// Takes a seat away.
    pub(super) fn leave(&self, seat: &Seat) {
        if let Some(n) = self.n_open(seat.format) {
            n.fetch_sub(1, Ordering::Relaxed);
        }
        let mut seats = self.row(usize::from(seat.row));
        let place = seat.place.load(Ordering::Relaxed);
        if place < seats.len() {
            seats.swap_remove(place);
        }
        if let Some(moved) = seats.get(place) {
            moved.place.store(place, Ordering::Relaxed);
        }
    }

    /// The seats of one row.
    pub(super) fn seats(&self, row: usize) -> Vec<Arc<Seat>> {
        // Copied, because a stream that is woken may leave at once, for which it needs the lock.
        self.row(row).clone()
    }

    /// The seats of one row whose streams have a weight.
    pub(super) fn seats_of(&self, row: usize, weight: Weight) -> Vec<Arc<Seat>> {
        let row = self.row(row);
        row.iter().filter(|seat| Weight::of(seat.format) == weight).map(Arc::clone).collect()
    }

    /// The formats of a weight in which streams that are open can only be told everything, because what was announced last is of a
    /// history that is over or forgotten.
    pub(super) fn told_all(&self, weight: Weight) -> impl Iterator<Item = Format> {
        let missed = self.environment.missed_since(self.announced(weight));
        let is_all = matches!(missed, Missed::Unknown);
        Format::ALL.into_iter().filter(move |format| {
            let n_open = self.n_open(Some(*format)).map_or(0, |n| n.load(Ordering::Relaxed));
            is_all && Weight::of(Some(*format)) == weight && n_open > 0
        })
    }

    /// Lets streams of a weight send everything up to `position`.
    pub(super) fn announce(&self, weight: Weight, position: Position) {
        *lock(&self.telling(weight).announced) = position;
    }

    /// What was announced last to streams of a weight.
    pub(super) fn announced(&self, weight: Weight) -> Position {
        *lock(&self.telling(weight).announced)
    }

    /// Waits until nobody else prepares what is large for a weight.
    pub(super) async fn preparing(&self, weight: Weight) -> tokio::sync::MutexGuard<'_, ()> {
        self.telling(weight).preparing.lock().await
    }

    /// What somebody has not seen who is at `since`, if there is anything, and where that leads; `None` is nowhere.
    ///
    /// Ends at what was announced, or, for one who has just come, at what is served.
    ///
    /// # Cost
    ///
    /// The first who asks for a range renders it under the lock, so that the others wait instead of doing the same.
    pub(super) fn block_since(
        &self,
        format: Format,
        since: Option<Position>,
        has_just_come: bool,
    ) -> Option<(Position, Bytes)> {
        let end = if has_just_come {
            self.environment.position()
        } else {
            self.announced(Weight::of(Some(format)))
        };
        if since.is_some_and(|position| position >= end) {
            return None;
        }
        let mut shared = self.shared(format);
        if let Some(found) = shared.find(since, end) {
            return Some(found);
        }
        // Whoever was somewhere else gets the same as one who was nowhere.
        let is_known =
            |at: &Position| !matches!(self.environment.missed_since(*at), Missed::Unknown);
        let since = since.filter(is_known);
        if since.is_none()
            && let Some(found) = shared.find(None, end)
        {
            return Some(found);
        }
        // Everything is much to render, and whoever waits for it here holds up others: what was prepared a moment ago does as
        // well where the rest follows as a change.
        if since.is_none()
            && has_just_come
            && format != Format::Changes
            && let Some((to, bytes)) = shared.full()
            && is_known(&to)
        {
            return Some((to, bytes));
        }
        let rendered = format.render(&self.environment, since, end)?;
        let since = since.filter(|_| !rendered.is_full);
        let (to, bytes) = (rendered.to, rendered.bytes);
        shared.keep(Block { since, to, bytes: bytes.clone() });
        Some((to, bytes))
    }

    /// Renders everything that is served, unless that was done already; only one may do so at a time.
    ///
    /// # Cost
    ///
    /// Streams are not held up meanwhile, because the lock is not held.
    pub(super) fn prepare(&self, format: Format) -> Option<(Position, Bytes)> {
        if let Some(found) = self.full_block(format) {
            return Some(found);
        }
        let rendered = format.render(&self.environment, None, self.environment.position())?;
        let (to, bytes) = (rendered.to, rendered.bytes);
        let mut shared = self.shared(format);
        // One who could not wait may have rendered something newer.
        if shared.full().is_none_or(|(newest, _)| newest < to) {
            shared.keep(Block { since: None, to, bytes: bytes.clone() });
        }
        Some((to, bytes))
    }

    /// Everything that is served, if it was rendered already.
    pub(super) fn full_block(&self, format: Format) -> Option<(Position, Bytes)> {
        self.shared(format).find(None, self.environment.position())
    }

    /// The JSON of everything at a position, compressed, if that was done already.
    pub(super) fn compressed(&self, format: Format, at: Position) -> Option<Bytes> {
        let found = self.shared(format).compressed.clone();
        found.filter(|(to, _)| *to == at).map(|(_, bytes)| bytes)
    }

    /// Keeps the JSON of everything at a position, compressed.
    pub(super) fn keep_compressed(&self, format: Format, at: Position, bytes: Bytes) {
        self.shared(format).compressed = Some((at, bytes));
    }

    fn telling(&self, weight: Weight) -> &Telling {
        let [first, ..] = &self.telling;
        self.telling.get(weight.index()).unwrap_or(first)
    }

    fn n_open(&self, format: Option<Format>) -> Option<&AtomicUsize> {
        self.n_open.get(format?.index())
    }

    fn row(&self, row: usize) -> MutexGuard<'_, Vec<Arc<Seat>>> {
        let [first, ..] = &self.rows;
        lock(self.rows.get(row).unwrap_or(first))
    }

    fn shared(&self, format: Format) -> MutexGuard<'_, Shared> {
        let [first, ..] = &self.shared;
        lock(self.shared.get(format.index()).unwrap_or(first))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the lock was held cannot have left half a row or half a block.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn find(&self, since: Option<Position>, end: Position) -> Option<(Position, Bytes)> {
        let is_it = |block: &&Block| block.since == since && block.to >= end;
        self.blocks.iter().find(is_it).map(|block| (block.to, block.bytes.clone()))
    }

    /// The latest block of everything.
    fn full(&self) -> Option<(Position, Bytes)> {
        let block = self.blocks.iter().find(|block| block.since.is_none())?;
        Some((block.to, block.bytes.clone()))
    }

    fn keep(&mut self, block: Block) {
        self.blocks.retain(|other| other.since != block.since);
        self.blocks.push_back(block);
        while self.blocks.len() > SHARED_MAX {
            self.blocks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::EnvKey;
    use crate::model::key::FlagKey;
    use crate::model::key::ProjectKey;
    use crate::snapshot::Snapshots;
    use crate::snapshot::Update;
    use crate::store::ChangedFlag;

    fn at(version: i64) -> Position {
        Position { epoch: 1, version }
    }

    fn install(channel: &Channel, version: i64, flag: &str) {
        let flag = ChangedFlag { key: FlagKey::stored(flag), version, text: None };
        let flags = vec![Arc::new(flag)];
        let update = Update { to: at(version), flags, is_relative: true, ..Update::default() };
        assert!(channel.environment.install(&update).0);
    }

    fn channel() -> Channel {
        let environment = Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"));
        let status = Status::of(&Snapshots::default(), &environment);
        let channel = Channel::new(Arc::new(environment), status);
        for (version, flag) in [(1, "a"), (2, "b"), (3, "c")] {
            install(&channel, version, flag);
        }
        channel
    }

    fn text(channel: &Channel, since: Option<Position>) -> String {
        let (_, bytes) = channel.block_since(Format::Changes, since, false).unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn nothing_is_sent_before_it_is_announced() {
        let channel = channel();
        channel.announce(Weight::Light, at(2));
        assert!(channel.block_since(Format::Changes, Some(at(2)), false).is_none());
        assert!(text(&channel, Some(at(1))).contains(r#"{"version":2,"flags":["b"]"#));
        // But one who has just come gets all of it at once.
        assert!(
            channel
                .block_since(Format::Changes, Some(at(2)), true)
                .is_some_and(|(to, _)| to == at(3))
        );
        channel.announce(Weight::Light, at(3));
        assert!(text(&channel, Some(at(1))).contains(r#"{"version":3,"flags":["b","c"]"#));
        assert!(text(&channel, Some(at(2))).contains(r#"{"version":3,"flags":["c"]"#));
    }

    #[test]
    fn who_asks_for_the_same_shares_it() {
        let channel = channel();
        channel.announce(Weight::Light, at(3));
        for since in [Some(at(1)), Some(at(2)), None, Some(Position { epoch: 0, version: 9 })] {
            let ((_, first), (_, second)) = (
                channel.block_since(Format::Changes, since, false).unwrap(),
                channel.block_since(Format::Changes, since, false).unwrap(),
            );
            assert_eq!(first.as_ptr(), second.as_ptr(), "{since:?}");
        }
        // What is kept has an end, and is dropped when something newer was announced.
        install(&channel, 4, "d");
        channel.announce(Weight::Light, at(4));
        assert!(text(&channel, Some(at(1))).contains(r#""version":4"#));
        assert!(text(&channel, None).contains(r#""version":4"#));
        assert!(channel.shared(Format::Changes).blocks.len() <= SHARED_MAX);
    }

    #[test]
    fn who_comes_after_a_change_gets_what_was_prepared_and_then_the_change() {
        let channel = channel();
        let (to, prepared) = channel.prepare(Format::LaunchDarkly).unwrap();
        assert_eq!(to, at(3));
        install(&channel, 4, "d");
        channel.announce(Weight::Heavy, at(4));
        let (to, first) = channel.block_since(Format::LaunchDarkly, None, true).unwrap();
        assert_eq!((to, first.as_ptr()), (at(3), prepared.as_ptr()), "nothing is rendered anew");
        let (to, then) = channel.block_since(Format::LaunchDarkly, Some(to), false).unwrap();
        assert_eq!(to, at(4));
        assert!(String::from_utf8(then.to_vec()).unwrap().contains("delete"), "the change follows");
        assert_eq!(
            channel.prepare(Format::LaunchDarkly).unwrap().0,
            at(4),
            "who asks once gets all"
        );
    }

    #[test]
    fn seats_are_spread_and_given_back() {
        let channel = channel();
        let n = ROWS * SEATS_TOGETHER;
        let mut seats: Vec<_> =
            (0..SEATS_TOGETHER).map(|_| channel.sit([0; 32], None, u32::MAX)).collect();
        assert_eq!(channel.seats(0).len(), SEATS_TOGETHER, "those of one connection together");
        seats.extend((SEATS_TOGETHER..n).map(|_| channel.sit([0; 32], None, u32::MAX)));
        assert!((0..ROWS).all(|row| channel.seats(row).len() == SEATS_TOGETHER));
        for seat in seats.iter().step_by(2).chain(seats.iter().skip(1).step_by(2)) {
            channel.leave(seat);
        }
        assert!((0..ROWS).all(|row| channel.seats(row).is_empty()));
    }

    #[test]
    fn a_heartbeat_is_wanted_once() {
        let seat = channel().sit([0; 32], None, u32::MAX);
        seat.wake(BEAT);
        seat.wake(END_DRAIN);
        assert!(seat.take_beat());
        assert!(!seat.take_beat());
        assert_eq!(seat.wanted(), END_DRAIN);
    }
}
