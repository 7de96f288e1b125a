//! Reading how often flags are evaluated, and which are asked for that there are not.
//!
//! How it is written is in `event`.

use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx;
use std::collections::BTreeMap;

/// How often a flag served a variation on a day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRecord {
    /// The flag's key.
    pub flag: String,
    /// The day, UTC.
    pub day: Date,
    /// The index of the variation; `None` if there was no value.
    pub variation: Option<i64>,
    /// The flag's version; 0 if it is not known.
    pub version: i64,
    /// How often.
    pub n: i64,
}

/// A flag that was asked for and that there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownFlagRecord {
    /// Its key.
    pub flag: String,
    /// How often it was asked for.
    pub n: i64,
    /// When first.
    pub first_at: Timestamp,
    /// When last.
    pub last_at: Timestamp,
    /// Whether there was once a flag with this key, which was deleted.
    pub is_deleted: bool,
}

/// How often a flag was evaluated in an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentUse {
    /// The environment.
    pub env: EnvKey,
    /// When last.
    pub last_at: Timestamp,
    /// How often since the day that was asked for.
    pub n: i64,
}

type UsageRow = (String, jiff_sqlx::Date, i64, i64, i64);

/// Flags in the order of their bytes, which SQLite has by itself and PostgreSQL by its collation.
const POSTGRES_FLAGS: &str = "select distinct flag_key collate \"C\" as flag_key from flag_usage
    where environment_id = $1 and day >= $2 and flag_key collate \"C\" > $3
    order by 1 limit $4";
const SQLITE_FLAGS: &str = "select distinct flag_key from flag_usage
    where environment_id = $1 and day >= $2 and flag_key > $3 order by flag_key limit $4";
const OF_FLAG: &str = "select flag_key, day, variation, flag_version, count from flag_usage
    where environment_id = $1 and flag_key = $2 and day >= $3
    order by day, variation, flag_version";
const TOTALS: &str = "select flag_key, variation, cast(sum(count) as bigint) from flag_usage
    where environment_id = $1 and day >= $2 group by flag_key, variation";
const LAST: &str = "select flag_key, at from flag_last_evaluated where environment_id = $1";
const LAST_OF_FLAG: &str = "select flag_key, at from flag_last_evaluated
    where environment_id = $1 and flag_key = $2";
const RECENT: &str = "select e.key, l.at, cast(coalesce(sum(u.count), 0) as bigint)
    from environment e
    join flag_last_evaluated l on l.environment_id = e.id and l.flag_key = $2
    left join flag_usage u on u.environment_id = e.id and u.flag_key = $2 and u.day >= $3
    where e.project_key = $1 group by e.key, l.at order by l.at desc, e.key";
/// What was asked for before there was such a flag is no longer unknown.
const UNKNOWN: &str = "select u.flag_key, u.count, u.first_at, u.last_at, f.key is not null
    from unknown_flag u left join flag f on f.project_key = $2 and f.key = u.flag_key
    where u.environment_id = $1 and (f.key is null or f.deleted_at is not null)
    order by u.last_at desc, u.flag_key limit $3";

