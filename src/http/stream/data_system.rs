//! The events of LaunchDarkly's second protocol, which its SDKs call their data system: an intent, objects, and the state that
//! is reached with them.
//!
//! A stream sends each as an event; a poll is answered with the same events as a list. Every batch begins with an intent of its
//! own, so that one block serves those who come and those who stay. A state names the environment, the position and the
//! history, so that nobody continues from a place where this history has never been.

use crate::http::position::parse_position;
use crate::http::position::render_position;
use crate::http::stream::content::Content;
use crate::http::stream::content::Item;
use crate::http::stream::content::env_id;
use crate::http::stream::format::Format;
use crate::http::stream::launchdarkly::quoted;
use crate::model::change::Position;
use crate::model::launchdarkly::wire_position;
use crate::snapshot::Environment;
use bytes::Bytes;

/// Hexadecimal digits that tell one history from another.
const HISTORY_DIGITS: usize = 8;

/// A position and its history, for `ETag` and states: `<epoch>-<version>-<history>`.
pub(crate) fn place(position: Position, stamp: &str) -> String {
    let digest = blake3::hash(stamp.as_bytes()).to_hex();
    let history = digest.get(..HISTORY_DIGITS).unwrap_or_default();
    format!("{}-{history}", render_position(position))
}

/// The position that a state names, if it is one of this environment; what it says of the history comes with it.
pub(crate) fn parse_state(text: &str, environment: &Environment) -> Option<(Position, String)> {
    let inner = text.strip_prefix("(p:")?.strip_suffix(')')?;
    let place = inner.strip_prefix(env_id(environment).as_str())?.strip_prefix(':')?;
    let (position, _) = place.rsplit_once('-')?;
    Some((parse_position(position)?, place.to_owned()))
}

fn state(env_id: &str, position: Position, stamp: &str) -> String {
    format!("(p:{env_id}:{})", place(position, stamp))
}

/// Says that somebody is up to date.
pub(crate) fn up_to_date(format: Format, environment: &Environment, at: Position) -> Bytes {
    let mut out = Events::new(format);
    out.intent(&env_id(environment), at, "none", "up-to-date");
    out.finish()
}

/// Writes the events for what there is, or for what changed.
pub(super) fn render(format: Format, content: &Content) -> Bytes {
    let mut out = Events::new(format);
    let (code, reason) = match content.is_full {
        true => ("xfer-full", "payload-missing"),
        false => ("xfer-changes", "stale"),
    };
    out.intent(&content.env_id, content.to, code, reason);
    content.segments.iter().for_each(|item| out.object("segment", item));
    content.flags.iter().for_each(|item| out.object("flag", item));
    let state = quoted(&state(&content.env_id, content.to, &content.stamp));
    let version = wire_position(content.to);
    out.push("payload-transferred", &format!("{{\"state\":{state},\"version\":{version}}}"));
    out.finish()
}

/// Events, as they are written one after the other.
struct Events {
    is_poll: bool,
    out: String,
}

impl Events {
    fn new(format: Format) -> Self {
        let is_poll = format == Format::DataSystemPoll;
        Self { is_poll, out: String::from(if is_poll { "{\"events\":[" } else { "" }) }
    }

    fn push(&mut self, name: &str, data: &str) {
        if !self.is_poll {
            self.out.push_str(&format!("event: {name}\ndata: {data}\n\n"));
            return;
        }
        if self.out.ends_with('}') {
            self.out.push(',');
        }
        self.out.push_str(&format!("{{\"event\":\"{name}\",\"data\":{data}}}"));
    }

    fn intent(&mut self, env_id: &str, to: Position, code: &str, reason: &str) {
        let (id, target) = (quoted(env_id), wire_position(to));
        self.push(
            "server-intent",
            &format!(
                "{{\"payloads\":[{{\"id\":{id},\"target\":{target},\"intentCode\":\"{code}\",\"reason\":\"{reason}\"}}]}}"
            ),
        );
    }

    fn object(&mut self, kind: &str, item: &Item) {
        let (key, version) = (quoted(&item.key), item.wire_version);
        let head = format!("{{\"version\":{version},\"kind\":\"{kind}\",\"key\":{key}");
        match &item.json {
            Some(json) => self.push("put-object", &format!("{head},\"object\":{json}}}")),
            None => self.push("delete-object", &format!("{head}}}")),
        }
    }

    fn finish(mut self) -> Bytes {
        if self.is_poll {
            self.out.push_str("]}");
        }
        // It may stay for long, so it should not keep the room that it grew into.
        self.out.shrink_to_fit();
        Bytes::from(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::EnvKey;
    use crate::model::key::ProjectKey;

    #[test]
    fn a_state_is_read_only_where_it_was_written() {
        let environment = Environment::new(1, ProjectKey::stored("p"), EnvKey::stored("e"));
        let position = Position { epoch: 2, version: 7 };
        let written = state("p/e", position, "stamp");
        let (read, found) = parse_state(&written, &environment).unwrap();
        assert_eq!((read, found), (position, place(position, "stamp")));
        assert_ne!(place(position, "stamp"), place(position, "another"));
        for bad in ["", "(p:p/e:)", "(p:p/x:2-7-00)", "(p:p/e:7)", "(p:p/e:2-7)", "p/e:2-7-00"] {
            assert_eq!(parse_state(bad, &environment), None, "{bad}");
        }
    }
}
