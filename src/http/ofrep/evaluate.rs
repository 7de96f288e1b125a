//! The two routes of OFREP: one flag, and all flags.
// HOT: memory only; no lock, no log.

use crate::auth::Denied;
use crate::eval::CompiledFlag;
use crate::eval::evaluate;
use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::json_body::SDK_BODY_BYTES_MAX;
use crate::http::json_body::collect;
use crate::http::ofrep::render::BulkMetadata;
use crate::http::ofrep::render::EvaluationBody;
use crate::http::ofrep::render::Item;
use crate::model::context::Context;
use crate::model::limit::JSON_DEPTH_MAX;
use crate::model::problem::Problems;
use crate::model::strict_json::is_deeper_than;
use crate::model::token::TokenKind;
use axum::body::Body;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;

/// Bytes of SHA-256 that an entity tag has; 128 bits are beyond chance.
const ETAG_BYTES: usize = 16;

/// The environment that is meant; parameters that OFREP clients add, such as `flagConfigEtag`, are ignored.
#[derive(Debug, Deserialize)]
pub(crate) struct OfrepQuery {
    project: Option<String>,
    environment: Option<String>,
}

impl From<OfrepQuery> for EnvironmentQuery {
    fn from(query: OfrepQuery) -> Self {
        Self { project: query.project, environment: query.environment }
    }
}

/// Evaluates one flag.
#[utoipa::path(post, path = "/ofrep/v1/evaluate/flags/{key}", tag = "evaluation",
    params(("key" = String, Path, description = "The flag's key."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = super::render::RequestBody,
    responses((status = 200, description = "The value.", body = super::render::EvaluationBody),
        (status = 400, description = "The context is not valid, or lacks a key that the flag needs.", body = super::render::FailureBody),
        (status = 404, description = "There is no such flag.", body = super::render::FailureBody)))]
pub(crate) async fn evaluate_flag(
    State(state): State<DataState>,
    caller: Caller,
    key: Result<Path<String>, PathRejection>,
    Params(wanted): Params<OfrepQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    // A path that is not UTF-8 names no flag.
    let Path(key) = key.map_err(|_| flag_not_found("\u{FFFD}"))?;
    let environment = match caller.environment(&wanted.into(), Some(&key)) {
        Err(Denied::NoSuchFlag) => return Err(flag_not_found(&key)),
        found => found?,
    };
    let context = read_context(body).await?;
    let ruleset = environment.ruleset();
    let flag = ruleset.flag(&key).filter(|flag| is_visible(flag, caller.grant().kind));
    let Some(flag) = flag else {
        return Err(flag_not_found(&key));
    };
    state.metrics.evaluations.inc();
    let outcome = evaluate(&ruleset, flag, &context);
    let (status, body) = match EvaluationBody::new(flag, &outcome) {
        Ok(body) => (StatusCode::OK, serde_json::to_vec(&body)),
        Err(failure) => (StatusCode::BAD_REQUEST, serde_json::to_vec(&failure)),
    };
    let body = body.map_err(|_| ApiError::internal())?;
    Ok((status, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Evaluates all flags that the token may see.
///
/// The `ETag` covers the results for exactly this context, so `If-None-Match` answers 304 only if nothing would differ.
#[utoipa::path(post, path = "/ofrep/v1/evaluate/flags", tag = "evaluation",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = super::render::RequestBody,
    responses((status = 200, description = "The values.", body = super::render::BulkBody),
        (status = 304, description = "Nothing differs from the earlier answer."),
        (status = 400, description = "The context is not valid.", body = super::render::FailureBody)))]
pub(crate) async fn evaluate_all_flags(
    State(state): State<DataState>,
    caller: Caller,
    Params(wanted): Params<OfrepQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let environment = caller.environment(&wanted.into(), None)?;
    let context = read_context(body).await?;
    let ruleset = environment.ruleset();
    let visible = ruleset.flags().filter(|flag| is_visible(flag, caller.grant().kind));
    let flags: Vec<Item<'_>> =
        visible.map(|flag| Item::new(flag, &evaluate(&ruleset, flag, &context))).collect();
    state.metrics.evaluations.inc_by(u64::try_from(flags.len()).unwrap_or_default());
    let flags = serde_json::to_vec(&flags).map_err(|_| ApiError::internal())?;
    let etag = etag_of(environment.id, &flags);
    let asked = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    if asked.is_some_and(|asked| is_match(asked, &etag)) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let version = ruleset.version.to_string();
    let metadata = BulkMetadata { flag_set_id: environment.key.as_str(), version: &version };
    let metadata = serde_json::to_vec(&metadata).map_err(|_| ApiError::internal())?;
    // The flags are written once, for the tag and for the body, which is a `BulkBody`.
    let body = [b"{\"flags\":", flags.as_slice(), b",\"metadata\":", &metadata, b"}"].concat();
    let headers = [(header::CONTENT_TYPE, "application/json".to_owned()), (header::ETAG, etag)];
    Ok((headers, body).into_response())
}

fn flag_not_found(key: &str) -> ApiError {
    let detail = format!("there is no flag `{key}` that the token may see");
    ApiError::new(StatusCode::NOT_FOUND, "flag_not_found", detail)
}

/// Which flags a token's holder may see.
pub(crate) fn is_visible(flag: &CompiledFlag, kind: TokenKind) -> bool {
    match kind {
        TokenKind::Server | TokenKind::Admin => true,
        TokenKind::Client => flag.client_side_availability.using_environment_id,
        TokenKind::Mobile => flag.client_side_availability.using_mobile_key,
    }
}

/// Reads the body's `context`. Clients also send no body, no context or `null`: all are the empty context.
async fn read_context(body: Body) -> Result<Context, ApiError> {
    let bytes = collect(body, SDK_BODY_BYTES_MAX).await?;
    if bytes.is_empty() {
        return Ok(Context::default());
    }
    let syntax = |detail: String| ApiError::bad_request("json_syntax", detail);
    let body: Value = serde_json::from_slice(&bytes)
        .map_err(|error| syntax(format!("the body is not JSON: {error}")))?;
    if is_deeper_than(&body, JSON_DEPTH_MAX) {
        return Err(syntax(format!("the body is nested deeper than {JSON_DEPTH_MAX} levels")));
    }
    let Value::Object(mut fields) = body else {
        return Err(syntax("the body must be an object".to_owned()));
    };
    let context = fields.remove("context").unwrap_or_default();
    Context::decode(context).map_err(|found| {
        let mut problems = Problems::default();
        problems.add_below("context", found);
        let error = ApiError::invalid(StatusCode::BAD_REQUEST, problems.clone());
        ApiError { code: "invalid_context", detail: problems.to_string(), ..error }
    })
}

/// A strong entity tag of the results, as they were written.
fn etag_of(env: i64, flags: &[u8]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(env.to_be_bytes());
    hasher.update(flags);
    let digest = hasher.finalize();
    let start = digest.get(..ETAG_BYTES).unwrap_or_default();
    format!("\"{}\"", hex::encode(start))
}

/// Whether `If-None-Match` names the tag. Comparison is weak: proxies that compress make tags weak.
///
/// Source: RFC 9110, section 13.1.2.
fn is_match(if_none_match: &str, etag: &str) -> bool {
    let mut tags = if_none_match.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
