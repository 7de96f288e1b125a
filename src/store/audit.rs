//! The audit log: appending to the chain, and reading it.
//!
//! How an entry is sealed is in `model::audit`.

use crate::model::audit::record;
use crate::model::audit::seal;
use crate::model::change::AuditEntry;
use crate::model::change::AuditLink;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// Entries that are chained or exported at a time.
const BATCH: i64 = 500;

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only of this project.
    pub project: Option<ProjectKey>,
    /// Only of this environment.
    pub env: Option<EnvKey>,
    /// Only those before the entry with this id.
    pub before: Option<String>,
    /// Only by the token with this id or name.
    pub actor: Option<String>,
    /// Only of this action, or of those that begin so if it ends in a dot: `flag.kill`, `flag.`.
    pub action: Option<String>,
    /// Only about the flag with this key.
    pub flag: Option<String>,
    /// Only from this time on.
    pub since: Option<Timestamp>,
    /// Only before this time.
    pub until: Option<Timestamp>,
    /// Only those in which this text occurs, in either case of its letters.
    pub text: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// How far an export has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum AuditCursor {
    /// Nothing was read yet.
    #[default]
    Start,
    /// The chain was read up to this entry.
    Chained(i64),
    /// The chain was read, and of the entries outside of it those up to this id.
    Unchained(String),
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
    address: Option<String>,
    seq: Option<i64>,
    hash: Option<String>,
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
            address: self.address,
            link: self.seq.zip(self.hash).map(|(seq, hash)| AuditLink { seq, hash }),
            id: self.id,
        })
    }
}

const LOCK_HEAD: &str = "update audit_head set seq = seq + 1 where id = 1 returning seq, hash";
const SET_HEAD: &str = "update audit_head set hash = $1 where id = 1";
const PUT_HEAD: &str = "update audit_head set seq = $1, hash = $2 where id = 1";
const HEAD: &str = "select seq, hash from audit_head where id = 1";
const INSERT_AUDIT: &str = "insert into audit
    (id, at, actor, project_key, environment_key, action, subject, version, comment, instructions,
     changes, request_id, address, seq, hash)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)";
const CHAIN_AUDIT: &str = "update audit set seq = $2, hash = $3 where id = $1";

macro_rules! select_audit {
    ($($rest:literal),*) => {
        concat!(
            "select id, at, actor, project_key, environment_key, action, subject, version, comment,
                instructions, changes, request_id, address, seq, hash from audit ",
            $($rest),*
        )
    };
}
/// An empty text stands for "any": ids and keys are never empty, and both databases compare texts alike. How they compare
/// times, and texts whatever the case of their letters, differs.
macro_rules! list_audit {
    ($flag:literal, $like:literal, $since:literal, $until:literal) => {
        select_audit!(
            "where ($1 = '' or project_key = $1) and ($2 = '' or environment_key = $2)
                and ($3 = '' or id < $3)
                and ($4 = '' or actor like $4 escape '\\' or actor like $5 escape '\\')
                and ($6 = '' or action = $6 or action like $7 escape '\\')
                and ",
            $flag,
            " and ($10 = '' or changes ",
            $like,
            " $10 escape '\\' or coalesce(comment, '') ",
            $like,
            " $10 escape '\\' or subject ",
            $like,
            " $10 escape '\\' or actor ",
            $like,
            " $10 escape '\\')
                and ",
            $since,
            " and ",
            $until,
            " order by id desc limit $13"
        )
    };
}
/// Entries about one flag have a text of their own: behind an `or`, PostgreSQL uses no index for them.
macro_rules! list_audit_postgres {
    ($flag:literal) => {
        list_audit!($flag, "ilike", "($11 is null or at >= $11)", "($12 is null or at < $12)")
    };
}
macro_rules! list_audit_sqlite {
    ($flag:literal) => {
        list_audit!(
            $flag,
            "like",
            "($11 is null or julianday(at) >= julianday($11))",
            "($12 is null or julianday(at) < julianday($12))"
        )
    };
}
const AUDIT_POSTGRES: &str = list_audit_postgres!("$8 = '' and $9 = ''");
const AUDIT_SQLITE: &str = list_audit_sqlite!("$8 = '' and $9 = ''");
const AUDIT_OF_FLAG_POSTGRES: &str = list_audit_postgres!(
    "id in (select a.id from audit a where a.subject = $8 and a.action like 'flag%'
        union all select l.audit_id from change_log l where l.flags::jsonb @> $9::jsonb)"
);
const AUDIT_OF_FLAG_SQLITE: &str = list_audit_sqlite!(
    "id in (select a.id from audit a where a.subject = $8 and a.action like 'flag%'
        union all select l.audit_id from change_log l
            where instr(l.flags, substr($9, 2, length($9) - 2)) > 0)"
);
const CHAINED: &str = select_audit!("where seq > $1 order by seq limit $2");
const UNCHAINED: &str = select_audit!("where seq is null and id > $1 order by id limit $2");

