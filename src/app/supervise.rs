//! Tasks that must go on until the process stops: one that panics or ends early is started again, a little later each time.
//!
//! What a task knows beyond one run lies behind locks that outlive it; what it does is not here.

use crate::clock::Ids;
use crate::telemetry::Metrics;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

/// The first wait before a task is started again; each time twice as long, up to the longest.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(10);
/// A task that ran for so long begins again with the first wait.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Starts tasks, and starts them again.
#[derive(Debug, Clone)]
pub(super) struct Supervisor {
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
    pub(super) metrics: Arc<Metrics>,
}

impl Supervisor {
    /// Runs what `start` makes until the process stops.
    #[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks of the process")]
    pub(super) fn run<T: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        start: impl Fn() -> T + Send + 'static,
    ) {
        let Self { tasks, stop, metrics } = self.clone();
        self.tasks.spawn(async move {
            let mut delay = RESTART_DELAY_MIN;
            loop {
                let started = Instant::now();
                let result = tokio::task::spawn(tasks.track_future(start())).await;
                if stop.is_cancelled() {
                    return;
                }
                let panic = result.err().map(|error| error.to_string()).unwrap_or_default();
                error!(task = name, panic, "a task ended early; starting it again");
                metrics.task_restarts.count(name);
                if started.elapsed() > STEADY_AFTER {
                    delay = RESTART_DELAY_MIN;
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(delay.mul_f64(0.5 + 0.5 * Ids.jitter())) => {}
                }
                delay = (delay * 2).min(RESTART_DELAY_MAX);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    fn supervisor() -> Supervisor {
        Supervisor {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metrics: Arc::new(Metrics::default()),
        }
    }

    #[tokio::test]
    async fn a_task_that_panics_twice_goes_on_and_is_counted() {
        let supervisor = supervisor();
        let n_starts = Arc::new(AtomicUsize::new(0));
        let going_on = CancellationToken::new();
        let (n, reached, stop) = (Arc::clone(&n_starts), going_on.clone(), supervisor.stop.clone());
        supervisor.run("test", move || {
            let (n, reached, stop) = (Arc::clone(&n), reached.clone(), stop.clone());
            async move {
                assert!(n.fetch_add(1, Ordering::Relaxed) >= 2, "on purpose");
                reached.cancel();
                stop.cancelled().await;
            }
        });
        going_on.cancelled().await;
        assert_eq!(n_starts.load(Ordering::Relaxed), 3);
        let metrics = supervisor.metrics.render();
        assert!(metrics.contains("vexil_task_restarts_total{task=\"test\"} 2"), "{metrics}");
        supervisor.stop.cancel();
        supervisor.tasks.close();
        supervisor.tasks.wait().await;
    }

    #[tokio::test]
    async fn a_task_that_ends_early_is_started_again_until_the_process_stops() {
        let supervisor = supervisor();
        let stop = supervisor.stop.clone();
        let n_starts = Arc::new(AtomicUsize::new(0));
        let n = Arc::clone(&n_starts);
        supervisor.run("test", move || {
            if n.fetch_add(1, Ordering::Relaxed) == 2 {
                stop.cancel();
            }
            std::future::ready(())
        });
        supervisor.tasks.close();
        supervisor.tasks.wait().await;
        assert_eq!(n_starts.load(Ordering::Relaxed), 3);
    }
}
