//! Everything that needs a server: one binary, so that it is linked once.
//!
//! `scripts/test` starts what these tests need and runs them.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::string_slice,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    unreachable_pub,
    reason = "a test that finds something wrong must fail loudly"
)]

mod harness;

mod accountability;
mod api_document;
mod applied;
mod authorization;
mod bad_requests;
mod cache;
mod changes;
mod cli;
mod client_side;
mod code;
mod command_line;
mod crawl;
mod damaged;
mod demonstration;
mod documents;
mod drain;
mod durability;
mod editors;
mod emergencies;
mod evaluate_many;
mod evaluation;
mod events;
#[cfg(target_os = "linux")]
mod faults;
mod flags;
mod history;
#[cfg(target_os = "linux")]
mod hostile;
mod import;
mod kept;
mod kills;
mod lab;
mod launchdarkly;
mod limits;
mod matrix;
mod ofrep_events;
mod outage;
mod parity;
mod preconditions;
mod recent_use;
mod rehearsals;
mod replicas;
mod rollout;
mod schedule;
mod schedule_replicas;
mod server_sdk;
mod sockets;
mod store;
mod stream;
mod tls;
mod transfer;
mod weights;
