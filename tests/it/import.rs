//! Bringing over an environment of LaunchDarkly: nobody gets another variation, and nothing of one's own is lost.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use vexil::eval::evaluate;
use vexil::eval::read_ruleset;
use vexil::model::context::Context;

const ENVIRONMENTS: &str = "/api/v1/projects/shop/environments";
const IMPORTED: &str = "/api/v1/projects/shop/environments/imported";
const IMPORT: &str = "/api/v1/projects/shop/environments/imported/import/launchdarkly";
const CONTEXTS: usize = 500;

/// Creates the project `shop` with the environments `production` and `imported`; returns a backend's client of the latter.
async fn with_environments(server: &Server) -> Client {
    server.with_environment().await;
    let body = json!({"key": "imported", "serverSdk": "launchdarkly"});
    server.admin.post(ENVIRONMENTS, body).await.expect(201);
    let body = json!({"name": "backend", "kind": "server"});
    let made = server.admin.post(&format!("{IMPORTED}/tokens"), body).await.expect(201);
    server.admin.with_token(made["token"].as_str().unwrap())
}

/// A flag of LaunchDarkly with these fields; otherwise it is on and serves its first variation to everyone.
fn flag(key: &str, fields: Value) -> Value {
    let mut whole = json!({"key": key, "version": 7, "on": true, "salt": format!("salt-of-{key}"),
        "variations": [true, false], "offVariation": 1, "fallthrough": {"variation": 0},
        "clientSideAvailability": {"usingEnvironmentId": false, "usingMobileKey": false}});
    for (name, value) in fields.as_object().unwrap() {
        whole[name.as_str()] = value.clone();
    }
    whole
}

fn file_of(flags: Vec<Value>, segments: Vec<Value>) -> Value {
    let by_key = |items: Vec<Value>| -> Value {
        let key = |item: &Value| item["key"].as_str().unwrap().to_owned();
        items.into_iter().map(|item| (key(&item), item)).collect::<serde_json::Map<_, _>>().into()
    };
    json!({"flags": by_key(flags), "segments": by_key(segments)})
}

