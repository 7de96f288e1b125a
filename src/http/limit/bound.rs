//! Bounds on one request that can be in the shadow: its body, its headers, its context.
//!
//! In the shadow, what is over a bound is counted and answered as usual, up to [`SHADOW_TIMES`] the bound, because whoever asks
//! must not choose how much memory and time an answer takes. Bounds that protect what nobody should try out are not here:
//! the bytes of a head are hyper's, how deep JSON is read is in `model/strict_json.rs`, and the bodies of imports, events and
//! triggers are where they are read.
// HOT: each request passes here.

use crate::http::blocking::blocking;
use crate::http::error::ApiError;
use crate::http::json_body::collect;
use crate::model::context::Context;
use crate::model::problem::Problems;
use crate::telemetry::LimitLabels;
use crate::telemetry::Metrics;
use axum::body::Body;
use axum::http::HeaderMap;
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Headers of one request.
const HEADERS_MAX: usize = 64;
/// How many times a bound a request may have of what is in the shadow.
const SHADOW_TIMES: usize = 4;
/// Bodies over their bound that are read at once. Each becomes many times as large in memory before it can be refused, and what
/// is rendered for streams or written to disk would wait behind them: as many as a small machine has processors.
const LARGE_BODIES_MAX: usize = 2;
/// How long such a body waits for others to be read.
const LARGE_BODY_WAIT_MAX: Duration = Duration::from_secs(5);

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
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    body: Option<Counter>,
    headers: Option<Counter>,
    context: Option<Counter>,
    /// Leave to read a body over its bound.
    large_bodies: Arc<Semaphore>,
}

impl Bounds {
    pub(super) fn new(settings: BoundSettings, metrics: &Metrics) -> Self {
        let counter =
            |limit| metrics.limited.get_or_create(&LimitLabels { limit, mode: "shadow" }).clone();
        Self {
            body: settings.body_is_shadow.then(|| counter("body")),
            headers: settings.headers_are_shadow.then(|| counter("headers")),
            context: settings.context_is_shadow.then(|| counter("context")),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_MAX)),
        }
    }

    /// Collects a body of at most `bytes_max` bytes, and reads it.
    ///
    /// # Errors
    ///
    /// As of [`collect`], what `read` refuses, and 503 if too many bodies over the bound are being read.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        body: Body,
        bytes_max: usize,
        read: impl FnOnce(&[u8], &Self) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let Some(over) = &self.body else {
            return read(&collect(body, bytes_max).await?, self);
        };
        let bytes = collect(body, bytes_max.saturating_mul(SHADOW_TIMES)).await?;
        if bytes.len() <= bytes_max {
            return read(&bytes, self);
        }
        let leave = Arc::clone(&self.large_bodies).acquire_owned();
        let Ok(Ok(leave)) = timeout(LARGE_BODY_WAIT_MAX, leave).await else {
            let detail = "too many large bodies are being read; try again";
            return Err(ApiError::unavailable("bodies_busy", detail));
        };
        let bounds = self.clone();
        // So much takes long enough to keep other requests waiting.
        let work = move || {
            // Given back when it is read, also if the client has left before.
            let _leave = leave;
            read(&bytes, &bounds)
        };
        let answered = blocking(work).await??;
        over.inc();
        Ok(answered)
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

