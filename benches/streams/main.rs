//! Opens very many streams at a real server, makes changes, and measures who hears of them when.
//!
//! `streams --vexil target/release/vexil --protocol http1 --streams 15000` prints one line of JSON; `--help` lists what else
//! there is. The server is a process of its own with SQLite in a temporary folder; the clients are in several others, on the same
//! processors, and connect from several addresses of the loopback. `fleet.rs` has the processes, `clients.rs` who reads in each,
//! `log.rs` what each notes and what becomes of it, `server.rs` the server and its admin API. Tables are made by
//! `scripts/bench-streams`.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    unreachable_pub,
    reason = "whatever fails must end the program"
)]

mod clients;
mod fleet;
mod log;
mod server;

use clap::Parser;
use clap::ValueEnum;
use fleet::Fleet;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use server::Server;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use tokio::time::Instant;

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
pub enum Protocol {
    /// HTTP/1.1, a connection for each stream.
    Http1,
    /// HTTP/2, 200 streams on each connection.
    Http2,
}

/// What to measure.
#[derive(Debug, Parser)]
pub struct Options {
    /// The server's program
    #[arg(long, required_unless_present = "obey")]
    vexil: Option<PathBuf>,
    #[arg(long, value_enum, default_value = "http1")]
    protocol: Protocol,
    /// Processes that share the clients
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..))]
    processes: u8,
    /// Streams to open
    #[arg(long, default_value_t = 1_000)]
    streams: usize,
    /// Changes to make
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// Milliseconds from one change to the next
    #[arg(long, default_value_t = 500)]
    interval_ms: u64,
    /// Clients of a hundred that never read
    #[arg(long, default_value_t = 0)]
    stalled: usize,
    /// Clients of a hundred that are cut off halfway
    #[arg(long, default_value_t = 0)]
    killed: usize,
    /// Kills the server: all clients go to another, which has this many already
    #[arg(long)]
    failover: Option<usize>,
    /// Does what is ordered from outside, with the clients of these servers
    #[arg(long, hide = true, num_args = 1..)]
    obey: Option<Vec<SocketAddr>>,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn vexil(&self) -> &Path {
        self.vexil.as_deref().expect("clap has seen to it")
    }
}

/// How long all streams may take to open, and again to be back.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the last change may take to reach everybody.
const LAST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for memory and processors to come to rest.
const SETTLE_TIME: Duration = Duration::from_secs(3);
/// Streams with one token; a little below what the server allows.
const STREAMS_PER_TOKEN: usize = 900;

#[tokio::main]
async fn main() {
    let mut options = Options::parse();
    if let Some(servers) = options.obey.take() {
        return tokio::task::spawn_blocking(|| clients::obey(servers)).await.unwrap();
    }
    let figures = match options.failover {
        Some(n_staying) => fail_over(&options, n_staying).await,
        None => hold(&options).await,
    };
    println!("{figures}");
}

/// Opens the streams of one server, changes a flag again and again, and evaluates what the clients noted.
async fn hold(options: &Options) -> Value {
    let server = Server::start(options.vexil(), None).await;
    let tokens = server.prepare(options.streams.div_ceil(STREAMS_PER_TOKEN)).await;
    let empty_kib = server.resident_kib();
    let mut fleet = Fleet::start(options.processes.into(), &[server.address]);
    let began = Instant::now();
    fleet.open(options, options.streams, 0, &tokens).await;
    fleet.wait_until_open(options.streams, OPEN_TIMEOUT).await;
    let open_secs = began.elapsed().as_secs_f64();
    tokio::time::sleep(SETTLE_TIME).await;
    let open_kib = server.resident_kib();

    let cpu_before = server.cpu_millis();
    let mut changing = server.change_often(options.changes, options.interval_ms);
    let halfway = Duration::from_millis(options.interval_ms * options.changes as u64 / 2);
    tokio::time::sleep(halfway).await;
    let n_killed = options.streams * options.killed / 100;
    fleet.kill(n_killed).await;
    let changes = tokio::task::spawn_blocking(move || changing.take()).await.unwrap();
    let n_last = fleet.wait_for(changes.last().unwrap().version, LAST_TIMEOUT).await;
    let cpu_millis = server.cpu_millis() - cpu_before;
    tokio::time::sleep(SETTLE_TIME).await;
    let end_kib = server.resident_kib();
    let summary = fleet.summary(&changes, 0).await;
    json!({
        "protocol": format!("{:?}", options.protocol),
        "processes": options.processes,
        "streams": options.streams,
        "stalled": options.streams * options.stalled / 100,
        "killed": n_killed,
        "changes": changes.len(),
        "openSecs": open_secs,
        "refusals": fleet.count().await.refused,
        "emptyKib": empty_kib,
        "openKib": open_kib,
        "endKib": end_kib,
        "bytesPerStream": (open_kib.saturating_sub(empty_kib) * 1024) as f64 / options.streams as f64,
        "cpuMillisPerChange": cpu_millis as f64 / changes.len() as f64,
        "atLastVersion": n_last,
        "delivery": summary,
    })
}

/// Kills a server with all its streams, whose clients go to another one, and sees what that does to the streams there.
async fn fail_over(options: &Options, n_staying: usize) -> Value {
    let first = Server::start(options.vexil(), None).await;
    let tokens = first.prepare((options.streams + n_staying).div_ceil(STREAMS_PER_TOKEN)).await;
    // The same data, so that tokens and positions mean the same; only the second server makes changes from here on.
    let folder = first.stop().await;
    let second = Server::start(options.vexil(), Some(folder.path())).await;
    let first = Server::start(options.vexil(), Some(folder.path())).await;
    let mut fleet = Fleet::start(options.processes.into(), &[first.address, second.address]);
    fleet.open(options, n_staying, 1, &tokens).await;
    fleet.open(options, options.streams, 0, &tokens).await;
    let n_all = n_staying + options.streams;
    fleet.wait_until_open(n_all, OPEN_TIMEOUT).await;
    tokio::time::sleep(SETTLE_TIME).await;

    let mut changing = second.change_often(options.changes, options.interval_ms);
    tokio::time::sleep(Duration::from_millis(options.interval_ms * 2)).await;
    let killed_at = Instant::now();
    let n_opened = fleet.count().await.opened;
    first.kill().await;
    fleet.wait_until_open(n_opened + options.streams, OPEN_TIMEOUT).await;
    let back_secs = killed_at.elapsed().as_secs_f64();
    let changes = tokio::task::spawn_blocking(move || changing.take()).await.unwrap();
    let n_last = fleet.wait_for(changes.last().unwrap().version, LAST_TIMEOUT).await;
    json!({
        "protocol": format!("{:?}", options.protocol),
        "processes": options.processes,
        "streams": options.streams,
        "staying": n_staying,
        "changes": changes.len(),
        "backSecs": back_secs,
        "refusals": fleet.count().await.refused,
        "atLastVersion": n_last,
        "all": n_all,
        "delivery": fleet.summary(&changes, 1).await,
    })
}
