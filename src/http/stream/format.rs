//! In which words a stream tells what changed: our own, or those of LaunchDarkly's SDKs.
//!
//! What stands in each block is in `frame` for our own words, and in `launchdarkly` and `data_system` for theirs; who shares a
//! block is decided in `channel`.

use crate::http::stream::content::Content;
use crate::http::stream::data_system;
use crate::http::stream::frame;
use crate::http::stream::launchdarkly;
use crate::http::stream::start::Start;
use crate::model::change::Position;
use crate::snapshot::Environment;
use crate::snapshot::Missed;
use bytes::Bytes;

/// Formats there are.
pub(super) const FORMATS: usize = 5;
/// Weights there are.
pub(super) const WEIGHTS: usize = 2;

/// In which words what changed is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Format {
    /// The keys of what changed.
    Changes,
    /// All flags and segments, then those that change, for LaunchDarkly's server-side SDKs.
    LaunchDarkly,
    /// The same without segments, for the oldest of them.
    LaunchDarklyFlags,
    /// The events of their second protocol.
    DataSystem,
    /// The same events as the one body that answers a poll.
    DataSystemPoll,
}

/// How much it is to tell a stream everything; those that are told little are announced changes for themselves, and do not wait
/// for what is rendered for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Weight {
    /// Keys, or what one client makes of them.
    Light,
    /// All flags and segments as they are.
    Heavy,
}

impl Weight {
    /// All weights, in their places.
    pub(super) const ALL: [Self; WEIGHTS] = [Self::Light, Self::Heavy];

    /// That of streams of a format; `None` are streams whose events depend on their clients.
    pub(super) fn of(format: Option<Format>) -> Self {
        match format {
            None | Some(Format::Changes) => Self::Light,
            Some(_) => Self::Heavy,
        }
    }

    /// Its place among all weights.
    pub(super) fn index(self) -> usize {
        usize::from(self as u8)
    }
}

/// What was rendered.
#[derive(Debug)]
pub(super) struct Rendered {
    /// Whether it is everything, and not what somebody has missed.
    pub(super) is_full: bool,
    /// Where it leads.
    pub(super) to: Position,
    pub(super) bytes: Bytes,
}

impl Format {
    /// All formats, in their places.
    pub(super) const ALL: [Self; FORMATS] = [
        Self::Changes,
        Self::LaunchDarkly,
        Self::LaunchDarklyFlags,
        Self::DataSystem,
        Self::DataSystemPoll,
    ];

    /// Its place among all formats.
    pub(super) fn index(self) -> usize {
        usize::from(self as u8)
    }

    /// The first block, if there is something to say before the first change.
    pub(super) fn greeting(
        self,
        environment: &Environment,
        start: Start,
        retry_ms: u32,
    ) -> Option<Bytes> {
        match (self, start) {
            // No id before the full event: a client that is cut off in between must ask for it again.
            (Self::Changes, Start::WithAll) => Some(frame::greeting(retry_ms, None)),
            (Self::Changes, Start::After(at)) => Some(frame::greeting(retry_ms, Some(at))),
            (Self::DataSystem, Start::After(at)) if at == environment.position() => {
                Some(data_system::up_to_date(self, environment, at))
            }
            // LaunchDarkly's SDKs expect nothing before the first put, and some fail for good on events they do not know.
            _ => None,
        }
    }

    /// The last block of a stream whose replica is about to stop.
    pub(super) fn goodbye(self, retry_ms: u32) -> Option<Bytes> {
        (self == Self::Changes).then(|| frame::goodbye(retry_ms))
    }

    /// Whether its clients are told when the store does not confirm what is served, or something of it cannot be read.
    pub(super) fn tells_status(self) -> bool {
        self == Self::Changes
    }

    /// What somebody at `since` has not seen up to `end`, or everything; `None` if there is nothing new.
    pub(super) fn render(
        self,
        environment: &Environment,
        since: Option<Position>,
        end: Position,
    ) -> Option<Rendered> {
        if self == Self::Changes {
            return render_changes(environment, since, end);
        }
        let content = Content::since(environment, since)?;
        let bytes = match self {
            Self::DataSystem | Self::DataSystemPoll => data_system::render(self, &content),
            _ => launchdarkly::render(self, &content),
        };
        Some(Rendered { is_full: content.is_full, to: content.to, bytes })
    }

    /// The JSON of a full block, as it answers a request that asks once.
    pub(crate) fn json_of(self, block: &Bytes) -> Bytes {
        let (prefix, suffix) = match self {
            Self::LaunchDarkly => (launchdarkly::PUT_PREFIX, launchdarkly::PUT_SUFFIX),
            Self::LaunchDarklyFlags => {
                (launchdarkly::FLAGS_PUT_PREFIX, launchdarkly::FLAGS_PUT_SUFFIX)
            }
            Self::Changes | Self::DataSystem | Self::DataSystemPoll => ("", ""),
        };
        let end = block.len().saturating_sub(suffix.len());
        block.slice(prefix.len().min(end)..end)
    }
}

fn render_changes(
    environment: &Environment,
    since: Option<Position>,
    end: Position,
) -> Option<Rendered> {
    let missed = since.map_or(Missed::Unknown, |position| environment.missed_since(position));
    let (to, bytes) = match missed {
        Missed::Nothing => return None,
        Missed::Unknown => {
            let (to, bytes) = frame::full(environment);
            return Some(Rendered { is_full: true, to, bytes });
        }
        Missed::One(change) if change.to <= end => (change.to, frame::change(&change)),
        Missed::One(_) => return None,
        Missed::Many(mut changes) => {
            changes.retain(|change| change.to <= end);
            let to = changes.last()?.to;
            (to, frame::merged(to, &changes))
        }
    };
    Some(Rendered { is_full: false, to, bytes })
}
