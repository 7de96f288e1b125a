//! Changes that are made later.
//!
//! Whoever makes one holds its row locked until everything is committed, so that a replica that dies leaves it as it was.
//! Entries of one environment are made in the order in which they are due, so only the first of each can be taken.

use crate::model::change::Actor;
use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::schedule::Outcome;
use crate::model::schedule::Plan;
use crate::model::schedule::SCHEDULE_STATES;
use crate::model::schedule::ScheduleState;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::error::read_body;
use crate::store::error::write_body;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// An entry of an environment's schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRecord {
    /// Ordered by the time at which it was made.
    pub id: String,
    /// The project.
    pub project: ProjectKey,
    /// The environment.
    pub env: EnvKey,
    /// What has become of it.
    pub state: ScheduleState,
    /// When it is due; of what is decided, when it was due last.
    pub due: Timestamp,
    /// Counts up whenever it is decided.
    pub fence: i64,
    /// What is planned.
    pub plan: Plan,
    /// Who planned it.
    pub author: Actor,
    /// Why.
    pub comment: Option<String>,
    /// When it was planned.
    pub created_at: Timestamp,
    /// What came of it.
    pub outcome: Option<Outcome>,
}

/// Which entries are asked for.
#[derive(Debug, Clone, Default)]
pub struct ScheduleFilter {
    /// Only before the one with this id.
    pub before: Option<String>,
    /// Only in this state.
    pub state: Option<ScheduleState>,
    /// Only those that change this flag.
    pub flag: Option<String>,
    /// At most so many.
    pub limit: i64,
}

/// What is decided of an entry.
#[derive(Debug)]
pub struct Decided<'a> {
    /// The entry.
    pub id: &'a str,
    /// What it was when it was looked at.
    pub fence: i64,
    /// What becomes of it.
    pub state: ScheduleState,
    /// When it is due next, if it is still to come.
    pub due: Timestamp,
    /// What came of it.
    pub outcome: Option<&'a Outcome>,
    /// When.
    pub now: Timestamp,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    project_key: String,
    environment_key: String,
    state: String,
    due_us: i64,
    fence: i64,
    plan: String,
    author: String,
    comment: Option<String>,
    created_at: jiff_sqlx::Timestamp,
    outcome: Option<String>,
}

impl Row {
    fn read(self) -> Result<ScheduleRecord, StoreError> {
        let corrupt = |cause: &str| StoreError::Corrupt {
            table: "schedule",
            key: self.id.clone(),
            cause: cause.to_owned(),
        };
        let state = SCHEDULE_STATES.iter().find(|(word, _)| *word == self.state);
        let (_, state) = state.ok_or_else(|| corrupt("state"))?;
        let due = Timestamp::from_microsecond(self.due_us).map_err(|_| corrupt("due_us"))?;
        let outcome = self.outcome.as_deref();
        Ok(ScheduleRecord {
            project: ProjectKey::stored(&self.project_key),
            env: EnvKey::stored(&self.environment_key),
            state: *state,
            due,
            fence: self.fence,
            plan: read_body("schedule", &self.id, &self.plan)?,
            author: read_body("schedule", &self.id, &self.author)?,
            comment: self.comment,
            created_at: self.created_at.to_jiff(),
            outcome: outcome.map(|text| read_body("schedule", &self.id, text)).transpose()?,
            id: self.id,
        })
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select s.id, e.project_key, e.key as environment_key, s.state, s.due_us, s.fence, s.plan,
                s.author, s.comment, s.created_at, s.outcome
            from schedule s join environment e on e.id = s.environment_id ",
            $rest
        )
    };
}

const ENTRY: &str = select!("where s.environment_id = $1 and s.id = $2");
const ENTRIES: &str = select!(
    "where s.environment_id = $1 and ($2 = '' or s.id < $2) and ($3 = '' or s.state = $3)
        and ($4 = '' or exists (select 1 from schedule_target t
            where t.schedule_id = s.id and t.kind = 'flag' and t.key = $4))
    order by s.id desc limit $5"
);
const PENDING_UNTIL: &str = select!(
    "where s.environment_id = $1 and s.state = 'pending' and s.due_us <= $2 order by s.due_us, s.id"
);
/// Nothing is early by the database's clock, whatever the clocks of replicas say.
const CLAIM_POSTGRES: &str = select!(
    "where s.state = 'pending'
        and s.due_us <= (extract(epoch from clock_timestamp()) * 1000000)::bigint
        and not exists (select 1 from schedule o where o.environment_id = s.environment_id
            and o.state = 'pending' and (o.due_us, o.id) < (s.due_us, s.id))
    order by s.due_us, s.id limit 1 for update of s skip locked"
);
const CLAIM_SQLITE: &str = select!(
    "where s.state = 'pending' and s.due_us <= $1
        and not exists (select 1 from schedule o where o.environment_id = s.environment_id
            and o.state = 'pending' and (o.due_us, o.id) < (s.due_us, s.id))
    order by s.due_us, s.id limit 1"
);
const NEXT_DUE: &str = "select min(due_us) from schedule where state = 'pending'";
const COUNT_PENDING: &str =
    "select count(*) from schedule where environment_id = $1 and state = 'pending'";
const INSERT: &str = "insert into schedule
    (id, environment_id, state, due_us, fence, plan, author, comment, created_at)
    values ($1, $2, 'pending', $3, 0, $4, $5, $6, $7)";
const INSERT_TARGET: &str = "insert into schedule_target (schedule_id, kind, key)
    values ($1, $2, $3) on conflict do nothing";