/// Checks a bound; in the shadow, checks what is over it against more, and counts what is answered nevertheless.
fn check_in_shadow<E>(
    over: Option<&Counter>,
    check: impl Fn(usize) -> Result<(), E>,
) -> Result<(), E> {
    let Some(over) = over else { return check(1) };
    if check(1).is_ok() {
        return Ok(());
    }
    check(SHADOW_TIMES)?;
    over.inc();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limit::CONTEXT_ATTRIBUTES_MAX;
    use axum::http::HeaderName;
    use axum::http::HeaderValue;
    use serde_json::Value;
    use serde_json::json;
    use tokio::task::JoinSet;

    const BODY_BYTES_MAX: usize = 4;

    fn bounds_in_shadow() -> Bounds {
        let settings = BoundSettings {
            body_is_shadow: true,
            headers_are_shadow: true,
            context_is_shadow: true,
        };
        Bounds::new(settings, &Metrics::default())
    }

    #[tokio::test]
    async fn what_is_over_the_limit_of_bodies_is_read_where_it_holds_up_nobody() {
        let bounds = bounds_in_shadow();
        let here = std::thread::current().id();
        let is_read_here = async |n_bytes| {
            let body = Body::from(vec![0; n_bytes]);
            let read = move |bytes: &[u8], _: &Bounds| {
                assert_eq!(bytes.len(), n_bytes);
                Ok(std::thread::current().id() == here)
            };
            bounds.read(body, BODY_BYTES_MAX, read).await.unwrap()
        };
        assert!(is_read_here(BODY_BYTES_MAX).await);
        assert!(!is_read_here(BODY_BYTES_MAX + 1).await);
        assert!(!is_read_here(BODY_BYTES_MAX * SHADOW_TIMES).await);
    }

    #[tokio::test]
    async fn only_so_many_bodies_over_the_limit_are_read_at_once_whoever_has_left() {
        let bounds = bounds_in_shadow();
        let (begun, mut has_begun) = tokio::sync::mpsc::channel(LARGE_BODIES_MAX + 1);
        let gate = Arc::new(tokio::sync::RwLock::new(()));
        let closed = gate.write().await;
        let mut clients = JoinSet::new();
        let mut ask = || {
            let (bounds, begun, gate) = (bounds.clone(), begun.clone(), Arc::clone(&gate));
            clients.spawn(async move {
                let body = Body::from(vec![0; BODY_BYTES_MAX + 1]);
                let read = move |_: &[u8], _: &Bounds| {
                    begun.try_send(()).unwrap();
                    drop(gate.blocking_read());
                    Ok(())
                };
                bounds.read(body, BODY_BYTES_MAX, read).await
            })
        };
        for _ in 0..LARGE_BODIES_MAX {
            let client = ask();
            has_begun.recv().await.unwrap();
            client.abort();
        }
        ask();
        for _ in 0..LARGE_BODIES_MAX {
            assert!(clients.join_next().await.unwrap().unwrap_err().is_cancelled());
        }
        assert_eq!(bounds.large_bodies.available_permits(), 0);
        assert!(has_begun.try_recv().is_err(), "there is no room for it yet");
        drop(closed);
        clients.join_next().await.unwrap().unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_is_refused_in_spite_of_the_shadow_does_not_count_as_answered() {
        let bounds = bounds_in_shadow();
        let count = |counter: &Option<Counter>| counter.as_ref().unwrap().get();
        for (times, n_counted) in [(1, 0), (SHADOW_TIMES, 1), (SHADOW_TIMES + 1, 1)] {
            let is_answered = times <= SHADOW_TIMES;
            let body = || Body::from(vec![0; BODY_BYTES_MAX * times]);
            let no = |_: &[u8], _: &Bounds| Err::<(), _>(ApiError::bad_request("no", "no"));
            assert!(bounds.read(body(), BODY_BYTES_MAX, no).await.is_err());
            let read = bounds.read(body(), BODY_BYTES_MAX, |_, _| Ok(())).await;
            assert_eq!(read.is_ok(), is_answered, "{times}");
            assert_eq!(count(&bounds.body), n_counted, "{times}");

            let name = |n| HeaderName::try_from(format!("x-{n}")).unwrap();
            let value = HeaderValue::from_static("1");
            let headers = (0..HEADERS_MAX * times).map(|n| (name(n), value.clone())).collect();
            assert_eq!(bounds.check_headers(&headers).is_ok(), is_answered, "{times}");
            assert_eq!(count(&bounds.headers), n_counted, "{times}");

            let attributes = (0..CONTEXT_ATTRIBUTES_MAX * times).map(|n| (n.to_string(), json!(1)));
            let context = Value::Object(attributes.collect());
            let context = Context::decode(context).unwrap();
            assert_eq!(bounds.check_context(context).is_ok(), is_answered, "{times}");
            assert_eq!(count(&bounds.context), n_counted, "{times}");
        }
    }
}
