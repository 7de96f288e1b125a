//! The second protocol: intents for everything, for changes and for nothing.

use super::SEGMENTS;
use super::environment;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Server;
use serde_json::Value;
use serde_json::json;

async fn poll(client: &Client, basis: &str) -> Vec<Value> {
    let body = client.get(&format!("/sdk/poll?basis={basis}")).await.expect(200);
    body["events"].as_array().unwrap().clone()
}

fn names(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["event"].as_str().unwrap()).collect()
}

fn intent(events: &[Value]) -> &str {
    let payloads = events[0]["data"]["payloads"].as_array().unwrap();
    assert_eq!(payloads.len(), 1, "one payload in each intent");
    payloads[0]["intentCode"].as_str().unwrap()
}

fn state(events: &[Value]) -> String {
    events.last().unwrap()["data"]["state"].as_str().unwrap().to_owned()
}

/// The events of a stream up to the end of one batch.
async fn batch(events: &mut Events) -> Vec<Value> {
    let mut batch = Vec::new();
    loop {
        let (event, data) = events.event().await.expect("the stream goes on");
        let is_last = event == "payload-transferred" || data["payloads"][0]["intentCode"] == "none";
        batch.push(json!({"event": event, "data": data}));
        if is_last {
            return batch;
        }
    }
}

#[tokio::test]
async fn who_says_where_they_are_gets_what_they_missed() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    server.admin.post(SEGMENTS, json!({"key": "s"})).await.expect(201);
    let first = poll(&sdk, "").await;
    assert_eq!(names(&first), ["server-intent", "put-object", "put-object", "payload-transferred"]);
    assert_eq!(intent(&first), "xfer-full");
    let kinds = [&first[1]["data"]["kind"], &first[2]["data"]["kind"]];
    assert_eq!(kinds, ["segment", "flag"], "dependencies first");
    assert_eq!(first[2]["data"]["object"]["version"], first[2]["data"]["version"]);
    let target = &first[0]["data"]["payloads"][0];
    assert_eq!(target["target"], first[3]["data"]["version"]);
    assert_eq!(target["id"], "shop/production");

    let nothing = poll(&sdk, &state(&first)).await;
    assert_eq!((names(&nothing), intent(&nothing)), (vec!["server-intent"], "none"));
    server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    server.admin.delete(&format!("{SEGMENTS}/s")).await.expect(204);
    let missed = poll(&sdk, &state(&first)).await;
    assert_eq!(intent(&missed), "xfer-changes");
    assert_eq!(names(&missed)[1..], ["delete-object", "put-object", "payload-transferred"]);
    assert_eq!(missed[1]["data"]["key"], "s");
    assert_eq!(missed[2]["data"]["object"]["on"], true);
    assert_eq!(intent(&poll(&sdk, &state(&missed)).await), "none");
    for unknown in
        ["nonsense", "(p:shop/production:1-1-00000000)", "(p:other/production:1-2-00000000)"]
    {
        assert_eq!(intent(&poll(&sdk, unknown).await), "xfer-full", "{unknown}");
    }
    // A state of the future, of another history with the same versions.
    let future = "(p:shop/production:1-99-00000000)";
    assert_eq!(intent(&poll(&sdk, future).await), "xfer-full");
}

#[tokio::test]
async fn a_stream_goes_on_from_a_state() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    let mut events = Events::open_bare(&sdk, "/sdk/stream").await;
    let first = batch(&mut events).await;
    assert_eq!(intent(&first), "xfer-full");
    server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let second = batch(&mut events).await;
    assert_eq!(intent(&second), "xfer-changes");
    assert_eq!(names(&second)[1..], ["put-object", "payload-transferred"]);
    // Percent-encoded, as Python's SDK sends it.
    let path = |state: &str| {
        format!(
            "/sdk/stream?basis={}",
            state.replace('(', "%28").replace(':', "%3A").replace('/', "%2F")
        )
    };
    let mut behind = Events::open_bare(&sdk, &path(&state(&first))).await;
    assert_eq!(batch(&mut behind).await, second);
    let mut current = Events::open_bare(&sdk, &path(&state(&second))).await;
    assert_eq!(intent(&batch(&mut current).await), "none");
    server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    let third = batch(&mut events).await;
    for other in [&mut behind, &mut current] {
        assert_eq!(batch(other).await, third);
    }
}

#[tokio::test]
async fn sdks_are_told_to_use_the_first_protocol_where_the_second_is_off() {
    let folder = Folder::new();
    let args = ["--launchdarkly-fdv2", "false"];
    let server = Server::start_on(folder.path(), None, &args).await;
    let sdk = environment(&server).await;
    for path in ["/sdk/poll", "/sdk/stream?basis=x"] {
        let answer = sdk.get(path).await;
        assert_eq!((answer.status, answer.header("x-ld-fd-fallback")), (404, "true"), "{path}");
    }
    sdk.get("/sdk/latest-all").await.expect(200);
}
