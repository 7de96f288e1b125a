//! Kill and restore.

use crate::harness::Backend;
use crate::harness::Server;
use reqwest::Method;
use serde_json::json;

#[tokio::test]
async fn a_kill_needs_no_body_and_a_restore_brings_the_old_answer_back() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let before = client.evaluate("f", json!({"targetingKey": "u"})).await.expect(200);
    let killed = server.admin.send(server.admin.request(Method::POST, "/kill/f")).await.expect(200);
    assert_eq!(killed["flag"], "f");
    assert_eq!(killed["environment"], "production");
    assert_eq!(killed["was"], json!({"on": true}));
    assert!(killed["killedAt"].is_string());
    let during = client.evaluate("f", json!({"targetingKey": "u"})).await.expect(200);
    assert_eq!((&during["value"], &during["variant"]), (&json!(false), &json!("off")));
    let restored =
        server.admin.send(server.admin.request(Method::POST, "/restore/f")).await.expect(200);
    assert_eq!((&restored["on"], &restored["flag"]), (&json!(true), &json!("f")));
    let after = client.evaluate("f", json!({"targetingKey": "u"})).await.expect(200);
    assert_eq!((&after["value"], &after["variant"]), (&before["value"], &before["variant"]));
}

#[tokio::test]
async fn killing_twice_remembers_the_first_state() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag_on("f").await;
    let first = server.admin.post("/kill/f", json!({})).await.expect(200);
    let second = server.admin.post("/kill/f", json!({"comment": "to be sure"})).await.expect(200);
    assert_eq!(first, second, "a killed flag stays as it is");
    assert_eq!(server.admin.post("/restore/f", json!({})).await.expect(200)["on"], true);
    let again = server.admin.post("/restore/f", json!({})).await.expect(409);
    assert_eq!(again["code"], "not_killed");
}

#[tokio::test]
async fn a_flag_that_was_off_stays_off_when_it_is_restored() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let killed = server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(killed["was"], json!({"on": false}));
    assert_eq!(server.admin.post("/restore/f", json!({})).await.expect(200)["on"], false);
    assert_eq!(client.value("f", json!({})).await, false);
}

#[tokio::test]
async fn turning_a_killed_flag_on_ends_the_kill_and_other_changes_stay() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let path = "/api/v1/projects/shop/environments/production/flags/f";
    server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(server.admin.get(path).await.expect(200)["killed"]["was"]["on"], true);
    let fallthrough = json!([{"kind": "updateFallthroughVariationOrRollout", "variation": "off"}]);
    server.admin.change("f", fallthrough).await.expect(200);
    server.admin.post("/restore/f", json!({})).await.expect(200);
    assert_eq!(client.value("f", json!({})).await, false, "the change during the kill stays");
    server.admin.post("/kill/f", json!({})).await.expect(200);
    server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    assert_eq!(server.admin.get(path).await.expect(200).get("killed"), None);
    assert_eq!(server.admin.post("/restore/f", json!({})).await.status, 409);
}

#[tokio::test]
async fn turning_a_killed_flag_off_for_good_ends_the_kill() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    let off = server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    assert_eq!(off["changes"], json!(["ended the kill: there is nothing to restore"]));
    assert_eq!(server.admin.post("/restore/f", json!({})).await.expect(409)["code"], "not_killed");
    assert_eq!(client.value("f", json!({})).await, false);
    let again = server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    assert_eq!((&again["changes"], &again["version"]), (&json!([]), &off["version"]));
}

#[tokio::test]
async fn a_misspelt_parameter_kills_nothing() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    for path in ["/kill/f?env=staging", "/kill/f?dryRun=maybe", "/kill/f?project=shop&enviroment=x"]
    {
        let refused = server.admin.post(path, json!({})).await.expect(400);
        assert_eq!(refused["code"], "invalid_query", "{path}");
    }
    let update = "/api/v1/projects/shop/flags?dryrun=true";
    let body = json!({"key": "g", "kind": "boolean"});
    assert_eq!(server.admin.post(update, body).await.expect(400)["code"], "invalid_query");
    assert_eq!(client.value("f", json!({})).await, true);
}

#[tokio::test]
async fn a_token_of_one_environment_says_which_is_meant() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let editor = server.token("admin", Some("editor")).await;
    let staging = json!({"key": "staging"});
    server.admin.post("/api/v1/projects/shop/environments", staging).await.expect(201);
    server.flag_on("f").await;
    let unclear = server.admin.post("/kill/f", json!({})).await.expect(400);
    assert_eq!(unclear["code"], "environment_required");
    assert!(unclear["detail"].as_str().unwrap().contains("shop/staging"));
    assert_eq!(editor.post("/kill/f", json!({})).await.expect(200)["environment"], "production");
    let named = server.admin.post("/kill/f?environment=staging", json!({})).await.expect(200);
    assert_eq!((&named["environment"], &named["was"]["on"]), (&json!("staging"), &json!(false)));
    let foreign = editor.post("/kill/f?environment=staging", json!({})).await;
    assert_eq!(foreign.expect(404)["code"], "not_found");
    assert_eq!(editor.post("/kill/none", json!({})).await.status, 404);
    for (kind, role) in [("server", None), ("client", None), ("admin", Some("viewer"))] {
        let weak = server.token(kind, role).await;
        assert_eq!(weak.post("/kill/f", json!({})).await.status, 403, "{kind}");
    }
}

#[tokio::test]
async fn kills_stand_in_the_audit_log_with_who_and_why() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag_on("f").await;
    let request = server.admin.request(Method::POST, "/kill/f").header("X-Request-Id", "page-1");
    server.admin.send(request.json(&json!({"comment": "errors at 3 a.m."}))).await.expect(200);
    let path = "/api/v1/projects/shop/environments/production/audit?limit=1";
    let entry = server.admin.get(path).await.expect(200)["items"][0].clone();
    assert_eq!(entry["action"], "flag.kill");
    assert_eq!(entry["subject"], "f");
    assert_eq!(entry["comment"], "errors at 3 a.m.");
    assert_eq!(entry["actor"]["name"], "VEXIL_ADMIN_TOKEN");
    assert_eq!(entry["requestId"], "page-1");
}
