//! One client's stream, as the body of a response.
//!
//! It has no queue: it has the position that its client has seen, and when it is polled and there is a newer one, what lies
//! between is its next block. A client that reads slowly polls less often, so it gets fewer, larger events and never a wrong
//! one. Who wakes it is in `hub`.
// HOT: tens of thousands are open at once, so every field counts.

use crate::http::serve::Ending;
use crate::http::serve::Ends;
use crate::http::stream::admission::Holder;
use crate::http::stream::channel::END_AGE;
use crate::http::stream::channel::END_DRAIN;
use crate::http::stream::channel::END_ENVIRONMENT;
use crate::http::stream::channel::END_TOKEN;
use crate::http::stream::drain::RETRY_AFTER_GOODBYE_MS;
use crate::http::stream::format::Format;
use crate::http::stream::frame;
use crate::http::stream::hub::Place;
use crate::http::stream::hub::Streams;
use crate::http::stream::start::Start;
use crate::http::stream::status::Told;
use crate::model::change::Position;
use crate::model::token::TokenKind;
use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use std::convert::Infallible;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// Milliseconds after which a client should connect again when its connection breaks; spread, so that those of a replica
/// that was lost do not come to the next one together.
pub(crate) const RETRY_MS: RangeInclusive<u32> = 3_000..=8_000;

/// One client's stream.
#[derive(Debug)]
pub(super) struct StreamBody {
    streams: Arc<Streams>,
    place: Place,
    /// What the client has seen.
    cursor: Position,
    format: Format,
    kind: TokenKind,
    address: Option<IpAddr>,
    /// Whether the client's own position was none of this history.
    must_send_all: bool,
    has_greeted: bool,
    /// Whether it has looked once for what the client missed.
    has_caught_up: bool,
    /// What the client was told last of how it is with its environment.
    told: Told,
    has_ended: bool,
}

impl StreamBody {
    /// Takes a place, to begin at `start`.
    pub(super) fn new(
        streams: Arc<Streams>,
        place: Place,
        holder: &Holder,
        format: Format,
        start: Start,
    ) -> Self {
        let (cursor, must_send_all) = match start {
            Start::After(position) => (position, false),
            Start::WithAll => (place.channel.environment.position(), true),
        };
        Self {
            streams,
            place,
            cursor,
            format,
            kind: holder.kind,
            address: holder.address,
            must_send_all,
            has_greeted: false,
            has_caught_up: false,
            told: Told::default(),
            has_ended: false,
        }
    }

    /// The next block, if there is something to say.
    fn next_block(&mut self) -> Option<Bytes> {
        if !self.has_greeted {
            self.has_greeted = true;
            let start = if self.must_send_all { Start::WithAll } else { Start::After(self.cursor) };
            let environment = &self.place.channel.environment;
            let retry_ms = self.streams.spread.pick(&RETRY_MS);
            if let Some(greeting) = self.format.greeting(environment, start, retry_ms) {
                return Some(greeting);
            }
        }
        let since = (!self.must_send_all).then_some(self.cursor);
        let has_just_come = !std::mem::replace(&mut self.has_caught_up, true);
        if let Some((to, block)) = self.place.channel.block_since(self.format, since, has_just_come)
        {
            self.must_send_all = false;
            self.cursor = to;
            return Some(block);
        }
        let status = self.place.channel.status();
        if status.told != self.told && self.format.tells_status() {
            self.told = status.told;
            return Some(status.block.clone());
        }
        self.place.seat.take_beat().then_some(Bytes::from_static(frame::HEARTBEAT))
    }

    /// What tells the task that sends it when it is over.
    pub(super) fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.place.seat) as Arc<dyn Ends>)
    }

    /// The last block, if there is one.
    fn finish(&mut self, wanted: u8) -> Option<Bytes> {
        self.has_ended = true;
        if wanted & (END_TOKEN | END_ENVIRONMENT) != 0 {
            return None;
        }
        self.format.goodbye(self.streams.spread.pick(&RETRY_AFTER_GOODBYE_MS))
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.has_ended {
            return Poll::Ready(None);
        }
        // Before anything is looked at, so that what comes afterwards wakes.
        this.place.seat.register(context.waker());
        let wanted = this.place.seat.wanted();
        let block = match wanted & (END_TOKEN | END_ENVIRONMENT | END_DRAIN | END_AGE) {
            0 => this.next_block(),
            end => match this.finish(end) {
                None => return Poll::Ready(None),
                last => last,
            },
        };
        block.map_or(Poll::Pending, |block| Poll::Ready(Some(Ok(Frame::data(block)))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        let token = self.place.seat.token;
        let holder = Holder { token, kind: self.kind, address: self.address };
        self.streams.close(&self.place, &holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_small() {
        assert!(size_of::<StreamBody>() <= 96, "{}", size_of::<StreamBody>());
    }
}
