//! Whether what is served is part of the store's history: a restored backup or a promoted standby can lack it.
//!
//! What follows from it is decided in `follow`; where a single environment goes on from is checked once more in `load`, in the
//! transaction that reads it.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::store::DIRECTORY;
use crate::store::OTHER_INSTALLATION;
use crate::store::Positions;
use crate::store::Store;
use crate::store::StoreError;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Of how many environments it is told that they are lost; of more, only how many there are.
pub const LOST_TOLD_MAX: usize = 20;

/// The version of the directory in a database in which nothing was made yet.
const FIRST_DIRECTORY_VERSION: i64 = 1;

/// Why nothing can be said of a database.
pub(super) const TWO_AT_ONCE: &str = "the address of the database leads to two databases at once";

/// Which installation the database is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// The one of which something is served, if anything is.
    Own,
    /// Another one, which has its own replicas; nothing is to be written there.
    Other,
    /// A new one without environments: the database was lost and made anew.
    New,
    /// Such a one, and an operator has just accepted it, or another one, and nothing is served that could be lost; from now on
    /// it is the own one.
    Accepted,
}

/// What is served and not in the store's history; as text, for people.
#[derive(Debug, Clone, Default)]
pub struct Lost {
    /// What is known of the database as a whole.
    pub(super) why: Option<&'static str>,
    /// Each environment, and the directory.
    pub missing: Vec<Missing>,
}

/// An environment that was served and is not in the store's history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its number; [`DIRECTORY`] stands for projects, environments and tokens.
    pub id: EnvId,
    /// What it is called.
    name: String,
    /// Up to where it was served.
    pub served: Position,
    /// Where it is in the store; `None` if it is not there at all.
    pub found: Option<Position>,
}

impl Lost {
    /// All that is served, which is in no database of another installation.
    pub(super) fn all(directory: &Directory, found: Found) -> Self {
        let why = match found {
            Found::Other => OTHER_INSTALLATION,
            _ => "the database is empty",
        };
        let loaded = directory.environments().iter().filter(|each| each.is_loaded());
        let missing = loaded.map(|each| Missing::new(each, each.position(), None)).collect();
        Self { why: Some(why), missing }
    }
}

impl Lost {
    /// Whether it is the same loss, of which more is known here; where it was met while reading an environment, only what is
    /// missing there was told, as text.
    pub(super) fn includes(&self, known: &Self, told: &str) -> bool {
        match known.missing.is_empty() {
            true => self.missing.iter().any(|each| each.to_string() == told),
            false => known.missing.iter().all(|each| self.missing.contains(each)),
        }
    }

    /// Whether what was told while reading an environment is of one of these.
    pub(super) fn is_told_of(directory: &Directory, told: &str) -> bool {
        let is_it = |each: &Arc<Environment>| told.starts_with(&format!("{}: ", name_of(each)));
        directory.environments().iter().any(is_it)
    }
}

impl Missing {
    pub(super) fn new(
        environment: &Environment,
        served: Position,
        found: Option<Position>,
    ) -> Self {
        Self { id: environment.id, name: name_of(environment), served, found }
    }
}

fn name_of(Environment { project, key, .. }: &Environment) -> String {
    format!("{project}/{key}")
}

impl From<Missing> for Lost {
    fn from(missing: Missing) -> Self {
        Self { why: None, missing: vec![missing] }
    }
}

impl From<Lost> for StoreError {
    fn from(lost: Lost) -> Self {
        Self::Regressed(lost.to_string())
    }
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.why.iter().map(|why| (*why).to_owned());
        let missing = self.missing.iter().take(LOST_TOLD_MAX).map(Missing::to_string);
        for (i, told) in why.chain(missing).enumerate() {
            write!(f, "{}{told}", if i == 0 { "" } else { "; " })?;
        }
        match self.missing.len().saturating_sub(LOST_TOLD_MAX) {
            0 => Ok(()),
            n => write!(f, "; and {n} more"),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, served: Position { epoch, version }, found, .. } = self;
        write!(f, "{name}: version {version} of epoch {epoch} was served, ")?;
        match found {
            None => write!(f, "nothing was found"),
            Some(found) if *found == self.served => {
                write!(f, "another of the same number was found")
            }
            Some(Position { epoch, version }) => {
                write!(f, "version {version} of epoch {epoch} was found")
            }
        }
    }
}

