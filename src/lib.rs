//! Vexil, a self-hosted feature flag server.
//!
//! The rooms, from the ground up; each uses only rooms above it in this list. `ARCHITECTURE.md` tells what each does and
//! what it deliberately does not do; `tests/house.rs` enforces it.

pub mod model;

pub mod eval;

pub mod change;

pub mod store;

pub mod clock;
pub mod config;
pub mod telemetry;
pub mod snapshot;

pub mod auth;

pub mod control;

pub mod http;

pub mod app;

pub mod cli;
