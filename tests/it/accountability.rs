//! The audit log's chain, requests with a key, what keeps environments safe, tokens that end, and earlier versions of flags.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
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
async fn what_is_done_to_the_log_in_the_database_is_found_and_named() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("f").await;
        let head = head(&server).await;
        let of = if backend == Backend::Postgres { " on audit" } else { "" };
        let save = format!(
            "drop trigger audit_not_updated{of}; drop trigger audit_not_deleted{of};
            create table saved as select * from audit;"
        );
        server.run_sql(&save).await;
        assert_eq!(verified(&server, &head).await.findings, [""; 0]);
        for seq in 1..=head.seq {
            let next = if seq == head.seq { 1 } else { seq + 1 };
            let edits = [
                ("altered", format!("update audit set subject = 'x' where seq = {seq}")),
                (
                    "altered",
                    format!("update audit set at = '2020-01-01T00:00:00Z' where seq = {seq}"),
                ),
                ("altered", format!("update audit set changes = '[' where seq = {seq}")),
                ("altered", format!("update audit set actor = '\"\"' where seq = {seq}")),
                ("missing", format!("delete from audit where seq = {seq}")),
                (
                    "altered",
                    format!(
                        "update audit set seq = -1 where seq = {seq};
                    update audit set seq = {seq} where seq = {next};
                    update audit set seq = {next} where seq = -1;"
                    ),
                ),
            ];
            for (word, edit) in edits {
                server.run_sql(&edit).await;
                let findings = verified(&server, &head).await.findings;
                let is_named =
                    |finding: &String| finding.contains(word) && finding.contains(&seq.to_string());
                assert!(findings.iter().any(is_named), "{edit}: {findings:?}");
                server.admin.get("/api/v1/audit?limit=500").await.expect(200);
                server.run_sql("delete from audit; insert into audit select * from saved").await;
            }
        }
        assert_eq!(verified(&server, &head).await.findings, [""; 0]);
    }
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_is_shown_as_it_is_and_hides_no_other() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("f").await;
        let n = entries(&server, "").await.len();
        let export = server.admin.get("/api/v1/audit/export").await.text;
        let of = if backend == Backend::Postgres { " on audit" } else { "" };
        server.run_sql(&format!("drop trigger audit_not_updated{of}")).await;
        let last = "(select max(seq) from audit)";
        let edit = format!("update audit set changes = 'gone', actor = '[]' where seq = {last}");
        server.run_sql(&edit).await;
        let now = entries(&server, "").await;
        assert_eq!(now.len(), n);
        assert_eq!(now[0]["unreadable"], json!(["actor", "changes"]));
        assert_eq!(
            (&now[0]["changes"], &now[0]["actor"]["name"]),
            (&json!(["gone"]), &json!("[]"))
        );
        let history = server.admin.get(&format!("{FLAG}/history")).await.expect(200);
        assert!(history.to_string().contains("gone"), "{history}");
        if backend == Backend::Sqlite {
            // Only here can a time be no time.
            let edit = format!("update audit set at = 'never' where seq = {last}");
            server.run_sql(&edit).await;
            let now = entries(&server, "").await;
            assert_eq!(now[0]["unreadable"], json!(["at", "actor", "changes"]));
        }
        // The command line says so by its status, too.
        let damaged = server.admin.get("/api/v1/audit/export").await.text;
        assert_eq!(damaged.lines().count(), export.lines().count());
        let folder = Folder::new();
        for (text, status) in [(export, 0), (damaged, 1)] {
            let file = folder.path().join("audit.jsonl");
            std::fs::write(&file, text).unwrap();
            let verify = command().args(["audit", "verify"]).arg(&file).output().await.unwrap();
            let said = String::from_utf8_lossy(&verify.stdout).into_owned();
            assert_eq!(verify.status.code(), Some(status), "{said}");
            assert_eq!(said.contains("was altered"), status == 1, "{said}");
        }
    }
}

