//! Keeping what is served: in files, from which a process starts when the store is away, and in Redis, from which other
//! replicas start without asking the database.
//!
//! Runs beside the follower and waits for nobody: a disk or a Redis that is slow or gone costs no change a moment.

use crate::clock::Clock;
use crate::clock::Ids;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::snapshot::Directory;
use crate::snapshot::DirectoryImage;
use crate::snapshot::Environment;
use crate::snapshot::Folder;
use crate::snapshot::IMAGE_BYTES_MAX;
use crate::snapshot::Image;
use crate::snapshot::ImageKey;
use crate::snapshot::Loader;
use crate::snapshot::Snapshots;
use crate::snapshot::Source;
use crate::snapshot::image::open as open_sealed;
use crate::snapshot::image::seal;
use crate::snapshot::load::blocking;
use crate::telemetry::LoadSource;
use crate::telemetry::Metrics;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing::warn;

/// How long changes are gathered before they are written.
const GATHER: Duration = Duration::from_secs(1);
/// The part of the time that may go into writing: a tenth.
const REST_FACTOR: u32 = 9;
/// How often an image in Redis is renewed, well before it ends.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);

/// Shows damage and nothing else: who can write the files can do worse.
static FILE_KEY: LazyLock<ImageKey> =
    LazyLock::new(|| blake3::derive_key("vexil snapshot file", b""));
const DIRECTORY_FILE: &str = "directory.image";
/// When the database last confirmed what the other files have.
const CONFIRMED_FILE: &str = "confirmed.image";
const CONFIRMED_BYTES_MAX: usize = 1_024;

fn file_of(env: EnvId) -> String {
    format!("environment-{env}.image")
}

/// Keeps what is served.
#[derive(Debug, Clone)]
pub struct Keeper {
    /// What is kept.
    pub snapshots: Arc<Snapshots>,
    /// Where; `None` if the store is a file of this machine anyway.
    pub folder: Option<Folder>,
    /// Leaves images in Redis.
    pub loader: Loader,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// Tokens that are in no file.
    pub configured: Vec<(Digest, Grant)>,
    /// Randomness for spreading.
    pub ids: Ids,
}

/// What has been kept already.
#[derive(Debug, Default)]
struct Progress {
    /// Of which installation; what was kept of another one says nothing about this one.
    installation: Option<String>,
    directory: Position,
    /// When it was last written down that the database confirms it.
    confirmed: Option<Instant>,
    environments: HashMap<EnvId, (Position, Instant)>,
}

