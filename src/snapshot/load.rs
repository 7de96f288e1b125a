//! Reading an environment: what changed since what is served, from the store; or all of it, from the cache or the store.

use crate::clock::Ids;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::snapshot::Environment;
use crate::snapshot::IMAGE_BYTES_MAX;
use crate::snapshot::Image;
use crate::snapshot::ImageError;
use crate::snapshot::ImageKey;
use crate::snapshot::Update;
use crate::snapshot::history::Found;
use crate::snapshot::history::Lost;
use crate::snapshot::history::Missing;
use crate::snapshot::history::TWO_AT_ONCE;
use crate::snapshot::history::is_new;
use crate::snapshot::image::seal;
use crate::store::CACHE_TTL;
use crate::store::Cache;
use crate::store::LEASE_TTL;
use crate::store::Lease;
use crate::store::Positions;
use crate::store::Redis;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::installation_of;
use crate::store::short_name;
use crate::store::within_timeout;
use crate::telemetry::LoadSource;
use crate::telemetry::Metrics;
use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;
use tracing::debug;
use tracing::warn;

/// How often a replica looks whether the one with the lease has left an image.
const LEASE_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long it waits for that before it reads the database itself.
const LEASE_WAIT_MAX: Duration = LEASE_TTL.saturating_add(Duration::from_secs(1));

/// Reads environments.
#[derive(Debug, Clone)]
pub struct Loader {
    store: Store,
    redis: Option<Redis>,
    metrics: Arc<Metrics>,
    ids: Ids,
    /// What tells this installation from others, known once the store was reached.
    own: Arc<Mutex<Option<Own>>>,
    refused: Arc<Mutex<HashSet<EnvId>>>,
}

/// What lies in the cache for an environment.
enum Cached {
    Image(Image),
    Refused,
    Nothing,
}

/// What tells this installation from others.
#[derive(Debug)]
struct Own {
    /// Its name, which its files have in them.
    name: String,
    /// Which server it is on, and which timeline of it. A copy of the database has those of another.
    identity: String,
    /// Its part of Redis.
    shared: Option<Arc<SharedCache>>,
    /// What was found in its place last.
    other: Option<Other>,
}

/// Another installation than the one of which something is served.
#[derive(Debug)]
struct Other {
    name: String,
    /// Its epoch when it was found; in a later one an operator may have accepted it.
    epoch: i64,
    /// Whether it had no environment then, and nobody had accepted anything there.
    is_new: bool,
}

impl Other {
    fn found(&self) -> Found {
        if self.is_new { Found::New } else { Found::Other }
    }

    fn is_accepted(&self, positions: &Positions) -> bool {
        self.is_new && positions.accepted_epoch > self.epoch
    }
}

/// The part of Redis, with the key that its images are authenticated with.
#[derive(Debug)]
struct SharedCache {
    cache: Cache,
    key: ImageKey,
}

impl Loader {
    /// Reads from `store`, and from `redis` where it can.
    pub fn new(store: Store, redis: Option<Redis>, metrics: Arc<Metrics>, ids: Ids) -> Self {
        Self { store, redis, metrics, ids, own: Arc::default(), refused: Arc::default() }
    }

