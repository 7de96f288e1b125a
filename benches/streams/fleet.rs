//! All clients, spread over processes of their own, because each has its own limit on descriptors.
//!
//! An order is a line of JSON to a process's standard input, its answer a line of its standard output. A process ends when its
//! input does, so none is left over.

use crate::Options;
use crate::Protocol;
use crate::log::Made;
use crate::log::Notes;
use crate::log::summary;
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdin;
use tokio::process::ChildStdout;
use tokio::process::Command;
use tokio::time::Instant;

/// Between two questions after how many streams were opened.
const ASK_INTERVAL: Duration = Duration::from_millis(20);
/// Between two questions after who has heard of a version: each looks at every client, on the processors that are measured.
const VERSION_INTERVAL: Duration = Duration::from_millis(100);

/// What a process of clients is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Order {
    /// Answered at once; clients connect from then on.
    Open(Opening),
    /// Cuts so many clients off.
    Kill(usize),
    /// Answered with [`Counts`].
    Count,
    /// How many clients have heard of a version; answered with [`There`].
    CountAt(i64),
    /// Answered with [`Notes`] of the clients that were at a server from the beginning.
    Notes { server: usize, changes: Vec<Made> },
}

/// Clients that are to connect.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Opening {
    pub protocol: Protocol,
    pub n: usize,
    /// Of them, those that never read.
    pub n_stalled: usize,
    /// The server's place in the list.
    pub server: usize,
    pub tokens: Vec<String>,
}

/// Streams that were opened, again included, and that were refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counts {
    pub opened: usize,
    pub refused: usize,
}

/// Clients that have heard of a version, of those that read.
#[derive(Debug, Serialize, Deserialize)]
pub struct There {
    pub there: usize,
    pub readers: usize,
}

/// All clients.
#[derive(Debug)]
pub struct Fleet {
    processes: Vec<Process>,
}

#[derive(Debug)]
struct Process {
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    // Held, because dropping it ends the process.
    _child: Child,
}

impl Fleet {
    /// Starts processes without clients yet, which know these servers.
    pub fn start(n_processes: usize, servers: &[SocketAddr]) -> Self {
        let servers: Vec<_> = servers.iter().map(ToString::to_string).collect();
        Self { processes: (0..n_processes).map(|_| Process::start(&servers)).collect() }
    }

    /// Adds clients of one server, which connect from now on.
    pub async fn open(&mut self, options: &Options, n: usize, server: usize, tokens: &[String]) {
        let protocol = options.protocol;
        let n_stalled = self.shares(n * options.stalled / 100);
        let orders = self.shares(n).into_iter().zip(n_stalled).map(|(n, n_stalled)| {
            Order::Open(Opening { protocol, n, n_stalled, server, tokens: tokens.to_vec() })
        });
        self.tell::<Value>(orders.collect()).await;
    }

    /// Streams that were opened, again included, and that were refused.
    pub async fn count(&mut self) -> Counts {
        let counts = self.tell_all::<Counts>(&Order::Count).await;
        let opened = counts.iter().map(|counts| counts.opened).sum();
        Counts { opened, refused: counts.iter().map(|counts| counts.refused).sum() }
    }

    /// Waits until so many streams were opened.
    pub async fn wait_until_open(&mut self, n: usize, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        loop {
            let n_opened = self.count().await.opened;
            if n_opened >= n {
                return;
            }
            assert!(Instant::now() < deadline, "{n_opened} of {n} streams are open");
            tokio::time::sleep(ASK_INTERVAL).await;
        }
    }

    /// Cuts clients off without a word.
    pub async fn kill(&mut self, n: usize) {
        let orders = self.shares(n).into_iter().map(Order::Kill).collect();
        self.tell::<Value>(orders).await;
    }

    /// Waits until all who read have a version, and returns how many have it in the end.
    pub async fn wait_for(&mut self, version: i64, timeout: Duration) -> usize {
        let deadline = Instant::now() + timeout;
        loop {
            let all = self.tell_all::<There>(&Order::CountAt(version)).await;
            let n_there = all.iter().map(|each| each.there).sum();
            let n_readers: usize = all.iter().map(|each| each.readers).sum();
            if n_there == n_readers || Instant::now() > deadline {
                return n_there;
            }
            tokio::time::sleep(VERSION_INTERVAL).await;
        }
    }

    /// What the clients noted that read to the end and were at one server from the beginning.
    pub async fn summary(&mut self, changes: &[Made], server: usize) -> Value {
        let order = Order::Notes { server, changes: changes.to_vec() };
        summary(&self.tell_all::<Notes>(&order).await)
    }

    /// A number of clients, as equally as can be for each process.
    fn shares(&self, n: usize) -> Vec<usize> {
        let n_processes = self.processes.len();
        (0..n_processes).map(|i| n / n_processes + usize::from(i < n % n_processes)).collect()
    }

    async fn tell_all<T: DeserializeOwned>(&mut self, order: &Order) -> Vec<T> {
        self.tell(vec![order.clone(); self.processes.len()]).await
    }

    /// Gives each process its order, and then takes the answers.
    async fn tell<T: DeserializeOwned>(&mut self, orders: Vec<Order>) -> Vec<T> {
        for (process, order) in self.processes.iter_mut().zip(orders) {
            let line = format!("{}\n", serde_json::to_string(&order).unwrap());
            process.orders.write_all(line.as_bytes()).await.unwrap();
        }
        let mut answers = Vec::new();
        for process in &mut self.processes {
            let line = process.answers.next_line().await.unwrap();
            answers.push(serde_json::from_str(&line.expect("a process has ended")).unwrap());
        }
        answers
    }
}

impl Process {
    fn start(servers: &[String]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--obey")
            .args(servers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("this program starts once more");
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { orders: child.stdin.take().unwrap(), answers, _child: child }
    }
}
