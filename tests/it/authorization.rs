//! Who may do what: nothing without a token, nothing outside of its scope.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use reqwest::Method;
use serde_json::json;

/// Routes that answer without a token.
const OPEN: &[&str] = &["/livez", "/readyz", "/health", "/openapi.yaml", "/docs"];
/// What routes begin with that browsers call with a client token in the path.
const IN_PATH: &[&str] =
    &["/eval/", "/ping/", "/sdk/goals/", "/sdk/evalx/production/", "/sdk/evalx/{environment}"];

/// All routes of the API document, as method and path with keys filled in.
fn routes() -> Vec<(Method, String)> {
    let text = vexil::http::openapi::yaml().unwrap();
    let mut routes = Vec::new();
    let mut path = String::new();
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("  /").and_then(|rest| rest.strip_suffix(':')) {
            let keys = [("{project}", "shop"), ("{environment}", "production"), ("{flag}", "f")];
            path = format!("/{found}").replace("{segment}", "s").replace("{token}", "t");
            path = path.replace("{key}", "f");
            for (name, key) in keys {
                path = path.replace(name, key);
            }
        }
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if line == format!("    {}:", method.as_str().to_lowercase()) {
                routes.push((method, path.clone()));
            }
        }
    }
    assert!(routes.len() > 35, "{routes:?}");
    routes
}

#[tokio::test]
async fn nothing_but_health_and_the_document_answers_without_a_token() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let http = reqwest::Client::new();
    // A trigger has its secret in place of a token, and is limited.
    let needs_token = |(_, path): &(Method, String)| !path.starts_with("/trigger/");
    for (method, path) in routes().into_iter().filter(needs_token) {
        let url = format!("{}{path}", server.url);
        let status = http.request(method.clone(), &url).send().await.unwrap().status().as_u16();
        let expected = match path.as_str() {
            open if OPEN.contains(&open) => 200,
            // The environment in the path is the credential.
            browsers if IN_PATH.iter().any(|start| browsers.starts_with(start)) => 404,
            _ => 401,
        };
        assert_eq!(status, expected, "{method} {path}");
        for bad in ["Bearer", "Bearer ", "Bearer nobody", "Basic dXNlcjpwYXNz", "nobody"] {
            let request = http.request(method.clone(), &url).header("Authorization", bad);
            assert_eq!(request.send().await.unwrap().status().as_u16(), expected, "{path} {bad}");
        }
    }
}

#[tokio::test]
async fn tokens_are_taken_from_three_places() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let url = format!("{}/ofrep/v1/evaluate/flags/f", server.url);
    let token = client.token.clone();
    for (name, value) in [
        ("Authorization", format!("Bearer {token}")),
        ("Authorization", format!("bearer {token}")),
        ("Authorization", token.clone()),
        ("X-API-Key", token.clone()),
    ] {
        let request = client.http.post(&url).header(name, &value);
        assert_eq!(client.send(request).await.status, 200, "{name}: {value}");
    }
    let typo = token.replace(&token[10..12], "zZ");
    let refused = client.with_token(&typo).get("/api/v1/stream").await.expect(401);
    assert_eq!(refused["code"], "token_malformed");
    let unknown = client.with_token("nobody's token at all").get("/api/v1/stream").await;
    assert_eq!(unknown.header("www-authenticate"), "Bearer");
    assert_eq!(unknown.expect(401)["code"], "token_unknown");
}

#[tokio::test]
async fn a_token_is_shown_once_and_a_revoked_one_is_refused() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let tokens = "/api/v1/projects/shop/environments/production/tokens";
    let listed = server.admin.get(tokens).await;
    assert!(!listed.text.contains(&client.token));
    let hint = &client.token[client.token.len() - 4..];
    assert_eq!(listed.body["items"][0]["hint"], hint);
    let audit = server.admin.get("/api/v1/audit").await;
    assert!(!audit.text.contains(&client.token));
    let id = listed.body["items"][0]["id"].as_str().unwrap();
    server.admin.delete(&format!("{tokens}/{id}")).await.expect(204);
    assert_eq!(client.evaluate("f", json!({})).await.status, 401);
    assert_eq!(server.admin.delete(&format!("{tokens}/{id}")).await.status, 404);
}

#[tokio::test]
async fn tokens_reach_their_own_environment_only() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag_on("f").await;
    let admin = &server.admin;
    admin.post("/api/v1/projects", json!({"key": "blog"})).await.expect(201);
    admin
        .post("/api/v1/projects/blog/environments", json!({"key": "production"}))
        .await
        .expect(201);
    admin
        .post("/api/v1/projects/blog/flags", json!({"key": "g", "kind": "boolean"}))
        .await
        .expect(201);
    assert_eq!(backend.evaluate("g", json!({})).await.status, 404);
    let asking = "/ofrep/v1/evaluate/flags/g?project=blog&environment=production";
    assert_eq!(backend.post(asking, json!({})).await.status, 404);
    let of_env = server.token("admin", Some("administrator")).await;
    let of_project = admin
        .post("/api/v1/tokens", json!({"name": "p", "role": "administrator", "project": "shop"}))
        .await
        .expect(201);
    let of_project = admin.with_token(of_project["token"].as_str().unwrap());
    let own = "/api/v1/projects/shop/environments/production/flags/f";
    let foreign = "/api/v1/projects/blog/environments/production/flags/g";
    for token in [&of_env, &of_project] {
        assert_eq!(token.get(own).await.status, 200);
        assert_eq!(token.get(foreign).await.status, 404);
        assert_eq!(token.get("/api/v1/projects/blog").await.status, 404);
        let projects = token.get("/api/v1/projects").await.expect(200);
        assert_eq!(projects["items"].as_array().unwrap().len(), 1);
        assert_eq!(token.get("/api/v1/audit").await.status, 403);
        assert_eq!(token.get("/metrics").await.status, 403);
        let wide = json!({"name": "x", "role": "viewer"});
        assert_eq!(token.post("/api/v1/tokens", wide).await.status, 403);
    }
    assert_eq!(of_env.get("/api/v1/projects/shop/flags").await.status, 404);
    assert_eq!(of_project.get("/api/v1/projects/shop/flags").await.status, 200);
    assert_eq!(admin.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn roles_grow_by_what_they_may_do() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag("f").await;
    let viewer = server.token("admin", Some("viewer")).await;
    let editor = server.token("admin", Some("editor")).await;
    let administrator = server.token("admin", Some("administrator")).await;
    let base = "/api/v1/projects/shop/environments/production";
    let statuses = async |client: &Client| {
        let read = client.get(&format!("{base}/flags")).await.status;
        let change = client.change("f", json!([{"kind": "turnFlagOn"}])).await.status;
        let tokens = client.get(&format!("{base}/tokens")).await.status;
        (read, change, tokens)
    };
    assert_eq!(statuses(&backend).await, (403, 403, 403));
    assert_eq!(statuses(&viewer).await, (200, 403, 403));
    assert_eq!(statuses(&editor).await, (200, 200, 403));
    assert_eq!(statuses(&administrator).await, (200, 200, 200));
}
