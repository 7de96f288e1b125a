//! Usage: how often flags are evaluated, which may be removed, and which are asked for in vain.

use crate::control::FlagUsage;
use crate::control::StaleFlag;
use crate::control::StaleReason;
use crate::control::UsageFilter;
use crate::http::AdminState;
use crate::http::admin::Items;
use crate::http::authorized::Authorized;
use crate::http::authorized::ReadEnvironment;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::model::flag::FlagDefinition;
use crate::model::flag::FlagEnd;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::UnknownFlagRecord;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use jiff::civil::Date;
use serde::Deserialize;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Days back that are told if nothing else is asked for.
pub(crate) const DAYS_DEFAULT: u32 = 30;
/// Days back that can be asked for.
const DAYS_MAX: u32 = 3_650;
/// Flags in one answer if nothing else is asked for.
const LIMIT_DEFAULT: i64 = 100;
/// Flags in one answer.
const LIMIT_MAX: i64 = 500;

/// How often a flag was evaluated.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FlagUsageBody {
    /// The flag's key.
    flag: String,
    /// To the second, or to the ten seconds in which counts are collected; absent if it never was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_evaluated_at: Option<Timestamp>,
    /// How often in all.
    total: i64,
    /// Each variation that was served, the most frequent first.
    variations: Vec<VariationUsageBody>,
}

/// How often a flag served one variation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VariationUsageBody {
    /// The key of the variation; `null` if there was no value and the code's default was used, or the flag has no such
    /// variation any more.
    variation: Option<String>,
    /// Its index; `null` if there was no value.
    variation_index: Option<i64>,
    /// How often.
    count: i64,
    /// How often on each day on which it was.
    days: Vec<DayBody>,
    /// How often at each version of the flag.
    versions: Vec<VersionUsageBody>,
}

/// How often on one day.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DayBody {
    /// The day, UTC.
    day: String,
    count: i64,
}

/// How often at one version.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionUsageBody {
    /// The environment's version at which the flag had last changed; 0 if the SDK did not say.
    version: i64,
    count: i64,
}

type ByDay = BTreeMap<Date, i64>;
type ByVersion = BTreeMap<i64, i64>;

impl From<FlagUsage> for FlagUsageBody {
    fn from(usage: FlagUsage) -> Self {
        let FlagUsage { flag, definition, last_evaluated_at, records } = usage;
        let mut by_variation: BTreeMap<Option<i64>, (ByDay, ByVersion)> = BTreeMap::new();
        for record in records {
            let (days, versions) = by_variation.entry(record.variation).or_default();
            *days.entry(record.day).or_default() += record.n;
            *versions.entry(record.version).or_default() += record.n;
        }
        let day = |(day, count): (Date, i64)| DayBody { day: day.to_string(), count };
        let version = |(version, count)| VersionUsageBody { version, count };
        let body =
            |(index, (days, versions)): (Option<i64>, (ByDay, ByVersion))| VariationUsageBody {
                variation: index.and_then(|index| key_of(definition.as_ref(), index)),
                variation_index: index,
                count: versions.values().sum(),
                days: days.into_iter().map(day).collect(),
                versions: versions.into_iter().map(version).collect(),
            };
        let mut variations: Vec<VariationUsageBody> = by_variation.into_iter().map(body).collect();
        variations.sort_by_key(|variation| std::cmp::Reverse(variation.count));
        let total = variations.iter().map(|variation| variation.count).sum();
        Self { flag, last_evaluated_at, total, variations }
    }
}

fn key_of(definition: Option<&FlagDefinition>, index: i64) -> Option<String> {
    let index = usize::try_from(index).ok()?;
    definition?.variations.get(index).map(|variation| variation.key.to_string())
}

/// How often flags were evaluated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageList {
    /// By key; flags that were not evaluated are not in it.
    items: Vec<FlagUsageBody>,
    /// Pass it as `after` to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A flag that may be removed, and why.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StaleFlagBody {
    /// The flag's key.
    flag: String,
    name: String,
    tags: Vec<String>,
    temporary: bool,
    /// When it is to be gone, if somebody has said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary_until: Option<FlagEnd>,
    /// Whether it is on.
    on: bool,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// When it last changed in this environment.
    #[schema(value_type = String)]
    changed_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_evaluated_at: Option<Timestamp>,
    /// At least one.
    reasons: Vec<StaleReasonBody>,
}

