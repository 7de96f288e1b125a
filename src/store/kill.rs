//! Which flags each kill turned off, so that it can be undone as a whole.

use crate::model::change::EnvId;
use crate::model::key::FlagKey;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// Kills that one restore looks through; older ones are undone by their ids.
const OPEN_KILLS_MAX: i64 = 1_000;

/// A kill that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct KillRecord {
    /// Its id.
    pub id: String,
    /// The environment's version that it made.
    pub version: i64,
    /// The flags that it turned off, or would have, had they been on; by key.
    pub flags: Vec<FlagKey>,
    /// The tags by which they were chosen.
    pub tags: Vec<String>,
    /// When.
    pub at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct KillRow {
    id: String,
    version: i64,
    flags: String,
    tags: String,
    at: jiff_sqlx::Timestamp,
}

impl KillRow {
    fn read(self) -> Result<KillRecord, StoreError> {
        Ok(KillRecord {
            flags: read_body("kill", &self.id, &self.flags)?,
            tags: read_body("kill", &self.id, &self.tags)?,
            version: self.version,
            at: self.at.to_jiff(),
            id: self.id,
        })
    }
}

const INSERT_KILL: &str = "insert into kill (id, environment_id, version, flags, tags, at)
    values ($1, $2, $3, $4, $5, $6)";
const OPEN_KILLS: &str = "select id, version, flags, tags, at from kill
    where environment_id = $1 and restored_at is null and tags <> '[]'
    order by version desc limit $2";
const KILL: &str = "select id, version, flags, tags, at from kill
    where environment_id = $1 and id = $2 and restored_at is null";
const CLOSE_KILL: &str = "update kill set restored_at = $2 where id = $1";

impl Tx {
    /// Notes that a kill was made.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_kill(&mut self, env: EnvId, kill: &KillRecord) -> Result<(), StoreError> {
        let (flags, tags) = (write_body(&kill.flags)?, write_body(&kill.tags)?);
        on_tx!(self, c => {
            let query = sql!(INSERT_KILL).bind(&kill.id).bind(env).bind(kill.version).bind(flags);
            query.bind(tags).bind(kill.at.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Reads the kills by tag of an environment that were not undone, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn open_kills(&mut self, env: EnvId) -> Result<Vec<KillRecord>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(OPEN_KILLS => KillRow).bind(env).bind(OPEN_KILLS_MAX).fetch_all(c).await
        })?;
        rows.into_iter().map(KillRow::read).collect()
    }

    /// Reads a kill that was not undone; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn kill(&mut self, env: EnvId, id: &str) -> Result<Option<KillRecord>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(KILL => KillRow).bind(env).bind(id).fetch_optional(c).await
        })?;
        row.map(KillRow::read).transpose()
    }

    /// Notes that a kill was undone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn close_kill(&mut self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        on_tx!(self, c => {
            sql!(CLOSE_KILL).bind(id).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }
}