    fn own(&self) -> MutexGuard<'_, Option<Own>> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> Option<Arc<SharedCache>> {
        self.own().as_ref()?.shared.clone()
    }

    /// The name of a new database that was found in the place of the one that is followed.
    pub(super) fn made_anew(&self) -> Option<String> {
        let own = self.own();
        let other = own.as_ref()?.other.as_ref().filter(|other| other.is_new);
        other.map(|other| other.name.clone())
    }

    /// The name of the installation, once the store was reached.
    pub(super) fn installation(&self) -> Option<String> {
        self.own().as_ref().map(|own| own.name.clone())
    }

    /// Follows the installation of which something is served that was kept, unless another one is followed already.
    pub(super) fn assume(&self, name: &str) {
        let mut own = self.own();
        if own.is_none() {
            self.store.follow(name);
            let (name, identity) = (name.to_owned(), String::new());
            *own = Some(Own { name, identity, shared: None, other: None });
        }
    }

    /// Reads what tells this installation's images from others, unless it was read from this server, and looks whether it is
    /// the one of which something is served.
    ///
    /// What an operator accepted before it was found here says nothing about what is served.
    pub(super) async fn prepare(
        &self,
        positions: &Positions,
        has_any: bool,
    ) -> Result<Found, StoreError> {
        if let Some(found) = self.recognize(positions) {
            return Ok(found);
        }
        let secret = self.store.cache_key(&self.ids.key()).await?;
        let name = installation_of(&secret);
        if positions.installation.as_ref().is_some_and(|looked_at| *looked_at != name) {
            return Err(StoreError::Unavailable(TWO_AT_ONCE.to_owned()));
        }
        let mut own = self.own();
        let is_accepted = match own.as_mut().filter(|own| own.name != name) {
            Some(own) if has_any => {
                let (epoch, is_new) = (positions.epoch, is_new(positions));
                let other = own.other.take().filter(|other| other.name == name);
                let other = other.unwrap_or(Other { name: name.clone(), epoch, is_new });
                let other = own.other.insert(other);
                if !other.is_accepted(positions) {
                    return Ok(other.found());
                }
                true
            }
            // Of what it followed until now it has nothing.
            Some(_) => true,
            None => false,
        };
        let identity = &positions.identity;
        // A copy of the database is not its original: it has another server, and another history from there on. What the copy
        // says of itself is what its original was.
        let mark = format!("{}{identity}", hex::encode(&secret));
        let key = blake3::derive_key("vexil key of images in Redis", mark.as_bytes());
        let shared = self.redis.clone().map(|redis| {
            let name = short_name("vexil name in Redis", mark.as_bytes());
            Arc::new(SharedCache { cache: Cache::new(redis, name), key })
        });
        self.store.follow(&name);
        *own = Some(Own { name, identity: identity.clone(), shared, other: None });
        Ok(if is_accepted { Found::Accepted } else { Found::Own })
    }

    /// Which installation it is, if nothing needs to be read to know that.
    fn recognize(&self, positions: &Positions) -> Option<Found> {
        let mut own = self.own();
        let own = own.as_mut()?;
        let name = positions.installation.as_ref()?;
        if *name == own.name && positions.identity == own.identity {
            own.other = None;
            return Some(Found::Own);
        }
        let other = own.other.as_ref().filter(|other| other.name == *name)?;
        (!other.is_accepted(positions)).then(|| other.found())
    }

    /// Reads what is newer than what an environment serves; `None` if nothing is, or the environment is gone.
    ///
    /// # Errors
    ///
    /// Those of the store; [`StoreError::Regressed`] if what is served is not in the store's history, unless the epoch in
    /// which it was was accepted as lost.
    pub(super) async fn read(
        &self,
        environment: &Environment,
        seen: &Positions,
        is_starting: bool,
    ) -> Result<Option<Update>, StoreError> {
        let (served, stamp) = environment.served();
        if served == Position::default() {
            return self.read_all(environment, seen, is_starting).await;
        }
        within_timeout(Box::pin(self.read_newer(environment, seen, served, &stamp))).await
    }

    /// Reads what is newer than what is served, from the store.
    async fn read_newer(
        &self,
        environment: &Environment,
        seen: &Positions,
        served: Position,
        stamp: &str,
    ) -> Result<Option<Update>, StoreError> {
        let installation = self.installation();
        let mut tx = self.store.look().await?;
        let Some((epoch, at)) = tx.position(environment.id, installation.as_deref()).await? else {
            return Ok(None);
        };
        let to = Position { epoch, version: at.version };
        if to <= served {
            return Ok(None);
        }
        let is_accepted = served.epoch < seen.accepted_epoch;
        if !is_accepted {
            let found = tx.stamp(environment.id, served.version).await?;
            if found.as_deref() != Some(stamp) {
                return Err(Lost::from(Missing::new(environment, served, Some(to))).into());
            }
        }
        // What is accepted may have another past, so all of it is read. Otherwise a flag can only go by a row that says so.
        if is_accepted {
            self.metrics.loads.count(LoadSource::Store);
        }
        let since = if is_accepted { 0 } else { served.version };
        read_since(&mut tx, environment, to, at.stamp, since).await.map(Some)
    }

    /// Reads an environment of which nothing is served yet; while the process starts, from the cache if that has it.
    ///
    /// Later it is a new environment with little in it, for which nobody should wait.
    async fn read_all(
        &self,
        environment: &Environment,
        seen: &Positions,
        is_starting: bool,
    ) -> Result<Option<Update>, StoreError> {
        let shared = self.shared().filter(|_| is_starting);
        if let Some(shared) = &shared
            && let Some(image) = self.read_cached(shared, environment).await
        {
            self.metrics.loads.count(LoadSource::Cache);
            let known = seen.environments.iter().find(|each| each.id == environment.id);
            let version = known.map_or(0, |known| known.version);
            if image.position < (Position { epoch: seen.epoch, version }) {
                // What is missing in it is read from the store next.
                self.metrics.cache_stale.inc();
            }
            return Ok(Some(image.into()));
        }
        // Without the time for which another replica was waited for.
        let Some(update) = within_timeout(Box::pin(self.read_whole(environment))).await? else {
            return Ok(None);
        };
        if shared.is_some() {
            // Others wait for it.
            let image = Image::of(environment, &update);
            if let Ok((text, image)) = blocking(move || (image.text(), image)).await {
                self.share(&image, &text).await;
            }
        }
        Ok(Some(update))
    }

    /// Reads all of an environment from the store.
    async fn read_whole(&self, environment: &Environment) -> Result<Option<Update>, StoreError> {
        let installation = self.installation();
        let mut tx = self.store.read_to_follow().await?;
        let Some((epoch, at)) = tx.position(environment.id, installation.as_deref()).await? else {
            return Ok(None);
        };
        let to = Position { epoch, version: at.version };
        self.metrics.loads.count(LoadSource::Store);
        read_since(&mut tx, environment, to, at.stamp, 0).await.map(Some)
    }

    /// Reads the image in the cache; waits for it if another replica is just reading the database.
    ///
    /// What is behind the store is fetched from the store afterwards, as any other change.
    async fn read_cached(&self, shared: &SharedCache, environment: &Environment) -> Option<Image> {
        let waited_since = Instant::now();
        loop {
            match self.fetch(shared, environment).await {
                Ok(Cached::Image(image)) => return Some(image),
                // Waiting for it to become better would be waiting for whoever put it there.
                Ok(Cached::Refused) => return None,
                Ok(Cached::Nothing) => {}
                Err(error) => {
                    self.failed(&error);
                    return None;
                }
            }
            let lease = shared.cache.take_lease(environment.id, Lease::Read).await;
            let has_lease = lease.inspect_err(|error| self.failed(error)).unwrap_or(true);
            if has_lease || waited_since.elapsed() > LEASE_WAIT_MAX {
                return None;
            }
            tokio::time::sleep(LEASE_POLL_INTERVAL.mul_f64(0.5 + self.ids.jitter())).await;
        }
    }

    /// Reads the image that lies in the cache, if it is authentic and of this environment.
    async fn fetch(
        &self,
        shared: &SharedCache,
        environment: &Environment,
    ) -> Result<Cached, StoreError> {
        let refuse = |error: String| {
            self.metrics.images_refused.inc();
            warn!(env.id = environment.id, error, "refused what lies in Redis");
            self.refused().insert(environment.id);
            Ok(Cached::Refused)
        };
        let bytes = match shared.cache.size(environment.id).await {
            Ok(0) => return Ok(Cached::Nothing),
            Ok(n_bytes) if n_bytes > IMAGE_BYTES_MAX => {
                return refuse(ImageError::TooLarge.to_string());
            }
            Ok(n_bytes) => shared.cache.read(environment.id, n_bytes).await,
            Err(error) => Err(error),
        };
        let bytes = match bytes {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Cached::Nothing),
            Err(StoreError::Corrupt { cause, .. }) => return refuse(cause),
            Err(error) => return Err(error),
        };
        let key = shared.key;
        match blocking(move || Image::open(&key, &bytes)).await {
            Ok(Ok(image)) if image.is_of(environment) => Ok(Cached::Image(image)),
            Ok(Ok(_)) => refuse("it is of another environment".to_owned()),
            Ok(Err(error)) => refuse(error.to_string()),
            Err(error) => refuse(error.to_string()),
        }
    }

    /// The environments of which something was refused, to be replaced by what is good.
    fn refused(&self) -> MutexGuard<'_, HashSet<EnvId>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets what lies in the cache for an environment lie there for longer, if it is of this position; returns whether nothing
    /// else needs to be done.
    pub(super) async fn renew(&self, env: EnvId, at: Position) -> bool {
        let Some(shared) = self.shared() else { return true };
        if self.refused().contains(&env) {
            return false;
        }
        match shared.cache.renew(env, at, self.ttl()).await {
            // One replica is enough to leave it there.
            Ok(false) => !shared.cache.take_lease(env, Lease::Write).await.unwrap_or(false),
            Err(StoreError::Corrupt { .. }) => false,
            Ok(true) => true,
            Err(error) => {
                self.failed(&error);
                true
            }
        }
    }

    /// Redis is not waited for: what it does not give in time is read from the store, or left for the next time.
    fn failed(&self, error: &StoreError) {
        self.metrics.cache_errors.inc();
        debug!(%error, "the cache in Redis did not answer");
    }

    /// Leaves an image in the cache.
    pub(super) async fn share(&self, image: &Image, text: &[u8]) {
        let Some(shared) = self.shared() else { return };
        let sealed = seal(&shared.key, text);
        let was_refused = self.refused().remove(&image.id);
        let put = shared.cache.put(image.id, image.position, self.ttl(), &sealed, was_refused);
        match put.await {
            Ok(true) => {}
            Ok(false) => debug!(env.id = image.id, "what lies in Redis is newer"),
            Err(error) => self.failed(&error),
        }
    }

    fn ttl(&self) -> Duration {
        CACHE_TTL.mul_f64(0.9 + 0.2 * self.ids.jitter())
    }
}

/// Runs what takes long or waits for the disk where it holds up no request; fails if it panics.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

async fn read_since(
    tx: &mut Tx,
    environment: &Environment,
    to: Position,
    stamp: String,
    since: i64,
) -> Result<Update, StoreError> {
    let flags = tx.changed_flags(&environment.project, environment.id, since).await?;
    let segments = tx.changed_segments(environment.id, since).await?;
    Ok(Update {
        to,
        is_relative: since > 0,
        stamp: stamp.into_boxed_str(),
        flags: flags.into_iter().map(Arc::new).collect(),
        segments: segments.into_iter().map(Arc::new).collect(),
    })
}

impl From<Image> for Update {
    fn from(image: Image) -> Self {
        Self {
            to: image.position,
            is_relative: false,
            stamp: image.stamp,
            // What could not be read comes after what was served instead: perhaps it can be read here.
            flags: image.flags.values().chain(image.unreadable_flags.values()).cloned().collect(),
            segments: image
                .segments
                .values()
                .chain(image.unreadable_segments.values())
                .cloned()
                .collect(),
        }
    }
}
