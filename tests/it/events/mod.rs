//! What SDKs report, how evaluations are counted, and what administrators read of both.

mod outage;
mod privacy;
mod report;
mod route;
mod store;
mod usage;

use crate::harness::Client;
use crate::harness::Server;
use crate::harness::eventually;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// The path of the standard environment.
const ENVIRONMENT: &str = "/api/v1/projects/shop/environments/production";

/// A summary of counters, each `(flag, variation, count)`.
fn summary(counters: &[(&str, Option<i64>, i64)]) -> Value {
    let mut features = json!({});
    for (flag, variation, count) in counters {
        let mut counter = json!({"value": true, "version": 1, "count": count});
        match variation {
            Some(variation) => counter["variation"] = json!(variation),
            None => counter["unknown"] = json!(true),
        }
        if features[flag].is_null() {
            features[flag] = json!({"default": false, "contextKinds": ["user"], "counters": []});
        }
        features[flag]["counters"].as_array_mut().unwrap().push(counter);
    }
    json!({"kind": "summary", "startDate": 1_790_000_000_000_i64, "endDate": 1_790_000_005_000_i64, "features": features})
}

/// A tracked evaluation of a flag by a user.
fn feature(flag: &str, variation: i64, user: &str) -> Value {
    json!({
        "kind": "feature", "creationDate": 1, "key": flag, "value": true, "default": false,
        "variation": variation, "version": 1, "contextKeys": {"user": user},
        "reason": {"kind": "FALLTHROUGH", "inExperiment": true},
    })
}

/// Sends events as an SDK does; returns the status.
async fn send(client: &Client, path: &str, payload_id: Option<&str>, events: &Value) -> u16 {
    let mut request = client
        .http
        .request(Method::POST, format!("{}{path}", client.url))
        .header("authorization", &client.token)
        .header("x-launchdarkly-event-schema", "4")
        .json(events);
    if let Some(id) = payload_id {
        request = request.header("x-launchdarkly-payload-id", id);
    }
    client.send(request).await.status
}

/// How often a flag served each variation, by the variation's key.
async fn counts(server: &Server, flag: &str) -> Value {
    let path = format!("{ENVIRONMENT}/flags/{flag}/usage");
    let usage = server.admin.get(&path).await.expect(200);
    let mut counts = json!({});
    for variation in usage["variations"].as_array().unwrap() {
        let key = variation["variation"].as_str().unwrap_or("none");
        counts[key] = variation["count"].clone();
    }
    counts
}

/// Waits until a flag was counted so.
async fn counted(server: &Server, flag: &str, expected: Value) {
    eventually(&format!("{flag} is counted {expected}"), || async {
        counts(server, flag).await == expected
    })
    .await;
}
