//! One environment as it is served: its ruleset, and its latest changes for those who follow along.

use crate::eval::CompiledFlag;
use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::eval::Usage;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::event::FlagCount;
use crate::model::flag::ClientSideAvailability;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::snapshot::Image;
use crate::snapshot::since::Since;
use crate::snapshot::stored::Stored;
use crate::snapshot::stored::compile_all;
use crate::store::ChangedFlag;
use crate::store::ChangedSegment;
use crate::store::StoreError;
use arc_swap::ArcSwap;
use arc_swap::Guard;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::watch;

/// Changes that are remembered for clients which were away for a moment; one further back gets the full list.
const CHANGES_MAX: usize = 1_000;
/// Bytes of the changes that are remembered, counted by their keys; of changes of very many flags there are fewer.
const CHANGES_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that a remembered change takes beside its keys, and a key beside its text, about.
const CHANGE_BYTES: usize = 256;
/// See [`CHANGE_BYTES`].
const KEY_BYTES: usize = 32;
/// The latest changes, for which the flags that they affect are kept: streams that are awake all ask for them.
const AFFECTED_KEPT: usize = 4;
/// Flags that were replaced and whose counts are not taken yet; counts of more are lost.
const RETIRED_MAX: usize = 400_000;

/// One environment as it is served.
#[derive(Debug)]
pub struct Environment {
    /// Its number in the database.
    pub id: EnvId,
    /// The project that it belongs to.
    pub project: ProjectKey,
    /// Its key.
    pub key: EnvKey,
    ruleset: ArcSwap<Ruleset>,
    position: watch::Sender<Position>,
    /// The lock is held by the one who installs, and for a moment by streams that wake up.
    history: Mutex<History>,
    /// The counts of flags that were replaced.
    retired: Mutex<Vec<Arc<Usage>>>,
    /// How long evaluations go on without confirmation, in seconds; 0 is for ever.
    fail_closed_after_secs: AtomicU64,
    /// Which server-side SDKs it is for: 0 is not known yet, 1 none, 2 LaunchDarkly's.
    server_sdk: AtomicU8,
    /// What keeps it from being changed by mistake.
    safety: ArcSwap<Safety>,
    /// What was acknowledged before this process served it.
    promised: Mutex<Position>,
    /// Since when what changed cannot be read, for a reason that is its own.
    unread: Since,
    /// Rows that cannot be read, of which something older is served.
    n_unreadable: AtomicUsize,
}

/// How an environment came to where it is.
#[derive(Debug, Default)]
struct History {
    /// The id of the audit entry that made the version; tells this history from others.
    stamp: Box<str>,
    /// Oldest first.
    changes: VecDeque<Arc<Change>>,
    /// What the changes take, about.
    n_bytes: usize,
    stored: Stored,
    /// Up to where everything that is stored is served.
    applied: Position,
}

/// What was read of an environment, to be installed.
#[derive(Debug, Default)]
pub struct Update {
    /// Where it stands then.
    pub to: Position,
    /// The id of the audit entry that made the version.
    pub stamp: Box<str>,
    /// The flags that are new, changed or gone, as they are stored.
    pub flags: Vec<Arc<ChangedFlag>>,
    /// The segments that are new, changed or gone, as they are stored.
    pub segments: Vec<Arc<ChangedSegment>>,
    /// Whether it is what changed since what is served; otherwise it is everything.
    pub is_relative: bool,
}

/// What one installed version changed.
#[derive(Debug)]
pub struct Change {
    /// The position before.
    pub from: Position,
    /// The id of the audit entry that made the position before.
    pub from_stamp: Box<str>,
    /// The position after.
    pub to: Position,
    /// The flags that are new, changed or gone.
    pub flags: BTreeSet<FlagKey>,
    /// The segments that are new, changed or gone.
    pub segments: BTreeSet<SegmentKey>,
    /// Who could see the flags among them that somebody cannot see any more, each answer once.
    pub withdrawn: Vec<ClientSideAvailability>,
    affected: Mutex<Option<Arc<BTreeSet<FlagKey>>>>,
}

