//! `/sdk/latest-all` and PHP's routes: tags, compression, and every field.

use super::SEGMENTS;
use super::environment;
use crate::harness::Answer;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::io::Read;

async fn get_if(client: &Client, path: &str, seen: &str) -> Answer {
    client.send(client.request(Method::GET, path).header("If-None-Match", seen)).await
}

#[tokio::test]
async fn what_has_not_changed_is_not_sent_again() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    server.admin.post(SEGMENTS, json!({"key": "s"})).await.expect(201);
    for path in ["/sdk/latest-all", "/sdk/flags", "/sdk/flags/f", "/sdk/poll"] {
        let first = sdk.get(path).await;
        let tag = first.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "{path}: {tag}");
        assert_eq!(first.header("cache-control"), "no-cache", "{path}");
        assert_eq!(first.header("vary"), "Authorization, Accept-Encoding", "{path}");
        assert_eq!(first.header("x-ld-envid"), "shop/production", "{path}");
        first.expect(200);
        for seen in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
            let again = get_if(&sdk, path, &seen).await;
            assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
            assert_eq!(again.header("etag"), tag, "{path}");
        }
        server.admin.post("/kill/f", json!({})).await.expect(200);
        server.admin.post("/restore/f", json!({})).await.expect(200);
        server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
        let changed = get_if(&sdk, path, &tag).await;
        assert_ne!(changed.header("etag"), tag, "{path}");
        changed.expect(200);
        server.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    }
    sdk.get("/sdk/segments/s").await.expect(200);
    sdk.get("/sdk/flags/unknown").await.expect(404);
    sdk.get("/sdk/segments/unknown").await.expect(404);
}

#[tokio::test]
async fn who_reads_gzip_gets_the_same_compressed() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    server.flag("f").await;
    for path in ["/sdk/latest-all", "/sdk/flags", "/sdk/poll"] {
        let plain = sdk.get(path).await;
        let request = sdk.request(Method::GET, path).header("Accept-Encoding", "gzip, deflate");
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-encoding"], "gzip", "{path}");
        let tag = response.headers()["etag"].to_str().unwrap().to_owned();
        assert_ne!(tag, plain.header("etag"), "other bytes, another tag");
        let bytes = response.bytes().await.unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, plain.text, "{path}");
        assert_eq!(get_if(&sdk, path, &tag).await.status, 304, "{path}");
    }
    // A stream is never compressed, which would hold back events.
    let request = sdk.request(Method::GET, "/all").header("Accept-Encoding", "gzip");
    assert!(request.send().await.unwrap().headers().get("content-encoding").is_none());
}

/// The fields that some SDK cannot do without, by what they are fields of.
fn missing_fields(of: &Value, needed: &[&str]) -> Vec<String> {
    let is_missing = |name: &&&str| of.get(**name).is_none();
    needed.iter().filter(is_missing).map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn every_field_is_there() {
    let server = Server::start(Backend::Sqlite).await;
    let sdk = environment(&server).await;
    let clauses = json!([{"attribute": "plan", "op": "in", "values": ["gold"]}]);
    let rules = json!([{"clauses": clauses, "weight": 10_000}]);
    let segment = json!({"key": "s", "rules": rules,
        "includedContexts": [{"contextKind": "organization", "values": ["o"]}]});
    server.admin.post(SEGMENTS, segment).await.expect(201);
    server.flag("minimal").await;
    server.flag("full").await;
    server.admin.change("full", json!([
        {"kind": "addTargets", "variation": "on", "values": ["u"]},
        {"kind": "addTargets", "variation": "on", "contextKind": "organization", "values": ["o"]},
        {"kind": "addPrerequisite", "key": "minimal", "variation": "on"},
        {"kind": "addRule", "clauses": [{"op": "segmentMatch", "values": ["s"]}],
            "rolloutWeights": {"on": 1_000, "off": 99_000}, "rolloutSeed": 61}
    ])).await.expect(200);
    let all = sdk.get("/sdk/latest-all").await.expect(200);
    let of_flag = [
        "key",
        "version",
        "on",
        "deleted",
        "prerequisites",
        "targets",
        "contextTargets",
        "rules",
        "fallthrough",
        "offVariation",
        "variations",
        "salt",
        "clientSide",
        "clientSideAvailability",
        "trackEvents",
        "trackEventsFallthrough",
        "debugEventsUntilDate",
    ];
    for key in ["minimal", "full"] {
        let flag = &all["flags"][key];
        assert_eq!(missing_fields(flag, &of_flag), [""; 0], "{flag}");
        let availability = &flag["clientSideAvailability"];
        assert_eq!(
            missing_fields(availability, &["usingMobileKey", "usingEnvironmentId"]),
            [""; 0]
        );
        assert!(flag["version"].is_i64());
    }
    let full = &all["flags"]["full"];
    assert_eq!(full["salt"], "shop.production", "as stored");
    assert_eq!(full["prerequisites"], json!([{"key": "minimal", "variation": 0}]));
    assert_eq!(full["targets"], json!([{"values": ["u"], "variation": 0}]));
    let organization = json!({"contextKind": "organization", "values": ["o"], "variation": 0});
    assert!(full["contextTargets"].as_array().unwrap().contains(&organization), "{full}");
    let rule = &full["rules"][0];
    assert_eq!(missing_fields(rule, &["id", "clauses", "trackEvents"]), [""; 0], "{rule}");
    let clause = &rule["clauses"][0];
    assert_eq!(missing_fields(clause, &["attribute", "op", "values", "negate"]), [""; 0], "{rule}");
    assert_eq!(
        (&rule["rollout"]["kind"], &rule["rollout"]["seed"]),
        (&json!("rollout"), &json!(61))
    );
    assert!(rule["rollout"].get("hash").is_none());
    let of_segment = [
        "key",
        "version",
        "deleted",
        "included",
        "excluded",
        "includedContexts",
        "excludedContexts",
        "rules",
        "salt",
        "unbounded",
        "generation",
    ];
    let segment = &all["segments"]["s"];
    assert_eq!(missing_fields(segment, &of_segment), [""; 0], "{segment}");
    assert_eq!(segment["rules"][0]["weight"], 10_000);
    // PHP asks for each by itself and must see the same.
    assert_eq!(sdk.get("/sdk/flags/full").await.expect(200), *full);
    assert_eq!(sdk.get("/sdk/segments/s").await.expect(200), *segment);
    assert_eq!(sdk.get("/sdk/flags").await.expect(200), all["flags"]);
}
