//! One client's stream of values, as the body of a response.
//!
//! Like the native stream it has no queue: when it is polled and its environment has moved on, it evaluates again what the
//! changes may have altered, and sends what came out otherwise. A client that reads slowly is evaluated for less often.
//! Who wakes it is in `stream`.

use crate::http::error::ApiError;
use crate::http::evalx::asked::Asked;
use crate::http::evalx::transfer::Transfer;
use crate::http::evalx::values;
use crate::http::evalx::view::Told;
use crate::http::evalx::view::View;
use crate::http::ofrep::is_visible;
use crate::http::stream::HEARTBEAT;
use crate::http::stream::Holder;
use crate::http::stream::Place;
use crate::http::stream::Streams;
use crate::model::change::Position;
use crate::model::key::FlagKey;
use crate::model::token::TokenKind;
use crate::snapshot::Missed;
use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// One client's stream.
#[derive(Debug)]
pub(super) struct ClientStream {
    streams: Arc<Streams>,
    place: Place,
    holder: Holder,
    /// Up to where the client has been told; `None` before its first event.
    cursor: Option<Position>,
    speech: Speech,
    end: Option<&'static str>,
}

/// What the client is told.
#[derive(Debug)]
pub(super) enum Speech {
    /// Values, and which of them differ.
    Values(View, Told),
    /// The same as transfers; the client's basis until it was answered.
    Transfers(View, Told, Option<String>),
    /// That it should ask anew.
    Pings(TokenKind),
}

impl ClientStream {
    /// Takes a place.
    ///
    /// # Errors
    ///
    /// No stream may be opened now.
    pub(super) fn open(
        streams: &Arc<Streams>,
        asked: &Asked,
        speech: Speech,
    ) -> Result<Self, ApiError> {
        let Asked { caller, environment, address, .. } = asked;
        let kind = caller.grant().kind;
        let holder = Holder { token: caller.digest, kind, address: *address };
        let place = streams.open(environment, &holder)?;
        let streams = Arc::clone(streams);
        Ok(Self { streams, place, holder, cursor: None, speech, end: None })
    }

    /// The next events, if there is something to say.
    fn next_block(&mut self) -> Option<Bytes> {
        let environment = Arc::clone(self.place.environment());
        let Some(cursor) = self.cursor else { return Some(self.everything()) };
        if cursor < self.place.announced() {
            let missed = match environment.missed_since(cursor) {
                Missed::Nothing => Vec::new(),
                Missed::One(change) => vec![change],
                Missed::Many(changes) => changes,
                Missed::Unknown => return Some(self.everything()),
            };
            if let Some(last) = missed.last() {
                // After the list, so that the ruleset is not older than it.
                let ruleset = environment.ruleset();
                let flags: BTreeSet<FlagKey> =
                    missed.iter().flat_map(|change| change.affected(&ruleset)).cloned().collect();
                self.cursor = Some(last.to);
                if let Some(block) = self.speech.difference(&environment, &ruleset, &flags) {
                    return Some(block);
                }
            }
        }
        self.place.take_beat().then_some(Bytes::from_static(HEARTBEAT))
    }

    fn everything(&mut self) -> Bytes {
        let environment = self.place.environment();
        let ruleset = environment.ruleset();
        self.cursor = Some(Position { epoch: ruleset.epoch, version: ruleset.version });
        match &mut self.speech {
            Speech::Values(view, told) => {
                let entries = view.all(&ruleset);
                *told = Told::of(&entries);
                values::put(&entries, ruleset.version)
            }
            Speech::Transfers(view, told, basis) => {
                let entries = view.all(&ruleset);
                *told = Told::of(&entries);
                let basis = basis.take();
                let version = ruleset.version;
                Transfer::full(environment, version, &entries, told, basis.as_deref()).events()
            }
            Speech::Pings(_) => Bytes::from_static(values::PING),
        }
    }
}

impl Speech {
    /// What to say after these flags may have changed; `None` if nothing that the client may see did.
    fn difference(
        &mut self,
        environment: &crate::snapshot::Environment,
        ruleset: &crate::eval::Ruleset,
        flags: &BTreeSet<FlagKey>,
    ) -> Option<Bytes> {
        let version = ruleset.version;
        match self {
            Self::Values(view, told) => {
                let difference = view.difference(ruleset, flags, told);
                (!difference.is_empty()).then(|| values::patches(&difference, version))
            }
            Self::Transfers(view, told, _) => {
                let difference = view.difference(ruleset, flags, told);
                (!difference.is_empty())
                    .then(|| Transfer::changes(environment, version, &difference, told).events())
            }
            Self::Pings(kind) => {
                // Of one that is gone, nobody knows who could see it.
                let may_differ = |key: &FlagKey| {
                    ruleset.flag(key.as_str()).is_none_or(|flag| is_visible(flag, *kind))
                };
                flags.iter().any(may_differ).then_some(Bytes::from_static(values::PING))
            }
        }
    }
}

impl Body for ClientStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // Before anything is looked at, so that what comes afterwards wakes.
        this.end = this.place.register(context.waker());
        if this.end.is_some() {
            return Poll::Ready(None);
        }
        this.next_block().map_or(Poll::Pending, |block| Poll::Ready(Some(Ok(Frame::data(block)))))
    }
}

impl Drop for ClientStream {
    fn drop(&mut self) {
        self.streams.close(&self.place, &self.holder, self.end.unwrap_or("client"));
    }
}
