//! How many requests are answered: by a replica, for a client's address, for a server's token.
//!
//! What is over a limit is answered 429 and does no other work, or is only counted while the limit is in the shadow. Whom a
//! request comes from is in `address`, how requests are counted in `rate`, what becomes of bounds on one request in `bound`; on
//! connections, in `serve`.
// HOT: each request passes here; atomics only.

mod address;
mod bound;
mod rate;

pub use bound::BoundSettings;
pub(crate) use bound::Bounds;

use crate::clock::Ids;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::limit::address::client_address;
use crate::http::limit::address::client_of;
use crate::http::limit::rate::Cell;
use crate::http::limit::rate::Rate;
use crate::http::limit::rate::Table;
use crate::model::token::Digest;
use crate::model::token::TokenKind;
use crate::telemetry::LimitLabels;
use crate::telemetry::Metrics;
use axum::http::HeaderMap;
use ipnet::IpNet;
use prometheus_client::metrics::counter::Counter;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// By how much at most a client is told to wait longer than it must, so that not all come back at once.
const RETRY_SPREAD: Duration = Duration::from_secs(2);
/// Routes that are answered whatever else is asked: those that keep a replica in service, and those for emergencies.
const UNLIMITED_ROUTES: &[&str] = &[
    "/livez",
    "/readyz",
    "/health",
    "/kill",
    "/kill/{flag}",
    "/restore",
    "/restore/{flag}",
    "/trigger/{secret}",
];
/// Calls of triggers from one address in a second, so that guessing costs the store nothing.
const TRIGGER_ADDRESS_RPS: u32 = 20;
/// Calls of one trigger in a second.
const TRIGGER_RPS: u32 = 2;

/// One limit as it is configured.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitSetting {
    /// Requests per second; 0 is no limit.
    pub rps: u32,
    /// Whether what is over the limit is only counted.
    pub is_shadow: bool,
}

/// All limits as they are configured.
#[derive(Debug, Clone, Default)]
pub struct LimitSettings {
    /// All requests to this replica.
    pub replica: LimitSetting,
    /// Requests with client and mobile tokens from one address; IPv6 addresses count by their first 64 bits.
    pub client_address: LimitSetting,
    /// Requests with one server token.
    pub server_token: LimitSetting,
    /// Requests of administrators with one token.
    pub admin_token: LimitSetting,
    /// Whether what is over the limits of triggers is only counted.
    pub triggers_are_shadow: bool,
    /// Which bounds on one request only count.
    pub bounds: BoundSettings,
    /// The proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// The limits, and how much of each is used up.
#[derive(Debug)]
pub struct Limits {
    /// The bounds on one request.
    pub(crate) bounds: Bounds,
    started: Instant,
    replica: Option<(Limit, Cell)>,
    client_address: Option<(Limit, Table)>,
    server_token: Option<(Limit, Table)>,
    admin_token: Option<(Limit, Table)>,
    trigger_address: Option<(Limit, Table)>,
    trigger: Option<(Limit, Table)>,
    trusted_proxies: Vec<IpNet>,
    /// Seeded anew in each process, so that nobody can choose addresses that meet.
    hasher: RandomState,
}

impl Limits {
    /// Begins to count, with nothing used up.
    pub fn new(settings: LimitSettings, metrics: &Metrics) -> Self {
        let limit = |setting, name, whose| Limit::new(setting, name, whose, metrics);
        let replica = limit(settings.replica, "replica", "this replica");
        let client_address =
            limit(settings.client_address, "client_address", "the address of the client");
        let server_token = limit(settings.server_token, "server_token", "the token");
        let admin_token = limit(settings.admin_token, "admin_token", "the token");
        let fixed = |rps| LimitSetting { rps, is_shadow: settings.triggers_are_shadow };
        let trigger_address =
            limit(fixed(TRIGGER_ADDRESS_RPS), "trigger_address", "the address of the client");
        let trigger = limit(fixed(TRIGGER_RPS), "trigger", "the trigger");
        Self {
            bounds: Bounds::new(settings.bounds, metrics),
            started: Instant::now(),
            replica: replica.map(|limit| (limit, Cell::default())),
            client_address: client_address.map(|limit| (limit, Table::new())),
            server_token: server_token.map(|limit| (limit, Table::new())),
            admin_token: admin_token.map(|limit| (limit, Table::new())),
            trigger_address: trigger_address.map(|limit| (limit, Table::new())),
            trigger: trigger.map(|limit| (limit, Table::new())),
            trusted_proxies: settings.trusted_proxies,
            hasher: RandomState::new(),
        }
    }

    /// Counts a request that came at `at`, on a route that is limited.
    ///
    /// # Errors
    ///
    /// 429 if it is over the limit of the replica.
    pub(crate) fn admit(&self, at: Instant) -> Result<(), ApiError> {
        match &self.replica {
            Some((limit, cell)) => limit.check(Some(cell), self.since_start(at)),
            None => Ok(()),
        }
    }

    /// Takes back what [`Limits::admit`] counted, because nobody vouches for the request and it made no work.
    pub(crate) fn forget(&self) {
        if let Some((limit, cell)) = &self.replica {
            limit.rate.give_back(cell);
        }
    }

