//! Environments for SDKs that evaluate by themselves: every rollout hashes as those do.

use crate::harness::Backend;
use crate::harness::Server;
use serde_json::Value;
use serde_json::json;

const ENVIRONMENTS: &str = "/api/v1/projects/shop/environments";
const SERVED: &str = "/api/v1/projects/shop/environments/served";

fn rollout(more: &Value) -> Value {
    let mut instruction = json!({"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"on": 50_000, "off": 50_000}});
    instruction.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"instructions": [instruction]})
}

async fn an_environment_keeps_its_hash(backend: Backend) {
    let server = Server::start(backend).await;
    server.with_environment().await;
    server.flag("f").await;
    let admin = &server.admin;
    let body = json!({"key": "served", "serverSdk": "launchdarkly"});
    let created = admin.post(ENVIRONMENTS, body).await.expect(201);
    assert_eq!(created["serverSdk"], "launchdarkly");
    assert_eq!(admin.get(SERVED).await.expect(200)["serverSdk"], "launchdarkly");
    let listed = admin.get(ENVIRONMENTS).await.expect(200);
    let of = |i: usize| listed["items"][i]["serverSdk"].clone();
    assert_eq!((of(0), of(1)), (json!("none"), json!("launchdarkly")));

    let path = format!("{SERVED}/flags/f");
    let set = async |more: Value| {
        let changed = admin.patch(&path, rollout(&more)).await.expect(200);
        changed["flag"]["fallthrough"]["rollout"].clone()
    };
    assert_eq!(set(json!({})).await["hash"], "sha1");
    let seeded = set(json!({"rolloutHash": "sha1", "rolloutSeed": 61})).await;
    assert_eq!((&seeded["hash"], &seeded["seed"]), (&json!("sha1"), &json!(61)));
    assert_eq!(set(json!({})).await["seed"], 61, "what is not said stays");
    let refused = admin.patch(&path, rollout(&json!({"rolloutHash": "murmur3"}))).await.expect(422);
    assert_eq!(refused["code"], "hash_not_served");

    let segments = format!("{SERVED}/segments");
    let share = |hash: Value| json!({"key": "s", "rules": [{"clauses": [], "weight": 10_000, "hash": hash}]});
    let refused = admin.post(&segments, share(json!("murmur3"))).await.expect(422);
    assert_eq!(
        (&refused["code"], &refused["errors"][0]["path"]),
        (&json!("hash_not_served"), &json!("rules[0].hash"))
    );
    let made = admin.post(&segments, share(Value::Null)).await.expect(201);
    assert_eq!(made["rules"][0]["hash"], "sha1");
    let segment = format!("{segments}/s");
    let change = |kind: &str, hash: Value| {
        json!({"instructions": [{"kind": "updateName", "value": "S"}, {"kind": kind, "hash": hash,
            "ruleId": made["rules"][0]["id"], "weight": 20_000}]})
    };
    let share = "updateRuleRolloutAndContextKind";
    let added = json!({"instructions": [{"kind": "addRule", "clauses": [], "weight": 1}]});
    let mut refusing = added.clone();
    refusing["instructions"][0]["hash"] = json!("murmur3");
    for (body, place) in [(refusing, 0), (change(share, json!("murmur3")), 1)] {
        let refused = admin.patch(&segment, body).await.expect(422);
        let path = json!(format!("instructions[{place}].hash"));
        assert_eq!(refused["errors"][0]["path"], path, "{refused}");
        assert_eq!(refused["code"], "hash_not_served");
    }
    for body in [added, change(share, Value::Null)] {
        let rules = admin.patch(&segment, body).await.expect(200)["segment"]["rules"].clone();
        assert!(rules.as_array().unwrap().iter().all(|rule| rule["hash"] == "sha1"), "{rules}");
    }

    // Elsewhere a rollout is what it was asked to be.
    let production = format!("{ENVIRONMENTS}/production/flags/f");
    for (more, hash) in [
        (json!({}), Value::Null),
        (json!({"rolloutHash": "sha1"}), json!("sha1")),
        (json!({}), json!("sha1")),
    ] {
        let changed = admin.patch(&production, rollout(&more)).await.expect(200);
        assert_eq!(changed["flag"]["fallthrough"]["rollout"]["hash"], hash);
    }
}

#[tokio::test]
async fn an_environment_keeps_its_hash_on_sqlite() {
    an_environment_keeps_its_hash(Backend::Sqlite).await;
}

#[tokio::test]
async fn an_environment_keeps_its_hash_on_postgres() {
    an_environment_keeps_its_hash(Backend::Postgres).await;
}
