//! Replicas: which processes follow, and how far each has come. Only PostgreSQL has several.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::sql;
use std::collections::BTreeMap;

/// A process that has been seen lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRecord {
    /// Identifies the process; another one after each start.
    pub id: String,
    /// For people.
    pub name: String,
    /// Where it stood when it was last seen: the directory under 0, and each environment under its number.
    pub positions: BTreeMap<EnvId, Position>,
}

/// The number under which the position of the directory stands; no environment has it.
pub const DIRECTORY: EnvId = 0;

/// Lost with the last moments before a crash, and written anew a second later.
const ASYNCHRONOUS: &str = "set local synchronous_commit = off";
const BEAT: &str = "insert into replica (id, name, positions, seen_at)
    values ($1, $2, $3, clock_timestamp())
    on conflict (id) do update set positions = excluded.positions, seen_at = excluded.seen_at";
const FORGET_OLD: &str =
    "delete from replica where seen_at < clock_timestamp() - interval '1 hour'";
const FORGET: &str = "delete from replica where id = $1";
/// Those that have not been seen for longer are taken for dead; each is seen once a second.
const LIVE: &str = "select id, name, positions from replica
    where seen_at > clock_timestamp() - interval '5 seconds' order by name, id";

impl Store {
    /// Notes that a process lives and how far it has come. On SQLite there is only one, which nobody asks about.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn beat(&self, replica: &ReplicaRecord) -> Result<(), StoreError> {
        let Self::Postgres(_) = self else { return Ok(()) };
        let Tx::Postgres(mut tx) = self.begin_writing().await? else { return Ok(()) };
        let positions: BTreeMap<EnvId, (i64, i64)> =
            replica.positions.iter().map(|(env, at)| (*env, (at.epoch, at.version))).collect();
        // OK because numbers have a JSON form.
        let positions = serde_json::to_string(&positions).unwrap_or_default();
        sql!(ASYNCHRONOUS).execute(&mut *tx).await?;
        let beat = sql!(BEAT).bind(&replica.id).bind(&replica.name).bind(positions);
        beat.execute(&mut *tx).await?;
        sql!(FORGET_OLD).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes that a process has ended.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sign_off(&self, id: &str) -> Result<(), StoreError> {
        let Self::Postgres(pool) = self else { return Ok(()) };
        sql!(FORGET).bind(id).execute(pool).await?;
        Ok(())
    }

    /// Reads all processes that live; none on SQLite.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn replicas(&self) -> Result<Vec<ReplicaRecord>, StoreError> {
        let Self::Postgres(pool) = self else { return Ok(Vec::new()) };
        let rows = sql!(LIVE => (String, String, String)).fetch_all(pool).await?;
        let read = |(id, name, positions): (String, String, String)| {
            // What cannot be read has confirmed nothing.
            let positions: BTreeMap<EnvId, (i64, i64)> =
                serde_json::from_str(&positions).unwrap_or_default();
            let position = |(env, (epoch, version))| (env, Position { epoch, version });
            ReplicaRecord { id, name, positions: positions.into_iter().map(position).collect() }
        };
        Ok(rows.into_iter().map(read).collect())
    }
}
