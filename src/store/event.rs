//! Writing events and counts of flags, and the days that they are kept in.
//!
//! All rows of one statement are different and in order, so that replicas which write at once wait for each other and never
//! in a circle. What is told of usage is read in `usage`; when what is written, in the room `record`.

use crate::model::change::EnvId;
use crate::model::event::EventKind;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff_sqlx::ToSqlx;
use sqlx::QueryBuilder;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Rows that one statement writes; SQLite takes 32,766 parameters, and a row has at most thirteen.
const ROWS_MAX: usize = 500;
/// Flags that there are not, of one environment; of more, nothing is kept.
pub(super) const UNKNOWN_FLAGS_MAX: i64 = 10_000;

/// Bytes of what stands for the key of a context.
pub const UNIT_BYTES: usize = 16;

/// What stands for the key of a context: a keyed hash.
pub type Unit = [u8; UNIT_BYTES];

/// What a count of evaluations is of: environment, flag, day, variation (-1 for none), version of the flag.
pub type UsageKey = (EnvId, String, Date, i64, i64);

/// A row of the table `event`.
#[derive(Debug, Clone, PartialEq)]
pub struct EventRow {
    /// The day that it is kept with.
    pub day: Date,
    /// When it happened.
    pub at: Timestamp,
    /// The environment.
    pub env: EnvId,
    /// What happened.
    pub kind: EventKind,
    /// The flag, or the name of what happened.
    pub key: String,
    /// The kind of the part of the context that this row is about.
    pub unit_kind: String,
    /// Its key, hashed.
    pub unit: Unit,
    /// The index of the variation that was served.
    pub variation: Option<i64>,
    /// The flag's version.
    pub version: Option<i64>,
    /// Why that variation was served.
    pub reason: Option<&'static str>,
    /// Whether the context takes part in an experiment.
    pub in_experiment: bool,
    /// What was measured.
    pub value: Option<f64>,
    /// The event stands for so many.
    pub sampling_ratio: i64,
}

/// What an exposure is of: day, environment, flag, kind and hash of the unit, variation.
pub type ExposureKey = (Date, EnvId, String, String, Unit, i64);

/// A unit that was served a variation of a tracked flag on one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Exposure {
    /// The flag's version.
    pub version: i64,
    /// Why that variation was served.
    pub reason: Option<&'static str>,
    /// Whether the context takes part in an experiment.
    pub in_experiment: bool,
    /// When it was served first on that day.
    pub first_at: Timestamp,
    /// How often it was served on that day.
    pub n: i64,
}

/// How often a flag that there is not was asked for, and when first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// How often.
    pub n: i64,
    /// When first.
    pub first_at: Timestamp,
    /// When last.
    pub last_at: Timestamp,
}

const INSERT_PAYLOADS: &str = "insert into event_payload (environment_id, id, expires_at) ";
const IF_NEW: &str = " on conflict do nothing returning environment_id, id";
const INSERT_USAGE: &str =
    "insert into flag_usage (environment_id, flag_key, day, variation, flag_version, count) ";
const ADD_USAGE: &str = " on conflict (environment_id, flag_key, day, variation, flag_version)
    do update set count = flag_usage.count + excluded.count";
const INSERT_LAST: &str = "insert into flag_last_evaluated (environment_id, flag_key, at) ";
const KEEP_LAST: &str = " on conflict (environment_id, flag_key) do update set at = excluded.at
    where excluded.at > flag_last_evaluated.at";
const UNKNOWN_KEYS: &str = "select flag_key from unknown_flag where environment_id = $1";
const INSERT_UNKNOWN: &str =
    "insert into unknown_flag (environment_id, flag_key, count, first_at, last_at) ";
const ADD_UNKNOWN: &str = " on conflict (environment_id, flag_key) do update
    set count = unknown_flag.count + excluded.count,
        last_at = case when excluded.last_at > unknown_flag.last_at then excluded.last_at
            else unknown_flag.last_at end";
const INSERT_EVENTS: &str =
    "insert into event (day, at, environment_id, kind, key, unit_kind, unit,
    variation, flag_version, reason, in_experiment, value, sampling_ratio) ";
const INSERT_EXPOSURES: &str =
    "insert into exposure (day, environment_id, flag_key, unit_kind, unit,
    variation, flag_version, reason, in_experiment, first_at, count) ";
const ADD_EXPOSURES: &str =
    " on conflict (day, environment_id, flag_key, unit_kind, unit, variation)
    do update set count = exposure.count + excluded.count,
        in_experiment = exposure.in_experiment or excluded.in_experiment,
        first_at = case when excluded.first_at < exposure.first_at then excluded.first_at
            else exposure.first_at end";
const SETTING: &str = "select key, since from event_setting where id = 1";

/// Writes rows, several hundred with each statement.
macro_rules! insert_all {
    ($tx:expr, $rows:expr, $head:expr, $tail:expr, |$row:ident, $each:pat_param| $bind:expr) => {{
        let rows: Vec<_> = $rows.into_iter().collect();
        for chunk in rows.chunks(ROWS_MAX) {
            on_tx!($tx, c => {
                let mut query = QueryBuilder::new($head);
                query.push_values(chunk, |mut $row, $each| { $bind; });
                query.push($tail);
                query.build().persistent(false).execute(c).await.map(|_| ())
            })?;
        }
        Ok(())
    }};
}

