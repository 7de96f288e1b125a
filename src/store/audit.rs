//! The audit log: appending to the chain, and reading it.
//!
//! How an entry is sealed is in `model::audit`.

use crate::model::audit::record;
use crate::model::audit::seal;
use crate::model::change::Actor;
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
use serde::de::DeserializeOwned;

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

/// A column that may hold what its type cannot be, as somebody may have written it who goes around this program.
struct Lenient<T>(Option<T>);

impl<'r, DB: sqlx::Database, T: sqlx::Decode<'r, DB>> sqlx::Decode<'r, DB> for Lenient<T> {
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self(T::decode(value).ok()))
    }
}

impl<DB: sqlx::Database, T: sqlx::Type<DB>> sqlx::Type<DB> for Lenient<T> {
    fn type_info() -> DB::TypeInfo {
        T::type_info()
    }

    fn compatible(_: &DB::TypeInfo) -> bool {
        true
    }
}

type Text = Lenient<String>;

/// An entry as it is stored; one that was damaged must not keep the others from being read.
#[derive(sqlx::FromRow)]
struct AuditRow {
    id: String,
    at: Lenient<jiff_sqlx::Timestamp>,
    actor: Text,
    project_key: Option<Text>,
    environment_key: Option<Text>,
    action: Text,
    subject: Text,
    version: Option<Lenient<i64>>,
    comment: Option<Text>,
    instructions: Option<Text>,
    changes: Text,
    request_id: Text,
    address: Option<Text>,
    seq: Option<Lenient<i64>>,
    hash: Option<Text>,
}

