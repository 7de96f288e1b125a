//! Looking at a database without changing it: whether it answers, and which migrations it lacks.
//!
//! Takes no lock, so it is safe beside a server that runs. Applying what is missing is done in `migrate`.

use crate::store::Migration;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::dialect::SQLITE_FILE;
use crate::store::migrate::missing;
use crate::store::on_tx;
use crate::store::sql;
use secrecy::SecretString;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::sqlite::SqlitePoolOptions;
use std::path::Path;

const HAS_TABLE_POSTGRES: &str =
    "select count(*) from information_schema.tables where table_schema = any (current_schemas(false))
        and table_name = 'schema_migration'";
const HAS_TABLE_SQLITE: &str =
    "select count(*) from sqlite_master where type = 'table' and name = 'schema_migration'";
const APPLIED: &str = "select number, checksum from schema_migration order by number";

/// What a database lacks.
#[derive(Debug)]
pub struct SchemaState {
    /// Whether it has no tables of ours yet.
    pub is_new: bool,
    /// The migrations that a start would apply.
    pub missing: Vec<Migration>,
}

/// Looks at a PostgreSQL database.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if it does not answer, [`StoreError::Schema`] if the URL is wrong, it is too old, or its tables
/// are not those that this version knows.
pub async fn inspect_postgres(url: &SecretString) -> Result<SchemaState, StoreError> {
    let store = Store::postgres(url)?;
    let state = async { inspect(store.read().await?).await }.await;
    store.close().await;
    state
}

/// Looks at the SQLite file in a data directory, if there is one.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if it cannot be read, [`StoreError::Schema`] if its tables are not those that this version
/// knows.
pub async fn inspect_sqlite(data_dir: &Path) -> Result<SchemaState, StoreError> {
    let path = data_dir.join(SQLITE_FILE);
    if !path.exists() {
        return Ok(SchemaState { is_new: true, missing: missing(false, &[])? });
    }
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let state = async { inspect(Tx::Sqlite(pool.begin().await?)).await }.await;
    pool.close().await;
    state
}

impl Store {
    /// Whether no migration is missing.
    ///
    /// # Errors
    ///
    /// As [`inspect_postgres`].
    pub async fn is_current(&self) -> Result<bool, StoreError> {
        Ok(inspect(self.look().await?).await?.missing.is_empty())
    }
}

async fn inspect(mut tx: Tx) -> Result<SchemaState, StoreError> {
    let is_postgres = matches!(tx, Tx::Postgres(_));
    if let Tx::Postgres(tx) = &mut tx {
        crate::store::migrate::check_postgres(tx).await?;
    }
    let query = if is_postgres { HAS_TABLE_POSTGRES } else { HAS_TABLE_SQLITE };
    let (n_tables,): (i64,) = on_tx!(&mut tx, c => sql!(query => (i64,)).fetch_one(c).await)?;
    if n_tables == 0 {
        return Ok(SchemaState { is_new: true, missing: missing(is_postgres, &[])? });
    }
    let applied: Vec<(i64, String)> =
        on_tx!(&mut tx, c => sql!(APPLIED => (i64, String)).fetch_all(c).await)?;
    Ok(SchemaState { is_new: false, missing: missing(is_postgres, &applied)? })
}
