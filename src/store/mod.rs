//! Everything that is kept: all SQL, for PostgreSQL and SQLite, and the doorbells between replicas.
//!
//! Each method has one SQL text and one body for both databases; they take the same placeholders, `returning` and
//! `on conflict`. Where they differ, `dialect` knows. All work happens inside a [`Tx`], also reading: so it sees one state,
//! and works through PgBouncer in transaction mode, where two statements outside a transaction may reach two sessions. For
//! the same reason no statement is prepared under a name.
//!
//! # Invariants
//!
//! * The only room that names `sqlx` or `redis`.
//! * Reads no clock and makes no ids: callers hand them in.
//! * "Not found" is `Ok(None)` or `Ok(false)`, never an error.
//! * Versions come from a counter row that is locked first, so they are dense and in the order of commits.
//!
//! What a valid change is, is decided in `change`; the order of the steps of a write stands in `control`.

mod audit;
mod bulk;
mod cache;
mod dependant;
mod dialect;
mod directory;
mod error;
mod event;
mod event_day;
mod flag;
mod flag_version;
mod hint;
mod history;
mod idempotency;
mod inspect;
mod kill;
mod managed;
mod many_flags;
mod migrate;
mod redis;
mod replica;
mod schedule;
mod segment;
mod token;
mod trigger;
mod usage;

pub use audit::AuditCursor;
pub use audit::AuditFilter;
pub use audit::Logged;
pub use cache::CACHE_TTL;
pub use cache::Cache;
pub use cache::LEASE_TTL;
pub use cache::Lease;
pub use dependant::Damaged;
pub use dialect::lock_folder;
pub use directory::EnvironmentRecord;
pub use directory::ProjectRecord;
pub use error::StoreError;
pub use event::Asked;
pub use event::EventRow;
pub use event::Exposure;
pub use event::ExposureKey;
pub use event::UNIT_BYTES;
pub use event::Unit;
pub use event::UsageKey;
pub use flag::ChangedFlag;
pub use flag::FlagText;
pub use flag::StoredFlag;
pub use flag_version::EarlierConfig;
pub use flag_version::FlagVersion;
pub use flag_version::Made;
pub use hint::Doorbell;
pub use hint::Hint;
pub use history::EnvironmentPosition;
pub use history::Followed;
pub use history::OTHER_INSTALLATION;
pub use history::Positions;
pub use history::installation_of;
pub use history::short_name;
pub use idempotency::Claim;
pub use idempotency::KeptAnswer;
pub use inspect::SchemaState;
pub use inspect::inspect_postgres;
pub use inspect::inspect_sqlite;
pub use kill::KillRecord;
pub use migrate::Migration;
pub use redis::Redis;
pub use replica::DIRECTORY;
pub use replica::ReplicaRecord;
pub use replica::SeenReplica;
pub use schedule::Decided;
pub use schedule::ScheduleFilter;
pub use schedule::ScheduleRecord;
pub use segment::ChangedSegment;
pub use segment::StoredSegment;
pub use token::NewToken;
pub use token::PreviousSecret;
pub use token::TokenRecord;
pub use trigger::TriggerRecord;
pub use usage::RecentUse;
pub use usage::UnknownFlagRecord;
pub use usage::UsageRecord;

use sqlx::PgPool;
use sqlx::Postgres;
use sqlx::Sqlite;
use sqlx::SqlitePool;
use sqlx::Transaction;
use std::fs::File;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long a transaction may take before it counts as lost and the store as unavailable.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(8);

/// The database; cheap to clone.
#[derive(Debug, Clone)]
pub enum Store {
    /// Shared by any number of replicas.
    Postgres {
        /// Connections for whatever is asked of the process.
        pool: PgPool,
        /// Connections for following, so that writers which wait for each other hold up neither what is served nor the sign
        /// that it is.
        following: PgPool,
        /// Of which installation the database has to be.
        followed: Arc<Followed>,
    },
    /// Belongs to one process.
    Sqlite {
        /// Connections to the file.
        pool: SqlitePool,
        /// Held as long as the store is open, so that no second process opens the file.
        lock: Arc<File>,
    },
}

