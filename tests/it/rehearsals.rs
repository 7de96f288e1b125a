//! Dry runs of everything that writes: they answer what would be answered, and leave nothing behind.

use crate::harness::Backend;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

const PROJECT: &str = "/api/v1/projects/shop";
const ENVIRONMENT: &str = "/api/v1/projects/shop/environments/production";

/// Flags, segments, tokens, a trigger and an entry of the schedule; returns the ids of what has one, by its place in a path.
async fn filled(server: &Server) -> Vec<(&'static str, String)> {
    let admin = &server.admin;
    for key in ["f", "killed", "top"] {
        server.flag_on(key).await;
    }
    let needs = json!([{"kind": "addPrerequisite", "key": "f", "variation": "on"}]);
    admin.change("top", needs).await.expect(200);
    let killed = admin.post("/kill/killed", json!({})).await.expect(200)["kill"].clone();
    admin.post(&format!("{ENVIRONMENT}/segments"), json!({"key": "s"})).await.expect(201);
    let sdk = json!({"key": "sdk", "serverSdk": "launchdarkly"});
    admin.post(&format!("{PROJECT}/environments"), sdk).await.expect(201);
    let trigger = json!({"name": "t", "action": "kill"});
    let triggers = format!("{ENVIRONMENT}/flags/f/triggers");
    let trigger = admin.post(&triggers, trigger).await.expect(201);
    let plan = json!({"flag": "f", "at": "2027-11-01T00:00:00Z",
        "instructions": [{"kind": "turnFlagOff"}]});
    // A clock that says something else would refuse the plan.
    let planned = admin.post(&format!("{ENVIRONMENT}/schedule"), plan).await.expect(201);
    let token = json!({"name": "own", "kind": "server"});
    let token = admin.post(&format!("{ENVIRONMENT}/tokens"), token).await.expect(201);
    let wide = json!({"name": "wide", "role": "viewer"});
    let wide = admin.post("/api/v1/tokens", wide).await.expect(201);
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let secret = trigger["url"].as_str().unwrap().trim_start_matches("/trigger/").to_owned();
    vec![
        ("{trigger}", id(&trigger)),
        ("{secret}", secret),
        ("{schedule}", id(&planned)),
        ("{token}", id(&token)),
        ("{wide}", id(&wide)),
        ("{kill}", killed.as_str().unwrap().to_owned()),
    ]
}

/// Every operation that can be tried out: its path in the document, what is asked, and with what.
fn requests() -> Vec<(Method, &'static str, &'static str, Value)> {
    let on = || json!({"instructions": [{"kind": "turnFlagOff"}]});
    let renamed = json!({"instructions": [{"kind": "updateName", "value": "N"}]});
    let member = json!({"instructions": [{"kind": "addIncludedTargets", "values": ["u"]}]});
    let changes = json!({"changes": [{"flag": "f", "environment": "production",
        "instructions": [{"kind": "turnFlagOff"}]}]});
    let later = json!({"flag": "f", "at": "2027-11-02T00:00:00Z",
        "instructions": [{"kind": "turnFlagOff"}]});
    let file = json!({"flags": {}, "segments": {"l": {"key": "l", "salt": "x", "version": 1}}});
    let state =
        json!({"state": {"format": "vexil/1", "project": {"key": "shop", "name": "Other"}}});
    let none = || json!({});
    let [post, put, patch, delete] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    vec![
        (post.clone(), "/kill/{flag}", "/kill/f?project=shop&environment=production", none()),
        (post.clone(), "/kill", "/kill?flag=f&flag=killed&environment=production", none()),
        (post.clone(), "/restore/{flag}", "/restore/killed?environment=production", none()),
        (post.clone(), "/restore", "/restore?kill={kill}&environment=production", none()),
        (post.clone(), "/trigger/{secret}", "/trigger/{secret}", none()),
        (post.clone(), "P", "/api/v1/projects", json!({"key": "new"})),
        (patch.clone(), "P/{project}", PROJECT, json!({"name": "Other"})),
        (delete.clone(), "P/{project}", PROJECT, none()),
        (post.clone(), "P/{project}/environments", "S/environments", json!({"key": "new"})),
        (patch.clone(), "E", "E", json!({"name": "Other"})),
        (delete.clone(), "E", "E", none()),
        (post.clone(), "P/{project}/flags", "S/flags", json!({"key": "new", "kind": "boolean"})),
        (patch.clone(), "P/{project}/flags/{flag}", "S/flags/f", renamed),
        (delete.clone(), "P/{project}/flags/{flag}", "S/flags/killed", none()),
        (patch.clone(), "E/flags/{flag}", "E/flags/f", on()),
        (post.clone(), "E/flags/{flag}/revert", "E/flags/f/revert", json!({"version": 2})),
        (
            post.clone(),
            "E/flags/{flag}/triggers",
            "E/flags/f/triggers",
            json!({"name": "u", "action": "kill"}),
        ),
        (delete.clone(), "E/flags/{flag}/triggers/{id}", "E/flags/f/triggers/{trigger}", none()),
        (post.clone(), "P/{project}/changes", "S/changes", changes),
        (post.clone(), "P/{project}/apply", "S/apply", state),
        (post.clone(), "E/import/launchdarkly", "S/environments/sdk/import/launchdarkly", file),
        (post.clone(), "E/segments", "E/segments", json!({"key": "new"})),
        (put, "E/segments/{segment}", "E/segments/s", json!({"key": "s", "included": ["u"]})),
        (patch, "E/segments/{segment}", "E/segments/s", member),
        (delete.clone(), "E/segments/{segment}", "E/segments/s", none()),
        (post.clone(), "E/schedule", "E/schedule", later),
        (delete.clone(), "E/schedule/{id}", "E/schedule/{schedule}", none()),
        (post.clone(), "E/tokens", "E/tokens", json!({"name": "new", "kind": "server"})),
        (delete.clone(), "E/tokens/{token}", "E/tokens/{token}", none()),
        (post.clone(), "E/tokens/{token}/rotate", "E/tokens/{token}/rotate", none()),
        (post.clone(), "/api/v1/tokens", "/api/v1/tokens", json!({"name": "n", "role": "viewer"})),
        (delete, "/api/v1/tokens/{token}", "/api/v1/tokens/{wide}", none()),
        (post, "/api/v1/tokens/{token}/rotate", "/api/v1/tokens/{wide}/rotate", none()),
    ]
}

