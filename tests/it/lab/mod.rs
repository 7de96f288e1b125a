//! The fault lab: three replicas on one PostgreSQL and one Redis, with a proxy that breaks on every link, under writers and
//! probes. Whatever is broken, five things must hold:
//!
//! 1. *durable*: every acknowledged change is in the database afterwards;
//! 2. *monotone*: no replica ever shows a lower position than it showed before, nor one that is started anew a lower one than
//!    its files had, and no client of a stream hears of a lower one than before, wherever it connects again;
//! 3. *whole*: an answer at a version has exactly the changes up to that version;
//! 4. *available*: no evaluation fails;
//! 5. *honest*: a replica that cannot confirm says so after ten seconds, for which `a_replica_that_is_cut_off_says_so_and_catches_up`
//!    in `scenario` waits long enough; and after every fault no replica says so any more.
//!
//! `scripts/test` breaks everything shortly; `scripts/fault-lab` does it for long and writes `docs/reliability.md`.
//! `scenario` has the faults that last, `promise` what is promised in numbers, `crash` kills, `pooler` a PgBouncer in between.

mod applied;
mod crash;
pub mod load;
mod pooler;
mod promise;
pub mod proxy;
mod scenario;

use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::eventually;
use load::Record;
use proxy::Fault;
use proxy::Proxy;
use serde_json::json;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::process::Child;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

const N_REPLICAS: usize = 3;
const N_WRITERS: usize = 20;

/// How long a fault lasts, and how often it is repeated: little in tests, much in the lab.
pub fn scale() -> u32 {
    std::env::var("VEXIL_LAB_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// How many times: few in tests, in the lab as many as is promised, or as somebody wants.
pub fn size(small: usize, promised: usize) -> usize {
    let wanted = std::env::var("VEXIL_LAB_SIZE").ok().and_then(|text| text.parse().ok());
    let usual = if is_full() { promised } else { small * usize::try_from(scale()).unwrap() };
    wanted.unwrap_or(usual)
}

/// Whether what is promised is to be shown at its full size.
pub fn is_full() -> bool {
    std::env::var("VEXIL_LAB_FULL").is_ok()
}

/// Writes down that a promise was kept, if somebody asks for it.
pub fn kept(promise: &str, what: &str, started: Instant, found: &str) {
    let seconds = started.elapsed().as_secs();
    note(&json!({"promise": promise, "what": what, "seconds": seconds, "found": found}));
}

/// Writes down what was done to a server and what happened, if somebody asks for it.
pub fn happened(fault: &str, what: &str, found: &str) {
    note(&json!({"fault": fault, "what": what, "found": found}));
}

fn note(line: &serde_json::Value) {
    println!("{line}");
    if let Ok(path) = std::env::var("VEXIL_LAB_REPORT") {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        writeln!(file, "{line}").unwrap();
    }
}

/// Numbers that look random and are the same in each run.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % n
    }

    /// A moment of up to so many milliseconds.
    pub async fn pause(&mut self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(self.below(ms))).await;
    }
}

/// A private Redis that can be stopped and started.
pub struct RedisServer {
    port: u16,
    process: Option<Child>,
}

impl RedisServer {
    fn start(port: u16) -> Self {
        let mut redis = Self { port, process: None };
        redis.resume();
        redis
    }

    pub fn resume(&mut self) {
        let port = self.port.to_string();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.process = Some(process.unwrap());
    }

    pub async fn stop(&mut self) {
        self.process.take().unwrap().kill().await.unwrap();
    }

    async fn connect(&self) -> Option<redis::aio::MultiplexedConnection> {
        let url = format!("redis://127.0.0.1:{}", self.port);
        redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.ok()
    }

    pub async fn answers(&self) -> bool {
        self.connect().await.is_some()
    }

    /// All keys with what they hold, as Redis writes it; without leases, which end long before a copy is put back.
    pub async fn dump(&self) -> Vec<(String, Vec<u8>)> {
        let mut connection = self.connect().await.unwrap();
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        let mut all = Vec::new();
        for key in keys.into_iter().filter(|key| !key.ends_with("er")) {
            let value = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
            all.push((key, value));
        }
        all
    }

    /// Puts back what was dumped, for as long as Redis keeps it anyway.
    pub async fn restore(&self, all: &[(String, Vec<u8>)]) {
        let mut connection = self.connect().await.unwrap();
        for (key, value) in all {
            let mut command = redis::cmd("RESTORE");
            command.arg(key).arg(30_000).arg(value).arg("REPLACE");
            command.query_async::<()>(&mut connection).await.unwrap();
        }
    }

