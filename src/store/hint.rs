//! Doorbells between replicas: something changed, go and look.
//!
//! A ring says nothing about what changed, so a lost, doubled or late one does no harm: the poll is the truth.

use crate::store::Redis;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::dialect::CHANNEL;
use futures_util::StreamExt;
use redis::aio::PubSub;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgPoolOptions;
use std::time::Duration;

/// How long connecting a doorbell may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long nothing may ring before the connection is asked for a sign of life.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const SIGN_OF_LIFE: &str = "select 1";

/// A setting that the listening session is started with. A pooler such as PgBouncer refuses it or forgets it; and behind a
/// pooler `LISTEN` must not even be tried, because the notifications would reach whoever uses that session next.
const OWN_SESSION: &str = "vexil.listener";
const IS_OWN_SESSION: &str = "select current_setting('vexil.listener', true)";

/// Tells of this session alone; others that hear it look at the store once more.
const RING_ONESELF: &str = "with own as (select 'session ' || pg_backend_pid() as name)
    select name from own, lateral (select pg_notify($1, name)) rung";
/// How long one's own ring may take.
const SELF_TEST_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection on which rings arrive.
#[derive(Debug)]
pub enum Hint {
    /// `NOTIFY` of PostgreSQL.
    Postgres(PgListener),
    /// Publish/subscribe of Redis.
    Redis(Subscription),
}

/// A subscription on Redis.
pub struct Subscription(pub(super) PubSub);

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
            Self::Postgres(listener) => loop {
                let received = tokio::time::timeout(SILENCE_MAX, listener.try_recv()).await;
                if let Ok(received) = received {
                    return received.map(|_| ()).map_err(StoreError::from);
                }
                // A connection that was dropped on the way is as silent as one on which nothing rings.
                let sign_of_life =
                    sqlx::query(SIGN_OF_LIFE).persistent(false).execute(&mut *listener);
                match tokio::time::timeout(CONNECT_TIMEOUT, sign_of_life).await {
                    Ok(answer) => _ = answer?,
                    Err(_) => {
                        let detail = "PostgreSQL no longer answers on the listening connection";
                        return Err(StoreError::Unavailable(detail.to_owned()));
                    }
                }
            },
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
    Redis(Box<Redis>),
}

/// Rings and waits for it to be heard: something on the way may take `LISTEN` and pass on nothing.
async fn hear_oneself(listener: &mut PgListener) -> Result<(), StoreError> {
    let ring = sqlx::query_scalar(RING_ONESELF).persistent(false).bind(CHANNEL);
    let own: String = ring.fetch_one(&mut *listener).await?;
    let heard = async {
        while listener.recv().await?.payload() != own {}
        Ok::<_, sqlx::Error>(())
    };
    match tokio::time::timeout(SELF_TEST_TIMEOUT, heard).await {
        Ok(heard) => Ok(heard?),
        Err(_) => Err(StoreError::Unavailable("notifications do not arrive".to_owned())),
    }
}

impl Doorbell {
    /// The doorbell of a store; SQLite has none, because it has no other replica.
    pub fn of(store: &Store) -> Option<Self> {
        match store {
            Store::Postgres { pool, .. } => {
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
                hear_oneself(&mut listener).await?;
                Ok(Hint::Postgres(listener))
            }
            Self::Redis(redis) => redis.subscribe().await,
        }
    }
}
