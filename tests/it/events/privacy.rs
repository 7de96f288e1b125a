//! Of a context, nothing but its kinds and a hash of its keys reaches the disk.

use super::feature;
use super::send;
use crate::harness::Backend;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
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