/// Notes which fields cannot be read.
#[derive(Default)]
struct Gaps(Vec<&'static str>);

impl Gaps {
    fn take<T>(&mut self, name: &'static str, value: Lenient<T>) -> Option<T> {
        if value.0.is_none() {
            self.0.push(name);
        }
        value.0
    }

    fn maybe<T>(&mut self, name: &'static str, value: Option<Lenient<T>>) -> Option<T> {
        value.and_then(|value| self.take(name, value))
    }

    fn text(&mut self, name: &'static str, value: Text) -> String {
        self.take(name, value).unwrap_or_default()
    }

    /// Reads a text as JSON, or makes something of it as it is.
    fn body<T: DeserializeOwned>(
        &mut self,
        name: &'static str,
        value: Text,
        raw: impl FnOnce(String) -> T,
    ) -> T {
        let text = self.take(name, value);
        let read = text.as_deref().and_then(|text| serde_json::from_str(text).ok());
        read.unwrap_or_else(|| {
            if text.is_some() {
                self.0.push(name);
            }
            raw(text.unwrap_or_default())
        })
    }
}

/// The actor of an entry that does not say it so that it can be read.
pub(super) fn raw_actor(text: String) -> Actor {
    Actor { id: String::new(), name: text, holder: None }
}

impl AuditRow {
    fn seq(&self) -> Option<i64> {
        self.seq.as_ref().and_then(|seq| seq.0)
    }

    fn read(self) -> AuditEntry {
        let mut gaps = Gaps::default();
        let (seq, hash) = (gaps.maybe("seq", self.seq), gaps.maybe("hash", self.hash));
        let at = gaps.take("at", self.at).map(jiff_sqlx::Timestamp::to_jiff);
        AuditEntry {
            at: at.unwrap_or(Timestamp::UNIX_EPOCH),
            actor: gaps.body("actor", self.actor, raw_actor),
            changes: gaps.body("changes", self.changes, |text| vec![text]),
            project: gaps.maybe("project", self.project_key).map(|key| ProjectKey::stored(&key)),
            env: gaps.maybe("environment", self.environment_key).map(|key| EnvKey::stored(&key)),
            action: gaps.text("action", self.action),
            subject: gaps.text("subject", self.subject),
            version: gaps.maybe("version", self.version),
            comment: gaps.maybe("comment", self.comment),
            instructions: gaps.maybe("instructions", self.instructions),
            request_id: gaps.text("requestId", self.request_id),
            address: gaps.maybe("address", self.address),
            link: seq.zip(hash).map(|(seq, hash)| AuditLink { seq, hash }),
            id: self.id,
            unreadable: gaps.0,
        }
    }
}

/// What a change that spans several environments did to one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// The version that it made there.
    pub version: i64,
    /// The flags that it changed there, or whose definitions it changed.
    pub flags: Vec<String>,
    /// The segments that it changed there.
    pub segments: Vec<String>,
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
///
/// `$env` says which environments' entries, and `$told` whether what was done is told of an entry, and may be looked for.
macro_rules! list_audit {
    (($env:literal, $told:literal), $flag:literal, $like:literal, $since:literal, $until:literal) => {
        select_audit!(
            "where ($1 = '' or project_key = $1) and ",
            $env,
            " and ($3 = '' or id < $3)
                and ($4 = '' or actor like $4 escape '\\' or actor like $5 escape '\\')
                and ($6 = '' or action = $6 or action like $7 escape '\\')
                and ",
            $flag,
            " and ($10 = '' or coalesce(comment, '') ",
            $like,
            " $10 escape '\\' or actor ",
            $like,
            " $10 escape '\\' or (",
            $told,
            " and (changes ",
            $like,
            " $10 escape '\\' or subject ",
            $like,
            " $10 escape '\\')))
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
    ($which:tt, $flag:literal) => {
        list_audit!(
            $which,
            $flag,
            "ilike",
            "($11 is null or at >= $11)",
            "($12 is null or at < $12)"
        )
    };
}
macro_rules! list_audit_sqlite {
    ($which:tt, $flag:literal) => {
        list_audit!(
            $which,
            $flag,
            "like",
            "($11 is null or julianday(at) >= julianday($11))",
            "($12 is null or julianday(at) < julianday($12))"
        )
    };
}
/// The four texts for entries of these environments: for both databases, without a flag and about one.
macro_rules! audit_texts {
    ($which:tt) => {
        AuditTexts {
            postgres: list_audit_postgres!($which, "$8 = '' and $9 = ''"),
            sqlite: list_audit_sqlite!($which, "$8 = '' and $9 = ''"),
            postgres_of_flag: list_audit_postgres!(
                $which,
                "id in (select a.id from audit a where a.subject = $8 and a.action like 'flag%'
                    union all select l.audit_id from change_log l
                        where l.flags::jsonb @> $9::jsonb and ($2 = '' or l.environment_id in
                            (select e.id from environment e where e.project_key = $1 and e.key = $2)))"
            ),
            sqlite_of_flag: list_audit_sqlite!(
                $which,
                "id in (select a.id from audit a where a.subject = $8 and a.action like 'flag%'
                    union all select l.audit_id from change_log l
                        where instr(l.flags, substr($9, 2, length($9) - 2)) > 0
                            and ($2 = '' or l.environment_id in
                            (select e.id from environment e where e.project_key = $1 and e.key = $2)))"
            ),
        }
    };
}

struct AuditTexts {
    postgres: &'static str,
    sqlite: &'static str,
    postgres_of_flag: &'static str,
    sqlite_of_flag: &'static str,
}

const AUDIT: AuditTexts = audit_texts!(("($2 = '' or environment_key = $2)", "true"));
/// What was done is told of changes of definitions only, which every environment sees.
const SPANNING: AuditTexts = audit_texts!((
    "environment_key is null and exists (select 1 from change_log l
        join environment e on e.id = l.environment_id
        where l.audit_id = audit.id and e.project_key = $1 and e.key = $2)",
    "action like 'flag.%'"
));
const LOGGED: &str = "select l.version, l.flags, l.segments from change_log l
    join environment e on e.id = l.environment_id
    where l.audit_id = $1 and e.project_key = $2 and e.key = $3";
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

    /// Reads entries of the audit log, newest first; of an environment, those that are of it alone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn audit(&mut self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        self.list_audit(&AUDIT, filter).await
    }

    /// Reads entries of changes that span several environments, or the whole project, and touched this one, newest first, with what
    /// they did to it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if an entry of the log of changes cannot be read.
    pub async fn spanning_audit(
        &mut self,
        (project, env): (&ProjectKey, &EnvKey),
        filter: &AuditFilter,
    ) -> Result<Vec<(AuditEntry, Logged)>, StoreError> {
        let mut found = Vec::new();
        for entry in self.list_audit(&SPANNING, filter).await? {
            let row = on_tx!(self, c => {
                let query = sql!(LOGGED => (i64, String, String)).bind(&entry.id);
                query.bind(project.as_str()).bind(env.as_str()).fetch_optional(c).await
            })?;
            if let Some((version, flags, segments)) = row {
                let flags = read_body("change_log", &entry.id, &flags)?;
                let segments = read_body("change_log", &entry.id, &segments)?;
                found.push((entry, Logged { version, flags, segments }));
            }
        }
        Ok(found)
    }

    async fn list_audit(
        &mut self,
        texts: &AuditTexts,
        filter: &AuditFilter,
    ) -> Result<Vec<AuditEntry>, StoreError> {
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
            (Self::Postgres(_), false) => texts.postgres,
            (Self::Postgres(_), true) => texts.postgres_of_flag,
            (Self::Sqlite(_), false) => texts.sqlite,
            (Self::Sqlite(_), true) => texts.sqlite_of_flag,
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
        Ok(rows.into_iter().map(AuditRow::read).collect())
    }

    /// Reads the next entries of an export, oldest first, and how far it has come then; no entries at the end.
    ///
    /// # Errors
    ///
    /// Those of the database.
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
                let last = rows.iter().rev().find_map(AuditRow::seq);
                if let Some(last) = last {
                    let entries = rows.into_iter().map(AuditRow::read).collect();
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
        Ok(rows.into_iter().map(AuditRow::read).collect())
    }
}

/// A text as `like` takes it literally.
fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}
