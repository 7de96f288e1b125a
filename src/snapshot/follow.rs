//! Following the store: whenever something rings, and once a second anyway, what changed is read, compiled and installed.
//!
//! How an environment is read is in `load`, how doorbells are heard in `listen`.

use crate::clock::Clock;
use crate::clock::Ids;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::snapshot::Folder;
use crate::snapshot::Heart;
use crate::snapshot::Kept;
use crate::snapshot::Loader;
use crate::snapshot::Snapshots;
use crate::snapshot::history::compare;
use crate::snapshot::history::highest_epoch;
use crate::snapshot::history::lost_entirely;
use crate::snapshot::keep::read_kept;
use crate::store::EnvironmentRecord;
use crate::store::Positions;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::within_timeout;
use crate::telemetry::EnvironmentLabels;
use crate::telemetry::Metrics;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

/// How often the store is asked when nothing rings; the real interval differs by up to a fifth, so that replicas spread.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How soon the store is asked again at the earliest.
const POLL_GAP: Duration = Duration::from_millis(5);
/// How often an environment is read in a row: as a whole, from the cache perhaps, and then what was missing there.
const READS_MAX: usize = 3;

/// By how many seconds the clock may differ from the database's before it is told.
const SKEW_MAX_SECS: f64 = 0.5;

/// New environments that are loaded and wait for the directory that names them.
type Loading = HashMap<EnvId, Arc<Environment>>;

/// Keeps the snapshots up to date with the store.
#[derive(Debug, Clone)]
pub struct Follower {
    /// What is followed.
    pub store: Store,
    /// Reads environments.
    pub loader: Loader,
    /// Tells other replicas how far this one has come.
    pub heart: Heart,
    /// Where an earlier run kept what it served.
    pub folder: Option<Folder>,
    /// What it kept, until it is served or the store has brought it up to date.
    pub kept: Arc<Mutex<Option<Kept>>>,
    /// What is kept up to date.
    pub snapshots: Arc<Snapshots>,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// Tokens that are accepted without being in the store.
    pub configured: Vec<(Digest, Grant)>,
    /// Tokens that are refused although they are in the store.
    pub refused: Vec<Digest>,
    /// Randomness for spreading.
    pub ids: Ids,
}

impl Follower {
    /// Follows until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut was_reachable = true;
        let mut loading = Loading::default();
        loop {
            let refreshed = self.refresh_once(&mut loading).await;
            if refreshed.is_ok() && !was_reachable {
                info!("the store confirms again what is served");
            }
            if let Err(error) = &refreshed
                && was_reachable
            {
                warn!(%error, "cannot confirm with the store; serving what is known");
            }
            was_reachable = refreshed.is_ok();
            let interval = POLL_INTERVAL.mul_f64(0.8 + 0.4 * self.ids.jitter());
            let next = async {
                // However often it rings, the store is asked so often and no more.
                tokio::time::sleep(POLL_GAP).await;
                tokio::select! {
                    () = self.snapshots.doorbell.notified() => {}
                    () = tokio::time::sleep(interval) => {}
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = next => {}
            }
        }
    }

    /// Reads what an earlier run kept, without serving it yet: the store may know better.
    pub async fn load_kept(&self) {
        let Some(folder) = self.folder.clone() else { return };
        if self.snapshots.directory().position > Position::default() {
            // Something is served already: the follower was started again.
            return;
        }
        let Self { configured, refused, metrics, .. } = self.clone();
        let read = move || read_kept(&folder, &configured, &refused, &metrics);
        if let Ok(Some(kept)) = tokio::task::spawn_blocking(read).await {
            *self.kept() = Some(kept);
        }
    }

