//! The stream of changes.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::PATIENCE;
use crate::harness::Postgres;
use crate::harness::RawStream;
use crate::harness::Server;
use crate::harness::command_with_files;
use crate::harness::eventually;
use crate::lab::is_full;
use crate::lab::proxy::Fault;
use crate::lab::proxy::Proxy;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// A stream outlives its token by so much at most. Only asserted at full size: a busy machine proves nothing.
const REVOKED_MAX: Duration = Duration::from_secs(5);
const TOKENS: &str = "/api/v1/projects/shop/environments/production/tokens";

/// Opens many streams at once.
async fn open_many(client: &Client, n: usize) -> Vec<RawStream> {
    let opening: Vec<_> = (0..n)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { RawStream::open(&client).await })
        })
        .collect();
    let mut streams = Vec::new();
    for stream in opening {
        streams.push(stream.await.unwrap());
    }
    streams
}

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
    assert_eq!(server.metric("vexil_clients_ahead_total").await, 2);
}

#[tokio::test]
async fn a_replica_that_is_behind_tells_nobody_of_something_older() {
    let database = Database::create().await;
    let (one, two) = (Folder::new(), Folder::new());
    let ahead = Server::start_on(one.path(), Some(&database.url), &[]).await;
    ahead.with_environment().await;
    let environments = "/api/v1/projects/shop/environments";
    let body = json!({"key": "sdks", "serverSdk": "launchdarkly"});
    ahead.admin.post(environments, body).await.expect(201);
    let mut tokens = Vec::new();
    for kind in ["server", "client"] {
        let body = json!({"name": kind, "kind": kind});
        let made = ahead.admin.post(&format!("{environments}/sdks/tokens"), body).await;
        tokens.push(made.expect(201)["token"].as_str().unwrap().to_owned());
    }
    let (server_token, browser_token) = (&tokens[0], &tokens[1]);
    ahead.flag("f").await;
    let proxy = Proxy::start(database.port()).await;
    let through = database.url_through(proxy.port);
    let behind = Server::start_on(two.path(), Some(&through), &[]).await;
    let context = URL_SAFE_NO_PAD.encode(r#"{"kind":"user","key":"u"}"#);
    let poll = format!("/sdk/poll/eval/{context}?auth={browser_token}");
    proxy.set(Fault::Blackhole);
    let path = "/api/v1/projects/shop/environments/sdks/flags/f";
    let turned = json!([{"kind": "turnFlagOn"}]);
    ahead.admin.patch(path, json!({"instructions": turned})).await.expect(200);
    let sdk = ahead.admin.with_token(server_token);
    let seen = Events::open(&sdk, None).await.last_id;
    let state = |body: Value| {
        let last = body["events"].as_array().unwrap().last().unwrap();
        last["data"]["state"].as_str().unwrap().to_owned()
    };
    let server_state = state(sdk.get("/sdk/poll").await.expect(200));
    let browser_state = state(ahead.admin.get(&poll).await.expect(200));

    let sdk = behind.admin.with_token(server_token);
    for path in [
        format!("/api/v1/stream?lastEventId={seen}"),
        format!("/sdk/stream?basis={server_state}"),
        format!("/sdk/poll?basis={server_state}"),
        format!("{}&basis={browser_state}", poll.replace("/poll/", "/stream/")),
        format!("{poll}&basis={browser_state}"),
    ] {
        let answer = sdk.get(&path).await;
        assert!(answer.header("retry-after").parse::<u32>().is_ok(), "{path}");
        assert_eq!(answer.expect(503)["code"], "behind", "{path}");
    }
    let request = sdk.request(Method::GET, "/ofrep/v1/events").header("Last-Event-ID", &seen);
    let told = request.send().await.unwrap().text().await.unwrap();
    assert!(!told.contains("refetch"), "a provider would evaluate at a replica that is behind");

    proxy.set(Fault::Pass);
    let sdk = &sdk;
    let stream = format!("/api/v1/stream?lastEventId={seen}");
    eventually("the replica has caught up", || {
        let request = sdk.request(Method::GET, &stream);
        async move { request.send().await.unwrap().status() == 200 }
    })
    .await;
    let mut events = Events::open(sdk, Some(&seen)).await;
    let turned = json!([{"kind": "turnFlagOff"}]);
    ahead.admin.patch(path, json!({"instructions": turned})).await.expect(200);
    let event = events.next().await.unwrap();
    assert_eq!((&event["flags"], event.get("full")), (&json!(["f"]), None), "and it goes on");
    crate::lab::happened(
        "P9 a client reconnects to a replica that is behind",
        "cut off, and asked on every kind of stream for what comes after a later position",
        "503 until it had caught up, then what was missed",
    );
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
    assert_eq!(events.event().await.unwrap().0, "goodbye");
    assert_eq!(events.event().await, None);
}

#[tokio::test]
async fn clients_are_told_to_come_back_at_different_times() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let mut seen = BTreeSet::new();
    for _ in 0..20 {
        seen.insert(Events::open(&client, None).await.retry_ms);
    }
    assert!(seen.len() > 15, "{seen:?}");
    assert!(seen.iter().all(|ms| (3_000..=8_000).contains(ms)), "{seen:?}");
    assert!(seen.first().unwrap() + 3_000 < *seen.last().unwrap(), "{seen:?}");
}