#[tokio::test]
async fn an_environment_s_log_has_what_was_done_to_it_among_others_and_nothing_of_those() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        let project = "/api/v1/projects/shop";
        let key = json!({"key": "staging"});
        admin.post(&format!("{project}/environments"), key).await.expect(201);
        for flag in ["f", "g"] {
            server.flag(flag).await;
        }
        let segment = json!({"key": "hidden"});
        admin.post(&format!("{project}/environments/staging/segments"), segment).await.expect(201);
        let on = |flag: &str, env: &str| json!({"flag": flag, "environment": env, "instructions": [{"kind": "turnFlagOn"}]});
        let hidden = json!({"segment": "hidden", "environment": "staging",
            "instructions": [{"kind": "addIncludedTargets", "values": ["u"]}]});
        let changes = format!("{project}/changes");
        let both = json!({"comment": "launch",
            "changes": [on("f", "production"), on("g", "staging"), hidden]});
        admin.post(&changes, both).await.expect(200);
        // This one is of staging alone, in two parts.
        let other = json!({"changes": [on("f", "staging")]});
        admin.post(&changes, other).await.expect(200);
        let name = json!({"instructions": [{"kind": "updateName", "value": "Renamed"}]});
        admin.patch(&format!("{project}/flags/g"), name).await.expect(200);

        let viewer = server.token("admin", Some("viewer")).await;
        let log = async |query: &str| {
            let path = format!("{ENVIRONMENT}/audit?limit=500{query}");
            let list = viewer.get(&path).await.expect(200);
            assert!(!list.to_string().contains("staging"), "{list}");
            assert!(!list.to_string().contains("hidden"), "{list}");
            list["items"].as_array().unwrap().clone()
        };
        let found = log("&action=project.change").await;
        assert_eq!(found.len(), 1, "{found:?}");
        let entry = &found[0];
        assert_eq!((&entry["subject"], &entry["comment"]), (&json!("f"), &json!("launch")));
        assert_eq!(entry["actor"]["id"], "configured");
        assert!(entry.get("instructions").is_none(), "{entry}");
        let flag = admin.get(FLAG).await.expect(200);
        let version = entry["version"].as_i64().unwrap();
        assert_eq!(flag["version"], version);
        let renamed = log("&action=flag.update").await;
        assert!(renamed[0].to_string().contains("Renamed"), "{renamed:?}");
        // What is not told cannot be looked for either.
        for (query, n) in [
            ("&action=project.change&flag=f", 1),
            ("&action=project.change&flag=g", 0),
            ("&text=hidden", 0),
            ("&text=staging", 0),
            ("&text=launch", 1),
            ("&text=Renamed", 1),
        ] {
            assert_eq!(log(query).await.len(), n, "{query}");
        }
        let told = admin.get(&format!("{project}/audit?action=project.change")).await.expect(200);
        assert!(told.to_string().contains("hidden"), "{told}");
        // Page by page it is the same.
        let all = log("").await;
        let (mut paged, mut before) = (Vec::new(), String::new());
        loop {
            let path = format!("{ENVIRONMENT}/audit?limit=2{before}");
            let page = viewer.get(&path).await.expect(200);
            paged.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next"].as_str() else { break };
            before = format!("&before={next}");
        }
        assert_eq!(paged, all);
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
async fn a_request_that_lacked_a_header_is_made_with_it_under_the_same_key() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        let admin = &server.admin;
        let settings = json!({"requireComment": true, "requireIfMatch": true});
        admin.patch(ENVIRONMENT, settings).await.expect(200);
        let on = json!({"instructions": [{"kind": "turnFlagOn"}]});
        let send = async |headers: &[(&str, &str)]| {
            let mut request = admin.request(Method::PATCH, FLAG).header("Idempotency-Key", "k");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            admin.send(request.json(&on)).await
        };
        let etag = admin.get(FLAG).await.header("etag").to_owned();
        assert_eq!(send(&[]).await.expect(422)["code"], "comment_required");
        let comment = ("Vexil-Comment", "why");
        assert_eq!(send(&[comment]).await.expect(428)["code"], "if_match_required");
        assert_eq!(send(&[comment, ("If-Match", "\"1\"")]).await.expect(412)["code"], "outdated");
        let made = send(&[comment, ("If-Match", &etag)]).await;
        assert_eq!((made.status, made.header("idempotency-replayed")), (200, ""), "{}", made.text);
        let again = send(&[comment, ("If-Match", &etag)]).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (200, "true"));
        // What was decided is of the request with these headers.
        for other in [&[comment][..], &[("Vexil-Comment", "else"), ("If-Match", &etag)]] {
            assert_eq!(send(other).await.expect(422)["code"], "idempotency_key_reused");
        }
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_in_a_crash_is_not_made_again() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        let admin = &server.admin;
        let add = json!({"instructions": [{"kind": "addRule", "variation": "on", "clauses":
            [{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]}]});
        keyed(admin, Method::PATCH, FLAG, "k", &add).await.expect(200);
        // As a process leaves it that ends between the commit and its answer, and longer ago than a request may take.
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1);
        server
            .run_sql(&format!("update idempotency set answer = null, claimed_at = '{then}'"))
            .await;
        let again = keyed(admin, Method::PATCH, FLAG, "k", &add).await;
        assert_eq!(again.header("idempotency-replayed"), "true");
        let again = again.expect(200);
        let entry = entries(&server, "&action=flag.change").await;
        assert_eq!(entry.len(), 1);
        assert_eq!(again["auditId"], entry[0]["id"], "{again}");
        let flag = admin.get(FLAG).await.expect(200);
        assert_eq!(flag["rules"].as_array().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_claim_that_a_crash_left_behind_before_any_change_is_taken_over() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        let admin = &server.admin;
        let on = json!({"instructions": [{"kind": "turnFlagOn"}]});
        keyed(admin, Method::PATCH, FLAG, "k", &on).await.expect(200);
        admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
        let then = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(1);
        let left =
            format!("update idempotency set answer = null, audit_id = null, claimed_at = '{then}'");
        server.run_sql(&left).await;
        let again = keyed(admin, Method::PATCH, FLAG, "k", &on).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (200, ""));
        assert_eq!(again.expect(200)["changes"], json!(["turned the flag on"]));
    }
}

