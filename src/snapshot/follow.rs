//! Following the store: whenever something rings, and once a second anyway, what changed is read, compiled and installed.
//!
//! How what changed is read and installed is in `refresh`, how doorbells are heard in `listen`.

use crate::clock::Clock;
use crate::clock::Ids;
use crate::model::change::Position;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::snapshot::Directory;
use crate::snapshot::Folder;
use crate::snapshot::Heart;
use crate::snapshot::Kept;
use crate::snapshot::Loader;
use crate::snapshot::Snapshots;
use crate::snapshot::Source;
use crate::snapshot::history::Found;
use crate::snapshot::history::Lost;
use crate::snapshot::history::compare;
use crate::snapshot::history::has_any;
use crate::snapshot::history::highest_epoch;
use crate::snapshot::history::is_new;
use crate::snapshot::keep::read_kept;
use crate::snapshot::refresh::Loading;
use crate::snapshot::refresh::directory_of;
use crate::snapshot::refresh::labels_of;
use crate::store::Positions;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::within_timeout;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

/// How often the store is asked when nothing rings; the real interval differs by up to a fifth, so that replicas spread.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How soon the store is asked again at the earliest.
const POLL_GAP: Duration = Duration::from_millis(5);

/// By how many seconds the clock may differ from the database's before it is told.
const SKEW_MAX_SECS: f64 = 0.5;

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
            && let installation = kept.installation
            && let age = kept.confirmed_at.map(|at| Clock.now().duration_since(at))
            && let age = age.and_then(|age| Duration::try_from(age).ok()).unwrap_or_default()
            && self.install_directory(kept.directory)
        {
            self.loader.assume(&installation);
            self.snapshots.status.load_from_disk(age);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Option<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Installs a directory if it is newer; returns whether it is.
    pub(super) fn install_directory(&self, directory: Arc<Directory>) -> bool {
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
                let is_first = self.snapshots.freshness().source != Source::Store;
                self.snapshots.status.confirm(looked_at);
                if is_first {
                    // Only now the heart tells how far this replica has come.
                    self.snapshots.moved.notify_one();
                }
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

    /// Whether nothing is served yet.
    pub(super) fn is_starting(&self) -> bool {
        self.snapshots.directory().position == Position::default()
    }

    /// Looks at the store once and installs whatever is newer.
    ///
    /// What fails keeps nothing else from being installed; the first error that is not of one environment alone is returned.
    async fn refresh(&self, loading: &mut Loading) -> Result<(), StoreError> {
        if self.is_starting() {
            self.heart.announce().await;
        }
        let mut positions = within_timeout(self.read_positions()).await?;
        self.assume_kept(&positions);
        let has_any = has_any(&self.kept_or_served());
        let found = within_timeout(Box::pin(self.loader.prepare(&positions, has_any))).await?;
        self.store.note_made_anew(self.loader.made_anew());
        let directory = match found {
            Found::Own => Ok(self.own_directory()),
            Found::Other | Found::New => Err(Lost::all(&self.kept_or_served(), found)),
            Found::Accepted => Ok(self.serve_nothing(loading)),
        };
        let (directory, mut lost) = match directory {
            Ok(directory) => {
                let compared = compare(&self.store, &directory, &positions, false);
                let lost = within_timeout(compared).await?;
                (directory, lost)
            }
            Err(lost) => (self.kept_or_served(), lost),
        };
        let is_lost = !lost.missing.is_empty() || lost.why.is_some();
        if !is_lost && !positions.is_continued && positions.regression.is_none() {
            warn!("another server or timeline serves the database: a new epoch begins");
            within_timeout(self.store.begin_epoch()).await?;
            positions = within_timeout(self.read_positions()).await?;
        }
        let mut result = match is_lost {
            true => Err(lost.clone().into()),
            false => self.load_and_follow(&directory, &positions, loading).await,
        };
        if lost.why.is_none()
            && let Err(StoreError::Regressed(detail)) = &result
        {
            match self.all_that_is_lost(&directory, lost.clone(), detail).await {
                Ok(all) if all.missing.is_empty() => {}
                Ok(all) => {
                    result = Err(all.clone().into());
                    lost = all;
                }
                Err(error) => result = Err(error),
            }
        }
        let mut marked = Ok(());
        if let Err(StoreError::Regressed(detail)) = &result
            && positions.regression.is_none()
            && found != Found::Other
        {
            // So that no replica that has not seen it changes anything; those of another installation go on.
            let seen = highest_epoch(&self.kept_or_served());
            marked = within_timeout(self.store.mark_regression(detail, &positions, seen)).await;
        }
        let regression = match &result {
            Err(StoreError::Regressed(_)) => Some(lost),
            // Another replica misses something.
            _ => positions.regression.map(|_| Lost::default()),
        };
        self.metrics.history_regressed.set(i64::from(regression.is_some()));
        self.snapshots.status.set_regression(regression);
        // It is told also where it cannot be marked.
        marked.and(result)
    }

    /// All that is lost, if something is known to be; what was told already, or what is found by looking once more.
    ///
    /// Looking takes a question for each environment, so what was told is not looked for at each poll.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if what was missing is there now.
    async fn all_that_is_lost(
        &self,
        directory: &Directory,
        known: Lost,
        detail: &str,
    ) -> Result<Lost, StoreError> {
        let told = self.snapshots.regression();
        if let Some(told) = told.filter(|told| told.includes(&known, detail)) {
            return Ok(told);
        }
        let look = async {
            // What was installed since the first look would be missing in what that found.
            let positions = self.read_positions().await?;
            compare(&self.store, directory, &positions, true).await
        };
        match within_timeout(look).await {
            Ok(all) if !all.missing.is_empty() => Ok(all),
            Ok(_) if !known.missing.is_empty() || Lost::is_told_of(directory, detail) => {
                let detail = "what was missing was there when it was looked for once more";
                Err(StoreError::Unavailable(detail.to_owned()))
            }
            // It is of an environment that is only being loaded, or it could not be looked for, and is to be marked all the same.
            _ => Ok(known),
        }
    }

    /// Follows the installation of which something was kept, if its database was lost and made anew: it may come back. If the
    /// database has something, it is another installation's, and what was kept is not used.
    fn assume_kept(&self, positions: &Positions) {
        if let Some(kept) = &*self.kept()
            && positions.installation.as_ref() != Some(&kept.installation)
            && has_any(&kept.directory)
            && is_new(positions)
        {
            self.loader.assume(&kept.installation);
        }
    }

    /// What was kept to be served, if it is newer, or what is served.
    fn kept_or_served(&self) -> Arc<Directory> {
        let served = self.snapshots.directory();
        match &*self.kept() {
            Some(kept) if kept.directory.position > served.position => Arc::clone(&kept.directory),
            _ => served,
        }
    }

    /// What is served, or was kept to be served; what another installation kept is neither.
    fn own_directory(&self) -> Arc<Directory> {
        let mut kept = self.kept();
        let own = self.loader.installation();
        if kept.take_if(|kept| own.as_ref() != Some(&kept.installation)).is_some() {
            warn!("the files of an earlier run are of another installation; they are not used");
        }
        drop(kept);
        self.kept_or_served()
    }

    /// Forgets everything of an installation in the place of which another one is followed: nothing of it is there.
    fn serve_nothing(&self, loading: &mut Loading) -> Arc<Directory> {
        warn!(
            "the database of another installation is followed; nothing of the former one is served"
        );
        loading.clear();
        self.kept().take();
        for gone in self.snapshots.directory().environments() {
            self.metrics.environment_version.remove(&labels_of(gone));
        }
        self.snapshots.directory.store(Arc::default());
        self.snapshots.directory()
    }

    /// Installs whatever is newer in the store; before anything is served, what takes long is loaded first.
    async fn load_and_follow(
        &self,
        directory: &Arc<Directory>,
        positions: &Positions,
        loading: &mut Loading,
    ) -> Result<(), StoreError> {
        if !self.is_starting() {
            return self.follow(directory, positions, loading).await;
        }
        self.catch_up(directory, positions).await?;
        if directory_of(positions) > directory.position {
            self.read_directory(directory, loading).await?;
        }
        // Loading may have taken longer than an announcement holds, and nobody waited for this replica with what was changed
        // meanwhile. With what is changed from here on they do.
        self.heart.announce().await;
        let following = async {
            let positions = within_timeout(self.read_positions()).await?;
            self.follow(directory, &positions, loading).await
        };
        tokio::select! {
            result = following => result,
            never = self.heart.go_on_announcing() => match never {},
        }
    }

    /// Installs whatever is newer in the store.
    async fn follow(
        &self,
        directory: &Arc<Directory>,
        positions: &Positions,
        loading: &mut Loading,
    ) -> Result<(), StoreError> {
        let mut result = self.catch_up(directory, positions).await;
        if directory_of(positions) > directory.position {
            let refreshed = self.refresh_directory(directory, loading);
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

    pub(super) async fn read_positions(&self) -> Result<Positions, StoreError> {
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
}
