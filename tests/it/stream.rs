//! The stream of changes.

use crate::harness::Backend;
use crate::harness::Events;
use crate::harness::Server;
use serde_json::json;

#[tokio::test]
async fn a_kill_arrives_and_what_it_says_is_served_already() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let mut events = Events::open(&client, None).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    let killed = server.admin.post("/kill/f", json!({})).await.expect(200);
    let event = events.next().await.unwrap();
    assert_eq!(event, json!({"version": killed["version"], "flags": ["f"], "segments": []}));
    assert_eq!(client.value("f", json!({})).await, false);
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed_as_one_event() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    for key in ["a", "b", "c"] {
        server.flag(key).await;
    }
    let seen = Events::open(&client, None).await.last_id;
    for key in ["b", "a", "b"] {
        server.admin.change(key, json!([{"kind": "turnFlagOn"}])).await.expect(200);
        server.admin.change(key, json!([{"kind": "turnFlagOff"}])).await.expect(200);
    }
    let mut events = Events::open(&client, Some(&seen)).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["flags"], json!(["a", "b"]));
    assert_eq!(event.get("full"), None);
    assert!(events.last_id.ends_with(&format!("-{}", event["version"])));
    // From where it stands now, it has missed nothing: the next event is the next change.
    let mut events = Events::open(&client, Some(&events.last_id)).await;
    server.admin.change("c", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    assert_eq!(events.next().await.unwrap()["flags"], json!(["c"]));
}

#[tokio::test]
async fn a_client_from_elsewhere_gets_everything() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("a").await;
    server.flag("b").await;
    let segments = "/api/v1/projects/shop/environments/production/segments";
    server.admin.post(segments, json!({"key": "s"})).await.expect(201);
    for id in ["1-999999", "7-1", "nonsense", "1-01", "-1--1"] {
        let mut events = Events::open(&client, Some(id)).await;
        let event = events.next().await.unwrap();
        assert_eq!(event["full"], true, "{id}");
        assert_eq!((&event["flags"], &event["segments"]), (&json!(["a", "b"]), &json!(["s"])));
    }
}

#[tokio::test]
async fn a_revoked_token_ends_its_streams() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let other = server.token("server", None).await;
    let (mut ending, mut going_on) =
        (Events::open(&client, None).await, Events::open(&other, None).await);
    let tokens = "/api/v1/projects/shop/environments/production/tokens";
    let listed = server.admin.get(tokens).await.expect(200);
    let id = listed["items"][0]["id"].as_str().unwrap();
    server.admin.delete(&format!("{tokens}/{id}")).await.expect(204);
    assert_eq!(ending.next().await, None);
    assert_eq!(client.get("/api/v1/stream").await.status, 401);
    server.flag("f").await;
    assert_eq!(going_on.next().await.unwrap()["flags"], json!(["f"]));
}

#[tokio::test]
async fn client_tokens_may_not_watch() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    assert_eq!(browser.get("/api/v1/stream").await.expect(403)["code"], "token_kind");
}

#[tokio::test]
async fn streams_end_when_the_server_is_asked_to_stop() {
    let mut server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let mut events = Events::open(&client, None).await;
    assert!(server.stop().await, "it ends well although a stream was open");
    assert_eq!(events.next().await, None);
}
