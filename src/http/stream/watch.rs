//! A stream whose events depend on its client: it is told which flags may answer otherwise, and decides what to say.
//!
//! Like the native stream it has no queue: when it is polled and its environment has moved on, it looks once at everything
//! that changed since. A client that reads slowly is looked at less often. Who wakes it is in `hub`; what is said, where
//! [`Speech`] is implemented.

use crate::eval::Ruleset;
use crate::http::error::ApiError;
use crate::http::serve::Ending;
use crate::http::serve::Ends;
use crate::http::stream::EVENT_STREAM;
use crate::http::stream::admission::Holder;
use crate::http::stream::format::Weight;
use crate::http::stream::frame::HEARTBEAT;
use crate::http::stream::hub::Place;
use crate::http::stream::hub::Streams;
use crate::model::change::Position;
use crate::model::flag::ClientSideAvailability;
use crate::model::key::FlagKey;
use crate::snapshot::Change;
use crate::snapshot::Environment;
use crate::snapshot::Missed;
use axum::extract::Extension;
use axum::response::IntoResponse;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::Body;
use hyper::body::Frame;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::task::Poll;

/// What one client is told.
pub(crate) trait Speech {
    /// The first events, and those after which nothing said before counts any more.
    fn begin(&mut self, environment: &Environment, ruleset: &Ruleset) -> Bytes;

    /// The events after some flags may have begun to answer otherwise; `None` if they make no difference to the client.
    fn go_on(
        &mut self,
        environment: &Environment,
        ruleset: &Ruleset,
        affected: &Affected,
    ) -> Option<Bytes>;
}

/// What changes may have made different for a client.
#[derive(Debug)]
pub(crate) struct Affected {
    /// The flags that may answer otherwise, also those that are gone.
    pub(crate) flags: Arc<BTreeSet<FlagKey>>,
    /// Who could see those that are hidden from somebody now, or gone.
    pub(crate) withdrawn: Vec<ClientSideAvailability>,
}

impl Affected {
    /// What several changes together may have made different.
    fn by(changes: &[Arc<Change>], ruleset: &Ruleset) -> Self {
        let mut flags = BTreeSet::new();
        let mut withdrawn = Vec::new();
        for change in changes {
            flags.extend(change.affected(ruleset).iter().cloned());
            withdrawn.extend_from_slice(&change.withdrawn);
        }
        Self { flags: Arc::new(flags), withdrawn }
    }
}

/// One client's stream.
#[derive(Debug)]
pub(crate) struct Watch<S> {
    streams: Arc<Streams>,
    place: Place,
    holder: Holder,
    /// Up to where the client has been told; `None` before its first event.
    cursor: Option<Position>,
    speech: S,
}

impl<S: Speech> Watch<S> {
    /// Takes a place.
    ///
    /// # Errors
    ///
    /// No stream may be opened now.
    pub(crate) fn open(
        streams: &Arc<Streams>,
        environment: &Arc<Environment>,
        holder: Holder,
        speech: S,
    ) -> Result<Self, ApiError> {
        let place = streams.open(environment, &holder, None)?;
        let streams = Arc::clone(streams);
        Ok(Self { streams, place, holder, cursor: None, speech })
    }

    /// What tells the task that sends it when it is over.
    fn ending(&self) -> Ending {
        Ending(Arc::clone(&self.place.seat) as Arc<dyn Ends>)
    }

    /// The next events, if there is something to say.
    fn next_block(&mut self) -> Option<Bytes> {
        let environment = &self.place.channel.environment;
        let missed = match self.cursor {
            None => Missed::Unknown,
            Some(cursor) if cursor < self.place.channel.announced(Weight::Light) => {
                environment.missed_since(cursor)
            }
            Some(_) => Missed::Nothing,
        };
        // After the list, so that the ruleset is not older than what is in it.
        let ruleset = environment.ruleset();
        let missed = match missed {
            Missed::Nothing => Vec::new(),
            Missed::One(change) => vec![change],
            Missed::Many(changes) => changes,
            Missed::Unknown => {
                self.cursor = Some(Position { epoch: ruleset.epoch, version: ruleset.version });
                return Some(self.speech.begin(environment, &ruleset));
            }
        };
        if let Some(last) = missed.last() {
            self.cursor = Some(last.to);
            let affected = match missed.as_slice() {
                [only] => {
                    Affected { flags: only.affected(&ruleset), withdrawn: only.withdrawn.clone() }
                }
                many => Affected::by(many, &ruleset),
            };
            let block = self.speech.go_on(environment, &ruleset, &affected);
            if block.is_some() {
                return block;
            }
        }
        self.place.seat.take_beat().then_some(Bytes::from_static(HEARTBEAT))
    }
}

impl<S: Speech + Send + Unpin + 'static> IntoResponse for Watch<S> {
    fn into_response(self) -> Response {
        let ending = self.ending();
        (EVENT_STREAM, Extension(ending), axum::body::Body::new(self)).into_response()
    }
}

impl<S: Speech + Unpin> Body for Watch<S> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        // Before anything is looked at, so that what comes afterwards wakes.
        this.place.seat.register(context.waker());
        if this.place.seat.end().is_some() {
            return Poll::Ready(None);
        }
        this.next_block().map_or(Poll::Pending, |block| Poll::Ready(Some(Ok(Frame::data(block)))))
    }
}

impl<S> Drop for Watch<S> {
    fn drop(&mut self) {
        self.streams.close(&self.place, &self.holder);
    }
}