impl Keeper {
    /// Keeps what is served until it is told to stop, and once more then.
    pub async fn run(self, stop: CancellationToken) {
        let mut kept = Progress::default();
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.snapshots.installed.notified() => {}
            }
            let started = Instant::now();
            self.keep(&mut kept).await;
            let rest = GATHER.max(started.elapsed() * REST_FACTOR);
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(rest) => {}
            }
        }
        self.keep(&mut kept).await;
    }

    /// Writes whatever is newer than what is kept.
    async fn keep(&self, kept: &mut Progress) {
        let installation = self.loader.installation();
        if installation != kept.installation {
            *kept = Progress { installation, ..Progress::default() };
        }
        let directory = self.snapshots.directory();
        if directory.position == Position::default() {
            return;
        }
        for environment in directory.environments() {
            let position = environment.position();
            let (at, renewed) = match kept.environments.get(&environment.id) {
                Some((at, renewed)) => (*at, *renewed),
                None => (Position::default(), Instant::now()),
            };
            let is_changed = position != at;
            if position == Position::default()
                || (!is_changed
                    && renewed.elapsed() < RENEW_INTERVAL.mul_f64(0.8 + 0.4 * self.ids.jitter()))
            {
                continue;
            }
            // What could not be written is tried again.
            if self.keep_environment(environment, is_changed).await {
                kept.environments.insert(environment.id, (position, Instant::now()));
            }
        }
        let installation = kept.installation.clone();
        if directory.position != kept.directory
            && self.keep_directory(&directory, installation).await
        {
            for gone in kept.environments.extract_if(|id, _| directory.environment(*id).is_none()) {
                if let Some(folder) = &self.folder {
                    folder.remove(&file_of(gone.0));
                }
            }
            kept.directory = directory.position;
        }
        let is_due = kept.confirmed.is_none_or(|at| at.elapsed() >= RENEW_INTERVAL);
        if is_due && self.keep_confirmed().await {
            kept.confirmed = Some(Instant::now());
        }
    }

    /// Writes down when the database last confirmed what is served, so that a later run knows how old it is.
    async fn keep_confirmed(&self) -> bool {
        let freshness = self.snapshots.freshness();
        let Some(ago) = freshness.confirmed_ago.filter(|_| freshness.source == Source::Store)
        else {
            return true;
        };
        let Some(folder) = self.folder.clone() else { return true };
        let ago = SignedDuration::try_from(ago).unwrap_or_default();
        let now = Clock.now();
        let text = now.checked_sub(ago).unwrap_or(now).to_string();
        let sealed = seal(&FILE_KEY, text.as_bytes());
        let written = blocking(move || folder.write(CONFIRMED_FILE, &sealed));
        match written.await.and_then(|written| written) {
            Ok(()) => true,
            Err(error) => self.complain(&error),
        }
    }

    /// Returns whether it was written wherever it had to be.
    async fn keep_environment(&self, environment: &Environment, is_changed: bool) -> bool {
        let folder = self.folder.clone().filter(|_| is_changed);
        let is_shared = self.loader.renew(environment.id, environment.position()).await;
        if folder.is_none() && is_shared {
            return true;
        }
        let image = environment.image();
        let written = blocking(move || {
            let text = image.text();
            let file =
                folder.map(|folder| folder.write(&file_of(image.id), &seal(&FILE_KEY, &text)));
            (image, text, file.unwrap_or(Ok(())))
        });
        match written.await {
            Ok((image, text, file)) => {
                if !is_shared {
                    // This replica has the lease to write it there, whatever its own disk says.
                    self.loader.share(&image, &text).await;
                }
                file.map_or_else(|error| self.complain(&error), |()| true)
            }
            Err(error) => self.complain(&error),
        }
    }

    async fn keep_directory(&self, directory: &Directory, installation: Option<String>) -> bool {
        let (Some(folder), Some(installation)) = (self.folder.clone(), installation) else {
            return true;
        };
        let image = DirectoryImage::of(&installation, directory, &self.configured);
        let written = blocking(move || folder.write(DIRECTORY_FILE, &image.seal(&FILE_KEY)));
        match written.await.and_then(|written| written) {
            Ok(()) => true,
            Err(error) => self.complain(&error),
        }
    }

    fn complain(&self, error: &io::Error) -> bool {
        self.metrics.snapshot_errors.inc();
        warn!(%error, "cannot write what is served to disk; serving goes on");
        false
    }
}

/// What an earlier run kept.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Of which installation.
    pub(super) installation: String,
    /// When the database had last confirmed it, as far as that was written down.
    pub(super) confirmed_at: Option<Timestamp>,
    /// With everything that could be used.
    pub(super) directory: Arc<Directory>,
}

