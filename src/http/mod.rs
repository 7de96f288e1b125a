//! HTTP: routes, what they accept and answer, streams, and the sockets underneath.
//!
//! # Invariants
//!
//! * The only room that knows status codes. Wire types never leave it.
//! * The data plane (`evaluate`, `evalx`, `event`, `launchdarkly`, `ofrep`, `stream`) is given a [`DataState`], which holds no store:
//!   it cannot reach a database.
//! * Authentication belongs to the route, never to a path's prefix. Without a token only the health routes and the API
//!   document answer.
//! * Every error is one `ApiError`; the dialect in which it is written depends on the route.

pub mod openapi;

mod admin;
mod authorized;
mod blocking;
mod condition;
mod cors;
mod docs;
mod error;
mod evaluate;
mod evalx;
mod event;
mod extract;
mod front;
mod json_body;
mod known;
mod launchdarkly;
mod limit;
mod middleware;
mod ofrep;
mod ops;
mod position;
mod router;
mod secure;
mod serve;
mod stream;

pub use front::Front;
pub(crate) use json_body::IMPORT_BODY_BYTES_MAX;
pub use limit::BoundSettings;
pub use limit::LimitSetting;
pub use limit::LimitSettings;
pub use limit::Limits;
pub use serve::Sockets;
pub use serve::Tls;
pub use serve::serve;
pub use stream::Phase;
pub use stream::Streams;

use crate::control::Control;
use crate::events::Events;
use crate::snapshot::Snapshots;
use crate::telemetry::Metrics;
use axum::extract::FromRef;
use std::sync::Arc;

/// What the data plane is given: memory, and nothing that could wait.
#[derive(Debug, Clone)]
pub struct DataState {
    /// What is served.
    pub snapshots: Arc<Snapshots>,
    /// Where figures go.
    pub metrics: Arc<Metrics>,
    /// How many requests are answered.
    pub limits: Arc<Limits>,
    /// All streams, which also know whether the process is about to stop.
    pub streams: Arc<Streams>,
    /// Whether LaunchDarkly's SDKs may use their second protocol.
    pub serves_data_system: bool,
    /// What waits to be written of what SDKs report.
    pub events: Arc<Events>,
}

/// What the control plane is given.
#[derive(Debug, Clone)]
pub struct AdminState {
    /// Every command.
    pub control: Control,
}

impl FromRef<DataState> for Arc<Snapshots> {
    fn from_ref(state: &DataState) -> Self {
        Arc::clone(&state.snapshots)
    }
}

impl FromRef<AdminState> for Arc<Snapshots> {
    fn from_ref(state: &AdminState) -> Self {
        Arc::clone(&state.control.snapshots)
    }
}
