//! Doorbells between replicas: something changed, go and look.
//!
//! A ring says nothing about what changed, so a lost, doubled or late one does no harm: the poll is the truth.

use crate::store::Store;
use crate::store::StoreError;
use crate::store::dialect::CHANNEL;
use futures_util::StreamExt;
use redis::aio::ConnectionManager;
use redis::aio::ConnectionManagerConfig;
use redis::aio::PubSub;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgPoolOptions;
use std::time::Duration;

/// How long ringing through Redis may take; nobody waits longer for a doorbell.
const PUBLISH_TIMEOUT: Duration = Duration::from_millis(50);
/// How long connecting a doorbell may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A setting that the listening session is started with. A pooler such as PgBouncer refuses it or forgets it; and behind a
/// pooler `LISTEN` must not even be tried, because the notifications would reach whoever uses that session next.
const OWN_SESSION: &str = "vexil.listener";
const IS_OWN_SESSION: &str = "select current_setting('vexil.listener', true)";

/// A connection on which rings arrive.
#[derive(Debug)]
pub enum Hint {
    /// `NOTIFY` of PostgreSQL.
    Postgres(PgListener),
    /// Publish/subscribe of Redis.
    Redis(Subscription),
}

/// A subscription on Redis.
pub struct Subscription(PubSub);

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subscription")
    }
}

impl Hint {
    /// Waits for a ring, or for the connection to come back after it was lost, which may have cost one.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if the connection is lost; open another.
    pub async fn ring(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(listener) => {
                listener.try_recv().await.map(|_| ()).map_err(StoreError::from)
            }
            Self::Redis(Subscription(pubsub)) => match pubsub.on_message().next().await {
                Some(_) => Ok(()),
                None => Err(StoreError::Unavailable("Redis closed the connection".to_owned())),
            },
        }
    }
}

/// Something that rings when another replica has changed something.
#[derive(Debug, Clone)]
pub enum Doorbell {
    /// `NOTIFY` of PostgreSQL, with a connection of its own.
    Postgres(PgPool),
    /// Publish/subscribe of Redis.
    Redis(Box<RedisHints>),
}

impl Doorbell {
    /// The doorbell of a store; SQLite has none, because it has no other replica.
    pub fn of(store: &Store) -> Option<Self> {
        match store {
            Store::Postgres(pool) => {
                let options = pool.connect_options().as_ref().clone();
                let options = options.options([(OWN_SESSION, "on")]);
                let own = PgPoolOptions::new().max_connections(1).acquire_timeout(CONNECT_TIMEOUT);
                Some(Self::Postgres(own.connect_lazy_with(options)))
            }
            Store::Sqlite { .. } => None,
        }
    }

    /// What people call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Postgres(_) => "PostgreSQL",
            Self::Redis(_) => "Redis",
        }
    }

    /// Opens a connection on which rings arrive.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if no connection can be had.
    pub async fn connect(&self) -> Result<Hint, StoreError> {
        match self {
            Self::Postgres(pool) => {
                let mut listener = PgListener::connect_with(pool).await?;
                let query = sqlx::query_scalar(IS_OWN_SESSION).persistent(false);
                let is_own: Option<String> = query.fetch_one(&mut listener).await?;
                if is_own.is_none() {
                    let detail = "a pooler stands before PostgreSQL, through which nothing rings";
                    return Err(StoreError::Unavailable(detail.to_owned()));
                }
                listener.listen(CHANNEL).await?;
                Ok(Hint::Postgres(listener))
            }
            Self::Redis(redis) => redis.subscribe().await,
        }
    }
}

/// Rings through Redis, which reaches replicas also where `NOTIFY` does not.
#[derive(Clone)]
pub struct RedisHints {
    client: redis::Client,
    manager: ConnectionManager,
}

impl std::fmt::Debug for RedisHints {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RedisHints")
    }
}

impl RedisHints {
    /// Prepares to use a Redis server, without connecting yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Schema`] if the URL is not one.
    pub fn new(url: &SecretString) -> Result<Self, StoreError> {
        let invalid = |error: redis::RedisError| {
            StoreError::Schema(format!("the Redis URL is not valid: {error}"))
        };
        let client = redis::Client::open(url.expose_secret()).map_err(invalid)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(PUBLISH_TIMEOUT));
        let manager =
            ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(invalid)?;
        Ok(Self { client, manager })
    }

    /// Rings; whether anybody hears it is not known.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not take it in time.
    pub async fn publish(&self) -> Result<(), StoreError> {
        let mut manager = self.manager.clone();
        let mut command = redis::cmd("PUBLISH");
        let publish = command.arg(CHANNEL).arg("").query_async::<()>(&mut manager);
        match tokio::time::timeout(PUBLISH_TIMEOUT, publish).await {
            Ok(result) => result.map_err(|error| StoreError::Unavailable(error.to_string())),
            Err(_) => Err(StoreError::Unavailable("Redis does not answer".to_owned())),
        }
    }

    async fn subscribe(&self) -> Result<Hint, StoreError> {
        let unavailable = |error: redis::RedisError| StoreError::Unavailable(error.to_string());
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, self.client.get_async_pubsub());
        let mut pubsub = connect
            .await
            .map_err(|_| StoreError::Unavailable("Redis does not answer".to_owned()))?
            .map_err(unavailable)?;
        tokio::time::timeout(CONNECT_TIMEOUT, pubsub.subscribe(CHANNEL))
            .await
            .map_err(|_| StoreError::Unavailable("Redis does not answer".to_owned()))?
            .map_err(unavailable)?;
        Ok(Hint::Redis(Subscription(pubsub)))
    }
}