/// A flag for each operator, and flags for everything else that can decide.
fn rich_file() -> Value {
    let operators = [
        ("in", json!(["AT", "CH", 3, null, true])),
        ("startsWith", json!(["A", "user-1"])),
        ("endsWith", json!(["7", "H"])),
        ("contains", json!(["er-2"])),
        ("matches", json!(["^user-[0-9]*[13579]$", "(?!refused)"])),
        ("lessThan", json!([250])),
        ("lessThanOrEqual", json!([100.5, "text"])),
        ("greaterThan", json!([400, 300])),
        ("greaterThanOrEqual", json!([250])),
        ("before", json!(["2026-01-01T02:00:00Z", 1_767_225_700_000_i64])),
        ("after", json!(["2026-01-01T02:00:00+01:00", "no time"])),
        ("semVerEqual", json!(["2.1"])),
        ("semVerLessThan", json!(["2.7.0"])),
        ("semVerGreaterThan", json!(["2.3.4"])),
        ("isNear", json!([1])),
    ];
    let attribute = |op: &str| match op {
        "in" => "country",
        "before" | "after" => "at",
        "semVerEqual" | "semVerLessThan" | "semVerGreaterThan" => "/app/version",
        "lessThan" | "lessThanOrEqual" | "greaterThan" | "greaterThanOrEqual" => "age",
        _ => "key",
    };
    let half = json!({"variations": [{"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]});
    let mut flags: Vec<Value> = operators
        .iter()
        .map(|(op, values)| {
            let clause = |negate| json!({"contextKind": "user", "attribute": attribute(op), "op": op, "values": values, "negate": negate});
            let org = json!({"contextKind": "org", "attribute": "size", "op": "greaterThan", "values": [10]});
            flag(&format!("op-{op}"), json!({"fallthrough": {"variation": 1}, "rules": [
                {"id": "r-1", "clauses": [clause(false)], "rollout": half},
                {"id": "r-2", "clauses": [clause(true), org], "variation": 0}]}))
        })
        .collect();
    let slices = json!([{"variation": 2, "weight": 10_000}, {"variation": 0, "weight": 33_333, "untracked": true},
        {"variation": 1, "weight": 26_667}, {"variation": 2, "weight": 30_000}]);
    let colours = json!(["red", "green", "blue"]);
    let mut split = |key: &str, rollout: Value, more: Value| {
        let mut rollout = rollout;
        rollout["variations"] = slices.clone();
        let mut fields = json!({"variations": colours, "offVariation": null, "fallthrough": {"rollout": rollout}});
        fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        flags.push(flag(key, fields));
    };
    split(
        "split",
        json!({"contextKind": "user"}),
        json!({"trackEvents": true, "debugEventsUntilDate": 1}),
    );
    split("by-email", json!({"bucketBy": "email"}), json!({}));
    split("by-org", json!({"contextKind": "org", "bucketBy": "/size"}), json!({}));
    split("seeded", json!({"contextKind": "user", "seed": 61}), json!({}));
    split(
        "experiment",
        json!({"kind": "experiment", "contextKind": "user", "bucketBy": "email", "seed": -7}),
        json!({}),
    );
    split(
        "needy",
        json!({}),
        json!({"prerequisites": [{"key": "split", "variation": 2}, {"key": "op-in", "variation": 0}]}),
    );
    split(
        "lost",
        json!({}),
        json!({"prerequisites": [{"key": "nowhere", "variation": 0}], "offVariation": 1}),
    );
    split(
        "odd",
        json!({}),
        json!({"rules": [
        {"id": "r-1", "clauses": [{"attribute": "age", "op": "lessThan", "values": [50]}], "variation": 9},
        {"id": "r-2", "clauses": [{"attribute": "age", "op": "lessThan", "values": [90]}]}]}),
    );
    flags.push(flag("targets", json!({"variations": [{"a": 1}, [], {"b": {"c": 1.5}}], "targets": [{"values": ["user-7", "user-9"], "variation": 1}],
        "contextTargets": [{"contextKind": "org", "values": ["org-3", "org-1"], "variation": 2}, {"contextKind": "user", "values": [], "variation": 1}]})));
    flags.push(flag("off", json!({"on": false, "variations": [1, 2.5], "offVariation": 1})));
    for (key, segments) in [
        ("in-beta", json!(["beta"])),
        ("in-share", json!(["share", "nobody"])),
        ("in-nested", json!(["nested"])),
        ("in-big", json!(["big"])),
    ] {
        let clause = json!({"attribute": "", "op": "segmentMatch", "values": segments});
        flags.push(flag(
            key,
            json!({"rules": [{"id": "r-1", "clauses": [clause], "variation": 1}]}),
        ));
    }
    let gold =
        json!({"contextKind": "user", "attribute": "country", "op": "in", "values": ["AT", "DE"]});
    file_of(
        flags,
        vec![
            json!({"key": "beta", "salt": "b", "included": ["user-1", "user-20"], "excluded": ["user-3"],
            "includedContexts": [{"contextKind": "org", "values": ["org-4"]}], "excludedContexts": [{"contextKind": "org", "values": ["org-5"]}],
            "rules": [{"id": "s-1", "clauses": [gold]}]}),
            json!({"key": "share", "salt": "c", "rules": [
            {"id": "s-1", "clauses": [gold], "weight": 40_000},
            {"id": "s-2", "clauses": [], "weight": 20_000, "bucketBy": "email", "rolloutContextKind": "user"}]}),
            json!({"key": "nested", "salt": "d", "rules": [{"id": "s-1", "clauses": [
            {"attribute": "", "op": "segmentMatch", "values": ["beta", "share"], "negate": true}]}]}),
            json!({"key": "big", "salt": "e", "unbounded": true, "generation": 2, "rules": [{"id": "s-1", "clauses": [gold]}]}),
        ],
    )
}

fn contexts() -> Vec<Value> {
    let country = |i: usize| ["AT", "CH", "DE", "FR"][i % 4];
    let context = |i: usize| {
        let mut user = json!({"key": format!("user-{i}"), "age": i, "country": country(i),
            "at": format!("2026-01-01T{:02}:{:02}:00Z", i % 24, i % 60), "app": {"version": format!("2.{}.{}", i % 9, i % 5)}});
        if !i.is_multiple_of(3) {
            user["email"] = json!(format!("{i}@example.org"));
        }
        let org = json!({"key": format!("org-{}", i % 10), "size": i % 25});
        match i % 5 {
            0 => json!({"kind": "multi", "user": user, "org": org}),
            1 => json!({"kind": "org", "key": org["key"], "size": org["size"]}),
            _ => {
                user["kind"] = json!("user");
                user
            }
        }
    };
    (0..CONTEXTS).map(context).collect()
}

/// What the file evaluates to without a server: a row for each context.
fn offline(file: &Value, flags: &[String]) -> Vec<Vec<Value>> {
    let ruleset = read_ruleset(file.clone()).unwrap().ruleset;
    let row = |context: Value| {
        let context = Context::decode_launchdarkly(context).unwrap();
        let result = |key: &String| {
            let outcome = evaluate(&ruleset, ruleset.flag(key).unwrap(), &context);
            json!({"value": outcome.value(), "index": outcome.variation.map(|(index, _)| index), "reason": outcome.reason_body()})
        };
        flags.iter().map(result).collect()
    };
    contexts().into_iter().map(row).collect()
}

/// What the server answers.
async fn online(client: &Client, flags: &[String]) -> Vec<Vec<Value>> {
    let body = json!({"contexts": contexts(), "flags": flags});
    let answer = client.post("/api/v1/evaluate?detail=true", body).await.expect(200);
    let result = |result: &Value| json!({"value": result["value"], "index": result["variationIndex"], "reason": result["reason"]});
    let rows = answer["results"].as_array().unwrap().iter();
    rows.map(|row| row.as_array().unwrap().iter().map(result).collect()).collect()
}

fn keys(file: &Value, what: &str) -> Vec<String> {
    file[what].as_object().unwrap().keys().cloned().collect()
}

async fn nobody_changes(backend: Backend) {
    let server = Server::start(backend).await;
    let client = with_environments(&server).await;
    let file = rich_file();
    let (flags, segments) = (keys(&file, "flags"), keys(&file, "segments"));
    let told = server.admin.post(&format!("{IMPORT}?dryRun=true"), file.clone()).await.expect(200);
    assert_eq!(client.evaluate("split", json!({})).await.status, 404, "a dry run changes nothing");
    let mut done = server.admin.post(IMPORT, file.clone()).await.expect(200);
    assert_eq!(
        (&done["flags"]["created"], &done["segments"]["created"]),
        (&json!(flags), &json!(segments))
    );
    let (before, after) = (offline(&file, &flags), online(&client, &flags).await);
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        for ((flag, before), after) in flags.iter().zip(before).zip(after) {
            assert_eq!(before, after, "{flag} for {}", contexts()[i]);
        }
    }
    assert_eq!(before.len(), CONTEXTS);
    let notes: Vec<_> = done["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| (note["path"].as_str().unwrap(), note["code"].as_str().unwrap()))
        .collect();
    for expected in [
        ("flags.op-matches.rules[0].clauses[0].values[1]", "invalid_pattern"),
        ("flags.op-isNear.rules[0].clauses[0].op", "unknown_operator"),
        ("flags.op-after.rules[0].clauses[0].values[1]", "value_type"),
        ("flags.lost.prerequisites[0].key", "unknown_flag"),
        ("flags.odd.rules[0].variation", "unknown_variation"),
        ("flags.odd.rules[1]", "required"),
        ("flags.in-share.rules[0].clauses[0].values[1]", "unknown_segment"),
        ("segments.big.unbounded", "unbounded_segment"),
        ("flags.split.debugEventsUntilDate", "not_kept"),
    ] {
        assert!(notes.contains(&expected), "{expected:?} in {notes:?}");
    }
    assert_eq!(done["moreNotes"], 0);
    // The dry run answered the same.
    done["dryRun"] = json!(true);
    assert_eq!(told, done);
    // The other environment has the flags too, off.
    let production =
        server.admin.get(&format!("{ENVIRONMENTS}/production/flags/split")).await.expect(200);
    assert_eq!((&production["on"], &production["offVariation"]), (&json!(false), &json!(2)));
    // Once more is nothing new, also after a change that leads back.
    let again =
        server.admin.post(&format!("{IMPORT}?replace=true"), file.clone()).await.expect(200);
    assert_eq!(
        (&again["flags"]["unchanged"], &again["segments"]["unchanged"]),
        (&json!(flags), &json!(segments))
    );
    assert_eq!(again["version"], done["version"]);
    let audit = server.admin.get(&format!("{IMPORTED}/audit?limit=1")).await.expect(200);
    let entry = &audit["items"][0];
    assert_eq!(
        (&entry["action"], &entry["version"], &entry["subject"]),
        (&json!("environment.import"), &done["version"], &json!("imported"))
    );
    assert!(
        entry["changes"][1].as_str().unwrap().starts_with("created 29 flag(s): op-in, "),
        "{entry}"
    );
}

#[tokio::test]
async fn nobody_gets_another_variation_on_sqlite() {
    nobody_changes(Backend::Sqlite).await;
}

#[tokio::test]
async fn nobody_gets_another_variation_on_postgres() {
    nobody_changes(Backend::Postgres).await;
}

async fn own_changes_are_kept(backend: Backend) {
    let server = Server::start(backend).await;
    let client = with_environments(&server).await;
    let admin = &server.admin;
    let file = file_of(
        vec![flag("f", json!({})), flag("g", json!({}))],
        vec![json!({"key": "s", "salt": "x", "included": ["u"]})],
    );
    let first = admin.post(IMPORT, file.clone()).await.expect(200);
    let off = json!({"instructions": [{"kind": "turnFlagOff"}]});
    admin.patch(&format!("{IMPORTED}/flags/f"), off.clone()).await.expect(200);
    admin.put(&format!("{IMPORTED}/segments/s"), json!({"included": ["v"]})).await.expect(200);
    let kept = admin.post(IMPORT, file.clone()).await.expect(200);
    assert_eq!(
        (&kept["flags"]["refused"], &kept["flags"]["unchanged"]),
        (&json!(["f"]), &json!(["g"]))
    );
    assert_eq!(kept["segments"]["refused"], json!(["s"]));
    let codes: Vec<_> =
        kept["notes"].as_array().unwrap().iter().map(|note| note["code"].clone()).collect();
    assert_eq!(codes, ["taken", "taken"]);
    assert_eq!(kept["version"].as_i64(), first["version"].as_i64().map(|version| version + 2));
    assert_eq!(client.value("f", json!({"targetingKey": "u"})).await, false);
    let replaced = admin.post(&format!("{IMPORT}?replace=true"), file.clone()).await.expect(200);
    assert_eq!(
        (&replaced["flags"]["replaced"], &replaced["segments"]["replaced"]),
        (&json!(["f"]), &json!(["s"]))
    );
    assert_eq!(client.value("f", json!({"targetingKey": "u"})).await, true);
    let segment = admin.get(&format!("{IMPORTED}/segments/s")).await.expect(200);
    assert_eq!((&segment["included"], &segment["salt"]), (&json!(["u"]), &json!("x")));
    // A kill is a change, too, and only replacing ends it.
    admin.post("/kill/f?project=shop&environment=imported", json!({})).await.expect(200);
    assert_eq!(
        admin.post(IMPORT, file.clone()).await.expect(200)["flags"]["refused"],
        json!(["f"])
    );
    let ended = admin.post(&format!("{IMPORT}?replace=true"), file).await.expect(200);
    assert_eq!(ended["notes"][0]["code"], "kill_ended");
    assert_eq!(admin.get(&format!("{IMPORTED}/flags/f")).await.expect(200)["killed"], Value::Null);
}

#[tokio::test]
async fn what_was_changed_here_is_kept_unless_it_is_replaced_on_sqlite() {
    own_changes_are_kept(Backend::Sqlite).await;
}

#[tokio::test]
async fn what_was_changed_here_is_kept_unless_it_is_replaced_on_postgres() {
    own_changes_are_kept(Backend::Postgres).await;
}

#[tokio::test]
async fn other_environments_keep_their_answers() {
    let server = Server::start(Backend::Postgres).await;
    let client = with_environments(&server).await;
    let admin = &server.admin;
    let production = server.token("server", None).await;
    server.flag_on("used").await;
    server.flag("untouched").await;
    let parent = json!([{"kind": "addPrerequisite", "key": "needed", "variation": "on"}]);
    server.flag("needed").await;
    admin.change("used", parent).await.expect(200);
    let version = async || {
        admin.get(&format!("{ENVIRONMENTS}/production")).await.expect(200)["version"].clone()
    };
    let before = version().await;
    // With the same values a flag is configured here, and the other environment is not touched.
    let same = file_of(vec![flag("used", json!({}))], vec![]);
    let configured = admin.post(IMPORT, same).await.expect(200);
    assert_eq!(configured["flags"]["configured"], json!(["used"]));
    assert_eq!(version().await, before);
    // Other values would be served there, too.
    let texts = |key| {
        flag(
            key,
            json!({"variations": ["a", "b", "c"], "offVariation": 2, "fallthrough": {"variation": 1}}),
        )
    };
    let file =
        file_of(vec![texts("used"), texts("untouched"), texts("needed"), texts("new")], vec![]);
    let kept = admin.post(IMPORT, file.clone()).await.expect(200);
    assert_eq!(
        (&kept["flags"]["refused"], &kept["flags"]["created"]),
        (&json!(["used", "untouched", "needed"]), &json!(["new"]))
    );
    let replaced = admin.post(&format!("{IMPORT}?replace=true"), file).await.expect(200);
    assert_eq!(
        (&replaced["flags"]["refused"], &replaced["flags"]["replaced"]),
        (&json!(["used", "needed"]), &json!(["untouched"]))
    );
    assert_eq!(replaced["notes"][0]["code"], "used_elsewhere");
    assert_eq!(client.value("untouched", json!({"targetingKey": "u"})).await, "b");
    assert_eq!(production.value("used", json!({"targetingKey": "u"})).await, false);
    assert_eq!(production.value("untouched", json!({})).await, "c", "off, with the new values");
    assert_eq!(production.value("new", json!({})).await, "c");
    let listed = admin.get("/api/v1/projects/shop/flags").await.expect(200);
    let untouched =
        listed["items"].as_array().unwrap().iter().find(|item| item["key"] == "untouched").unwrap();
    assert_eq!(untouched["kind"], "string");
}

#[tokio::test]
async fn what_is_refused_is_told_and_the_rest_arrives() {
    let server = Server::start(Backend::Sqlite).await;
    let client = with_environments(&server).await;
    let admin = &server.admin;
    admin
        .post("/api/v1/projects/shop/flags", json!({"key": "gone", "kind": "boolean"}))
        .await
        .expect(201);
    admin.delete("/api/v1/projects/shop/flags/gone").await.expect(204);
    let keys: Vec<String> = (0..10_001).map(|i| format!("user-{i}")).collect();
    let circle = |key: &str, other: &str| {
        flag(key, json!({"prerequisites": [{"key": other, "variation": 0}]}))
    };
    let asking = json!({"rules": [{"id": "r", "variation": 0, "clauses": [{"attribute": "", "op": "segmentMatch", "values": ["full"]}]}]});
    let file = file_of(
        vec![
            flag("good", json!({})),
            flag("gone", json!({})),
            flag("empty", json!({"variations": []})),
            flag("full", json!({"targets": [{"values": keys, "variation": 0}]})),
            flag("a b", json!({})),
            flag("broken", json!({"rules": 7})),
            circle("left", "right"),
            circle("right", "left"),
            flag("asking", asking),
        ],
        vec![json!({"key": "full", "included": keys}), json!({"key": "fine"})],
    );
    let answer = admin.post(IMPORT, file).await.expect(200);
    assert_eq!(
        (&answer["flags"]["created"], &answer["segments"]["created"]),
        (&json!(["good", "asking"]), &json!(["fine"]))
    );
    let refused: Vec<&str> = answer["notes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|note| note["code"].as_str().unwrap())
        .collect();
    assert_eq!(
        refused,
        [
            "too_many",
            "required",
            "too_many",
            "invalid_key",
            "unreadable",
            "key_taken",
            "cycle",
            "cycle",
            "unknown_segment"
        ]
    );
    assert_eq!(client.value("good", json!({"targetingKey": "u"})).await, true);
    assert_eq!(client.evaluate("full", json!({})).await.status, 404);
}

#[tokio::test]
async fn bad_imports_are_refused_as_a_whole() {
    let server = Server::start(Backend::Sqlite).await;
    with_environments(&server).await;
    let admin = &server.admin;
    let elsewhere = format!("{ENVIRONMENTS}/production/import/launchdarkly");
    let huge = format!("{{\"flags\":{{}},\"x\":\"{}\"}}", "x".repeat(17 << 20));
    let nowhere = format!("{ENVIRONMENTS}/none/import/launchdarkly");
    let empty = r#"{"flags":{},"segments":{}}"#.to_owned();
    let before = admin.get(IMPORTED).await.text;
    for (path, body, status, code) in [
        (elsewhere.as_str(), empty.clone(), 409, "server_sdk_required"),
        (nowhere.as_str(), empty.clone(), 404, "not_found"),
        (IMPORT, huge, 413, "body_too_large"),
        (IMPORT, String::new(), 400, "json_syntax"),
        (IMPORT, r#"{"flags":{"a":{},"a":{}}}"#.to_owned(), 400, "duplicate_key"),
        (IMPORT, "[]".to_owned(), 422, "wrong_type"),
        (IMPORT, "{}".to_owned(), 422, "required"),
        (IMPORT, r#"{"flags":[]}"#.to_owned(), 422, "wrong_type"),
        (&format!("{IMPORT}?force=true"), empty.clone(), 400, "invalid_query"),
    ] {
        let problem = admin.raw(Method::POST, path, body).await.expect(status);
        assert_eq!(problem["code"], code, "{path}");
    }
    assert_eq!(admin.get(IMPORTED).await.text, before);
    let mending = admin.post(&elsewhere, json!({"flags": {}})).await.expect(409)["detail"].clone();
    assert!(mending.as_str().unwrap().contains(r#""serverSdk":"launchdarkly""#), "{mending}");
    // Five mebibytes are more than other requests may have.
    let large = format!("{{\"flags\":{{}},\"x\":\"{}\"}}", "x".repeat(5 << 20));
    assert_eq!(
        admin.raw(Method::POST, IMPORT, large).await.expect(200)["flags"]["created"],
        json!([])
    );
}

#[tokio::test]
async fn a_token_must_edit_the_whole_project() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = with_environments(&server).await;
    let admin = &server.admin;
    let make = async |path: &str, body: Value| {
        let made = admin.post(path, body).await.expect(201);
        admin.with_token(made["token"].as_str().unwrap())
    };
    let of_project = async |role: &str| {
        make("/api/v1/tokens", json!({"name": "p", "role": role, "project": "shop"})).await
    };
    let of_environment = make(
        &format!("{IMPORTED}/tokens"),
        json!({"name": "e", "kind": "admin", "role": "administrator"}),
    )
    .await;
    let (viewer, editor) = (of_project("viewer").await, of_project("editor").await);
    let file = file_of(vec![flag("f", json!({}))], vec![]);
    for (client, status, code) in
        [(&backend, 403, "token_kind"), (&viewer, 403, "role"), (&of_environment, 404, "not_found")]
    {
        for query in ["", "?dryRun=true"] {
            let problem =
                client.post(&format!("{IMPORT}{query}"), file.clone()).await.expect(status);
            assert_eq!(problem["code"], code);
        }
    }
    assert_eq!(editor.post(IMPORT, file).await.expect(200)["flags"]["created"], json!(["f"]));
}

#[tokio::test]
async fn thousands_of_flags_are_one_change() {
    let server = Server::start(Backend::Postgres).await;
    let client = with_environments(&server).await;
    let flags = (0..3_000).map(|i| flag(&format!("f-{i}"), json!({}))).collect();
    let segments = (0..1_200).map(|i| json!({"key": format!("s-{i}")})).collect();
    let file = file_of(flags, segments);
    let version = server.admin.get(IMPORTED).await.expect(200)["version"].as_i64().unwrap();
    let answer = server.admin.post(IMPORT, file.clone()).await.expect(200);
    assert_eq!(answer["flags"]["created"].as_array().unwrap().len(), 3_000);
    assert_eq!(answer["version"], version + 1);
    assert_eq!(client.value("f-2999", json!({"targetingKey": "u"})).await, true);
    let again = server.admin.post(IMPORT, file).await.expect(200);
    assert_eq!(
        (&again["version"], again["segments"]["unchanged"].as_array().unwrap().len()),
        (&json!(version + 1), 1_200)
    );
}

#[tokio::test]
async fn the_command_line_imports_and_tells() {
    let server = Server::start(Backend::Sqlite).await;
    with_environments(&server).await;
    let folder = Folder::new();
    let path = folder.path().join("flags.json");
    let file = file_of(vec![flag("f", json!({})), flag("bad", json!({"variations": []}))], vec![]);
    std::fs::write(&path, file.to_string()).unwrap();
    let run = async |more: &[&str]| {
        let output = command()
            .args(["import", "launchdarkly"])
            .arg(&path)
            .args(["--project", "shop", "--environment", "imported"])
            .args(more)
            .env("VEXIL_URL", &server.url)
            .env("VEXIL_TOKEN", &server.admin.token)
            .output()
            .await
            .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, told, complaint) = run(&["--dry-run"]).await;
    assert_eq!(code, Some(1), "{complaint}");
    assert!(complaint.contains("1 flag(s) and 0 segment(s) were not brought over"), "{complaint}");
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["dryRun"], &told["flags"]["created"]), (&json!(true), &json!(["f"])));
    let (code, table, _) = run(&["--output", "table"]).await;
    assert_eq!(code, Some(1));
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("WERE      CREATED  CONFIGURED  REPLACED  UNCHANGED  REFUSED"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("flags     1        0           0         0          1"),
        "{table}"
    );
    assert_eq!(lines[3], "flags.bad.variations: must have at least one variation");
    std::fs::write(&path, file_of(vec![flag("f", json!({}))], vec![]).to_string()).unwrap();
    let (code, told, complaint) = run(&["--replace"]).await;
    assert_eq!((code, complaint.as_str()), (Some(0), ""));
    assert_eq!(serde_json::from_str::<Value>(&told).unwrap()["flags"]["unchanged"], json!(["f"]));
    std::fs::write(&path, "[]").unwrap();
    let (code, _, complaint) = run(&[]).await;
    assert_eq!(code, Some(1));
    assert!(complaint.contains("422 wrong_type"), "{complaint}");
}
