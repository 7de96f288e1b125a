//! The audit log.

use crate::http::AdminState;
use crate::http::authorized::Authorized;
use crate::http::authorized::ExportAudit;
use crate::http::authorized::ReadEnvironment;
use crate::http::authorized::ReadInstallation;
use crate::http::authorized::ReadProject;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::model::audit::SignedHead;
use crate::model::change::Actor;
use crate::model::change::AuditEntry;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Holder;
use crate::store::AuditCursor;
use crate::store::AuditFilter;
use axum::Json;
use axum::body::Body;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::StreamExt;
use futures_util::future::Either;
use futures_util::stream;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use std::io;
use utoipa::IntoParams;
use utoipa::ToSchema;

/// Entries in one answer, if the caller does not say.
const LIMIT_DEFAULT: i64 = 50;
/// Entries in one answer at most.
const LIMIT_MAX: i64 = 500;
/// Bytes of a text that entries are looked for with.
const FILTER_BYTES_MAX: usize = 512;

/// One entry of the audit log.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AuditBody {
    /// Where it stands in the chain; absent if it is not in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<i64>,
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
    /// The instructions as they were sent; of a segment that was replaced as a whole, those that would have done the same, if one change could.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    instructions: Option<Box<RawValue>>,
    /// What was done, in words.
    changes: Vec<String>,
    request_id: String,
    /// The address that the request came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// SHA-256 of the hash before and of this entry, as hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    /// The fields whose stored form cannot be read; of the actor and the changes, the raw text is there instead.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<&'static str>,
}

/// Who made a change.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActorBody {
    /// The id of the token that was used.
    id: String,
    /// The token's name.
    name: String,
    /// Whether a person or a program holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
}

impl From<AuditEntry> for AuditBody {
    fn from(entry: AuditEntry) -> Self {
        let instructions = entry.instructions.and_then(|text| RawValue::from_string(text).ok());
        let (seq, hash) = entry.link.map(|link| (link.seq, link.hash)).unzip();
        let Actor { id, name, holder } = entry.actor;
        Self {
            seq,
            hash,
            address: entry.address,
            id: entry.id,
            at: entry.at,
            actor: ActorBody { id, name, holder },
            project: entry.project,
            environment: entry.env,
            action: entry.action,
            subject: entry.subject,
            version: entry.version,
            comment: entry.comment,
            instructions,
            changes: entry.changes,
            request_id: entry.request_id,
            unreadable: entry.unreadable,
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

/// Which entries are asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// The `next` of an earlier answer.
    before: Option<String>,
    /// From 1 to 500; 50 if it is left out.
    limit: Option<i64>,
    /// The id or the name of a token.
    actor: Option<String>,
    /// An action like `flag.kill`, or the beginning of several with its dot, like `flag.`.
    action: Option<String>,
    /// The key of a flag.
    flag: Option<String>,
    /// A time like `2026-11-23T19:05:00Z`: only entries from then on.
    since: Option<String>,
    /// A time: only entries before.
    until: Option<String>,
    /// A text that occurs in the changes, the comment, the subject or the actor, in either case of its letters.
    text: Option<String>,
}

/// Lists the audit log of the installation, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit",
    params(AuditQuery),
    responses((status = 200, description = "The entries.", body = AuditList)))]
pub(crate) async fn list_audit(
    State(state): State<AdminState>,
    _: Authorized<ReadInstallation>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    list(&state, AuditFilter::default(), query).await
}

/// Lists the audit log of a project with all its environments, newest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/audit", tag = "audit",
    params(("project" = String, Path),
        AuditQuery),
    responses((status = 200, description = "The entries.", body = AuditList)))]
pub(crate) async fn list_project_audit(
    State(state): State<AdminState>,
    _: Authorized<ReadProject>,
    Keys((project,)): Keys<(ProjectKey,)>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
    let filter = AuditFilter { project: Some(project), ..AuditFilter::default() };
    list(&state, filter, query).await
}

/// Lists the audit log of an environment, newest first.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/audit", tag = "audit",
    params(("project" = String, Path), ("environment" = String, Path),
        AuditQuery),
    responses((status = 200, description = "The entries.", body = AuditList)))]
pub(crate) async fn list_environment_audit(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<AuditQuery>,
) -> Result<Json<AuditList>, ApiError> {
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
    let AuditQuery { before, actor, action, flag, since, until, text, .. } = query;
    let filter = AuditFilter {
        before: plain("before", before)?,
        actor: plain("actor", actor)?,
        action: plain("action", action)?,
        flag: plain("flag", flag)?,
        text: plain("text", text)?,
        since: time("since", since)?,
        until: time("until", until)?,
        // One more than asked for tells whether there is more.
        limit: limit + 1,
        ..filter
    };
    let mut entries = state.control.audit(&filter).await?;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = entries.len() > wanted;
    entries.truncate(wanted);
    let next = entries.last().filter(|_| has_more).map(|entry| entry.id.clone());
    Ok(Json(AuditList { items: entries.into_iter().map(AuditBody::from).collect(), next }))
}

/// A text that a database can be asked for.
fn plain(name: &str, text: Option<String>) -> Result<Option<String>, ApiError> {
    let is_good = |text: &String| !text.contains('\0') && text.len() <= FILTER_BYTES_MAX;
    if text.as_ref().is_some_and(|text| !is_good(text)) {
        let detail = format!("{name} must be at most {FILTER_BYTES_MAX} bytes, without NUL");
        return Err(ApiError::bad_request("invalid_query", detail));
    }
    Ok(text.filter(|text| !text.is_empty()))
}

fn time(name: &str, text: Option<String>) -> Result<Option<Timestamp>, ApiError> {
    let parse = |text: String| {
        text.parse().map_err(|_| {
            let detail =
                format!("{name} must be a time with its offset, like 2026-11-23T19:05:00Z");
            ApiError::bad_request("invalid_query", detail)
        })
    };
    text.map(parse).transpose()
}

/// Exports the whole audit log as JSON lines, oldest first, for `vexil audit verify`.
///
/// Needs an auditor's or administrator's token of the installation.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit",
    responses((status = 200, description = "One entry a line, with its hash.", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn export_audit(
    State(state): State<AdminState>,
    _: Authorized<ExportAudit>,
    _: Params<NoParams>,
) -> Result<Response, ApiError> {
    // The first page is read before anything is sent, so that an error can still be told.
    let (first, cursor) = state.control.export_audit(AuditCursor::default()).await?;
    let rest = stream::try_unfold(cursor, move |cursor| {
        let control = state.control.clone();
        async move {
            let (lines, next) = control.export_audit(cursor).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>((!lines.is_empty()).then(|| (Bytes::from(lines), next)))
        }
    });
    let rest = if first.is_empty() { Either::Left(stream::empty()) } else { Either::Right(rest) };
    let first = stream::iter([Ok::<_, io::Error>(Bytes::from(first))]);
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(first.chain(rest))).into_response())
}

/// Returns the end of the audit log, signed with a key that is not in the database.
#[utoipa::path(get, path = "/api/v1/audit/head", tag = "audit",
    responses((status = 200, description = "The number and hash of the last entry.", body = SignedHead)))]
pub(crate) async fn find_audit_head(
    State(state): State<AdminState>,
    _: Authorized<ExportAudit>,
    _: Params<NoParams>,
) -> Result<Json<SignedHead>, ApiError> {
    Ok(Json(state.control.audit_head().await?))
}
