//! Reading bodies, within limits on size and time.

use crate::http::error::ApiError;
use crate::model::strict_json;
use axum::body::Body;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::LengthLimitError;
use http_body_util::Limited;
use serde_json::Value;
use std::time::Duration;

/// Bytes of a body that SDKs send.
pub(crate) const SDK_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a body that administrators send.
pub(crate) const ADMIN_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Collects a body of at most `bytes_max` bytes.
///
/// # Errors
///
/// 413 if it is larger, 408 if it takes too long, 400 if the client breaks off.
pub(crate) async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let collecting = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collecting).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("the body must be at most {bytes_max} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail))
        }
        Ok(Err(_)) => Err(ApiError::bad_request("body_broken", "the body did not arrive whole")),
        Err(_) => {
            let detail = "the body did not arrive in time";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

/// The JSON body of an administrator's request, with nothing in it silently lost.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = collect(request.into_body(), ADMIN_BODY_BYTES_MAX).await?;
        parse(&bytes).map(Self)
    }
}

/// The JSON body of an administrator's request that may have none; then it is an empty object.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for OptionalJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let bytes = collect(request.into_body(), ADMIN_BODY_BYTES_MAX).await?;
        if bytes.is_empty() {
            return Ok(Self(Value::Object(serde_json::Map::new())));
        }
        parse(&bytes).map(Self)
    }
}

fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    strict_json::parse(bytes)
        .map_err(|problems| ApiError::invalid(StatusCode::BAD_REQUEST, problems))
}