/// Compares what is served with the history of the store; what is missing there is empty if nothing is.
///
/// Whether a history that has come further has what was served only its log tells, which is read if `is_thorough`, or if nothing
/// is known to be missing and the server is another one than before, as it is until an epoch begins under it.
pub(super) async fn compare(
    store: &Store,
    directory: &Directory,
    positions: &Positions,
    is_thorough: bool,
) -> Result<Lost, StoreError> {
    let mut missing = missing(directory, positions);
    if !is_thorough && (positions.is_continued || !missing.is_empty()) {
        return Ok(Lost { why: None, missing });
    }
    let mut tx = store.look().await?;
    let now = tx.positions().await?;
    if !now.are_of_same(positions) {
        return Err(StoreError::Unavailable(TWO_AT_ONCE.to_owned()));
    }
    for environment in directory.environments() {
        let (served, stamp) = environment.served();
        let is_known = served.version > 0 && served.epoch >= positions.accepted_epoch;
        let there = positions.environments.iter().find(|each| each.id == environment.id);
        if let Some(there) = there
            && is_known
            && !missing.iter().any(|each| each.id == environment.id)
            && tx.stamp(environment.id, served.version).await?.as_deref() != Some(&*stamp)
        {
            let found = Position { epoch: positions.epoch, version: there.version };
            missing.push(Missing::new(environment, served, Some(found)));
        }
    }
    Ok(Lost { why: None, missing })
}

/// Whether anything can be lost: an environment that is served, or a project or a token that was made.
pub(super) fn has_any(directory: &Directory) -> bool {
    let is_changed = directory.position.version > FIRST_DIRECTORY_VERSION;
    is_changed || directory.environments().iter().any(|each| each.is_loaded())
}

/// Whether a database has no environment, and nobody has accepted it in the place of one that had.
pub(super) fn is_new(positions: &Positions) -> bool {
    positions.environments.is_empty() && positions.accepted_epoch == 0
}

/// The highest epoch of anything that is served.
pub(super) fn highest_epoch(directory: &Directory) -> i64 {
    let environments = directory.environments().iter().map(|each| each.position().epoch);
    environments.fold(directory.position.epoch, i64::max)
}

/// What is served and cannot be in the store's history; nothing of what an operator accepted as lost.
fn missing(directory: &Directory, positions: &Positions) -> Vec<Missing> {
    let is_accepted = |at: Position| at.epoch < positions.accepted_epoch;
    let found: HashMap<EnvId, _> =
        positions.environments.iter().map(|each| (each.id, each)).collect();
    let (at, epoch) = (directory.position, positions.epoch);
    let mut missing = Vec::new();
    let is_behind = epoch < at.epoch || positions.directory_version < at.version;
    let is_directory_lost = is_behind && !is_accepted(at);
    if is_directory_lost {
        let name = "projects, environments and tokens".to_owned();
        let found = Some(Position { epoch, version: positions.directory_version });
        missing.push(Missing { id: DIRECTORY, name, served: at, found });
    }
    missing.extend(directory.environments().iter().filter_map(|environment| {
        let (served, stamp) = environment.served();
        let is_known = served.version > 0 && !is_accepted(served);
        let Some(store) = found.get(&environment.id) else {
            // It was deleted if the directory's version is higher.
            let is_lost = is_known && is_directory_lost;
            return is_lost.then(|| Missing::new(environment, served, None));
        };
        let is_same = store.version != served.version || *store.stamp == *stamp;
        let is_behind = epoch < served.epoch || store.version < served.version;
        let found = Position { epoch, version: store.version };
        let is_lost = is_known && (is_behind || !is_same);
        is_lost.then(|| Missing::new(environment, served, Some(found)))
    }));
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::EnvKey;
    use crate::model::key::ProjectKey;

    #[test]
    fn what_is_lost_is_told_up_to_a_bound() {
        let at = |version| Position { epoch: 1, version };
        let missing = |i: usize| {
            let key = EnvKey::stored(&format!("e{i}"));
            let environment = Environment::new(1, ProjectKey::stored("p"), key);
            Missing::new(&environment, at(3), [None, Some(at(2)), Some(at(3))][i % 3])
        };
        let lost = |n| Lost { why: None, missing: (0..n).map(missing).collect() };
        assert_eq!(
            lost(3).to_string(),
            "p/e0: version 3 of epoch 1 was served, nothing was found; \
             p/e1: version 3 of epoch 1 was served, version 2 of epoch 1 was found; \
             p/e2: version 3 of epoch 1 was served, another of the same number was found"
        );
        assert!(!lost(LOST_TOLD_MAX).to_string().contains("more"));
        let many = lost(LOST_TOLD_MAX + 7).to_string();
        assert!(many.ends_with("; and 7 more") && !many.contains("p/e20:"), "{many}");
    }
}
