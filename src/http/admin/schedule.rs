//! The schedule of an environment: changes that are made later, once or again and again.
//!
//! Reading what is to be planned is in `schedule/read`.

mod read;

use crate::control::ControlError;
use crate::control::PartChanged;
use crate::control::Planning;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::impact::ImpactBody;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangeConfig;
use crate::http::authorized::ReadEnvironment;
use crate::http::authorized::Versioned;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::schedule::Outcome;
use crate::model::schedule::PlannedChange;
use crate::model::schedule::SCHEDULE_STATES;
use crate::model::schedule::ScheduleState;
use crate::model::window::Day;
use crate::model::window::Windows;
use crate::store::ScheduleFilter;
use crate::store::ScheduleRecord;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::ToSchema;

/// Entries in one answer, if it is not said otherwise.
const LIMIT_DEFAULT: i64 = 100;
/// Entries in one answer at most.
const LIMIT_MAX: i64 = 500;

/// What is to be planned: `instructions` for a `flag` or a `segment`, `changes`, or `windows` for a `flag`.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct NewSchedule {
    flag: Option<FlagKey>,
    segment: Option<SegmentKey>,
    /// Refuses the plan unless the flag or segment is at this version, as `If-Match` does; each of `changes` can have it, too.
    #[schema(minimum = 1)]
    if_version: Option<i64>,
    /// Instructions as the routes of a single flag or segment take them.
    #[schema(value_type = Option<Vec<Object>>)]
    instructions: Option<Vec<Value>>,
    /// Changes of several flags and segments of the environment, made together or not at all.
    changes: Option<Vec<NewPlanned>>,
    /// When: with an offset like `2026-12-01T09:00:00+01:00`, or without one together with `timeZone`.
    at: Option<String>,
    /// A name of the IANA time zone database.
    time_zone: Option<String>,
    windows: Option<WindowsBody>,
    /// How late it may be, like `30m` or `1h`; if it is later, nothing is done. However late, if it is left out.
    skip_if_late_by: Option<String>,
    /// Why; kept in the audit log.
    comment: Option<String>,
}

/// One of several changes that are to be planned: of a flag or a segment of the environment.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
#[schema(rename_all = "camelCase")]
pub(crate) struct NewPlanned {
    flag: Option<FlagKey>,
    segment: Option<SegmentKey>,
    /// Refuses everything unless the flag or segment is at this version.
    #[schema(minimum = 1)]
    if_version: Option<i64>,
    /// Instructions as the routes of a single flag or segment take them.
    #[schema(value_type = Vec<Object>)]
    instructions: Vec<Value>,
}

/// When a flag is on, again and again.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WindowsBody {
    /// A name of the IANA time zone database.
    time_zone: String,
    /// The days on which windows start.
    days: Vec<Day>,
    /// When the flag is turned on, like `09:00`.
    from: String,
    /// When it is turned off; on the next day, if that is earlier than `from`.
    to: String,
}

/// An entry of the schedule.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleBody {
    id: String,
    state: ScheduleState,
    /// When it is due, or was.
    #[schema(value_type = String)]
    due_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<FlagKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    instructions: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<PlannedBody>,
    /// The version of the flag or segment that it was planned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    planned_on_version: Option<i64>,
    /// The time as it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    windows: Option<WindowsBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skip_if_late_by_secs: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// The name of the token that planned it.
    created_by: String,
    /// The id of that token.
    created_by_id: String,
    /// What came of it; of windows, of the latest start or end.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Outcome>,
}

/// One of several planned changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<FlagKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentKey>,
    #[schema(value_type = Vec<Object>)]
    instructions: Value,
    /// The version of the flag or segment that it was planned on.
    planned_on_version: i64,
}

/// What a planned change would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScheduleDryRun {
    /// Always true.
    dry_run: bool,
    /// When it would be due first.
    #[schema(value_type = String)]
    due_at: Timestamp,
    /// What each change would do as things are, behind what is due before it; of windows, the start.
    changes: Vec<ScheduleImpact>,
}

/// What one planned change would do.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleImpact {
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<FlagKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentKey>,
    #[serde(flatten)]
    impact: ImpactBody,
}

/// Entries of the schedule.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ScheduleList {
    /// The latest that were planned first.
    items: Vec<ScheduleBody>,
    /// Pass it as `before` to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Which entries are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ScheduleQuery {
    /// The `next` of an earlier answer.
    before: Option<String>,
    /// From 1 to 500; 100 if it is left out.
    limit: Option<i64>,
    /// The key of a flag.
    flag: Option<String>,
    /// `pending`, `done`, `failed`, `conflict`, `skipped` or `cancelled`.
    state: Option<String>,
}

impl From<Windows> for WindowsBody {
    fn from(windows: Windows) -> Self {
        let Windows { time_zone, days, from, to } = windows;
        let text = |time: jiff::civil::Time| time.strftime("%H:%M").to_string();
        Self { time_zone, days, from: text(from), to: text(to) }
    }
}

impl From<ScheduleRecord> for ScheduleBody {
    fn from(record: ScheduleRecord) -> Self {
        let mut body = Self {
            id: record.id,
            state: record.state,
            due_at: record.due,
            flag: None,
            segment: None,
            instructions: None,
            changes: Vec::new(),
            planned_on_version: None,
            at: record.plan.at,
            time_zone: record.plan.time_zone,
            skip_if_late_by_secs: record.plan.skip_if_late_by_secs,
            comment: record.comment,
            created_at: record.created_at,
            created_by: record.author.name,
            created_by_id: record.author.id,
            result: record.outcome,
            windows: None,
        };
        let is_single = !record.plan.is_list;
        let has_windows = record.plan.windows.is_some();
        for change in record.plan.changes {
            let PlannedChange { flag, segment, instructions, base } = change;
            if is_single {
                (body.flag, body.segment, body.planned_on_version) = (flag, segment, Some(base));
                body.instructions = (!has_windows).then_some(instructions);
            } else {
                let planned_on_version = base;
                body.changes.push(PlannedBody { flag, segment, instructions, planned_on_version });
            }
        }
        body.windows = record.plan.windows.map(WindowsBody::from);
        body
    }
}