#[tokio::test]
async fn after_a_day_a_key_can_be_used_for_another_request() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        let flags = "/api/v1/projects/shop/flags";
        let body = |key: &str| json!({"key": key, "kind": "boolean"});
        let age = async |hours: i64| {
            let then = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(hours);
            server.run_sql(&format!("update idempotency set claimed_at = '{then}'")).await;
        };
        keyed(admin, Method::POST, flags, "k", &body("f")).await.expect(201);
        age(23).await;
        let again = keyed(admin, Method::POST, flags, "k", &body("f")).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (201, "true"));
        keyed(admin, Method::POST, flags, "k", &body("g")).await.expect(422);
        age(25).await;
        let other = keyed(admin, Method::POST, flags, "k", &body("g")).await;
        assert_eq!((other.status, other.header("idempotency-replayed")), (201, ""));
        // The first request is another one by now, and is not made again either.
        keyed(admin, Method::POST, flags, "k", &body("f")).await.expect(422);
    }
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
    for bad in [String::new(), "x".repeat(256), "two words".to_owned()] {
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
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(8);
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
        server.flag("top").await;
        let needs = json!([{"kind": "addPrerequisite", "key": "f", "variation": "on"}]);
        admin.change("top", needs).await.expect(200);
        let clear = json!([{"kind": "updateFallthroughVariationOrRollout", "variation": "off"}]);
        admin.change("f", clear).await.expect(200);

        let revert = format!("{FLAG}/revert");
        let back = json!({"version": version, "comment": "back"});
        let dry = admin.post(&format!("{revert}?dryRun=true"), back.clone()).await.expect(200);
        assert_eq!(dry["flag"]["fallthrough"], wanted["flag"]["fallthrough"]);
        let paths = dry["diff"].as_array().unwrap().iter().map(|each| each["path"].as_str());
        let paths: Vec<&str> = paths.map(Option::unwrap).collect();
        assert!(paths.contains(&"fallthrough") && paths.contains(&"ruleOrder"), "{dry}");
        assert_eq!(dry["dependants"], json!([{"environment": "production", "flag": "top"}]));
        let again = json!({"version": with_rule});
        let again = admin.post(&format!("{revert}?dryRun=true"), again).await.expect(200);
        let needs = json!([{"environment": "production", "segment": "s"}]);
        assert_eq!((&again["dependsOn"], &again["warnings"]), (&needs, &json!([])));
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
async fn a_segment_that_is_replaced_is_recorded_as_one_that_is_changed_by_instructions() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        let segments = format!("{ENVIRONMENT}/segments");
        let first = json!({"key": "s", "included": ["u1", "u2"]});
        admin.post(&segments, first).await.expect(201);
        let path = format!("{segments}/s");
        let second = json!({"name": "S", "included": ["u2", "u3"], "rules": [{"id": "r"}]});
        let dry = admin.put(&format!("{path}?dryRun=true"), second.clone()).await.expect(200);
        admin.put(&path, second).await.expect(200);
        let entry = entries(&server, "&action=segment.update").await[0].clone();
        let users =
            |kind: &str, key: &str| json!({"kind": kind, "contextKind": "user", "values": [key]});
        let instructions = json!([
            {"kind": "updateName", "value": "S"},
            users("removeIncludedTargets", "u1"),
            users("addIncludedTargets", "u3"),
            {"kind": "addRule", "id": "r", "clauses": []},
        ]);
        assert_eq!(entry["instructions"], instructions);
        let words = json!([
            "replaced the segment `s`",
            "renamed the segment to `S`",
            "removed 1 user key(s) from those who are in",
            "added 1 user key(s) to those who are in",
            "added a rule at position 1",
        ]);
        assert_eq!((&entry["changes"], &dry["changes"]), (&words, &words));
        let found = admin.get(&path).await.expect(200);
        // What is recorded can be sent.
        admin.put(&path, json!({"name": "s", "included": ["u1", "u2"]})).await.expect(200);
        let sent = json!({"instructions": entry["instructions"]});
        let again = admin.patch(&path, sent).await.expect(200)["segment"].clone();
        for field in ["name", "included", "rules"] {
            assert_eq!(again[field], found[field], "{field}");
        }
        let head = head(&server).await;
        assert_eq!(verified(&server, &head).await.findings, [""; 0]);
    }
}