impl Tx {
    /// Reads the keys of flags that were evaluated since `since`, in order, those behind `after`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn used_flags(
        &mut self,
        env: EnvId,
        since: Date,
        after: &str,
        limit: i64,
    ) -> Result<Vec<String>, StoreError> {
        let statement = match self {
            Self::Postgres(_) => POSTGRES_FLAGS,
            Self::Sqlite(_) => SQLITE_FLAGS,
        };
        let rows: Vec<(String,)> = on_tx!(self, c => {
            sql!(statement => (String,))
                .bind(env)
                .bind(since.to_sqlx())
                .bind(after)
                .bind(limit)
                .fetch_all(c)
                .await
        })?;
        Ok(rows.into_iter().map(|(key,)| key).collect())
    }

    /// Reads the counts of a flag since `since`, by day, variation and version.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn usage(
        &mut self,
        env: EnvId,
        flag: &str,
        since: Date,
    ) -> Result<Vec<UsageRecord>, StoreError> {
        let rows: Vec<UsageRow> = on_tx!(self, c => {
            sql!(OF_FLAG => UsageRow).bind(env).bind(flag).bind(since.to_sqlx()).fetch_all(c).await
        })?;
        let read = |(flag, day, variation, version, n): UsageRow| UsageRecord {
            flag,
            day: day.to_jiff(),
            variation: (variation >= 0).then_some(variation),
            version,
            n,
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Reads how often each flag served each variation since `since`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn usage_totals(
        &mut self,
        env: EnvId,
        since: Date,
    ) -> Result<BTreeMap<String, BTreeMap<Option<i64>, i64>>, StoreError> {
        let rows: Vec<(String, i64, i64)> = on_tx!(self, c => {
            sql!(TOTALS => (String, i64, i64)).bind(env).bind(since.to_sqlx()).fetch_all(c).await
        })?;
        let mut totals: BTreeMap<String, BTreeMap<Option<i64>, i64>> = BTreeMap::new();
        for (flag, variation, n) in rows {
            let of_flag = totals.entry(flag).or_default();
            of_flag.insert((variation >= 0).then_some(variation), n);
        }
        Ok(totals)
    }

    /// Reads when each flag was last evaluated.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn last_evaluated(
        &mut self,
        env: EnvId,
    ) -> Result<BTreeMap<String, Timestamp>, StoreError> {
        let rows: Vec<(String, jiff_sqlx::Timestamp)> = on_tx!(self, c => {
            sql!(LAST => (String, jiff_sqlx::Timestamp)).bind(env).fetch_all(c).await
        })?;
        Ok(rows.into_iter().map(|(flag, at)| (flag, at.to_jiff())).collect())
    }

    /// Reads when a flag was last evaluated.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn flag_last_evaluated(
        &mut self,
        env: EnvId,
        flag: &str,
    ) -> Result<Option<Timestamp>, StoreError> {
        let row: Option<(String, jiff_sqlx::Timestamp)> = on_tx!(self, c => {
            sql!(LAST_OF_FLAG => (String, jiff_sqlx::Timestamp))
                .bind(env)
                .bind(flag)
                .fetch_optional(c)
                .await
        })?;
        Ok(row.map(|(_, at)| at.to_jiff()))
    }

    /// Reads where a flag of a project was ever evaluated, the latest first, and how often since `since`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn recent_use(
        &mut self,
        project: &ProjectKey,
        flag: &FlagKey,
        since: Date,
    ) -> Result<Vec<RecentUse>, StoreError> {
        let rows: Vec<(String, jiff_sqlx::Timestamp, i64)> = on_tx!(self, c => {
            sql!(RECENT => (String, jiff_sqlx::Timestamp, i64))
                .bind(project.as_str())
                .bind(flag.as_str())
                .bind(since.to_sqlx())
                .fetch_all(c)
                .await
        })?;
        let read = |(env, at, n): (String, jiff_sqlx::Timestamp, i64)| RecentUse {
            env: EnvKey::stored(&env),
            last_at: at.to_jiff(),
            n,
        };
        Ok(rows.into_iter().map(read).collect())
    }

    /// Reads the flags that were asked for and that there are not, those first that were asked for last.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn unknown_flags(
        &mut self,
        env: EnvId,
        project: &str,
        limit: i64,
    ) -> Result<Vec<UnknownFlagRecord>, StoreError> {
        type Row = (String, i64, jiff_sqlx::Timestamp, jiff_sqlx::Timestamp, bool);
        let rows: Vec<Row> = on_tx!(self, c => {
            sql!(UNKNOWN => Row).bind(env).bind(project).bind(limit).fetch_all(c).await
        })?;
        let read = |(flag, n, first_at, last_at, is_deleted): Row| UnknownFlagRecord {
            flag,
            n,
            first_at: first_at.to_jiff(),
            last_at: last_at.to_jiff(),
            is_deleted,
        };
        Ok(rows.into_iter().map(read).collect())
    }
}