/// Why a flag may be removed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StaleReasonBody {
    /// `single_variation`, `not_evaluated`, `unconditional`, `off`, `temporary_overdue`, `temporary_ended` or `missing_prerequisite`.
    code: &'static str,
    /// The same as a sentence.
    detail: String,
    /// With `single_variation`: the key of that variation.
    #[serde(skip_serializing_if = "Option::is_none")]
    variation: Option<String>,
}

/// Flags that may be removed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StaleList {
    /// By key.
    items: Vec<StaleFlagBody>,
    /// How many days back the reasons look.
    days: u32,
    /// Since when evaluations are counted; reasons about usage are given only for days since then.
    #[schema(value_type = String)]
    counted_since: Timestamp,
}

impl StaleFlagBody {
    fn new(stale: StaleFlag, days: u32) -> Self {
        let StaleFlag { flag, last_evaluated_at, reasons } = stale;
        let definition = flag.definition;
        let reason = |reason: StaleReason| {
            let variation = match reason {
                StaleReason::SingleVariation(index) => key_of(Some(&definition), index),
                _ => None,
            };
            let detail = detail_of(reason, variation.as_deref(), days);
            StaleReasonBody { code: reason.code(), detail, variation }
        };
        Self {
            reasons: reasons.into_iter().map(reason).collect(),
            flag: definition.key.to_string(),
            name: definition.name,
            tags: definition.tags,
            temporary: definition.temporary,
            temporary_until: definition.temporary_until,
            on: flag.config.on,
            created_at: flag.created_at,
            changed_at: flag.changed_at,
            last_evaluated_at,
        }
    }
}

fn detail_of(reason: StaleReason, variation: Option<&str>, days: u32) -> String {
    match reason {
        StaleReason::SingleVariation(index) => {
            let name = variation.map_or_else(|| index.to_string(), str::to_owned);
            format!("every evaluation of the last {days} days served `{name}`")
        }
        StaleReason::NotEvaluated => format!("it was not evaluated in the last {days} days"),
        StaleReason::Unconditional => {
            format!("it serves everyone the same, and was not changed for {days} days")
        }
        StaleReason::Off => format!("it is off, and was not changed for {days} days"),
        StaleReason::TemporaryOverdue => {
            format!("it is temporary, and was created more than {days} days ago")
        }
        StaleReason::TemporaryEnded => "it is temporary, and its end is past".to_owned(),
        StaleReason::MissingPrerequisite => {
            "a flag that it depends on is not there any more, so everyone gets its off variation"
                .to_owned()
        }
    }
}

/// A flag that was asked for and that there is not.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UnknownFlagBody {
    /// The key that was asked for.
    flag: String,
    /// How often.
    count: i64,
    #[schema(value_type = String)]
    first_asked_at: Timestamp,
    #[schema(value_type = String)]
    last_asked_at: Timestamp,
    /// Whether there was once a flag with this key, which was deleted.
    deleted: bool,
}

