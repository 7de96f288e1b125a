//! Changes of many flags, segments and environments at once, and of what all environments share.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use crate::harness::eventually;
use serde_json::Value;
use serde_json::json;

const CHANGES: &str = "/api/v1/projects/shop/changes";
const ENVIRONMENTS: &str = "/api/v1/projects/shop/environments";

async fn version(admin: &Client, env: &str) -> i64 {
    let environment = admin.get(&format!("{ENVIRONMENTS}/{env}")).await.expect(200);
    environment["version"].as_i64().unwrap()
}

async fn with_two_environments(server: &Server) -> Client {
    let backend = server.with_environment().await;
    server.admin.post(ENVIRONMENTS, json!({"key": "staging"})).await.expect(201);
    for flag in ["a", "b"] {
        server.flag(flag).await;
    }
    let segments = format!("{ENVIRONMENTS}/production/segments");
    server.admin.post(&segments, json!({"key": "s"})).await.expect(201);
    backend
}

#[tokio::test]
async fn many_changes_are_made_together_or_not_at_all() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = with_two_environments(&server).await;
        let admin = &server.admin;
        let before = (version(admin, "production").await, version(admin, "staging").await);
        let on = |flag: &str, env: &str| json!({"flag": flag, "environment": env, "instructions": [{"kind": "turnFlagOn"}]});
        let wrong = json!({"changes": [
            on("a", "production"),
            {"flag": "b", "environment": "staging", "instructions": [
                {"kind": "turnFlagOn"}, {"kind": "updateOffVariation", "variation": "none"}]},
            on("none", "production"),
            {"segment": "none", "environment": "production", "instructions": []},
            on("a", "nowhere"),
        ]});
        let refused = admin.post(CHANGES, wrong).await;
        // What lies outside of the token's reach is not there; an administrator reaches everything.
        let problem = refused.expect(422);
        let errors: Vec<(&str, &str)> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|e| (e["path"].as_str().unwrap(), e["code"].as_str().unwrap()))
            .collect();
        assert_eq!(
            errors,
            [
                ("changes[1].instructions[1].variation", "unknown_variation"),
                ("changes[2].flag", "unknown_flag"),
                ("changes[3].segment", "unknown_segment"),
                ("changes[4].environment", "unknown_environment"),
            ]
        );
        assert_eq!(client.value("a", json!({})).await, false);
        let right = json!({"comment": "all of it", "changes": [
            on("a", "production"), on("b", "production"), on("b", "staging"),
            {"segment": "s", "environment": "production",
                "instructions": [{"kind": "addIncludedTargets", "values": ["u"]}]},
        ]});
        let dry = admin.post(&format!("{CHANGES}?dryRun=true"), right.clone()).await.expect(200);
        assert_eq!(
            (&dry["dryRun"], &dry["changes"][0]["diff"][0]["path"]),
            (&json!(true), &json!("on"))
        );
        assert_eq!(version(admin, "production").await, before.0);
        let done = admin.post(CHANGES, right.clone()).await.expect(200);
        let expected = json!({"production": before.0 + 1, "staging": before.1 + 1});
        assert_eq!((&done["versions"], &dry["versions"]), (&expected, &expected));
        assert_eq!(
            done["changes"][3]["changes"],
            json!(["added 1 user key(s) to those who are in"])
        );
        assert_eq!(client.value("a", json!({})).await, true);
        let again = admin.post(CHANGES, right).await.expect(200);
        assert_eq!(again["versions"], expected, "everything is so already");
        let audit = admin.get("/api/v1/projects/shop/audit?limit=2").await.expect(200);
        assert_eq!(audit["items"][0]["action"], "project.change");
        assert_eq!(audit["items"][0]["comment"], "all of it");
        assert_ne!(audit["items"][1]["action"], "project.change");
    }
}

