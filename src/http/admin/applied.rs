//! What every route that writes can be asked besides: to answer only when every replica serves what was written.
//!
//! `?wait=applied&timeout=5s` answers 202 with the names of the replicas that have not confirmed, if any has not in time. Every
//! answer about an environment has its position in `Vexil-Version`.

use crate::control::Confirmation;
use crate::http::AdminState;
use crate::http::error::ApiError;
use crate::http::position::mark;
use crate::http::position::unconfirmed_ms;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::snapshot::Environment;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::RawPathParams;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::rejection::RawPathParamsRejection;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::Map;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How many replicas serve what was written.
const REPLICAS: HeaderName = HeaderName::from_static("vexil-replicas");
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Longer than that nobody should hold a connection for.
const TIMEOUT_MAX: Duration = Duration::from_secs(30);
/// Bytes of an answer to which names of replicas can be added.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The environment that a request was about, where its path does not name it.
#[derive(Debug, Clone)]
pub(crate) struct Touched {
    pub(crate) project: ProjectKey,
    pub(crate) environment: EnvKey,
}

/// Answers a request that writes when every replica serves what was written, if it asks for that.
pub(crate) async fn confirm(
    State(state): State<AdminState>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    mut request: Request,
    next: Next,
) -> Response {
    let wait = match request.method().is_safe() {
        true => Ok(None),
        false => take_wait(request.uri_mut()),
    };
    let wait = match wait {
        Ok(wait) => wait,
        Err(error) => return error.into_response(),
    };
    // What cannot be read names nothing, as the handler will say.
    let named = |name| {
        let params = params.as_ref().ok()?;
        params.iter().find(|(each, _)| *each == name).map(|(_, text)| text)
    };
    let mut project = named("project").and_then(ProjectKey::parse);
    let mut env = named("environment").and_then(EnvKey::parse);
    let mut response = next.run(request).await;
    if !response.status().is_success() {
        return response;
    }
    if let Some(touched) = response.extensions_mut().remove::<Touched>() {
        (project, env) = (Some(touched.project), Some(touched.environment));
    }
    let confirmation = match wait {
        Some(timeout) => state.control.confirm(project.as_ref(), env.as_ref(), timeout).await,
        None => Ok(Confirmation { is_complete: true, ..Confirmation::default() }),
    };
    // It is written, whatever is known about replicas.
    let Ok(Confirmation { is_complete, confirmed, waiting }) = confirmation else {
        return pending(response, vec!["the database cannot be asked".to_owned()]).await;
    };
    if let (Some(project), Some(env)) = (&project, &env) {
        let snapshots = &state.control.snapshots;
        let directory = snapshots.directory();
        let is_it = |each: &&Arc<Environment>| each.project == *project && each.key == *env;
        if let Some(environment) = directory.environments().iter().find(is_it) {
            let position = environment.promised();
            mark(response.headers_mut(), position, unconfirmed_ms(snapshots, environment));
        }
    }
    if wait.is_some() {
        response.headers_mut().insert(REPLICAS, HeaderValue::from(confirmed.len()));
    }
    if is_complete { response } else { pending(response, waiting).await }
}

/// Turns an answer into 202, with the names of the replicas that have not confirmed.
async fn pending(response: Response, waiting: Vec<String>) -> Response {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default();
    let mut fields = match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.insert("unconfirmed".to_owned(), Value::from(waiting));
    parts.status = StatusCode::ACCEPTED;
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(parts, Body::from(Value::Object(fields).to_string()))
}

/// Takes `wait` and `timeout` out of a query, so that routes see only what is theirs.
fn take_wait(uri: &mut Uri) -> Result<Option<Duration>, ApiError> {
    if !uri.query().is_some_and(|query| query.contains("wait=")) {
        return Ok(None);
    }
    let invalid = |detail: &str| ApiError::bad_request("invalid_query", detail);
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| invalid(&error.body_text()))?;
    let (own, others): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(name, _)| name == "wait" || name == "timeout");
    let find =
        |wanted: &str| own.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    match find("wait") {
        None => return Ok(None),
        Some("applied") => {}
        Some(_) => return Err(invalid("wait must be `applied`")),
    }
    let timeout = match find("timeout") {
        None => TIMEOUT_DEFAULT,
        Some(text) => parse_duration(text)
            .filter(|timeout| *timeout <= TIMEOUT_MAX)
            .ok_or_else(|| invalid("timeout must be at most 30s, written as 5s or 500ms"))?,
    };
    let query: Vec<String> =
        others.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let path = match query.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), query.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    *uri = Uri::from_parts(parts).map_err(|_| invalid("the query cannot be read"))?;
    Ok(Some(timeout))
}

fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(ms) = text.strip_suffix("ms") {
        return ms.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s').unwrap_or(text).parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_its_own_is_taken_from_a_query() {
        let mut uri: Uri = "/kill/a?environment=b%20c&wait=applied&timeout=250ms".parse().unwrap();
        assert_eq!(take_wait(&mut uri).unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(uri, "/kill/a?environment=b%20c");
        let mut uri: Uri = "/kill/a?wait=applied".parse().unwrap();
        assert_eq!(take_wait(&mut uri).unwrap(), Some(TIMEOUT_DEFAULT));
        assert_eq!(uri, "/kill/a");
        let mut uri: Uri = "/kill/a?timeout=1s".parse().unwrap();
        assert_eq!(take_wait(&mut uri).unwrap(), None);
        assert_eq!(uri, "/kill/a?timeout=1s");
        for bad in ["/a?wait=soon", "/a?wait=applied&timeout=1h", "/a?wait=applied&timeout=31s"] {
            assert!(take_wait(&mut bad.parse().unwrap()).is_err(), "{bad}");
        }
    }
}
