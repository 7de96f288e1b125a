//! Writing many rows at once: one statement for hundreds of them, so that a large import fits into one transaction.
//!
//! What a single row is, and how it is read, is in `flag` and `segment`.

use crate::model::change::EnvId;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::QueryBuilder;
use std::collections::BTreeMap;

/// Rows that one statement writes; SQLite takes 32,766 parameters, and a row has at most seven.
const ROWS_MAX: usize = 500;

const DEFINITIONS: &str = "select key, body, deleted_at is not null from flag
    where project_key = $1";
const LOCK_ENVIRONMENT: &str = "update environment set version = version where id = $1";
const INSERT_DEFINITIONS: &str = "insert into flag (project_key, key, body, created_at) ";
const INSERT_CONFIGS: &str =
    "insert into flag_config (environment_id, flag_key, body, version, changed_at, is_deleted) ";
/// A configuration that is written this way ends a kill.
const REPLACE_CONFIGS: &str = " on conflict (environment_id, flag_key) do update
    set body = excluded.body, killed = null, version = excluded.version,
        changed_at = excluded.changed_at";
const INSERT_SEGMENTS: &str =
    "insert into segment (environment_id, key, body, version, created_at, changed_at, is_deleted) ";
const REPLACE_SEGMENTS: &str = " on conflict (environment_id, key) do update
    set body = excluded.body, version = excluded.version, changed_at = excluded.changed_at,
        created_at = case when segment.is_deleted then excluded.created_at
            else segment.created_at end,
        is_deleted = false";

impl Tx {
    /// Reads every definition that a project has or ever had, and whether the flag was deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn all_definitions(
        &mut self,
        project: &ProjectKey,
    ) -> Result<BTreeMap<FlagKey, (FlagDefinition, bool)>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(DEFINITIONS => (String, String, bool)).bind(project.as_str()).fetch_all(c).await
        })?;
        let read = |(key, body, is_deleted): (String, String, bool)| {
            let definition = read_body("flag", &key, &body)?;
            Ok((FlagKey::stored(&key), (definition, is_deleted)))
        };
        rows.into_iter().map(read).collect()
    }

    /// Locks an environment without counting a change; returns `false` if there is none any more.
    ///
    /// Several are locked in the order of their numbers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if somebody else holds the lock for too long.
    pub async fn lock_environment(&mut self, env: EnvId) -> Result<bool, StoreError> {
        let n_rows =
            on_tx!(self, c => sql!(LOCK_ENVIRONMENT).bind(env).execute(c).await?.rows_affected());
        Ok(n_rows == 1)
    }

    /// Creates definitions, whose keys must be new and different.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_definitions(
        &mut self,
        project: &ProjectKey,
        definitions: &[FlagDefinition],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in definitions.chunks(ROWS_MAX) {
            let mut rows = Vec::with_capacity(chunk.len());
            for definition in chunk {
                rows.push((definition.key.as_str(), write_body(definition)?));
            }
            on_tx!(self, c => {
                let mut query = QueryBuilder::new(INSERT_DEFINITIONS);
                query.push_values(rows, |mut row, (key, body)| {
                    row.push_bind(project.as_str());
                    row.push_bind(key).push_bind(body).push_bind(now.to_sqlx());
                });
                query.build().persistent(false).execute(c).await.map(|_| ())
            })?;
        }
        Ok(())
    }

    /// Creates or replaces configurations of different flags in an environment, as of `version`; a kill of theirs ends.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_configs(
        &mut self,
        env: EnvId,
        configs: &[(FlagKey, FlagConfig)],
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in configs.chunks(ROWS_MAX) {
            let mut rows = Vec::with_capacity(chunk.len());
            for (key, config) in chunk {
                rows.push((key.as_str(), write_body(config)?));
            }
            on_tx!(self, c => {
                let mut query = QueryBuilder::new(INSERT_CONFIGS);
                query.push_values(rows, |mut row, (key, body)| {
                    row.push_bind(env).push_bind(key).push_bind(body).push_bind(version);
                    row.push_bind(now.to_sqlx()).push_bind(false);
                });
                query.push(REPLACE_CONFIGS);
                query.build().persistent(false).execute(c).await.map(|_| ())
            })?;
        }
        Ok(())
    }

    /// Creates or replaces different segments, as of `version`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_segments(
        &mut self,
        env: EnvId,
        segments: &[Segment],
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for chunk in segments.chunks(ROWS_MAX) {
            let mut rows = Vec::with_capacity(chunk.len());
            for segment in chunk {
                rows.push((segment.key.as_str(), write_body(segment)?));
            }
            on_tx!(self, c => {
                let mut query = QueryBuilder::new(INSERT_SEGMENTS);
                query.push_values(rows, |mut row, (key, body)| {
                    row.push_bind(env).push_bind(key).push_bind(body).push_bind(version);
                    row.push_bind(now.to_sqlx()).push_bind(now.to_sqlx()).push_bind(false);
                });
                query.push(REPLACE_SEGMENTS);
                query.build().persistent(false).execute(c).await.map(|_| ())
            })?;
        }
        Ok(())
    }
}
