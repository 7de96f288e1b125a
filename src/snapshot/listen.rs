//! Listening to doorbells: each ring makes the follower look at the store at once.

use crate::clock::Ids;
use crate::snapshot::Snapshots;
use crate::store::Doorbell;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::warn;

/// The longest wait before a lost doorbell is connected again.
const RECONNECT_DELAY_MAX: Duration = Duration::from_secs(5);
/// The first wait before a lost doorbell is connected again.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(100);

impl Snapshots {
    /// Listens to a doorbell until it is told to stop; a lost connection is opened again.
    pub async fn listen(
        &self,
        doorbell: Doorbell,
        metrics: Arc<Metrics>,
        ids: Ids,
        stop: CancellationToken,
    ) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.pass_on(&doorbell, &metrics, ids) => {}
        }
    }

    async fn pass_on(&self, doorbell: &Doorbell, metrics: &Metrics, ids: Ids) {
        let note = |is_heard: bool| {
            if matches!(doorbell, Doorbell::Postgres(_)) {
                metrics.notify_ok.set(i64::from(is_heard));
            }
        };
        let mut delay = RECONNECT_DELAY_MIN;
        let mut has_warned = false;
        loop {
            match doorbell.connect().await {
                Ok(mut hint) => {
                    delay = RECONNECT_DELAY_MIN;
                    has_warned = false;
                    note(true);
                    // Whatever rang while nobody listened is found by looking.
                    self.ring();
                    while hint.ring().await.is_ok() {
                        self.ring();
                    }
                    note(false);
                    warn!(doorbell = doorbell.name(), "lost a doorbell; the poll goes on");
                }
                Err(error) if has_warned => {
                    debug!(doorbell = doorbell.name(), %error, "cannot connect a doorbell");
                }
                Err(error) => {
                    has_warned = true;
                    warn!(doorbell = doorbell.name(), %error, "cannot connect a doorbell; the poll goes on");
                }
            }
            tokio::time::sleep(delay.mul_f64(0.5 + ids.jitter())).await;
            delay = (delay * 2).min(RECONNECT_DELAY_MAX);
        }
    }
}
