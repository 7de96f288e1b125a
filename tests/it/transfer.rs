//! A project with everything in it, brought to another server as a file: the same file comes out, and everyone gets the same.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use crate::lab::kept;
use crate::lab::size;
use serde_json::Value;
use serde_json::json;

const APPLY: &str = "/api/v1/projects/shop/apply";
const PLAN: &str = "/api/v1/projects/shop/plan";
const EXPORT: &str = "/api/v1/projects/shop/export";
const FLAGS: &str = "/api/v1/projects/shop/flags";
/// Contexts that are evaluated on both servers: in tests, and as many as is promised.
const CONTEXTS: [usize; 2] = [1_000, 10_000];
/// Contexts of one request.
const BATCH: usize = 500;

/// Each operator with an attribute and values of which some contexts have one.
fn clauses() -> Vec<Value> {
    let clause = |attribute: &str, op: &str, values: Value| json!({"contextKind": "user", "attribute": attribute, "op": op, "values": values});
    vec![
        clause("plan", "in", json!(["gold", 7, true])),
        clause("email", "startsWith", json!(["u1", "u2"])),
        clause("email", "endsWith", json!(["@b.example"])),
        clause("email", "matches", json!(["^u[0-9]*5@"])),
        clause("email", "contains", json!(["33"])),
        clause("age", "lessThan", json!([20])),
        clause("age", "lessThanOrEqual", json!([21])),
        clause("age", "greaterThan", json!([80])),
        clause("age", "greaterThanOrEqual", json!([79.5])),
        clause("since", "before", json!(["2020-01-01T00:00:00Z"])),
        clause("since", "after", json!([1_700_000_000_000_i64])),
        clause("app", "semVerEqual", json!(["2.0.0"])),
        clause("app", "semVerLessThan", json!(["1.2.0"])),
        clause("app", "semVerGreaterThan", json!(["2.5.0-beta.1"])),
        clause("/address/city", "in", json!(["Graz"])),
        json!({"contextKind": "org", "attribute": "key", "op": "in", "values": ["o3"], "negate": true}),
        json!({"attribute": "", "op": "segmentMatch", "values": ["nested"]}),
    ]
}

async fn segments(admin: &Client) {
    let path = "/api/v1/projects/shop/environments/production/segments";
    for segment in [
        json!({"key": "listed", "included": ["u1", "u2"], "excluded": ["u3"], "tags": ["x"],
            "includedContexts": [{"contextKind": "org", "values": ["o1"]}],
            "excludedContexts": [{"contextKind": "device", "values": ["d1"]}]}),
        json!({"key": "share", "rules": [
            {"weight": 30_000, "clauses": [{"attribute": "plan", "op": "in", "values": ["gold"]}]},
            {"weight": 12_345, "hash": "sha1", "bucketBy": "email", "clauses":
                [{"attribute": "age", "op": "greaterThan", "values": [50]}]},
            {"weight": 50_000, "rolloutContextKind": "org", "clauses":
                [{"contextKind": "org", "attribute": "key", "op": "startsWith", "values": ["o"]}]}]}),
        json!({"key": "nested", "name": "Nested \u{fc}ber", "description": "a: b #c", "rules": [{"clauses": [
            {"attribute": "", "op": "segmentMatch", "values": ["listed", "share"]}]}]}),
    ] {
        admin.post(path, segment).await.expect(201);
    }
}