impl Change {
    /// The flags whose answers the change may alter, also through prerequisites and segments, as they are referred to in
    /// `ruleset`, which must not be older than the change; found by the first who asks, shared by all.
    ///
    /// A flag that refers to them no longer has itself changed since, and so is told by that later change.
    pub fn affected(&self, ruleset: &Ruleset) -> Arc<BTreeSet<FlagKey>> {
        // Found under the lock, so that the others wait instead of doing the same.
        let mut affected = self.affected.lock().unwrap_or_else(PoisonError::into_inner);
        let find = || Arc::new(ruleset.affected(&self.flags, &self.segments));
        Arc::clone(affected.get_or_insert_with(find))
    }

    /// Forgets what it affects, which may be far more than what it changed.
    fn forget_affected(&self) {
        self.affected.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// What it takes, about.
    fn n_bytes(&self) -> usize {
        let flags = self.flags.iter().map(|key| key.as_str().len());
        let keys = flags.chain(self.segments.iter().map(|key| key.as_str().len()));
        keys.fold(CHANGE_BYTES, |sum, n_bytes| sum.saturating_add(n_bytes + KEY_BYTES))
    }
}

/// What somebody at an earlier position has missed.
#[derive(Debug)]
pub enum Missed {
    /// Nothing.
    Nothing,
    /// One change.
    One(Arc<Change>),
    /// Several changes, oldest first.
    Many(Vec<Arc<Change>>),
    /// More than is remembered, or the position is not one of this history.
    Unknown,
}

impl Environment {
    /// Returns an environment that has no ruleset yet.
    pub fn new(id: EnvId, project: ProjectKey, key: EnvKey) -> Self {
        Self {
            id,
            project,
            key,
            ruleset: ArcSwap::default(),
            position: watch::Sender::new(Position::default()),
            history: Mutex::default(),
            retired: Mutex::default(),
            fail_closed_after_secs: AtomicU64::new(0),
            server_sdk: AtomicU8::new(0),
            safety: ArcSwap::default(),
            promised: Mutex::default(),
            unread: Since::default(),
            n_unreadable: AtomicUsize::new(0),
        }
    }

    /// What keeps it from being changed by mistake.
    pub fn safety(&self) -> Safety {
        **self.safety.load()
    }

    pub(super) fn set_safety(&self, safety: Safety) {
        if self.safety() != safety {
            self.safety.store(Arc::new(safety));
        }
    }

    /// The current ruleset.
    ///
    /// # Cost
    ///
    /// One atomic load; no lock, no reference count.
    pub fn ruleset(&self) -> Guard<Arc<Ruleset>> {
        self.ruleset.load()
    }

