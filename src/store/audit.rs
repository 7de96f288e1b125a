//! The audit log.

use crate::model::change::AuditEntry;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff_sqlx::ToSqlx;

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only of this project.
    pub project: Option<ProjectKey>,
    /// Only of this environment.
    pub env: Option<EnvKey>,
    /// Only those before the entry with this id.
    pub before: Option<String>,
    /// At most so many.
    pub limit: i64,
}

#[derive(sqlx::FromRow)]
struct AuditRow {
    id: String,
    at: jiff_sqlx::Timestamp,
    actor: String,
    project_key: Option<String>,
    environment_key: Option<String>,
    action: String,
    subject: String,
    version: Option<i64>,
    comment: Option<String>,
    instructions: Option<String>,
    changes: String,
    request_id: String,
}

impl AuditRow {
    fn read(self) -> Result<AuditEntry, StoreError> {
        Ok(AuditEntry {
            actor: read_body("audit", &self.id, &self.actor)?,
            changes: read_body("audit", &self.id, &self.changes)?,
            at: self.at.to_jiff(),
            project: self.project_key.as_deref().map(ProjectKey::stored),
            env: self.environment_key.as_deref().map(EnvKey::stored),
            action: self.action,
            subject: self.subject,
            version: self.version,
            comment: self.comment,
            instructions: self.instructions,
            request_id: self.request_id,
            id: self.id,
        })
    }
}

const INSERT_AUDIT: &str = "insert into audit
    (id, at, actor, project_key, environment_key, action, subject, version, comment, instructions,
     changes, request_id)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)";
/// An empty text stands for "any": ids and keys are never empty, and both databases compare texts alike.
const AUDIT: &str = "select id, at, actor, project_key, environment_key, action, subject, version,
        comment, instructions, changes, request_id
    from audit
    where ($1 = '' or project_key = $1) and ($2 = '' or environment_key = $2)
        and ($3 = '' or id < $3)
    order by id desc limit $4";

impl Tx {
    /// Appends an entry to the audit log.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let actor = write_body(&entry.actor)?;
        let changes = write_body(&entry.changes)?;
        on_tx!(self, c => {
            sql!(INSERT_AUDIT)
                .bind(&entry.id)
                .bind(entry.at.to_sqlx())
                .bind(actor)
                .bind(entry.project.as_ref().map(ProjectKey::as_str))
                .bind(entry.env.as_ref().map(EnvKey::as_str))
                .bind(&entry.action)
                .bind(&entry.subject)
                .bind(entry.version)
                .bind(entry.comment.as_deref())
                .bind(entry.instructions.as_deref())
                .bind(changes)
                .bind(&entry.request_id)
                .execute(c)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Reads entries of the audit log, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn audit(&mut self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(AUDIT => AuditRow)
                .bind(filter.project.as_ref().map_or("", ProjectKey::as_str))
                .bind(filter.env.as_ref().map_or("", EnvKey::as_str))
                .bind(filter.before.as_deref().unwrap_or(""))
                .bind(filter.limit)
                .fetch_all(c)
                .await
        })?;
        rows.into_iter().map(AuditRow::read).collect()
    }
}
