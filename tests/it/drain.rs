//! A server that is told to stop takes leave of its clients.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::RawStream;
use crate::harness::Server;
use crate::harness::eventually;
use crate::lab::is_full;
use crate::lab::kept;
use crate::lab::size;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A drain that would last far longer than a test.
const LONG: &[&str] = &["--drain-secs", "600"];

/// Clients that evaluate.
const CLIENTS: u32 = 16;
/// From one evaluation of a client to the next, so that all together make more than a thousand each second while nothing is late.
const EVALUATION_INTERVAL: Duration = Duration::from_millis(8);
/// Streams with one token; it may have a few more.
const STREAMS_PER_TOKEN: usize = 900;

/// Lets this process have as many descriptors as the system allows: it holds the other ends of all streams.
fn more_descriptors() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
}

/// A load balancer as applications have it: takes turns between replicas that said last that they are ready.
struct Balancer {
    replicas: Vec<(Client, AtomicBool)>,
    is_over: AtomicBool,
    n_answered: AtomicUsize,
    failed: std::sync::Mutex<Vec<String>>,
}

impl Balancer {
    async fn ask_readiness(&self) {
        let mut ticks = tokio::time::interval(Duration::from_millis(50));
        while !self.is_over.load(Ordering::Relaxed) {
            ticks.tick().await;
            for (client, is_ready) in &self.replicas {
                let answer = client.request(reqwest::Method::GET, "/readyz").send().await;
                is_ready.store(answer.is_ok_and(|it| it.status() == 200), Ordering::Relaxed);
            }
        }
    }

    /// Asks so often, however long an answer takes.
    async fn evaluate(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        for turn in 0.. {
            ticks.tick().await;
            if self.is_over.load(Ordering::Relaxed) {
                return;
            }
            let (client, is_ready) = &self.replicas[turn % self.replicas.len()];
            if !is_ready.load(Ordering::Relaxed) {
                continue;
            }
            let request = client.request(reqwest::Method::POST, "/ofrep/v1/evaluate/flags/f");
            let answer = request.json(&json!({"context": {"targetingKey": "u"}})).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => {
                    self.n_answered.fetch_add(1, Ordering::Relaxed);
                }
                other => self.failed.lock().unwrap().push(format!("{other:?}")),
            }
        }
    }
}

/// C15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_evenly_and_no_evaluation_fails() {
    let began = Instant::now();
    let n_streams = size(200, 5_000);
    more_descriptors();
    let drain_secs = if is_full() { 20 } else { 4 };
    let drain_time = Duration::from_secs(drain_secs);
    let interval = if is_full() { EVALUATION_INTERVAL } else { EVALUATION_INTERVAL * 4 };
    let database = Database::create().await;
    let (folder, other_folder) = (Folder::new(), Folder::new());
    let drain_secs = drain_secs.to_string();
    let args = ["--drain-secs", &drain_secs];
    let mut leaving = Server::start_on(folder.path(), Some(&database.url), &args).await;
    let client = leaving.with_environment().await;
    leaving.flag_on("f").await;
    let staying = Server::start_on(other_folder.path(), Some(&database.url), &[]).await;
    let mut streams = Vec::new();
    let mut holder = client.clone();
    for i in 0..n_streams {
        if i % STREAMS_PER_TOKEN == 0 {
            holder = leaving.token("server", None).await;
        }
        streams.push(RawStream::open(&holder).await);
    }
    let replicas =
        [leaving.admin.with_token(&client.token), staying.admin.with_token(&client.token)];
    let balancer = Arc::new(Balancer {
        replicas: replicas.into_iter().map(|client| (client, AtomicBool::new(true))).collect(),
        is_over: AtomicBool::new(false),
        n_answered: AtomicUsize::new(0),
        failed: std::sync::Mutex::default(),
    });
    let asking = Arc::clone(&balancer);
    let mut tasks = vec![tokio::spawn(async move { asking.ask_readiness().await })];
    for _ in 0..CLIENTS {
        let balancer = Arc::clone(&balancer);
        tasks.push(tokio::spawn(async move { balancer.evaluate(interval).await }));
    }

    let started = Instant::now();
    leaving.signal("TERM").await;
    let endings: Vec<_> = streams
        .into_iter()
        .map(|mut stream| {
            tokio::spawn(async move {
                assert!(stream.sees("event: goodbye\ndata: {\"retryMs\":").await);
                let after = started.elapsed();
                assert!(stream.ends().await);
                after
            })
        })
        .collect();
    eventually("it says that it is stopping", || async {
        leaving.admin.get("/readyz").await.status == 503
    })
    .await;
    assert!(!is_full() || started.elapsed() < drain_time / 2, "at once, and not at the end");
    // On a connection of its own, whatever load balancers think.
    assert_eq!(client.value("f", json!({"targetingKey": "u"})).await, true);
    let refused = client.get("/api/v1/stream").await;
    assert!(refused.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(refused.expect(503)["code"], "stopping");
    let mut halves = [0, 0];
    for ending in endings {
        let after = ending.await.unwrap();
        halves[usize::from(after > drain_time.mul_f64(0.45))] += 1;
    }
    assert!(halves.iter().all(|n| *n > n_streams / 4), "streams ended evenly: {halves:?}");
    assert!(leaving.ended().await);
    let ended_after = started.elapsed();
    assert!(!is_full() || ended_after < drain_time + Duration::from_secs(6), "{ended_after:?}");
    let n_answered = balancer.n_answered.load(Ordering::Relaxed);
    eventually("evaluations go on at the other replica", || async {
        balancer.n_answered.load(Ordering::Relaxed) > n_answered + 100
    })
    .await;
    balancer.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    let failed = balancer.failed.lock().unwrap();
    assert!(failed.is_empty(), "{} of {n_answered} failed: {}", failed.len(), failed[0]);
    kept(
        "a replica that is told to stop fails no evaluation",
        &format!(
            "SIGTERM with {n_streams} streams, {CLIENTS} clients that take turns between two replicas and ask every {} ms each",
            interval.as_millis()
        ),
        began,
        &format!(
            "0 of {n_answered} evaluations failed, {:.0} each second; ended after {:.1} s",
            n_answered as f64 / ended_after.as_secs_f64(),
            ended_after.as_secs_f64()
        ),
    );
}

