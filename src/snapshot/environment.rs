//! One environment as it is served: its ruleset, and its latest changes for those who follow along.

use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use arc_swap::ArcSwap;
use arc_swap::Guard;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;
use tokio::sync::watch;

/// Changes that are remembered for clients which were away for a moment; one further back gets the full list.
const CHANGES_MAX: usize = 1_000;

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
    /// Oldest first. The lock is held by the one who installs, and for a moment by streams that wake up.
    changes: Mutex<VecDeque<Arc<Change>>>,
}

/// What one installed version changed.
#[derive(Debug)]
pub struct Change {
    /// The position before.
    pub from: Position,
    /// The position after.
    pub to: Position,
    /// The flags that are new, changed or gone.
    pub flags: BTreeSet<FlagKey>,
    /// The segments that are new, changed or gone.
    pub segments: BTreeSet<SegmentKey>,
    /// How streams send it; rendered by the first, shared by all.
    pub frame: OnceLock<Bytes>,
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
            changes: Mutex::default(),
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

    /// Replaces the ruleset by the one that `change` makes of it, if that is newer; returns whether it is.
    ///
    /// The change must be relative to the current ruleset or to an older one; at another epoch it must be everything.
    pub fn install(&self, to: Position, change: &RulesetChange) -> bool {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.ruleset.load();
        let from = Position { epoch: current.epoch, version: current.version };
        if to <= from {
            return false;
        }
        let entry = Change {
            from,
            to,
            flags: change.flags.iter().map(|(key, _)| key.clone()).collect(),
            segments: change.segments.iter().map(|(key, _)| key.clone()).collect(),
            frame: OnceLock::new(),
        };
        let ruleset = if from.epoch == to.epoch {
            changes.push_back(Arc::new(entry));
            current.with(to.epoch, to.version, change)
        } else {
            // Another history: nothing of the old one stays, and nobody can continue from before it.
            changes.clear();
            Ruleset::default().with(to.epoch, to.version, change)
        };
        self.ruleset.store(Arc::new(ruleset));
        while changes.len() > CHANGES_MAX {
            changes.pop_front();
        }
        drop(changes);
        self.position.send_replace(to);
        true
    }

    /// Returns what somebody at `position` has missed.
    pub fn missed_since(&self, position: Position) -> Missed {
        if position == self.position() {
            return Missed::Nothing;
        }
        let changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(version: i64) -> Position {
        Position { epoch: 1, version }
    }

    fn environment() -> Environment {
        Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"))
    }

    fn touching(flag: &str) -> RulesetChange {
        RulesetChange { flags: vec![(FlagKey::stored(flag), None)], segments: Vec::new() }
    }

    #[test]
    fn only_higher_positions_are_installed() {
        let environment = environment();
        assert!(environment.install(at(5), &RulesetChange::default()));
        for lower in [at(5), at(4), Position { epoch: 0, version: 99 }] {
            assert!(!environment.install(lower, &RulesetChange::default()), "{lower:?}");
        }
        assert!(environment.install(Position { epoch: 2, version: 1 }, &RulesetChange::default()));
    }

    #[test]
    fn what_was_missed_is_told_exactly_or_not_at_all() {
        let environment = environment();
        environment.install(at(1), &RulesetChange::default());
        environment.install(at(2), &touching("a"));
        environment.install(at(4), &touching("b"));
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
        environment.install(at(1), &RulesetChange::default());
        for version in 2..=1_500 {
            environment.install(at(version), &touching("a"));
        }
        assert!(matches!(environment.missed_since(at(499)), Missed::Unknown));
        let missed = environment.missed_since(at(500));
        assert!(matches!(missed, Missed::Many(list) if list.len() == CHANGES_MAX));
    }
}
