//! Writing and reading many flags of one environment at once, as changes of many and emergencies do.
//!
//! What a single row is, is in `flag`.

use crate::model::change::EnvId;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::StoreError;
use crate::store::StoredFlag;
use crate::store::Tx;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::QueryBuilder;
use std::collections::BTreeMap;

/// Rows that one statement writes; SQLite takes 32,766 parameters, and a row has seven.
const ROWS_MAX: usize = 500;

const INSERT_CONFIGS: &str = "insert into flag_config
    (environment_id, flag_key, body, killed, version, changed_at, is_deleted) ";
const REPLACE_CONFIGS: &str = " on conflict (environment_id, flag_key) do update
    set body = excluded.body, killed = excluded.killed, version = excluded.version,
        changed_at = excluded.changed_at";

const DEFINITION_TIMES: &str =
    "select key, created_at from flag where project_key = $1 and deleted_at is null";

impl Tx {
    /// Reads when each flag of a project was created.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn definition_times(
        &mut self,
        project: &ProjectKey,
    ) -> Result<BTreeMap<FlagKey, Timestamp>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(DEFINITION_TIMES => (String, jiff_sqlx::Timestamp))
                .bind(project.as_str())
                .fetch_all(c)
                .await
        })?;
        Ok(rows.into_iter().map(|(key, at)| (FlagKey::stored(&key), at.to_jiff())).collect())
    }

    /// Writes the configurations of different flags in an environment with how they were before they were killed, as of `version`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_flags(
        &mut self,
        env: EnvId,
        flags: &[&StoredFlag],
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in flags.chunks(ROWS_MAX) {
            let mut rows = Vec::with_capacity(chunk.len());
            for flag in chunk {
                let killed = flag.killed.as_ref().map(write_body).transpose()?;
                rows.push((flag.definition.key.as_str(), write_body(&flag.config)?, killed));
            }
            on_tx!(self, c => {
                let mut query = QueryBuilder::new(INSERT_CONFIGS);
                query.push_values(rows, |mut row, (key, body, killed)| {
                    row.push_bind(env).push_bind(key).push_bind(body).push_bind(killed);
                    row.push_bind(version).push_bind(now.to_sqlx()).push_bind(false);
                });
                query.push(REPLACE_CONFIGS);
                query.build().persistent(false).execute(c).await.map(|_| ())
            })?;
        }
        Ok(())
    }
}