const DECIDE: &str = "update schedule set state = $3, due_us = $4, outcome = $5, finished_at = $6,
        fence = fence + 1
    where id = $1 and fence = $2 and state = 'pending'";
const REPLAN: &str = "update schedule set plan = $2 where id = $1";
const GIVE_UP: &str = "update schedule set state = 'failed', finished_at = $2, fence = fence + 1
    where id = $1 and state = 'pending'";
const FORGET: &str = "delete from schedule where finished_at < $1";

impl Tx {
    /// Finds an entry of an environment's schedule.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn scheduled(
        &mut self,
        env: EnvId,
        id: &str,
    ) -> Result<Option<ScheduleRecord>, StoreError> {
        let row = on_tx!(self, c => sql!(ENTRY => Row).bind(env).bind(id).fetch_optional(c).await)?;
        row.map(Row::read).transpose()
    }

    /// Reads entries of an environment's schedule, the latest that were made first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn schedule(
        &mut self,
        env: EnvId,
        filter: &ScheduleFilter,
    ) -> Result<Vec<ScheduleRecord>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(ENTRIES => Row)
                .bind(env)
                .bind(filter.before.as_deref().unwrap_or_default())
                .bind(filter.state.map_or("", ScheduleState::as_str))
                .bind(filter.flag.as_deref().unwrap_or_default())
                .bind(filter.limit)
                .fetch_all(c)
                .await
        })?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Reads the entries of an environment that are due until a time, in the order in which they are due.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn scheduled_until(
        &mut self,
        env: EnvId,
        until: Timestamp,
    ) -> Result<Vec<ScheduleRecord>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(PENDING_UNTIL => Row).bind(env).bind(until.as_microsecond()).fetch_all(c).await
        })?;
        rows.into_iter().map(Row::read).collect()
    }

    /// Locks the first entry of any environment that is due, passing over those that others hold; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] with its id if it cannot be read.
    pub async fn claim_scheduled(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<ScheduleRecord>, StoreError> {
        let row = match self {
            Self::Postgres(tx) => sql!(CLAIM_POSTGRES => Row).fetch_optional(&mut **tx).await,
            Self::Sqlite(tx) => {
                let query = sql!(CLAIM_SQLITE => Row).bind(now.as_microsecond());
                query.fetch_optional(&mut **tx).await
            }
        }?;
        row.map(Row::read).transpose()
    }

    /// When the first entry of all is due; `None` if nothing is to come.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn next_scheduled(&mut self) -> Result<Option<Timestamp>, StoreError> {
        let (due,) = on_tx!(self, c => sql!(NEXT_DUE => (Option<i64>,)).fetch_one(c).await)?;
        Ok(due.and_then(|us| Timestamp::from_microsecond(us).ok()))
    }

    /// Counts the entries of an environment that are still to come.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn count_scheduled(&mut self, env: EnvId) -> Result<i64, StoreError> {
        let (count,) = on_tx!(self, c => {
            sql!(COUNT_PENDING => (i64,)).bind(env).fetch_one(c).await
        })?;
        Ok(count)
    }

    /// Stores an entry that is still to come.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_scheduled(
        &mut self,
        env: EnvId,
        entry: &ScheduleRecord,
    ) -> Result<(), StoreError> {
        let (plan, author) = (write_body(&entry.plan)?, write_body(&entry.author)?);
        on_tx!(self, c => {
            sql!(INSERT)
                .bind(&entry.id)
                .bind(env)
                .bind(entry.due.as_microsecond())
                .bind(plan)
                .bind(author)
                .bind(entry.comment.as_deref())
                .bind(entry.created_at.to_sqlx())
                .execute(c)
                .await
                .map(|_| ())
        })?;
        for change in &entry.plan.changes {
            let flag = change.flag.iter().map(|key| ("flag", key.as_str()));
            let segment = change.segment.iter().map(|key| ("segment", key.as_str()));
            for (kind, key) in flag.chain(segment) {
                on_tx!(self, c => {
                    let query = sql!(INSERT_TARGET).bind(&entry.id).bind(kind).bind(key);
                    query.execute(c).await.map(|_| ())
                })?;
            }
        }
        Ok(())
    }

    /// Writes what is decided of an entry; returns `false` if it has been decided since it was looked at.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn decide_scheduled(&mut self, decided: &Decided<'_>) -> Result<bool, StoreError> {
        let Decided { id, fence, state, due, outcome, now } = decided;
        let outcome = outcome.map(write_body).transpose()?;
        let finished_at = (*state != ScheduleState::Pending).then(|| now.to_sqlx());
        let n_rows = on_tx!(self, c => {
            sql!(DECIDE)
                .bind(*id)
                .bind(fence)
                .bind(state.as_str())
                .bind(due.as_microsecond())
                .bind(outcome.as_deref())
                .bind(finished_at)
                .execute(c)
                .await?
                .rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Replaces the plan of an entry.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn replan(&mut self, id: &str, plan: &Plan) -> Result<(), StoreError> {
        let plan = write_body(plan)?;
        on_tx!(self, c => sql!(REPLAN).bind(id).bind(plan).execute(c).await.map(|_| ()))?;
        Ok(())
    }

    /// Ends an entry that cannot be read.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn give_up_scheduled(&mut self, id: &str, now: Timestamp) -> Result<(), StoreError> {
        on_tx!(self, c => {
            sql!(GIVE_UP).bind(id).bind(now.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Forgets entries that were decided before a time.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn forget_scheduled(&mut self, before: Timestamp) -> Result<(), StoreError> {
        on_tx!(self, c => sql!(FORGET).bind(before.to_sqlx()).execute(c).await.map(|_| ()))?;
        Ok(())
    }
}
