//! `/all` and `/flags`: one put, then patches and deletions.

use super::ENVIRONMENT;
use super::SEGMENTS;
use super::environment;
use crate::harness::Backend;
use crate::harness::Events;
use crate::harness::PATIENCE;
use crate::harness::Server;
use serde_json::Value;
use serde_json::json;

async fn next(events: &mut Events, name: &str) -> Value {
    let (found, data) = events.event().await.expect("the stream goes on");
    assert_eq!(found, name, "{data}");
    data
}

async fn a_stream_tells_what_changes(backend: Backend) {
    let server = Server::start(backend).await;
    let sdk = environment(&server).await;
    let mut events = Events::open_bare(&sdk, "/all").await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["x-accel-buffering"], "no");
    assert_eq!(events.headers["x-ld-envid"], "shop/production");
    let empty = json!({"path": "/", "data": {"flags": {}, "segments": {}}});
    assert_eq!(next(&mut events, "put").await, empty);

    server.flag("f").await;
    let patch = next(&mut events, "patch").await;
    assert_eq!((&patch["path"], &patch["data"]["on"]), (&json!("/flags/f"), &json!(false)));
    let created = patch["data"]["version"].as_i64().unwrap();
    let changed = server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let patch = next(&mut events, "patch").await;
    assert_eq!(
        (&patch["data"]["on"], &patch["data"]["version"]),
        (&json!(true), &changed["version"])
    );
    assert!(changed["version"].as_i64().unwrap() > created);

    server.admin.post(SEGMENTS, json!({"key": "s", "included": ["u"]})).await.expect(201);
    let patch = next(&mut events, "patch").await;
    assert_eq!(patch["path"], "/segments/s");
    assert_eq!(patch["data"]["included"], json!(["u"]));
    server.admin.delete(&format!("{SEGMENTS}/s")).await.expect(204);
    let delete = next(&mut events, "delete").await;
    assert_eq!(delete["path"], "/segments/s");
    assert!(delete["version"].as_i64() > patch["data"]["version"].as_i64());
    server.admin.delete("/api/v1/projects/shop/flags/f").await.expect(204);
    assert_eq!(next(&mut events, "delete").await["path"], "/flags/f");

    // Who comes now sees what is there, and nothing of what was.
    let mut later = Events::open_bare(&sdk, "/all?filter=unknown").await;
    assert_eq!(next(&mut later, "put").await, empty);
}

