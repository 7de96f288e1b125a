//! Of a context, nothing but its kinds and a hash of its keys reaches the disk.

use super::feature;
use super::send;
use crate::harness::Backend;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;
use std::path::Path;

/// Whether any file in a folder, or below it, has these bytes.
fn has(folder: &Path, wanted: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return has(&path, wanted);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
    })
}

#[tokio::test]
async fn no_attribute_reaches_the_disk() {
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), None, &[]).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let context = json!({
        "kind": "multi",
        "user": {"key": "KEYOFUSER", "email": "MAILSECRET", "_meta": {
            "privateAttributes": ["email"], "redactedAttributes": ["/NAMEOFATTRIBUTE"]}},
        "org": {"key": "KEYOFORG", "nested": {"key": "NESTEDSECRET"}},
    });
    let old = json!({"key": "KEYOFUSER", "email": "MAILSECRET", "custom": {"x": "CUSTOMSECRET"},
        "privateAttrs": ["NAMEOFATTRIBUTE"]});
    let mut tracked = feature("f", 0, "KEYOFUSER");
    tracked["value"] = json!("VALUESECRET");
    let events = json!([
        {"kind": "index", "creationDate": 1, "context": context},
        {"kind": "identify", "creationDate": 1, "key": "KEYOFUSER", "user": old},
        {"kind": "debug", "creationDate": 1, "key": "f", "variation": 0, "context": context},
        {"kind": "custom", "creationDate": 1, "key": "NAMEOFEVENT", "data": {"x": "DATASECRET"},
         "context": context, "metricValue": 1},
        {"kind": "click", "creationDate": 1, "key": "goal", "url": "https://x/?URLSECRET",
         "contextKeys": {"user": "KEYOFUSER"}},
        {"kind": "summary", "features": {}, "context": context},
        tracked,
    ]);
    assert_eq!(send(&client, "/bulk", None, &events).await, 202);
    eventually("the events are on disk", || async { has(folder.path(), "NAMEOFEVENT") }).await;
    for secret in [
        "MAILSECRET",
        "CUSTOMSECRET",
        "NESTEDSECRET",
        "DATASECRET",
        "URLSECRET",
        "VALUESECRET",
        "NAMEOFATTRIBUTE",
        "KEYOFUSER",
        "KEYOFORG",
    ] {
        assert!(!has(folder.path(), secret), "{secret}");
    }
}

#[tokio::test]
async fn figures_and_errors_tell_nothing_of_contexts() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let body =
        "[{\"kind\": \"custom\", \"key\": \"NAMEOFEVENT\", \"userKey\": \"KEYOFUSER\"}, SECRET";
    let answer = client.raw(reqwest::Method::POST, "/bulk", body).await;
    let text = answer.text.clone();
    answer.expect(400);
    let metrics = server.admin.get("/metrics").await.text;
    for secret in ["NAMEOFEVENT", "KEYOFUSER", "SECRET"] {
        assert!(!text.contains(secret) && !metrics.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn no_context_and_no_token_reaches_the_log() {
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), None, &["--log", "debug"]).await;
    let client = server.with_environment().await;
    let browser = server.token("client", None).await;
    let mobile = server.token("mobile", None).await;
    let packed = URL_SAFE_NO_PAD.encode(r#"{"key":"KEYOFUSER","email":"SECRET"}"#);
    let bulk = "/ofrep/v1/evaluate/flags";
    let flags =
        client.post(bulk, json!({"context": {"targetingKey": "KEYOFUSER", "mail": "SECRET"}}));
    let told = flags.await.expect(200)["eventStreams"][0]["endpoint"]["requestUri"].clone();
    let ticket = told.as_str().unwrap().to_owned();
    let (id, mut n_asked) = (&browser.token, 0);
    for (client, path) in [
        (&browser, format!("/sdk/evalx/{id}/contexts/{packed}")),
        (&browser, format!("/sdk/evalx/{id}/contexts/{packed}*")),
        (&browser, format!("/sdk/poll/eval/{packed}?auth={id}&h=SECRET")),
        (&browser, format!("/sdk/goals/{id}?h=SECRET")),
        (&browser, format!("/a/{id}.gif?d={packed}")),
        (&browser, format!("/api/v1/bootstrap?context={packed}")),
        (&mobile, format!("/msdk/evalx/contexts/{packed}")),
        (&client, format!("{ticket}0")),
        (&client, format!("/no/such/route/{id}/{packed}")),
    ] {
        client.get(&path).await;
        n_asked += 1;
    }
    for (path, body) in [
        (format!("{bulk}/f"), json!({"context": {"targetingKey": 7, "SECRET": "SECRET"}})),
        (
            format!("/events/bulk/{id}"),
            json!([{"kind": "custom", "key": "KEYOFUSER", "data": "SECRET"}]),
        ),
        ("/bulk".to_owned(), json!({"SECRET": "KEYOFUSER"})),
        (
            "/api/v1/evaluate".to_owned(),
            json!({"contexts": [{"key": "KEYOFUSER", "mail": "SECRET"}]}),
        ),
    ] {
        client.post(&path, body).await;
        n_asked += 1;
    }
    let broken = format!("{{\"context\": {{\"targetingKey\": \"KEYOFUSER\", SECRET{id}");
    client.raw(reqwest::Method::POST, bulk, broken).await;
    eventually("every request is logged", || async { server.logged().len() > n_asked }).await;
    let log = server.logged().join("\n");
    let ticket = ticket.split_once("t=").unwrap().1;
    let plain = ticket.replace("%2D", "-").replace("%2E", ".");
    assert!(!log.contains(&plain), "{plain} is in {log}");
    let tokens = [&client.token, &browser.token, &mobile.token, &server.admin.token];
    for secret in tokens.map(String::as_str).into_iter().chain(["KEYOFUSER", "SECRET", ticket]) {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    assert!(!log.contains(&packed), "{log}");
}
