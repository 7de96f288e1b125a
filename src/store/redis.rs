//! Redis: one connection for questions, and subscriptions with connections of their own.
//!
//! Redis is never needed. While it does not answer, it is left alone for a while, so that nobody waits for it again and again.

use crate::store::Hint;
use crate::store::StoreError;
use crate::store::dialect::CHANNEL;
use crate::store::hint::Subscription;
use redis::IntoConnectionInfo;
use redis::RedisError;
use redis::aio::ConnectionManager;
use redis::aio::ConnectionManagerConfig;
use redis::io::tcp::TcpSettings;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use socket2::TcpKeepalive;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use tokio::time::Instant;

/// How long ringing may take; nobody waits longer for a doorbell.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(50);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(200);
/// How long nothing may come before the other end is asked for a sign of life, and how soon again.
const SILENCE_MAX: Duration = Duration::from_secs(5);
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// How long what was sent may stay unacknowledged.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the largest question may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Failures in a row after which Redis is left alone.
const FAILURES_MAX: u32 = 5;
/// How long it is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// A Redis server; cheap to clone.
#[derive(Clone)]
pub struct Redis {
    client: redis::Client,
    manager: ConnectionManager,
    breaker: Arc<Mutex<Breaker>>,
}

/// How often Redis failed in a row, and until when it is left alone.
#[derive(Debug, Default)]
struct Breaker {
    n_failures: u32,
    closed_until: Option<Instant>,
}

impl std::fmt::Debug for Redis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Redis")
    }
}

fn unavailable(error: &RedisError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn is_of_connection(error: &RedisError) -> bool {
    error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_connection_refusal()
}

fn no_answer() -> StoreError {
    StoreError::Unavailable("Redis does not answer".to_owned())
}

/// Lets the kernel give up a connection whose other end is gone without a word: who asks gives up much earlier, and would never
/// hear of it.
fn tcp_settings() -> TcpSettings {
    let keepalive =
        TcpKeepalive::new().with_time(SILENCE_MAX).with_interval(PROBE_INTERVAL).with_retries(2);
    let settings = TcpSettings::default().set_nodelay(true).set_keepalive(keepalive);
    #[cfg(target_os = "linux")]
    let settings = settings.set_user_timeout(UNACKNOWLEDGED_TIMEOUT);
    settings
}

impl Redis {
    /// Prepares to use a Redis server, without connecting yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] if the URL is not one.
    pub fn new(url: &SecretString) -> Result<Self, StoreError> {
        let invalid =
            |error: RedisError| StoreError::Schema(format!("the Redis URL is not valid: {error}"));
        let info = url.expose_secret().into_connection_info().map_err(invalid)?;
        let info = info.set_tcp_settings(tcp_settings());
        let client = redis::Client::open(info).map_err(invalid)?;
        // How long an answer may take depends on what is asked; after this the connection counts as lost.
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let manager =
            ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(invalid)?;
        Ok(Self { client, manager, breaker: Arc::default() })
    }

    /// Rings; whether anybody hears it is not known.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not take it in time.
    pub async fn publish(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(CHANNEL).arg("");
        self.ask(PUBLISH_TIMEOUT, async |c| command.query_async(c).await).await
    }

    /// Asks whether it is there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not answer in time.
    pub async fn ping(&self) -> Result<(), StoreError> {
        let command = redis::cmd("PING");
        self.ask(ANSWER_TIMEOUT, async |c| command.query_async::<String>(c).await).await.map(drop)
    }

    /// Asks, but waits no longer than `timeout`.
    pub(super) async fn ask<T>(
        &self,
        timeout: Duration,
        question: impl AsyncFnOnce(&mut ConnectionManager) -> Result<T, RedisError>,
    ) -> Result<T, StoreError> {
        self.check()?;
        let mut manager = self.manager.clone();
        let answer = tokio::time::timeout(timeout, question(&mut manager)).await;
        match answer {
            Ok(Ok(answer)) => {
                self.note(true);
                Ok(answer)
            }
            // What Redis refuses says nothing against Redis.
            Ok(Err(error)) if !is_of_connection(&error) => Err(StoreError::Corrupt {
                table: "redis",
                key: String::new(),
                cause: error.to_string(),
            }),
            Ok(Err(error)) => {
                self.note(false);
                Err(unavailable(&error))
            }
            Err(_) => {
                self.note(false);
                Err(no_answer())
            }
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if breaker.closed_until.is_some_and(|until| Instant::now() < until) {
            return Err(no_answer());
        }
        Ok(())
    }

    fn note(&self, is_ok: bool) {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        if is_ok {
            *breaker = Breaker::default();
            return;
        }
        breaker.n_failures = breaker.n_failures.saturating_add(1);
        if breaker.n_failures >= FAILURES_MAX {
            breaker.closed_until = Some(Instant::now() + PAUSE);
        }
    }

    pub(super) async fn subscribe(&self) -> Result<Hint, StoreError> {
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, self.client.get_async_pubsub());
        let connected = connect.await.map_err(|_| no_answer())?;
        let mut pubsub = connected.map_err(|error| unavailable(&error))?;
        let subscribe = tokio::time::timeout(CONNECT_TIMEOUT, pubsub.subscribe(CHANNEL));
        subscribe.await.map_err(|_| no_answer())?.map_err(|error| unavailable(&error))?;
        Ok(Hint::Redis(Subscription(pubsub)))
    }
}
