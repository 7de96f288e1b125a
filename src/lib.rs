//! Vexil, a self-hosted feature flag server.
//!
//! The rooms, from the ground up; each uses only rooms above it in this list. `ARCHITECTURE.md` tells what each does and
//! what it deliberately does not do; `tests/house.rs` enforces it.

// The core: pure, no I/O, no async, no clock, no log.

pub mod model;

pub mod eval;

pub mod change;

// What everything else stands on.

pub mod clock;

pub mod config;

pub mod telemetry;

// What is kept, what is served, and what may be done.

pub mod store;

pub mod snapshot;

pub mod auth;

pub mod control;

pub mod events;

pub mod record;

// How it is reached.

pub mod http;

pub mod app;

pub mod cli;