impl Tx {
    /// Appends an entry to the audit log and to its chain.
    ///
    /// Locks the end of the chain until the commit, so it comes behind every other lock and near the end of a change.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_audit(&mut self, entry: &AuditEntry) -> Result<(), StoreError> {
        let actor = write_body(&entry.actor)?;
        let changes = write_body(&entry.changes)?;
        let (seq, previous) =
            on_tx!(self, c => sql!(LOCK_HEAD => (i64, String)).fetch_one(c).await)?;
        let hash = seal(&previous, &record(entry, Some(seq)));
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
                .bind(entry.address.as_deref())
                .bind(seq)
                .bind(&hash)
                .execute(&mut *c)
                .await?;
            sql!(SET_HEAD).bind(&hash).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Chains the entries that were written before there was a chain.
    pub(super) async fn chain_audit(&mut self) -> Result<(), StoreError> {
        let (mut seq, mut previous) = self.audit_head().await?;
        let mut after = String::new();
        loop {
            let entries = self.unchained(&after, BATCH).await?;
            let Some(last) = entries.last() else { break };
            after.clone_from(&last.id);
            for entry in &entries {
                seq += 1;
                previous = seal(&previous, &record(entry, Some(seq)));
                on_tx!(self, c => {
                    let query = sql!(CHAIN_AUDIT).bind(&entry.id).bind(seq).bind(&previous);
                    query.execute(c).await.map(|_| ())
                })?;
            }
        }
        on_tx!(self, c => {
            sql!(PUT_HEAD).bind(seq).bind(&previous).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// The number and the hash of the last entry of the chain.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn audit_head(&mut self) -> Result<(i64, String), StoreError> {
        Ok(on_tx!(self, c => sql!(HEAD => (i64, String)).fetch_one(c).await)?)
    }

    /// Reads entries of the audit log, newest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn audit(&mut self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let pattern = |text: Option<String>| text.unwrap_or_default();
        let as_json = |text: &String| like(&serde_json::Value::from(text.as_str()).to_string());
        let id =
            pattern(filter.actor.as_ref().map(|actor| format!("{{\"id\":{},%", as_json(actor))));
        let name =
            filter.actor.as_ref().map(|actor| format!("{{\"id\":%,\"name\":{}%", as_json(actor)));
        let begins = filter.action.as_ref().filter(|action| action.ends_with('.'));
        let begins = pattern(begins.map(|action| format!("{}%", like(action))));
        let flags = filter.flag.as_ref().map(|flag| write_body(&[flag])).transpose()?;
        let contains = filter.text.as_ref().map(|text| format!("%{}%", like(text)));
        let sql = match (&self, flags.is_some()) {
            (Self::Postgres(_), false) => AUDIT_POSTGRES,
            (Self::Postgres(_), true) => AUDIT_OF_FLAG_POSTGRES,
            (Self::Sqlite(_), false) => AUDIT_SQLITE,
            (Self::Sqlite(_), true) => AUDIT_OF_FLAG_SQLITE,
        };
        let rows = on_tx!(self, c => {
            sql!(sql => AuditRow)
                .bind(filter.project.as_ref().map_or("", ProjectKey::as_str))
                .bind(filter.env.as_ref().map_or("", EnvKey::as_str))
                .bind(text(&filter.before))
                .bind(id)
                .bind(pattern(name))
                .bind(text(&filter.action))
                .bind(begins)
                .bind(text(&filter.flag))
                .bind(pattern(flags))
                .bind(pattern(contains))
                .bind(filter.since.map(ToSqlx::to_sqlx))
                .bind(filter.until.map(ToSqlx::to_sqlx))
                .bind(filter.limit)
                .fetch_all(c)
                .await
        })?;
        rows.into_iter().map(AuditRow::read).collect()
    }

    /// Reads the next entries of an export, oldest first, and how far it has come then; no entries at the end.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn export_audit(
        &mut self,
        cursor: AuditCursor,
    ) -> Result<(Vec<AuditEntry>, AuditCursor), StoreError> {
        let unchained_after = match cursor {
            AuditCursor::Unchained(id) => id,
            AuditCursor::Start | AuditCursor::Chained(_) => {
                let seq = if let AuditCursor::Chained(seq) = cursor { seq } else { 0 };
                let rows = on_tx!(self, c => {
                    sql!(CHAINED => AuditRow).bind(seq).bind(BATCH).fetch_all(c).await
                })?;
                let last = rows.last().and_then(|row| row.seq);
                if let Some(last) = last {
                    let entries = rows.into_iter().map(AuditRow::read).collect::<Result<_, _>>()?;
                    return Ok((entries, AuditCursor::Chained(last)));
                }
                String::new()
            }
        };
        let entries = self.unchained(&unchained_after, BATCH).await?;
        let after = entries.last().map_or(unchained_after, |entry| entry.id.clone());
        Ok((entries, AuditCursor::Unchained(after)))
    }

    async fn unchained(&mut self, after: &str, n: i64) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(UNCHAINED => AuditRow).bind(after).bind(n).fetch_all(c).await
        })?;
        rows.into_iter().map(AuditRow::read).collect()
    }
}

/// A text as `like` takes it literally.
fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
