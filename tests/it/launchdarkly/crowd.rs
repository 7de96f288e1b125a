//! Many streams of a large ruleset: what all get is there once.

use super::environment;
use crate::harness::Backend;
use crate::harness::PATIENCE;
use crate::harness::Server;
use futures_util::future::join_all;
use serde_json::json;

/// Flags of a kilobyte and more each, five megabytes together.
const FLAGS: usize = 80;
const VALUE_BYTES: usize = 60_000;
const STREAMS: usize = 100;
/// By how much the process may grow: a few copies, and not one for each stream.
const GROWTH_KIB_MAX: u64 = 80 * 1024;

#[tokio::test]
async fn all_streams_share_what_is_sent() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    let value = "x".repeat(VALUE_BYTES);
    for i in 0..FLAGS {
        let variations = json!([{"key": "a", "value": value}, {"key": "b", "value": "b"}]);
        let body = json!({"key": format!("f{i}"), "kind": "string", "variations": variations});
        server.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }
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