#[tokio::test]
async fn the_role_is_needed_wherever_something_is_changed() {
    let server = Server::start(Backend::Sqlite).await;
    with_two_environments(&server).await;
    let editor = server.token("admin", Some("editor")).await;
    let change = |env: Value| json!({"changes": [{"flag": "a", "environment": env, "instructions": [{"kind": "turnFlagOn"}]}]});
    editor.post(CHANGES, change(json!("production"))).await.expect(200);
    assert_eq!(editor.post(CHANGES, change(json!("staging"))).await.status, 404);
    let definition =
        json!({"changes": [{"flag": "a", "instructions": [{"kind": "makeFlagTemporary"}]}]});
    assert_eq!(editor.post(CHANGES, definition).await.status, 404);
    let viewer = server.token("admin", Some("viewer")).await;
    assert_eq!(viewer.post(CHANGES, change(json!("production"))).await.status, 403);
    let both = json!({"changes": [{"flag": "a", "segment": "s", "environment": "production", "instructions": []}]});
    assert_eq!(server.admin.post(CHANGES, both).await.expect(422)["code"], "conflicting_fields");
    assert_eq!(server.admin.post(CHANGES, json!({})).await.expect(422)["code"], "required");
}

#[tokio::test]
async fn a_dry_run_says_who_moves_what_differs_and_what_depends() {
    let server = Server::start(Backend::Sqlite).await;
    with_two_environments(&server).await;
    let admin = &server.admin;
    let body = json!({"key": "t", "kind": "string", "variations": [
        {"key": "x", "value": "x"}, {"key": "y", "value": "y"}, {"key": "z", "value": "z"}]});
    admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    let halves = json!({"x": 50_000, "y": 50_000});
    admin
        .change(
            "t",
            json!([
                {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": halves},
                {"kind": "addRule", "id": "r", "rolloutWeights": halves,
                    "clauses": [{"op": "segmentMatch", "values": ["s"]}]},
            ]),
        )
        .await
        .expect(200);
    admin
        .change("a", json!([{"kind": "addPrerequisite", "key": "t", "variation": "x"}]))
        .await
        .expect(200);
    let thirds = json!({"x": 33_000, "y": 33_000, "z": 34_000});
    let path = format!("{ENVIRONMENTS}/production/flags/t?dryRun=true");
    let instructions = json!([
        {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": thirds},
        {"kind": "updateRuleVariationOrRollout", "ruleId": "r", "rolloutWeights": thirds},
        {"kind": "addRule", "clauses": [{"op": "segmentMatch", "values": ["s"]}], "variation": "x"},
    ]);
    let dry = admin.patch(&path, json!({"instructions": instructions})).await.expect(200);
    assert_eq!(dry["moved"]["moved"], 34_000);
    let between = json!([{"from": "x", "to": "z", "moved": 17_000}, {"from": "y", "to": "z", "moved": 17_000}]);
    assert_eq!(dry["moved"]["between"], between);
    assert_eq!(
        (&dry["rulesMoved"][0]["ruleId"], &dry["rulesMoved"][0]["between"]),
        (&json!("r"), &between)
    );
    assert_eq!(dry["dependants"], json!([{"environment": "production", "flag": "a"}]));
    assert_eq!(dry["dependsOn"], json!([{"environment": "production", "segment": "s"}]));
    assert!(dry["warnings"][0].as_str().unwrap().starts_with("rule 2 never matches"), "{dry}");
    let paths: Vec<&str> =
        dry["diff"].as_array().unwrap().iter().map(|each| each["path"].as_str().unwrap()).collect();
    assert!(paths.contains(&"fallthrough") && paths.contains(&"rules.r"), "{paths:?}");
    let segment = format!("{ENVIRONMENTS}/production/segments/s?dryRun=true");
    let add = json!({"instructions": [{"kind": "addIncludedTargets", "values": ["u"]}]});
    let dry = admin.patch(&segment, add).await.expect(200);
    assert_eq!(dry["dependants"], json!([{"environment": "production", "flag": "t"}]));
}

#[tokio::test]
async fn archived_flags_are_off_until_they_are_restored() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = with_two_environments(&server).await;
        let admin = &server.admin;
        let define = |flag: &str, kind: &str| {
            let body = json!({"instructions": [{"kind": kind}]});
            let path = format!("/api/v1/projects/shop/flags/{flag}");
            async move { admin.patch(&path, body).await }
        };
        admin.change("a", json!([{"kind": "turnFlagOn"}])).await.expect(200);
        admin
            .change("b", json!([{"kind": "addPrerequisite", "key": "a", "variation": "on"}]))
            .await
            .expect(200);
        assert_eq!(define("a", "archiveFlag").await.expect(422)["code"], "in_use");
        define("b", "archiveFlag").await.expect(200);
        define("a", "archiveFlag").await.expect(200);
        assert_eq!(client.value("a", json!({})).await, false);
        let refused = admin.change("a", json!([{"kind": "turnFlagOn"}])).await.expect(422);
        assert_eq!(refused["errors"][0]["code"], "archived");
        admin.post("/kill/a?environment=production", json!({})).await.expect(200);
        admin.post("/restore/a?environment=production", json!({})).await.expect(200);
        let list = admin.get("/api/v1/projects/shop/flags").await.expect(200);
        assert_eq!(list["items"], json!([]));
        let list = admin
            .get("/api/v1/projects/shop/flags?filter=state:archived&fields=key")
            .await
            .expect(200);
        assert_eq!(list["items"], json!([{"key": "a"}, {"key": "b"}]));
        assert_eq!(define("a", "deleteFlag").await.expect(422)["code"], "in_use");
        define("a", "restoreFlag").await.expect(200);
        assert_eq!(client.value("a", json!({})).await, true);
        define("b", "deleteFlag").await.expect(200);
        assert_eq!(admin.get("/api/v1/projects/shop/flags/b").await.status, 404);
        let again =
            admin.post("/api/v1/projects/shop/flags", json!({"key": "b", "kind": "boolean"})).await;
        assert_eq!(again.expect(409)["code"], "key_taken");
    }
}

