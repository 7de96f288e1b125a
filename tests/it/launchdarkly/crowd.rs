//! Many streams of a large ruleset: what all get is there once.

use super::environment;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::PATIENCE;
use crate::harness::Server;
use crate::lab::happened;
use crate::lab::is_full;
use crate::lab::kept;
use crate::lab::size;
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

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
/// How long it may take until all are back, counted from the kill.
const RETURN_MAX: Duration = Duration::from_secs(30);

/// What all SDKs have come to.
#[derive(Default)]
struct Crowd {
    n_open: AtomicUsize,
    n_back: AtomicUsize,
}

/// An SDK: holds a stream until it breaks off, comes back to where the server is then, and reads until a change of the first
/// flag.
async fn hold(sdk: Client, crowd: Arc<Crowd>, mut moved: watch::Receiver<Option<String>>) {
    let mut stream = open(&sdk).await;
    crowd.n_open.fetch_add(1, Ordering::Relaxed);
    while let Ok(Some(_)) = stream.chunk().await {}
    let url = moved.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    let mut stream = open(&Client { url, ..sdk }).await;
    crowd.n_back.fetch_add(1, Ordering::Relaxed);
    let mut end = Vec::new();
    while !String::from_utf8_lossy(&end).contains(r#"{"path":"/flags/f0""#) {
        end.extend_from_slice(&stream.chunk().await.unwrap().expect("the stream goes on"));
    }
}

/// Opens a stream, again after each refusal, and reads everything that there is.
async fn open(sdk: &Client) -> Response {
    let mut stream = loop {
        let request = sdk.http.get(format!("{}/all", sdk.url)).bearer_auth(&sdk.token);
        let answer = request.send().await.unwrap();
        if answer.status() == 200 {
            break answer;
        }
        let wait = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(wait)).await;
    };
    let mut n_bytes = 0;
    while n_bytes < FLAGS * VALUE_BYTES {
        n_bytes += stream.chunk().await.unwrap().expect("the stream goes on").len();
    }
    stream
}

/// The process is killed and started again while SDKs hold streams: all come back at once.
#[tokio::test(flavor = "multi_thread")]
async fn all_streams_are_back_and_current_after_a_restart() {
    let (began, n_streams) = (Instant::now(), size(60, 1_000));
    let server = Server::start(Backend::Sqlite).await;
    let mut sdk = environment(&server).await;
    make_large(&server).await;
    let (crowd, (tell, moved)) = (Arc::new(Crowd::default()), watch::channel(None));
    let mut sdks = Vec::new();
    for i in 0..n_streams {
        if i > 0 && i % STREAMS_PER_TOKEN == 0 {
            sdk = server.token("server", None).await;
        }
        sdks.push(tokio::spawn(hold(sdk.clone(), Arc::clone(&crowd), moved.clone())));
    }
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    while crowd.n_open.load(Ordering::Relaxed) < n_streams {
        assert!(began.elapsed() < PATIENCE * 12, "not all streams could be opened");
        ticks.tick().await;
    }

    let killed = Instant::now();
    let (database, folder) = server.kill().await;
    let folder = folder.unwrap();
    let server = Server::start_on(folder.path(), None, &[]).await.owning(database, folder);
    let before = server.resident_kib();
    tell.send_replace(Some(server.admin.url.clone()));
    let mut most = before;
    while crowd.n_back.load(Ordering::Relaxed) < n_streams {
        let n_back = crowd.n_back.load(Ordering::Relaxed);
        assert!(killed.elapsed() < PATIENCE * 6, "only {n_back} are back");
        most = most.max(server.resident_kib());
        ticks.tick().await;
    }
    let back = killed.elapsed();
    server.admin.change("f0", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let heard = tokio::time::timeout(PATIENCE * 3, join_all(sdks)).await;
    assert!(heard.expect("all hear of the change").iter().all(Result::is_ok));
    let growth = most.max(server.resident_kib()) - before;
    kept(
        "after a restart, all SDKs are back within 30 s, and the process grows by less than 200 MB",
        &format!(
            "SIGKILL and a start with {n_streams} streams of a ruleset of {} MB",
            FLAGS * VALUE_BYTES / 1_000_000
        ),
        began,
        &format!(
            "all back {:.1} s after the kill; grown by {} MB",
            back.as_secs_f64(),
            growth / 1024
        ),
    );
    happened(
        "N3 all streams come back at once",
        &format!(
            "SIGKILL and a start with {n_streams} streams of a large ruleset, whose clients do not wait"
        ),
        &format!(
            "all back {:.1} s after the kill, and all heard of the next change",
            back.as_secs_f64()
        ),
    );
    assert!(growth < RETURN_GROWTH_KIB_MAX, "{growth} KiB more for {n_streams} streams");
    assert!(!is_full() || back < RETURN_MAX, "all were back only after {back:?}");
}