#[tokio::test]
async fn with_nobody_connected_it_ends_when_balancers_have_seen_that_it_stops() {
    let folder = Folder::new();
    let mut server = Server::start_on(folder.path(), None, LONG).await;
    // The connections that the client keeps go with it.
    server.admin = Client::new(&server.url, "nobody");
    let address = server.url.strip_prefix("http://").unwrap().to_owned();
    // As a balancer or client that connects for each request.
    let ask = || async {
        let mut socket = TcpStream::connect(&address).await.unwrap();
        let head = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(ask().await.starts_with("HTTP/1.1 200"));
    server.signal("TERM").await;
    eventually("it says that it stops", || async { ask().await.starts_with("HTTP/1.1 503") }).await;
    for _ in 0..20 {
        assert!(ask().await.starts_with("HTTP/1.1 503"), "it listens on for others to see it");
    }
    assert!(server.ended().await);
}

#[tokio::test]
async fn a_second_signal_ends_it() {
    let folder = Folder::new();
    let mut server = Server::start_on(folder.path(), None, LONG).await;
    let client = server.with_environment().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(Events::open(&client, None).await);
    }
    server.signal("TERM").await;
    eventually("it drains", || async { server.admin.get("/readyz").await.status == 503 }).await;
    assert!(server.stop().await);
    for events in &mut streams {
        assert_eq!(events.event().await.unwrap().0, "goodbye");
        assert_eq!(events.event().await, None);
    }
}

#[tokio::test]
async fn an_interrupt_ends_it_without_a_drain() {
    let folder = Folder::new();
    let mut server = Server::start_on(folder.path(), None, LONG).await;
    let client = server.with_environment().await;
    let mut events = Events::open(&client, None).await;
    server.signal("INT").await;
    assert_eq!(events.event().await.unwrap().0, "goodbye");
    assert!(server.ended().await, "long before a drain would end");
}

#[tokio::test]
async fn a_request_in_progress_is_answered() {
    let mut server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let address = server.url.strip_prefix("http://").unwrap();
    let mut socket = TcpStream::connect(address).await.unwrap();
    let body = r#"{"context":{"targetingKey":"u"}}"#;
    let head = format!(
        "POST /ofrep/v1/evaluate/flags/f HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        client.token,
        body.len()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 25];
    socket.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("TERM").await;
    eventually("it listens no more", || async { TcpStream::connect(address).await.is_err() }).await;
    socket.write_all(body.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"value\":true"), "{answer}");
    assert!(server.ended().await);
}