    /// Counts a request of an administrator.
    ///
    /// # Errors
    ///
    /// 429 if it is over the limit of the token.
    fn admit_admin(&self, token: &Digest, at: Instant) -> Result<(), ApiError> {
        let Some((limit, table)) = &self.admin_token else { return Ok(()) };
        limit.check(table.cell(self.hasher.hash_one(token)), self.since_start(at))
    }

    /// Counts a request of a caller who is known now.
    ///
    /// # Errors
    ///
    /// 429 if it is over the limit of its token or address.
    pub(crate) fn admit_caller(
        &self,
        caller: &Caller,
        peer: IpAddr,
        headers: &HeaderMap,
        at: Instant,
    ) -> Result<(), ApiError> {
        match caller.grant().kind {
            TokenKind::Server => {
                let Some((limit, table)) = &self.server_token else { return Ok(()) };
                let now = self.since_start(at);
                limit.check(table.cell(self.hasher.hash_one(caller.digest)), now)
            }
            TokenKind::Client | TokenKind::Mobile => {
                let Some((limit, table)) = &self.client_address else { return Ok(()) };
                let now = self.since_start(at);
                let client = client_of(client_address(peer, headers, &self.trusted_proxies));
                limit.check(table.cell(self.hasher.hash_one(client)), now)
            }
            TokenKind::Admin => Ok(()),
        }
    }

    /// Counts a call of a trigger, by its secret's digest and by where it comes from.
    ///
    /// # Errors
    ///
    /// 429 if it is over one of the two limits.
    pub(crate) fn admit_trigger(
        &self,
        digest: &Digest,
        peer: IpAddr,
        headers: &HeaderMap,
        at: Instant,
    ) -> Result<(), ApiError> {
        let now = self.since_start(at);
        if let Some((limit, table)) = &self.trigger_address {
            let client = client_of(client_address(peer, headers, &self.trusted_proxies));
            limit.check(table.cell(self.hasher.hash_one(client)), now)?;
        }
        let Some((limit, table)) = &self.trigger else { return Ok(()) };
        limit.check(table.cell(self.hasher.hash_one(digest)), now)
    }

    fn since_start(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.started)
    }
}

/// When and from where a request came; what the routes of the router need to count it.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    pub(crate) limits: Arc<Limits>,
    pub(crate) peer: IpAddr,
    pub(crate) at: Instant,
}

impl Arrival {
    /// As [`Limits::admit`], unless the route is never limited.
    pub(crate) fn admit_route(&self, route: &str) -> Result<(), ApiError> {
        if UNLIMITED_ROUTES.contains(&route) { Ok(()) } else { self.limits.admit(self.at) }
    }

    /// Takes back what was counted for a route, unless that is never limited.
    pub(crate) fn forget_route(&self, route: &str) {
        if !UNLIMITED_ROUTES.contains(&route) {
            self.limits.forget();
        }
    }

    /// Counts a request of an administrator, unless the route is never limited.
    ///
    /// # Errors
    ///
    /// 429 if it is over the limit of the token.
    pub(crate) fn admit_admin(&self, token: &Digest, route: &str) -> Result<(), ApiError> {
        if UNLIMITED_ROUTES.contains(&route) {
            return Ok(());
        }
        self.limits.admit_admin(token, self.at)
    }

    /// As [`Limits::admit_trigger`].
    pub(crate) fn admit_trigger(
        &self,
        digest: &Digest,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        self.limits.admit_trigger(digest, self.peer, headers, self.at)
    }

    /// As [`Limits::admit_caller`].
    pub(crate) fn admit_caller(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<(), ApiError> {
        self.limits.admit_caller(caller, self.peer, headers, self.at)
    }
}

impl Arrival {
    /// The client's IPv4 address, or the network of IPv6 that it is in.
    pub(crate) fn client_network(&self, headers: &HeaderMap) -> IpAddr {
        client_of(self.client_address(headers))
    }

    /// Whom the request comes from, as far as proxies are trusted to tell.
    pub(crate) fn client_address(&self, headers: &HeaderMap) -> IpAddr {
        client_address(self.peer, headers, &self.limits.trusted_proxies)
    }
}

#[derive(Debug)]
struct Limit {
    rate: Rate,
    rps: u32,
    is_shadow: bool,
    /// What has used up the limit, in words.
    whose: &'static str,
    limited: Counter,
}

impl Limit {
    fn new(
        setting: LimitSetting,
        name: &'static str,
        whose: &'static str,
        metrics: &Metrics,
    ) -> Option<Self> {
        let LimitSetting { rps, is_shadow } = setting;
        let rate = Rate::per_second(rps)?;
        let mode = if is_shadow { "shadow" } else { "enforced" };
        let limited = metrics.limited.get_or_create(&LimitLabels { limit: name, mode }).clone();
        Some(Self { rate, rps, is_shadow, whose, limited })
    }

    fn check(&self, cell: Option<&Cell>, now: Duration) -> Result<(), ApiError> {
        let taken = cell.map_or(Ok(()), |cell| self.rate.take(cell, now));
        let Err(wait) = taken else { return Ok(()) };
        self.limited.inc();
        if self.is_shadow {
            return Ok(());
        }
        let wait = wait + RETRY_SPREAD.mul_f64(Ids.jitter());
        let secs = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
        let Self { rps, whose, .. } = self;
        let detail = format!("{whose} has used up its {rps} requests per second; try again");
        Err(ApiError::rate_limited(detail, secs))
    }
}