/// A transaction; rolled back when it is dropped without [`Tx::commit`].
#[derive(Debug)]
pub enum Tx {
    /// On PostgreSQL.
    Postgres(Transaction<'static, Postgres>),
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
}

/// Runs one body on whichever connection a transaction holds.
macro_rules! on_tx {
    ($tx:expr, $connection:ident => $body:expr) => {
        match $tx {
            $crate::store::Tx::Postgres(tx) => {
                let $connection = &mut **tx;
                $body
            }
            $crate::store::Tx::Sqlite(tx) => {
                let $connection = &mut **tx;
                $body
            }
        }
    };
}
use on_tx;

/// A statement that is not prepared under a name; see the room's introduction.
macro_rules! sql {
    ($sql:expr) => {
        sqlx::query($sql).persistent(false)
    };
    ($sql:expr => $row:ty) => {
        sqlx::query_as::<_, $row>($sql).persistent(false)
    };
}
use sql;

impl Store {
    /// Begins a transaction that writes. Its first statement must lock a row that everyone locks who writes the same.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had, [`StoreError::Regressed`] if the database is another
    /// installation's, or replicas have seen what is missing in it.
    pub async fn write(&self) -> Result<Tx, StoreError> {
        let mut tx = self.begin_unchecked().await?;
        if let (Tx::Postgres(tx), Self::Postgres { followed, .. }) = (&mut tx, self) {
            history::check(tx, followed).await?;
        }
        Ok(tx)
    }

    /// Begins a transaction that reads; all its statements see the same state.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had, [`StoreError::Regressed`] if the database is another
    /// installation's.
    pub async fn read(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres { pool, followed, .. } => {
                let mut tx = pool.begin_with(dialect::POSTGRES_READ).await?;
                history::check_readable(&mut tx, followed).await?;
                Tx::Postgres(tx)
            }
            Self::Sqlite { pool, .. } => Tx::Sqlite(pool.begin_with(dialect::SQLITE_READ).await?),
        })
    }

    /// As [`Self::read`], on the connections for following.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had.
    pub async fn read_to_follow(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres { following, .. } => {
                Tx::Postgres(following.begin_with(dialect::POSTGRES_READ).await?)
            }
            Self::Sqlite { .. } => self.read().await?,
        })
    }

    /// As [`Self::read_to_follow`], for what is little and asked again soon: gives up earlier.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had.
    pub async fn look(&self) -> Result<Tx, StoreError> {
        Ok(match self {
            Self::Postgres { following, .. } => {
                Tx::Postgres(following.begin_with(dialect::POSTGRES_LOOK).await?)
            }
            Self::Sqlite { .. } => self.read().await?,
        })
    }

    /// What people call this database.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "PostgreSQL",
            Self::Sqlite { .. } => "SQLite",
        }
    }

    /// Closes all connections, after the transactions that run.
    pub async fn close(&self) {
        match self {
            Self::Postgres { pool, following, .. } => {
                pool.close().await;
                following.close().await;
            }
            Self::Sqlite { pool, .. } => pool.close().await,
        }
    }
}

impl Tx {
    /// Makes everything that was written in the transaction permanent and visible.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the connection breaks; whether the commit took place is then unknown.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(tx) => tx.commit().await?,
            Self::Sqlite(tx) => tx.commit().await?,
        }
        Ok(())
    }

    /// Undoes everything that was written in the transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the connection breaks; then nothing was written either.
    pub async fn roll_back(self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(tx) => tx.rollback().await?,
            Self::Sqlite(tx) => tx.rollback().await?,
        }
        Ok(())
    }
}

/// Runs work on the store, but not for longer than a transaction may take.
///
/// # Errors
///
/// Those of the work, and [`StoreError::Unavailable`] when the time is over: a database that is stalled with its connections
/// open gives no other sign.
pub async fn within_timeout<T, E: From<StoreError>>(
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    match tokio::time::timeout(TRANSACTION_TIMEOUT, work).await {
        Ok(result) => result,
        Err(_) => Err(E::from(StoreError::Unavailable("the database does not answer".to_owned()))),
    }
}
