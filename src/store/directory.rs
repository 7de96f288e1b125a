//! Projects, environments and the versions of everything.

use crate::model::change::EnvId;
use crate::model::environment::SERVER_SDKS;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use std::time::Duration;

/// A project.
#[derive(Debug, Clone, PartialEq)]
pub struct ProjectRecord {
    /// Its key.
    pub key: ProjectKey,
    /// For people.
    pub name: String,
    /// When it was created.
    pub created_at: Timestamp,
}

/// An environment.
#[derive(Debug, Clone, PartialEq)]
pub struct EnvironmentRecord {
    /// Its number in the database.
    pub id: EnvId,
    /// The project that it belongs to.
    pub project: ProjectKey,
    /// Its key.
    pub key: EnvKey,
    /// For people.
    pub name: String,
    /// Which server-side SDKs evaluate its flags by themselves.
    pub server_sdk: ServerSdk,
    /// How long evaluations go on without confirmation; `None` is for ever.
    pub fail_closed_after: Option<Duration>,
    /// What keeps it from being changed by mistake.
    pub safety: Safety,
    /// How often it was changed.
    pub version: i64,
    /// When it was created.
    pub created_at: Timestamp,
}

#[derive(sqlx::FromRow)]
struct ProjectRow {
    key: String,
    name: String,
    created_at: jiff_sqlx::Timestamp,
}

impl From<ProjectRow> for ProjectRecord {
    fn from(row: ProjectRow) -> Self {
        Self {
            key: ProjectKey::stored(&row.key),
            name: row.name,
            created_at: row.created_at.to_jiff(),
        }
    }
}

#[derive(sqlx::FromRow)]
struct EnvironmentRow {
    id: i64,
    project_key: String,
    key: String,
    name: String,
    server_sdk: String,
    fail_closed_after_secs: Option<i64>,
    protected: bool,
    require_comment: bool,
    require_if_match: bool,
    secure_mode: bool,
    version: i64,
    created_at: jiff_sqlx::Timestamp,
}

impl From<EnvironmentRow> for EnvironmentRecord {
    fn from(row: EnvironmentRow) -> Self {
        Self {
            id: row.id,
            project: ProjectKey::stored(&row.project_key),
            key: EnvKey::stored(&row.key),
            name: row.name,
            server_sdk: read_server_sdk(&row.server_sdk),
            fail_closed_after: row
                .fail_closed_after_secs
                .and_then(|secs| u64::try_from(secs).ok())
                .map(Duration::from_secs),
            safety: Safety {
                protected: row.protected,
                require_comment: row.require_comment,
                require_if_match: row.require_if_match,
                secure_mode: row.secure_mode,
            },
            version: row.version,
            created_at: row.created_at.to_jiff(),
        }
    }
}

/// A word that a newer version wrote reads as no SDK.
fn read_server_sdk(word: &str) -> ServerSdk {
    SERVER_SDKS.iter().find(|(known, _)| *known == word).map(|(_, sdk)| *sdk).unwrap_or_default()
}

const BUMP_DIRECTORY: &str = "update cluster set directory_version = directory_version + 1
    where id = 1 returning directory_version";

const PROJECTS: &str = "select key, name, created_at from project";
const INSERT_PROJECT: &str = "insert into project (key, name, created_at) values ($1, $2, $3)
    on conflict do nothing";
const LOCK_PROJECT: &str = "update project set name = name where key = $1";
const RENAME_PROJECT: &str = "update project set name = $2 where key = $1";
const DELETE_PROJECT: &str = "delete from project where key = $1";

const ENVIRONMENTS: &str = "select id, project_key, key, name, server_sdk,
    fail_closed_after_secs, protected, require_comment, require_if_match, secure_mode, version,
    created_at
    from environment order by id";
const INSERT_ENVIRONMENT: &str =
    "insert into environment (project_key, key, name, server_sdk, version, created_at, changed_at)
    values ($1, $2, $3, $4, 0, $5, $5) on conflict do nothing returning id";
const SERVER_SDK: &str = "select server_sdk from environment where id = $1";
const UPDATE_ENVIRONMENT: &str = "update environment set name = $2, fail_closed_after_secs = $3,
    protected = $4, require_comment = $5, require_if_match = $6,
    secure_mode = $7 where id = $1";
const SAFETY: &str = "select protected, require_comment, require_if_match, secure_mode
    from environment
    where project_key = $1 and key = $2";
const DELETE_ENVIRONMENT: &str = "delete from environment where project_key = $1 and key = $2";
const BUMP_ENVIRONMENT: &str = "update environment set version = version + 1, changed_at = $3
    where project_key = $1 and key = $2 returning id, version";
const LOG_CHANGE: &str =
    "insert into change_log (environment_id, version, flags, segments, audit_id, changed_at)
    values ($1, $2, $3, $4, $5, $6)";

