//! The routes: who may report where, in which form, and what is refused.

use super::counted;
use super::feature;
use super::send;
use super::summary;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Method;
use serde_json::json;
use std::convert::Infallible;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn post(client: &Client, headers: &[(&str, &str)], body: impl Into<reqwest::Body>) -> u16 {
    let mut request = client.request(Method::POST, "/bulk").body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    client.send(request).await.status
}

#[tokio::test]
async fn each_kind_of_sdk_reports_on_its_own_routes() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag("f").await;
    let (mobile, browser) =
        (server.token("mobile", None).await, server.token("client", None).await);
    let in_path = |start: &str| format!("{start}/{}", browser.token);
    let events = json!([summary(&[("f", Some(0), 1)])]);
    let mut n_taken = 0;
    for (client, path) in [
        (&backend, "/bulk".to_owned()),
        (&mobile, "/mobile".to_owned()),
        (&mobile, "/mobile/events".to_owned()),
        (&mobile, "/mobile/events/bulk".to_owned()),
        (&browser.with_token(""), in_path("/events/bulk")),
    ] {
        assert_eq!(send(client, &path, None, &events).await, 202, "{path}");
        n_taken += 1;
    }
    let packed = percent_encoding::utf8_percent_encode(
        "W3sia2luZCI6InN1bW1hcnkiLCJmZWF0dXJlcyI6eyJmIjp7ImNvdW50ZXJzIjpbeyJ2YXJpYXRpb24iOjAsImNvdW50IjoxfV19fX1d",
        percent_encoding::NON_ALPHANUMERIC,
    );
    let image = server.admin.get(&format!("{}.gif?d={packed}", in_path("/a"))).await;
    assert_eq!((image.status, image.header("content-type")), (200, "image/gif"));
    n_taken += 1;
    counted(&server, "f", json!({"on": n_taken})).await;

    let diagnostic = json!({"kind": "diagnostic-init", "sdk": {"name": "x"}});
    for (client, path) in [
        (&backend, "/diagnostic".to_owned()),
        (&mobile, "/mobile/events/diagnostic".to_owned()),
        (&browser.with_token(""), in_path("/events/diagnostic")),
    ] {
        assert_eq!(send(client, &path, None, &diagnostic).await, 202, "{path}");
    }
    for (client, path) in [
        (&mobile, "/bulk".to_owned()),
        (&browser, "/mobile/events/bulk".to_owned()),
        (&backend, format!("/events/bulk/{}", backend.token)),
        (&backend.with_token("vxs_wrong"), "/bulk".to_owned()),
        (&backend, "/events/bulk/nobody".to_owned()),
        (&backend.with_token("nobody"), "/diagnostic".to_owned()),
    ] {
        assert_eq!(send(client, &path, None, &events).await, 401, "{path}");
    }
    counted(&server, "f", json!({"on": n_taken})).await;
}

#[tokio::test]
async fn evaluations_that_php_reports_one_by_one_are_counted() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag("f").await;
    let of = |variation: u8| {
        json!({"kind": "feature", "creationDate": 1, "key": "f", "variation": variation, "value": true,
            "default": false, "version": 1, "context": {"kind": "user", "key": "u"}})
    };
    let events = json!([of(0), of(1), of(0)]).to_string();
    let headers = [
        ("Accept", "application/json"),
        ("Content-Type", "application/json"),
        ("User-Agent", "PHPClient/6.9.0"),
        ("X-LaunchDarkly-Event-Schema", "4"),
        ("X-LaunchDarkly-Unsummarized", "true"),
    ];
    assert_eq!(post(&backend, &headers, events.clone()).await, 202);
    // Others report the same in summaries beside it.
    assert_eq!(post(&backend, &[], events).await, 202);
    counted(&server, "f", json!({"on": 2, "off": 1})).await;
}

#[tokio::test]
async fn pages_of_other_origins_may_report() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    let path = format!("/events/bulk/{}", browser.token);
    let page = "https://shop.example";
    let asked = browser.http.request(Method::OPTIONS, format!("{}{path}", browser.url));
    let asked = asked.header("origin", page).header("access-control-request-method", "POST");
    let asked = browser.send(asked).await;
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-allow-origin"), page);
    assert!(asked.header("access-control-allow-methods").contains("REPORT"));
    let allowed = asked.header("access-control-allow-headers").to_lowercase();
    for name in ["x-launchdarkly-payload-id", "x-launchdarkly-event-schema", "content-type"] {
        assert!(allowed.contains(name), "{name}");
    }
    for (path, status) in [(path.as_str(), 202), ("/events/bulk/nobody", 401)] {
        let request = browser.http.request(Method::POST, format!("{}{path}", browser.url));
        let answer = browser.send(request.header("origin", page).body("[]")).await;
        assert_eq!((answer.status, answer.header("access-control-allow-origin")), (status, page));
        assert!(answer.header("access-control-expose-headers").contains("Date"));
        assert!(!answer.header("date").is_empty());
    }
}

