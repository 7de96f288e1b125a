//! How the process hears that it is to stop, and takes leave of its clients before it does.
//!
//! How streams are closed is in `http/stream/drain.rs`; what is stopped in which order, in `app`.

use crate::http::Streams;
use anyhow::Context;
use std::time::Duration;
use tokio::signal::unix;
use tokio::signal::unix::SignalKind;
use tokio_util::task::TaskTracker;
use tracing::info;

/// How long the process listens in any case after SIGTERM, unless the time to drain is shorter: clients that connect for each
/// request leave moments in which nobody is connected, and a load balancer must see first that the process is not ready.
const NOTICE_MIN: Duration = Duration::from_secs(5);
/// How long requests and tasks may go on when the time to drain is over.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(5);
/// How long they may go on when the process was told twice to stop.
const SHORT_GRACE_PERIOD: Duration = Duration::from_secs(1);

/// Closes the streams evenly over `time` while everything goes on being answered, so that clients and load balancers turn to
/// other replicas; ends early when nobody is connected any more and load balancers had time to see it, or when the process is told again to stop. Returns how long
/// what is then in progress may take.
pub(super) async fn drain(
    streams: &Streams,
    connections: &TaskTracker,
    time: Duration,
    signals: &mut Signals,
) -> Duration {
    // The tracker tells that it is empty only if it is closed; the accept loop may still add to it.
    connections.close();
    let nobody_is_left = async {
        tokio::time::sleep(NOTICE_MIN).await;
        connections.wait().await;
    };
    tokio::select! {
        () = streams.drain(time) => GRACE_PERIOD,
        () = nobody_is_left => GRACE_PERIOD,
        _ = signals.next() => {
            info!("told again to stop");
            SHORT_GRACE_PERIOD
        }
    }
}

/// What the process was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// SIGTERM, from whoever runs the process: there is time to take leave.
    Terminate,
    /// SIGINT, as from Ctrl-C: somebody waits.
    Interrupt,
}

/// Hears SIGTERM and SIGINT from its making on, so that none is lost between two waits.
pub(super) struct Signals {
    terminate: unix::Signal,
    interrupt: unix::Signal,
}

impl Signals {
    pub(super) fn new() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: unix::signal(SignalKind::terminate()).context("cannot hear SIGTERM")?,
            interrupt: unix::signal(SignalKind::interrupt()).context("cannot hear SIGINT")?,
        })
    }

    /// Waits for the next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::Terminate,
            _ = self.interrupt.recv() => Signal::Interrupt,
        }
    }
}
