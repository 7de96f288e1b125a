//! Whether what is served is part of the store's history: a restored backup or a promoted standby can lack it.
//!
//! What follows from it is decided in `follow`; where a single environment goes on from is checked once more in `load`, in the
//! transaction that reads it.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::store::Positions;
use crate::store::Store;
use crate::store::StoreError;
use std::collections::HashMap;

/// Compares what is served with the history of the store.
pub(super) async fn compare(
    store: &Store,
    directory: &Directory,
    positions: &Positions,
) -> Result<(), StoreError> {
    if let Some(lost) = regression_of(directory, positions) {
        return Err(StoreError::Regressed(lost));
    }
    if positions.is_continued {
        return Ok(());
    }
    // Another server may have lost something and gone on from there, which only its log tells.
    let mut tx = store.look().await?;
    for environment in directory.environments() {
        let (served, stamp) = environment.served();
        let is_known = served.version > 0 && served.epoch >= positions.accepted_epoch;
        let is_there = positions.environments.iter().any(|each| each.id == environment.id);
        if is_known
            && is_there
            && tx.stamp(environment.id, served.version).await?.as_deref() != Some(&*stamp)
        {
            return Err(StoreError::Regressed(lost(environment, served)));
        }
    }
    Ok(())
}

/// What is missing in a database that is another one and has no environment, for people; `None` if nothing is, or an operator
/// accepted that it is.
pub(super) fn lost_entirely(directory: &Directory, positions: &Positions) -> Option<String> {
    let n = directory.environments().iter().filter(|each| each.is_loaded()).count();
    let is_empty = positions.environments.is_empty() && positions.accepted_epoch == 0;
    (is_empty && n > 0)
        .then(|| format!("the database is empty; environments that were served: {n}"))
}

/// What is missing in a database that is of another installation, for people.
pub(super) fn lost_to_another(directory: &Directory) -> String {
    let n = directory.environments().iter().filter(|each| each.is_loaded()).count();
    format!("the database is of another installation; environments that were served: {n}")
}

/// The highest epoch of anything that is served.
pub(super) fn highest_epoch(directory: &Directory) -> i64 {
    let environments = directory.environments().iter().map(|each| each.position().epoch);
    environments.fold(directory.position.epoch, i64::max)
}

/// What is served and not in the store's history, for people; `None` if all of it is, or an operator accepted that it is not.
fn regression_of(directory: &Directory, positions: &Positions) -> Option<String> {
    let is_accepted = |at: Position| at.epoch < positions.accepted_epoch;
    let found: HashMap<EnvId, _> =
        positions.environments.iter().map(|each| (each.id, each)).collect();
    let at = directory.position;
    let is_behind = positions.epoch < at.epoch || positions.directory_version < at.version;
    if is_behind && !is_accepted(at) {
        let Position { epoch, version } = at;
        return Some(format!(
            "projects, environments and tokens: version {version} of epoch {epoch} was served and is not in the database"
        ));
    }
    directory.environments().iter().find_map(|environment| {
        let (served, stamp) = environment.served();
        // One that is gone was deleted, as the directory's higher version says.
        let store = found.get(&environment.id)?;
        let is_same = store.version != served.version || *store.stamp == *stamp;
        let is_behind = positions.epoch < served.epoch || store.version < served.version;
        let is_lost = served.version > 0 && !is_accepted(served) && (is_behind || !is_same);
        is_lost.then(|| lost(environment, served))
    })
}

/// What is missing in the store, for people.
pub(super) fn lost(environment: &Environment, served: Position) -> String {
    let Environment { project, key, .. } = environment;
    let Position { epoch, version } = served;
    format!(
        "{project}/{key}: version {version} of epoch {epoch} was served and is not in the database"
    )
}
