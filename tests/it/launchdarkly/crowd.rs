//! Many streams of a large ruleset: what all get is there once.

use super::environment;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::PATIENCE;
use crate::harness::Server;
use crate::lab::size;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

/// Flags of a kilobyte and more each, five megabytes together.
const FLAGS: usize = 84;
const VALUE_BYTES: usize = 60_000;
const STREAMS: usize = 100;
/// By how much the process may grow: a few copies, and not one for each stream.
const GROWTH_KIB_MAX: u64 = 80 * 1024;

/// Creates flags of five megabytes together.
async fn make_large(server: &Server) {
    let value = "x".repeat(VALUE_BYTES);
    for i in 0..FLAGS {
        let variations = json!([{"key": "a", "value": value}, {"key": "b", "value": "b"}]);
        let body = json!({"key": format!("f{i}"), "kind": "string", "variations": variations});
        server.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }
}

#[tokio::test]
async fn all_streams_share_what_is_sent() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    make_large(&server).await;
    let before = server.resident_kib();
    // Held by clients that do not read yet, so that whatever is kept for each is kept for all at once.
    let path = format!("{}/all", sdk.url);
    let open = || sdk.http.get(&path).bearer_auth(&sdk.token).send();
    let streams = join_all((0..STREAMS).map(|_| open())).await;
    let streams: Vec<_> = streams.into_iter().map(Result::unwrap).collect();
    assert!(streams.iter().all(|stream| stream.status() == 200));
    let growth = server.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB more for {STREAMS} streams");
    let whole = FLAGS * VALUE_BYTES;
    let reads = streams.into_iter().map(|mut stream| async move {
        let mut n_bytes = 0;
        while n_bytes < whole {
            n_bytes += stream.chunk().await.unwrap().expect("the stream goes on").len();
        }
        stream
    });
    let reads = tokio::time::timeout(PATIENCE * 3, join_all(reads)).await;
    let streams = reads.expect("everyone has got everything");
    let growth = server.resident_kib().saturating_sub(before);
    assert!(growth < GROWTH_KIB_MAX, "{growth} KiB more for {STREAMS} streams");
    drop(streams);
}

/// Streams with one token; it may have a few more.
const STREAMS_PER_TOKEN: usize = 500;
/// By how much the process may grow while all streams come back, whatever their number.
const RETURN_GROWTH_KIB_MAX: u64 = 200 * 1024;

/// A stream that is opened, again after each refusal, and read: everything, and then until a change of the first flag.
async fn come_back(sdk: Client, current: Arc<AtomicUsize>) -> Response {
    let mut stream = loop {
        let answer = sdk.http.get(format!("{}/all", sdk.url)).bearer_auth(&sdk.token).send().await;
        match answer {
            Ok(answer) if answer.status() == 200 => break answer,
            Ok(answer) => {
                let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
                tokio::time::sleep(Duration::from_secs(wait)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    let mut n_bytes = 0;
    while n_bytes < FLAGS * VALUE_BYTES {
        n_bytes += stream.chunk().await.unwrap().expect("the stream goes on").len();
    }
    current.fetch_add(1, Ordering::Relaxed);
    let mut end = Vec::new();
    while !String::from_utf8_lossy(&end).contains(r#"{"path":"/flags/f0""#) {
        end.extend_from_slice(&stream.chunk().await.unwrap().expect("the stream goes on"));
    }
    stream
}

/// The process is killed and started again while SDKs hold streams: all come back at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_streams_are_back_and_current_after_a_restart() {
    let n_streams = size(60, 1_000);
    let server = Server::start(Backend::Sqlite).await;
    let first = environment(&server).await;
    make_large(&server).await;
    let mut tokens = vec![first.token];
    while tokens.len() * STREAMS_PER_TOKEN < n_streams {
        tokens.push(server.token("server", None).await.token);
    }
    let killed = Instant::now();
    let (database, folder) = server.kill().await;
    let folder = folder.unwrap();
    let server = Server::start_on(folder.path(), None, &[]).await.owning(database, folder);
    let before = server.resident_kib();
    let current = Arc::new(AtomicUsize::new(0));
    let streams = (0..n_streams).map(|i| {
        let sdk = server.admin.with_token(&tokens[i / STREAMS_PER_TOKEN]);
        tokio::spawn(come_back(sdk, Arc::clone(&current)))
    });
    let streams: Vec<_> = streams.collect();
    let mut most = before;
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while current.load(Ordering::Relaxed) < n_streams {
        assert!(
            killed.elapsed() < PATIENCE * 6,
            "only {} are back",
            current.load(Ordering::Relaxed)
        );
        most = most.max(server.resident_kib());
        ticks.tick().await;
    }
    let back = killed.elapsed();
    server.admin.change("f0", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let streams = tokio::time::timeout(PATIENCE * 3, join_all(streams)).await;
    assert_eq!(streams.expect("all hear of the change").len(), n_streams);
    most = most.max(server.resident_kib());
    let (growth, in_all) = (most - before, killed.elapsed());
    println!(
        "{n_streams} streams of {} MB: all back {:.1} s after the kill, with the next change after {:.1} s; grown by {growth} KiB",
        FLAGS * VALUE_BYTES / 1_000_000,
        back.as_secs_f64(),
        in_all.as_secs_f64()
    );
    assert!(growth < RETURN_GROWTH_KIB_MAX, "{growth} KiB more for {n_streams} streams");
}
