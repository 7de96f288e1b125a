//! Where a stream begins, by what its client says that it has seen.
//!
//! It has a file of its own so that a fuzzer can be given it without the rest of the room.

use crate::http::position::parse_position;
use crate::model::change::Position;

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With what comes after this position.
    After(Position),
    /// With everything that there is.
    WithAll,
}

/// Where a client begins that says that it has seen `last_event_id`.
pub(crate) fn start_after(last_event_id: Option<&str>, current: Position) -> Start {
    match last_event_id.filter(|id| !id.is_empty()) {
        None => Start::After(current),
        Some(id) => match parse_position(id).filter(|position| *position <= current) {
            Some(position) => Start::After(position),
            None => Start::WithAll,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_seen_what_is_not_of_this_history_gets_everything() {
        let at = |epoch, version| Position { epoch, version };
        let current = at(2, 7);
        for (id, start) in [
            (None, Start::After(current)),
            (Some(""), Start::After(current)),
            (Some("2-7"), Start::After(current)),
            (Some("2-3"), Start::After(at(2, 3))),
            (Some("1-99"), Start::After(at(1, 99))),
            (Some("2-8"), Start::WithAll),
            (Some("3-1"), Start::WithAll),
            (Some("2-07"), Start::WithAll),
            (Some("?"), Start::WithAll),
        ] {
            assert_eq!(start_after(id, current), start, "{id:?}");
        }
    }
}