    /// The version of the ruleset that is cached, if one is.
    pub async fn cached_version(&self) -> Option<i64> {
        let mut connection = self.connect().await.unwrap();
        let keys: Vec<String> =
            redis::cmd("KEYS").arg("vexil:*:ruleset:*").query_async(&mut connection).await.unwrap();
        let key = keys.iter().find(|key| !key.ends_with("er"))?;
        redis::cmd("HGET").arg(key).arg("v").query_async(&mut connection).await.unwrap()
    }

    pub async fn run(&self, command: &str) {
        let words: Vec<&str> = command.split(' ').collect();
        if let Some(mut connection) = self.connect().await {
            let mut command = redis::cmd(words[0]);
            let _: Result<(), _> = command.arg(&words[1..]).query_async(&mut connection).await;
        }
    }
}

/// One replica with its links.
pub struct Replica {
    server: Option<Server>,
    folder: Folder,
    pub to_postgres: Proxy,
    pub to_redis: Proxy,
    database_url: String,
    place: watch::Sender<Option<Client>>,
}

impl Replica {
    async fn start(&mut self) {
        let redis = format!("redis://127.0.0.1:{}", self.to_redis.port);
        let args = ["--redis-url", redis.as_str()];
        let floor = self.kept_version();
        let server = Server::start_on(self.folder.path(), Some(&self.database_url), &args).await;
        let first = server.admin.evaluate("lab-0", json!({})).await;
        if let Some((epoch, version)) = load::position_of(&first.headers) {
            assert!(epoch > 1 || version >= floor, "{version} is before what was kept: {floor}");
        }
        self.place.send_replace(Some(server.admin.clone()));
        self.server = Some(server);
    }

    /// Ends it at once, as a crash does.
    async fn kill(&mut self) {
        self.place.send_replace(None);
        self.server.take().unwrap().kill().await;
    }

    /// The version of the environment that lies in its folder; zero if none does.
    fn kept_version(&self) -> i64 {
        let files = std::fs::read_dir(self.folder.path().join("snapshot"));
        let paths = files.into_iter().flatten().map(|file| file.unwrap().path());
        let images = paths.filter(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            name.starts_with("environment-") && name.ends_with(".image")
        });
        let version = |path| {
            let text = std::fs::read_to_string(path).unwrap();
            let head: serde_json::Value = serde_json::from_str(text.lines().nth(1)?).ok()?;
            head["position"]["version"].as_i64().or(head["version"].as_i64())
        };
        images.filter_map(version).max().unwrap_or_default()
    }

    /// Takes away what it has kept.
    fn forget(&self) {
        let _ = std::fs::remove_dir_all(self.folder.path().join("snapshot"));
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn admin(&self) -> &Client {
        &self.server().admin
    }
}

/// Everything that can be broken, and what runs meanwhile.
pub struct Lab {
    pub postgres: Postgres,
    pub redis: RedisServer,
    pub replicas: Vec<Replica>,
    pub record: Arc<Record>,
    pub token: String,
    tasks: Vec<JoinHandle<()>>,
    name: &'static str,
    started: Instant,
    n_writers: usize,
}

impl Lab {
    /// Starts everything, and the load on it.
    pub async fn start(name: &'static str) -> Self {
        Self::start_with(name, N_WRITERS).await
    }

    /// As [`Lab::start`], with so many writers.
    pub async fn start_with(name: &'static str, n_writers: usize) -> Self {
        let postgres = Postgres::start().await;
        let port = crate::harness::free_port();
        let redis = RedisServer::start(port);
        let postgres_port = postgres.url.rsplit_once(':').unwrap().1;
        let postgres_port = postgres_port.split('/').next().unwrap().parse().unwrap();
        let mut replicas = Vec::new();
        for _ in 0..N_REPLICAS {
            let to_postgres = Proxy::start(postgres_port).await;
            let mut replica = Replica {
                server: None,
                folder: Folder::new(),
                database_url: format!("postgres://vexil@127.0.0.1:{}/postgres", to_postgres.port),
                to_postgres,
                to_redis: Proxy::start(port).await,
                place: watch::Sender::new(None),
            };
            replica.start().await;
            replicas.push(replica);
        }
        let token = with_flags(replicas[0].server()).await;
        let record = Arc::new(Record::default());
        let mut lab = Self {
            postgres,
            redis,
            replicas,
            record,
            token,
            tasks: Vec::new(),
            name,
            started: Instant::now(),
            n_writers,
        };
        lab.converge().await;
        lab.write_again();
        for (i, replica) in lab.replicas.iter().enumerate() {
            let (record, place) = (Arc::clone(&lab.record), replica.place.subscribe());
            lab.tasks.push(tokio::spawn(load::probe(record, place, lab.token.clone(), i)));
        }
        let places = lab.replicas.iter().map(|replica| replica.place.subscribe()).collect();
        let listening = load::listen(Arc::clone(&lab.record), places, lab.token.clone());
        lab.tasks.push(tokio::spawn(listening));
        lab.acknowledges().await;
        lab
    }