#[tokio::test]
async fn a_variation_that_nothing_uses_can_be_removed_and_nobody_gets_another() {
    let server = Server::start(Backend::Sqlite).await;
    let client = with_two_environments(&server).await;
    let admin = &server.admin;
    let body = json!({"key": "t", "kind": "string", "variations": [
        {"key": "x", "value": "x"}, {"key": "y", "value": "y"}, {"key": "z", "value": "z"}],
        "defaults": {"onVariation": "z", "offVariation": "z"}});
    admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    admin.change("t", json!([{"kind": "turnFlagOn"}, {"kind": "addTargets", "variation": "x", "values": ["u"]}]))
        .await.expect(200);
    admin
        .change(
            "a",
            json!([
        {"kind": "turnFlagOn"}, {"kind": "addPrerequisite", "key": "t", "variation": "z"}]),
        )
        .await
        .expect(200);
    let path = "/api/v1/projects/shop/flags/t";
    let remove =
        |key: &str| json!({"instructions": [{"kind": "removeVariation", "variation": key}]});
    for used in ["x", "z"] {
        assert_eq!(admin.patch(path, remove(used)).await.expect(422)["code"], "in_use", "{used}");
    }
    admin.patch(path, remove("y")).await.expect(200);
    assert_eq!(client.value("t", json!({"targetingKey": "v"})).await, "z");
    assert_eq!(client.value("t", json!({"targetingKey": "u"})).await, "x");
    assert_eq!(client.value("a", json!({"targetingKey": "v"})).await, true);
    assert_eq!(client.value("a", json!({"targetingKey": "u"})).await, false);
}

