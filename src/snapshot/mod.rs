//! What is served: the current ruleset of each environment and the directory of tokens, in memory.
//!
//! The only bridge from the store to the evaluation. [`Follower`] keeps it up to date; everyone else only reads.
//!
//! # Invariants
//!
//! * Readers never wait and never see half a change.
//! * Only a higher `(epoch, version)` replaces what is there.
//! * While the store is away, what is there stays.

mod beat;
mod directory;
mod directory_image;
mod environment;
mod folder;
mod follow;
mod history;
mod image;
mod keep;
mod listen;
mod load;
mod refresh;
mod since;
mod status;
mod stored;

pub use beat::Heart;
pub use beat::ReplicaName;
pub use directory::Directory;
pub use directory::TokenEntry;
pub use directory_image::DirectoryImage;
pub use directory_image::EnvironmentEntry;
pub use environment::Change;
pub use environment::Environment;
pub use environment::Missed;
pub use environment::Update;
pub use folder::Folder;
pub use follow::Follower;
pub use history::LOST_TOLD_MAX;
pub use history::Lost;
pub use history::Missing;
pub use image::IMAGE_BYTES_MAX;
pub use image::Image;
pub use image::ImageError;
pub use image::ImageKey;
pub use keep::Keeper;
pub use keep::Kept;
pub use load::Loader;
pub use status::Freshness;
pub use status::Source;

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::store::StoreError;
use arc_swap::ArcSwap;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::watch;

/// Everything that is served, shared by all who read it.
#[derive(Debug)]
pub struct Snapshots {
    directory: ArcSwap<Directory>,
    directory_changed: watch::Sender<Position>,
    doorbell: Notify,
    /// Tells the keeper to look.
    installed: Notify,
    /// Tells the heart that something newer is served.
    moved: Notify,
    status: status::Status,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            directory: ArcSwap::default(),
            directory_changed: watch::Sender::new(Position::default()),
            doorbell: Notify::new(),
            installed: Notify::new(),
            moved: Notify::new(),
            status: status::Status::default(),
        }
    }
}

impl Snapshots {
    /// The current directory of environments and tokens.
    ///
    /// # Cost
    ///
    /// One atomic load and one increment; no lock.
    pub fn directory(&self) -> Arc<Directory> {
        self.directory.load_full()
    }

    /// Tells when the directory has changed, so that streams can look whether their token still holds.
    pub fn directory_changes(&self) -> watch::Receiver<Position> {
        self.directory_changed.subscribe()
    }

    /// How current what is served is.
    pub fn freshness(&self) -> Freshness {
        self.status.freshness()
    }

    /// Whether the store was asked after this moment, and has confirmed what is served.
    pub fn is_confirmed_since(&self, moment: Instant) -> bool {
        self.status.is_confirmed_since(moment)
    }

    /// For how long the store has not confirmed what an environment serves, if that is longer than a replica may keep to itself.
    pub fn unconfirmed_for(&self, environment: &Environment) -> Option<Duration> {
        let own = environment.unread_for().filter(|time| *time > status::CONFIRMATION_HOLDS);
        self.freshness().unconfirmed_for().max(own)
    }

    /// Whether the store has confirmed what an environment serves within this time.
    pub fn is_confirmed_within(&self, environment: &Environment, time: Duration) -> bool {
        let is_read = environment.unread_for().is_none_or(|unread| unread <= time);
        is_read && self.freshness().is_confirmed_within(time)
    }

    /// What the store has lost that was served, of which this process may have served nothing; `None` if nothing is.
    pub fn regression(&self) -> Option<Lost> {
        self.status.regression()
    }

    /// Why the store cannot be used, in general words; `None` if it can.
    pub fn problem(&self) -> Option<&'static str> {
        self.status.problem()
    }

    /// Notes why the store cannot be used.
    pub fn note_problem(&self, error: &StoreError) {
        self.status.set_problem(Some(error.in_general()));
    }

    /// Asks the follower to look at the store now.
    pub fn ring(&self) {
        self.doorbell.notify_one();
    }

    /// Asks the follower to look, and waits until this process serves a position of an environment or a higher one; returns
    /// at once if it does not serve the environment.
    pub async fn wait_for(&self, env: EnvId, wanted: Position) {
        self.ring();
        let Some(environment) = self.directory().environment(env).cloned() else { return };
        let mut positions = environment.positions();
        // OK because the sender lives in `environment`, which is held here.
        let _ = positions.wait_for(|position| *position >= wanted).await;
    }

    /// Asks the follower to look, and waits until this process serves a position of the directory or a higher one.
    pub async fn wait_for_directory(&self, wanted: Position) {
        self.ring();
        let mut positions = self.directory_changed.subscribe();
        // OK because the sender lives in `self`.
        let _ = positions.wait_for(|position| *position >= wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::EnvKey;
    use crate::model::key::ProjectKey;
    use futures_util::FutureExt;
    use std::pin::pin;

    #[tokio::test]
    async fn the_same_version_of_an_earlier_epoch_is_not_what_was_waited_for() {
        let snapshots = Snapshots::default();
        let environment = Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"));
        let environment = Arc::new(environment);
        let serve = |to| {
            environment.install(&Update { to, ..Update::default() });
            let directory = Directory::new(to, vec![Arc::clone(&environment)], Vec::new());
            snapshots.directory.store(Arc::new(directory));
            snapshots.directory_changed.send_replace(to);
        };
        let [before, wanted] = [1, 2].map(|epoch| Position { epoch, version: 7 });
        serve(before);
        let mut waiting = pin!(snapshots.wait_for(1, wanted));
        let mut waiting_for_directory = pin!(snapshots.wait_for_directory(wanted));
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(waiting_for_directory.as_mut().now_or_never().is_none());
        serve(wanted);
        waiting.await;
        waiting_for_directory.await;
    }
}
