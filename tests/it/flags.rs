//! Projects, environments, flags and segments through the admin API.

use crate::harness::Backend;
use crate::harness::Server;
use reqwest::Method;
use serde_json::json;

const ENV: &str = "/api/v1/projects/shop/environments/production";

async fn life_of_a_flag(backend: Backend) {
    let server = Server::start(backend).await;
    let client = server.with_environment().await;
    let admin = &server.admin;
    let body = json!({"key": "banner", "kind": "string", "name": "Banner", "tags": ["b", "a", "b"],
        "variations": [{"key": "red", "value": "#f00"}, {"key": "blue", "value": "#00f"}],
        "defaults": {"onVariation": "red", "offVariation": "blue"}});
    let created = admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    assert_eq!(created["tags"], json!(["a", "b"]));
    // An environment that comes later has the flag, too, and it is off there.
    admin.post("/api/v1/projects/shop/environments", json!({"key": "later"})).await.expect(201);
    let later = "/api/v1/projects/shop/environments/later/flags/banner";
    assert_eq!(admin.get(later).await.expect(200)["on"], false);
    assert_eq!(client.value("banner", json!({})).await, "#00f");

    let instructions = json!([
        {"kind": "turnFlagOn"},
        {"kind": "addTargets", "variation": "blue", "values": ["u-1", "u-2"]},
        {"kind": "addTargets", "variation": "red", "contextKind": "org", "values": ["acme"]},
        {"kind": "addRule", "description": "Alps", "variation": "blue", "clauses": [
            {"attribute": "country", "op": "in", "values": ["AT", "CH"]}]},
    ]);
    let changed = admin.change("banner", instructions).await.expect(200);
    assert_eq!(changed["changes"].as_array().unwrap().len(), 4);
    for (context, value) in [
        (json!({"targetingKey": "u-1"}), "#00f"),
        (json!({"targetingKey": "u-3"}), "#f00"),
        (json!({"targetingKey": "u-3", "country": "AT"}), "#00f"),
        (
            json!({"kind": "multi", "user": {"key": "u-3", "country": "AT"}, "org": {"key": "acme"}}),
            "#f00",
        ),
        (json!({"kind": "org", "key": "acme"}), "#f00"),
    ] {
        assert_eq!(client.value("banner", context.clone()).await, value, "{context}");
    }
    let rule = changed["flag"]["rules"][0]["id"].as_str().unwrap();
    let instructions = json!([
        {"kind": "removeTargets", "variation": "blue", "values": ["u-1"]},
        {"kind": "removeRule", "ruleId": rule},
    ]);
    admin.change("banner", instructions).await.expect(200);
    assert_eq!(
        client.value("banner", json!({"targetingKey": "u-1", "country": "AT"})).await,
        "#f00"
    );

    let patch = json!({"comment": "nicer", "instructions": [
        {"kind": "updateVariation", "variation": "red", "value": "#e00"},
        {"kind": "updateName", "value": "The banner"}]});
    let renamed = admin.patch("/api/v1/projects/shop/flags/banner", patch).await.expect(200);
    assert_eq!(renamed["flag"]["name"], "The banner");
    assert_eq!(client.value("banner", json!({})).await, "#e00");

    admin.delete("/api/v1/projects/shop/flags/banner").await.expect(204);
    assert_eq!(client.evaluate("banner", json!({})).await.status, 404);
    let again = json!({"key": "banner", "kind": "boolean"});
    let refused = admin.post("/api/v1/projects/shop/flags", again).await.expect(409);
    assert!(refused["detail"].as_str().unwrap().contains("never given to another"));
}

