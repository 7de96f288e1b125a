//! What every route that writes can be asked besides: only to say what would happen.
//!
//! With `?dryRun=true` a handler does what it always does, its command is rolled back instead of committed, and here the answer
//! gets what the command has told. A route that takes no such parameter refuses it.

use crate::change::Difference;
use crate::control::Rehearsal;
use crate::control::Told;
use crate::http::admin::impact::DependencyBody;
use crate::http::error::ApiError;
use axum::body::Body;
use axum::extract::Query;
use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use utoipa::ToSchema;

/// What the answer to a dry run has besides.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DryRunBody {
    /// `true`: nothing was written.
    #[schema(value_type = Option<bool>)]
    dry_run: bool,
    /// What would be done, in words; empty if everything is so already.
    #[schema(value_type = Option<Vec<String>>)]
    changes: Vec<String>,
    /// What would differ.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<Difference>>)]
    diff: Vec<Difference>,
    /// The flags and segments that depend on it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Option<Vec<DependencyBody>>)]
    dependants: Vec<DependencyBody>,
}

impl From<Told> for DryRunBody {
    fn from(told: Told) -> Self {
        let Told { changes, differences, dependants } = told;
        let dependants = dependants.into_iter().map(DependencyBody::from).collect();
        Self { dry_run: true, changes, diff: differences, dependants }
    }
}

/// Lets a request that asks for a dry run write nothing, and completes its answer.
pub(crate) async fn rehearse(mut request: Request, next: Next) -> Response {
    if request.method().is_safe() || !is_asked_for(request.uri()) {
        return next.run(request).await;
    }
    let rehearsal = Rehearsal::default();
    request.extensions_mut().insert(rehearsal.clone());
    let mut response = next.run(request).await;
    if !response.status().is_success() {
        if let Some(error) = response.extensions_mut().get_mut::<ApiError>() {
            error.dependants = rehearsal.told().dependants;
        }
        return response;
    }
    tell(response, rehearsal.told()).await.unwrap_or_else(IntoResponse::into_response)
}

/// What is neither true nor false is refused where the parameters are read.
fn is_asked_for(uri: &Uri) -> bool {
    let Ok(Query(pairs)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else { return false };
    pairs.iter().any(|(name, value)| name == "dryRun" && value == "true")
}

/// Adds what was told, unless the answer has it already; what would be created or be gone is only told.
async fn tell(response: Response, told: Told) -> Result<Response, ApiError> {
    let (mut parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.map_err(|_| ApiError::internal())?;
    let mut fields = match serde_json::from_slice(&bytes) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    if fields.contains_key("dryRun") {
        // It is made for dry runs, and tells more.
        return Ok(Response::from_parts(parts, Body::from(bytes)));
    }
    let added = serde_json::to_value(DryRunBody::from(told)).unwrap_or_default();
    for (name, value) in added.as_object().into_iter().flatten() {
        fields.entry(name.clone()).or_insert(value.clone());
    }
    if matches!(parts.status, StatusCode::CREATED | StatusCode::NO_CONTENT) {
        parts.status = StatusCode::OK;
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(Response::from_parts(parts, Body::from(Value::Object(fields).to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_true_asks_for_a_dry_run() {
        for (uri, expected) in [
            ("/kill/f?dryRun=true", true),
            ("/kill/f?environment=e&dryRun=true", true),
            ("/kill/f?%64ryRun=true", true),
            ("/kill/f?dryRun=false", false),
            ("/kill/f?tag=dryRun%3Dtrue", false),
            ("/kill/f", false),
        ] {
            assert_eq!(is_asked_for(&uri.parse().unwrap()), expected, "{uri}");
        }
    }
}