impl From<UnknownFlagRecord> for UnknownFlagBody {
    fn from(record: UnknownFlagRecord) -> Self {
        let UnknownFlagRecord { flag, n, first_at, last_at, is_deleted } = record;
        let (first_asked_at, last_asked_at) = (first_at, last_at);
        Self { flag, count: n, first_asked_at, last_asked_at, deleted: is_deleted }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UsageQuery {
    flag: Option<String>,
    days: Option<u32>,
    after: Option<String>,
    limit: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DaysQuery {
    days: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LimitQuery {
    limit: Option<i64>,
}

/// Lists how often the flags of an environment were evaluated, by flag, variation and day.
///
/// Counts are there about ten seconds after the evaluation, or when an SDK has sent them.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/usage", tag = "usage",
    params(("project" = String, Path), ("environment" = String, Path),
        ("flag" = Option<String>, Query, description = "Only this flag."),
        ("days" = Option<u32>, Query, description = "How many days back, besides today; from 0 to 3650, 30 if it is left out."),
        ("after" = Option<String>, Query, description = "The `next` of an earlier answer."),
        ("limit" = Option<i64>, Query, description = "Flags, from 1 to 500; 100 if it is left out.")),
    responses((status = 200, description = "The counts.", body = UsageList)))]
pub(crate) async fn list_usage(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<UsageQuery>,
) -> Result<Json<UsageList>, ApiError> {
    let (days, limit) = (read_days(query.days)?, read_limit(query.limit)?);
    if let Some(flag) = query.flag {
        let flag = FlagKey::parse(&flag)
            .ok_or_else(|| ApiError::bad_request("invalid_query", "flag must be the key of one"))?;
        let usage = state.control.flag_usage(&project, &env, &flag, days).await?;
        return Ok(Json(UsageList { items: vec![usage.into()], next: None }));
    }
    let after = query.after.unwrap_or_default();
    if after.contains('\0') {
        let detail = "after must be the `next` of an answer";
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    // One more than asked for tells whether there is more.
    let filter = UsageFilter { days, after, limit: limit + 1 };
    let mut usage = state.control.usage(&project, &env, &filter).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = usage.len() > wanted;
    usage.truncate(wanted);
    let next = usage.last().filter(|_| has_more).map(|last| last.flag.clone());
    Ok(Json(UsageList { items: usage.into_iter().map(FlagUsageBody::from).collect(), next }))
}

/// Returns how often a flag was evaluated and when last.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/usage", tag = "usage",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path),
        ("days" = Option<u32>, Query, description = "How many days back, besides today; from 0 to 3650, 30 if it is left out.")),
    responses((status = 200, description = "The counts.", body = FlagUsageBody)))]
pub(crate) async fn find_flag_usage(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env, flag)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    Params(query): Params<DaysQuery>,
) -> Result<Json<FlagUsageBody>, ApiError> {
    let days = read_days(query.days)?;
    Ok(Json(state.control.flag_usage(&project, &env, &flag, days).await?.into()))
}

/// Lists the flags of an environment that may be removed, with the reasons.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/stale", tag = "usage",
    params(("project" = String, Path), ("environment" = String, Path),
        ("days" = Option<u32>, Query, description = "How many days back the reasons look; from 0 to 3650, 30 if it is left out.")),
    responses((status = 200, description = "The flags.", body = StaleList)))]
pub(crate) async fn list_stale_flags(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<DaysQuery>,
) -> Result<Json<StaleList>, ApiError> {
    let days = read_days(query.days)?;
    let (stale, counted_since) = state.control.stale_flags(&project, &env, days).await?;
    let items = stale.into_iter().map(|stale| StaleFlagBody::new(stale, days)).collect();
    Ok(Json(StaleList { items, days, counted_since }))
}

/// Lists the flags that were asked for and that there are not.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/unknown-flags", tag = "usage",
    params(("project" = String, Path), ("environment" = String, Path),
        ("limit" = Option<i64>, Query, description = "From 1 to 500; 100 if it is left out.")),
    responses((status = 200, description = "The flags, those first that were asked for last.", body = Items<UnknownFlagBody>)))]
pub(crate) async fn list_unknown_flags(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<LimitQuery>,
) -> Result<Json<Items<UnknownFlagBody>>, ApiError> {
    let limit = read_limit(query.limit)?;
    let unknown = state.control.unknown_flags(&project, &env, limit).await?;
    Ok(Json(Items { items: unknown.into_iter().map(UnknownFlagBody::from).collect() }))
}

fn read_days(days: Option<u32>) -> Result<u32, ApiError> {
    let days = days.unwrap_or(DAYS_DEFAULT);
    if days > DAYS_MAX {
        let detail = format!("days must be from 0 to {DAYS_MAX}");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    Ok(days)
}

fn read_limit(limit: Option<i64>) -> Result<i64, ApiError> {
    let limit = limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit must be from 1 to {LIMIT_MAX}");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    Ok(limit)
}
