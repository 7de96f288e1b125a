//! How the process takes leave of its clients: streams are closed evenly over a while instead of all at once.
//!
//! When that begins and what else stops is decided in `app`.

use crate::http::stream::channel::END_DRAIN;
use crate::http::stream::channel::ROWS;
use crate::http::stream::channel::Seat;
use crate::http::stream::hub::Streams;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// Milliseconds after which a client that was told goodbye should connect again, to another replica.
pub(super) const RETRY_AFTER_GOODBYE_MS: RangeInclusive<u32> = 500..=3_000;
/// From one slice of streams that are closed to the next.
const SLICE_SPACING: Duration = Duration::from_millis(50);
/// The part of the time to drain after which connections are closed behind their answers; before it, load balancers see
/// that the process is not ready any more.
const LEAVING_AFTER: f64 = 0.5;
/// The part of the time to drain within which all streams are closed.
const STREAMS_CLOSED_AFTER: f64 = 0.9;

/// In which phase of its life the process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It answers everything but opens no streams, closes those that are open, and says that it is not ready.
    Draining,
    /// It also closes connections behind their answers, so that none is in use when it stops.
    Leaving,
}

impl Streams {
    /// In which phase of its life the process is.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Leaving,
        }
    }

    /// Is cancelled when connections are to be closed behind their answers.
    pub fn leaving(&self) -> CancellationToken {
        self.leaving.clone()
    }

    fn leave(&self) {
        self.phase.store(2, Ordering::Release);
        self.leaving.cancel();
    }

    /// Whether streams may be opened.
    pub(super) fn is_serving(&self) -> bool {
        self.phase() == Phase::Serving
    }

    /// Closes all streams in slices, evenly over `time`; returns when it is over.
    pub async fn drain(&self, time: Duration) {
        self.phase.store(1, Ordering::Release);
        let begun = Instant::now();
        let seats = self.all_seats();
        let mut waiting = seats.iter();
        let mut slices = tokio::time::interval(SLICE_SPACING);
        slices.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while begun.elapsed() < time {
            tokio::select! {
                _ = slices.tick() => {}
                () = tokio::time::sleep_until(begun + time) => {}
            }
            let elapsed = begun.elapsed();
            if elapsed >= time.mul_f64(LEAVING_AFTER) {
                self.leave();
            }
            let n_closed = share(seats.len(), elapsed, time.mul_f64(STREAMS_CLOSED_AFTER));
            let n_due = n_closed.saturating_sub(seats.len() - waiting.len());
            waiting.by_ref().take(n_due).for_each(|seat| seat.wake(END_DRAIN));
        }
    }

    /// Closes all streams now, and opens none from here on.
    pub fn close_all(&self) {
        self.leave();
        for seat in self.all_seats() {
            seat.wake(END_DRAIN);
        }
    }

    fn all_seats(&self) -> Vec<Arc<Seat>> {
        let channels = self.channels();
        channels.iter().flat_map(|channel| (0..ROWS).flat_map(|row| channel.seats(row))).collect()
    }
}

/// How many of `n` are due when `elapsed` of `time` has passed.
fn share(n: usize, elapsed: Duration, time: Duration) -> usize {
    let (elapsed, time) = (elapsed.as_micros(), time.as_micros().max(1));
    // OK because the quotient is at most `n`.
    let due = u128::try_from(n).unwrap_or_default() * elapsed.min(time) / time;
    usize::try_from(due).unwrap_or(n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_even_and_end_with_all() {
        let at = |ms| share(5_000, Duration::from_millis(ms), Duration::from_secs(10));
        assert_eq!(
            [0, 1, 2_500, 9_999, 10_000, 60_000].map(at),
            [0, 0, 1_250, 4_999, 5_000, 5_000]
        );
        assert_eq!(share(3, Duration::ZERO, Duration::ZERO), 0);
    }
}