    /// Starts the writers, or starts them again after they were told to end.
    pub fn write_again(&mut self) {
        for i in 0..self.n_writers {
            let place = self.replicas[i % N_REPLICAS].place.subscribe();
            self.tasks.push(tokio::spawn(load::write(Arc::clone(&self.record), place)));
        }
    }

    /// Waits until another change is acknowledged.
    pub async fn acknowledges(&self) {
        self.record.acknowledges().await;
    }

    /// Lets what is broken be broken for a while.
    pub async fn last(&self, ms: u64) {
        tokio::time::sleep(Duration::from_millis(ms * u64::from(scale()))).await;
    }

    /// Breaks or mends the links of all replicas.
    pub fn links(&self, link: impl Fn(&Replica) -> &Proxy, fault: Fault) {
        for replica in &self.replicas {
            link(replica).set(fault);
        }
    }

    /// Waits until all replicas serve the same, newest position.
    async fn converge(&self) {
        let positions = async || {
            let mut positions = Vec::new();
            for replica in &self.replicas {
                let client = replica.admin().with_token(&self.token);
                let answer = client.evaluate("lab-0", json!({})).await;
                positions.push(load::position_of(&answer.headers));
            }
            positions
        };
        let newest = self.record.acknowledged.lock().unwrap().iter().map(|(_, v)| *v).max();
        eventually("the replicas agree", || async {
            let all = positions().await;
            let is_new = all[0].is_some_and(|at| Some(at.1) >= newest);
            is_new && all.iter().all(|each| *each == all[0])
        })
        .await;
    }

    /// Ends the load, waits until the replicas agree, and judges.
    pub async fn judge(mut self, what: &str) {
        self.acknowledges().await;
        let recovered = Instant::now();
        self.record.is_over.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.unwrap();
        }
        self.converge().await;
        let recovery = recovered.elapsed();
        let acknowledged = self.record.acknowledged.lock().unwrap().clone();
        for replica in &self.replicas {
            eventually("nothing is stale any more", || async {
                let client = replica.admin().with_token(&self.token);
                let answer = client.evaluate("lab-0", json!({})).await;
                answer.status == 200 && !answer.headers.contains_key("vexil-stale")
            })
            .await;
            self.record.lost_nothing(&replica.admin().with_token(&self.token)).await;
        }
        let violations = self.record.violations.lock().unwrap().clone();
        assert!(violations.is_empty(), "{}: {violations:#?}", self.name);
        self.report(what, acknowledged.len(), recovery);
    }

    /// Writes down what was seen, if somebody asks for it.
    fn report(&self, what: &str, acknowledged: usize, recovery: Duration) {
        let mut latencies = self.record.latencies.lock().unwrap().clone();
        latencies.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a rank"
            )]
            let rank = ((latencies.len() as f64 - 1.0) * share) as usize;
            latencies.get(rank).copied().unwrap_or_default()
        };
        let line = json!({
            "fault": self.name, "what": what, "seconds": self.started.elapsed().as_secs(),
            "acknowledged": acknowledged, "refused": self.record.refused.load(Ordering::Relaxed),
            "evaluations": latencies.len(), "p50Micros": at(0.5), "p99Micros": at(0.99),
            "maxMicros": at(1.0), "agreeMs": u64::try_from(recovery.as_millis()).unwrap(),
        });
        note(&line);
    }
}

/// Makes the environment and the flags that the writers change, and returns a backend's token.
async fn with_flags(server: &Server) -> String {
    let token = server.with_environment().await.token;
    for i in 0..load::N_FLAGS {
        server.flag_on(&format!("lab-{i}")).await;
        let off = json!([{"kind": "updateFallthroughVariationOrRollout", "variation": "off"}]);
        server.admin.change(&format!("lab-{i}"), off).await.expect(200);
    }
    token
}
