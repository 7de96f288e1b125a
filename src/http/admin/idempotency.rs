//! What every route that writes can be asked besides: to do the same request once, however often it is sent.
//!
//! `Idempotency-Key` names the request, for 24 hours and for the token. The answer is kept encrypted with a key that is made of
//! the token, because it can hold a secret. What was not decided (5xx, 429, 401, 408, 413, and 409 for what cannot be read) is not
//! kept, and neither is what only asks for another header (412, 428, a comment): nothing was changed, and the same request with it
//! is to be made.

use crate::auth::AnswerKey;
use crate::control::Keyed;
use crate::http::AdminState;
use crate::http::admin::applied::Touched;
use crate::http::admin::history::ACCEPT;
use crate::http::authorized::COMMENT;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::token_of;
use crate::http::json_body::IMPORT_BODY_BYTES_MAX;
use crate::http::json_body::collect;
use crate::http::middleware::RequestId;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::store::Claim;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::Arc;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Characters of a key.
const KEY_CHARS_MAX: usize = 255;
/// Bytes of an answer that is kept.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Seconds after which to ask again for the answer to a request that is being worked on.
const RETRY_AFTER_SECS: u32 = 1;
/// The headers of an answer that are kept; the others are made anew.
const KEPT_HEADERS: &[HeaderName] = &[header::CONTENT_TYPE, header::ETAG, header::LOCATION];
/// What was not decided, and can be asked again with the same key.
const UNDECIDED: &[StatusCode] = &[
    StatusCode::UNAUTHORIZED,
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::PAYLOAD_TOO_LARGE,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::PRECONDITION_REQUIRED,
];
/// The same, where the status does not tell.
const UNDECIDED_CODES: &[&str] = &["idempotency_in_progress", "comment_required", "unreadable"];

/// An answer as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
    /// The environment that it was about, where the path does not name it.
    touched: Option<(ProjectKey, EnvKey)>,
}

/// Does a request with a key once, and answers it as often as it is sent.
pub(crate) async fn once(
    State(state): State<AdminState>,
    request: Request,
    next: Next,
) -> Response {
    // While a loss waits to be accepted, no key could be claimed; once it is, there is nothing to accept.
    let is_accepting = request.uri().path() == ACCEPT;
    if request.method().is_safe() || is_accepting || !request.headers().contains_key(KEY) {
        return next.run(request).await;
    }
    match answer_once(state, request, next).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn answer_once(
    state: AdminState,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let key = read_key(request.headers())?;
    let snapshots = Arc::clone(&state.control.snapshots);
    let caller = Caller::new(request.headers(), snapshots, None).ok();
    let Some(caller) = caller.filter(|caller| caller.grant().role.is_some()) else {
        // It is refused, as without a key.
        return Ok(next.run(request).await);
    };
    let token = token_of(request.headers())?.to_owned();
    let (mut parts, body) = request.into_parts();
    let bytes = collect(body, IMPORT_BODY_BYTES_MAX).await?;
    let mut digest = Sha256::new();
    let asked = parts.uri.path_and_query().map_or("", |asked| asked.as_str());
    digest.update(format!("{}\n{asked}\n", parts.method));
    // These say what is asked for, as the path and the body do.
    for name in [header::IF_MATCH, COMMENT] {
        for value in parts.headers.get_all(&name) {
            digest.update(format!("{name}: {}\n", value.len()));
            digest.update(value);
        }
    }
    digest.update(&bytes);
    let digest = hex::encode(digest.finalize());
    let answer_key = AnswerKey::new(&token, &format!("{key}\n{digest}"));
    let keyed = state.control.begin_keyed(&caller.grant().id, &key, &digest).await?;
    let claim = match keyed {
        Keyed::Claimed(claim) => claim,
        Keyed::Answered(answer) => return replay(&answer_key, &answer),
        Keyed::Lost { audit_id } => return Ok(lost(&audit_id)),
        Keyed::Reused => {
            let detail = "the key was used for another request; use a new one for each request";
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return Err(ApiError::new(status, "idempotency_key_reused", detail));
        }
        Keyed::InProgress => {
            let detail = "the same request is still being worked on; try again";
            let error = ApiError::new(StatusCode::CONFLICT, "idempotency_in_progress", detail);
            return Err(ApiError { retry_after_secs: Some(RETRY_AFTER_SECS), ..error });
        }
    };
    parts.extensions.insert(claim.clone());
    let (uri, id) = (parts.uri.clone(), parts.extensions.get::<RequestId>().cloned());
    let mut response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
    let mut is_decided = !response.status().is_server_error();
    is_decided &= !UNDECIDED.contains(&response.status());
    if let Some(error) = ApiError::take_from(&mut response) {
        is_decided &= !UNDECIDED_CODES.contains(&error.code);
        let id = id.as_ref().map(RequestId::as_str).unwrap_or_default();
        response = error.write_problem(&uri, id);
    }
    let (response, kept) = copy(response).await?;
    let answer = kept.filter(|_| is_decided).and_then(|kept| serde_json::to_vec(&kept).ok());
    let answer = answer.and_then(|answer| answer_key.seal(answer));
    end(&state, &claim, answer).await;
    Ok(response)
}

async fn end(state: &AdminState, claim: &Claim, answer: Option<Vec<u8>>) {
    state.control.end_keyed(claim, answer).await;
}

fn read_key(headers: &HeaderMap) -> Result<String, ApiError> {
    let mut values = headers.get_all(KEY).iter();
    let key = values.next().and_then(|value| value.to_str().ok()).map(str::trim);
    let is_good = |key: &&str| {
        (1..=KEY_CHARS_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    match (key.filter(is_good), values.next()) {
        (Some(key), None) => Ok(key.to_owned()),
        _ => {
            let detail = format!(
                "Idempotency-Key must be there once, with 1 to {KEY_CHARS_MAX} visible ASCII characters"
            );
            Err(ApiError::bad_request("invalid_idempotency_key", detail))
        }
    }
}

/// Takes an answer down; `None` if it is too large to be kept.
async fn copy(response: Response) -> Result<(Response, Option<Kept>), ApiError> {
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| ApiError::internal())?;
    let header = |name: &HeaderName| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    let touched = parts.extensions.get::<Touched>();
    let kept = Kept {
        status: parts.status.as_u16(),
        headers: KEPT_HEADERS.iter().filter_map(header).collect(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
        touched: touched.map(|each| (each.project.clone(), each.environment.clone())),
    };
    let kept = (bytes.len() <= ANSWER_BYTES_MAX).then_some(kept);
    Ok((Response::from_parts(parts, Body::from(bytes)), kept))
}

/// Gives an answer once more.
fn replay(key: &AnswerKey, answer: &[u8]) -> Result<Response, ApiError> {
    let kept = key.open(answer).and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    let Some(kept) = kept else {
        let detail = "the answer was given to another secret of the token and cannot be shown; the request is not done again";
        return Err(ApiError::new(StatusCode::CONFLICT, "idempotency_answer_lost", detail));
    };
    let status = StatusCode::from_u16(kept.status).map_err(|_| ApiError::internal())?;
    let mut response = (status, kept.body).into_response();
    response.headers_mut().remove(header::CONTENT_TYPE);
    for (name, value) in &kept.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    if let Some((project, environment)) = kept.touched {
        response.extensions_mut().insert(Touched { project, environment });
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The answer where a process ended between the change and its answer: the change was made once, and is not made again.
fn lost(audit_id: &str) -> Response {
    let detail = "the change was made; its answer was lost with the process that made it";
    let body = axum::Json(serde_json::json!({"auditId": audit_id, "detail": detail}));
    let mut response = body.into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}
