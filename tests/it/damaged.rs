//! Rows that are damaged in the database: they keep nothing else from being killed, restored, tried out or planned, and are named.

use crate::harness::Backend;
use crate::harness::Server;
use crate::kills::tagged;
use jiff::SignedDuration;
use jiff::Timestamp;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const AUDIT: &str = "/api/v1/projects/shop/environments/production/audit?limit=1";
const PROJECT: &str = "/api/v1/projects/shop";
/// What makes rows unreadable, and readable again.
const DAMAGED: &str = "'x' || body";
const MENDED: &str = "substr(body, 2)";

async fn set_config(server: &Server, key: &str, body: &str) {
    let sql = format!("update flag_config set body = {body} where flag_key = '{key}'");
    server.run_sql(&sql).await;
}

/// Flags and reasons of what was left alone.
fn left_alone(done: &Value) -> Vec<(&str, &str)> {
    let left = done["leftAlone"].as_array().unwrap().iter();
    left.map(|left| (left["flag"].as_str().unwrap(), left["reason"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_kill_stays_open_for_a_flag_whose_row_is_damaged() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = tagged(&server, 3).await;
        let admin = &server.admin;
        let kill = |kill: Value| format!("/restore?kill={}", kill["kill"].as_str().unwrap());
        for (by_tag, key) in [(false, "f1"), (true, "f2")] {
            let killed = admin.post("/kill?tag=experimental", json!({})).await.expect(200);
            let restore = match by_tag {
                true => "/restore?tag=experimental".to_owned(),
                false => kill(killed),
            };
            set_config(&server, key, DAMAGED).await;
            let restored = admin.post(&restore, json!({})).await.expect(200);
            assert_eq!(restored["flags"].as_array().unwrap().len(), 2);
            let (left, reason) = left_alone(&restored)[0];
            assert!(left == key && reason.contains("the kill stays open"), "{restored}");
            let nothing = admin.post(&restore, json!({})).await.expect(409);
            assert_eq!(nothing["code"], "unreadable");
            assert!(nothing["detail"].as_str().unwrap().contains(key), "{nothing}");

            set_config(&server, key, MENDED).await;
            let rest = admin.post(&restore, json!({})).await.expect(200);
            assert_eq!(rest["flags"], json!([{"flag": key, "on": true}]));
            assert_eq!(client.value(key, json!({})).await, true);
            assert_eq!(admin.post(&restore, json!({})).await.expect(409)["code"], "not_killed");
        }
    }
}

#[tokio::test]
async fn a_flag_that_is_named_and_damaged_keeps_no_other_from_being_killed_or_restored() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = tagged(&server, 2).await;
        let admin = &server.admin;
        let triggers = "/api/v1/projects/shop/environments/production/flags/f1/triggers";
        let trigger = json!({"name": "t", "action": "kill"});
        let trigger = admin.post(triggers, trigger).await.expect(201)["url"].clone();
        admin.post("/kill?flag=f1&flag=other", json!({})).await.expect(200);
        set_config(&server, "f1", DAMAGED).await;
        let names = |listed: &Value| -> Vec<Value> {
            listed.as_array().unwrap().iter().map(|each| each["flag"].clone()).collect()
        };
        for selection in [
            json!({"flags": ["f1", "other"]}),
            json!({"flags": ["f1", "other"], "tags": ["experimental"]}),
        ] {
            for (path, value) in [("/restore", true), ("/kill", false)] {
                let done = admin.post(path, selection.clone()).await.expect(200);
                assert!(names(&done["flags"]).contains(&json!("other")), "{path}: {done}");
                assert_eq!(names(&done["leftAlone"]), ["f1"], "{path}: {done}");
                let reason = done["leftAlone"][0]["reason"].as_str().unwrap();
                assert!(reason.contains("cannot be read"), "{path}: {done}");
                assert_eq!(client.value("other", json!({})).await, value);
                let entry = admin.get(AUDIT).await.expect(200)["items"][0]["changes"].clone();
                assert!(entry.to_string().contains("left `f1` alone"), "{entry}");
            }
        }
        // Whoever sent the alert is to send it again.
        admin.post(trigger.as_str().unwrap(), json!({})).await.expect(500);
        for path in ["/kill", "/restore"] {
            for path in [format!("{path}/f1"), format!("{path}?flag=f1")] {
                let refused = admin.post(&path, json!({})).await.expect(409);
                assert_eq!(refused["code"], "unreadable", "{path}");
                let detail = refused["detail"].as_str().unwrap();
                assert!(detail.contains("cannot be read"), "{path}: {detail}");
            }
            let unknown = json!({"flags": ["f1", "none"], "tags": ["experimental"]});
            admin.post(path, unknown).await.expect(404);
        }
    }
}