impl Tx {
    /// Remembers payloads; returns those that were not remembered already.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn new_payloads(
        &mut self,
        payloads: &BTreeMap<(EnvId, &str), Timestamp>,
    ) -> Result<BTreeSet<(EnvId, String)>, StoreError> {
        let mut new = BTreeSet::new();
        let rows: Vec<_> = payloads.iter().collect();
        for chunk in rows.chunks(ROWS_MAX) {
            let found: Vec<(EnvId, String)> = on_tx!(self, c => {
                let mut query = QueryBuilder::new(INSERT_PAYLOADS);
                query.push_values(chunk, |mut row, ((env, id), expires_at)| {
                    row.push_bind(*env).push_bind(*id).push_bind(expires_at.to_sqlx());
                });
                query.push(IF_NEW);
                query.build_query_as().persistent(false).fetch_all(c).await
            })?;
            new.extend(found);
        }
        Ok(new)
    }

    /// Adds to the counts of evaluations.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn add_usage(&mut self, usage: &BTreeMap<UsageKey, i64>) -> Result<(), StoreError> {
        insert_all!(self, usage, INSERT_USAGE, ADD_USAGE, |row,
                                                           (
            (env, flag, day, variation, version),
            n,
        )| {
            row.push_bind(*env).push_bind(flag.as_str()).push_bind(day.to_sqlx());
            row.push_bind(*variation).push_bind(*version).push_bind(*n)
        })
    }

    /// Notes when flags were last evaluated, where that is later than what is noted.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn note_evaluated(
        &mut self,
        last: &BTreeMap<(EnvId, String), Timestamp>,
    ) -> Result<(), StoreError> {
        insert_all!(self, last, INSERT_LAST, KEEP_LAST, |row, ((env, flag), at)| {
            row.push_bind(*env).push_bind(flag.as_str()).push_bind(at.to_sqlx())
        })
    }

    /// Adds to the counts of flags that there are not; those beyond the bound of their environment are left out, and returned
    /// is how many they are.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn add_unknown(
        &mut self,
        unknown: &BTreeMap<(EnvId, String), Asked>,
    ) -> Result<u64, StoreError> {
        let environments: BTreeSet<EnvId> = unknown.keys().map(|(env, _)| *env).collect();
        let mut n_left_out = 0;
        let mut kept = Vec::with_capacity(unknown.len());
        for env in environments {
            let known: Vec<(String,)> = on_tx!(self, c => {
                sql!(UNKNOWN_KEYS => (String,)).bind(env).fetch_all(c).await
            })?;
            let mut room =
                UNKNOWN_FLAGS_MAX.saturating_sub(i64::try_from(known.len()).unwrap_or(i64::MAX));
            let known: BTreeSet<String> = known.into_iter().map(|(key,)| key).collect();
            for each in unknown.iter().filter(|((each, _), _)| *each == env) {
                let is_known = known.contains(&each.0.1);
                if is_known || room > 0 {
                    room -= i64::from(!is_known);
                    kept.push(each);
                } else {
                    n_left_out += 1;
                }
            }
        }
        let written: Result<(), StoreError> =
            insert_all!(self, kept, INSERT_UNKNOWN, ADD_UNKNOWN, |row, ((env, flag), asked)| {
                row.push_bind(*env).push_bind(flag.as_str()).push_bind(asked.n);
                row.push_bind(asked.first_at.to_sqlx()).push_bind(asked.last_at.to_sqlx())
            });
        written.map(|()| n_left_out)
    }

    /// Appends events, whose days must have been prepared.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_events(&mut self, events: &[EventRow]) -> Result<(), StoreError> {
        insert_all!(self, events, INSERT_EVENTS, "", |row, event| {
            row.push_bind(event.day.to_sqlx()).push_bind(event.at.to_sqlx());
            row.push_bind(event.env).push_bind(event.kind.as_str()).push_bind(event.key.as_str());
            row.push_bind(event.unit_kind.as_str()).push_bind(event.unit.to_vec());
            row.push_bind(event.variation).push_bind(event.version).push_bind(event.reason);
            row.push_bind(event.in_experiment).push_bind(event.value);
            row.push_bind(event.sampling_ratio)
        })
    }

    /// Adds exposures, whose days must have been prepared.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn add_exposures(
        &mut self,
        exposures: &BTreeMap<ExposureKey, Exposure>,
    ) -> Result<(), StoreError> {
        insert_all!(self, exposures, INSERT_EXPOSURES, ADD_EXPOSURES, |row,
                                                                       (
            (day, env, flag, unit_kind, unit, variation),
            exposure,
        )| {
            row.push_bind(day.to_sqlx()).push_bind(*env).push_bind(flag.as_str());
            row.push_bind(unit_kind.as_str()).push_bind(unit.to_vec());
            row.push_bind(*variation).push_bind(exposure.version).push_bind(exposure.reason);
            row.push_bind(exposure.in_experiment).push_bind(exposure.first_at.to_sqlx());
            row.push_bind(exposure.n)
        })
    }

    /// Reads the key that hashes the keys of contexts, and since when usage is counted.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if the key has not its length.
    pub async fn event_setting(&mut self) -> Result<([u8; 32], Timestamp), StoreError> {
        let (key, since) = on_tx!(self, c => {
            sql!(SETTING => (Vec<u8>, jiff_sqlx::Timestamp)).fetch_one(c).await
        })?;
        let key = key.try_into().map_err(|_| StoreError::Corrupt {
            table: "event_setting",
            key: "1".to_owned(),
            cause: "the key must have 32 bytes".to_owned(),
        })?;
        Ok((key, since.to_jiff()))
    }
}
