//! From halves to thirds: as few as possible get another variation, and nobody goes from one old variation to the other.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use crate::lab::is_full;
use crate::lab::kept;
use crate::lab::size;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;

const FLAGS: &str = "/api/v1/projects/shop/flags";
const FLAG: &str = "/api/v1/projects/shop/environments/production/flags/r";
/// Keys that are evaluated: in tests, and as many as is promised.
const KEYS: [usize; 2] = [10_000, 100_000];
/// Keys of one request.
const BATCH: usize = 1_000;
/// Slots that change their owner.
const MOVED: u32 = 34_000;

async fn variations(client: &Client, n: usize) -> Vec<String> {
    let mut all = Vec::with_capacity(n);
    for start in (0..n).step_by(BATCH) {
        let contexts: Vec<Value> = (start..n.min(start + BATCH))
            .map(|i| json!({"kind": "user", "key": format!("key-{i}")}))
            .collect();
        let body = json!({"contexts": contexts, "flags": ["r"]});
        let answer = client.post("/api/v1/evaluate", body).await.expect(200);
        for result in answer["results"].as_array().unwrap() {
            all.push(result[0].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(all.len(), n);
    all
}

/// Checks that a third of those who were divided in halves has moved, and only to the new variation; returns which share.
fn check(before: &[String], after: &[String]) -> f64 {
    let pairs = || before.iter().zip(after).filter(|(before, after)| before != after);
    assert!(pairs().all(|(_, after)| after == "c"), "only to the one that grows");
    let share = pairs().count() as f64 / before.len() as f64;
    // Five standard deviations of so many keys; half a percent at 100,000 keys is more than three.
    let spread = 5.0 * (0.34 * 0.66 / before.len() as f64).sqrt();
    let spread = if is_full() { 0.005 } else { spread.max(0.005) };
    assert!((share - 0.34).abs() <= spread, "{share}");
    share
}

async fn with_halves(server: &Server) -> Client {
    let client = server.with_environment().await;
    let variations =
        json!([{"key": "a", "value": "a"}, {"key": "b", "value": "b"}, {"key": "c", "value": "c"}]);
    let body = json!({"key": "r", "kind": "string", "variations": variations});
    server.admin.post(FLAGS, body).await.expect(201);
    let halves = json!([{"kind": "turnFlagOn"}, {"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"a": 50_000, "b": 50_000}}]);
    server.admin.change("r", halves).await.expect(200);
    client
}

#[tokio::test]
async fn a_new_third_moves_a_third_by_an_instruction() {
    let n = size(KEYS[0], KEYS[1]);
    let (started, mut found) = (Instant::now(), Vec::new());
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = with_halves(&server).await;
        let before = variations(&client, n).await;
        let thirds = json!({"instructions": [{"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"a": 33_000, "b": 33_000, "c": 34_000}}]});
        let asked = server.admin.patch(&format!("{FLAG}?dryRun=true"), thirds.clone()).await;
        let asked = asked.expect(200);
        assert_eq!(asked["moved"]["moved"], MOVED);
        assert_eq!(variations(&client, n).await, before, "a dry run moves nobody");
        let done = server.admin.patch(FLAG, thirds).await.expect(200);
        assert_eq!(done["moved"], asked["moved"]);
        let share = check(&before, &variations(&client, n).await) * 100.0;
        found.push(format!("{backend}: the dry run says {MOVED} slots, {share:.2} % of the keys changed, 0 from one old variation to the other"));
    }
    let what = format!("50/50 to 33/33/34 by `PATCH`, {n} keys evaluated before and after");
    kept("new weights move the fewest", &what, started, &found.join("; "));
}

#[tokio::test]
async fn a_new_third_moves_a_third_by_a_file() {
    let n = size(KEYS[0], KEYS[1]);
    let started = Instant::now();
    let server = Server::start(Backend::Sqlite).await;
    let client = with_halves(&server).await;
    let before = variations(&client, n).await;
    let thirds = json!([{"variation": "a", "weight": 33_000}, {"variation": "b", "weight": 33_000},
        {"variation": "c", "weight": 34_000}]);
    let state = |fallthrough: Value| {
        json!({"state": {"format": "vexil/1", "project": {"key": "shop"},
        "flags": {"r": {"environments": {"production": {"fallthrough": fallthrough}}}}}})
    };
    let wanted = state(json!({"rollout": {"variations": thirds}}));
    let apply = "/api/v1/projects/shop/apply";
    server.admin.post(apply, wanted.clone()).await.expect(200);
    let share = check(&before, &variations(&client, n).await) * 100.0;
    let again = server.admin.post(apply, wanted).await.expect(200);
    assert_eq!(again["changes"], json!([]), "what people write is what there is");
    // An export has the slots themselves, and applying it moves nobody.
    let served = variations(&client, n).await;
    let folder = Folder::new();
    let file = folder.path().join("shop.json");
    let run = async |args: &[&str]| {
        let output = command()
            .args(args)
            .env("VEXIL_URL", &server.url)
            .env("VEXIL_TOKEN", &server.admin.token)
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let file = file.to_str().unwrap();
    run(&["export", "--project", "shop", "--format", "json", "-o", file]).await;
    let halves =
        json!([{"variation": "a", "weight": 50_000}, {"variation": "b", "weight": 50_000}]);
    server.admin.post(apply, state(json!({"rollout": {"variations": halves}}))).await.expect(200);
    assert_ne!(variations(&client, n).await, served);
    run(&["apply", "-f", file, "--yes"]).await;
    assert_eq!(variations(&client, n).await, served);
    let what = format!("50/50 to 33/33/34 by `vexil apply`, {n} keys evaluated before and after");
    let found = format!("{share:.2} % of the keys changed, 0 from one old variation to the other");
    kept("new weights in a file move the fewest", &what, started, &found);
}