#[tokio::test]
async fn versions_and_plans_outlive_a_variation_that_they_did_not_use() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = with_two_environments(&server).await;
        let admin = &server.admin;
        let flag = "/api/v1/projects/shop/flags/t";
        let body = json!({"key": "t", "kind": "string", "variations": [
            {"key": "x", "value": "x"}, {"key": "y", "value": "y"}, {"key": "z", "value": "z"}],
            "defaults": {"onVariation": "x", "offVariation": "x"}});
        admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
        let production = format!("{ENVIRONMENTS}/production");
        let change = async |flag: &str, instructions: Value| {
            admin.change(flag, instructions).await.expect(200)["version"].as_i64().unwrap()
        };
        let serve = |variation: &str| json!([{"kind": "updateFallthroughVariationOrRollout", "variation": variation}]);
        change("t", json!([{"kind": "turnFlagOn"}])).await;
        let with_z = change("t", serve("z")).await;
        let with_y = change("t", serve("y")).await;
        let with_x = change("t", serve("x")).await;
        change("a", json!([{"kind": "turnFlagOn"}])).await;
        let asks = |variation: &str| json!([{"kind": "addPrerequisite", "key": "t", "variation": variation}]);
        let asked_z = change("a", asks("z")).await;
        let free = json!([{"kind": "removePrerequisite", "key": "t"}]);
        change("a", free.clone()).await;
        let asked_y = change("a", asks("y")).await;
        change("a", free).await;
        let history = async |flag: &str| {
            let path = format!("{production}/flags/{flag}/history");
            let list = admin.get(&path).await.expect(200);
            let versions = list["items"].as_array().unwrap().iter();
            versions.map(|each| each["version"].as_i64().unwrap()).collect::<Vec<_>>()
        };
        let before = (history("t").await, history("a").await);
        let plan = json!({"flag": "t", "instructions": serve("z"), "at": "2027-03-28T02:30:00Z"});
        let planned = admin.post(&format!("{production}/schedule"), plan).await.expect(201);

        let remove = json!({"instructions": [{"kind": "removeVariation", "variation": "y"}]});
        admin.patch(flag, remove).await.expect(200);
        let kept = |versions: &[i64], gone: i64| {
            versions.iter().copied().filter(|version| *version != gone).collect::<Vec<_>>()
        };
        let after = (history("t").await, history("a").await);
        assert!(after.0.ends_with(&kept(&before.0, with_y)), "{after:?} {before:?}");
        assert!(after.1.ends_with(&kept(&before.1, asked_y)), "{after:?} {before:?}");

        let revert = async |flag: &str, version: i64| {
            let path = format!("{production}/flags/{flag}/revert");
            admin.post(&path, json!({"version": version})).await
        };
        let value = async |flag: &str| client.value(flag, json!({"targetingKey": "u"})).await;
        revert("t", with_y).await.expect(404);
        revert("a", asked_y).await.expect(404);
        revert("t", with_z).await.expect(200);
        assert_eq!(value("t").await, "z");
        revert("a", asked_z).await.expect(200);
        assert_eq!(value("a").await, true);
        revert("t", with_x).await.expect(200);
        assert_eq!((value("t").await, value("a").await), (json!("x"), json!(false)));
        server.run_sql("update schedule set due_us = 1 where state = 'pending'").await;
        let path = format!("{production}/schedule/{}", planned["id"].as_str().unwrap());
        eventually("it is decided", || async {
            admin.get(&path).await.expect(200)["state"] != "pending"
        })
        .await;
        let entry = admin.get(&path).await.expect(200);
        assert_eq!(entry["state"], "done", "{entry}");
        eventually("it is served", || async { value("t").await == "z" }).await;
    }
}

