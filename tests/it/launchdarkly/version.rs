//! Versions only grow: over deletion and re-creation, over restarts, and over a database that was restored.

use super::ENVIRONMENT;
use super::SEGMENTS;
use super::environment;
use super::version;
use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
use serde_json::json;

/// Takes the last changes back, as if the database had been restored from before them.
const FORGET: &str = "
    delete from change_log where version > 3;
    update flag_config set version = 2;
    update environment set version = 3";

#[tokio::test]
async fn what_is_created_again_has_a_higher_version_than_its_deletion() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    let mut events = Events::open_bare(&sdk, "/all").await;
    assert_eq!(events.event().await.unwrap().0, "put");
    let mut last = 0;
    for _ in 0..3 {
        server.admin.post(SEGMENTS, json!({"key": "s"})).await.expect(201);
        let (name, patch) = events.event().await.unwrap();
        let created = patch["data"]["version"].as_i64().unwrap();
        assert!(name == "patch" && created > last, "{patch} after {last}");
        server.admin.delete(&format!("{SEGMENTS}/s")).await.expect(204);
        let (name, delete) = events.event().await.unwrap();
        last = delete["version"].as_i64().unwrap();
        assert!(name == "delete" && last > created, "{delete} after {created}");
    }
}

#[tokio::test]
async fn a_restart_sends_the_same() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag_on("f").await;
    server.admin.post(SEGMENTS, json!({"key": "s"})).await.expect(201);
    let before = sdk.get("/sdk/latest-all").await;
    let (database, folder) = server.kill().await;
    let folder = folder.unwrap();
    let server = Server::start_on(folder.path(), None, &[]).await.owning(database, folder);
    let sdk = server.admin.with_token(&sdk.token);
    let after = sdk.get("/sdk/latest-all").await;
    assert_eq!((after.header("etag"), &after.text), (before.header("etag"), &before.text));
    let changed = server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    let all = sdk.get("/sdk/latest-all").await.expect(200);
    assert_eq!(json!(version(&all, "flags", "f")), changed["version"]);
}

#[tokio::test]
async fn a_restored_database_sends_higher_versions_than_were_seen() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    for _ in 0..3 {
        server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
        server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    }
    let seen = version(&sdk.get("/sdk/latest-all").await.expect(200), "flags", "f");
    let polled = sdk.get("/sdk/poll").await.expect(200);
    let state = polled["events"].as_array().unwrap().last().unwrap()["data"]["state"].clone();
    let mut events = Events::open_bare(&sdk, "/all").await;
    assert_eq!(events.event().await.unwrap().0, "put");
    database.run(FORGET).await;
    server.admin.becomes("historyRegressed", true).await;
    server.admin.post("/api/v1/history/accept", json!({})).await.expect(200);
    // Those who are there get all of it anew.
    let (name, put) = events.event().await.unwrap();
    assert_eq!(name, "put");
    assert!(version(&put["data"], "flags", "f") > seen, "{put}");
    // What SDKs report of it is counted for the version that the environment knows.
    let counter =
        |version: i64| json!({"value": true, "variation": 0, "version": version, "count": 1});
    let sent = version(&put["data"], "flags", "f");
    let features = json!({"f": {"default": false, "counters": [counter(sent)]}});
    let events = json!([{"kind": "summary", "startDate": 1, "endDate": 2, "features": features}]);
    sdk.post("/bulk", events).await.expect(202);
    eventually("the version is known", || async {
        let usage = server.admin.get(&format!("{ENVIRONMENT}/flags/f/usage")).await.expect(200);
        usage["variations"][0]["versions"] == json!([{"version": 2, "count": 1}])
    })
    .await;
    // Those who come from a state that was lost do so too.
    let basis = state.as_str().unwrap();
    let polled = sdk.get(&format!("/sdk/poll?basis={basis}")).await;
    let intent = &polled.expect(200)["events"][0]["data"]["payloads"][0];
    assert_eq!(intent["intentCode"], "xfer-full");
    assert!(intent["target"].as_i64().unwrap() > seen, "{intent}");
}
