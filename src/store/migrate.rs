//! Bringing the schema up to date.
//!
//! Migrations only go forward. All that are missing are applied in one transaction under a lock, so that replicas which
//! start together do not meet and a crash half-way leaves nothing behind. `sqlx`'s own runner is not used because it takes
//! a lock of the session, which PgBouncer in transaction mode would leave on somebody else's.

use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::history;
use crate::store::on_tx;
use crate::store::sql;
use sha2::Digest;
use sha2::Sha256;
use sqlx::AssertSqlSafe;
use sqlx::Postgres;
use sqlx::Transaction;

/// One step of the schema, the same on both databases.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Counts from 1.
    pub number: i64,
    /// What it is about.
    pub name: &'static str,
    postgres: &'static str,
    sqlite: &'static str,
}

macro_rules! migration {
    ($number:expr, $name:literal, $file:literal) => {
        Migration {
            number: $number,
            name: $name,
            postgres: include_str!(concat!("../../migrations/postgres/", $file)),
            sqlite: include_str!(concat!("../../migrations/sqlite/", $file)),
        }
    };
}

const MIGRATIONS: &[Migration] = &[
    migration!(1, "spine", "0001_spine.sql"),
    migration!(2, "server_sdk", "0002_server_sdk.sql"),
    migration!(3, "history", "0003_history.sql"),
    migration!(5, "kills_and_triggers", "0005_kills_and_triggers.sql"),
    migration!(ACCOUNTABILITY, "accountability", "0006_accountability.sql"),
    migration!(7, "event", "0007_event.sql"),
    migration!(8, "schedule", "0008_schedule.sql"),
    migration!(9, "managed", "0009_managed.sql"),
    migration!(10, "secure_mode", "0010_secure_mode.sql"),
    migration!(11, "scale", "0011_scale.sql"),
];
/// The migration after which the audit entries that are there are chained.
const ACCOUNTABILITY: i64 = 6;

const POSTGRES_VERSION: &str = "select current_setting('server_version_num')::int";
/// PostgreSQL 14.0, as it numbers itself.
const POSTGRES_VERSION_MIN: i32 = 140_000;
/// Any number that no other program uses for a lock of the whole database.
const POSTGRES_LOCK: &str = "select pg_advisory_xact_lock(8398764301)";
const CREATE_TABLE: &str = "create table if not exists schema_migration (
    number bigint primary key, name text not null, checksum text not null)";
const APPLIED: &str = "select number, checksum from schema_migration order by number";
const RECORD: &str = "insert into schema_migration (number, name, checksum) values ($1, $2, $3)";

impl Store {
    /// Applies the migrations that are missing and returns them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] if the database was written by a newer version, or an applied migration is not the one that
    /// this version knows.
    pub async fn migrate(&self) -> Result<Vec<Migration>, StoreError> {
        let mut tx = match self {
            // Not `write`: a large table may need longer than a change of a flag.
            Self::Postgres { pool, .. } => Tx::Postgres(pool.begin().await?),
            Self::Sqlite { .. } => self.begin_writing().await?,
        };
        if let Tx::Postgres(tx) = &mut tx {
            check_postgres(tx).await?;
            sqlx::raw_sql(POSTGRES_LOCK).execute(&mut **tx).await?;
        }
        on_tx!(&mut tx, c => sqlx::raw_sql(CREATE_TABLE).execute(c).await.map(|_| ()))?;
        let applied: Vec<(i64, String)> = on_tx!(&mut tx, c => {
            sql!(APPLIED => (i64, String)).fetch_all(c).await
        })?;
        let done = missing(matches!(tx, Tx::Postgres(_)), &applied)?;
        for migration in &done {
            let text = migration.text(matches!(tx, Tx::Postgres(_)));
            on_tx!(&mut tx, c => {
                sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *c).await?;
                sql!(RECORD)
                    .bind(migration.number)
                    .bind(migration.name)
                    .bind(checksum(text))
                    .execute(&mut *c)
                    .await
                    .map(|_| ())
            })?;
        }
        if done.iter().any(|migration| migration.number == ACCOUNTABILITY) {
            tx.chain_audit().await?;
        }
        if let Tx::Postgres(tx) = &mut tx {
            history::begin(tx).await?;
        }
        tx.commit().await?;
        Ok(done)
    }
}

impl Migration {
    fn text(&self, is_postgres: bool) -> &'static str {
        if is_postgres { self.postgres } else { self.sqlite }
    }
}

fn checksum(text: &str) -> String {
    hex::encode(Sha256::digest(text))
}

/// Fails if PostgreSQL is too old.
pub(super) async fn check_postgres(
    tx: &mut Transaction<'static, Postgres>,
) -> Result<(), StoreError> {
    let (version,) = sql!(POSTGRES_VERSION => (i32,)).fetch_one(&mut **tx).await?;
    if version < POSTGRES_VERSION_MIN {
        return Err(StoreError::Schema("PostgreSQL 14 or newer is needed".to_owned()));
    }
    Ok(())
}

/// The migrations that are not among those that were applied.
pub(super) fn missing(
    is_postgres: bool,
    applied: &[(i64, String)],
) -> Result<Vec<Migration>, StoreError> {
    let mut missing = Vec::new();
    for migration in MIGRATIONS {
        let checksum = checksum(migration.text(is_postgres));
        match applied.iter().find(|(number, _)| *number == migration.number) {
            Some((_, recorded)) if *recorded == checksum => {}
            Some(_) => return Err(changed(migration)),
            None => missing.push(*migration),
        }
    }
    if applied.len() + missing.len() > MIGRATIONS.len() {
        let detail = "the database was written by a newer version of vexil; upgrade this one";
        return Err(StoreError::Schema(detail.to_owned()));
    }
    Ok(missing)
}

fn changed(migration: &Migration) -> StoreError {
    StoreError::Schema(format!(
        "migration {} ({}) was applied from another text than this version has",
        migration.number, migration.name
    ))
}