/// Reads what an earlier run kept; `None` if there is nothing that can be used.
///
/// An environment whose files cannot be used is named and not loaded.
pub(super) fn read_kept(
    folder: &Folder,
    configured: &[(Digest, Grant)],
    refused: &[Digest],
    metrics: &Metrics,
) -> Option<Kept> {
    let complain = |problems: Vec<String>| {
        for problem in problems {
            metrics.images_refused.inc();
            warn!(problem, "refused a file of an earlier run");
        }
    };
    let open =
        |bytes: &[u8]| DirectoryImage::open(&FILE_KEY, bytes).map_err(|error| error.to_string());
    let (image, problems) = folder.read(DIRECTORY_FILE, IMAGE_BYTES_MAX, open);
    complain(problems);
    let DirectoryImage { installation, position, environments, tokens } = image?;
    let mut loaded = Vec::with_capacity(environments.len());
    for entry in environments {
        let environment = Environment::new(entry.id, entry.project, entry.key);
        let after = entry.fail_closed_after_secs.map(Duration::from_secs);
        environment.set_fail_closed_after(after);
        if let Some(server_sdk) = entry.server_sdk {
            environment.set_server_sdk(server_sdk);
        }
        environment.set_safety(entry.safety);
        let open = |bytes: &[u8]| match Image::open(&FILE_KEY, bytes) {
            Ok(image) if image.is_of(&environment) => Ok(image),
            Ok(_) => Err("it is of another environment".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        let (image, problems) = folder.read(&file_of(entry.id), IMAGE_BYTES_MAX, open);
        complain(problems);
        if let Some(image) = image {
            metrics.loads.count(LoadSource::Disk);
            environment.install(&image.into());
        }
        loaded.push(Arc::new(environment));
    }
    info!(environments = loaded.len(), "read what an earlier run kept");
    let stored = tokens.into_iter().filter(|(digest, _)| !refused.contains(digest));
    let directory = Directory::new(position, loaded, stored.chain(configured.iter().cloned()));
    let (confirmed_at, problems) = folder.read(CONFIRMED_FILE, CONFIRMED_BYTES_MAX, |bytes| {
        let text = open_sealed(&FILE_KEY, bytes).map_err(|error| error.to_string())?;
        let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
        text.parse::<Timestamp>().map_err(|error| error.to_string())
    });
    complain(problems);
    Some(Kept { installation, confirmed_at, directory: Arc::new(directory) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::EnvKey;
    use crate::model::key::FlagKey;
    use crate::model::key::ProjectKey;
    use crate::snapshot::Update;
    use crate::store::ChangedFlag;
    use crate::store::FlagText;
    use std::fs;
    use std::path::Path;

    const ENV: EnvId = 1;

    /// What an environment keeps at a version, and the directory that names it.
    fn generation(version: i64) -> [(String, Vec<u8>); 2] {
        let environment = Environment::new(ENV, ProjectKey::stored("p"), EnvKey::stored("e"));
        let flag = |key: &str| {
            let definition = r#"{"key":"f","name":"f","kind":"boolean","variations":
                [{"key":"on","value":true},{"key":"off","value":false}],
                "defaults":{"onVariation":"on","offVariation":"off"}}"#;
            let config = format!("{{\"on\":false,\"salt\":\"{version}\"}}");
            let text = FlagText { definition: definition.into(), config: config.into() };
            Arc::new(ChangedFlag { key: FlagKey::stored(key), version, text: Some(text) })
        };
        let to = Position { epoch: 1, version };
        let flags = vec![flag("a"), flag("b")];
        environment.install(&Update { to, flags, ..Update::default() });
        let text = environment.image().text();
        let directory = Directory::new(to, vec![Arc::new(environment)], Vec::new());
        let names = DirectoryImage::of("here", &directory, &[]).seal(&FILE_KEY);
        [(file_of(ENV), seal(&FILE_KEY, &text)), (DIRECTORY_FILE.to_owned(), names)]
    }

    /// The versions of the directory, of the environment and of its flags.
    fn versions(folder: &Folder) -> Option<(i64, i64, Vec<i64>)> {
        let kept = read_kept(folder, &[], &[], &Metrics::default())?;
        let environment = kept.directory.environment(ENV).unwrap();
        let flags = environment.image().flags.values().map(|flag| flag.version).collect();
        Some((kept.directory.position.version, environment.position().version, flags))
    }

    fn put(path: &Path, name: &str, older: &[u8], newer: &[u8]) {
        fs::write(path.join(format!("{name}.old")), older).unwrap();
        fs::write(path.join(name), newer).unwrap();
    }

    /// Every byte of a file is damaged, and it is cut off everywhere; in turn, all bits are damaged. That every other value of a
    /// byte is noticed is shown in `image`.
    #[test]
    fn any_damage_leaves_the_generation_before_or_nothing_and_never_a_mixture() {
        let path = std::env::temp_dir().join(format!("vexil-{}", Ids.next()));
        fs::create_dir_all(&path).unwrap();
        let folder = Folder::new(path.clone());
        let (older, newer) = (generation(1), generation(2));
        let put_all = || {
            for ((name, older), (_, newer)) in older.iter().zip(&newer) {
                put(&path, name, older, newer);
            }
        };
        put_all();
        assert_eq!(versions(&folder), Some((2, 2, vec![2, 2])));
        for (n, (name, good)) in newer.iter().enumerate() {
            for i in 0..good.len() {
                let mut changed = good.clone();
                // No letter becomes the same one of the other case.
                changed[i] ^= [1, 2, 4, 8, 16, 64, 128][i % 7];
                for bad in [&changed[..], &good[..i]] {
                    put(&path, name, &older[n].1, bad);
                    let wanted = if n == 0 { (2, 1, vec![1, 1]) } else { (1, 2, vec![2, 2]) };
                    assert_eq!(versions(&folder), Some(wanted), "{name}, byte {i}");
                    put(&path, name, bad, bad);
                    let wanted = (n == 0).then_some((2, 0, Vec::new()));
                    assert_eq!(versions(&folder), wanted, "{name}, byte {i}, both");
                }
            }
            put_all();
        }
        assert_eq!(versions(&folder), Some((2, 2, vec![2, 2])));
        fs::remove_dir_all(&path).unwrap();
    }
}
