//! Who is refused, and how: SDKs give up for ever on 401, 403 and 404, so only those get one who can never succeed.

use super::environment;
use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::eventually;
use crate::kept::kept;
use reqwest::Method;
use serde_json::json;

const ROUTES: &[&str] = &[
    "/all",
    "/flags",
    "/sdk/latest-all",
    "/sdk/flags",
    "/sdk/flags/f",
    "/sdk/poll",
    "/sdk/stream",
];

#[tokio::test]
async fn only_wrong_keys_are_refused_for_good() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    let plain = json!({"key": "plain"});
    server.admin.post("/api/v1/projects/shop/environments", plain).await.expect(201);
    let tokens = "/api/v1/projects/shop/environments/plain/tokens";
    let made = server.admin.post(tokens, json!({"name": "t", "kind": "server"})).await.expect(201);
    let of_plain = sdk.with_token(made["token"].as_str().unwrap());
    let client = server.token("client", None).await;
    for path in ROUTES {
        let unknown = sdk.with_token("vxs_unknown").get(path).await;
        assert_eq!(unknown.status, 401, "{path}");
        assert_eq!(sdk.with_token("").get(path).await.status, 401, "{path}");
        assert_eq!(client.get(path).await.expect(403)["code"], "token_kind", "{path}");
        assert_eq!(server.admin.get(path).await.expect(403)["code"], "token_kind", "{path}");
        let refused = of_plain.get(path).await.expect(403);
        assert_eq!(refused["code"], "server_sdk", "{path}");
        assert!(refused["detail"].as_str().unwrap().contains("serverSdk"), "{path}");
        let posted = sdk.post(path, json!({})).await;
        assert_eq!(posted.status, 405, "{path}");
    }
    // As SDKs send it, and as the oldest of them do.
    for written in [sdk.token.clone(), format!("api_key {}", sdk.token)] {
        let url = format!("{}/sdk/latest-all", sdk.url);
        let request = sdk.http.get(url).header("Authorization", written);
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let doubled = sdk.request(Method::GET, "//sdk/latest-all").send().await.unwrap();
    assert_eq!(doubled.status(), 200);
}

#[tokio::test]
async fn a_server_that_starts_says_that_it_is_not_ready() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    let token = sdk.token.clone();
    kept(folder.path(), "\"key\":\"f\"").await;
    kept(folder.path(), "\"tokens\":[[").await;
    postgres.stop().await;
    // However short a while the database has been away.
    let unknown = server.admin.with_token("a token that nobody here knows");
    assert_eq!(unknown.get("/sdk/latest-all").await.expect(503)["code"], "unconfirmed");
    server.kill().await;

    let elsewhere = Folder::new();
    let server = Server::spawn(elsewhere.path(), Some(&postgres.url), &[]).await;
    let sdk = server.admin.with_token(&token);
    for path in ROUTES {
        let early = sdk.get(path).await;
        assert!(early.header("retry-after").parse::<u32>().is_ok(), "{path}");
        early.expect(503);
    }
    // One that has kept what it served knows the SDK and serves it, without the database.
    let kept = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let known = kept.admin.with_token(&token);
    let all = known.get("/sdk/latest-all").await.expect(200);
    assert_eq!(all["flags"]["f"]["key"], "f");
    // One that it does not know may have been created meanwhile.
    let unknown = kept.admin.with_token("a token that nobody here knows");
    assert_eq!(unknown.get("/sdk/latest-all").await.expect(503)["code"], "unconfirmed");
    for path in ["/bulk", "/mobile/events/bulk", "/events/bulk/nobody"] {
        assert_eq!(unknown.post(path, json!([])).await.expect(503)["code"], "unconfirmed");
    }
    for path in ["/msdk/evalx/contexts/eA", "/sdk/evalx/nobody/contexts/eA"] {
        assert_eq!(unknown.get(path).await.expect(503)["code"], "unconfirmed", "{path}");
    }
    unknown.evaluate("f", json!({})).await.expect(503);
    postgres.resume().await;
    eventually("the database is back", || async {
        unknown.get("/sdk/latest-all").await.status == 401
            && sdk.get("/sdk/latest-all").await.status == 200
    })
    .await;
}

#[tokio::test]
async fn a_token_that_another_replica_has_just_made_is_not_refused() {
    let database = Database::create().await;
    let (one, other) = (Folder::new(), Folder::new());
    let makes = Server::start_on(one.path(), Some(&database.url), &[]).await;
    environment(&makes).await;
    // Hears of changes once a second only.
    let late = Server::start_on(other.path(), Some(&database.url), &["--test-no-listen"]).await;
    for _ in 0..3 {
        let made = makes.token("server", None).await;
        late.admin.with_token(&made.token).get("/sdk/latest-all").await.expect(200);
    }
    // SDKs that hear 401 stop reporting, and those of mobile applications stop for good.
    let made = makes.token("server", None).await.token;
    late.admin.with_token(&made).post("/bulk", json!([])).await.expect(202);
    let made = makes.token("client", None).await.token;
    late.admin.post(&format!("/events/bulk/{made}"), json!([])).await.expect(202);
    let made = makes.token("client", None).await.token;
    let context = "eyJrZXkiOiJhIn0";
    late.admin.get(&format!("/sdk/evalx/{made}/contexts/{context}")).await.expect(200);
    let made = makes.token("mobile", None).await.token;
    let mobile = late.admin.with_token(&made);
    mobile.get(&format!("/msdk/evalx/contexts/{context}")).await.expect(200);
    let made = makes.token("server", None).await.token;
    let ofrep = late.admin.with_token(&made);
    ofrep.post("/ofrep/v1/evaluate/flags", json!({})).await.expect(200);
}