#[tokio::test]
async fn the_last_id_may_stand_in_the_query() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("a").await;
    let seen = Events::open(&client, None).await.last_id;
    server.flag("b").await;
    let path = format!("/api/v1/stream?lastEventId={seen}");
    let mut events = Events::open_at(&client, &path, None).await;
    assert_eq!(events.next().await.unwrap()["flags"], json!(["b"]));
    let mut events = Events::open_at(&client, &path, Some("1-999999")).await;
    assert_eq!(events.next().await.unwrap()["full"], true, "the header wins");
}

#[tokio::test]
async fn bursts_become_few_events_and_lose_nothing() {
    const CHANGES: usize = 60;
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let mut events = Events::open(&client, None).await;
    let started = Instant::now();
    let changing = async {
        for i in 0..CHANGES {
            server.flag(&format!("flag-{i}")).await;
        }
    };
    let reading = async {
        let (mut flags, mut last, mut n_events) = (BTreeSet::new(), 0, 0_u128);
        while flags.len() < CHANGES {
            let event = events.next().await.unwrap();
            let version = event["version"].as_i64().unwrap();
            assert!(version > last, "{version} after {last}");
            assert_ne!(event["full"], true);
            flags.extend(event["flags"].as_array().unwrap().iter().map(ToString::to_string));
            (last, n_events) = (version, n_events + 1);
        }
        n_events
    };
    let ((), n_events) = tokio::join!(changing, reading);
    let n_allowed = started.elapsed().as_millis() / 100 + 2;
    assert!(n_events <= n_allowed, "{n_events} events, {n_allowed} allowed");
}

#[tokio::test]
async fn readers_that_stall_cost_nothing_and_hold_up_nobody() {
    const STALLED: usize = 200;
    const FLAGS: usize = 400;
    const IMPORTS: usize = 8;
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let environments = "/api/v1/projects/shop/environments";
    let body = json!({"key": "imported", "serverSdk": "launchdarkly"});
    server.admin.post(environments, body).await.expect(201);
    let imported = format!("{environments}/imported");
    let body = json!({"name": "backend", "kind": "server"});
    let made = server.admin.post(&format!("{imported}/tokens"), body).await.expect(201);
    let client = server.admin.with_token(made["token"].as_str().unwrap());
    let import = format!("{imported}/import/launchdarkly?replace=true");
    let file = |is_on: bool| {
        let flag = |i: usize| {
            let key = format!("{i:0>120}");
            let flag = json!({"key": key, "version": 1, "on": is_on, "salt": "s",
                "variations": [true, false], "offVariation": 1, "fallthrough": {"variation": 0}});
            (key, flag)
        };
        let flags: serde_json::Map<String, Value> = (0..FLAGS).map(flag).collect();
        json!({"flags": flags, "segments": {}})
    };
    server.admin.post(&import, file(false)).await.expect(200);
    let mut readers = open_many(&client, 20).await;
    // Everything at first and a large event for each import, all of it unread.
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(RawStream::send(&client, "9-9").await);
    }
    eventually("all streams are open", || async { server.metric("vexil_streams").await == 220 })
        .await;
    // The first import grows what every server has; only what comes after it counts.
    server.admin.post(&import, file(true)).await.expect(200);
    let before_kib = server.resident_kib();
    let mut version = Value::Null;
    for i in 0..IMPORTS {
        let changed = server.admin.post(&import, file(i % 2 == 1)).await.expect(200);
        version = changed["version"].clone();
    }
    for reader in &mut readers {
        assert!(reader.sees(&format!("\"version\":{version}")).await, "a reader is up to date");
    }
    let grown_kib = server.resident_kib().saturating_sub(before_kib);
    // Unshared, it would be more than 50 KB for each event and stream.
    assert!(grown_kib < 24 * 1024, "the server has grown by {grown_kib} KiB");
    assert_eq!(client.get("/livez").await.status, 200);
    drop(stalled);
    eventually("streams of those who left are gone", || async {
        server.metric("vexil_streams").await == 20
    })
    .await;
    assert_eq!(server.metric("vexil_streams_closed_total{reason=\"client\"}").await, 200);
    crate::lab::happened(
        "N1 readers that stall",
        "200 streams that read nothing, and nine large events",
        "less than 24 MiB more, and the 20 others were up to date",
    );
}

