//! Percentage rollouts: the share is right, and everybody stays where they are.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

/// Keys that are counted.
const USERS: u32 = 100_000;
/// Keys that are asked for over HTTP.
const ASKED: usize = 200;

/// The users of the first quarter, by the formula that the documentation gives.
fn expected() -> BTreeSet<String> {
    let user = |i| format!("user-{i}");
    // A flag that served `off` to everyone keeps it for the first three quarters of the ring.
    (0..USERS).map(user).filter(|user| slot("r.shop.production.", user) >= 75_000).collect()
}

async fn answers(client: &Client) -> Vec<bool> {
    let mut answers = Vec::new();
    for i in 0..ASKED {
        let context = json!({"targetingKey": format!("user-{i}")});
        let single = client.value("r", context.clone()).await;
        let bulk = client.post("/ofrep/v1/evaluate/flags", json!({"context": context})).await;
        assert_eq!(bulk.expect(200)["flags"][0]["value"], single);
        answers.push(single.as_bool().unwrap());
    }
    answers
}

/// Where a key lies on a ring of 100,000 slots.
fn slot(prefix: &str, key: &str) -> u32 {
    let hash = murmur3::murmur3_32(&mut format!("{prefix}{key}").as_bytes(), 0).unwrap();
    u32::try_from((u64::from(hash) * 100_000) >> 32).unwrap()
}

#[tokio::test]
async fn a_quarter_is_a_quarter_and_the_same_everywhere() {
    let expected = expected();
    let share = f64::from(u32::try_from(expected.len()).unwrap()) / f64::from(USERS);
    assert!((0.245..=0.255).contains(&share), "{share}");
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        let body = json!({"key": "r", "kind": "boolean", "defaults": {"onVariation": "off"}});
        server.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
        let quarter = json!([{"kind": "turnFlagOn"}, {"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"on": 25_000, "off": 75_000}}]);
        let changed = server.admin.change("r", quarter).await.expect(200);
        let moved = json!({
            "moved": 25_000, "from": {"off": 100_000}, "to": {"on": 25_000, "off": 75_000},
            "between": [{"from": "off", "to": "on", "moved": 25_000}],
        });
        assert_eq!(changed["moved"], moved);
        let before = answers(&client).await;
        for (i, answer) in before.iter().enumerate() {
            assert_eq!(*answer, expected.contains(&format!("user-{i}")), "{backend:?}: user-{i}");
        }
        let output = command()
            .args(["eval", "r", "--context", r#"{"targetingKey":"user-7"}"#, "--url", &server.url])
            .args(["--token", &client.token])
            .output()
            .await
            .unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answer["value"], before[7]);

        let half = json!([{"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"on": 50_000, "off": 50_000}}]);
        let changed = server.admin.change("r", half).await.expect(200);
        assert_eq!(changed["moved"]["moved"], 25_000);
        let after = answers(&client).await;
        let is_kept = |(before, after): (&bool, &bool)| !before || *after;
        assert!(before.iter().zip(&after).all(is_kept), "growing takes nobody out");

        let (database, folder) = server.kill().await;
        let folder = folder.unwrap();
        let url = database.as_ref().map(|database| database.url.clone());
        let restarted = Server::start_on(folder.path(), url.as_deref(), &[]).await;
        let client = restarted.admin.with_token(&client.token);
        assert_eq!(answers(&client).await, after, "a restart moves nobody");
    }
}
