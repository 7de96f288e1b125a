//! Flags as files: exported, planned and applied by the program itself.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;
use std::path::Path;

/// Contexts that are evaluated on both servers.
const CONTEXTS: usize = 2_000;
/// Contexts of one request.
const BATCH: usize = 100;

/// Runs a command; returns its status, its output and its complaint.
async fn run(client: &Client, args: &[&str]) -> (i32, String, String) {
    let output = command()
        .args(args)
        .env("VEXIL_URL", &client.url)
        .env("VEXIL_TOKEN", &client.token)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn succeeds(client: &Client, args: &[&str]) -> String {
    let (status, output, complaint) = run(client, args).await;
    assert_eq!(status, 0, "{args:?}: {complaint}{output}");
    output
}

/// A project with rules, rollouts, targets, prerequisites and segments.
async fn filled(backend: Backend) -> (Server, Client) {
    let server = Server::start(backend).await;
    let client = server.with_environment().await;
    let admin = &server.admin;
    let segments = "/api/v1/projects/shop/environments/production/segments";
    let beta = json!({"key": "beta", "included": ["u1"], "rules": [{"weight": 30_000, "clauses": [
        {"attribute": "plan", "op": "in", "values": ["gold"]}]}]});
    admin.post(segments, beta).await.expect(201);
    server.flag_on("base").await;
    let colour = json!({"key": "colour", "kind": "string", "tags": ["b", "a"], "variations": [
        {"key": "on", "value": "no"}, {"key": "off", "value": "1.0"}, {"key": "null", "value": "~"}]});
    admin.post("/api/v1/projects/shop/flags", colour).await.expect(201);
    let change = json!([{"kind": "turnFlagOn"},
        {"kind": "updateTrackEvents", "trackEvents": true},
        {"kind": "addPrerequisite", "key": "base", "variation": "on"},
        {"kind": "addTargets", "variation": "null", "values": ["u7"]},
        {"kind": "addRule", "clauses": [{"attribute": "", "op": "segmentMatch", "values": ["beta"]}],
            "variation": "off"},
        {"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"on": 20_000, "off": 30_000, "null": 50_000}}]);
    let answer = admin.change("colour", change).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let change = json!([{"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"on": 55_000, "off": 5_000, "null": 40_000}}]);
    admin.change("colour", change).await.expect(200);
    (server, client)
}

async fn values(client: &Client) -> Vec<Value> {
    let mut all = Vec::new();
    for start in (0..CONTEXTS).step_by(BATCH) {
        let context = |i| {
            let plan = if i % 3 == 0 { "gold" } else { "free" };
            json!({"kind": "user", "key": format!("u{i}"), "plan": plan})
        };
        let contexts: Vec<Value> = (start..start + BATCH).map(context).collect();
        let answer = client.post("/api/v1/evaluate", json!({"contexts": contexts})).await;
        let mut body = answer.expect(200);
        body.as_object_mut().unwrap().retain(|name, _| name == "results");
        all.push(body);
    }
    assert!(all[0]["results"].is_array(), "{}", all[0]);
    all
}

async fn what_is_exported_is_the_same_elsewhere(from: Backend, to: Backend) {
    let (old, old_client) = filled(from).await;
    let new = Server::start(to).await;
    let folder = Folder::new();
    let file = folder.path().join("shop.yaml");
    let file = file.to_str().unwrap();
    let tree = format!("{}/tree/", folder.path().display());
    succeeds(&old.admin, &["export", "--project", "shop", "-o", file]).await;
    succeeds(&old.admin, &["export", "--project", "shop", "-o", &tree]).await;
    assert!(Path::new(&tree).join("flags/colour.yaml").exists());
    for each in [file, tree.as_str()] {
        let (status, output, complaint) = run(&old.admin, &["plan", "-f", each]).await;
        assert_eq!((status, complaint.as_str()), (0, ""), "{output}");
    }
    let (status, ..) = run(&new.admin, &["plan", "-f", &tree]).await;
    assert_eq!(status, 2, "everything is new there");
    assert_eq!(new.admin.get("/api/v1/projects/shop").await.status, 404, "and nothing was written");
    succeeds(&new.admin, &["apply", "-f", &tree, "--yes", "--comment", "brought over"]).await;
    let again: Value =
        serde_json::from_str(&succeeds(&new.admin, &["apply", "-f", file]).await).unwrap();
    assert_eq!(again["changes"], json!([]));
    let exported = succeeds(&new.admin, &["export", "--project", "shop"]).await;
    assert_eq!(exported, std::fs::read_to_string(file).unwrap());
    let new_client = new.token("server", None).await;
    assert_eq!(values(&new_client).await, values(&old_client).await);
    let audit = new.admin.get("/api/v1/projects/shop/audit").await.expect(200);
    let applied = audit["items"].as_array().unwrap().iter();
    let applied: Vec<&Value> = applied.filter(|it| it["action"] == "project.apply").collect();
    assert_eq!(applied.len(), 1, "{audit}");
    assert_eq!(applied[0]["comment"], "brought over");
}

#[tokio::test]
async fn what_is_exported_from_sqlite_is_the_same_on_postgres() {
    what_is_exported_is_the_same_elsewhere(Backend::Sqlite, Backend::Postgres).await;
}

#[tokio::test]
async fn what_is_exported_from_postgres_is_the_same_on_sqlite() {
    what_is_exported_is_the_same_elsewhere(Backend::Postgres, Backend::Sqlite).await;
}

#[tokio::test]
async fn a_plan_shows_what_was_changed_by_hand_and_leaves_kills_alone() {
    let (server, client) = filled(Backend::Sqlite).await;
    let folder = Folder::new();
    let file = folder.path().join("shop.json");
    let file = file.to_str().unwrap();
    let export = ["export", "--project", "shop", "--format", "json", "-o", file];
    succeeds(&server.admin, &export).await;
    let off = json!([{"kind": "turnFlagOff"}]);
    server.admin.change("base", off).await.expect(200);
    let (status, output, _) = run(&server.admin, &["drift", "-f", file]).await;
    let plan: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(status, 2);
    assert_eq!(plan["changes"][0]["details"][0]["text"], "turns the flag on", "{plan}");
    succeeds(&server.admin, &["apply", "-f", file]).await;
    assert_eq!(client.value("base", json!({})).await, true);
    succeeds(&server.admin, &["kill", "base"]).await;
    let (status, output, _) = run(&server.admin, &["plan", "-f", file]).await;
    let plan: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((status, &plan["notes"][0]["code"]), (0, &json!("killed")), "{plan}");
    succeeds(&server.admin, &["apply", "-f", file]).await;
    assert_eq!(client.value("base", json!({})).await, false);
}

#[tokio::test]
async fn only_what_was_applied_before_is_pruned_and_never_much_of_it() {
    let server = Server::start(Backend::Sqlite).await;
    let flags = |n: usize| {
        let flag = |i| (format!("f{i}"), json!({"kind": "boolean"}));
        let flags: serde_json::Map<String, Value> = (0..n).map(flag).collect();
        json!({"format": "vexil/1", "project": {"key": "shop"}, "environments": {"production": {}},
            "flags": flags})
    };
    let apply = "/api/v1/projects/shop/apply";
    server.admin.post(apply, json!({"state": flags(12)})).await.expect(200);
    server.flag("by-hand").await;
    let pruning = |n, force| json!({"state": flags(n), "prune": true, "force": force});
    assert_eq!(server.admin.post(apply, pruning(2, false)).await.status, 409);
    let pruned = server.admin.post(apply, pruning(10, false)).await.expect(200);
    let changes = pruned["changes"].as_array().unwrap();
    assert!(changes.len() == 2 && changes.iter().all(|it| it["op"] == "archive"), "{pruned}");
    server.admin.post(apply, pruning(2, true)).await.expect(200);
    let flag = server.admin.get("/api/v1/projects/shop/flags/by-hand").await.expect(200);
    assert_eq!(flag["archived"], false);
}

#[tokio::test]
async fn a_wrong_file_is_refused_as_a_whole_with_the_places() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let state = |config: Value| {
        json!({"state": {"format": "vexil/1", "project": {"key": "shop"},
            "flags": {"f": {"environments": {"production": config}}, "g": {"kind": "boolean"}}}})
    };
    for (config, path, code) in [
        (json!({"onn": true}), "onn", "unknown_field"),
        (json!({"on": "yes"}), "on", "wrong_type"),
        (json!({"offVariation": "x"}), "offVariation", "unknown_variation"),
        (
            json!({"prerequisites": [{"key": "z", "variation": "on"}]}),
            "prerequisites[0].variation",
            "unknown_flag",
        ),
        (json!({"prerequisites": [{"key": "f", "variation": "on"}]}), "", "cycle"),
        (
            json!({"fallthrough": {"rollout": {"variations": [{"variation": "on", "weight": 1}]}}}),
            "fallthrough.rollout.variations",
            "weights_sum",
        ),
    ] {
        let answer =
            server.admin.post("/api/v1/projects/shop/apply", state(config)).await.expect(422);
        let error = &answer["errors"][0];
        assert_eq!(error["code"], code, "{answer}");
        assert!(error["path"].as_str().unwrap().ends_with(path), "{answer}");
    }
    assert_eq!(server.admin.get("/api/v1/projects/shop/flags/g").await.status, 404);
}

#[tokio::test]
async fn a_plan_keeps_no_answer_and_claims_no_key() {
    use sqlx::Connection;
    let (server, _) = filled(Backend::Postgres).await;
    let folder = Folder::new();
    let file = folder.path().join("state.yaml");
    let file = file.to_str().unwrap();
    succeeds(&server.admin, &["export", "--project", "shop", "--out", file]).await;
    for command_name in ["plan", "drift"] {
        succeeds(&server.admin, &[command_name, "--file", file]).await;
    }
    let mut database = sqlx::PgConnection::connect(server.database_url()).await.unwrap();
    let count = sqlx::query_scalar::<_, i64>("select count(*) from idempotency");
    assert_eq!(count.fetch_one(&mut database).await.unwrap(), 0);
}

#[tokio::test]
async fn a_plan_says_what_another_owner_looks_after_until_now() {
    let (server, _) = filled(Backend::Sqlite).await;
    let admin = &server.admin;
    let folder = Folder::new();
    let file = folder.path().join("state.yaml");
    let file = file.to_str().unwrap();
    succeeds(admin, &["export", "--project", "shop", "--out", file]).await;
    succeeds(admin, &["apply", "--file", file, "--owner", "web", "--yes"]).await;
    let own = succeeds(admin, &["plan", "--file", file, "--owner", "web"]).await;
    assert!(!own.contains("owner_changes"), "{own}");
    let other = ["plan", "--file", file, "--owner", "app"];
    let answer: Value = serde_json::from_str(&succeeds(admin, &other).await).unwrap();
    let notes = answer["notes"].as_array().unwrap();
    let of = |path: &str| notes.iter().find(|note| note["path"] == path).cloned().unwrap();
    assert_eq!(of("flags.base")["code"], "owner_changes");
    let detail = of("segments.production.beta")["detail"].clone();
    assert_eq!(detail, "`web` looks after it until now, and `app` once this is applied");
    let table = succeeds(admin, &[&other[..], &["--output", "table"]].concat()).await;
    assert!(table.contains("flags.base: `web` looks after it"), "{table}");
    succeeds(admin, &["apply", "--file", file, "--owner", "app", "--yes"]).await;
    let entry = admin.get("/api/v1/audit?limit=1").await.expect(200)["items"][0].clone();
    assert!(entry["changes"].to_string().contains("flags.base: `web`"), "{entry}");
    assert!(!succeeds(admin, &other).await.contains("owner_changes"));
}
