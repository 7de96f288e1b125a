//! What is done now and then and belongs to no request: noting which tokens were used, writing the end of the audit log into the
//! log, and forgetting old keys of requests and old entries of the schedule.

use crate::control::Control;
use crate::control::ControlError;
use crate::control::idempotency::forgotten_before;
use crate::model::token::Digest;
use crate::model::token::TokenKind;
use crate::store::within_timeout;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::info;

/// How often the use of tokens is written down.
const USAGE_INTERVAL: Duration = Duration::from_secs(60);
/// Every how many such intervals the end of the audit log is signed into the log.
const HEAD_TICKS: u64 = 5;
/// Every how many such intervals old keys are forgotten.
const FORGET_TICKS: u64 = 60;
/// Tokens that are noted in one transaction.
const TOKENS_AT_ONCE: usize = 500;
/// How long the schedule tells what has become of an entry; the audit log tells it for ever.
const SCHEDULE_KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);
const DAY: SignedDuration = SignedDuration::from_hours(24);
const SECOND: SignedDuration = SignedDuration::from_secs(1);

impl Control {
    /// Does what is to be done now and then, until it is told to stop.
    pub async fn keep_up(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(USAGE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut n_ticks = 0_u64;
        let mut announced = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            // While the store is away there is nothing to note it in; what was used is used again.
            let done = async {
                self.note_used_tokens().await?;
                if n_ticks.is_multiple_of(HEAD_TICKS) {
                    announced = self.announce_head(announced).await?;
                }
                if n_ticks.is_multiple_of(FORGET_TICKS) {
                    self.forget_keys().await?;
                }
                Ok::<_, ControlError>(())
            };
            if let Err(error) = done.await {
                debug!(%error, "could not do what is done now and then");
            }
            n_ticks += 1;
        }
        if let Err(error) = self.note_used_tokens().await {
            debug!(%error, "could not note which tokens were used");
        }
    }

    /// Notes which tokens were used since the last time.
    async fn note_used_tokens(&self) -> Result<(), ControlError> {
        let now = self.clock.now();
        let used = self.snapshots.directory().take_used();
        let used: Vec<(Digest, Timestamp)> =
            used.into_iter().map(|(digest, kind)| (digest, used_at(kind, now))).collect();
        for chunk in used.chunks(TOKENS_AT_ONCE) {
            within_timeout(async {
                let mut tx = self.store.write().await?;
                tx.touch_tokens(chunk).await?;
                Ok::<_, ControlError>(tx.commit().await?)
            })
            .await?;
        }
        Ok(())
    }

    /// Writes the signed end of the audit log into the log, if it has moved; returns its number.
    async fn announce_head(&self, announced: i64) -> Result<i64, ControlError> {
        let head = self.audit_head().await?;
        if head.seq != announced {
            info!(audit.seq = head.seq, audit.hash = head.hash, audit.at = %head.at,
                audit.public_key = head.public_key, audit.signature = head.signature,
                "the end of the audit log");
        }
        Ok(head.seq)
    }

    async fn forget_keys(&self) -> Result<(), ControlError> {
        within_timeout(async {
            let mut tx = self.store.write().await?;
            let now = self.clock.now();
            tx.forget_keys(forgotten_before(now)).await?;
            tx.forget_scheduled(now - SCHEDULE_KEPT).await?;
            Ok(tx.commit().await?)
        })
        .await
    }
}

/// The time as it is noted: to the second, and for tokens that are in every browser to the day.
fn used_at(kind: TokenKind, now: Timestamp) -> Timestamp {
    let step = match kind {
        TokenKind::Client | TokenKind::Mobile => DAY,
        TokenKind::Server | TokenKind::Admin => SECOND,
    };
    let secs = now.as_second();
    // OK because it lies before a time that there is.
    Timestamp::from_second(secs - secs.rem_euclid(step.as_secs())).unwrap_or(now)
}
