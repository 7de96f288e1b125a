//! OFREP's event stream.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::free_port;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const BULK: &str = "/ofrep/v1/evaluate/flags";
const TOKENS: &str = "/api/v1/projects/shop/environments/production/tokens";

/// The path of the stream that an answer about all flags tells.
async fn told(client: &Client) -> String {
    let body = client.post(BULK, json!({})).await.expect(200);
    let stream = &body["eventStreams"][0];
    assert_eq!((&stream["type"], &stream["inactivityDelaySec"]), (&json!("sse"), &json!(120)));
    stream["endpoint"]["requestUri"].as_str().unwrap().to_owned()
}

async fn open(client: &Client, path: &str, last_id: Option<&str>) -> Events {
    let mut request = client.http.get(format!("{}{path}", client.url));
    if let Some(id) = last_id {
        request = request.header("Last-Event-ID", id);
    }
    let mut events = Events::of(request).await;
    let greeting = events.block().await.unwrap();
    let id = greeting.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
    id.clone_into(&mut events.last_id);
    events
}

/// The next message, which has no name.
async fn message(events: &mut Events) -> Option<(String, Value)> {
    loop {
        let block = events.block().await?;
        assert!(!block.contains("event:"), "a named event would not be delivered: {block}");
        let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
        if let (Some(id), Some(data)) = (field("id: "), field("data: ")) {
            return Some((id.to_owned(), serde_json::from_str(data).unwrap()));
        }
    }
}

#[tokio::test]
async fn a_browser_hears_of_changes_without_any_header() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    let visible = json!({"key": "f", "kind": "boolean",
        "clientSideAvailability": {"usingEnvironmentId": true, "usingMobileKey": false}});
    server.admin.post("/api/v1/projects/shop/flags", visible).await.expect(201);
    server.flag("unseen").await;
    let path = told(&browser).await;
    assert!(!path.contains(&browser.token), "{path}");
    let mut events = open(&browser, &path, None).await;
    assert_eq!(events.headers["access-control-allow-origin"], "*");
    assert_eq!(events.headers["content-type"], "text/event-stream");

    // What it may not see, it does not hear of.
    server.admin.change("unseen", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let on = server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let (id, data) = message(&mut events).await.unwrap();
    assert_eq!(data["type"], "refetchEvaluation");
    assert_eq!(data["etag"], json!(id));
    assert!(id.ends_with(&format!("-{}", on["version"])), "{id}");
    // The request that follows has what it heard of.
    let values = browser.post(&format!("{BULK}?flagConfigEtag=%22{id}%22"), json!({})).await;
    assert_eq!(values.expect(200)["flags"][0]["value"], true);
    // What nobody will ever reach does not keep an answer back for good.
    let values = browser.post(&format!("{BULK}?flagConfigEtag=9-999999"), json!({})).await;
    values.expect(200);

    // Who comes back from elsewhere is told at once; who has missed nothing is not.
    let mut back = open(&browser, &path, Some("1-1")).await;
    assert_eq!(message(&mut back).await.unwrap().0, id);
    let mut same = open(&browser, &path, Some(&id)).await;
    assert_eq!(same.last_id, id);
    server.admin.post("/kill/f", json!({})).await.expect(200);
    let (killed, _) = message(&mut same).await.unwrap();
    assert_ne!(killed, id);
}

#[tokio::test]
async fn a_browser_hears_that_a_flag_was_withdrawn_from_it() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    for key in ["f", "g"] {
        let visible = json!({"key": key, "kind": "boolean",
            "clientSideAvailability": {"usingEnvironmentId": true, "usingMobileKey": true}});
        server.admin.post("/api/v1/projects/shop/flags", visible).await.expect(201);
    }
    let path = told(&browser).await;
    let mut events = open(&browser, &path, None).await;
    let hide = |side: &str| json!({"instructions": [{"kind": "turnOffClientSideAvailability", "value": side}]});
    let flag = |key: &str| format!("/api/v1/projects/shop/flags/{key}");
    server.admin.patch(&flag("f"), hide("usingEnvironmentId")).await.expect(200);
    let withdrawn = message(&mut events).await.unwrap().0;
    // Taken from mobile applications too, and deleted: it was not there for browsers any more.
    server.admin.patch(&flag("f"), hide("usingMobileKey")).await.expect(200);
    server.admin.delete(&flag("f")).await.expect(204);
    server.admin.delete(&flag("g")).await.expect(204);
    let gone = message(&mut events).await.unwrap().0;
    let version = |id: &str| id.rsplit_once('-').unwrap().1.parse::<i64>().unwrap();
    assert_eq!(version(&gone), version(&withdrawn) + 3);
}

