//! How many streams may be open and how fast new ones may come; what is over it is refused before it costs memory.
//!
//! Requests that are no streams are none of its business.

use crate::http::error::ApiError;
use crate::http::stream::spread::Spread;
use crate::model::token::Digest;
use crate::model::token::TokenKind;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Instant;

/// Streams that one server or administration token may have at one replica.
const STREAMS_PER_TOKEN_MAX: usize = 1_000;
/// Streams that one client or mobile token, which many devices share, may have at one replica.
const STREAMS_PER_CLIENT_TOKEN_MAX: usize = 100_000;
/// Streams that one address may have with one client or mobile token.
const STREAMS_PER_ADDRESS_MAX: usize = 20;
/// New streams per second that are accepted for long.
const NEW_STREAMS_PER_SEC: f64 = 2_000.0;
/// New streams that are accepted at once.
const NEW_STREAMS_BURST: f64 = 4_000.0;

/// Seconds after which to try again what came too fast; at the rate above, 20,000 clients are through within this.
const RETRY_RATE_SECS: RangeInclusive<u32> = 1..=10;
/// Seconds after which to try again while the replica stops: by then, a load balancer sends to another.
const RETRY_DRAIN_SECS: RangeInclusive<u32> = 1..=5;
/// Seconds after which a full replica may have room again.
const RETRY_FULL_SECS: RangeInclusive<u32> = 5..=30;
/// Seconds after which a token that has all its streams may try again.
const RETRY_TOKEN_SECS: RangeInclusive<u32> = 10..=60;

/// Why a stream is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token has as many as it may have.
    Token,
    /// The address has as many as it may have with this token.
    Address,
    /// The replica has as many as it may have.
    Replica,
    /// Too many came at once.
    Rate,
    /// The process is about to stop.
    Draining,
}

impl Refusal {
    /// The name in the metric.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Address => "address",
            Self::Replica => "replica",
            Self::Rate => "rate",
            Self::Draining => "draining",
        }
    }

    /// The name of the limit in the metric, if it is one that can be in the shadow.
    pub(super) fn limit(self) -> Option<&'static str> {
        match self {
            Self::Token => Some("stream_token"),
            Self::Address => Some("stream_address"),
            Self::Rate => Some("stream_rate"),
            Self::Replica | Self::Draining => None,
        }
    }

    /// What the client is told.
    pub(super) fn error(self, spread: &Spread) -> ApiError {
        let (status, code, detail, retry_after) = match self {
            Self::Token => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_streams",
                "the token has as many streams open at this replica as it may have",
                RETRY_TOKEN_SECS,
            ),
            Self::Address => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_streams",
                "the address has as many streams open at this replica as it may have",
                RETRY_TOKEN_SECS,
            ),
            Self::Replica => (
                StatusCode::SERVICE_UNAVAILABLE,
                "streams_full",
                "the replica has as many streams open as it may have",
                RETRY_FULL_SECS,
            ),
            Self::Rate => (
                StatusCode::SERVICE_UNAVAILABLE,
                "streams_rate",
                "more streams are being opened than the replica accepts at once",
                RETRY_RATE_SECS,
            ),
            Self::Draining => (
                StatusCode::SERVICE_UNAVAILABLE,
                "stopping",
                "the replica is about to stop; connect to another",
                RETRY_DRAIN_SECS,
            ),
        };
        let retry_after_secs = Some(spread.pick(&retry_after));
        ApiError { retry_after_secs, ..ApiError::new(status, code, detail) }
    }
}

/// Whom a stream is counted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The token.
    pub(crate) token: Digest,
    /// Its kind.
    pub(crate) kind: TokenKind,
    /// Where the client is, for tokens that many devices share.
    pub(crate) address: Option<IpAddr>,
}

/// Decides which streams may open.
#[derive(Debug)]
pub(super) struct Admission {
    streams_max: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    n_open: usize,
    by_token: HashMap<Digest, usize>,
    by_address: HashMap<(Digest, IpAddr), usize>,
    /// New streams that may come now.
    allowance: f64,
    refilled_at: Instant,
}

impl Admission {
    /// Lets at most `streams_max` streams be open.
    pub(super) fn new(streams_max: usize) -> Self {
        let state = State {
            n_open: 0,
            by_token: HashMap::new(),
            by_address: HashMap::new(),
            allowance: NEW_STREAMS_BURST,
            refilled_at: Instant::now(),
        };
        Self { streams_max, state: Mutex::new(state) }
    }

