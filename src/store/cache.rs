//! The cache in Redis: the image of each environment, for replicas that start.
//!
//! What lies there is believed by nobody: whoever reads it checks its position and its authenticity. A lower position never
//! replaces a higher one. Losing all of it costs a few reads of the database.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::store::Redis;
use crate::store::StoreError;
use redis::Script;
use std::sync::LazyLock;
use std::time::Duration;

/// How long an image lies in Redis if nobody renews it; the real time differs by up to a tenth.
pub const CACHE_TTL: Duration = Duration::from_secs(30);
/// How long a replica may take to read what is missing from the database before another one tries.
pub const LEASE_TTL: Duration = Duration::from_secs(5);
/// How long a question may take, whatever it moves.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(50);
/// Bytes that must move in each further millisecond.
const BYTES_PER_MS: usize = 50 * 1024;

/// Sets an image unless one of a higher position is there and nobody has refused it. `KEYS[1]`; epoch, version, milliseconds to
/// live, image, whether whatever is there was refused.
const PUT: &str = "
if ARGV[5] == '1' then redis.call('DEL', KEYS[1]) end
local e = tonumber(redis.call('HGET', KEYS[1], 'e') or '-1')
local v = tonumber(redis.call('HGET', KEYS[1], 'v') or '-1')
local ne, nv = tonumber(ARGV[1]), tonumber(ARGV[2])
if not e or not v then e, v = -1, -1 end
if ne < e or (ne == e and nv < v) then return 0 end
redis.call('HSET', KEYS[1], 'e', ARGV[1], 'v', ARGV[2], 'b', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";
/// Renews an image that is of this position. `KEYS[1]`; epoch, version, milliseconds to live.
const RENEW: &str = "
local at = redis.call('HMGET', KEYS[1], 'e', 'v')
if redis.call('HSTRLEN', KEYS[1], 'b') == 0 then return 0 end
if at[1] ~= ARGV[1] or at[2] ~= ARGV[2] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1";

static PUT_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(PUT));
static RENEW_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(RENEW));

/// What one replica does for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Reads an environment from the database.
    Read,
    /// Writes an environment here.
    Write,
}

/// The part of Redis that belongs to one installation.
#[derive(Debug, Clone)]
pub struct Cache {
    redis: Redis,
    /// Tells installations apart that share one Redis.
    namespace: String,
}

impl Cache {
    /// The cache of the installation with this name.
    pub fn new(redis: Redis, namespace: String) -> Self {
        Self { redis, namespace }
    }

    fn key(&self, env: EnvId) -> String {
        format!("vexil:{}:ruleset:{env}", self.namespace)
    }

    /// The bytes of the image that lies there for an environment; 0 if there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not answer in time, [`StoreError::Corrupt`] if something else lies there.
    pub async fn size(&self, env: EnvId) -> Result<usize, StoreError> {
        let mut command = redis::cmd("HSTRLEN");
        command.arg(self.key(env)).arg("b");
        self.redis.ask(OPERATION_TIMEOUT, async |c| command.query_async(c).await).await
    }

    /// Reads the image of `n_bytes` that lies there for an environment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not answer in the time that so many bytes may take.
    pub async fn read(&self, env: EnvId, n_bytes: usize) -> Result<Option<Vec<u8>>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.key(env)).arg("b");
        self.redis.ask(time_for(n_bytes), async |c| command.query_async(c).await).await
    }

    /// Leaves an image there, unless one of a higher position is there; returns whether it does.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not take it in time.
    pub async fn put(
        &self,
        env: EnvId,
        at: Position,
        ttl: Duration,
        image: &[u8],
        replaces_refused: bool,
    ) -> Result<bool, StoreError> {
        let mut call = PUT_SCRIPT.key(self.key(env));
        call.arg(at.epoch).arg(at.version).arg(millis(ttl)).arg(image);
        call.arg(i32::from(replaces_refused));
        self.redis.ask(time_for(image.len()), async |c| call.invoke_async(c).await).await
    }

    /// Lets an image of this position lie there for longer; returns whether one was there.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not answer in time.
    pub async fn renew(&self, env: EnvId, at: Position, ttl: Duration) -> Result<bool, StoreError> {
        let mut call = RENEW_SCRIPT.key(self.key(env));
        call.arg(at.epoch).arg(at.version).arg(millis(ttl));
        self.redis.ask(OPERATION_TIMEOUT, async |c| call.invoke_async(c).await).await
    }

    /// Becomes the one replica that reads an environment from the database, or writes it here; returns whether it does. Ends by
    /// itself.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if Redis does not answer in time.
    pub async fn take_lease(&self, env: EnvId, what: Lease) -> Result<bool, StoreError> {
        let what = match what {
            Lease::Read => "reader",
            Lease::Write => "writer",
        };
        let mut command = redis::cmd("SET");
        command.arg(format!("{}:{what}", self.key(env))).arg(1).arg("NX");
        command.arg("PX").arg(millis(LEASE_TTL));
        let taken: Option<String> =
            self.redis.ask(OPERATION_TIMEOUT, async |c| command.query_async(c).await).await?;
        Ok(taken.is_some())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn time_for(n_bytes: usize) -> Duration {
    let ms = u64::try_from(n_bytes / BYTES_PER_MS).unwrap_or(u64::MAX);
    OPERATION_TIMEOUT.saturating_add(Duration::from_millis(ms))
}
