//! `If-Match` and `ifVersion`: what is changed must be as its editor saw it.

use crate::harness::Answer;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const PROJECT: &str = "/api/v1/projects/shop";
const ENVIRONMENT: &str = "/api/v1/projects/shop/environments/production";

async fn send(client: &Client, method: Method, path: &str, etag: &str, body: Value) -> Answer {
    let request = client.request(method, path).header("If-Match", etag);
    let request = if body.is_null() { request } else { request.json(&body) };
    client.send(request).await
}

async fn etag_of(client: &Client, path: &str) -> String {
    client.get(path).await.header("etag").to_owned()
}

#[tokio::test]
async fn of_two_who_replace_a_segment_that_both_have_read_one_is_refused() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        let segments = format!("{ENVIRONMENT}/segments");
        admin.post(&segments, json!({"key": "s"})).await.expect(201);
        let segment = format!("{segments}/s");
        let etag = etag_of(admin, &segment).await;
        let put = |user: &str| {
            let body = json!({"key": "s", "included": [user]});
            send(admin, Method::PUT, &segment, &etag, body)
        };
        let (a, b) = tokio::join!(put("a"), put("b"));
        let (won, lost) = if a.status == 200 { (a, b) } else { (b, a) };
        assert_eq!(lost.expect(412)["code"], "outdated");
        let new = won.header("etag").to_owned();
        assert_ne!(new, etag);
        let included = won.expect(200)["included"].clone();
        assert_eq!(admin.get(&segment).await.expect(200)["included"], included);
        let add = json!({"instructions": [{"kind": "addIncludedTargets", "values": ["c"]}]});
        send(admin, Method::PATCH, &segment, &etag, add.clone()).await.expect(412);
        send(admin, Method::DELETE, &segment, &etag, Value::Null).await.expect(412);
        let changed = send(admin, Method::PATCH, &segment, &new, add).await;
        let newest = changed.header("etag").to_owned();
        changed.expect(200);
        assert_eq!(etag_of(admin, &segment).await, newest);
        send(admin, Method::DELETE, &segment, "s", Value::Null).await.expect(400);
        assert_eq!(send(admin, Method::DELETE, &segment, &newest, Value::Null).await.status, 204);
    }
}

#[tokio::test]
async fn a_definition_is_changed_and_deleted_as_it_was_read() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        let admin = &server.admin;
        let flag = format!("{PROJECT}/flags/f");
        let etag = etag_of(admin, &flag).await;
        let rename = json!({"instructions": [{"kind": "updateName", "value": "New"}]});
        let dry = format!("{flag}?dryRun=true");
        let told = send(admin, Method::PATCH, &dry, &etag, rename.clone()).await;
        assert_eq!((told.status, told.header("etag")), (200, ""));
        let changed = send(admin, Method::PATCH, &flag, &etag, rename.clone()).await;
        let new = changed.header("etag").to_owned();
        changed.expect(200);
        assert_ne!(new, etag);
        assert_eq!(etag_of(admin, &flag).await, new);
        send(admin, Method::PATCH, &flag, &etag, rename).await.expect(412);
        let outdated = send(admin, Method::DELETE, &flag, &etag, Value::Null).await;
        assert_eq!(outdated.expect(412)["code"], "outdated");
        assert_eq!(send(admin, Method::DELETE, &flag, &new, Value::Null).await.status, 204);
    }
}

#[tokio::test]
async fn among_many_changes_each_says_its_version() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        server.flag("g").await;
        let admin = &server.admin;
        admin.post(&format!("{ENVIRONMENT}/segments"), json!({"key": "s"})).await.expect(201);
        let version = async |path: &str| {
            admin.get(&format!("{ENVIRONMENT}/{path}")).await.expect(200)["version"].clone()
        };
        let body = |f: &Value, s: &Value| {
            json!({"changes": [
                {"flag": "f", "environment": "production", "ifVersion": f,
                    "instructions": [{"kind": "turnFlagOn"}]},
                {"segment": "s", "environment": "production", "ifVersion": s,
                    "instructions": [{"kind": "addIncludedTargets", "values": ["u"]}]}]})
        };
        let changes = format!("{PROJECT}/changes");
        let (f, s) = (version("flags/f").await, version("segments/s").await);
        let old = json!(1);
        for (f, s) in [(&old, &s), (&f, &old)] {
            let refused = admin.post(&changes, body(f, s)).await.expect(412);
            assert_eq!(refused["code"], "outdated", "{refused}");
        }
        assert_eq!((version("flags/f").await, version("segments/s").await), (f.clone(), s.clone()));
        admin.post(&changes, body(&f, &s)).await.expect(200);
        admin.post(&changes, body(&json!("x"), &s)).await.expect(422);

        admin.patch(ENVIRONMENT, json!({"requireIfMatch": true})).await.expect(200);
        let on = json!({"flag": "g", "environment": "production",
            "instructions": [{"kind": "turnFlagOn"}]});
        let body = json!({"changes": [on.clone()]});
        let required = admin.post(&changes, body.clone()).await.expect(428);
        assert_eq!(required["code"], "if_match_required");
        let refused = send(admin, Method::POST, &changes, "\"5\"", body).await.expect(400);
        assert_eq!(refused["code"], "if_match_unsupported");
        let flag = format!("{ENVIRONMENT}/flags/g");
        let any = send(
            admin,
            Method::PATCH,
            &flag,
            "*",
            json!({"instructions": [{"kind": "turnFlagOn"}]}),
        );
        assert_eq!(any.await.expect(428)["code"], "if_match_required");
        let mut guarded = on;
        guarded["ifVersion"] = version("flags/g").await;
        admin.post(&changes, json!({"changes": [guarded]})).await.expect(200);
    }
}

#[tokio::test]
async fn a_route_that_compares_nothing_takes_no_version_but_an_emergency_goes_on() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag_on("f").await;
    let admin = &server.admin;
    for (method, path, body) in [
        (Method::POST, format!("{PROJECT}/flags"), json!({"key": "g", "kind": "boolean"})),
        (Method::POST, format!("{ENVIRONMENT}/segments"), json!({"key": "s"})),
        (Method::PATCH, ENVIRONMENT.to_owned(), json!({"name": "P"})),
        (Method::DELETE, format!("{ENVIRONMENT}/schedule/x"), Value::Null),
    ] {
        let refused = send(admin, method, &path, "\"1\"", body).await.expect(400);
        assert_eq!(refused["code"], "if_match_unsupported", "{path}");
    }
    let plan = json!({"at": "2027-03-28T02:30:00Z", "changes": [
        {"flag": "f", "ifVersion": 1, "instructions": [{"kind": "turnFlagOff"}]}]});
    let schedule = format!("{ENVIRONMENT}/schedule");
    send(admin, Method::POST, &schedule, "\"1\"", plan.clone()).await.expect(400);
    admin.post(&schedule, plan).await.expect(412);
    send(admin, Method::GET, ENVIRONMENT, "\"1\"", Value::Null).await.expect(200);
    send(admin, Method::POST, "/kill/f", "\"1\"", json!({})).await.expect(200);
}