async fn flags(admin: &Client) {
    let three = json!([{"key": "a", "value": {"b": [1, 2.5, null]}, "name": "A"}, {"key": "b", "value": []},
        {"key": "null", "value": {"x": "1e3"}}]);
    let mut keys = Vec::new();
    for (i, clause) in clauses().into_iter().enumerate() {
        let key = format!("op-{i}");
        let kind = json!({"key": key, "kind": "json", "variations": three, "tags": ["z", "a"],
            "temporary": i % 2 == 0, "description": "yes: no\n- x"});
        admin.post(FLAGS, kind).await.expect(201);
        let mut rule =
            json!({"kind": "addRule", "description": "on", "clauses": [clause], "variation": "b"});
        if i % 3 == 0 {
            rule.as_object_mut().unwrap().remove("variation");
            rule["rolloutWeights"] = json!({"a": 10_000, "b": 20_001, "null": 69_999});
        }
        let mut divide = json!({"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"a": 20_000, "b": 30_000, "null": 50_000}});
        let more = match i % 5 {
            0 => json!({"rolloutSeed": 61}),
            1 => json!({"rolloutHash": "sha1"}),
            2 => json!({"rolloutHash": "sha1", "rolloutBucketBy": "email"}),
            3 => json!({"rolloutContextKind": "org"}),
            _ => json!({"rolloutBucketBy": "/address/city"}),
        };
        divide.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut steps = vec![
            rule,
            divide,
            json!({"kind": "turnFlagOn"}),
            json!({"kind": "addTargets", "variation": "null", "values": [format!("u{i}"), "u99"]}),
            json!({"kind": "addTargets", "variation": "a", "contextKind": "org", "values": [format!("o{i}")]}),
        ];
        if let Some(previous) = keys.last().filter(|_| i % 4 == 1) {
            steps.push(json!({"kind": "addPrerequisite", "key": previous, "variation": "b"}));
        }
        admin.change(&key, json!(steps)).await.expect(200);
        // Slots that were moved, so that variations own several slices.
        let moved = json!([{"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"a": 55_000, "b": 5_000, "null": 40_000}}]);
        admin.change(&key, moved).await.expect(200);
        keys.push(key);
    }
    let archive = json!({"instructions": [{"kind": "archiveFlag"}]});
    admin.post(FLAGS, json!({"key": "old", "kind": "boolean"})).await.expect(201);
    admin.patch(&format!("{FLAGS}/old"), archive).await.expect(200);
    admin
        .post(
            FLAGS,
            json!({"key": "Number", "kind": "number", "variations": [
        {"key": "on", "value": 1.5}, {"key": "off", "value": -0.25}]}),
        )
        .await
        .expect(201);
    admin.post("/kill/op-3", json!({})).await.expect(200);
}

async fn values(client: &Client, n: usize) -> Vec<Value> {
    let mut all = Vec::new();
    for start in (0..n).step_by(BATCH) {
        let context = |i: usize| {
            let plan = [json!("gold"), json!(7), json!(true), json!("free")][i % 4].clone();
            let app = ["1.0.0", "1.1.9", "2.0.0", "2.5.0", "3.0.0-rc.1"][i % 5];
            let city = ["Graz", "Wien", "Linz"][i % 3];
            let since =
                [json!("2019-05-05T10:00:00+02:00"), json!(1_800_000_000_000_i64)][i % 2].clone();
            let user = json!({"key": format!("u{i}"), "plan": plan, "age": i % 100, "app": app,
                "email": format!("u{i}@{}.example", if i.is_multiple_of(7) { "b" } else { "a" }),
                "since": since, "address": {"city": city}});
            json!({"kind": "multi", "user": user, "org": {"key": format!("o{}", i % 20)},
                "device": {"key": format!("d{}", i % 3)}})
        };
        let contexts: Vec<Value> = (start..n.min(start + BATCH)).map(context).collect();
        let answer =
            client.post("/api/v1/evaluate?detail=true", json!({"contexts": contexts})).await;
        let mut body = answer.expect(200);
        all.append(body["results"].as_array_mut().unwrap());
    }
    assert_eq!(all.len(), n);
    all
}

#[tokio::test]
async fn what_is_brought_over_is_the_same_to_the_byte_and_for_everyone() {
    let n = size(CONTEXTS[0], CONTEXTS[1]);
    let (started, mut found) = (tokio::time::Instant::now(), Vec::new());
    for (from, to) in [(Backend::Sqlite, Backend::Postgres), (Backend::Postgres, Backend::Sqlite)] {
        let old = Server::start(from).await;
        let old_client = old.with_environment().await;
        segments(&old.admin).await;
        flags(&old.admin).await;
        let exported = old.admin.get(EXPORT).await;
        let state: Value = serde_json::from_str(&exported.text).unwrap();
        let new = Server::start(to).await;
        let first = new.admin.post(APPLY, json!({"state": state})).await.expect(200);
        assert!(first["changes"].as_array().unwrap().len() > 20, "{first}");
        let second = new.admin.post(APPLY, json!({"state": state})).await.expect(200);
        assert_eq!((&second["changes"], &second["versions"]), (&json!([]), &first["versions"]));
        assert_eq!(new.admin.get(EXPORT).await.text, exported.text);
        let back = old.admin.post(APPLY, json!({"state": state})).await.expect(200);
        assert_eq!(back["changes"], json!([]));
        let new_client = new.token("server", None).await;
        let (was, is) = (values(&old_client, n).await, values(&new_client, n).await);
        let mut variety = std::collections::BTreeSet::new();
        for (i, (was, is)) in was.iter().zip(&is).enumerate() {
            assert_eq!(was, is, "context {i}");
            variety.insert(was.to_string());
        }
        assert!(variety.len() > n / 20, "contexts get different answers: {}", variety.len());
        found.push(format!("{from} to {to}: {} bytes identical, second `apply` empty, {n} contexts identical with {} different answers", exported.text.len(), variety.len()));
    }
    let what = format!(
        "export, an empty server, apply, export; {n} contexts evaluated on both with reasons"
    );
    kept("a project is the same on another server", &what, started, &found.join("; "));
}

#[tokio::test]
async fn a_plan_names_who_changed_something_by_hand_and_when() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        let admin = &server.admin;
        segments(admin).await;
        server.flag_on("f").await;
        let state: Value = serde_json::from_str(&admin.get(EXPORT).await.text).unwrap();
        let editor = server.token("admin", Some("editor")).await;
        let off = json!({"comment": "at night", "instructions": [{"kind": "turnFlagOff"}]});
        let flag = "/api/v1/projects/shop/environments/production/flags/f";
        editor.patch(flag, off).await.expect(200);
        let rename = json!({"instructions": [{"kind": "updateName", "value": "Other"}]});
        admin.patch(&format!("{FLAGS}/f"), rename).await.expect(200);
        let listed = "/api/v1/projects/shop/environments/production/segments/listed";
        let more = json!({"instructions": [{"kind": "updateDescription", "value": "by hand"}]});
        let changed = editor.patch(listed, more).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let plan = admin.post(PLAN, json!({"state": state})).await.expect(200);
        let changes = plan["changes"].as_array().unwrap();
        let last = |kind: &str| {
            let found = changes.iter().find(|change| change["kind"] == kind);
            found.unwrap_or_else(|| panic!("{kind}: {plan}"))["lastChanged"].clone()
        };
        assert_eq!(last("segment")["by"], "test");
        assert_eq!(last("segment")["action"], "segment.update");
        assert_eq!(last("flag")["by"], "VEXIL_ADMIN_TOKEN");
        assert_eq!(last("flag")["action"], "flag.update");
        let audit =
            "/api/v1/projects/shop/environments/production/audit?action=flag.change&limit=1";
        let entry = admin.get(audit).await.expect(200)["items"][0].clone();
        let config = last("configuration");
        assert_eq!((&config["by"], &config["comment"]), (&json!("test"), &json!("at night")));
        assert_eq!((&config["auditId"], &config["at"]), (&entry["id"], &entry["at"]));
        assert_eq!(config["action"], "flag.change");
    }
}

#[tokio::test]
async fn a_segment_that_was_deleted_and_made_anew_by_hand_is_not_pruned() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    let state = |segments: Value| json!({"format": "vexil/1", "project": {"key": "shop"}, "segments": {"production": segments}});
    let path = "/api/v1/projects/shop/environments/production/segments";
    admin.post(APPLY, json!({"state": state(json!({"s": {}, "t": {}}))})).await.expect(200);
    admin.delete(&format!("{path}/s")).await.expect(204);
    admin.post(path, json!({"key": "s"})).await.expect(201);
    let prune = json!({"state": state(json!({})), "prune": true});
    let pruned = admin.post(APPLY, prune).await.expect(200);
    let keys: Vec<&str> = pruned["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, ["t"]);
    admin.get(&format!("{path}/s")).await.expect(200);
}

#[tokio::test]
async fn what_is_archived_already_does_not_let_more_be_pruned() {
    let server = Server::start(Backend::Sqlite).await;
    let flags = |keys: std::ops::Range<usize>| {
        let flag = |i| (format!("f{i}"), json!({"kind": "boolean"}));
        let flags: serde_json::Map<String, Value> = keys.map(flag).collect();
        json!({"format": "vexil/1", "project": {"key": "shop"}, "environments": {"production": {}}, "flags": flags})
    };
    let prune = |keys, force| json!({"state": flags(keys), "prune": true, "force": force});
    server.admin.post(APPLY, prune(0..100, false)).await.expect(200);
    server.admin.post(APPLY, prune(0..10, true)).await.expect(200);
    // Of 10 that are left, 5 may go; not a tenth of the 100 that there were.
    let refused = server.admin.post(APPLY, prune(0..1, false)).await.expect(409);
    assert_eq!(refused["code"], "too_many_pruned");
    server.admin.post(APPLY, prune(0..5, false)).await.expect(200);
}
