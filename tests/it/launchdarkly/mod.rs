//! What LaunchDarkly's server-side SDKs are sent, on the wire. Whether they are happy with it, `scripts/test-sdks` shows.

mod access;
mod crowd;
mod data_system;
mod poll;
mod stream;
mod version;

use crate::harness::Client;
use crate::harness::Server;
use serde_json::Value;
use serde_json::json;

const ENVIRONMENT: &str = "/api/v1/projects/shop/environments/production";
const SEGMENTS: &str = "/api/v1/projects/shop/environments/production/segments";

/// Creates the project `shop` with an environment for these SDKs, and returns a client with an SDK's token.
async fn environment(server: &Server) -> Client {
    let admin = &server.admin;
    admin.post("/api/v1/projects", json!({"key": "shop"})).await.expect(201);
    let body = json!({"key": "production", "serverSdk": "launchdarkly"});
    admin.post("/api/v1/projects/shop/environments", body).await.expect(201);
    server.token("server", None).await
}

/// The version of a flag or segment in an answer to a poll.
fn version(all: &Value, kind: &str, key: &str) -> i64 {
    all[kind][key]["version"].as_i64().unwrap_or_else(|| panic!("{kind}/{key} in {all}"))
}