    /// Counts a stream that opens now.
    ///
    /// # Errors
    ///
    /// It may not; then nothing is counted.
    pub(super) fn admit(&self, holder: &Holder, now: Instant) -> Result<(), Refusal> {
        let mut state = self.state();
        state.refill(now);
        let of_token = state.by_token.get(&holder.token).copied().unwrap_or_default();
        let per_token_max = match holder.kind {
            TokenKind::Client | TokenKind::Mobile => STREAMS_PER_CLIENT_TOKEN_MAX,
            TokenKind::Server | TokenKind::Admin => STREAMS_PER_TOKEN_MAX,
        };
        if of_token >= per_token_max {
            return Err(Refusal::Token);
        }
        let key = holder.address.map(|address| (holder.token, address));
        let of_address = key.and_then(|key| state.by_address.get(&key).copied());
        if of_address.is_some_and(|n_streams| n_streams >= STREAMS_PER_ADDRESS_MAX) {
            return Err(Refusal::Address);
        }
        if state.n_open >= self.streams_max {
            return Err(Refusal::Replica);
        }
        if state.allowance < 1.0 {
            return Err(Refusal::Rate);
        }
        state.allowance -= 1.0;
        state.count(holder);
        Ok(())
    }

    /// Counts a stream that opens now although it is over a limit that is in the shadow.
    ///
    /// # Errors
    ///
    /// The replica has as many as it may have.
    pub(super) fn admit_in_shadow(&self, holder: &Holder) -> Result<(), Refusal> {
        let mut state = self.state();
        if state.n_open >= self.streams_max {
            return Err(Refusal::Replica);
        }
        state.count(holder);
        Ok(())
    }

    /// Forgets a stream that has ended.
    pub(super) fn release(&self, holder: &Holder) {
        let mut state = self.state();
        state.n_open = state.n_open.saturating_sub(1);
        count_down(&mut state.by_token, &holder.token);
        if let Some(address) = holder.address {
            count_down(&mut state.by_address, &(holder.token, address));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, holder: &Holder) {
        self.n_open += 1;
        *self.by_token.entry(holder.token).or_default() += 1;
        if let Some(address) = holder.address {
            *self.by_address.entry((holder.token, address)).or_default() += 1;
        }
    }

    fn refill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.allowance = (self.allowance + passed * NEW_STREAMS_PER_SEC).min(NEW_STREAMS_BURST);
        self.refilled_at = now;
    }
}

/// Counts down, and forgets what is at zero, so that the map does not grow with every token that ever was.
fn count_down<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn holder(token: u8, kind: TokenKind, address: Option<u8>) -> Holder {
        let address = address.map(|last| IpAddr::from([127, 0, 0, last]));
        Holder { token: [token; 32], kind, address }
    }

    #[test]
    fn a_token_has_its_share_and_gets_it_back() {
        let admission = Admission::new(usize::MAX);
        let (now, one, other) =
            (Instant::now(), holder(1, TokenKind::Server, None), holder(2, TokenKind::Admin, None));
        for _ in 0..STREAMS_PER_TOKEN_MAX {
            assert_eq!(admission.admit(&one, now), Ok(()));
        }
        assert_eq!(admission.admit(&one, now), Err(Refusal::Token));
        assert_eq!(admission.admit(&other, now), Ok(()));
        admission.release(&one);
        assert_eq!(admission.admit(&one, now), Ok(()));
        for _ in 0..STREAMS_PER_TOKEN_MAX {
            admission.release(&one);
        }
        admission.release(&other);
        let state = admission.state();
        assert_eq!((state.n_open, state.by_token.len()), (0, 0));
    }

    #[test]
    fn an_address_has_its_share_of_a_client_token() {
        let admission = Admission::new(usize::MAX);
        let now = Instant::now();
        for last in 1..=100 {
            let client = holder(1, TokenKind::Client, Some(last));
            for _ in 0..STREAMS_PER_ADDRESS_MAX {
                assert_eq!(admission.admit(&client, now), Ok(()));
            }
            assert_eq!(admission.admit(&client, now), Err(Refusal::Address));
        }
        let client = holder(1, TokenKind::Client, Some(1));
        for _ in 0..STREAMS_PER_ADDRESS_MAX {
            admission.release(&client);
        }
        assert_eq!(admission.state().by_address.len(), 99);
    }

    #[test]
    fn a_replica_has_an_end_and_new_streams_have_a_rate() {
        let admission = Admission::new(2);
        let (mut now, server) = (Instant::now(), holder(1, TokenKind::Server, None));
        for expected in [Ok(()), Ok(()), Err(Refusal::Replica)] {
            assert_eq!(admission.admit(&server, now), expected);
        }
        let admission = Admission::new(usize::MAX);
        let client = holder(1, TokenKind::Client, None);
        let admit = |now| {
            let results = std::iter::repeat_with(|| admission.admit(&client, now));
            results.take_while(Result::is_ok).count()
        };
        assert_eq!(admit(now), 4_000);
        assert_eq!(admission.admit(&client, now), Err(Refusal::Rate));
        now += Duration::from_millis(500);
        assert!((999..=1_000).contains(&admit(now)));
        now += Duration::from_secs(60);
        assert_eq!(admit(now), 4_000);
    }
}