/// Writes the beginnings of paths out.
fn spelt(path: &str) -> String {
    match path.split_at(1) {
        ("P", rest) => format!("/api/v1/projects{rest}"),
        ("E", rest) => format!("/api/v1/projects/{{project}}/environments/{{environment}}{rest}"),
        _ => path.to_owned(),
    }
}

fn asked(path: &str, ids: &[(&str, String)]) -> String {
    let mut path = match path.split_at(1) {
        ("S", rest) => format!("{PROJECT}{rest}"),
        ("E", rest) => format!("{ENVIRONMENT}{rest}"),
        _ => path.to_owned(),
    };
    for (name, id) in ids {
        path = path.replace(name, id);
    }
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}dryRun=true")
}

/// Everything that a write would change.
async fn state(server: &Server) -> Value {
    let mut state = Vec::new();
    for path in [
        "/api/v1/projects",
        "/api/v1/projects/shop/environments",
        "/api/v1/projects/shop/export",
        "/api/v1/projects/shop/environments/production/flags",
        "/api/v1/projects/shop/environments/production/segments",
        "/api/v1/projects/shop/environments/production/schedule",
        "/api/v1/projects/shop/environments/production/flags/f/triggers",
        "/api/v1/projects/shop/environments/production/tokens",
        "/api/v1/tokens",
        "/api/v1/audit?limit=1",
    ] {
        let mut answer = server.admin.get(path).await.expect(200);
        for item in answer["items"].as_array_mut().into_iter().flatten() {
            item.as_object_mut().unwrap().remove("lastUsedAt");
        }
        state.push(answer);
    }
    Value::Array(state)
}

async fn nothing_is_left_behind(backend: Backend) {
    let server = Server::start(backend).await;
    let client = server.with_environment().await;
    let ids = filled(&server).await;
    let before = state(&server).await;
    for (method, _, path, body) in requests() {
        let path = asked(path, &ids);
        let request = server.admin.request(method.clone(), &path);
        let request = if method == Method::DELETE { request } else { request.json(&body) };
        let answer = server.admin.send(request).await;
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text);
        assert_eq!(answer.body["dryRun"], true, "{method} {path}: {}", answer.text);
        let is_told = match path.contains("/import/") {
            true => answer.body["segments"]["created"] == json!(["l"]),
            false => answer.body["changes"].as_array().is_some_and(|all| !all.is_empty()),
        };
        assert!(is_told, "{method} {path}: {}", answer.text);
        assert_eq!(state(&server).await, before, "{method} {path}");
    }
    assert_eq!(client.value("f", json!({})).await, true);
}