    /// The position of the current ruleset, now and as it changes.
    pub fn positions(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// Where the current ruleset stands.
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Where the current ruleset stands, and the id of the audit entry that made it so.
    pub fn served(&self) -> (Position, Box<str>) {
        let history = self.history();
        (self.position(), history.stamp.clone())
    }

    /// Whether anything was ever installed.
    pub fn is_loaded(&self) -> bool {
        self.ruleset.load().version > 0
    }

    /// Everything that is served, as it is stored.
    pub fn image(&self) -> Image {
        let history = self.history();
        Image {
            id: self.id,
            project: self.project.clone(),
            key: self.key.clone(),
            position: self.position(),
            stamp: history.stamp.clone(),
            flags: history.stored.flags.clone(),
            segments: history.stored.segments.clone(),
            unreadable_flags: history.stored.unreadable_flags.clone(),
            unreadable_segments: history.stored.unreadable_segments.clone(),
        }
    }

    /// Compiles what was read and replaces the ruleset by what it becomes, if that is newer; returns whether it is, and the
    /// rows that cannot be read, of which what was there before stays.
    ///
    /// A relative update must be relative to the current ruleset or to an older one.
    pub fn install(&self, update: &Update) -> (bool, Vec<StoreError>) {
        // Takes time, so it is done before the lock is taken.
        let mut compiled = compile_all(update);
        let unreadable = std::mem::take(&mut compiled.errors);
        let mut history = self.history();
        let current = self.ruleset.load();
        let (from, to) = (self.position(), update.to);
        if to <= from {
            return (false, unreadable);
        }
        // Everything that can fail comes before the first change, so that a panic leaves what is served as it was.
        let mut stored =
            if update.is_relative { history.stored.clone() } else { Stored::default() };
        stored.keep(update, &compiled);
        if !update.is_relative {
            stored.go_on_with(&history.stored, &mut compiled.change);
        }
        let change = &compiled.change;
        let n_unreadable = stored.n_unreadable();
        let is_continued = from.epoch == to.epoch && update.is_relative;
        let entry = is_continued.then(|| Change {
            from,
            from_stamp: history.stamp.clone(),
            to,
            flags: change.flags.iter().map(|(key, _)| key.clone()).collect(),
            segments: change.segments.iter().map(|(key, _)| key.clone()).collect(),
            withdrawn: withdrawn(&current, change),
            affected: Mutex::default(),
        });
        let empty = Ruleset::default();
        let base = if update.is_relative { &**current } else { &empty };
        let next = Arc::new(base.with(to.epoch, to.version, change));
        match entry {
            Some(entry) => history.remember(entry),
            // Nobody can continue from before: they may have seen what is not in it.
            None => {
                history.changes.clear();
                history.n_bytes = 0;
            }
        }
        history.stamp.clone_from(&update.stamp);
        history.stored = stored;
        self.n_unreadable.store(n_unreadable, Ordering::Relaxed);
        self.retire(&current, change, update.is_relative);
        self.ruleset.store(next);
        if n_unreadable == 0 {
            history.applied = to;
        }
        // Before the lock is released: whoever holds it sees a position that belongs to what it protects.
        self.position.send_replace(to);
        (true, unreadable)
    }

    /// Takes how often each flag was evaluated since the last time.
    pub fn take_usage(&self) -> Vec<FlagCount> {
        let mut taken = Vec::new();
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|usage| {
            // Looked at before the counts are taken: an evaluation that goes on holds the flag, and may still count.
            let is_in_use = Arc::strong_count(usage) > 1;
            usage.take(&mut taken);
            is_in_use
        });
        drop(retired);
        for flag in self.ruleset.load().flags() {
            flag.usage.take(&mut taken);
        }
        taken
    }

    /// Keeps the counts of the flags that a change has replaced.
    fn retire(&self, before: &Ruleset, change: &RulesetChange, is_relative: bool) {
        let mut retired = self.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let room = RETIRED_MAX.saturating_sub(retired.len());
        let usage = |flag: &Arc<CompiledFlag>| Arc::clone(&flag.usage);
        if is_relative {
            let replaced = change.flags.iter().filter_map(|(key, _)| before.flag(key.as_str()));
            retired.extend(replaced.take(room).map(usage));
        } else {
            retired.extend(before.flags().take(room).map(usage));
        }
    }

    /// How long evaluations go on without confirmation; `None` is for ever.
    pub fn fail_closed_after(&self) -> Option<Duration> {
        let secs = self.fail_closed_after_secs.load(Ordering::Relaxed);
        (secs > 0).then(|| Duration::from_secs(secs))
    }

    /// Sets how long evaluations go on without confirmation.
    pub fn set_fail_closed_after(&self, after: Option<Duration>) {
        let secs = after.map_or(0, |after| after.as_secs());
        self.fail_closed_after_secs.store(secs, Ordering::Relaxed);
    }

    /// Which server-side SDKs it is for; `None` if that is not known before the store was reached.
    pub fn server_sdk(&self) -> Option<ServerSdk> {
        match self.server_sdk.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(ServerSdk::None),
            _ => Some(ServerSdk::LaunchDarkly),
        }
    }

