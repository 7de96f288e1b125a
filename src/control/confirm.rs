//! Waiting until every replica serves what was written.

use crate::control::Control;
use crate::control::ControlError;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::snapshot::ReplicaName;
use crate::store::DIRECTORY;
use crate::store::ReplicaRecord;
use crate::store::SeenReplica;
use crate::store::within_timeout;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// How soon the replicas are looked at again while somebody waits for them; each time twice as late, up to the longest.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(20);
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(200);

/// Which replicas serve what was written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// Whether all do, this process among them.
    pub is_complete: bool,
    /// The names of those that do.
    pub confirmed: Vec<String>,
    /// The names of those that lived and have not said so.
    pub waiting: Vec<String>,
}

impl Control {
    /// Waits until every live replica serves the directory and the named environments as they are in the store now, but not
    /// for longer than `timeout`.
    ///
    /// Without a project it is the directory alone, without an environment all those of the project. A replica that falls
    /// silent meanwhile may serve what was before, so it is waited for; one that signs off is not.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn confirm(
        &self,
        project: Option<&ProjectKey>,
        env: Option<&EnvKey>,
        timeout: Duration,
    ) -> Result<Confirmation, ControlError> {
        let deadline = Instant::now() + timeout;
        let wanted = within_timeout(self.wanted(project, env)).await?;
        let mut members = BTreeSet::new();
        let mut interval = LOOK_INTERVAL_MIN;
        loop {
            let mut seen = within_timeout(self.store.replicas()).await?;
            // What this process serves it knows itself, whether or not it could say so.
            seen.retain(|each| each.replica.id != self.replica.id);
            seen.push(self.itself());
            let live = seen.iter().filter(|each| each.is_live).map(|each| each.replica.id.clone());
            members.extend(live);
            let mut confirmation = Confirmation::default();
            for SeenReplica { replica, .. } in seen {
                if serves(&replica, &wanted) {
                    confirmation.confirmed.push(replica.name);
                } else if members.contains(&replica.id) {
                    confirmation.waiting.push(replica.name);
                }
            }
            confirmation.is_complete = confirmation.waiting.is_empty();
            if confirmation.is_complete || Instant::now() >= deadline {
                return Ok(confirmation);
            }
            tokio::time::sleep(interval).await;
            interval = (interval * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    /// Where the store stands now.
    async fn wanted(
        &self,
        project: Option<&ProjectKey>,
        env: Option<&EnvKey>,
    ) -> Result<BTreeMap<EnvId, Position>, ControlError> {
        let mut tx = self.store.read().await?;
        let positions = tx.positions().await?;
        let at = |version| Position { epoch: positions.epoch, version };
        let mut wanted = BTreeMap::from([(DIRECTORY, at(positions.directory_version))]);
        if let Some(project) = project {
            let mut meant = tx.environments().await?;
            meant.retain(|each| each.project == *project && env.is_none_or(|env| each.key == *env));
            wanted.extend(meant.iter().map(|each| (each.id, at(each.version))));
        }
        Ok(wanted)
    }

    fn itself(&self) -> SeenReplica {
        let ReplicaName { id, name } = self.replica.clone();
        let positions = self.snapshots.applied();
        SeenReplica { replica: ReplicaRecord { id, name, positions }, is_live: true }
    }
}

fn serves(replica: &ReplicaRecord, wanted: &BTreeMap<EnvId, Position>) -> bool {
    let served = |env| replica.positions.get(env).copied().unwrap_or_default();
    wanted.iter().all(|(env, position)| served(env) >= *position)
}
