//! How current the snapshot is: when the store last confirmed it.

use std::sync::Mutex;
use std::time::Duration;
use std::time::Instant;

/// How long a confirmation holds; the poll renews it every second.
const CONFIRMATION_HOLDS: Duration = Duration::from_secs(5);

/// How current what is served is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Freshness {
    /// Whether there is anything to serve.
    pub is_ready: bool,
    /// Whether the store does not confirm that what is served is current.
    pub is_stale: bool,
    /// How long ago the store last confirmed it; `None` if it never did.
    pub confirmed_ago: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Status {
    state: Mutex<State>,
}

#[derive(Debug, Default, Clone, Copy)]
struct State {
    confirmed_at: Option<Instant>,
    has_failed_since: bool,
}

impl Status {
    /// The store confirmed that what is served is current.
    pub(super) fn confirm(&self) {
        self.set(|state| {
            *state = State { confirmed_at: Some(Instant::now()), has_failed_since: false }
        });
    }

    /// The store could not be asked.
    pub(super) fn fail(&self) {
        self.set(|state| state.has_failed_since = true);
    }

    fn set(&self, change: impl FnOnce(&mut State)) {
        // A panic while the lock was held cannot have left half a state: take it as it is.
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        change(&mut state);
    }

    pub(super) fn freshness(&self) -> Freshness {
        let state = *self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let confirmed_ago = state.confirmed_at.map(|at| at.elapsed());
        Freshness {
            is_ready: confirmed_ago.is_some(),
            is_stale: state.has_failed_since
                || confirmed_ago.is_none_or(|ago| ago > CONFIRMATION_HOLDS),
            confirmed_ago,
        }
    }
}
