//! Waiting until every replica serves what was written.

use crate::control::Control;
use crate::control::ControlError;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::store::DIRECTORY;
use crate::store::ReplicaRecord;
use crate::store::Store;
use crate::store::within_timeout;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How often the replicas are looked at while somebody waits for them.
const LOOK_INTERVAL: Duration = Duration::from_millis(25);

/// Which replicas serve what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// The names of those that do.
    pub confirmed: Vec<String>,
    /// The names of those that live and have not said so.
    pub waiting: Vec<String>,
}

impl Control {
    /// Waits until every live replica serves the directory and the named environments as they are in the store now, but not
    /// for longer than `timeout`.
    ///
    /// Without a project it is the directory alone, without an environment all those of the project.
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
        loop {
            let replicas = match &self.store {
                Store::Postgres(_) => within_timeout(self.store.replicas()).await?,
                Store::Sqlite { .. } => vec![self.itself()],
            };
            let (confirmed, waiting): (Vec<_>, Vec<_>) =
                replicas.into_iter().partition(|replica| serves(replica, &wanted));
            let names = |list: Vec<ReplicaRecord>| list.into_iter().map(|each| each.name).collect();
            // This process is one of them, unless it cannot say so.
            let is_confirmed = waiting.is_empty() && !confirmed.is_empty();
            if is_confirmed || Instant::now() >= deadline {
                return Ok(Confirmation { confirmed: names(confirmed), waiting: names(waiting) });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
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

    fn itself(&self) -> ReplicaRecord {
        let directory = self.snapshots.directory();
        let environments = directory.environments().iter();
        let mut positions: BTreeMap<EnvId, Position> =
            environments.map(|each| (each.id, each.position())).collect();
        positions.insert(DIRECTORY, directory.position);
        ReplicaRecord { id: String::new(), name: "this process".to_owned(), positions }
    }
}

fn serves(replica: &ReplicaRecord, wanted: &BTreeMap<EnvId, Position>) -> bool {
    let served = |env| replica.positions.get(env).copied().unwrap_or_default();
    wanted.iter().all(|(env, position)| served(env) >= *position)
}