#[tokio::test]
async fn a_token_has_its_share_of_streams() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let other = server.token("server", None).await;
    let mut streams = open_many(&client, 1_000).await;
    let refused = client.get("/api/v1/stream").await;
    let secs: u32 = refused.header("retry-after").parse().unwrap();
    assert!((10..=60).contains(&secs), "{secs}");
    assert_eq!(refused.expect(429)["code"], "too_many_streams");
    assert_eq!(server.metric("vexil_streams_refused_total{reason=\"token\"}").await, 1);
    Events::open(&other, None).await;
    streams.truncate(999);
    let opened = || async {
        let stream = client.request(reqwest::Method::GET, "/api/v1/stream").send().await.unwrap();
        stream.status() == 200
    };
    eventually("the place of a stream that has ended is given away", opened).await;
}

#[tokio::test]
async fn a_replica_has_an_end_of_streams() {
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), None, &["--streams-max", "3"]).await;
    let client = server.with_environment().await;
    let open = open_many(&client, 3).await;
    let mut waits = BTreeSet::new();
    for _ in 0..10 {
        let refused = client.get("/api/v1/stream").await;
        waits.insert(refused.header("retry-after").parse::<u32>().unwrap());
        assert_eq!(refused.expect(503)["code"], "streams_full");
    }
    assert!(waits.len() > 5 && waits.iter().all(|secs| (5..=30).contains(secs)), "{waits:?}");
    assert_eq!(server.metric("vexil_streams_refused_total{reason=\"replica\"}").await, 10);
    assert_eq!(open.len(), 3);
}

#[tokio::test]
async fn streams_leave_connections_to_evaluations_and_kills() {
    let folder = Folder::new();
    let server = Server::spawn_by(command_with_files(300), folder.path(), None, &[]).await;
    eventually("it is ready", || async { server.admin.get("/readyz").await.status == 200 }).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    // 150 connections, of which 64 are not for streams.
    let open = open_many(&client, 86).await;
    assert_eq!(client.get("/api/v1/stream").await.expect(503)["code"], "streams_full");
    // On connections of their own.
    let admin = Client::new(&server.url, &server.admin.token);
    assert_eq!(admin.with_token(&client.token).value("f", json!({})).await, true);
    assert_eq!(admin.get("/readyz").await.status, 200);
    admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(open.len(), 86);
}

#[tokio::test]
async fn revoked_tokens_and_deleted_environments_end_their_streams_and_no_others() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let (revoked, other) = (server.token("server", None).await, server.token("server", None).await);
    let (mut ending, mut going_on) = (open_many(&revoked, 100).await, open_many(&other, 20).await);
    let listed = server.admin.get(TOKENS).await.expect(200);
    let id = listed["items"][1]["id"].as_str().unwrap();
    let started = Instant::now();
    server.admin.delete(&format!("{TOKENS}/{id}")).await.expect(204);
    // Directory changes that concern no stream.
    for _ in 0..10 {
        server.token("server", None).await;
    }
    for stream in &mut ending {
        assert!(stream.ends().await);
    }
    assert!(!is_full() || started.elapsed() < REVOKED_MAX, "{:?}", started.elapsed());
    server.flag("f").await;
    for stream in &mut going_on {
        assert!(stream.sees("\"flags\":[\"f\"]").await, "streams of other tokens go on");
    }
    server.admin.delete("/api/v1/projects/shop/environments/production").await.expect(204);
    for stream in &mut going_on {
        assert!(stream.ends().await);
    }
    assert_eq!(client.get("/api/v1/stream").await.status, 401);
    for (reason, n) in [("token", 100), ("environment", 20)] {
        let metric = format!("vexil_streams_closed_total{{reason=\"{reason}\"}}");
        eventually(reason, || async { server.metric(&metric).await == n }).await;
    }
}

