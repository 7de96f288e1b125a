//! Where streams begin.

#[path = "../../src/http/position/text.rs"]
pub mod position;
#[path = "../../src/http/stream/start.rs"]
pub mod start;

use crate::model::change::Position;
use position::parse_position;
use position::render_position;
use start::Start;
use start::start_after;

/// Checks what must hold for whatever a client says that it has seen last.
pub fn check_last_event_id(id: &str, current: Position) {
    let seen = parse_position(id);
    assert!(seen.is_none_or(|position| render_position(position) == id));
    match start_after(Some(id), current) {
        Start::After(position) if id.is_empty() => assert_eq!(position, current),
        Start::After(position) => assert!(position <= current && seen == Some(position)),
        Start::WithAll => assert!(seen.is_none_or(|position| position > current)),
    }
}