#[tokio::test]
async fn a_dry_run_of_any_write_leaves_nothing_behind_on_sqlite() {
    nothing_is_left_behind(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_dry_run_of_any_write_leaves_nothing_behind_on_postgres() {
    nothing_is_left_behind(Backend::Postgres).await;
}

#[test]
fn every_operation_that_writes_can_be_tried_out() {
    let document: Value = yaml_serde::from_str(vexil::http::openapi::yaml().unwrap()).unwrap();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let names: Vec<&str> = parameters.filter_map(|each| each["name"].as_str()).collect();
            if names.contains(&"wait") {
                assert!(
                    names.contains(&"dryRun") || path.ends_with("/plan"),
                    "{method} {path} cannot be tried out"
                );
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    let tried = requests().into_iter().map(|(method, path, ..)| (method.to_string(), spelt(path)));
    let tried: BTreeSet<_> = tried.collect();
    let left: Vec<_> = described.difference(&tried).map(|(_, path)| path.as_str()).collect();
    // The one writes nothing, the other asks for a database that has lost something.
    assert_eq!(left, ["/api/v1/history/accept", "/api/v1/projects/{project}/plan"]);
}

#[tokio::test]
async fn a_dry_run_tells_what_a_kill_would_do_and_shows_no_secret() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    filled(&server).await;
    let environment = "environment=production&dryRun=true";
    let told = admin.post(&format!("/kill/f?{environment}"), json!({})).await.expect(200);
    assert_eq!((&told["was"]["on"], &told["changes"]), (&json!(true), &json!(["killed the flag"])));
    assert_eq!(told["diff"], json!([{"path": "on", "before": true, "after": false}]));
    assert_eq!(told["dependants"], json!([{"environment": "production", "flag": "top"}]));
    let body = json!({"flags": ["f", "killed"]});
    let told = admin.post(&format!("/kill?{environment}"), body).await.expect(200);
    assert_eq!(told["flags"], json!([{"flag": "f", "was": {"on": true}}]));
    assert_eq!(told["alreadyKilled"], json!(["killed"]));
    assert_eq!(told["dependants"], json!([{"environment": "production", "flag": "top"}]));
    let again = admin.post(&format!("/kill/killed?{environment}"), json!({})).await.expect(200);
    assert_eq!((&again["dryRun"], &again["changes"]), (&json!(true), &json!([])));

    let tokens = format!("{ENVIRONMENT}/tokens?dryRun=true");
    let made = admin.post(&tokens, json!({"name": "n", "kind": "server"})).await.expect(200);
    assert_eq!((made.get("token"), &made["hint"]), (None, &json!("")), "{made}");
    let triggers = format!("{ENVIRONMENT}/flags/f/triggers?dryRun=true");
    let made = admin.post(&triggers, json!({"name": "n", "action": "kill"})).await.expect(200);
    assert_eq!((made.get("url"), &made["hint"]), (None, &json!("")), "{made}");

    // What would be refused is refused.
    let flag = format!("{PROJECT}/flags/f?dryRun=true");
    assert_eq!(admin.delete(&flag).await.expect(409)["code"], "in_use");
    let taken = json!({"key": "shop"});
    admin.post("/api/v1/projects?dryRun=true", taken).await.expect(409);
    let misspelt = admin.post("/kill/f?dryRun=maybe", json!({})).await.expect(400);
    assert_eq!(misspelt["code"], "invalid_query");
    admin.post("/kill?flag=f&dryRun=maybe", json!({})).await.expect(400);
    // The same key may be sent again, and the answer is the whole one.
    let path = format!("/kill/f?{environment}");
    for _ in 0..2 {
        let request = admin.request(Method::POST, &path).header("Idempotency-Key", "k");
        assert_eq!(admin.send(request).await.expect(200)["dryRun"], true);
    }
}

#[tokio::test]
async fn what_keeps_a_thing_from_being_deleted_is_named_and_listed_by_a_dry_run() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        admin.post(&format!("{PROJECT}/environments"), json!({"key": "test"})).await.expect(201);
        for key in ["f", "a", "b"] {
            server.flag(key).await;
        }
        let segments = format!("{ENVIRONMENT}/segments");
        admin.post(&segments, json!({"key": "s"})).await.expect(201);
        let clause = json!({"op": "segmentMatch", "values": ["s"]});
        let asking = json!({"key": "t", "rules": [{"clauses": [clause.clone()]}]});
        admin.post(&segments, asking).await.expect(201);
        let needs = json!([
            {"kind": "addPrerequisite", "key": "f", "variation": "on"},
            {"kind": "addRule", "clauses": [clause], "variation": "on"},
        ]);
        for key in ["a", "b"] {
            admin.change(key, needs.clone()).await.expect(200);
        }
        let elsewhere = json!({"instructions": [needs[0]]});
        let path = format!("{PROJECT}/environments/test/flags/b");
        admin.patch(&path, elsewhere).await.expect(200);

        let in_production = |what: &str, key: &str| json!({"environment": "production", what: key});
        let flags = [in_production("flag", "a"), in_production("flag", "b")];
        let elsewhere = json!({"environment": "test", "flag": "b"});
        let of_flag = [flags.as_slice(), &[elsewhere]].concat();
        let of_segment = [flags.as_slice(), &[in_production("segment", "t")]].concat();
        for (path, dependants, names) in [
            (
                format!("{PROJECT}/flags/f"),
                of_flag,
                "`a` in `production`, `b` in `production`, `b` in `test`",
            ),
            (format!("{segments}/s"), of_segment, "the flag `a`, the flag `b`, the segment `t`"),
        ] {
            let dry = admin.delete(&format!("{path}?dryRun=true")).await.expect(409);
            assert_eq!((&dry["code"], &dry["dependants"]), (&json!("in_use"), &json!(dependants)));
            let refused = admin.delete(&path).await.expect(409);
            assert_eq!((&refused["code"], refused.get("dependants")), (&json!("in_use"), None));
            for told in [dry, refused] {
                assert!(told["detail"].as_str().unwrap().contains(names), "{told}");
            }
            admin.get(&path).await.expect(200);
        }
        let archive = json!({"instructions": [{"kind": "archiveFlag"}]});
        let path = format!("{PROJECT}/flags/f?dryRun=true");
        let dry = admin.patch(&path, archive).await.expect(422);
        assert_eq!(dry["dependants"].as_array().unwrap().len(), 3, "{dry}");
    }
}

