//! The queue between requests and the task that writes; bounded by the memory that it takes.

use crate::model::event::Payload;
use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use tokio::sync::Notify;

/// Bytes of payloads that may wait, about; a minute of 10,000 events a second, and what is beyond is dropped.
const QUEUE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Payloads that wait, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    payloads: VecDeque<Payload>,
    n_bytes: usize,
}

impl Queue {
    /// Adds a payload; returns how many bytes wait.
    ///
    /// # Errors
    ///
    /// Too much waits: the payload is dropped.
    pub(super) fn push(&self, payload: Payload) -> Result<i64, QueueFull> {
        let n_bytes = payload.n_bytes();
        let mut waiting = self.waiting();
        if waiting.n_bytes.saturating_add(n_bytes) > QUEUE_BYTES_MAX {
            return Err(QueueFull);
        }
        waiting.n_bytes += n_bytes;
        waiting.payloads.push_back(payload);
        let n_bytes = waiting.n_bytes;
        drop(waiting);
        self.arrived.notify_one();
        Ok(i64::try_from(n_bytes).unwrap_or(i64::MAX))
    }

    /// Takes the oldest payloads, at least one and up to so many rows, and how many bytes still wait.
    pub(super) fn take(&self, n_rows_max: usize) -> (Vec<Payload>, i64) {
        let mut waiting = self.waiting();
        let mut taken = Vec::new();
        let mut n_rows = 0_usize;
        while n_rows < n_rows_max
            && let Some(payload) = waiting.payloads.pop_front()
        {
            waiting.n_bytes = waiting.n_bytes.saturating_sub(payload.n_bytes());
            n_rows = n_rows.saturating_add(payload.n_rows());
            taken.push(payload);
        }
        (taken, i64::try_from(waiting.n_bytes).unwrap_or(i64::MAX))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting().payloads.is_empty()
    }

    pub(super) async fn arrived(&self) {
        while self.is_empty() {
            self.arrived.notified().await;
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Too much waits.
#[derive(Debug)]
pub(super) struct QueueFull;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::UnknownCount;
    use crate::model::key::FlagKey;
    use jiff::Timestamp;

    fn payload(n: usize) -> Payload {
        let count = UnknownCount { flag: FlagKey::stored(&"f".repeat(100)), n: 1 };
        Payload {
            env: 1,
            id: String::new(),
            expires_at: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            counts: Vec::new(),
            unknown: vec![count; n],
            events: Vec::new(),
        }
    }

    #[test]
    fn what_is_beyond_the_bound_is_refused_until_there_is_room() {
        let queue = Queue::default();
        let mut n_accepted = 0;
        while queue.push(payload(1_000)).is_ok() {
            n_accepted += 1;
        }
        assert!(n_accepted > 100 && n_accepted * 100_000 < QUEUE_BYTES_MAX, "{n_accepted}");
        let (taken, _) = queue.take(1_000);
        assert_eq!(taken.len(), 1, "as many rows as were asked for, and whole payloads");
        assert!(queue.push(payload(1_000)).is_ok());
        let (taken, n_bytes) = queue.take(usize::MAX);
        assert_eq!((taken.len(), n_bytes), (n_accepted, 0));
    }
}