#[tokio::test]
async fn the_entity_tag_covers_the_stream() {
    let server = Server::start(Backend::Sqlite).await;
    let one = server.with_environment().await;
    let other = server.token("server", None).await;
    server.flag("f").await;
    let (first, second) = (one.post(BULK, json!({})).await, other.post(BULK, json!({})).await);
    assert_eq!(first.body["flags"], second.body["flags"]);
    assert_ne!(first.body["eventStreams"], second.body["eventStreams"]);
    assert_ne!(first.header("etag"), second.header("etag"));
    assert_eq!(first.header("etag"), one.post(BULK, json!({})).await.header("etag"));
}

#[tokio::test]
async fn a_ticket_lasts_as_long_as_its_token_and_opens_nothing_else() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let path = told(&client).await;
    let ticket = path.split_once("t=").unwrap().1.replace("%2D", "-").replace("%2E", ".");
    assert_eq!(client.with_token(&ticket).get("/api/v1/stream").await.status, 401);
    let other = if path.ends_with('0') { '4' } else { '0' };
    let forged = format!("{}{other}", &path[..path.len() - 1]);
    let refused = client.send(client.http.get(format!("{}{forged}", client.url))).await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), "*");
    let mut events = open(&client, &path, None).await;
    let listed = server.admin.get(TOKENS).await.expect(200);
    let id = listed["items"][0]["id"].as_str().unwrap().to_owned();
    server.admin.delete(&format!("{TOKENS}/{id}")).await.expect(204);
    assert_eq!(message(&mut events).await, None);
}

#[tokio::test]
async fn an_administrator_says_which_environment_is_meant() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let path = told(&server.admin).await;
    assert!(path.contains("&project=shop&environment=production"), "{path}");
    let mut events = open(&server.admin, &path, None).await;
    server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    assert_eq!(message(&mut events).await.unwrap().1["type"], "refetchEvaluation");
}

#[tokio::test]
async fn a_query_that_cannot_be_read_is_refused_in_words() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let refused = client.get("/ofrep/v1/events?t=a&t=b").await;
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert_eq!(refused.expect(400)["code"], "invalid_query");
}

#[tokio::test]
async fn a_server_that_starts_sends_providers_away_for_a_while() {
    let folder = Folder::new();
    let nowhere = format!("postgres://vexil@127.0.0.1:{}/none", free_port());
    let server = Server::spawn(folder.path(), Some(&nowhere), &[]).await;
    let answer = server.admin.get("/ofrep/v1/events?t=ticket").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert!(answer.text.starts_with("retry: 25000\n"), "{}", answer.text);
}

#[tokio::test]
async fn a_replica_that_is_behind_catches_up_with_what_a_client_has_heard_of() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let ahead = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = ahead.with_environment().await;
    ahead.flag("f").await;
    // Hears of changes once a second, or when it is asked for something newer.
    let no_listen = &["--test-no-listen"];
    let behind = Server::start_on(folders[1].path(), Some(&database.url), no_listen).await;
    let other = behind.admin.with_token(&client.token);
    other.evaluates_with("f", 200).await;
    let mut seen = other.post(BULK, json!({})).await.header("etag").to_owned();
    for (turn, value) in [("turnFlagOn", true), ("turnFlagOff", false), ("turnFlagOn", true)] {
        ahead.admin.change("f", json!([{"kind": turn}])).await.expect(200);
        let heard = client.post(BULK, json!({})).await.header("vexil-version").to_owned();
        // As the web provider asks after a message, with the tag of what it has.
        let path = format!("{BULK}?flagConfigEtag=%22{heard}%22&flagConfigLastModified=1790000000");
        let request = other.request(Method::POST, &path).header("If-None-Match", &seen);
        let answer = other.send(request.json(&json!({}))).await;
        answer.header("etag").clone_into(&mut seen);
        assert_eq!(answer.expect(200)["flags"][0]["value"], value);
    }
}

#[tokio::test]
async fn who_finds_no_room_is_not_refused() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    let path = told(&browser).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(open(&browser, &path, None).await);
    }
    let request = browser.http.request(Method::GET, format!("{}{path}", browser.url));
    let answer = browser.send(request).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"));
    assert!(answer.text.starts_with("retry: 25000\n"), "{}", answer.text);
}