#[tokio::test]
async fn a_revoked_token_ends_a_stream_that_has_no_room_to_hear_of_it() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let address = client.url.strip_prefix("http://").unwrap();
    let socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let opening = builder.initial_window_size(0).handshake::<_, bytes::Bytes>(socket);
    let (sender, connection) = opening.await.unwrap();
    tokio::spawn(connection);
    let request = axum::http::Request::get(format!("{}/api/v1/stream", client.url))
        .header("authorization", format!("Bearer {}", client.token));
    let mut sender = sender.ready().await.unwrap();
    let (answer, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let listed = server.admin.get(TOKENS).await.expect(200);
    let id = listed["items"][0]["id"].as_str().unwrap();
    server.admin.delete(&format!("{TOKENS}/{id}")).await.expect(204);
    let ended = tokio::time::timeout(PATIENCE, body.data()).await.unwrap();
    assert_eq!(ended.unwrap().unwrap_err().reason(), Some(h2::Reason::CANCEL));
    let closed = "vexil_streams_closed_total{reason=\"token\"}";
    eventually("it has ended for the token", || async { server.metric(closed).await == 1 }).await;
}

#[tokio::test]
async fn a_stream_says_when_the_database_does_not_confirm() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    let mut events = Events::open(&client, None).await;
    postgres.stop().await;
    let (name, data) = events.event().await.unwrap();
    assert_eq!((name.as_str(), &data["stale"]), ("status", &json!(true)));
    assert!((10_000..15_000).contains(&data["unconfirmedMs"].as_u64().unwrap()), "{data}");
    // One who comes now is told at once.
    let mut late = Events::open(&client, None).await;
    assert_eq!(late.event().await.unwrap().1["stale"], true);
    postgres.resume().await;
    for events in [&mut events, &mut late] {
        assert_eq!(events.event().await.unwrap(), ("status".to_owned(), json!({"stale": false})));
    }
    server.flag("f").await;
    assert_eq!(events.next().await.unwrap()["flags"], json!(["f"]), "and each was said once");
}

#[tokio::test]
async fn a_stream_says_when_something_of_its_environment_cannot_be_read() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        let environments = "/api/v1/projects/shop/environments";
        server.admin.post(environments, json!({"key": "staging"})).await.expect(201);
        let tokens = format!("{environments}/staging/tokens");
        let made = server.admin.post(&tokens, json!({"name": "test", "kind": "server"})).await;
        let other = server.admin.with_token(made.expect(201)["token"].as_str().unwrap());
        server.flag_on("bad").await;
        let mut events = Events::open(&client, None).await;
        let mut others = Events::open(&other, None).await;
        let told = async |events: &mut Events| loop {
            let (name, data) = events.event().await.unwrap();
            if name == "status" {
                break data;
            }
        };
        let rewrite = async |body: &str| {
            let sql = format!(
                "update environment set version = version + 1 where key = 'production';
                update flag_config set body = {body}, version = (select version from environment
                    where key = 'production') where flag_key = 'bad' and environment_id
                    = (select id from environment where key = 'production');
                insert into change_log select id, version, '[\"bad\"]', '[]', 'audit' || version, created_at
                    from environment where key = 'production'"
            );
            server.run_sql(&sql).await;
        };
        rewrite("'!' || body").await;
        let damaged = json!({"stale": false, "quarantined": true});
        assert_eq!(told(&mut events).await, damaged, "{backend}");
        // One who comes now is told at once.
        let mut late = Events::open(&client, None).await;
        assert_eq!(late.event().await.unwrap(), ("status".to_owned(), damaged));
        rewrite("substr(body, 2)").await;
        for events in [&mut events, &mut late] {
            assert_eq!(told(events).await, json!({"stale": false}), "{backend}");
        }
        server.flag("f").await;
        assert_eq!(others.event().await.unwrap().0, "change", "it concerns no other environment");
    }
}

#[tokio::test]
async fn a_silent_stream_has_a_heartbeat() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let mut events = Events::open(&client, None).await;
    let beat = tokio::time::timeout(PATIENCE + Duration::from_secs(5), events.block()).await;
    assert_eq!(beat.unwrap().unwrap(), ": hb");
}