    /// Sets which server-side SDKs it is for.
    pub fn set_server_sdk(&self, server_sdk: ServerSdk) {
        let word = match server_sdk {
            ServerSdk::None => 1,
            ServerSdk::LaunchDarkly => 2,
        };
        self.server_sdk.store(word, Ordering::Relaxed);
    }

    /// Notes that a position was acknowledged without being served yet.
    pub fn promise(&self, position: Position) {
        let mut promised = self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = position.max(*promised);
    }

    /// What is served, or was acknowledged if that is more.
    pub fn promised(&self) -> Position {
        let promised = *self.promised.lock().unwrap_or_else(PoisonError::into_inner);
        promised.max(self.position())
    }

    /// Up to where everything that is stored is served: below the position if a row cannot be read.
    pub fn applied(&self) -> Position {
        self.history().applied
    }

    /// Whether what changed, or a row of it, cannot be read for a reason that is this environment's own.
    pub fn is_quarantined(&self) -> bool {
        self.unread.elapsed().is_some() || self.n_unreadable.load(Ordering::Relaxed) > 0
    }

    /// For how long what changed cannot be read; `None` if it can, but for single rows.
    pub fn unread_for(&self) -> Option<Duration> {
        self.unread.elapsed()
    }

    /// Notes that what changed since `since` cannot be read; returns whether that is new.
    pub(super) fn set_unread(&self, since: Instant) -> bool {
        self.unread.begin(since)
    }

    /// Notes that what changed can be read.
    pub(super) fn set_read(&self) {
        self.unread.end();
    }

    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The id of the audit entry that made a position, if it is one that was served and is remembered.
    pub fn stamp_of(&self, position: Position) -> Option<Box<str>> {
        let history = self.history();
        if position == self.position() {
            return Some(history.stamp.clone());
        }
        let start = history.changes.partition_point(|change| change.from < position);
        let change = history.changes.get(start).filter(|change| change.from == position)?;
        Some(change.from_stamp.clone())
    }

    /// Returns what somebody at `position` has missed.
    pub fn missed_since(&self, position: Position) -> Missed {
        if position == self.position() {
            return Missed::Nothing;
        }
        let history = self.history();
        let changes = &history.changes;
        // A position between two that were installed together is served by the whole step.
        let start = changes.partition_point(|change| change.to <= position);
        let is_known = changes
            .get(start)
            .is_some_and(|change| change.from <= position && change.to.epoch == position.epoch);
        if !is_known {
            return Missed::Unknown;
        }
        let mut missed = changes.iter().skip(start).cloned();
        match (missed.next(), missed.len()) {
            (Some(only), 0) if only.from == position => Missed::One(only),
            (Some(first), _) => Missed::Many(std::iter::once(first).chain(missed).collect()),
            (None, _) => Missed::Unknown,
        }
    }
}

impl History {
    /// Remembers a change, and forgets the oldest that are too many or too large.
    fn remember(&mut self, change: Change) {
        self.n_bytes = self.n_bytes.saturating_add(change.n_bytes());
        self.changes.push_back(Arc::new(change));
        while self.changes.len() > CHANGES_MAX || self.n_bytes > CHANGES_BYTES_MAX {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.n_bytes = self.n_bytes.saturating_sub(oldest.n_bytes());
        }
        for old in self.changes.iter().rev().skip(AFFECTED_KEPT) {
            old.forget_affected();
        }
    }
}

