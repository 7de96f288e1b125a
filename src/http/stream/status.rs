//! Whether the store confirms what an environment serves, and whether all of it can be read, as its streams are told.
//!
//! When a stream is told is decided in `hub` and `body`; how it is written, in `frame`.

use crate::http::stream::frame;
use crate::snapshot::Environment;
use crate::snapshot::Snapshots;
use bytes::Bytes;

/// What a stream is told of its environment; nothing is wrong by default, which needs not be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Whether the store has not confirmed for longer than a replica may keep to itself.
    pub(super) is_stale: bool,
    /// Whether what changed, or a row of it, cannot be read.
    pub(super) is_quarantined: bool,
}

/// The same, and the block that says so.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) told: Told,
    pub(super) block: Bytes,
}

impl Status {
    /// How it is with an environment now.
    pub(super) fn of(snapshots: &Snapshots, environment: &Environment) -> Self {
        let unconfirmed_for = snapshots.unconfirmed_for(environment);
        let is_quarantined = environment.is_quarantined();
        let told = Told { is_stale: unconfirmed_for.is_some(), is_quarantined };
        Self { told, block: frame::status(unconfirmed_for, is_quarantined) }
    }
}