#[tokio::test]
async fn a_damaged_flag_with_a_tag_is_named_by_whoever_kills_the_tag() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = tagged(&server, 2).await;
        let admin = &server.admin;
        let tag = json!({"instructions": [{"kind": "addTags", "values": ["only"]}]});
        admin.patch(&format!("{PROJECT}/flags/f1"), tag).await.expect(200);
        set_config(&server, "f1", DAMAGED).await;

        let killed = admin.post("/kill?tag=experimental", json!({})).await.expect(200);
        assert_eq!(killed["flags"], json!([{"flag": "f0", "was": {"on": true}}]));
        assert_eq!(left_alone(&killed)[0].0, "f1");
        let entry = admin.get(AUDIT).await.expect(200)["items"][0]["changes"].clone();
        assert!(entry.to_string().contains("left `f1` alone"), "{entry}");

        let other = json!({"flags": ["other"], "tags": ["only"]});
        let killed = admin.post("/kill", other).await.expect(200);
        assert_eq!(killed["flags"], json!([{"flag": "other", "was": {"on": true}}]));
        assert_eq!(left_alone(&killed)[0].0, "f1");
        assert_eq!(client.value("other", json!({})).await, false);

        let refused = admin.post("/kill?tag=only", json!({})).await.expect(409);
        assert_eq!(refused["code"], "unreadable");
        assert!(refused["detail"].as_str().unwrap().contains("f1"), "{refused}");
        admin.post("/kill?tag=none", json!({})).await.expect(404);
        let restored = admin.post("/restore?tag=experimental", json!({})).await.expect(200);
        assert_eq!(restored["flags"], json!([{"flag": "f0", "on": true}]));
        let [(key, reason)] = left_alone(&restored)[..] else { panic!("{restored}") };
        assert!(key == "f1" && reason.contains("may be killed"), "{restored}");
    }
}

#[tokio::test]
async fn a_damaged_definition_may_have_any_tag() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        tagged(&server, 2).await;
        let admin = &server.admin;
        let set = |body: &str| format!("update flag set body = {body} where key = 'f1'");
        server.run_sql(&set(DAMAGED)).await;
        let killed = admin.post("/kill?tag=experimental", json!({})).await.expect(200);
        assert_eq!(killed["flags"], json!([{"flag": "f0", "was": {"on": true}}]));
        let [(key, reason)] = left_alone(&killed)[..] else { panic!("{killed}") };
        assert!(key == "f1" && reason.contains("may have the tag"), "{killed}");
        let by_key = admin.post("/kill?flag=other", json!({})).await.expect(200);
        assert_eq!(by_key["leftAlone"], json!([]));
    }
}

#[tokio::test]
async fn an_answer_about_what_cannot_be_read_is_not_kept_for_its_key() {
    let server = Server::start(Backend::Sqlite).await;
    let client = tagged(&server, 2).await;
    let admin = &server.admin;
    for (path, value) in [("/kill/f1", false), ("/restore/f1", true)] {
        let send = || {
            let request = admin.request(Method::POST, path).header("Idempotency-Key", path);
            admin.send(request.json(&json!({})))
        };
        set_config(&server, "f1", DAMAGED).await;
        assert_eq!(send().await.expect(409)["code"], "unreadable");
        set_config(&server, "f1", MENDED).await;
        send().await.expect(200);
        assert_eq!(client.value("f1", json!({})).await, value);
    }
}

#[tokio::test]
async fn what_cannot_be_read_keeps_nothing_else_from_being_tried_out_or_planned() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        tagged(&server, 2).await;
        let admin = &server.admin;
        let segments = format!("{PROJECT}/environments/production/segments");
        admin.post(&segments, json!({"key": "s", "name": "s"})).await.expect(201);
        let clause = json!({"attribute": "segmentMatch", "op": "segmentMatch", "values": ["s"]});
        for key in ["f0", "f1"] {
            let asks = json!([
                {"kind": "addPrerequisite", "key": "other", "variation": "on"},
                {"kind": "addRule", "clauses": [clause], "variation": "on"},
            ]);
            admin.change(key, asks).await.expect(200);
        }
        set_config(&server, "f1", DAMAGED).await;
        let on = json!([{"environment": "production", "flag": "f0"}]);

        let dry = admin.post("/kill/other?dryRun=true", json!({})).await.expect(200);
        assert_eq!(dry["dependants"], on);
        let off = json!({"instructions": [{"kind": "turnFlagOff"}]});
        let path = format!("{PROJECT}/environments/production/flags/other");
        let dry = admin.patch(&format!("{path}?dryRun=true"), off.clone()).await.expect(200);
        assert_eq!(dry["dependants"], on);
        let named = json!({"name": "new"});
        let dry = admin.put(&format!("{segments}/s?dryRun=true"), named).await.expect(200);
        assert_eq!(dry["dependants"], on);
        let named = json!({"instructions": [{"kind": "updateName", "value": "new"}]});
        let dry = admin.patch(&format!("{segments}/s?dryRun=true"), named).await.expect(200);
        assert_eq!(dry["dependants"], on);
        let at = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
        let planned = json!({"at": at, "flag": "other", "instructions": off["instructions"]});
        let schedule = format!("{PROJECT}/environments/production/schedule");
        admin.post(&schedule, planned).await.expect(201);
        // What must not miss one is still refused, also if nothing is left that tells.
        for body in [DAMAGED, "'{'"] {
            set_config(&server, "f1", body).await;
            admin.delete(&format!("{segments}/s")).await.expect(500);
            admin.delete(&format!("{PROJECT}/flags/other")).await.expect(500);
        }
    }
}
