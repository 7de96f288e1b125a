//! Earlier configurations of flags: which there were, who made them, and their bodies.
//!
//! They are written by triggers of the database, see the migration `accountability`.

use crate::model::change::Actor;
use crate::model::change::EnvId;
use crate::model::key::FlagKey;
use crate::model::rule::FlagConfig;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::audit::raw_actor;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use sqlx::QueryBuilder;

/// A version of a flag in an environment.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagVersion {
    /// The environment's version that made it.
    pub version: i64,
    /// The entry of the audit log that tells of it; `None` if that is older than the log of changes.
    pub made: Option<Made>,
}

/// Who made a version, when, and what was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The id of the audit entry.
    pub audit_id: String,
    /// When.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// What was done, as the audit log names it.
    pub action: String,
    /// Why.
    pub comment: Option<String>,
    /// What was done, in words.
    pub changes: Vec<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    version: i64,
    id: Option<String>,
    at: Option<jiff_sqlx::Timestamp>,
    actor: Option<String>,
    action: Option<String>,
    comment: Option<String>,
    changes: Option<String>,
}

const VERSIONS: &str = "select v.version, a.id, a.at, a.actor, a.action, a.comment, a.changes
    from flag_version v
    left join change_log l on l.environment_id = v.environment_id and l.version = v.version
    left join audit a on a.id = l.audit_id
    where v.environment_id = $1 and v.flag_key = $2 and ($3 = 0 or v.version < $3)
    order by v.version desc limit $4";
const VERSION: &str = "select body from flag_version
    where environment_id = $1 and flag_key = $2 and version = $3";
const MAKER: &str = "select l.version, a.id, a.at, a.actor, a.action, a.comment, a.changes
    from change_log l join audit a on a.id = l.audit_id
    where l.environment_id = $1 and l.version = $2";
/// Versions of a flag, and those of others in which its key occurs as a prerequisite's is written.
macro_rules! earlier {
    ($position:literal) => {
        concat!(
            "select flag_key, version, body from flag_version where environment_id = $1 and (flag_key = $2 or ",
            $position,
            "(body, $3) > 0)"
        )
    };
}
const EARLIER_POSTGRES: &str = earlier!("strpos");
const EARLIER_SQLITE: &str = earlier!("instr");
const PUT_EARLIER: &str = "insert into flag_version (environment_id, flag_key, version, body) ";
const REPLACE_EARLIER: &str = " on conflict (environment_id, flag_key, version) do update
    set body = excluded.body";
const FORGET: &str = "delete from flag_version
    where environment_id = $1 and flag_key = $2 and version = $3";
/// Rows that one statement writes; SQLite takes 32,766 parameters, and a row has four.
const ROWS_MAX: usize = 500;

/// An earlier configuration of a flag.
#[derive(Debug, Clone, PartialEq)]
pub struct EarlierConfig {
    /// The flag.
    pub flag: FlagKey,
    /// The environment's version that made it.
    pub version: i64,
    /// What it was.
    pub config: FlagConfig,
}

impl Tx {
    /// Reads all that is kept of a flag in an environment, and of others what may have it as a prerequisite; what cannot be read is
    /// left out, because nobody can go back to it.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn earlier_configs(
        &mut self,
        env: EnvId,
        key: &FlagKey,
    ) -> Result<Vec<EarlierConfig>, StoreError> {
        let sql = match self {
            Self::Postgres(_) => EARLIER_POSTGRES,
            Self::Sqlite(_) => EARLIER_SQLITE,
        };
        let asked = format!("{{\"key\":\"{key}\",");
        let rows = on_tx!(self, c => {
            let query = sql!(sql => (String, i64, String)).bind(env).bind(key.as_str());
            query.bind(asked).fetch_all(c).await
        })?;
        let read = |(flag, version, body): (String, i64, String)| {
            let config = serde_json::from_str(&body).ok()?;
            Some(EarlierConfig { flag: FlagKey::stored(&flag), version, config })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Writes earlier configurations anew.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_earlier(
        &mut self,
        env: EnvId,
        earlier: &[EarlierConfig],
    ) -> Result<(), StoreError> {
        for chunk in earlier.chunks(ROWS_MAX) {
            let mut rows = Vec::with_capacity(chunk.len());
            for EarlierConfig { flag, version, config } in chunk {
                rows.push((flag.as_str(), *version, write_body(config)?));
            }
            on_tx!(self, c => {
                let mut query = QueryBuilder::new(PUT_EARLIER);
                query.push_values(rows, |mut row, (key, version, body)| {
                    row.push_bind(env).push_bind(key).push_bind(version).push_bind(body);
                });
                query.push(REPLACE_EARLIER);
                query.build().persistent(false).execute(c).await.map(|_| ())
            })?;
        }
        Ok(())
    }

    /// Forgets a version of a flag in an environment.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn forget_flag_version(
        &mut self,
        env: EnvId,
        key: &FlagKey,
        version: i64,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(FORGET).bind(env).bind(key.as_str()).bind(version);
            query.execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Reads the versions of a flag in an environment, newest first; those before `before`, unless that is 0.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn flag_versions(
        &mut self,
        env: EnvId,
        key: &FlagKey,
        before: i64,
        limit: i64,
    ) -> Result<Vec<FlagVersion>, StoreError> {
        let rows = on_tx!(self, c => {
            let query = sql!(VERSIONS => Row).bind(env).bind(key.as_str()).bind(before).bind(limit);
            query.fetch_all(c).await
        })?;
        Ok(rows.into_iter().map(Row::read).collect())
    }

    /// Reads who made a version of an environment; `None` if that is not known.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn maker(&mut self, env: EnvId, version: i64) -> Result<Option<Made>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(MAKER => Row).bind(env).bind(version).fetch_optional(c).await
        })?;
        Ok(row.map(Row::read).and_then(|version| version.made))
    }

    /// Reads the configuration that a flag had at a version; `None` if that is not kept.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn config_at(
        &mut self,
        env: EnvId,
        key: &FlagKey,
        version: i64,
    ) -> Result<Option<FlagConfig>, StoreError> {
        let row = on_tx!(self, c => {
            let query = sql!(VERSION => (String,)).bind(env).bind(key.as_str()).bind(version);
            query.fetch_optional(c).await
        })?;
        row.map(|(body,)| read_body("flag_version", key.as_str(), &body)).transpose()
    }
}

impl Row {
    /// An audit entry that was damaged is told as it is stored.
    fn read(self) -> FlagVersion {
        let Self { version, id, at, actor, action, comment, changes } = self;
        let made = match (id, at, actor, action, changes) {
            (Some(audit_id), Some(at), Some(actor), Some(action), Some(changes)) => Some(Made {
                at: at.to_jiff(),
                actor: serde_json::from_str(&actor).unwrap_or_else(|_| raw_actor(actor)),
                action,
                comment,
                changes: serde_json::from_str(&changes).unwrap_or_else(|_| vec![changes]),
                audit_id,
            }),
            _ => None,
        };
        FlagVersion { version, made }
    }
}
