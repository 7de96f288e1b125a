//! Flags: their definitions and their configurations.

use crate::model::change::EnvId;
use crate::model::change::Kill;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::rule::FlagConfig;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use std::collections::BTreeMap;

/// A flag in one environment.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredFlag {
    /// What it is everywhere.
    pub definition: FlagDefinition,
    /// What it is in this environment.
    pub config: FlagConfig,
    /// How it was before it was killed, if it was killed and neither restored nor turned on since.
    pub killed: Option<Kill>,
    /// The environment's version at which definition or configuration last changed.
    pub version: i64,
    /// When the flag was created.
    pub created_at: Timestamp,
    /// When it last changed in this environment.
    pub changed_at: Timestamp,
}

/// A flag that differs from an earlier version of its environment.
#[derive(Debug)]
pub struct ChangedFlag {
    /// Its key.
    pub key: FlagKey,
    /// The environment's version at which it last changed.
    pub version: i64,
    /// What is stored of it; `None` if the flag was deleted.
    pub text: Option<FlagText>,
}

/// A flag as it is stored: two JSON texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagText {
    /// What it is everywhere.
    pub definition: Box<str>,
    /// What it is in the environment.
    pub config: Box<str>,
}

impl ChangedFlag {
    /// Reads definition and configuration; `None` if the flag was deleted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub fn read(&self) -> Result<Option<(FlagDefinition, FlagConfig)>, StoreError> {
        let Some(text) = &self.text else { return Ok(None) };
        let definition = read_body("flag", self.key.as_str(), &text.definition)?;
        let config = read_body("flag_config", self.key.as_str(), &text.config)?;
        Ok(Some((definition, config)))
    }
}

#[derive(sqlx::FromRow)]
struct FlagRow {
    flag_key: String,
    definition: String,
    config: String,
    killed: Option<String>,
    version: i64,
    created_at: jiff_sqlx::Timestamp,
    changed_at: jiff_sqlx::Timestamp,
}

impl FlagRow {
    fn read(&self) -> Result<StoredFlag, StoreError> {
        let key = &self.flag_key;
        let killed = self.killed.as_deref().map(|body| read_body("flag_config", key, body));
        Ok(StoredFlag {
            definition: read_body("flag", key, &self.definition)?,
            config: read_body("flag_config", key, &self.config)?,
            killed: killed.transpose()?,
            version: self.version,
            created_at: self.created_at.to_jiff(),
            changed_at: self.changed_at.to_jiff(),
        })
    }
}

#[derive(sqlx::FromRow)]
struct ChangedFlagRow {
    flag_key: String,
    definition: String,
    config: String,
    version: i64,
    is_deleted: bool,
}

impl From<ChangedFlagRow> for ChangedFlag {
    fn from(row: ChangedFlagRow) -> Self {
        let text = FlagText {
            definition: row.definition.into_boxed_str(),
            config: row.config.into_boxed_str(),
        };
        Self {
            key: FlagKey::stored(&row.flag_key),
            version: row.version,
            text: (!row.is_deleted).then_some(text),
        }
    }
}

const DEFINITIONS: &str =
    "select key, body from flag where project_key = $1 and deleted_at is null";
const DEFINITION: &str = "select body, deleted_at is not null from flag
    where project_key = $1 and key = $2";
const COUNT_DEFINITIONS: &str = "select count(*) from flag where project_key = $1";
const INSERT_DEFINITION: &str = "insert into flag (project_key, key, body, created_at)
    values ($1, $2, $3, $4)";
const UPDATE_DEFINITION: &str = "update flag set body = $3 where project_key = $1 and key = $2";
const DELETE_DEFINITION: &str = "update flag set deleted_at = $3
    where project_key = $1 and key = $2 and deleted_at is null";

const FLAGS: &str =
    "select c.flag_key, f.body as definition, c.body as config, c.killed, c.version,
        f.created_at, c.changed_at
    from flag_config c join flag f on f.project_key = $1 and f.key = c.flag_key
    where c.environment_id = $2 and not c.is_deleted";
const FLAG: &str = "select c.flag_key, f.body as definition, c.body as config, c.killed, c.version,
        f.created_at, c.changed_at
    from flag_config c join flag f on f.project_key = $1 and f.key = c.flag_key
    where c.environment_id = $2 and c.flag_key = $3 and not c.is_deleted";
const CHANGED_FLAGS: &str = "select c.flag_key, f.body as definition, c.body as config, c.version,
        c.is_deleted
    from flag_config c join flag f on f.project_key = $1 and f.key = c.flag_key
    where c.environment_id = $2 and c.version > $3";
const PUT_CONFIG: &str =
    "insert into flag_config (environment_id, flag_key, body, killed, version, changed_at, is_deleted)
    values ($1, $2, $3, $4, $5, $6, false)
    on conflict (environment_id, flag_key) do update
    set body = excluded.body, killed = excluded.killed, version = excluded.version,
        changed_at = excluded.changed_at";
const TOUCH_CONFIG: &str = "update flag_config set version = $3, changed_at = $4
    where environment_id = $1 and flag_key = $2";
const DELETE_CONFIG: &str =
    "update flag_config set is_deleted = true, version = $3, changed_at = $4
    where environment_id = $1 and flag_key = $2";
