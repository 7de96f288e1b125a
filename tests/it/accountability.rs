//! The audit log's chain, requests with a key, what keeps environments safe, tokens that end, and earlier versions of flags.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::run_sql_fails;
use crate::lab::kept;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use vexil::auth::is_signed;
use vexil::model::audit::SignedHead;
use vexil::model::audit::Verdict;
use vexil::model::audit::Verifier;

const ENVIRONMENT: &str = "/api/v1/projects/shop/environments/production";
const TOKENS: &str = "/api/v1/projects/shop/environments/production/tokens";
const FLAG: &str = "/api/v1/projects/shop/environments/production/flags/f";

async fn head(server: &Server) -> SignedHead {
    let head = server.admin.get("/api/v1/audit/head").await.expect(200);
    serde_json::from_value(head).unwrap()
}

async fn verified(server: &Server, head: &SignedHead) -> Verdict {
    let export = server.admin.get("/api/v1/audit/export").await;
    assert_eq!((export.status, export.header("content-type")), (200, "application/x-ndjson"));
    let mut verifier = Verifier::new(Some(head.seq));
    export.text.lines().for_each(|line| verifier.read(line));
    verifier.finish(Some(head))
}

/// Sends a request with a key.
async fn keyed(
    client: &Client,
    method: Method,
    path: &str,
    key: &str,
    body: &Value,
) -> crate::harness::Answer {
    let request = client.request(method, path).header("Idempotency-Key", key).json(body);
    client.send(request).await
}

async fn entries(server: &Server, query: &str) -> Vec<Value> {
    let list = server.admin.get(&format!("/api/v1/audit?limit=500{query}")).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn concurrent_changes_make_one_chain() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        for env in ["a", "b", "c"] {
            let body = json!({"key": env});
            server.admin.post("/api/v1/projects/shop/environments", body).await.expect(201);
        }
        let flags: Vec<String> = (0..30).map(|i| format!("f{i}")).collect();
        join_all(flags[..4].iter().map(|flag| server.flag(flag))).await;
        let changes = (0..40).map(|i| {
            let env = ["a", "b", "c", "production"][i % 4];
            let path = format!("/api/v1/projects/shop/environments/{env}/flags/f{}", i / 4 % 4);
            let kind = if i < 16 { "turnFlagOn" } else { "turnFlagOff" };
            let (admin, body) = (server.admin.clone(), json!({"instructions": [{"kind": kind}]}));
            async move { admin.patch(&path, body).await.expect(200) }
        });
        join_all(changes).await;
        let head = head(&server).await;
        assert!(is_signed(&head));
        let verdict = verified(&server, &head).await;
        assert_eq!(verdict.findings, [""; 0]);
        assert_eq!(verdict.seq, head.seq);
        assert!(head.seq > 20, "{head:?}");
    }
}

#[tokio::test]
async fn the_database_itself_refuses_to_change_the_log() {
    let server = Server::start(Backend::Postgres).await;
    server.with_environment().await;
    let url = server.database_url();
    for sql in [
        "update audit set subject = 'other' where seq = 1",
        "delete from audit where seq = 1",
        "truncate audit",
    ] {
        assert!(run_sql_fails(url, sql).await.contains("only appended"), "{sql}");
    }
}

