//! Reading what changed, the directory and each environment of it, and installing it.
//!
//! When that is done is decided in `follow`; from where an environment is read, in `load`.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::snapshot::Follower;
use crate::store::EnvironmentRecord;
use crate::store::Positions;
use crate::store::StoreError;
use crate::store::TokenRecord;
use crate::store::within_timeout;
use crate::telemetry::EnvironmentLabels;
use std::collections::HashMap;
use std::sync::Arc;
use tracing::error;

/// How often an environment is read in a row: as a whole, from the cache perhaps, and then what was missing there.
const READS_MAX: usize = 3;

/// New environments that are loaded and wait for the directory that names them.
pub(super) type Loading = HashMap<EnvId, Arc<Environment>>;

/// A directory as it was read, with environments of which something is loaded.
pub(super) struct Read {
    position: Position,
    environments: Vec<Arc<Environment>>,
    tokens: Vec<Result<TokenRecord, StoreError>>,
}

impl Follower {
    /// Reads what changed in each environment of a directory; the first error is returned, after all were tried.
    pub(super) async fn catch_up(
        &self,
        directory: &Directory,
        positions: &Positions,
    ) -> Result<(), StoreError> {
        let wanted: HashMap<EnvId, i64> =
            positions.environments.iter().map(|each| (each.id, each.version)).collect();
        let mut result = Ok(());
        for environment in directory.environments() {
            let version = wanted.get(&environment.id).copied().unwrap_or_default();
            if (Position { epoch: positions.epoch, version }) > environment.position() {
                let refreshed = self.refresh_environment(environment, positions, false).await;
                result = result.and(refreshed);
            }
        }
        result
    }

    /// Reads the directory, with the rulesets of environments that are new.
    ///
    /// Environments that were loaded stay in `loading` until it is installed, so that an error costs only what comes after it.
    pub(super) async fn read_directory(
        &self,
        old: &Directory,
        loading: &mut Loading,
    ) -> Result<Read, StoreError> {
        let (positions, records, tokens) = within_timeout(async {
            let mut tx = self.store.read_to_follow().await?;
            let positions = tx.positions().await?;
            Ok::<_, StoreError>((positions, tx.environments().await?, tx.tokens().await?))
        })
        .await?;
        if positions.installation != self.loader.installation() {
            let detail = "the database became one of another installation while it was read";
            return Err(StoreError::Unavailable(detail.to_owned()));
        }
        let mut environments = Vec::with_capacity(records.len());
        for record in records {
            environments.push(self.environment_for(record, old, &positions, loading).await?);
        }
        Ok(Read { position: directory_of(&positions), environments, tokens })
    }

    /// Reads the directory and installs all of it at once.
    pub(super) async fn refresh_directory(
        &self,
        old: &Directory,
        loading: &mut Loading,
    ) -> Result<(), StoreError> {
        let Read { position, environments, tokens } = self.read_directory(old, loading).await?;
        for gone in old.environments() {
            if !environments.iter().any(|environment| environment.id == gone.id) {
                self.metrics.environment_version.remove(&labels_of(gone));
            }
        }
        let readable = tokens.into_iter().filter_map(|token| match token {
            Ok(token) => Some(token),
            Err(error) => {
                self.metrics.corrupt_rows.inc();
                error!(%error, "cannot read a token; it is not accepted");
                None
            }
        });
        let stored = readable.flat_map(|token| token.grants().collect::<Vec<_>>());
        let stored = stored.filter(|(digest, _)| !self.refused.contains(digest));
        let grants = stored.chain(self.configured.iter().cloned());
        let mut directory = Directory::new(position, environments, grants);
        directory.inherit_usage(old);
        if !self.install_directory(Arc::new(directory)) {
            self.metrics.installs_refused.inc();
        }
        loading.clear();
        Ok(())
    }

    /// The environment of a record: the one that is served, or a new one that is loaded first.
    async fn environment_for(
        &self,
        record: EnvironmentRecord,
        old: &Directory,
        seen: &Positions,
        loading: &mut Loading,
    ) -> Result<Arc<Environment>, StoreError> {
        let (fail_closed_after, safety) = (record.fail_closed_after, record.safety);
        let server_sdk = record.server_sdk;
        // Numbers can be given away again in a restored database.
        let is_it =
            |each: &&Arc<Environment>| each.project == record.project && each.key == record.key;
        let served = old.environment(record.id).filter(is_it);
        let loaded = loading.get(&record.id).filter(is_it);
        let environment = match (served, loaded) {
            (Some(environment), _) => Arc::clone(environment),
            (None, Some(environment)) => {
                // It was loaded a while ago, and nobody has followed it since.
                let environment = Arc::clone(environment);
                if position_of(&environment, seen) > environment.position() {
                    self.refresh_environment(&environment, seen, false).await?;
                }
                environment
            }
            (None, None) => {
                let (id, project, key) = (record.id, record.project, record.key);
                let environment = Arc::new(Environment::new(id, project, key));
                self.refresh_environment(&environment, seen, self.is_starting()).await?;
                loading.insert(id, Arc::clone(&environment));
                environment
            }
        };
        environment.set_fail_closed_after(fail_closed_after);
        environment.set_server_sdk(server_sdk);
        environment.set_safety(safety);
        Ok(environment)
    }