impl Tx {
    /// Reads the definitions of a project, by key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn definitions(
        &mut self,
        project: &ProjectKey,
    ) -> Result<Vec<FlagDefinition>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(DEFINITIONS => (String, String)).bind(project.as_str()).fetch_all(c).await
        })?;
        let read = |(key, body): (String, String)| read_body("flag", &key, &body);
        let mut definitions: Vec<FlagDefinition> =
            rows.into_iter().map(read).collect::<Result<_, _>>()?;
        definitions.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(definitions)
    }

    /// Reads the definition of a flag, and whether the flag was deleted; `None` if there never was such a flag.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn definition(
        &mut self,
        project: &ProjectKey,
        key: &FlagKey,
    ) -> Result<Option<(FlagDefinition, bool)>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(DEFINITION => (String, bool))
                .bind(project.as_str())
                .bind(key.as_str())
                .fetch_optional(c)
                .await
        })?;
        let read = |(body, is_deleted): (String, bool)| {
            read_body("flag", key.as_str(), &body).map(|definition| (definition, is_deleted))
        };
        row.map(read).transpose()
    }

    /// Counts the flags of a project, deleted ones included.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn count_definitions(&mut self, project: &ProjectKey) -> Result<i64, StoreError> {
        let (count,) = on_tx!(self, c => {
            sql!(COUNT_DEFINITIONS => (i64,)).bind(project.as_str()).fetch_one(c).await
        })?;
        Ok(count)
    }

    /// Creates a definition, whose key must be new.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_definition(
        &mut self,
        project: &ProjectKey,
        definition: &FlagDefinition,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let body = write_body(definition)?;
        on_tx!(self, c => {
            let query = sql!(INSERT_DEFINITION).bind(project.as_str()).bind(definition.key.as_str());
            query.bind(body).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Replaces a definition.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn update_definition(
        &mut self,
        project: &ProjectKey,
        definition: &FlagDefinition,
    ) -> Result<(), StoreError> {
        let body = write_body(definition)?;
        on_tx!(self, c => {
            let query = sql!(UPDATE_DEFINITION).bind(project.as_str()).bind(definition.key.as_str());
            query.bind(body).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Marks a definition as deleted, so that its key stays taken; returns `false` if there is no such flag.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn delete_definition(
        &mut self,
        project: &ProjectKey,
        key: &FlagKey,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(DELETE_DEFINITION).bind(project.as_str()).bind(key.as_str());
            query.bind(now.to_sqlx()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Reads all flags of an environment, by key.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn flags(
        &mut self,
        project: &ProjectKey,
        env: EnvId,
    ) -> Result<Vec<StoredFlag>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(FLAGS => FlagRow).bind(project.as_str()).bind(env).fetch_all(c).await
        })?;
        let mut flags: Vec<StoredFlag> =
            rows.iter().map(FlagRow::read).collect::<Result<_, _>>()?;
        flags.sort_by(|left, right| left.definition.key.cmp(&right.definition.key));
        Ok(flags)
    }

    /// Reads the flags of an environment that can be read; and which cannot, with their tags, if those can be read.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn readable_flags(
        &mut self,
        project: &ProjectKey,
        env: EnvId,
    ) -> Result<(Vec<StoredFlag>, BTreeMap<FlagKey, Option<Vec<String>>>), StoreError> {
        let rows = on_tx!(self, c => {
            sql!(FLAGS => FlagRow).bind(project.as_str()).bind(env).fetch_all(c).await
        })?;
        let (mut flags, mut unreadable) = (Vec::with_capacity(rows.len()), BTreeMap::new());
        for row in rows {
            match row.read() {
                Ok(flag) => flags.push(flag),
                Err(_) => {
                    let definition =
                        read_body::<FlagDefinition>("flag", &row.flag_key, &row.definition);
                    let tags = definition.ok().map(|definition| definition.tags);
                    unreadable.insert(FlagKey::stored(&row.flag_key), tags);
                }
            }
        }
        Ok((flags, unreadable))
    }

    /// Reads a flag of an environment; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn flag(
        &mut self,
        project: &ProjectKey,
        env: EnvId,
        key: &FlagKey,
    ) -> Result<Option<StoredFlag>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(FLAG => FlagRow)
                .bind(project.as_str())
                .bind(env)
                .bind(key.as_str())
                .fetch_optional(c)
                .await
        })?;
        row.as_ref().map(FlagRow::read).transpose()
    }

    /// Reads the flags that changed after `version`, deleted ones included; from 0, all flags.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn changed_flags(
        &mut self,
        project: &ProjectKey,
        env: EnvId,
        version: i64,
    ) -> Result<Vec<ChangedFlag>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(CHANGED_FLAGS => ChangedFlagRow)
                .bind(project.as_str())
                .bind(env)
                .bind(version)
                .fetch_all(c)
                .await
        })?;
        Ok(rows.into_iter().map(ChangedFlag::from).collect())
    }

    /// Creates or replaces a flag's configuration in an environment, as of `version`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn put_config(
        &mut self,
        env: EnvId,
        key: &FlagKey,
        config: &FlagConfig,
        killed: Option<&Kill>,
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let body = write_body(config)?;
        let killed = killed.map(write_body).transpose()?;
        on_tx!(self, c => {
            let query = sql!(PUT_CONFIG).bind(env).bind(key.as_str()).bind(body).bind(killed);
            query.bind(version).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Notes that a flag changed in an environment because its definition did.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn touch_config(
        &mut self,
        env: EnvId,
        key: &FlagKey,
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(TOUCH_CONFIG).bind(env).bind(key.as_str());
            query.bind(version).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Marks a flag as deleted in an environment.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn delete_config(
        &mut self,
        env: EnvId,
        key: &FlagKey,
        version: i64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(DELETE_CONFIG).bind(env).bind(key.as_str());
            query.bind(version).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }
}