#[tokio::test]
async fn entries_are_found_by_what_they_say() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("f").await;
        server.flag("g_").await;
        let editor = server.token("admin", Some("editor")).await;
        let body = json!({"comment": "100% Ärger", "instructions": [{"kind": "turnFlagOff"}]});
        editor.patch(FLAG, body).await.expect(200);
        server.admin.post("/kill/f", json!({})).await.expect(200);
        let n = async |query: &str| entries(&server, query).await.len();
        assert_eq!(n("&flag=f").await, 4);
        assert_eq!(n("&flag=g_").await, 1);
        assert_eq!(n("&flag=gx").await, 0);
        assert_eq!(n("&action=flag.kill").await, 1);
        assert_eq!(n("&action=flag.").await, 5);
        assert_eq!(n("&actor=test").await, 1);
        assert_eq!(n("&actor=configured&action=flag.change").await, 1);
        assert_eq!(n("&text=100%25").await, 1);
        assert_eq!(n("&text=Ärger").await, 1);
        assert_eq!(n("&text=%25%20Ä").await, 1);
        assert_eq!(n("&text=TURNED%20THE%20FLAG%20OFF").await, 1);
        let all = entries(&server, "").await;
        let third = all[2]["at"].as_str().unwrap();
        assert_eq!(n(&format!("&since={third}")).await, 3);
        assert_eq!(n(&format!("&until={third}")).await, all.len() - 3);
        assert_eq!(all[0]["address"], "127.0.0.1");
        for bad in ["since=yesterday", "until=", "limit=0", "text=%00", "colour=red"] {
            assert_eq!(
                server.admin.get(&format!("/api/v1/audit?{bad}")).await.status,
                400,
                "{bad}"
            );
        }
    }
}

#[tokio::test]
async fn twenty_equal_requests_make_one_change_and_get_one_answer() {
    let started = tokio::time::Instant::now();
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        let add = json!({"instructions": [{"kind": "addRule", "variation": "on", "clauses":
            [{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]}]});
        let path = format!("{FLAG}?wait=applied");
        let asked = (0..20).map(|_| keyed(&server.admin, Method::PATCH, &path, "one", &add));
        let answers = join_all(asked).await;
        let first = &answers[0];
        assert_eq!(first.status, 200, "{}", first.text);
        for answer in &answers {
            assert_eq!((answer.status, &answer.text), (200, &first.text));
            assert_eq!(answer.header("etag"), first.header("etag"));
        }
        let n_replayed =
            answers.iter().filter(|each| each.header("idempotency-replayed") == "true");
        assert_eq!(n_replayed.count(), 19);
        let flag = server.admin.get(FLAG).await.expect(200);
        assert_eq!(flag["rules"].as_array().unwrap().len(), 1);
        assert_eq!(entries(&server, "&action=flag.change").await.len(), 1);

        let token = json!({"name": "secret", "kind": "server"});
        let made = (0..20).map(|_| keyed(&server.admin, Method::POST, TOKENS, "two", &token));
        let made = join_all(made).await;
        assert!(made.iter().all(|each| each.status == 201 && each.text == made[0].text));
        assert_eq!(entries(&server, "&action=token.create&text=secret").await.len(), 1);

        let empty = json!({});
        let kills = (0..5).map(|_| keyed(&server.admin, Method::POST, "/kill/f", "three", &empty));
        let kills = join_all(kills).await;
        assert!(kills.iter().all(|each| each.status == 200 && each.text == kills[0].text));
        assert!(kills.iter().all(|each| !each.header("vexil-version").is_empty()));
    }
    let what = "the same request with the same `Idempotency-Key` 20 times in parallel, both stores: a change that waits for all replicas, and a new token";
    let found =
        "one change and one audit entry, twenty equal answers, 19 of them marked as replayed";
    kept("a request that is repeated is done once", what, started, found);
}

