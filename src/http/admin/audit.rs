//! The audit log.

use crate::auth;
use crate::auth::Denied;
use crate::http::AdminState;
use crate::http::error::ApiError;
use crate::http::extract::AdminCaller;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::model::change::AuditEntry;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::store::AuditFilter;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Entries in one answer, if the caller does not say.
const LIMIT_DEFAULT: i64 = 50;
/// Entries in one answer at most.
const LIMIT_MAX: i64 = 500;

/// One entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditBody {
    id: String,
    #[schema(value_type = String)]
    at: Timestamp,
    /// Who: the id and name of the token.
    actor: ActorBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ProjectKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvKey>,
    /// What was done, e.g. `flag.kill`.
    action: String,
    /// The key or id of what was changed.
    subject: String,
    /// The environment's version that the change made, if it is of one environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    /// Why, in the words of the one who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// The instructions as they were sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    instructions: Option<Box<RawValue>>,
    /// What was done, in words.
    changes: Vec<String>,
    request_id: String,
}

/// Who made a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActorBody {
    /// The id of the token that was used.
    id: String,
    /// The token's name.
    name: String,
}

impl From<AuditEntry> for AuditBody {
    fn from(entry: AuditEntry) -> Self {
        let instructions = entry.instructions.and_then(|text| RawValue::from_string(text).ok());
        Self {
            id: entry.id,
            at: entry.at,
            actor: ActorBody { id: entry.actor.id, name: entry.actor.name },
            project: entry.project,
            environment: entry.env,
            action: entry.action,
            subject: entry.subject,
            version: entry.version,
            comment: entry.comment,
            instructions,
            changes: entry.changes,
            request_id: entry.request_id,
        }
    }
}

/// Entries of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditList {
    /// Newest first.
    items: Vec<AuditBody>,
    /// Pass it as `before` to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    before: Option<String>,
    limit: Option<i64>,
}

/// Lists the audit log of the installation, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit",
    params(("before" = Option<String>, Query, description = "The `next` of an earlier answer."),
        ("limit" = Option<i64>, Query, description = "From 1 to 500; 50 if it is left out.")),
    responses((status = 200, description = "The entries.", body = AuditList)))]
pub(crate) async fn list_audit(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    auth::require_role(caller.grant(), Role::Viewer)?;
    if caller.grant().scope != Scope::All {
        return Err(Denied::Scope.into());
    }
    list(&state, AuditFilter::default(), query).await
}

/// Lists the audit log of a project with all its environments, newest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/audit", tag = "audit",
    params(("project" = String, Path),
        ("before" = Option<String>, Query, description = "The `next` of an earlier answer."),
        ("limit" = Option<i64>, Query, description = "From 1 to 500; 50 if it is left out.")),
    responses((status = 200, description = "The entries.", body = AuditList)))]
pub(crate) async fn list_project_audit(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((project,)): Keys<(ProjectKey,)>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    auth::require_role_in_project(caller.grant(), Role::Viewer, &project)?;
    let filter = AuditFilter { project: Some(project), ..AuditFilter::default() };
    list(&state, filter, query).await
}

/// Lists the audit log of an environment, newest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/audit", tag = "audit",
    params(("project" = String, Path), ("environment" = String, Path),
        ("before" = Option<String>, Query, description = "The `next` of an earlier answer."),
        ("limit" = Option<i64>, Query, description = "From 1 to 500; 50 if it is left out.")),
    responses((status = 200, description = "The entries.", body = AuditList)))]
pub(crate) async fn list_environment_audit(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    auth::require_role_in_environment(caller.grant(), Role::Viewer, &project, &env)?;
    let filter = AuditFilter { project: Some(project), env: Some(env), ..AuditFilter::default() };
    list(&state, filter, query).await
}

async fn list(
    state: &AdminState,
    filter: AuditFilter,
    query: AuditQuery,
) -> Result<Json<AuditList>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit must be from 1 to {LIMIT_MAX}");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    if query.before.as_ref().is_some_and(|before| before.contains('\0')) {
        return Err(ApiError::bad_request(
            "invalid_query",
            "before must be the `next` of an answer",
        ));
    }
    // One more than asked for tells whether there is more.
    let filter = AuditFilter { before: query.before, limit: limit + 1, ..filter };
    let mut entries = state.control.audit(&filter).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = entries.len() > wanted;
    entries.truncate(wanted);
    let next = entries.last().filter(|_| has_more).map(|entry| entry.id.clone());
    Ok(Json(AuditList { items: entries.into_iter().map(AuditBody::from).collect(), next }))
}
