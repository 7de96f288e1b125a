//! Telling other replicas that this one lives and how far it has come, in a task of its own: however long a look at the store
//! or a compilation takes, a replica that serves something old must be known to live.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Snapshots;
use crate::snapshot::Source;
use crate::store::DIRECTORY;
use crate::store::ReplicaRecord;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::within_timeout;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::warn;

/// How often a replica says at least that it lives; well within the time after which it counts as gone.
const BEAT_INTERVAL: Duration = Duration::from_millis(700);
/// How long saying so may take before it is tried again, on another connection: a link may be slow, and a connection dead.
const BEAT_TIMEOUT: Duration = Duration::from_secs(4);
/// How soon it is said again at the earliest, however often something is installed.
const BEAT_GAP: Duration = Duration::from_millis(5);

/// A process, as others know it.
#[derive(Debug, Clone)]
pub struct ReplicaName {
    /// Another one after each start.
    pub id: String,
    /// For people.
    pub name: String,
}

/// Says that this process lives and how far it has come.
#[derive(Debug, Clone)]
pub struct Heart {
    /// Where it says so.
    pub store: Store,
    /// This process, as others know it.
    pub replica: ReplicaName,
    /// What it serves.
    pub snapshots: Arc<Snapshots>,
}

impl Heart {
    /// Says so whenever something was installed, and now and then anyway, until it is told to stop; then it signs off.
    ///
    /// Says nothing before anything is served, but for what it announces first: a process that answers nobody need not be waited for.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self.snapshots.directory().position > Position::default()
                && let Err(error) = self.beat(self.snapshots.applied()).await
            {
                debug!(%error, "cannot say how far this replica has come");
            }
            let next = async {
                tokio::time::sleep(BEAT_GAP).await;
                tokio::select! {
                    () = self.snapshots.moved.notified() => {}
                    () = tokio::time::sleep(BEAT_INTERVAL) => {}
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = next => {}
            }
        }
        if let Err(error) = within_timeout(self.store.sign_off(&self.replica.id)).await {
            warn!(%error, "could not sign off");
        }
    }

    /// Says that this process is about to serve something, before it looks what: what is changed after that look waits for it.
    pub(super) async fn announce(&self) {
        if let Err(error) = self.beat(BTreeMap::new()).await {
            debug!(%error, "cannot say that this replica is about to serve");
        }
    }

    /// Goes on saying so.
    pub(super) async fn go_on_announcing(&self) -> Infallible {
        loop {
            tokio::time::sleep(BEAT_INTERVAL).await;
            self.announce().await;
        }
    }

    async fn beat(&self, positions: BTreeMap<EnvId, Position>) -> Result<(), StoreError> {
        let ReplicaName { id, name } = self.replica.clone();
        let replica = ReplicaRecord { id, name, positions };
        match tokio::time::timeout(BEAT_TIMEOUT, self.store.beat(&replica)).await {
            Ok(result) => result,
            Err(_) => Err(StoreError::Unavailable("the database does not answer".to_owned())),
        }
    }
}

impl Snapshots {
    /// Up to where everything that is stored is served: the directory under [`DIRECTORY`], and each environment under its number.
    ///
    /// Nothing, as long as the store has not confirmed that what an earlier run kept is of its history.
    pub fn applied(&self) -> BTreeMap<EnvId, Position> {
        if self.freshness().source != Source::Store {
            return BTreeMap::new();
        }
        let directory = self.directory();
        let environments = directory.environments().iter();
        let mut positions: BTreeMap<EnvId, Position> =
            environments.map(|each| (each.id, each.applied())).collect();
        positions.insert(DIRECTORY, directory.position);
        positions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Directory;
    use std::time::Instant;

    #[test]
    fn what_the_store_has_not_confirmed_is_not_told() {
        let snapshots = Snapshots::default();
        let at = Position { epoch: 1, version: 3 };
        snapshots.directory.store(Arc::new(Directory::new(at, Vec::new(), Vec::new())));
        snapshots.status.load_from_disk(Duration::ZERO);
        assert_eq!(snapshots.applied(), BTreeMap::new(), "it may be of another installation");
        snapshots.status.confirm(Instant::now());
        assert_eq!(snapshots.applied(), BTreeMap::from([(DIRECTORY, at)]));
    }
}
