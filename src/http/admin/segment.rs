//! Segments.

use crate::change::decode_segment;
use crate::change::decode_segment_instructions;
use crate::control::ChangeSet;
use crate::control::Part;
use crate::control::PutSegment;
use crate::control::initial_salt;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::flag_config::etag_of;
use crate::http::admin::impact::ImpactBody;
use crate::http::admin::invalid;
use crate::http::admin::page::PageQuery;
use crate::http::admin::page::Paged;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangeSegment;
use crate::http::authorized::ReadEnvironment;
use crate::http::authorized::Versioned;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use crate::model::segment::SegmentTarget;
use crate::store::StoredSegment;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A segment with what is known about it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SegmentBody {
    #[serde(flatten)]
    segment: Segment,
    /// The environment's version at which it last changed; also its `ETag`.
    version: i64,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    changed_at: Timestamp,
}

impl From<StoredSegment> for SegmentBody {
    fn from(stored: StoredSegment) -> Self {
        let StoredSegment { mut segment, version, created_at, changed_at } = stored;
        segment.name_clauses();
        Self { segment, version, created_at, changed_at }
    }
}

/// A segment that is to be created, or to replace one.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `decode_segment` reads")]
pub(crate) struct NewSegment {
    key: SegmentKey,
    /// The key, if it is left out.
    name: Option<String>,
    description: Option<String>,
    tags: Option<Vec<String>>,
    included: Option<Vec<String>>,
    excluded: Option<Vec<String>>,
    included_contexts: Option<Vec<SegmentTarget>>,
    excluded_contexts: Option<Vec<SegmentTarget>>,
    rules: Option<Vec<SegmentRule>>,
}

/// Lists the segments of an environment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/segments", tag = "segments",
    params(("project" = String, Path), ("environment" = String, Path),
        ("limit" = Option<u32>, Query, description = "Segments in one answer, at most 1,000; all if it is left out."),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before.")),
    responses((status = 200, description = "The segments, by key.", body = Paged<SegmentBody>)))]
pub(crate) async fn list_segments(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Paged<SegmentBody>>, ApiError> {
    let wanted = query.read()?;
    let (after, limit) = (&wanted.after, wanted.n_read());
    let (segments, total) = state.control.segments(&project, &env, after, limit).await?;
    let total = usize::try_from(total).unwrap_or_default();
    let key = |stored: &StoredSegment| stored.segment.key.to_string();
    Ok(Json(wanted.page(segments, total, key, SegmentBody::from)))
}

/// Creates a segment.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/segments", tag = "segments",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = NewSegment,
    responses((status = 201, description = "The segment.", body = SegmentBody)))]
pub(crate) async fn create_segment(
    State(state): State<AdminState>,
    caller: Authorized<ChangeSegment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<SegmentBody>), ApiError> {
    let salt = initial_salt(&project, &env);
    let ids = state.control.ids;
    let segment = decode_segment(body, None, &salt, &mut || ids.next()).map_err(invalid)?;
    let author = caller.author(None);
    let how = PutSegment::Create;
    let stored = state.control.put_segment(&author, (&project, &env), segment, how).await?;
    Ok((StatusCode::CREATED, Json(stored.into())))
}

/// Returns a segment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/segments/{segment}", tag = "segments",
    params(("project" = String, Path), ("environment" = String, Path), ("segment" = String, Path)),
    responses((status = 200, description = "The segment.", body = SegmentBody)))]
pub(crate) async fn find_segment(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, SegmentKey)>,
    _: Params<NoParams>,
) -> Result<impl IntoResponse, ApiError> {
    Ok(tagged(state.control.segment(&project, &env, &key).await?))
}

/// A segment with its `ETag`.
fn tagged(stored: StoredSegment) -> impl IntoResponse {
    ([(header::ETAG, etag_of(stored.version))], Json(SegmentBody::from(stored)))
}

/// Replaces a segment; what the body leaves out becomes empty.
#[utoipa::path(put, path = "/api/v1/projects/{project}/environments/{environment}/segments/{segment}", tag = "segments",
    params(("project" = String, Path), ("environment" = String, Path), ("segment" = String, Path),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the segment's `ETag`.")),
    request_body = NewSegment,
    responses((status = 200, description = "The segment.", body = SegmentBody),
        (status = 412, description = "The segment has changed since.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn update_segment(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeSegment>>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, SegmentKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<impl IntoResponse, ApiError> {
    let salt = initial_salt(&project, &env);
    let ids = state.control.ids;
    let segment = decode_segment(body, Some(&key), &salt, &mut || ids.next()).map_err(invalid)?;
    let author = caller.author(None);
    let how = PutSegment::Replace { if_version: caller.if_version()? };
    let stored = state.control.put_segment(&author, (&project, &env), segment, how).await?;
    Ok(tagged(stored))
}

/// A change of a segment.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct SegmentPatch {
    /// Why; kept in the audit log.
    comment: Option<String>,
    /// Instructions like `{"kind":"addIncludedTargets","values":["…"]}`, applied all or nothing; `docs/changes.md` lists them.
    #[schema(value_type = Vec<Object>)]
    instructions: Vec<Value>,
}

/// A segment that was changed, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SegmentChanged {
    segment: SegmentBody,
    /// The environment's version after the change.
    version: i64,
    #[serde(flatten)]
    impact: ImpactBody,
}

/// Changes a segment by instructions.
///
/// The instructions are applied in order, all or nothing. If everything is so already, the version stays.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/environments/{environment}/segments/{segment}", tag = "segments",
    params(("project" = String, Path), ("environment" = String, Path), ("segment" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen."),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the segment's `ETag`.")),
    request_body = SegmentPatch,
    responses((status = 200, description = "The segment and what was done.", body = SegmentChanged),
        (status = 412, description = "The segment has changed since.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn change_segment(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeSegment>>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, SegmentKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<impl IntoResponse, ApiError> {
    let raw = body.get("instructions").map(Value::to_string).unwrap_or_default();
    let (instructions, comment) = decode(body, |fields| {
        let comment = comment(fields);
        Some((decode_segment_instructions(fields), comment))
    })?;
    let author = caller.author(comment);
    let if_version = caller.if_version()?;
    let part = Part::Segment { env, segment: key.clone(), if_version, instructions };
    let set = ChangeSet { parts: vec![part], raw, claimed: None };
    let (mut done, versions) = state.control.change_one(&author, &project, set).await?;
    let missing = || ApiError::not_found(format!("there is no segment `{key}`"));
    let segment = done.segment.take().ok_or_else(missing)?;
    let version = versions.first().map_or(segment.version, |(_, version)| *version);
    let impact = ImpactBody::new(done, None);
    let etag = [(header::ETAG, etag_of(segment.version))];
    Ok((etag, Json(SegmentChanged { segment: segment.into(), version, impact })))
}

/// Deletes a segment that nothing asks for.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/segments/{segment}", tag = "segments",
    params(("project" = String, Path), ("environment" = String, Path), ("segment" = String, Path),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the segment's `ETag`.")),
    responses((status = 204, description = "It is gone."),
        (status = 412, description = "The segment has changed since.", body = crate::http::error::ProblemBody),
        (status = 409, description = "A flag or another segment asks for it.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn delete_segment(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeSegment>>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, SegmentKey)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    let (author, if_version) = (caller.author(None), caller.if_version()?);
    state.control.delete_segment(&author, (&project, &env), &key, if_version).await?;
    Ok(StatusCode::NO_CONTENT)
}
