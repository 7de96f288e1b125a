//! Bounds on one request that can be in the shadow: its body, its headers, its context.
//!
//! In the shadow, what is over a bound is counted and answered as usual, up to [`SHADOW_TIMES`] the bound, because whoever asks
//! must not choose how much memory and time an answer takes. Bounds that protect what nobody should try out are not here:
//! the bytes of a head are hyper's, how deep JSON is read is in `model/strict_json.rs`, and the bodies of imports, events and
//! triggers are where they are read.
// HOT: each request passes here.

use crate::http::error::ApiError;
use crate::http::json_body::collect;
use crate::model::context::Context;
use crate::model::problem::Problems;
use crate::telemetry::LimitLabels;
use crate::telemetry::Metrics;
use axum::body::Body;
use axum::http::HeaderMap;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;

/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// How many times a bound a request may have of what is in the shadow.
const SHADOW_TIMES: usize = 4;

/// Which bounds on one request only count.
#[derive(Debug, Clone, Copy, Default)]
pub struct BoundSettings {
    /// That of the bodies of evaluations and of administrators' changes.
    pub body_is_shadow: bool,
    /// That of headers.
    pub headers_are_shadow: bool,
    /// Those of a context.
    pub context_is_shadow: bool,
}

/// The bounds on one request; each has a counter while it is in the shadow.
#[derive(Debug)]
pub(crate) struct Bounds {
    body: Option<Counter>,
    headers: Option<Counter>,
    context: Option<Counter>,
}

impl Bounds {
    pub(super) fn new(settings: BoundSettings, metrics: &Metrics) -> Self {
        let counter =
            |limit| metrics.limited.get_or_create(&LimitLabels { limit, mode: "shadow" }).clone();
        Self {
            body: settings.body_is_shadow.then(|| counter("body")),
            headers: settings.headers_are_shadow.then(|| counter("headers")),
            context: settings.context_is_shadow.then(|| counter("context")),
        }
    }

    /// Collects a body of at most `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// As of [`collect`].
    pub(crate) async fn collect(&self, body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
        let Some(over) = &self.body else { return collect(body, bytes_max).await };
        let bytes = collect(body, bytes_max.saturating_mul(SHADOW_TIMES)).await?;
        if bytes.len() > bytes_max {
            over.inc();
        }
        Ok(bytes)
    }

    /// Refuses requests with more headers than any client has a use for; hyper bounds their bytes.
    ///
    /// # Errors
    ///
    /// 431 if there are more.
    pub(crate) fn check_headers(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let check = |max| match headers.len() > max {
            true => Err(ApiError::too_many_headers(max)),
            false => Ok(()),
        };
        check_in_shadow(self.headers.as_ref(), |times| check(HEADERS_MAX.saturating_mul(times)))
    }

    /// Refuses contexts that are larger than any client has a use for.
    ///
    /// # Errors
    ///
    /// Every limit that is exceeded.
    pub(crate) fn check_context(&self, context: Context) -> Result<Context, Problems> {
        check_in_shadow(self.context.as_ref(), |times| context.check_limits(times))?;
        Ok(context)
    }
}

/// Checks a bound; in the shadow, counts what is over it and checks against more.
fn check_in_shadow<E>(
    over: Option<&Counter>,
    check: impl Fn(usize) -> Result<(), E>,
) -> Result<(), E> {
    let Some(over) = over else { return check(1) };
    if check(1).is_ok() {
        return Ok(());
    }
    over.inc();
    check(SHADOW_TIMES)
}
