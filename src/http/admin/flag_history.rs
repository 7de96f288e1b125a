//! Earlier versions of a flag in an environment, and going back to one.

use crate::control::RevertRequest;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::FlagChanged;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::flag_config::changed_flag;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangeConfig;
use crate::http::authorized::ReadEnvironment;
use crate::http::authorized::Versioned;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::FlagVersion;
use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::IntoParams;
use utoipa::ToSchema;

/// Versions in one answer, if the caller does not say.
const LIMIT_DEFAULT: i64 = 50;
/// Versions in one answer at most; so many are kept.
const LIMIT_MAX: i64 = 200;

/// A version of a flag in an environment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionBody {
    /// The environment's version that made it; what `revert` takes.
    version: i64,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    at: Option<Timestamp>,
    /// The name of who made it.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// What was done, as the audit log names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// What was done, in words.
    changes: Vec<String>,
    /// The id of the audit entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_id: Option<String>,
}

impl From<FlagVersion> for VersionBody {
    fn from(found: FlagVersion) -> Self {
        let FlagVersion { version, made } = found;
        let Some(made) = made else {
            let (at, by, action, comment, audit_id) = (None, None, None, None, None);
            return Self { version, at, by, action, comment, changes: Vec::new(), audit_id };
        };
        Self {
            version,
            at: Some(made.at),
            by: Some(made.actor.name),
            action: Some(made.action),
            comment: made.comment,
            changes: made.changes,
            audit_id: Some(made.audit_id),
        }
    }
}

/// Versions of a flag in an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VersionList {
    /// Newest first.
    items: Vec<VersionBody>,
    /// Pass it as `before` to read on; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<i64>,
}

/// Which versions are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// The `next` of an earlier answer.
    before: Option<i64>,
    /// From 1 to 200; 50 if it is left out.
    limit: Option<i64>,
}

/// The version to go back to.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct Revert {
    /// One that the history names.
    version: i64,
    /// Why; kept in the audit log.
    comment: Option<String>,
}

/// Lists the versions of a flag in an environment, newest first; the latest 200 are kept.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/history", tag = "flags",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path), HistoryQuery),
    responses((status = 200, description = "The versions.", body = VersionList)))]
pub(crate) async fn list_flag_versions(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<VersionList>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        let detail = format!("limit must be from 1 to {LIMIT_MAX}");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    let before = query.before.unwrap_or(0);
    // One more than asked for tells whether there is more.
    let found = state.control.flag_history((&project, &env), &key, before, limit + 1).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > wanted;
    let items: Vec<VersionBody> = found.into_iter().take(wanted).map(VersionBody::from).collect();
    let next = items.last().filter(|_| has_more).map(|last| last.version);
    Ok(Json(VersionList { items, next }))
}

/// Gives a flag the configuration back that it had at an earlier version, as a new change.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}/revert", tag = "flags",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen."),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the flag's `ETag`.")),
    request_body = Revert,
    responses((status = 200, description = "The flag and what was done.", body = FlagChanged),
        (status = 412, description = "The flag has changed since.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn revert_flag(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeConfig>>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<impl IntoResponse, ApiError> {
    let if_version = caller.if_version()?;
    let (version, comment) = decode(body, |fields| {
        if !fields.has("version") {
            fields.missing("version");
        }
        let (version, comment) = (fields.integer("version", 1..=i64::MAX), comment(fields));
        Some((version?, comment))
    })?;
    let request = RevertRequest { version, if_version };
    let author = caller.author(comment);
    let changed = state.control.revert_flag(&author, (&project, &env), &key, request).await?;
    Ok(changed_flag(changed))
}
