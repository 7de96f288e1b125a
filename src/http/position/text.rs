//! A position as it stands in headers and events, and how it is read.
//!
//! It has a file of its own so that a fuzzer can be given it without the rest of the room.

use crate::model::change::Position;

/// Writes a position: `<epoch>-<version>`.
pub(crate) fn render_position(position: Position) -> String {
    format!("{}-{}", position.epoch, position.version)
}

/// Reads a position; nothing but `<epoch>-<version>` in plain decimal digits is one.
pub(crate) fn parse_position(text: &str) -> Option<Position> {
    let (epoch, version) = text.split_once('-')?;
    let position = Position { epoch: epoch.parse().ok()?, version: version.parse().ok()? };
    (render_position(position) == text).then_some(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_positions_that_were_written_are_read() {
        let position = Position { epoch: 2, version: 813 };
        assert_eq!(parse_position(&render_position(position)), Some(position));
        for bad in
            ["", "1", "1-", "-1", "1-+2", "01-2", "1-2-3", "1- 2", "a-b", "1-99999999999999999999"]
        {
            assert_eq!(parse_position(bad), None, "{bad}");
        }
    }
}