#[tokio::test]
async fn a_segment_that_is_put_back_as_it_was_got_stays_as_it_is() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        let segments = format!("{ENVIRONMENT}/segments");
        let clause = |value| json!({"attribute": "plan", "op": "in", "values": [value]});
        let rule = json!({"clauses": [clause("gold"), clause("silver")], "weight": 1_000});
        let new = json!({"key": "s", "included": ["u2", "u1"], "rules": [rule]});
        admin.post(&segments, new).await.expect(201);
        let path = format!("{segments}/s");
        let found = admin.get(&path).await.expect(200);
        assert_eq!(found["rules"][0]["clauses"][1]["id"], "clause-2");
        let mut body = found.clone();
        for field in ["salt", "version", "createdAt", "changedAt"] {
            body.as_object_mut().unwrap().remove(field);
        }
        assert_eq!(admin.put(&path, body).await.expect(200), found);
        assert_eq!(admin.get(&path).await.expect(200), found);
        assert_eq!(entries(&server, "&action=segment.update").await, [Value::Null; 0]);
    }
}

#[tokio::test]
async fn a_segment_that_was_imported_or_applied_stays_as_it_is_when_it_is_put_back() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        let environments = "/api/v1/projects/shop/environments";
        let imported = json!({"key": "imported", "serverSdk": "launchdarkly"});
        admin.post(environments, imported).await.expect(201);
        let clause = json!({"attribute": "plan", "op": "in", "values": ["gold"]});
        let share = json!({"weight": 1_000, "bucketBy": "key", "clauses": [clause]});
        let org = |key: &str| json!({"contextKind": "org", "values": [key]});
        let fields = |rules: Value| {
            json!({"key": "s", "salt": "x", "included": ["u", "u"],
                "includedContexts": [org("a"), org("b")], "rules": rules})
        };
        let file = json!({"segments": {"s": fields(json!([share, {"clauses": [clause]}]))}});
        let import = format!("{environments}/imported/import/launchdarkly");
        admin.post(&import, file).await.expect(200);
        let mut unnamed = share.clone();
        unnamed["id"] = json!("");
        let mut applied = fields(json!([unnamed, {"clauses": [clause]}]));
        applied.as_object_mut().unwrap().remove("key");
        let state = json!({"format": "vexil/1", "segments": {"production": {"s": applied}}});
        admin.post("/api/v1/projects/shop/apply", json!({"state": state})).await.expect(200);
        for env in ["imported", "production"] {
            let path = format!("{environments}/{env}/segments/s");
            let found = admin.get(&path).await.expect(200);
            let mut body = found.clone();
            for field in ["salt", "version", "createdAt", "changedAt"] {
                body.as_object_mut().unwrap().remove(field);
            }
            assert_eq!(admin.put(&path, body.clone()).await.expect(200), found, "{env}");
            let share = json!({"kind": "updateRuleRolloutAndContextKind", "weight": 1_000,
                "ruleId": found["rules"][0]["id"], "bucketBy": "key", "rolloutContextKind": "user"});
            let same = json!({"instructions": [share]});
            assert_eq!(admin.patch(&path, same).await.expect(200)["changes"], json!([]), "{env}");
            assert_eq!(admin.get(&path).await.expect(200), found);
            assert_eq!(entries(&server, "&action=segment.update").await, [Value::Null; 0]);
            // The dry run of another name tells nothing else.
            body["name"] = json!("S");
            let dry = admin.put(&format!("{path}?dryRun=true"), body).await.expect(200);
            let paths = dry["diff"].as_array().unwrap().iter().map(|each| &each["path"]);
            assert_eq!(paths.collect::<Vec<_>>(), ["name"], "{dry}");
        }
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