    /// Reads what changed in an environment since the version that is served, and installs it.
    ///
    /// What is wrong with this environment alone is noted and no error.
    async fn refresh_environment(
        &self,
        environment: &Environment,
        seen: &Positions,
        is_starting: bool,
    ) -> Result<(), StoreError> {
        for _ in 0..READS_MAX {
            let read = self.loader.read(environment, seen, is_starting).await;
            let is_general = match &read {
                Err(StoreError::Regressed(_)) => true,
                // If the store answers otherwise, it is this environment that cannot be read in time.
                Err(StoreError::Unavailable(_)) => {
                    within_timeout(self.read_positions()).await.is_err()
                }
                _ => false,
            };
            if let Err(error) = &read
                && !is_general
            {
                if environment.set_unread(self.snapshots.status.confirmed_at()) {
                    error!(project.key = %environment.project, env.key = %environment.key, %error,
                        "cannot read an environment; serving what was there before");
                }
                return Ok(());
            }
            environment.set_read();
            let Some(update) = read? else { break };
            let (is_installed, unreadable) = environment.install(&update);
            if is_installed {
                self.snapshots.moved.notify_one();
            } else {
                self.metrics.installs_refused.inc();
            }
            if let Some(error) = unreadable.first() {
                let n_rows = unreadable.len();
                self.metrics.corrupt_rows.inc_by(u64::try_from(n_rows).unwrap_or(u64::MAX));
                error!(project.key = %environment.project, env.key = %environment.key, n_rows, %error,
                    "cannot read rows, of which this is the first; serving what was there before");
            }
            if update.is_relative {
                break;
            }
        }
        let version = environment.position().version;
        self.metrics.environment_version.get_or_create(&labels_of(environment)).set(version);
        Ok(())
    }
}

/// Where the directory stands in the store.
pub(super) fn directory_of(positions: &Positions) -> Position {
    Position { epoch: positions.epoch, version: positions.directory_version }
}

/// Where an environment stands in the store.
fn position_of(environment: &Environment, positions: &Positions) -> Position {
    let known = positions.environments.iter().find(|each| each.id == environment.id);
    let version = known.map_or(0, |known| known.version);
    Position { epoch: positions.epoch, version }
}

pub(super) fn labels_of(environment: &Environment) -> EnvironmentLabels {
    EnvironmentLabels {
        project: environment.project.to_string(),
        environment: environment.key.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::clock::Ids;
    use crate::model::environment::ServerSdk;
    use crate::model::key::EnvKey;
    use crate::model::key::ProjectKey;
    use crate::snapshot::Heart;
    use crate::snapshot::Loader;
    use crate::snapshot::ReplicaName;
    use crate::snapshot::Snapshots;
    use crate::store::Store;
    use crate::telemetry::Metrics;

    fn follower(store: Store) -> Follower {
        let (snapshots, metrics) = (Arc::<Snapshots>::default(), Arc::<Metrics>::default());
        let replica = ReplicaName { id: "r".to_owned(), name: "r".to_owned() };
        Follower {
            loader: Loader::new(store.clone(), None, Arc::clone(&metrics), Ids),
            heart: Heart { store: store.clone(), replica, snapshots: Arc::clone(&snapshots) },
            store,
            folder: None,
            kept: Arc::default(),
            snapshots,
            metrics,
            configured: Vec::new(),
            refused: Vec::new(),
            ids: Ids,
        }
    }

    async fn change(store: &Store, project: &ProjectKey, env: &EnvKey) -> EnvId {
        let mut tx = store.write().await.unwrap();
        let bumped = tx.bump_environment(project, env, Clock.now()).await.unwrap();
        let (id, version) = bumped.unwrap();
        let stamp = format!("audit-{version}");
        tx.log_change(id, version, &[], &[], &stamp, Clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    #[tokio::test]
    async fn what_was_loaded_before_an_error_is_brought_up_to_date_before_it_is_served() {
        let dir = std::env::temp_dir().join(format!("vexil-{}", Ids.next()));
        let store = Store::sqlite(&dir).await.unwrap();
        store.migrate().await.unwrap();
        let (project, env) = (ProjectKey::stored("shop"), EnvKey::stored("live"));
        let mut tx = store.write().await.unwrap();
        tx.bump_directory().await.unwrap();
        tx.insert_project(&project, "Shop", Clock.now()).await.unwrap();
        tx.insert_environment(&project, &env, "Live", ServerSdk::None, Clock.now()).await.unwrap();
        tx.commit().await.unwrap();
        let id = change(&store, &project, &env).await;
        let follower = follower(store.clone());
        let mut loading = Loading::default();
        follower.read_directory(&Directory::default(), &mut loading).await.unwrap();
        assert_eq!(loading[&id].position().version, 1);
        // Some other environment could not be read, so the whole is tried again later.
        change(&store, &project, &env).await;
        follower.refresh_directory(&Directory::default(), &mut loading).await.unwrap();
        let directory = follower.snapshots.directory();
        assert_eq!(directory.environment(id).unwrap().position().version, 2);
        store.close().await;
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
