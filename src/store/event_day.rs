//! The days that events are kept by: a partition for each on PostgreSQL, and rows that are deleted on SQLite.
//!
//! There is no default partition: with rows in it, the right one could not be made any more.

use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx;
use sqlx::AssertSqlSafe;
use std::collections::BTreeSet;

/// The tables that have a partition for each day.
const TABLES: &[&str] = &["event", "exposure"];
/// Rows that one statement deletes, so that nobody waits long behind it.
const DELETED_ROWS_MAX: i64 = 10_000;
/// Statements of one kind that one round deletes with; the rest follows in the next.
const DELETES_MAX: usize = 100;
/// Any number that no other program uses for a lock of the whole database: one replica makes and drops partitions at a time.
const LOCK: &str = "select pg_advisory_xact_lock(8398764307)";
const PARTITIONS: &str = "select c.relname::text from pg_inherits i
    join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
    where p.oid = $1::text::regclass";

const SQLITE_OLD: &[&str] = &[
    "delete from event where rowid in (select rowid from event where day < $1 limit $2)",
    "delete from exposure where (day, environment_id, flag_key, unit_kind, unit, variation) in
        (select day, environment_id, flag_key, unit_kind, unit, variation from exposure
         where day < $1 limit $2)",
];
const OLD_USAGE: &str = "delete from flag_usage
    where (environment_id, flag_key, day, variation, flag_version) in
        (select environment_id, flag_key, day, variation, flag_version from flag_usage
         where day < $1 limit $2)";
const OLD_UNKNOWN: &str = "delete from unknown_flag where last_at < $1";
const OLD_PAYLOADS: &str = "delete from event_payload where (environment_id, id) in
    (select environment_id, id from event_payload where expires_at < $1 limit $2)";
const ORPHANS: &[&str] = &[
    "delete from flag_usage where environment_id not in (select id from environment)",
    "delete from flag_last_evaluated where environment_id not in (select id from environment)",
    "delete from unknown_flag where environment_id not in (select id from environment)",
];

impl Store {
    /// Makes the partitions of days that have none yet; on SQLite there are none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if a lock cannot be had in time.
    pub async fn prepare_days(&self, days: &BTreeSet<Date>) -> Result<(), StoreError> {
        let Self::Postgres { .. } = self else { return Ok(()) };
        for table in TABLES {
            let there = self.partitions(table).await?;
            for day in days.iter().filter(|day| !there.contains(*day)) {
                self.make_partition(table, *day).await?;
            }
        }
        Ok(())
    }

    /// The days that have a partition; none on SQLite.
    async fn partitions(&self, table: &'static str) -> Result<BTreeSet<Date>, StoreError> {
        let Tx::Postgres(mut tx) = self.read().await? else { return Ok(BTreeSet::new()) };
        let rows: Vec<(String,)> =
            sql!(PARTITIONS => (String,)).bind(table).fetch_all(&mut *tx).await?;
        Ok(rows.iter().filter_map(|(name,)| day_of(table, name)).collect())
    }

    async fn make_partition(&self, table: &'static str, day: Date) -> Result<(), StoreError> {
        let Tx::Postgres(mut tx) = self.begin_writing().await? else { return Ok(()) };
        sql!(LOCK).execute(&mut *tx).await?;
        let there: Vec<(String,)> =
            sql!(PARTITIONS => (String,)).bind(table).fetch_all(&mut *tx).await?;
        let name = partition(table, day);
        if there.iter().any(|(each,)| *each == name) {
            return Ok(());
        }
        // Attached and not created in place, which would lock out who reads and writes; the check spares a scan.
        let next = day.saturating_add(jiff::Span::new().days(1));
        let statements = format!(
            "create table if not exists {name} (like {table} including all,
                constraint of_day check (day >= '{day}' and day < '{next}'));
            alter table {table} attach partition {name} for values from ('{day}') to ('{next}');
            alter table {name} drop constraint of_day"
        );
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Drops the events and the counts of days before `day`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if a lock cannot be had in time; what was dropped stays so.
    pub async fn drop_days_before(&self, day: Date) -> Result<(), StoreError> {
        if let Self::Postgres { .. } = self {
            for table in TABLES {
                for old in self.partitions(table).await?.iter().filter(|each| **each < day) {
                    let name = partition(table, *old);
                    let Tx::Postgres(mut tx) = self.begin_writing().await? else { continue };
                    // Who writes waits behind it, but no longer than a lock is waited for.
                    let statement = format!("drop table if exists {name}");
                    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *tx).await?;
                    tx.commit().await?;
                }
            }
        } else {
            for statement in SQLITE_OLD {
                self.delete_before(statement, Bound::Day(day)).await?;
            }
        }
        self.delete_before(OLD_USAGE, Bound::Day(day)).await
    }

    /// Forgets the payloads that have expired, the flags that there are not and that nobody has asked for since
    /// `asked_since`, and what was counted in environments that are gone.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn forget_expired(
        &self,
        now: Timestamp,
        asked_since: Timestamp,
    ) -> Result<(), StoreError> {
        self.delete_before(OLD_PAYLOADS, Bound::Time(now)).await?;
        let mut tx = self.begin_writing().await?;
        on_tx!(&mut tx, c => {
            sql!(OLD_UNKNOWN).bind(asked_since.to_sqlx()).execute(c).await.map(|_| ())
        })?;
        for statement in ORPHANS {
            on_tx!(&mut tx, c => sql!(*statement).execute(c).await.map(|_| ()))?;
        }
        tx.commit().await
    }

    /// Deletes piece by piece, each in a transaction of its own.
    async fn delete_before(&self, statement: &'static str, bound: Bound) -> Result<(), StoreError> {
        for _ in 0..DELETES_MAX {
            let mut tx = self.begin_writing().await?;
            let n_deleted = on_tx!(&mut tx, c => {
                let query = match bound {
                    Bound::Day(day) => sql!(statement).bind(day.to_sqlx()),
                    Bound::Time(at) => sql!(statement).bind(at.to_sqlx()),
                };
                query.bind(DELETED_ROWS_MAX).execute(c).await.map(|done| done.rows_affected())
            })?;
            tx.commit().await?;
            if n_deleted < DELETED_ROWS_MAX.unsigned_abs() {
                break;
            }
        }
        Ok(())
    }
}

/// What is older is deleted.
#[derive(Debug, Clone, Copy)]
enum Bound {
    Day(Date),
    Time(Timestamp),
}

fn partition(table: &str, day: Date) -> String {
    format!("{table}_p{}", day.strftime("%Y%m%d"))
}

fn day_of(table: &str, partition: &str) -> Option<Date> {
    let digits = partition.strip_prefix(table)?.strip_prefix("_p")?;
    Date::strptime("%Y%m%d", digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_after_their_day() {
        let day = jiff::civil::date(2026, 2, 3);
        assert_eq!(partition("event", day), "event_p20260203");
        assert_eq!(day_of("event", "event_p20260203"), Some(day));
        assert_eq!(day_of("event", "event_default"), None);
        assert_eq!(day_of("event", "event_p20261399"), None);
    }
}