#[tokio::test]
async fn equal_requests_to_two_replicas_make_one_change_and_get_one_answer() {
    let started = tokio::time::Instant::now();
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    first.with_environment().await;
    first.flag("f").await;
    let second = Server::start_on(folders[1].path(), Some(&database.url), &[]).await;
    let add = json!({"instructions": [{"kind": "addRule", "variation": "on", "clauses":
        [{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]}]});
    for round in 0..5 {
        let key = format!("round-{round}");
        let both = [&first.admin, &second.admin];
        let asked = (0..20).map(|i| keyed(both[i % 2], Method::PATCH, FLAG, &key, &add));
        let answers = join_all(asked).await;
        assert_eq!(answers[0].status, 200, "{}", answers[0].text);
        assert!(answers.iter().all(|each| each.text == answers[0].text && each.status == 200));
        let flag = second.admin.get(FLAG).await.expect(200);
        assert_eq!(flag["rules"].as_array().unwrap().len(), round + 1);
        assert_eq!(entries(&first, "&action=flag.change").await.len(), round + 1);
    }
    let what = "20 times in parallel to two replicas in turn, five times over";
    let found = "one change and one audit entry each time, twenty equal answers";
    kept("a request that is repeated at another replica is done once", what, started, found);
}

#[tokio::test]
async fn a_key_is_of_one_request_and_of_one_token() {
    let server = Server::start(Backend::Postgres).await;
    server.with_environment().await;
    let admin = &server.admin;
    let flags = "/api/v1/projects/shop/flags";
    let body = json!({"key": "f", "kind": "boolean"});
    keyed(admin, Method::POST, flags, "k", &body).await.expect(201);
    let other = json!({"key": "g", "kind": "boolean"});
    for (method, path, body) in [
        (Method::POST, flags.to_owned(), &other),
        (Method::POST, format!("{flags}?x=1"), &body),
        (Method::PATCH, FLAG.to_owned(), &body),
    ] {
        let refused = keyed(admin, method, &path, "k", body).await.expect(422);
        assert_eq!(refused["code"], "idempotency_key_reused");
    }
    let editor =
        admin.post("/api/v1/tokens", json!({"name": "e", "role": "editor"})).await.expect(201);
    let editor = admin.with_token(editor["token"].as_str().unwrap());
    // Another token's key is another key: the flag is there already.
    let refused = keyed(&editor, Method::POST, flags, "k", &body).await;
    assert_eq!((refused.status, refused.header("idempotency-replayed")), (409, ""));
    let again = keyed(&editor, Method::POST, flags, "k", &body).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (409, "true"));
    assert_eq!(again.text, refused.text);
    assert_eq!(again.header("content-type"), "application/problem+json");
    // A dry run is a request as well, and reading is none.
    let dry = format!("{FLAG}?dryRun=true");
    let on = json!({"instructions": [{"kind": "turnFlagOn"}]});
    keyed(admin, Method::PATCH, &dry, "dry", &on).await.expect(200);
    keyed(admin, Method::PATCH, FLAG, "dry", &on).await.expect(422);
    keyed(admin, Method::GET, flags, "k", &json!({})).await.expect(200);
    for bad in [String::new(), "x".repeat(256)] {
        let refused = keyed(admin, Method::POST, flags, &bad, &other).await.expect(400);
        assert_eq!(refused["code"], "invalid_idempotency_key");
    }
    keyed(&admin.with_token("nobody's token"), Method::POST, flags, "k", &body).await.expect(401);
}

#[tokio::test]
async fn comments_and_versions_are_required_but_never_in_an_emergency() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let admin = &server.admin;
    let settings = json!({"requireComment": true, "requireIfMatch": true});
    let environment = admin.patch(ENVIRONMENT, settings).await.expect(200);
    assert_eq!(environment["requireComment"], true);
    let on = json!([{"kind": "turnFlagOn"}]);
    assert_eq!(admin.change("f", on.clone()).await.expect(422)["code"], "comment_required");
    let body = json!({"comment": "why", "instructions": on});
    assert_eq!(admin.patch(FLAG, body.clone()).await.expect(428)["code"], "if_match_required");
    let etag = admin.get(FLAG).await.header("etag").to_owned();
    let send = async |etag: &str| {
        admin.send(admin.request(Method::PATCH, FLAG).header("If-Match", etag).json(&body)).await
    };
    send("\"1\"").await.expect(412);
    send(&etag).await.expect(200);
    admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    admin.post("/kill/f", json!({})).await.expect(200);
    admin.post("/restore/f", json!({})).await.expect(200);
    // Where the body has no place for it, a header has.
    let segments = format!("{ENVIRONMENT}/segments");
    admin.post(&segments, json!({"key": "s"})).await.expect(422);
    let request = admin.request(Method::POST, &segments).header("Vexil-Comment", "weil");
    admin.send(request.json(&json!({"key": "s"}))).await.expect(201);
    assert_eq!(entries(&server, "&action=segment.create").await[0]["comment"], "weil");
    let none = json!({"requireComment": false, "requireIfMatch": false});
    admin.patch(ENVIRONMENT, none).await.expect(200);
    admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
}