    /// Serves what an earlier run kept, because the store does not answer.
    pub fn serve_kept(&self) {
        let kept = self.kept().clone();
        if let Some(kept) = kept
            && let age = kept.confirmed_at.map(|at| Clock.now().duration_since(at))
            && let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
            && self.install_directory(kept.directory)
        {
            self.snapshots.status.load_from_disk(age);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Installs a directory if it is newer; returns whether it is.
    fn install_directory(&self, directory: Arc<Directory>) -> bool {
        let position = directory.position;
        if position <= self.snapshots.directory().position {
            return false;
        }
        self.snapshots.directory.store(directory);
        self.snapshots.directory_changed.send_replace(position);
        self.snapshots.moved.notify_one();
        true
    }

    /// Looks at the store once, and notes how it went.
    async fn refresh_once(&self, loading: &mut Loading) -> Result<(), StoreError> {
        let looked_at = Instant::now();
        let result = self.refresh(loading).await;
        match &result {
            Ok(()) => {
                self.snapshots.status.confirm(looked_at);
                self.snapshots.status.set_problem(None);
            }
            Err(error) => {
                self.snapshots.note_problem(error);
                // The first time, what an earlier run kept is brought up to date before it is served.
                self.serve_kept();
                self.snapshots.status.fail();
                self.metrics.store_errors.inc();
            }
        }
        self.snapshots.installed.notify_one();
        result
    }

    /// Looks at the store once and installs whatever is newer.
    ///
    /// What fails keeps nothing else from being installed; the first error that is not of one environment alone is returned.
    async fn refresh(&self, loading: &mut Loading) -> Result<(), StoreError> {
        if self.snapshots.directory().position == Position::default()
            && let Err(error) = self.heart.announce().await
        {
            debug!(%error, "cannot say that this replica is about to serve");
        }
        let mut positions = within_timeout(self.read_positions()).await?;
        within_timeout(Box::pin(self.loader.prepare(&positions.identity))).await?;
        let directory = self.own_directory(&positions);
        let result = match &directory {
            Ok(directory) => within_timeout(compare(&self.store, directory, &positions)).await,
            Err(lost) => Err(StoreError::Regressed(lost.clone())),
        };
        if result.is_ok() && !positions.is_continued && positions.regression.is_none() {
            warn!("another server or timeline serves the database: a new epoch begins");
            within_timeout(self.store.begin_epoch()).await?;
            positions = within_timeout(self.read_positions()).await?;
        }
        let result = match (result, &directory) {
            (Ok(()), Ok(directory)) => self.follow(directory, &positions, loading).await,
            (lost, _) => lost,
        };
        let regression = match &result {
            Err(StoreError::Regressed(lost)) => {
                if positions.regression.is_none() {
                    // So that no replica that has not seen it changes anything.
                    let seen = highest_epoch(&self.kept_or_served());
                    let mark = self.store.mark_regression(lost, positions.epoch, seen);
                    within_timeout(mark).await?;
                }
                Some(lost.clone())
            }
            _ => positions.regression,
        };
        self.metrics.history_regressed.set(i64::from(regression.is_some()));
        self.snapshots.status.set_regression(regression);
        result
    }

    /// What was kept to be served, if it is newer, or what is served.
    fn kept_or_served(&self) -> Arc<Directory> {
        let served = self.snapshots.directory();
        match &*self.kept() {
            Some(kept) if kept.directory.position > served.position => Arc::clone(&kept.directory),
            _ => served,
        }
    }

    /// What is served, or was kept to be served; what another installation kept is neither. What is missing, if the database is
    /// another one that has nothing: a volume that was lost and made anew looks so.
    fn own_directory(&self, positions: &Positions) -> Result<Arc<Directory>, String> {
        let served = self.snapshots.directory();
        let kept = self.kept().clone();
        let Some(kept) = kept else { return Ok(served) };
        if self.loader.installation().as_ref() == Some(&kept.installation) {
            return Ok(self.kept_or_served());
        }
        if let Some(lost) = lost_entirely(&kept.directory, positions) {
            return Err(lost);
        }
        warn!("the files of an earlier run are of another installation; they are not used");
        self.kept().take();
        if !Arc::ptr_eq(&served, &kept.directory) {
            return Ok(served);
        }
        // They were served because the store did not answer.
        self.snapshots.directory.store(Arc::default());
        Ok(self.snapshots.directory())
    }

    /// Installs whatever is newer in the store.
    async fn follow(
        &self,
        directory: &Arc<Directory>,
        positions: &Positions,
        loading: &mut Loading,
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
        let to = Position { epoch: positions.epoch, version: positions.directory_version };
        if to > directory.position {
            let refreshed = self.refresh_directory(directory, positions, loading);
            result = result.and(refreshed.await);
        } else {
            // What was kept is current, or was brought up to date.
            self.install_directory(Arc::clone(directory));
        }
        if result.is_ok() {
            self.kept().take();
        }
        let directory = self.snapshots.directory();
        let n_quarantined =
            directory.environments().iter().filter(|each| each.is_quarantined()).count();
        let n_quarantined = i64::try_from(n_quarantined).unwrap_or(i64::MAX);
        self.metrics.environments_quarantined.set(n_quarantined);
        result
    }

    async fn read_positions(&self) -> Result<Positions, StoreError> {
        let asked = Instant::now();
        let positions = self.store.look().await?.positions().await?;
        if let Some(now) = positions.now {
            Clock.follow(now, asked);
            let was_wrong = self.metrics.clock_skew_secs.get().abs() > SKEW_MAX_SECS;
            let skew_secs = Clock.skew_secs();
            self.metrics.clock_skew_secs.set(skew_secs);
            if skew_secs.abs() > SKEW_MAX_SECS && !was_wrong {
                warn!(
                    skew_secs,
                    "the clock of this machine is not that of the database, which is used"
                );
            }
        }
        Ok(positions)
    }

    /// Reads the directory, with the rulesets of environments that are new, and installs all of it at once.
    ///
    /// Environments that were loaded stay in `loading` until then, so that an error costs only what comes after it.
    async fn refresh_directory(
        &self,
        old: &Directory,
        seen: &Positions,
        loading: &mut Loading,
    ) -> Result<(), StoreError> {
        let (positions, records, tokens) = within_timeout(async {
            let mut tx = self.store.read().await?;
            let positions = tx.positions().await?;
            Ok::<_, StoreError>((positions, tx.environments().await?, tx.tokens().await?))
        })
        .await?;
        let mut environments = Vec::with_capacity(records.len());
        for record in records {
            environments.push(self.environment_for(record, old, seen, loading).await?);
        }
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
        let position = Position { epoch: positions.epoch, version: positions.directory_version };
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
        let known = old.environment(record.id).or_else(|| loading.get(&record.id)).cloned();
        // Numbers can be given away again in a restored database.
        let is_it =
            |each: &Arc<Environment>| each.project == record.project && each.key == record.key;
        let known = known.filter(is_it);
        let environment = match known {
            Some(environment) => environment,
            None => {
                let (id, project, key) = (record.id, record.project, record.key);
                let environment = Arc::new(Environment::new(id, project, key));
                let is_starting = old.position == Position::default();
                self.refresh_environment(&environment, seen, is_starting).await?;
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
            let read = self.loader.read(environment, seen, is_starting);
            let read = within_timeout(Box::pin(read)).await;
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
            for error in unreadable {
                self.metrics.corrupt_rows.inc();
                error!(project.key = %environment.project, env.key = %environment.key, %error,
                    "cannot read a row; serving what was there before");
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

fn labels_of(environment: &Environment) -> EnvironmentLabels {
    EnvironmentLabels {
        project: environment.project.to_string(),
        environment: environment.key.to_string(),
    }
}