#[tokio::test]
async fn bodies_come_compressed_chunked_and_in_the_old_schema() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let text = json!([summary(&[("f", Some(1), 3)])]).to_string();
    assert_eq!(post(&client, &[("content-encoding", "gzip")], gzip(text.as_bytes())).await, 202);
    let frame = |piece: &[u8]| hyper::body::Frame::data(bytes::Bytes::copy_from_slice(piece));
    let pieces: Vec<_> = text.as_bytes().chunks(7).map(frame).map(Ok::<_, Infallible>).collect();
    let pieces = http_body_util::StreamBody::new(futures_util::stream::iter(pieces));
    let stream = reqwest::Body::wrap(pieces);
    assert_eq!(post(&client, &[], stream).await, 202);
    let old = json!([
        {"kind": "identify", "creationDate": 1, "key": "u", "user": {"key": "u", "email": "e"}},
        {"kind": "custom", "creationDate": 1, "key": "bought", "userKey": "u"},
        summary(&[("f", Some(0), 1)]),
    ]);
    let headers = [("x-launchdarkly-event-schema", "3")];
    assert_eq!(post(&client, &headers, old.to_string()).await, 202);
    counted(&server, "f", json!({"off": 6, "on": 1})).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_as_a_whole() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    for body in ["", "{", "{}", "7", "[] []", "[{\"kind\":\"custom\"}"] {
        assert_eq!(post(&client, &[], body).await, 400, "{body}");
    }
    let gzipped = [("content-encoding", "gzip")];
    assert_eq!(post(&client, &gzipped, "[]").await, 400, "not gzip");
    let mut cut = gzip(b"[{}, {}, {}]");
    cut.truncate(15);
    assert_eq!(post(&client, &gzipped, cut).await, 400, "cut off");
    assert_eq!(post(&client, &[("content-encoding", "br")], "[]").await, 415);
    assert_eq!(post(&client, &[], "[]").await, 202);
    assert_eq!(post(&client, &[], "[null, 7, {\"kind\": \"news\"}]").await, 202);
    assert_eq!(server.metric("vexil_events_invalid_total").await, 3);
}

/// Bytes that a small body unpacks to.
const BOMB_BYTES: usize = 200 * 1024 * 1024;
/// KiB by which the memory may grow meanwhile.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

#[tokio::test]
async fn a_bomb_is_refused_before_it_is_unpacked() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let bomb = gzip(&vec![b' '; BOMB_BYTES]);
    assert!(bomb.len() < 2 * 1024 * 1024);
    let before = server.resident_kib();
    for _ in 0..3 {
        assert_eq!(post(&client, &[("content-encoding", "gzip")], bomb.clone()).await, 413);
        let grown = server.resident_kib().saturating_sub(before);
        assert!(grown < GROWTH_KIB_MAX, "grown by {grown} KiB");
    }
    let plain = vec![b' '; 9 * 1024 * 1024];
    assert_eq!(post(&client, &[], plain).await, 413);
    assert_eq!(post(&client, &[], "[]").await, 202, "and goes on");
}

#[tokio::test]
async fn a_payload_that_is_sent_again_counts_once() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        server.flag("f").await;
        let events = json!([summary(&[("f", Some(0), 2)]), feature("f", 0, "u")]);
        for id in ["one", "one", "two", "one"] {
            assert_eq!(send(&client, "/bulk", Some(id), &events).await, 202);
        }
        // Of another environment it is another payload.
        let environments = "/api/v1/projects/shop/environments";
        server.admin.post(environments, json!({"key": "test"})).await.expect(201);
        let tokens = format!("{environments}/test/tokens");
        let made = server.admin.post(&tokens, json!({"name": "t", "kind": "server"})).await;
        let other = client.with_token(made.expect(201)["token"].as_str().unwrap());
        assert_eq!(send(&other, "/bulk", Some("one"), &events).await, 202);
        counted(&server, "f", json!({"on": 4})).await;
        let path = format!("{environments}/test/flags/f/usage");
        crate::harness::eventually("the other environment is counted", || async {
            server.admin.get(&path).await.expect(200)["total"] == 2
        })
        .await;
    }
}