impl Tx {
    /// Locks the directory of projects, environments and tokens, counts the change, and returns the new version.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn bump_directory(&mut self) -> Result<i64, StoreError> {
        let (version,) = on_tx!(self, c => sql!(BUMP_DIRECTORY => (i64,)).fetch_one(c).await)?;
        Ok(version)
    }

    /// Reads all projects, by key.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn projects(&mut self) -> Result<Vec<ProjectRecord>, StoreError> {
        let rows = on_tx!(self, c => sql!(PROJECTS => ProjectRow).fetch_all(c).await)?;
        let mut projects: Vec<_> = rows.into_iter().map(ProjectRecord::from).collect();
        projects.sort_by(|left, right| left.key.cmp(&right.key));
        Ok(projects)
    }

    /// Creates a project; returns `false` if the key is taken.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_project(
        &mut self,
        key: &ProjectKey,
        name: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(INSERT_PROJECT).bind(key.as_str()).bind(name).bind(now.to_sqlx());
            query.execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Locks a project, so that neither its flags nor its environments change; returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn lock_project(&mut self, key: &ProjectKey) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            sql!(LOCK_PROJECT).bind(key.as_str()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Renames a project; returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn rename_project(
        &mut self,
        key: &ProjectKey,
        name: &str,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            sql!(RENAME_PROJECT).bind(key.as_str()).bind(name).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Deletes a project with everything in it; returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn delete_project(&mut self, key: &ProjectKey) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            sql!(DELETE_PROJECT).bind(key.as_str()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Reads all environments, in the order of their numbers.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn environments(&mut self) -> Result<Vec<EnvironmentRecord>, StoreError> {
        let rows = on_tx!(self, c => sql!(ENVIRONMENTS => EnvironmentRow).fetch_all(c).await)?;
        Ok(rows.into_iter().map(EnvironmentRecord::from).collect())
    }

    /// Creates an environment at version 0; returns `None` if the key is taken.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_environment(
        &mut self,
        project: &ProjectKey,
        key: &EnvKey,
        name: &str,
        server_sdk: ServerSdk,
        now: Timestamp,
    ) -> Result<Option<EnvId>, StoreError> {
        let id = on_tx!(self, c => {
            sql!(INSERT_ENVIRONMENT => (i64,))
                .bind(project.as_str())
                .bind(key.as_str())
                .bind(name)
                .bind(server_sdk.as_str())
                .bind(now.to_sqlx())
                .fetch_optional(c)
                .await
        })?;
        Ok(id.map(|(id,)| id))
    }

    /// Which server-side SDKs evaluate an environment by themselves.
    ///
    /// # Errors
    ///
    /// Those of the database, also if there is no such environment.
    pub async fn server_sdk(&mut self, env: EnvId) -> Result<ServerSdk, StoreError> {
        let (word,) =
            on_tx!(self, c => sql!(SERVER_SDK => (String,)).bind(env).fetch_one(c).await)?;
        Ok(read_server_sdk(&word))
    }

    /// Sets what an environment is called, how long evaluations go on in it without confirmation, and what keeps it safe.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn update_environment(
        &mut self,
        env: EnvId,
        name: &str,
        fail_closed_after: Option<Duration>,
        safety: Safety,
    ) -> Result<(), StoreError> {
        let secs = fail_closed_after.and_then(|after| i64::try_from(after.as_secs()).ok());
        let Safety { protected, require_comment, require_if_match, secure_mode } = safety;
        on_tx!(self, c => {
            let query = sql!(UPDATE_ENVIRONMENT).bind(env).bind(name).bind(secs);
            let query = query.bind(protected).bind(require_comment).bind(require_if_match);
            let query = query.bind(secure_mode);
            query.execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// What keeps an environment from being changed by mistake; nothing, if there is no such environment.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn safety(
        &mut self,
        project: &ProjectKey,
        env: &EnvKey,
    ) -> Result<Safety, StoreError> {
        let row = on_tx!(self, c => {
            sql!(SAFETY => (bool, bool, bool, bool))
                .bind(project.as_str())
                .bind(env.as_str())
                .fetch_optional(c)
                .await
        })?;
        let (protected, require_comment, require_if_match, secure_mode) = row.unwrap_or_default();
        Ok(Safety { protected, require_comment, require_if_match, secure_mode })
    }

    /// Deletes an environment with everything in it; returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn delete_environment(
        &mut self,
        project: &ProjectKey,
        key: &EnvKey,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(DELETE_ENVIRONMENT).bind(project.as_str()).bind(key.as_str());
            query.execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Locks an environment, counts the change, and returns its number and the new version; `None` if there is none.
    ///
    /// Must come before anything that the change depends on is read. Several environments are locked in the order of their
    /// numbers. Rolling back gives the version back, so versions stay dense.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if somebody else holds the lock for too long.
    pub async fn bump_environment(
        &mut self,
        project: &ProjectKey,
        key: &EnvKey,
        now: Timestamp,
    ) -> Result<Option<(EnvId, i64)>, StoreError> {
        Ok(on_tx!(self, c => {
            sql!(BUMP_ENVIRONMENT => (i64, i64))
                .bind(project.as_str())
                .bind(key.as_str())
                .bind(now.to_sqlx())
                .fetch_optional(c)
                .await
        })?)
    }

    /// Appends what a version changed to the log of an environment.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn log_change(
        &mut self,
        env: EnvId,
        version: i64,
        flags: &[&str],
        segments: &[&str],
        audit_id: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            sql!(LOG_CHANGE)
                .bind(env)
                .bind(version)
                .bind(serde_json::json!(flags).to_string())
                .bind(serde_json::json!(segments).to_string())
                .bind(audit_id)
                .bind(now.to_sqlx())
                .execute(c)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }
}