#[tokio::test]
async fn a_stream_tells_what_changes_on_sqlite() {
    a_stream_tells_what_changes(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_stream_tells_what_changes_on_postgres() {
    a_stream_tells_what_changes(Backend::Postgres).await;
}

#[tokio::test]
async fn path_stands_before_data_and_dependencies_before_what_needs_them() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("z").await;
    server.flag("a").await;
    let needs = json!([{"kind": "addPrerequisite", "key": "z", "variation": "on"}]);
    server.admin.change("a", needs).await.expect(200);
    let mut events = Events::open_bare(&sdk, "/all").await;
    let block = events.block().await.unwrap();
    assert!(
        block.starts_with("event: put\ndata: {\"path\":\"/\",\"data\":{\"flags\":{\"z\":"),
        "{block}"
    );
    assert!(block.find("\"z\":{").unwrap() < block.find("\"a\":{").unwrap(), "{block}");
    // What comes within a tenth of a second comes together, in the order of what needs what.
    let on = json!([{"kind": "turnFlagOn"}]);
    for _ in 0..5 {
        server.admin.change("a", on.clone()).await.expect(200);
        server.admin.change("z", on.clone()).await.expect(200);
        server.admin.change("a", json!([{"kind": "turnFlagOff"}])).await.expect(200);
        server.admin.change("z", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    }
    let mut seen = [0, 0];
    loop {
        let patch = next(&mut events, "patch").await;
        let version = patch["data"]["version"].as_i64().unwrap();
        let slot = &mut seen[usize::from(patch["path"] == "/flags/a")];
        assert!(version > *slot, "{patch}");
        *slot = version;
        let all = sdk.get("/sdk/latest-all").await.expect(200);
        if seen == [super::version(&all, "flags", "z"), super::version(&all, "flags", "a")] {
            break;
        }
    }
}

#[tokio::test]
async fn the_oldest_sdks_get_flags_only() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    let mut events = Events::open_bare(&sdk, "/flags").await;
    assert_eq!(next(&mut events, "put").await["f"]["key"], "f");
    server.admin.post(SEGMENTS, json!({"key": "s"})).await.expect(201);
    server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    assert_eq!(next(&mut events, "patch").await["path"], "/f");
    server.admin.delete("/api/v1/projects/shop/flags/f").await.expect(204);
    assert_eq!(next(&mut events, "delete").await["path"], "/f");
}

#[tokio::test]
async fn streams_end_without_a_word() {
    let mut server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    let tokens = format!("{ENVIRONMENT}/tokens");
    let made =
        server.admin.post(&tokens, json!({"name": "gone", "kind": "server"})).await.expect(201);
    let revoked = server.admin.with_token(made["token"].as_str().unwrap());
    for path in ["/all", "/flags", "/sdk/stream"] {
        let mut events = Events::open_bare(&revoked, path).await;
        assert!(events.block().await.is_some());
    }
    let mut all = Events::open_bare(&revoked, "/all").await;
    next(&mut all, "put").await;
    let id = made["id"].as_str().unwrap();
    server.admin.delete(&format!("{tokens}/{id}")).await.expect(204);
    assert_eq!(all.event().await, None, "the token was revoked");
    assert_eq!(revoked.get("/all").await.status, 401);

    let mut all = Events::open_bare(&sdk, "/all").await;
    next(&mut all, "put").await;
    let mut second = Events::open_bare(&sdk, "/sdk/stream").await;
    for name in ["server-intent", "payload-transferred"] {
        next(&mut second, name).await;
    }
    server.signal("TERM").await;
    // A drain without `goodbye`, which Rust's SDK takes for an error.
    assert_eq!(all.event().await, None);
    assert_eq!(second.event().await, None);
    assert!(server.ended().await);
}

#[tokio::test]
async fn every_stream_that_is_silent_has_a_heartbeat() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    let browser = server.token("client", None).await;
    let (token, context) = (browser.token.as_str(), "eyJrZXkiOiJhIn0");
    let streams = [
        (&sdk, "/all".to_owned()),
        (&sdk, "/flags".to_owned()),
        (&sdk, "/sdk/stream".to_owned()),
        (&browser, format!("/eval/{token}/{context}")),
        (&browser, format!("/ping/{token}")),
        (&browser, format!("/sdk/stream/eval/{context}?auth={token}")),
        (&browser, "/ofrep/v1/events".to_owned()),
    ];
    let beats = streams.iter().map(async |(client, path)| {
        let mut events = Events::open_bare(client, path).await;
        while events.block().await.expect("the stream goes on") != ": hb" {}
    });
    let all = tokio::time::timeout(PATIENCE * 3, futures_util::future::join_all(beats)).await;
    all.expect("each has a heartbeat");
}

#[tokio::test]
async fn sdks_are_told_what_to_report() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    let rule = json!([{"kind": "addRule", "id": "r", "variation": "on", "clauses": [
        {"attribute": "plan", "op": "in", "values": ["gold"]}]}]);
    server.admin.change("f", rule).await.expect(200);
    let mut events = Events::open_bare(&sdk, "/all").await;
    let put = next(&mut events, "put").await;
    let told = |flag: &Value| {
        ["/trackEvents", "/trackEventsFallthrough", "/rules/0/trackEvents"]
            .map(|place| flag.pointer(place).and_then(Value::as_bool).unwrap())
    };
    assert_eq!(told(&put["data"]["flags"]["f"]), [false; 3]);
    let instructions = json!([
        {"kind": "updateTrackEvents", "trackEvents": true},
        {"kind": "updateTrackEventsFallthrough", "trackEvents": true},
        {"kind": "updateRuleTrackEvents", "ruleId": "r", "trackEvents": true},
    ]);
    server.admin.change("f", instructions.clone()).await.expect(200);
    assert_eq!(told(&next(&mut events, "patch").await["data"]), [true; 3]);
    let again = server.admin.change("f", instructions).await.expect(200);
    assert_eq!(again["changes"], json!([]), "it was so already");
}