#[tokio::test]
async fn lists_of_flags_come_in_pages_that_filters_and_orders_shape() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    for (key, name, tag) in [("c", "Ada", "t"), ("a", "bob", "t"), ("b", "Cy", "u")] {
        let body = json!({"key": key, "name": name, "kind": "boolean", "tags": [tag]});
        admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }
    admin.change("a", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let list = format!("{ENVIRONMENTS}/production/flags");
    let keys = async |path: String| {
        let answer = admin.get(&path).await.expect(200);
        let keys: Vec<String> = answer["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["key"].as_str().unwrap().to_owned())
            .collect();
        (keys.join(""), answer)
    };
    for path in ["/api/v1/projects/shop/flags", &list] {
        for (query, expected) in [
            ("", "abc"),
            ("?sort=-key", "cba"),
            ("?sort=name", "cab"),
            ("?sort=created", "cab"),
            ("?sort=-created", "bac"),
            ("?filter=tag:t", "ac"),
            ("?filter=text:BO", "a"),
            ("?filter=tag:t,kind:boolean&sort=-name", "ac"),
            ("?filter=kind:json", ""),
        ] {
            assert_eq!(keys(format!("{path}{query}")).await.0, expected, "{path}{query}");
        }
        for sort in ["key", "-name", "created"] {
            let (whole, _) = keys(format!("{path}?sort={sort}")).await;
            let (mut seen, mut cursor) = (String::new(), String::new());
            loop {
                let (page, answer) = keys(format!("{path}?sort={sort}&limit=1{cursor}")).await;
                assert_eq!((page.len(), &answer["total"]), (1, &json!(3)));
                seen.push_str(&page);
                let Some(next) = answer["next"].as_str() else { break };
                cursor = format!("&cursor={}", next.replace(' ', "%20"));
            }
            assert_eq!(seen, whole, "{sort}");
        }
        for (query, code) in [
            ("limit=0", "invalid_limit"),
            ("limit=x", "invalid_limit"),
            ("sort=size", "invalid_sort"),
            ("cursor=x", "invalid_cursor"),
            ("filter=state:odd", "invalid_filter"),
            ("filter=size:1", "invalid_filter"),
            ("fields=key,x", "invalid_fields"),
            ("x=1", "invalid_query"),
        ] {
            let refused = admin.get(&format!("{path}?{query}")).await.expect(400);
            assert_eq!(refused["code"], code, "{query}");
        }
    }
    let refused = admin.get("/api/v1/projects/shop/flags?filter=stale:true").await.expect(400);
    assert_eq!(refused["code"], "invalid_filter");
    let refused = admin.get(&format!("{list}?filter=stale:odd")).await.expect(400);
    assert!(refused["detail"].as_str().unwrap().contains("missing_prerequisite"), "{refused}");
    assert_eq!(keys(format!("{list}?filter=state:on")).await.0, "a");
    let sparse = admin.get(&format!("{list}?filter=state:off&fields=key,on")).await.expect(200);
    assert_eq!(sparse["items"], json!([{"key": "b", "on": false}, {"key": "c", "on": false}]));
}

#[tokio::test]
async fn a_definition_changes_though_one_of_its_environments_is_deleted_meanwhile() {
    use sqlx::Connection;
    use sqlx::Executor;
    let server = Server::start(Backend::Postgres).await;
    server.with_environment().await;
    server.admin.post(ENVIRONMENTS, json!({"key": "staging"})).await.expect(201);
    server.flag("f").await;
    let mut holder = sqlx::PgConnection::connect(server.database_url()).await.unwrap();
    let hold = "begin; update environment set version = version where key = 'staging'";
    holder.execute(hold).await.unwrap();
    let waiting = async |n: i64| {
        let found = async || {
            let mut asking = sqlx::PgConnection::connect(server.database_url()).await.unwrap();
            let sql = "select count(*) from pg_stat_activity
                where datname = current_database() and wait_event_type = 'Lock'";
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut asking).await.unwrap() == n
        };
        eventually("they wait for the lock", found).await;
    };
    let admin = server.admin.clone();
    let deletion =
        tokio::spawn(async move { admin.delete(&format!("{ENVIRONMENTS}/staging")).await });
    waiting(1).await;
    let admin = server.admin.clone();
    let body = json!({"instructions": [{"kind": "archiveFlag"}]});
    let change =
        tokio::spawn(async move { admin.patch("/api/v1/projects/shop/flags/f", body).await });
    waiting(2).await;
    holder.execute("commit").await.unwrap();
    deletion.await.unwrap().expect(204);
    assert_eq!(change.await.unwrap().expect(200)["flag"]["archived"], true);
}

#[tokio::test]
async fn a_list_filters_by_why_flags_may_be_removed() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    for key in ["base", "other", "top"] {
        server.flag(key).await;
    }
    let needs = json!([{"kind": "addPrerequisite", "key": "base", "variation": "on"}]);
    server.admin.change("top", needs).await.expect(200);
    for (key, kind) in [("top", "archiveFlag"), ("base", "archiveFlag"), ("top", "restoreFlag")] {
        let body = json!({"instructions": [{"kind": kind}]});
        server.admin.patch(&format!("/api/v1/projects/shop/flags/{key}"), body).await.expect(200);
    }
    for (filter, expected) in [
        ("stale:true", json!(["top"])),
        ("stale:missing_prerequisite", json!(["top"])),
        ("stale:not_evaluated", json!([])),
        ("stale:false", json!(["other"])),
        ("stale:true,text:other", json!([])),
        ("stale:false,state:all", json!(["base", "other"])),
    ] {
        let path = format!("{ENVIRONMENTS}/production/flags?fields=key&filter={filter}");
        let answer = server.admin.get(&path).await.expect(200);
        let keys = answer["items"].as_array().unwrap().iter().map(|item| item["key"].clone());
        assert_eq!(keys.collect::<serde_json::Value>(), expected, "{filter}");
    }
}
