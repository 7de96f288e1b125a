//! Counts of evaluations: equal to what was evaluated, by whichever route and replica.

use super::ENVIRONMENT;
use super::counted;
use super::counts;
use super::send;
use super::summary;
use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
use serde_json::json;

#[tokio::test]
async fn counts_are_what_was_evaluated() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        server.flag_on("f").await;
        server.flag("g").await;
        for _ in 0..5 {
            client.evaluate("f", json!({"targetingKey": "u"})).await.expect(200);
        }
        // Counts of a version outlive it.
        server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
        for _ in 0..2 {
            client.post("/ofrep/v1/evaluate/flags", json!({"context": {}})).await.expect(200);
        }
        let many = json!({"contexts": [{"key": "a"}, {"key": "b"}], "flags": ["g", "nope"]});
        client.post("/api/v1/evaluate", many.clone()).await.expect(200);
        client.post("/api/v1/evaluate?detail=true", many.clone()).await.expect(200);
        // An explanation serves nobody.
        client.post("/api/v1/evaluate?explain=true", many).await.expect(200);
        for _ in 0..3 {
            client.evaluate("nope", json!({})).await.expect(404);
        }
        counted(&server, "f", json!({"on": 5, "off": 2})).await;
        counted(&server, "g", json!({"off": 6})).await;
        let usage = server.admin.get(&format!("{ENVIRONMENT}/flags/f/usage")).await.expect(200);
        assert!(usage["lastEvaluatedAt"].is_string());
        assert_eq!(usage["total"], 7);
        let versions: Vec<i64> = usage["variations"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["versions"][0]["version"].as_i64().unwrap())
            .collect();
        assert!(versions[0] < versions[1], "{versions:?}");
        let list = server.admin.get(&format!("{ENVIRONMENT}/usage")).await.expect(200);
        let flags: Vec<_> =
            list["items"].as_array().unwrap().iter().map(|each| each["flag"].clone()).collect();
        assert_eq!(flags, ["f", "g"]);
        let unknown = server.admin.get(&format!("{ENVIRONMENT}/unknown-flags")).await.expect(200);
        assert_eq!(unknown["items"][0]["flag"], "nope");
        assert_eq!(unknown["items"][0]["count"], 9, "three, and two contexts three times");
    }
}

#[tokio::test]
async fn counts_of_replicas_and_of_sdks_add_up() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = first.with_environment().await;
    first.flag_on("f").await;
    let second = Server::start_on(folders[1].path(), Some(&database.url), &[]).await;
    let other = second.admin.with_token(&client.token);
    other.evaluates_with("f", 200).await;
    let n_first = counts_until_now(&second).await;
    for _ in 0..20 {
        client.evaluate("f", json!({})).await.expect(200);
        other.evaluate("f", json!({})).await.expect(200);
    }
    for (client, id) in [(&client, "a"), (&other, "b"), (&other, "a")] {
        let events = json!([summary(&[("f", Some(0), 100)])]);
        assert_eq!(send(client, "/bulk", Some(id), &events).await, 202);
    }
    counted(&first, "f", json!({"on": 240 + n_first})).await;
}

#[tokio::test]
async fn what_a_replica_has_not_heard_of_yet_is_counted_all_the_same() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let ahead = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = ahead.with_environment().await;
    // Hears of changes once a second, or when it is asked for something newer.
    let no_listen = &["--test-no-listen"];
    let behind = Server::start_on(folders[1].path(), Some(&database.url), no_listen).await;
    let other = behind.admin.with_token(&client.token);
    other.evaluates_with("f", 404).await;
    for key in ["f", "g", "h"] {
        ahead.flag(key).await;
        let on = ahead.admin.change(key, json!([{"kind": "turnFlagOn"}])).await.expect(200);
        let counter = json!({"value": true, "variation": 0, "version": on["version"], "count": 2});
        let features = json!({key: {"default": false, "counters": [counter]}});
        let events =
            json!([{"kind": "summary", "startDate": 1, "endDate": 2, "features": features}]);
        assert_eq!(send(&other, "/bulk", None, &events).await, 202);
        counted(&ahead, key, json!({"on": 2})).await;
        let usage = ahead.admin.get(&format!("{ENVIRONMENT}/flags/{key}/usage")).await;
        let versions = &usage.expect(200)["variations"][0]["versions"];
        assert_eq!(*versions, json!([{"version": on["version"], "count": 2}]));
    }
}

#[tokio::test]
async fn a_flag_that_is_hidden_from_an_sdk_was_neither_served_nor_unknown() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    server.flag("hidden").await;
    let events = json!([summary(&[("hidden", None, 3), ("absent", None, 1)])]);
    let path = format!("/events/bulk/{}", browser.token);
    assert_eq!(send(&browser, &path, None, &events).await, 202);
    eventually("the unknown flag is told", || async {
        let unknown = server.admin.get(&format!("{ENVIRONMENT}/unknown-flags")).await.expect(200);
        let items = unknown["items"].as_array().unwrap();
        items.len() == 1 && items[0]["flag"] == "absent"
    })
    .await;
    assert_eq!(counts(&server, "hidden").await, json!({}));
}

/// Flags that were evaluated by this replica so far.
async fn counts_until_now(server: &Server) -> i64 {
    i64::try_from(server.metric("vexil_evaluations_total").await).unwrap()
}

#[tokio::test]
async fn what_is_counted_is_written_before_the_process_ends() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let folder = Folder::new();
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Database::create().await),
        };
        let url = database.as_ref().map(|database| database.url.as_str());
        let mut server = Server::start_on(folder.path(), url, &[]).await;
        let client = server.with_environment().await;
        server.flag_on("f").await;
        for _ in 0..7 {
            client.evaluate("f", json!({})).await.expect(200);
        }
        let events = json!([summary(&[("f", Some(1), 5)])]);
        assert_eq!(send(&client, "/bulk", None, &events).await, 202);
        assert!(server.stop().await);
        let again = Server::start_on(folder.path(), url, &[]).await;
        assert_eq!(counts(&again, "f").await, json!({"on": 7, "off": 5}));
    }
}

#[tokio::test]
async fn sdks_cannot_invent_flags_or_variations() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let events = json!([
        summary(&[("f", Some(0), 1), ("f", Some(99), 1), ("f", None, 1), ("ghost", Some(0), 4)]),
        summary(&[("not a key", None, 1), ("ghost", None, 1)]),
    ]);
    assert_eq!(send(&client, "/bulk", None, &events).await, 202);
    counted(&server, "f", json!({"on": 1, "none": 2})).await;
    eventually("the unknown flag is told", || async {
        let unknown = server.admin.get(&format!("{ENVIRONMENT}/unknown-flags")).await.expect(200);
        let items = unknown["items"].as_array().unwrap();
        items.len() == 1 && items[0]["flag"] == "ghost" && items[0]["count"] == 5
    })
    .await;
    // Once there is such a flag, it is not unknown; and when it is deleted, that is told.
    server.flag("ghost").await;
    let unknown = server.admin.get(&format!("{ENVIRONMENT}/unknown-flags")).await.expect(200);
    assert_eq!(unknown["items"], json!([]));
    server.admin.delete("/api/v1/projects/shop/flags/ghost").await;
    let unknown = server.admin.get(&format!("{ENVIRONMENT}/unknown-flags")).await.expect(200);
    assert_eq!(unknown["items"][0]["deleted"], true);
}
