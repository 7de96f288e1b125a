//! Requests with a key: one change and one answer, however often a request is repeated.

use crate::control::Control;
use crate::control::ControlError;
use crate::store::Claim;
use crate::store::KeptAnswer;
use crate::store::within_timeout;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::Instant;
use tracing::warn;

/// How long an answer is kept.
pub(super) const KEPT_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long a request may be silent before another takes its place; longer than the transactions that it may make.
const LEASE: SignedDuration = SignedDuration::from_secs(20);
/// How long a repeated request waits for the answer of the first.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How soon it is looked for again; each time twice as late, up to the longest.
const LOOK_INTERVAL_MIN: Duration = Duration::from_millis(10);
const LOOK_INTERVAL_MAX: Duration = Duration::from_millis(200);

/// What becomes of a request with a key.
#[derive(Debug)]
pub enum Keyed {
    /// It is the first: it is worked on, and its answer is handed to [`Control::end_keyed`].
    Claimed(Claim),
    /// It was answered before.
    Answered(Vec<u8>),
    /// The change was made, but its answer is lost.
    Lost {
        /// The audit entry of the change.
        audit_id: String,
    },
    /// The key was used for another request.
    Reused,
    /// The first is still being worked on.
    InProgress,
}

impl Control {
    /// Begins a request with a key, or waits for the answer of the one that came first.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn begin_keyed(
        &self,
        token_id: &str,
        key: &str,
        request: &str,
    ) -> Result<Keyed, ControlError> {
        let (token_id, key) = (token_id.to_owned(), key.to_owned());
        let claim = Claim { token_id, key, id: self.ids.next() };
        let deadline = Instant::now() + WAIT_MAX;
        let mut interval = LOOK_INTERVAL_MIN;
        loop {
            if let Some(keyed) = within_timeout(self.try_claim(&claim, request)).await? {
                return Ok(keyed);
            }
            if Instant::now() >= deadline {
                return Ok(Keyed::InProgress);
            }
            tokio::time::sleep(interval).await;
            interval = (interval * 2).min(LOOK_INTERVAL_MAX);
        }
    }

    /// Looks once; `None` if another request is being worked on.
    async fn try_claim(&self, claim: &Claim, request: &str) -> Result<Option<Keyed>, ControlError> {
        let now = self.clock.now();
        // Reading first keeps those who wait out of the way of those who write.
        let kept = self.store.read().await?.kept_answer(&claim.token_id, &claim.key).await?;
        let Some(kept) = kept.filter(|kept| now.duration_since(kept.claimed_at) < KEPT_FOR) else {
            let mut tx = self.store.write().await?;
            tx.forget_keys(forgotten_before(now)).await?;
            let is_claimed = tx.claim_key(claim, request, now).await?;
            tx.commit().await?;
            return Ok(is_claimed.then(|| Keyed::Claimed(claim.clone())));
        };
        let KeptAnswer { claim: other, claimed_at, audit_id, answer, .. } = kept;
        if kept.request != request {
            return Ok(Some(Keyed::Reused));
        }
        if let Some(answer) = answer {
            return Ok(Some(Keyed::Answered(answer)));
        }
        if now.duration_since(claimed_at) < LEASE {
            return Ok(None);
        }
        if let Some(audit_id) = audit_id {
            return Ok(Some(Keyed::Lost { audit_id }));
        }
        let mut tx = self.store.write().await?;
        let is_claimed = tx.take_over_key(claim, &other, now).await?;
        tx.commit().await?;
        Ok(is_claimed.then(|| Keyed::Claimed(claim.clone())))
    }

    /// Keeps the answer to a request with a key, or gives the key back if there is none worth keeping.
    pub async fn end_keyed(&self, claim: &Claim, answer: Option<Vec<u8>>) {
        let ended = within_timeout(async {
            let mut tx = self.store.write().await?;
            match &answer {
                Some(answer) => tx.keep_answer(claim, answer).await?,
                None => tx.release_key(claim).await?,
            }
            Ok::<_, ControlError>(tx.commit().await?)
        });
        if let Err(error) = ended.await {
            warn!(%error, "could not keep the answer to a request with a key");
        }
    }
}

/// The time before which keys are forgotten.
pub(super) fn forgotten_before(now: Timestamp) -> Timestamp {
    now.checked_sub(KEPT_FOR).unwrap_or(Timestamp::MIN)
}
