//! Where PostgreSQL and SQLite differ: opening, beginning a transaction, and ringing.

use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::sql;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use sqlx::Connection;
use sqlx::PgConnection;
use sqlx::postgres::PgConnectOptions;
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqliteJournalMode;
use sqlx::sqlite::SqlitePoolOptions;
use sqlx::sqlite::SqliteSynchronous;
use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// Waits two seconds for a lock and five for a statement, so that a forgotten transaction elsewhere cannot hold this one; and
/// is ended if nothing comes for five seconds, so that a replica that was cut off in the middle of it holds up no other.
pub(super) const POSTGRES_WRITE: &str =
    "begin; set local lock_timeout = '2s'; set local statement_timeout = '5s';
    set local idle_in_transaction_session_timeout = '5s'";
/// One state for all statements.
pub(super) const POSTGRES_READ: &str =
    "begin isolation level repeatable read read only; set local statement_timeout = '5s';
    set local idle_in_transaction_session_timeout = '5s'";
/// The same for small questions that are asked again anyway.
pub(super) const POSTGRES_LOOK: &str =
    "begin isolation level repeatable read read only; set local statement_timeout = '3s';
    set local idle_in_transaction_session_timeout = '5s'";
/// Takes the write lock at once, so that a transaction never has to give up half-way.
pub(super) const SQLITE_WRITE: &str = "begin immediate";
/// One state for all statements, from the first that reads.
pub(super) const SQLITE_READ: &str = "begin deferred";

/// The channel on which replicas tell each other that something changed.
pub(super) const CHANNEL: &str = "vexil";
const NOTIFY: &str = "select c.epoch from cluster c, lateral (select pg_notify($1, $2)) rung
    where c.id = 1";
const EPOCH: &str = "select epoch from cluster where id = 1";

/// Connections to PostgreSQL; enough for a burst of administrators, few enough for a hundred replicas on one database.
const POSTGRES_CONNECTIONS_MAX: u32 = 6;
/// Connections beside them for following: one for the follower, and one for the heart.
const POSTGRES_FOLLOWING_MAX: u32 = 2;
/// How long a connection that is given back may take to answer before it is closed.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to a SQLite file; one writes at a time, the others read.
const SQLITE_CONNECTIONS_MAX: u32 = 4;
/// How long to wait for a connection before the store counts as unavailable.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a writer waits for the one before it.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// The name of the SQLite file in the data directory.
pub(super) const SQLITE_FILE: &str = "vexil.db";

impl Store {
    /// Prepares to use a PostgreSQL database, without connecting yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] if the URL is not one.
    pub fn postgres(url: &SecretString) -> Result<Self, StoreError> {
        let is_postgres = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.expose_secret().starts_with(scheme));
        if !is_postgres {
            let detail = "the database URL must start with postgres:// or postgresql://";
            return Err(StoreError::Schema(detail.to_owned()));
        }
        let options = PgConnectOptions::from_str(url.expose_secret())
            .map_err(|error| StoreError::Schema(format!("the database URL is not valid: {error}")))?
            .application_name("vexil")
            .statement_cache_capacity(0)
            // PgBouncer refuses a session that sets it.
            .extra_float_digits(None);
        let pool = |connections_max| {
            PgPoolOptions::new()
                .max_connections(connections_max)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_release(|connection, _| Box::pin(is_alive(connection)))
                .connect_lazy_with(options.clone())
        };
        let following = pool(POSTGRES_FOLLOWING_MAX);
        Ok(Self::Postgres {
            pool: pool(POSTGRES_CONNECTIONS_MAX),
            following,
            followed: Arc::default(),
        })
    }

    /// Opens the SQLite file in `data_dir`, which is created if it is missing.
    ///
    /// Every commit is on disk when it is acknowledged (`synchronous=FULL`).
    ///
    /// # Errors
    ///
    /// [`StoreError::Locked`] if another process has it open; [`StoreError::Unavailable`] if the directory cannot be written.
    pub async fn sqlite(data_dir: &Path) -> Result<Self, StoreError> {
        let lock = lock_folder(data_dir)?;
        let options = SqliteConnectOptions::new()
            .filename(data_dir.join(SQLITE_FILE))
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(SQLITE_BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new()
            .max_connections(SQLITE_CONNECTIONS_MAX)
            .acquire_timeout(SQLITE_BUSY_TIMEOUT)
            .connect_with(options)
            .await?;
        Ok(Self::Sqlite { pool, lock: Arc::new(lock) })
    }
}

/// Keeps other processes from using a folder for as long as the file is open.
///
/// # Errors
///
/// [`StoreError::Locked`] if another process uses it; [`StoreError::Unavailable`] if it cannot be written.
pub fn lock_folder(folder: &Path) -> Result<File, StoreError> {
    let cannot = |what: &str, error: std::io::Error| {
        StoreError::Unavailable(format!("cannot {what} {}: {error}", folder.display()))
    };
    std::fs::create_dir_all(folder).map_err(|error| cannot("create", error))?;
    let lock =
        File::create(folder.join("vexil.lock")).map_err(|error| cannot("write to", error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            let folder = folder.display();
            Err(StoreError::Locked(format!(
                "another process uses the data directory {folder}; stop it, or give each process one of its own, with PostgreSQL for several replicas"
            )))
        }
        Err(TryLockError::Error(error)) => Err(cannot("lock", error)),
    }
}

/// Fails if a connection that is given back does not answer soon: the pool would ask it for as long as the kernel takes to give
/// it up, and lend none in its place meanwhile.
async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await {
        Ok(answer) => answer.map(|()| true),
        Err(_) => Err(sqlx::Error::PoolTimedOut),
    }
}

impl Tx {
    /// Tells other replicas, once the transaction is committed, that something changed; what changed they read themselves.
    /// Returns the epoch in which it did.
    ///
    /// On SQLite there is no other replica.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn notify(&mut self, hint: &str) -> Result<i64, StoreError> {
        let (epoch,) = match self {
            Self::Postgres(tx) => {
                let ring = sql!(NOTIFY => (i64,)).bind(CHANNEL).bind(hint);
                ring.fetch_one(&mut **tx).await?
            }
            Self::Sqlite(tx) => sql!(EPOCH => (i64,)).fetch_one(&mut **tx).await?,
        };
        Ok(epoch)
    }
}