#[tokio::test]
async fn a_flag_lives_from_creation_to_deletion_on_sqlite() {
    life_of_a_flag(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_flag_lives_from_creation_to_deletion_on_postgres() {
    life_of_a_flag(Backend::Postgres).await;
}

#[tokio::test]
async fn what_is_so_already_makes_no_version() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag_on("f").await;
    let first = server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    assert_eq!(first["changes"], json!([]));
    let second = server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    assert_eq!(second["version"].as_i64(), first["version"].as_i64().map(|version| version + 1));
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let path = format!("{ENV}/flags/f");
    let before = server.admin.get(&path).await.text;
    let body = json!({"instructions": [{"kind": "turnFlagOn"},
        {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": {"on": 90_000, "off": 10_000}}]});
    let told = server.admin.patch(&format!("{path}?dryRun=true"), body.clone()).await.expect(200);
    assert_eq!(told["changes"].as_array().unwrap().len(), 2);
    assert_eq!(told["moved"]["moved"], 10_000);
    let previewed = told["flag"]["version"].clone();
    assert_eq!(server.admin.get(&path).await.expect(200)["version"], previewed);
    assert_eq!(server.admin.get(&path).await.text, before);
    assert_eq!(client.value("f", json!({})).await, false);
    let done = server.admin.patch(&path, body).await.expect(200);
    assert_eq!((&done["version"], &done["moved"]), (&told["version"], &told["moved"]));
}

#[tokio::test]
async fn an_outdated_copy_is_refused() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let path = format!("{ENV}/flags/f");
    let read = server.admin.get(&path).await;
    let etag = read.header("etag").to_owned();
    let patch = async |etag: &str, kind: &str| {
        let body = json!({"instructions": [{"kind": kind}]});
        let request = server.admin.request(Method::PATCH, &path).header("If-Match", etag);
        server.admin.send(request.json(&body)).await
    };
    let changed = patch(&etag, "turnFlagOn").await;
    assert_eq!(changed.status, 200);
    let new_etag = changed.header("etag").to_owned();
    assert_ne!(new_etag, etag);
    assert_eq!(patch(&etag, "turnFlagOff").await.expect(412)["code"], "outdated");
    assert_eq!(patch("813", "turnFlagOff").await.expect(400)["code"], "invalid_if_match");
    assert_eq!(patch("*", "turnFlagOff").await.status, 200);
    assert_eq!(patch(&new_etag, "turnFlagOn").await.status, 412);
}

#[tokio::test]
async fn prerequisites_are_kept_and_block_deletion() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("parent").await;
    server.flag_on("child").await;
    let add = json!([{"kind": "addPrerequisite", "key": "parent", "variation": "on"}]);
    server.admin.change("child", add).await.expect(200);
    assert_eq!(client.value("child", json!({})).await, true);
    server.admin.change("parent", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    let answer = client.evaluate("child", json!({})).await.expect(200);
    assert_eq!(
        (&answer["value"], &answer["metadata"]["reason"]),
        (&json!(false), &json!("PREREQUISITE_FAILED"))
    );
    assert_eq!(answer["metadata"]["prerequisiteKey"], "parent");
    let refused = server.admin.delete("/api/v1/projects/shop/flags/parent").await.expect(409);
    assert_eq!(refused["code"], "in_use");
    let remove = json!([{"kind": "removePrerequisite", "key": "parent"}]);
    server.admin.change("child", remove).await.expect(200);
    server.admin.delete("/api/v1/projects/shop/flags/parent").await.expect(204);
}

#[tokio::test]
async fn segments_decide_and_are_guarded_while_in_use() {
    let server = Server::start(Backend::Postgres).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let segments = format!("{ENV}/segments");
    let body = json!({"key": "beta", "included": ["u-1"], "excluded": ["u-2"], "rules": [
        {"clauses": [{"attribute": "plan", "op": "in", "values": ["gold"]}]}]});
    let created = server.admin.post(&segments, body).await.expect(201);
    assert!(created["rules"][0]["id"].is_string());
    let rule = json!([
        {"kind": "updateFallthroughVariationOrRollout", "variation": "off"},
        {"kind": "addRule", "variation": "on",
            "clauses": [{"op": "segmentMatch", "values": ["beta"]}]}]);
    server.admin.change("f", rule).await.expect(200);
    let value = async |key: &str, plan: &str| {
        client.value("f", json!({"targetingKey": key, "plan": plan})).await == true
    };
    assert!(value("u-1", "free").await && !value("u-2", "gold").await);
    assert!(value("u-3", "gold").await && !value("u-3", "free").await);
    let replaced = json!({"name": "Beta", "included": ["u-3"]});
    server.admin.put(&format!("{segments}/beta"), replaced).await.expect(200);
    assert!(!value("u-1", "gold").await && value("u-3", "free").await);
    let refused = server.admin.delete(&format!("{segments}/beta")).await.expect(409);
    assert_eq!(refused["code"], "in_use");
    assert_eq!(server.admin.put(&format!("{segments}/none"), json!({})).await.status, 404);
    let listed = server.admin.get(&segments).await.expect(200);
    assert_eq!(listed["items"][0]["name"], "Beta");
}

#[tokio::test]
async fn environments_and_projects_are_renamed_and_deleted() {
    let server = Server::start(Backend::Postgres).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let admin = &server.admin;
    let renamed = admin.patch(ENV, json!({"name": "Live"})).await.expect(200);
    assert_eq!(renamed["name"], "Live");
    let renamed = admin.patch("/api/v1/projects/shop", json!({"name": "Shop"})).await.expect(200);
    assert_eq!(renamed["name"], "Shop");
    let project = admin.get("/api/v1/projects/shop").await.expect(200);
    assert_eq!(project["environments"], json!(["production"]));
    admin.delete(ENV).await.expect(204);
    assert_eq!(client.evaluate("f", json!({})).await.status, 401, "its tokens are gone");
    admin.delete("/api/v1/projects/shop").await.expect(204);
    assert_eq!(admin.get("/api/v1/projects/shop").await.status, 404);
    let audit = admin.get("/api/v1/audit?limit=2").await.expect(200);
    assert_eq!(audit["items"][0]["action"], "project.delete");
    let next = audit["next"].as_str().unwrap();
    let older = admin.get(&format!("/api/v1/audit?limit=2&before={next}")).await.expect(200);
    assert_ne!(older["items"][0]["id"], audit["items"][1]["id"]);
}

#[tokio::test]
async fn metrics_count_what_happens() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    client.value("f", json!({})).await;
    let metrics = server.admin.get("/metrics").await;
    for line in [
        "vexil_evaluations_total 1",
        "vexil_store_stale 0",
        "vexil_environment_version{project=\"shop\",environment=\"production\"} 3",
        "vexil_streams 0",
        "# EOF",
    ] {
        assert!(metrics.text.lines().any(|each| each == line), "{line}\n{}", metrics.text);
    }
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
}

async fn lists_come_in_pages(backend: Backend) {
    let server = Server::start(backend).await;
    server.with_environment().await;
    let admin = &server.admin;
    let segments = format!("{ENV}/segments");
    // In the order of their bytes, in which capitals come first.
    for key in ["b", "a-1", "B", "a.2", "c"] {
        admin.post(&segments, json!({"key": key})).await.expect(201);
    }
    let whole = admin.get(&segments).await.expect(200);
    let keys = |answer: &serde_json::Value, name: &str| {
        let items = answer["items"].as_array().unwrap().iter();
        items.map(|item| item[name].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&whole, "key"), ["B", "a-1", "a.2", "b", "c"]);
    assert_eq!((&whole["total"], whole.get("next")), (&json!(5), None));
    for name in ["one", "two"] {
        let body = json!({"name": name, "role": "viewer"});
        admin.post("/api/v1/tokens", body).await.expect(201);
        let body = json!({"name": name, "kind": "server"});
        admin.post(&format!("{ENV}/tokens"), body).await.expect(201);
    }
    for (path, name, n) in [
        (segments.clone(), "key", 5),
        (format!("{ENV}/tokens"), "id", 3),
        ("/api/v1/tokens".to_owned(), "id", 2),
    ] {
        let whole = admin.get(&path).await.expect(200);
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{path}?limit=2{cursor}")).await.expect(200);
            assert_eq!(page["total"], json!(n), "{path}");
            seen.extend(keys(&page, name));
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen.len(), &seen), (n, &keys(&whole, name)), "{path}");
        for (query, code) in [
            ("limit=0", "invalid_limit"),
            ("limit=1001", "invalid_limit"),
            ("cursor=", "invalid_cursor"),
            ("cursor=a%00", "invalid_cursor"),
            ("after=a", "invalid_query"),
        ] {
            let refused = admin.get(&format!("{path}?{query}")).await.expect(400);
            assert_eq!(refused["code"], code, "{path}?{query}");
        }
    }
}

#[tokio::test]
async fn lists_of_segments_and_tokens_come_in_pages_on_sqlite() {
    lists_come_in_pages(Backend::Sqlite).await;
}

#[tokio::test]
async fn lists_of_segments_and_tokens_come_in_pages_on_postgres() {
    lists_come_in_pages(Backend::Postgres).await;
}

#[tokio::test]
async fn a_temporary_flag_can_have_an_end() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    let flags = "/api/v1/projects/shop/flags";
    for (body, path) in [
        (json!({"temporary": true, "temporaryUntil": "soon"}), "temporaryUntil"),
        (json!({"temporaryUntil": "2020-01-31"}), "temporaryUntil"),
    ] {
        let mut body = body;
        body["key"] = json!("f");
        body["kind"] = json!("boolean");
        let refused = admin.post(flags, body).await.expect(422);
        assert_eq!(refused["errors"][0]["path"], path, "{refused}");
    }
    let body = json!({"key": "f", "kind": "boolean", "temporary": true,
        "temporaryUntil": "2020-01-31"});
    assert_eq!(admin.post(flags, body).await.expect(201)["temporaryUntil"], "2020-01-31");
    let stale = async || {
        let path = format!("{ENV}/flags?fields=key&filter=stale:temporary_ended");
        admin.get(&path).await.expect(200)["total"].as_i64().unwrap()
    };
    let change = async |instructions: serde_json::Value| {
        admin.patch(&format!("{flags}/f"), json!({"instructions": instructions})).await
    };
    assert_eq!(stale().await, 1);
    let report = admin.get(&format!("{ENV}/stale")).await.expect(200);
    assert_eq!(report["items"][0]["temporaryUntil"], "2020-01-31");
    let later = json!([{"kind": "updateTemporaryUntil", "value": "2999-01-31T12:00:00+01:00"}]);
    let told = change(later).await.expect(200);
    assert_eq!(told["changes"], json!(["the flag is to be gone by 2999-01-31T11:00:00Z"]));
    assert_eq!(stale().await, 0);
    let wrong = json!([{"kind": "updateTemporaryUntil", "value": "2027-02-30"}]);
    assert_eq!(change(wrong).await.expect(422)["code"], "invalid_time");
    // A flag that stays has no end, and is given none.
    let permanent = change(json!([{"kind": "makeFlagPermanent"}])).await.expect(200);
    assert_eq!(permanent["flag"].get("temporaryUntil"), None);
    let wrong = json!([{"kind": "updateTemporaryUntil", "value": "2027-01-31"}]);
    assert_eq!(change(wrong).await.expect(422)["code"], "not_temporary");
    let both = json!([{"kind": "makeFlagTemporary"},
        {"kind": "updateTemporaryUntil", "value": "2027-01-31"}]);
    change(both).await.expect(200);
    // As code, too.
    let export = admin.get("/api/v1/projects/shop/export").await.expect(200);
    assert_eq!(export["flags"]["f"]["temporaryUntil"], "2027-01-31");
    let apply = async |fields: serde_json::Value| {
        let state =
            json!({"format": "vexil/1", "project": {"key": "shop"}, "flags": {"f": fields}});
        let path = "/api/v1/projects/shop/apply";
        admin.post(path, json!({"state": state})).await.expect(200);
        admin.get(&format!("{flags}/f")).await.expect(200)
    };
    let moved = apply(json!({"temporaryUntil": "2027-03-31"})).await;
    assert_eq!(moved["temporaryUntil"], "2027-03-31");
    let kept = apply(json!({"name": "F"})).await;
    assert_eq!(kept["temporaryUntil"], "2027-03-31");
    let ended = apply(json!({"temporary": false})).await;
    assert_eq!((&ended["temporary"], ended.get("temporaryUntil")), (&json!(false), None));
}
