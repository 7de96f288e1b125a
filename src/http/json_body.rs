//! Reading bodies, within limits on size and time. What becomes of the limits in the shadow is in `limit/bound.rs`.

use crate::http::error::ApiError;
use crate::http::limit::Arrival;
use crate::model::strict_json;
use axum::body::Body;
use axum::body::HttpBody;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::http::StatusCode;
use bytes::Bytes;
use bytes::BytesMut;
use http_body_util::BodyExt;
use serde_json::Value;
use std::time::Duration;

/// Bytes of a body that SDKs send.
pub(crate) const SDK_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a body that administrators send.
pub(crate) const ADMIN_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a file of flags that is imported.
pub(crate) const IMPORT_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes beyond the limit that are read and thrown away, so that the client gets to read the refusal.
const DRAINED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// Collects a body of at most `bytes_max` bytes.
///
/// A larger one is read on and thrown away for a while before it is refused: most clients only read the answer when they
/// have sent everything.
///
/// # Errors
///
/// 413 if it is larger, 408 if it takes too long, 400 if the client breaks off.
pub(crate) async fn collect(body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let too_large = || {
        let detail = format!("the body must be at most {bytes_max} bytes");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
    };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > bytes_max.saturating_add(DRAINED_BYTES_MAX) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, read(body, bytes_max)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(_)) => Err(ApiError::bad_request("body_broken", "the body did not arrive whole")),
        Err(_) => {
            let detail = "the body did not arrive in time";
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail))
        }
    }
}

/// Reads a body to its end; `None` if it is larger than `bytes_max`, of which no more is kept.
async fn read(mut body: Body, bytes_max: usize) -> Result<Option<Bytes>, axum::Error> {
    // Most bodies come in one piece, which is not copied.
    let mut kept = Bytes::new();
    let mut n_bytes = 0_usize;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        n_bytes = n_bytes.saturating_add(data.len());
        if n_bytes > bytes_max.saturating_add(DRAINED_BYTES_MAX) {
            break;
        }
        kept = match n_bytes {
            n if n > bytes_max => Bytes::new(),
            n if n == data.len() => data,
            _ => joined(kept, &data),
        };
    }
    Ok((n_bytes <= bytes_max).then_some(kept))
}

/// The bytes with more behind them; copies only while nobody else holds them, as happens once.
fn joined(kept: Bytes, more: &[u8]) -> Bytes {
    let mut all = BytesMut::from(kept);
    all.extend_from_slice(more);
    all.freeze()
}

/// The JSON body of an administrator's request, with nothing in it silently lost.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for JsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        read_admin(request, parse).await.map(Self)
    }
}

/// The JSON body of an administrator's request that may have none; then it is an empty object.
#[derive(Debug)]
pub(crate) struct OptionalJsonBody(pub(crate) Value);

impl<S: Send + Sync> FromRequest<S> for OptionalJsonBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let read = |bytes: &[u8]| match bytes {
            [] => Ok(Value::Object(serde_json::Map::new())),
            _ => parse(bytes),
        };
        read_admin(request, read).await.map(Self)
    }
}

/// Collects and reads the body of an administrator's request.
async fn read_admin(
    request: Request,
    read: impl FnOnce(&[u8]) -> Result<Value, ApiError> + Send + 'static,
) -> Result<Value, ApiError> {
    let (parts, body) = request.into_parts();
    match parts.extensions.get::<Arrival>() {
        Some(arrival) => {
            let bounds = &arrival.limits.bounds;
            bounds.read(body, ADMIN_BODY_BYTES_MAX, |bytes, _| read(bytes)).await
        }
        None => read(&collect(body, ADMIN_BODY_BYTES_MAX).await?),
    }
}

/// Reads JSON in which nothing may be silently lost.
///
/// # Errors
///
/// 400 if it is not JSON, or something in it would be lost.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, ApiError> {
    strict_json::parse(bytes)
        .map_err(|problems| ApiError::invalid(StatusCode::BAD_REQUEST, problems))
}