/// Plans a change, or windows in which a flag is on.
///
/// Whether it can be made is checked now, behind what is due before it; when it is due, whether whoever planned it still may, and
/// whether what it touches has changed since.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/schedule", tag = "schedule",
    params(("project" = String, Path), ("environment" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen."),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the flag's `ETag`.")),
    request_body = NewSchedule,
    responses((status = 201, description = "The entry.", body = ScheduleBody),
        (status = 200, description = "What would happen.", body = ScheduleDryRun)))]
pub(crate) async fn create_schedule(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeConfig>>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<Response, ApiError> {
    let if_version = caller.if_version()?;
    let (mut request, comment) = decode(body, |fields| {
        let comment = comment(fields);
        Some((read::request(fields, &env)?, comment))
    })?;
    if if_version.is_some() && request.is_list {
        let detail = "give `ifVersion` in each of the changes, and no If-Match";
        return Err(ApiError::bad_request("if_match_unsupported", detail));
    }
    if let (Some(version), [part]) = (if_version, request.parts.as_mut_slice()) {
        part.require_version(version).map_err(ControlError::Invalid)?;
    }
    request.author_expires_at = caller.grant().expires_at;
    let author = caller.author(comment);
    let Planning { entry, parts } = state.control.plan(&author, (&project, &env), request).await?;
    if !author.is_rehearsing() {
        return Ok((StatusCode::CREATED, Json(ScheduleBody::from(entry))).into_response());
    }
    let one = |(change, done): (PlannedChange, PartChanged)| {
        let definition = done.flag.as_ref().map(|flag| flag.definition.clone());
        let impact = ImpactBody::new(done, definition.as_ref());
        ScheduleImpact { flag: change.flag, segment: change.segment, impact }
    };
    let changes = entry.plan.changes.into_iter().zip(parts).map(one).collect();
    Ok(Json(ScheduleDryRun { dry_run: true, due_at: entry.due, changes }).into_response())
}

/// Lists the schedule of an environment, the latest that were planned first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/schedule", tag = "schedule",
    params(("project" = String, Path), ("environment" = String, Path), ScheduleQuery),
    responses((status = 200, description = "The entries.", body = ScheduleList)))]
pub(crate) async fn list_schedule(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<ScheduleQuery>,
) -> Result<Json<ScheduleList>, ApiError> {
    let refuse = |detail: String| ApiError::bad_request("invalid_query", detail);
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(refuse(format!("limit must be from 1 to {LIMIT_MAX}")));
    }
    let find = |text: String| {
        let found = SCHEDULE_STATES.iter().find(|(word, _)| *word == text);
        let words: Vec<&str> = SCHEDULE_STATES.iter().map(|(word, _)| *word).collect();
        let detail = || format!("state must be one of {}", words.join(", "));
        found.map(|(_, state)| *state).ok_or_else(|| refuse(detail()))
    };
    let wanted = query.state.map(find).transpose()?;
    let is_key = |text: &String| FlagKey::parse(text).is_some();
    if query.flag.as_ref().is_some_and(|flag| !is_key(flag)) {
        return Err(refuse("flag must be the key of a flag".to_owned()));
    }
    if query.before.as_ref().is_some_and(|id| !is_key(id)) {
        return Err(refuse("before must be the `next` of an earlier answer".to_owned()));
    }
    // One more than asked for tells whether there is more.
    let (before, flag) = (query.before, query.flag);
    let filter = ScheduleFilter { before, state: wanted, flag, limit: limit + 1 };
    let mut entries = state.control.schedule((&project, &env), &filter).await?;
    let n_wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = entries.len() > n_wanted;
    entries.truncate(n_wanted);
    let next = entries.last().filter(|_| has_more).map(|entry| entry.id.clone());
    Ok(Json(ScheduleList { items: entries.into_iter().map(ScheduleBody::from).collect(), next }))
}

/// Returns an entry of the schedule.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/schedule/{id}", tag = "schedule",
    params(("project" = String, Path), ("environment" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "The entry.", body = ScheduleBody)))]
pub(crate) async fn find_schedule(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env, id)): Keys<(ProjectKey, EnvKey, String)>,
    _: Params<NoParams>,
) -> Result<Json<ScheduleBody>, ApiError> {
    Ok(Json(state.control.scheduled((&project, &env), &id).await?.into()))
}

/// Takes an entry back that is still to come; windows end with it, and the flag stays as it is.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/schedule/{id}", tag = "schedule",
    params(("project" = String, Path), ("environment" = String, Path), ("id" = String, Path)),
    responses((status = 200, description = "The entry, which is cancelled.", body = ScheduleBody),
        (status = 409, description = "It is not to come any more.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn cancel_schedule(
    State(state): State<AdminState>,
    caller: Authorized<ChangeConfig>,
    Keys((project, env, id)): Keys<(ProjectKey, EnvKey, String)>,
    _: Params<PatchQuery>,
) -> Result<Json<ScheduleBody>, ApiError> {
    let author = caller.author(None);
    Ok(Json(state.control.cancel_scheduled(&author, (&project, &env), &id).await?.into()))
}