#[tokio::test]
async fn what_keeps_flags_from_being_archived_is_listed_once_and_without_what_is_archived() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        for key in ["f", "g", "a", "old"] {
            server.flag(key).await;
        }
        let needs = |key: &str| json!({"kind": "addPrerequisite", "key": key, "variation": "on"});
        for key in ["a", "old"] {
            admin.change(key, json!([needs("f"), needs("g")])).await.expect(200);
        }
        let all = |kind: &str| json!({"instructions": [{"kind": kind, "ignoreUsage": true}]});
        let flag = |key: &str| format!("{PROJECT}/flags/{key}");
        admin.patch(&flag("old"), all("archiveFlag")).await.expect(200);

        let archived = |key: &str| json!({"flag": key, "instructions": [{"kind": "archiveFlag"}]});
        let both = json!({"changes": [archived("f"), archived("g")]});
        let path = format!("{PROJECT}/changes?dryRun=true");
        let dry = admin.post(&path, both).await.expect(422);
        let on = |key: &str| json!({"environment": "production", "flag": key});
        assert_eq!((&dry["code"], &dry["dependants"]), (&json!("in_use"), &json!([on("a")])));
        // What comes after it in the list does not hide what is in its way.
        let freed = json!({"kind": "removePrerequisite", "key": "f"});
        let freed = json!({"environment": "production", "flag": "a", "instructions": [freed]});
        let in_order = json!({"changes": [archived("f"), freed]});
        let refused =
            admin.post(&format!("{PROJECT}/changes?dryRun=true"), in_order).await.expect(422);
        assert_eq!(
            (&refused["code"], &refused["dependants"]),
            (&json!("in_use"), &json!([on("a")]))
        );
        let path = format!("{}?dryRun=true", flag("f"));
        assert_eq!(
            admin.delete(&path).await.expect(409)["dependants"],
            json!([on("a"), on("old")])
        );
    }
}

#[tokio::test]
async fn what_is_no_proper_dry_run_of_a_trigger_is_refused_and_no_other_flag_is_told() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let ids = filled(&server).await;
    let secret = &ids.iter().find(|(name, _)| *name == "{secret}").unwrap().1;
    for wrong in ["dryRun=1", "dryRun=True", "dryrun=true", "dryRun="] {
        let path = format!("/trigger/{secret}?{wrong}");
        let refused = server.admin.post(&path, json!({})).await.expect(400);
        assert_eq!(refused["code"], "invalid_query", "{wrong}");
    }
    let path = format!("/trigger/{secret}?dryRun=true&source=alarms");
    let told = server.admin.post(&path, json!({})).await.expect(200);
    assert_eq!((&told["dryRun"], told.get("dependants")), (&json!(true), None), "{told}");
    let flag = server.admin.get(&format!("{ENVIRONMENT}/flags/f")).await.expect(200);
    assert_eq!(flag["on"], true);
}

#[tokio::test]
async fn a_dry_run_of_a_segment_names_no_version_that_another_may_get() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    filled(&server).await;
    let path = format!("{ENVIRONMENT}/segments/s");
    let before = server.admin.get(&path).await.expect(200)["version"].clone();
    let other = json!({"key": "s", "included": ["u"]});
    let told = server.admin.put(&format!("{path}?dryRun=true"), other).await.expect(200);
    assert_eq!((&told["version"], &told["included"]), (&before, &json!(["u"])));
}
