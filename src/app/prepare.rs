//! What comes before the store can be followed: what an earlier run kept, and tables that are up to date.
//!
//! Whatever the database says, the process goes on: it serves what it has, or nothing, and tries again.

use crate::clock::Ids;
use crate::snapshot::Follower;
use crate::store::Migration;
use crate::store::StoreError;
use crate::store::within_timeout;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::error;
use tracing::info;
use tracing::warn;

/// How long bringing the tables up to date may take; large ones take their time.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// The first wait before the database is tried again at start, of which as much as all is waited.
const START_DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest wait before the database is tried again at start: whoever comes back is to be noticed within five seconds.
const START_DELAY_MAX: Duration = Duration::from_secs(3);
/// How long a start waits for the database before it serves what an earlier run kept.
const START_PATIENCE: Duration = Duration::from_millis(500);

/// Serves what an earlier run kept if the store does not answer soon, brings the schema up to date, and follows.
pub(super) async fn follow(
    follower: Follower,
    is_prepared: CancellationToken,
    stop: CancellationToken,
) {
    follower.load_kept().await;
    let prepared = async {
        let preparing = prepare(&follower);
        let mut preparing = std::pin::pin!(preparing);
        if tokio::time::timeout(START_PATIENCE, preparing.as_mut()).await.is_ok() {
            return;
        }
        follower.serve_kept();
        preparing.await;
    };
    tokio::select! {
        () = prepared => {}
        () = stop.cancelled() => return,
    }
    is_prepared.cancel();
    follower.run(stop).await;
}

/// Brings the schema up to date; tries as long as it takes.
async fn prepare(follower: &Follower) {
    let mut delay = START_DELAY_MIN;
    let mut told = String::new();
    loop {
        match migrate(follower).await {
            Ok(applied) => {
                for migration in applied {
                    info!(migration.number, migration.name, "applied a migration");
                }
                return;
            }
            Err(error) => {
                // Once for each cause: this comes again every few seconds.
                let cause = error.to_string();
                match &error {
                    _ if told == cause => {}
                    StoreError::Unavailable(_) => warn!(cause, "waiting for the database"),
                    _ => error!(cause, "cannot use the database; trying again"),
                }
                told = cause;
                follower.snapshots.note_problem(&error);
                follower.serve_kept();
            }
        }
        tokio::time::sleep(delay.mul_f64(Ids.jitter())).await;
        delay = (delay * 2).min(START_DELAY_MAX);
    }
}

async fn migrate(follower: &Follower) -> Result<Vec<Migration>, StoreError> {
    // A connection may be dead, and only a migration that is missing is worth a long wait.
    if within_timeout(follower.store.is_current()).await? {
        return Ok(Vec::new());
    }
    match tokio::time::timeout(MIGRATION_TIMEOUT, follower.store.migrate()).await {
        Ok(migrated) => migrated,
        Err(_) => Err(StoreError::Unavailable("the database does not answer".to_owned())),
    }
}
