//! What the tests stand on: real servers, real databases, and clients that speak to them.

mod client;
#[cfg(target_os = "linux")]
mod clock;
mod database;
mod raw_stream;
mod server;
mod sse;

pub use client::Answer;
pub use client::Client;
#[cfg(target_os = "linux")]
pub use clock::ShiftedClock;
pub use database::Database;
pub use database::PgBouncer;
pub use database::Postgres;
pub use database::free_port;
pub use database::redis_url;
pub use database::run_sql;
pub use database::run_sql_fails;
pub use raw_stream::RawStream;
pub use server::Server;
pub use server::command;
#[cfg(target_os = "linux")]
pub use server::command_with_file_kib;
pub use server::command_with_files;
pub use sse::Events;

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;
use vexil::clock::Ids;

/// How long anything may take before a test gives up; far beyond what is promised, so that a busy machine fails no test.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Which database a server uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    Sqlite,
    Postgres,
}

impl std::fmt::Display for Backend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// A folder that is removed with everything in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        let name = format!("vexil-it-{}", Ids.next());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &std::path::Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Asks until the answer is yes; fails the test when patience ends.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut ask: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        if ask().await {
            return;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        ticks.tick().await;
    }
}
