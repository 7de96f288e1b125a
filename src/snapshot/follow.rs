//! Following the store: whenever something rings, and once a second anyway, what changed is read, compiled and installed.

use crate::clock::Ids;
use crate::eval::RulesetChange;
use crate::eval::compile;
use crate::eval::compile_segment;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use crate::snapshot::Snapshots;
use crate::store::Doorbell;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::within_timeout;
use crate::telemetry::EnvironmentLabels;
use crate::telemetry::Metrics;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::error;
use tracing::info;
use tracing::warn;

/// How often the store is asked when nothing rings; the real interval differs by up to a fifth, so that replicas spread.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The longest wait before a lost doorbell is connected again.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);
/// The first wait before a lost doorbell is connected again.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);

/// New environments that are loaded and wait for the directory that names them.
type Loading = HashMap<EnvId, Arc<Environment>>;

/// Keeps the snapshots up to date with the store.
#[derive(Debug, Clone)]
pub struct Follower {
    /// What is followed.
    pub store: Store,
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
        let mut loading = Loading::new();
        loop {
            let refreshed = self.refresh(&mut loading).await;
            match &refreshed {
                Ok(()) => {
                    self.snapshots.status.confirm();
                    if !was_reachable {
                        info!("the store confirms again what is served");
                    }
                }
                Err(error) => {
                    self.snapshots.status.fail();
                    self.metrics.store_errors.inc();
                    if was_reachable {
                        warn!(%error, "cannot confirm with the store; serving what is known");
                    }
                }
            }
            was_reachable = refreshed.is_ok();
            self.metrics.store_stale.set(i64::from(refreshed.is_err()));
            let interval = POLL_INTERVAL.mul_f64(0.8 + 0.4 * self.ids.jitter());
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.snapshots.doorbell.notified() => {}
                () = tokio::time::sleep(interval) => {}
            }
        }
    }

    /// Listens to a doorbell until it is told to stop; a lost connection is opened again.
    pub async fn listen(self, doorbell: Doorbell, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.pass_on(&doorbell) => {}
        }
    }

    async fn pass_on(&self, doorbell: &Doorbell) {
        let mut delay = RECONNECT_DELAY_MIN;
        let mut has_warned = false;
        loop {
            match doorbell.connect().await {
                Ok(mut hint) => {
                    delay = RECONNECT_DELAY_MIN;
                    has_warned = false;
                    // Whatever rang while nobody listened is found by looking.
                    self.snapshots.ring();
                    while hint.ring().await.is_ok() {
                        self.snapshots.ring();
                    }
                    warn!(doorbell = doorbell.name(), "lost a doorbell; the poll goes on");
                }
                Err(error) if has_warned => {
                    debug!(doorbell = doorbell.name(), %error, "cannot connect a doorbell");
                }
                Err(error) => {
                    has_warned = true;
                    warn!(doorbell = doorbell.name(), %error, "cannot connect a doorbell; the poll goes on");
                }
            }
            tokio::time::sleep(delay.mul_f64(0.5 + self.ids.jitter())).await;
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }

    /// Looks at the store once and installs whatever is newer.
    ///
    /// What fails keeps nothing else from being installed; the first error is returned.
    async fn refresh(&self, loading: &mut Loading) -> Result<(), StoreError> {
        let positions =
            within_timeout(async { self.store.read().await?.positions().await }).await?;
        let directory = self.snapshots.directory();
        let wanted: HashMap<EnvId, i64> = positions.environments.iter().copied().collect();
        let mut result = Ok(());
        for environment in directory.environments() {
            let version = wanted.get(&environment.id).copied().unwrap_or_default();
            if (Position { epoch: positions.epoch, version }) > environment.position() {
                let refreshed = within_timeout(self.refresh_environment(environment)).await;
                result = result.and(refreshed);
            }
        }
        let to = Position { epoch: positions.epoch, version: positions.directory_version };
        if to > directory.position {
            result = result.and(self.refresh_directory(&directory, loading).await);
        }
        result
    }

    /// Reads the directory, with the rulesets of environments that are new, and installs all of it at once.
    ///
    /// Environments that were loaded stay in `loading` until then, so that an error costs only what comes after it.
    async fn refresh_directory(
        &self,
        old: &Directory,
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
            let known = old.environment(record.id).or_else(|| loading.get(&record.id)).cloned();
            let environment = match known {
                Some(environment) => environment,
                None => {
                    let (id, project, key) = (record.id, record.project, record.key);
                    let environment = Arc::new(Environment::new(id, project, key));
                    within_timeout(self.refresh_environment(&environment)).await?;
                    loading.insert(id, Arc::clone(&environment));
                    environment
                }
            };
            environments.push(environment);
        }
        for gone in old.environments() {
            if !environments.iter().any(|environment| environment.id == gone.id) {
                self.metrics.environment_version.remove(&labels_of(gone));
            }
        }
        let readable = tokens.into_iter().filter_map(|token| match token {
            Ok(token) => Some((token.digest, token.grant)),
            Err(error) => {
                self.metrics.corrupt_rows.inc();
                error!(%error, "cannot read a token; it is not accepted");
                None
            }
        });
        let stored = readable.filter(|(digest, _)| !self.refused.contains(digest));
        let grants = stored.chain(self.configured.iter().cloned());
        let position = Position { epoch: positions.epoch, version: positions.directory_version };
        let directory = Directory::new(position, environments, grants);
        self.snapshots.directory.store(Arc::new(directory));
        self.snapshots.directory_changed.send_replace(position);
        loading.clear();
        Ok(())
    }

    /// Reads what changed in an environment since the version that is served, and installs it.
    ///
    /// Position and rows are read in one transaction, so the position labels exactly these rows.
    async fn refresh_environment(&self, environment: &Environment) -> Result<(), StoreError> {
        let served = environment.position();
        let mut tx = self.store.read().await?;
        let Some(to) = tx.position(environment.id).await? else {
            // Deleted meanwhile; the directory says so.
            return Ok(());
        };
        if to <= served {
            return Ok(());
        }
        let since = if to.epoch == served.epoch { served.version } else { 0 };
        let flags = tx.changed_flags(&environment.project, environment.id, since).await?;
        let segments = tx.changed_segments(environment.id, since).await?;
        drop(tx);
        let mut change = RulesetChange::default();
        for flag in flags {
            match flag.body {
                Ok(body) => {
                    let compiled = body.map(|(definition, config)| {
                        Arc::new(compile(&definition, &config, flag.version))
                    });
                    change.flags.push((flag.key, compiled));
                }
                Err(error) => self.quarantine(environment, flag.key.as_str(), &error),
            }
        }
        for segment in segments {
            match segment.body {
                Ok(body) => {
                    let compiled =
                        body.map(|body| Arc::new(compile_segment(&body, segment.version)));
                    change.segments.push((segment.key, compiled));
                }
                Err(error) => self.quarantine(environment, segment.key.as_str(), &error),
            }
        }
        if !environment.install(to, &change) {
            self.metrics.installs_refused.inc();
        }
        let version = to.version;
        self.metrics.environment_version.get_or_create(&labels_of(environment)).set(version);
        Ok(())
    }

    /// Leaves one flag or segment as it was, because what is stored cannot be read.
    fn quarantine(&self, environment: &Environment, key: &str, error: &StoreError) {
        self.metrics.corrupt_rows.inc();
        error!(project.key = %environment.project, env.key = %environment.key, key, %error,
            "cannot read a row; serving what was there before");
    }
}

fn labels_of(environment: &Environment) -> EnvironmentLabels {
    EnvironmentLabels {
        project: environment.project.to_string(),
        environment: environment.key.to_string(),
    }
}