#[tokio::test]
async fn an_expired_token_is_refused_and_its_streams_end() {
    let server = Server::start(Backend::Postgres).await;
    server.with_environment().await;
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(3);
    let body = json!({"name": "short", "kind": "server", "expiresAt": soon.to_string()});
    let made = server.admin.post(TOKENS, body).await.expect(201);
    let short = server.admin.with_token(made["token"].as_str().unwrap());
    let mut events = Events::open(&short, None).await;
    while events.event().await.is_some() {}
    assert_eq!(short.get("/api/v1/stream").await.expect(401)["code"], "token_expired");
}

#[tokio::test]
async fn personal_tokens_end_within_a_year() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let after = |days: i64| {
        let hours = jiff::SignedDuration::from_hours(24 * days);
        (jiff::Timestamp::now() + hours).to_string()
    };
    let of = |holder: &str, expires_at: Option<String>| json!({"name": "t", "role": "viewer", "holder": holder, "expiresAt": expires_at});
    let make = async |body: Value| server.admin.post("/api/v1/tokens", body).await;
    let made = make(of("personal", Some(after(300)))).await.expect(201);
    assert_eq!(made["holder"], "personal");
    for (holder, expires_at) in [
        ("personal", None),
        ("personal", Some(after(400))),
        ("personal", Some(after(-1))),
        ("service", Some(after(-1))),
        ("service", Some("tomorrow".to_owned())),
        ("robot", None),
    ] {
        let refused = make(of(holder, expires_at)).await.expect(422);
        let path = if holder == "robot" { "holder" } else { "expiresAt" };
        assert_eq!(refused["errors"][0]["path"], path, "{refused}");
    }
    make(of("service", Some(after(800)))).await.expect(201);
    make(of("service", None)).await.expect(201);
    let own = json!({"name": "t", "kind": "server", "holder": "service"});
    server.admin.post(TOKENS, own).await.expect(422);
}

#[tokio::test]
async fn both_secrets_work_until_the_overlap_ends() {
    let server = Server::start(Backend::Postgres).await;
    let old = server.with_environment().await;
    server.flag_on("f").await;
    let listed = server.admin.get(TOKENS).await.expect(200);
    let token = format!("{TOKENS}/{}", listed["items"][0]["id"].as_str().unwrap());
    let rotated = server.admin.post(&format!("{token}/rotate"), json!({})).await.expect(200);
    let new = server.admin.with_token(rotated["token"].as_str().unwrap());
    assert_eq!(rotated["id"], listed["items"][0]["id"]);
    for client in [&old, &new] {
        assert_eq!(client.value("f", json!({})).await, true);
    }
    assert!(server.admin.get(TOKENS).await.body["items"][0]["previous"]["expiresAt"].is_string());
    let rotate = json!({"overlapSecs": 0});
    let again = server.admin.post(&format!("{token}/rotate"), rotate).await.expect(200);
    let newest = server.admin.with_token(again["token"].as_str().unwrap());
    assert_eq!(newest.value("f", json!({})).await, true);
    for client in [&old, &new] {
        assert_eq!(client.evaluate("f", json!({})).await.status, 401);
    }
    let too_long = json!({"overlapSecs": 2_592_001});
    server.admin.post(&format!("{token}/rotate"), too_long).await.expect(422);
    server.admin.delete(&token).await.expect(204);
    assert_eq!(newest.evaluate("f", json!({})).await.status, 401);
    assert_eq!(entries(&server, "&action=token.rotate").await.len(), 2);
}

