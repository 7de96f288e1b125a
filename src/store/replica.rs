//! Replicas: which processes follow, and how far each has come. Only PostgreSQL has several.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::history::check_installation;
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

/// A process that has not signed off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenReplica {
    /// Which, and how far it had come.
    pub replica: ReplicaRecord,
    /// Whether it was seen within the last five seconds; each is seen once a second.
    pub is_live: bool,
}

/// The number under which the position of the directory stands; no environment has it.
pub const DIRECTORY: EnvId = 0;

/// Begins what is lost with the last moments before a crash, and written anew a second later. Few round trips: on a slow link each
/// makes a replica that lives look as if it did not.
const BEGIN_BEAT: &str = "begin; set local synchronous_commit = off; set local lock_timeout = '2s';
    set local statement_timeout = '3s'; set local idle_in_transaction_session_timeout = '5s'";
const BEAT: &str = "with forgotten as
        (delete from replica where seen_at < clock_timestamp() - interval '1 hour' and id <> $1)
    insert into replica (id, name, positions, seen_at)
    values ($1, $2, $3, clock_timestamp())
    on conflict (id) do update set positions = excluded.positions, seen_at = excluded.seen_at";
const FORGET: &str = "delete from replica where id = $1";
const SEEN: &str = "select id, name, positions, seen_at > clock_timestamp() - interval '5 seconds'
    from replica order by name, id";

impl Store {
    /// Notes that a process lives and how far it has come. On SQLite there is only one, which nobody asks about.
    ///
    /// # Errors
    ///
    /// Those of the database; [`StoreError::Regressed`] if it is another installation's.
    pub async fn beat(&self, replica: &ReplicaRecord) -> Result<(), StoreError> {
        let Self::Postgres { following, followed, .. } = self else { return Ok(()) };
        let mut tx = following.begin_with(BEGIN_BEAT).await?;
        check_installation(&mut tx, followed).await?;
        let positions: BTreeMap<EnvId, (i64, i64)> =
            replica.positions.iter().map(|(env, at)| (*env, (at.epoch, at.version))).collect();
        // OK because numbers have a JSON form.
        let positions = serde_json::to_string(&positions).unwrap_or_default();
        let beat = sql!(BEAT).bind(&replica.id).bind(&replica.name).bind(positions);
        beat.execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Notes that a process has ended; on SQLite nobody asks.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn sign_off(&self, id: &str) -> Result<(), StoreError> {
        let Self::Postgres { .. } = self else { return Ok(()) };
        let Tx::Postgres(mut tx) = self.begin_writing().await? else { return Ok(()) };
        sql!(FORGET).bind(id).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Reads all processes that were seen in the last hour and have not signed off; none on SQLite.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn replicas(&self) -> Result<Vec<SeenReplica>, StoreError> {
        let Tx::Postgres(mut tx) = self.read().await? else { return Ok(Vec::new()) };
        let rows = sql!(SEEN => (String, String, String, bool)).fetch_all(&mut *tx).await?;
        let read = |(id, name, positions, is_live): (String, String, String, bool)| {
            // What cannot be read has confirmed nothing.
            let positions: BTreeMap<EnvId, (i64, i64)> =
                serde_json::from_str(&positions).unwrap_or_default();
            let position = |(env, (epoch, version))| (env, Position { epoch, version });
            let positions = positions.into_iter().map(position).collect();
            SeenReplica { replica: ReplicaRecord { id, name, positions }, is_live }
        };
        Ok(rows.into_iter().map(read).collect())
    }
}