/// Who could see, before a change, the flags that it hides from somebody or takes away.
fn withdrawn(before: &Ruleset, change: &RulesetChange) -> Vec<ClientSideAvailability> {
    let mut withdrawn = Vec::new();
    for (key, after) in &change.flags {
        let Some(flag) = before.flag(key.as_str()) else { continue };
        let seen = flag.client_side_availability;
        let is_kept = after.as_ref().is_some_and(|flag| {
            let now = flag.client_side_availability;
            now.using_environment_id >= seen.using_environment_id
                && now.using_mobile_key >= seen.using_mobile_key
        });
        if !is_kept && !withdrawn.contains(&seen) {
            withdrawn.push(seen);
        }
    }
    withdrawn
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i64) -> Position {
        Position { epoch: 1, version }
    }

    fn environment() -> Environment {
        Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"))
    }

    fn nothing(to: Position) -> Update {
        Update { to, is_relative: true, ..Update::default() }
    }

    fn touching(flag: &str, to: Position) -> Update {
        let flag = ChangedFlag { key: FlagKey::stored(flag), version: to.version, text: None };
        Update { flags: vec![Arc::new(flag)], ..nothing(to) }
    }

    #[test]
    fn only_higher_positions_are_installed() {
        let environment = environment();
        assert!(environment.install(&nothing(at(5))).0);
        for lower in [at(5), at(4), Position { epoch: 0, version: 99 }] {
            assert!(!environment.install(&nothing(lower)).0, "{lower:?}");
        }
        assert!(environment.install(&nothing(Position { epoch: 2, version: 1 })).0);
    }

    #[test]
    fn what_was_missed_is_told_exactly_or_not_at_all() {
        let environment = environment();
        environment.install(&nothing(at(1)));
        environment.install(&touching("a", at(2)));
        environment.install(&touching("b", at(4)));
        assert!(matches!(environment.missed_since(at(4)), Missed::Nothing));
        assert!(matches!(environment.missed_since(at(2)), Missed::One(c) if c.to == at(4)));
        assert!(matches!(environment.missed_since(at(1)), Missed::Many(list) if list.len() == 2));
        assert!(matches!(environment.missed_since(at(3)), Missed::Many(list) if list.len() == 1));
        for unknown in [at(0), at(5), Position { epoch: 2, version: 2 }, Position::default()] {
            assert!(matches!(environment.missed_since(unknown), Missed::Unknown), "{unknown:?}");
        }
    }

    #[test]
    fn memory_of_changes_is_bounded() {
        let environment = environment();
        environment.install(&nothing(at(1)));
        for version in 2..=1_500 {
            environment.install(&touching("a", at(version)));
        }
        assert!(matches!(environment.missed_since(at(499)), Missed::Unknown));
        let missed = environment.missed_since(at(500));
        assert!(matches!(missed, Missed::Many(list) if list.len() == CHANGES_MAX));
    }

    #[test]
    fn bytes_of_remembered_changes_are_bounded() {
        let environment = environment();
        environment.install(&nothing(at(1)));
        let many = |version: i64| {
            let flag = |i| ChangedFlag {
                key: FlagKey::stored(&format!("{i:0>120}")),
                version,
                text: None,
            };
            Update { flags: (0..1_000).map(flag).map(Arc::new).collect(), ..nothing(at(version)) }
        };
        for version in 2..=40 {
            environment.install(&many(version));
        }
        let remembered = environment.history().changes.len();
        assert_eq!(remembered, CHANGES_BYTES_MAX / (1_000 * (120 + KEY_BYTES) + CHANGE_BYTES));
        assert!(matches!(environment.missed_since(at(39)), Missed::One(_)));
        assert!(matches!(environment.missed_since(at(20)), Missed::Unknown));
        // One that is too large by itself is not remembered either: who missed it is told of everything.
        let flag =
            |i| ChangedFlag { key: FlagKey::stored(&format!("{i}")), version: 41, text: None };
        let huge =
            Update { flags: (0..50_000).map(flag).map(Arc::new).collect(), ..nothing(at(41)) };
        environment.install(&huge);
        assert!(matches!(environment.missed_since(at(40)), Missed::Unknown));
        environment.install(&touching("a", at(42)));
        assert!(matches!(environment.missed_since(at(41)), Missed::One(_)));
        assert_eq!(environment.history().n_bytes, CHANGE_BYTES + KEY_BYTES + 1);
    }

    const DEFINITION: &str = r#"{"key":"f","name":"F","kind":"boolean",
        "variations":[{"key":"on","value":true},{"key":"off","value":false}],
        "defaults":{"onVariation":"on","offVariation":"off"}}"#;

    /// One row for each version of a history: which of eight flags it changed, and whether it deleted it.
    fn history_of(rows: &[(u8, bool)]) -> Vec<Arc<ChangedFlag>> {
        let row = |(i, (flag, is_gone)): (usize, &(u8, bool))| {
            let version = i64::try_from(i).unwrap() + 1;
            let text = (!is_gone).then(|| crate::store::FlagText {
                definition: DEFINITION.into(),
                config: r#"{"on":false,"salt":"s"}"#.into(),
            });
            Arc::new(ChangedFlag { key: FlagKey::stored(&format!("f{flag}")), version, text })
        };
        rows.iter().enumerate().map(row).collect()
    }

    /// What is there after so many versions, or what of it is newer than `since`.
    fn read_at(history: &[Arc<ChangedFlag>], since: usize, version: usize) -> Update {
        let mut latest = std::collections::BTreeMap::new();
        for row in history.iter().take(version) {
            latest.insert(row.key.clone(), Arc::clone(row));
        }
        let is_newer = |row: &Arc<ChangedFlag>| row.version > i64::try_from(since).unwrap();
        let flags = latest.into_values().filter(is_newer).collect();
        let to = at(i64::try_from(version).unwrap());
        Update { to, flags, is_relative: since > 0, ..Update::default() }
    }

    proptest::proptest! {
        /// Rings and images that are lost, doubled and late make readings of any age, in any order.
        #[test]
        fn whatever_order_readings_come_in_nothing_goes_back_and_the_newest_stays(
            rows in proptest::collection::vec((0_u8..8, proptest::bool::ANY), 1..40),
            deliveries in proptest::collection::vec((0_usize..100, 0_usize..100), 0..60),
        ) {
            let history = history_of(&rows);
            let environment = environment();
            for (since, version) in deliveries {
                let before = environment.position();
                let version = 1 + version % history.len();
                // Whoever reads what is newer begins at what was served then, or is served now.
                let served = usize::try_from(before.version).unwrap();
                let update = read_at(&history, since % (served + 1), version);
                let (is_newer, _) = environment.install(&update);
                let after = environment.position();
                proptest::prop_assert_eq!(is_newer, update.to > before);
                proptest::prop_assert_eq!(after, before.max(update.to));
                let truth = read_at(&history, 0, usize::try_from(after.version).unwrap());
                let there = truth.flags.iter().filter(|row| row.text.is_some());
                let expected: Vec<_> = there.map(|row| (row.key.clone(), row.version)).collect();
                let image = environment.image();
                let found: Vec<_> =
                    image.flags.iter().map(|(key, row)| (key.clone(), row.version)).collect();
                proptest::prop_assert_eq!(found, expected, "whole at {:?}", after);
            }
            let newest = read_at(&history, 0, history.len());
            environment.install(&newest);
            proptest::prop_assert_eq!(environment.position(), newest.to);
        }
    }

    #[test]
    fn only_the_latest_changes_keep_what_they_affect() {
        let environment = environment();
        environment.install(&nothing(at(1)));
        for version in 2..=20 {
            environment.install(&touching("a", at(version)));
            let Missed::Many(changes) = environment.missed_since(at(1)) else { continue };
            changes.iter().for_each(|change| _ = change.affected(&environment.ruleset()));
        }
        environment.install(&touching("a", at(21)));
        let history = environment.history();
        let keeps = |change: &&Arc<Change>| change.affected.lock().unwrap().is_some();
        assert_eq!(history.changes.iter().filter(keeps).count(), AFFECTED_KEPT - 1);
    }
}