#[tokio::test]
async fn a_definition_needs_a_comment_if_any_environment_that_sees_it_does() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    for key in ["f", "g"] {
        server.flag(key).await;
    }
    admin.patch(ENVIRONMENT, json!({"requireComment": true})).await.expect(200);
    let path = "/api/v1/projects/shop/flags/f";
    let archive = |comment: Option<&str>| json!({"comment": comment, "instructions": [{"kind": "archiveFlag"}]});
    let refused = admin.patch(path, archive(None)).await.expect(422);
    assert_eq!(refused["code"], "comment_required");
    assert!(refused["detail"].as_str().unwrap().contains("`production`"), "{refused}");
    let new = json!({"key": "new", "kind": "boolean"});
    admin.post("/api/v1/projects/shop/flags", new).await.expect(422);
    admin.delete(path).await.expect(422);
    let many = json!({"changes": [{"flag": "f", "instructions": [{"kind": "archiveFlag"}]}]});
    let refused = admin.post("/api/v1/projects/shop/changes", many).await.expect(422);
    assert_eq!(refused["code"], "comment_required");
    admin.patch(&format!("{path}?dryRun=true"), archive(None)).await.expect(200);
    admin.patch(path, archive(Some("everybody has it"))).await.expect(200);
    let request = admin.request(Method::DELETE, path).header("Vexil-Comment", "gone");
    admin.send(request).await.expect(204);
    admin.post("/kill/g", json!({})).await.expect(200);
}