#[tokio::test]
async fn a_flag_goes_back_to_an_earlier_version() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        server.flag_on("f").await;
        let rollout = json!([{"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"on": 25_000, "off": 75_000}}]);
        let wanted = admin.change("f", rollout).await.expect(200);
        let version = wanted["version"].as_i64().unwrap();
        let segments = format!("{ENVIRONMENT}/segments");
        admin.post(&segments, json!({"key": "s"})).await.expect(201);
        let rule = json!([{"kind": "addRule", "variation": "on", "clauses":
            [{"attribute": "segmentMatch", "op": "segmentMatch", "values": ["s"]}]}]);
        let with_rule = admin.change("f", rule).await.expect(200)["version"].clone();
        let clear = json!([{"kind": "updateFallthroughVariationOrRollout", "variation": "off"}]);
        admin.change("f", clear).await.expect(200);

        let revert = format!("{FLAG}/revert");
        let back = json!({"version": version, "comment": "back"});
        let dry = admin.post(&format!("{revert}?dryRun=true"), back.clone()).await.expect(200);
        assert_eq!(dry["flag"]["fallthrough"], wanted["flag"]["fallthrough"]);
        let before = admin.get(FLAG).await.expect(200);
        assert_eq!(before["rules"].as_array().unwrap().len(), 1, "a dry run changes nothing");
        let done = admin.post(&revert, back.clone()).await.expect(200);
        assert_eq!(done["flag"]["fallthrough"], wanted["flag"]["fallthrough"]);
        assert_eq!(done["flag"]["rules"], json!([]));
        assert_eq!(done["version"].as_i64().unwrap(), before["version"].as_i64().unwrap() + 1);
        assert_eq!(admin.post(&revert, back).await.expect(200)["changes"], json!([]));

        let history = admin.get(&format!("{FLAG}/history?limit=2")).await.expect(200);
        let latest = &history["items"][0];
        assert_eq!((&latest["version"], &latest["comment"]), (&done["version"], &json!("back")));
        assert_eq!(latest["action"], "flag.revert");
        let rest = format!("{FLAG}/history?before={}", history["next"]);
        assert_eq!(admin.get(&rest).await.expect(200)["items"].as_array().unwrap().len(), 4);

        admin.delete(&format!("{segments}/s")).await.expect(204);
        let gone = admin.post(&revert, json!({"version": with_rule})).await.expect(422);
        assert_eq!(gone["code"], "unknown_segment");
        admin.post(&revert, json!({"version": 999})).await.expect(404);
        for bad in [json!({}), json!({"version": 0}), json!({"version": 1, "x": 2})] {
            admin.post(&revert, bad).await.expect(422);
        }
        // A kill is a version as well.
        admin.post("/kill/f", json!({})).await.expect(200);
        let killed = admin.get(&format!("{FLAG}/history?limit=1")).await.expect(200);
        assert_eq!(killed["items"][0]["action"], "flag.kill");
    }
}

#[tokio::test]
async fn the_last_use_of_a_token_is_noted() {
    let folder = Folder::new();
    let mut server = Server::start_on(folder.path(), None, &[]).await;
    let backend = server.with_environment().await;
    let browser = server.token("client", None).await;
    let unused = server.token("server", None).await;
    for client in [&backend, &browser] {
        client.evaluate("f", json!({})).await.expect(404);
    }
    assert!(server.stop().await);
    let server = Server::start_on(folder.path(), None, &[]).await;
    let listed = server.admin.get(TOKENS).await.expect(200);
    let used: Vec<&Value> =
        listed["items"].as_array().unwrap().iter().map(|token| &token["lastUsedAt"]).collect();
    assert!(used[0].is_string(), "{listed}");
    assert!(used[1].as_str().unwrap().ends_with("T00:00:00Z"), "only the day of a browser's");
    assert!(used[2].is_null(), "{}", unused.token);
}
