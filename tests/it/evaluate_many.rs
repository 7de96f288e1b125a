//! Many contexts and many flags in one request.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use serde_json::Value;
use serde_json::json;

const PATH: &str = "/api/v1/evaluate";

/// Flags `gold` (a rule for the plan `gold`), `off` and `split` (half and half).
async fn with_flags(server: &Server) -> Client {
    let client = server.with_environment().await;
    server.flag("off").await;
    server.flag_on("gold").await;
    server.flag_on("split").await;
    let clause = json!({"attribute": "plan", "op": "in", "values": ["gold"]});
    let rule = json!([
        {"kind": "updateFallthroughVariationOrRollout", "variation": "off"},
        {"kind": "addRule", "clauses": [clause], "variation": "on"},
    ]);
    server.admin.change("gold", rule).await.expect(200);
    let halves = json!([{"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"on": 50_000, "off": 50_000}}]);
    server.admin.change("split", halves).await.expect(200);
    client
}

#[tokio::test]
async fn each_context_has_a_row_with_a_value_for_each_flag() {
    let server = Server::start(Backend::Sqlite).await;
    let client = with_flags(&server).await;
    let contexts = json!([
        {"kind": "user", "key": "u-1", "plan": "gold"},
        {"kind": "multi", "user": {"key": "u-2"}, "org": {"key": "o"}},
        {"key": "u-3", "custom": {"plan": "gold"}},
        {"targetingKey": "u-4", "plan": "gold"},
        {"plan": "gold"},
    ]);
    let body = json!({"contexts": contexts, "flags": ["off", "gold", "none", "split"]});
    let answer = client.post(PATH, body).await.expect(200);
    assert_eq!(answer["flags"], json!(["off", "gold", "none", "split"]));
    assert_eq!(answer["environment"], "production");
    let rows = answer["results"].as_array().unwrap();
    let golds: Vec<&Value> = rows.iter().map(|row| &row[1]).collect();
    assert_eq!(golds, [true, false, true, true, true].map(Value::from).iter().collect::<Vec<_>>());
    for row in rows {
        assert_eq!((&row[0], &row[2]), (&json!(false), &Value::Null));
    }
    // Without a key there is nobody to be divided; with one it is as it is alone.
    assert_eq!(rows[4][3], Value::Null);
    let alone = client.value("split", json!({"targetingKey": "u-1"})).await;
    assert_eq!(rows[0][3], alone);
    let all = client.post(PATH, json!({"contexts": contexts})).await.expect(200);
    assert_eq!(all["flags"], json!(["gold", "off", "split"]));
    assert_eq!(all["results"][0][0], true);
    let none = client.post(PATH, json!({"contexts": []})).await.expect(200);
    assert_eq!(none["results"], json!([]));
}

#[tokio::test]
async fn large_answers_are_whole() {
    let server = Server::start(Backend::Sqlite).await;
    let client = with_flags(&server).await;
    let contexts: Vec<Value> =
        (0..1_000).map(|i| json!({"kind": "user", "key": format!("u-{i}")})).collect();
    let flags: Vec<&str> = ["split", "gold", "off"].repeat(100);
    let body = json!({"contexts": contexts, "flags": flags});
    let answer = client.post(PATH, body).await.expect(200);
    let rows = answer["results"].as_array().unwrap();
    assert_eq!(rows.len(), 1_000);
    assert!(rows.iter().all(|row| row.as_array().unwrap().len() == 300));
    let n_on = rows.iter().filter(|row| row[297] == true).count();
    assert!((400..600).contains(&n_on), "{n_on} of 1000 are in a half");
}

#[tokio::test]
async fn details_and_explanations_say_why() {
    let server = Server::start(Backend::Sqlite).await;
    let client = with_flags(&server).await;
    let body = json!({"contexts": [{"kind": "user", "key": "u-1", "plan": "gold"}, {}],
        "flags": ["gold", "split", "none"]});
    let detailed = client.post(&format!("{PATH}?detail=true"), body.clone()).await.expect(200);
    let gold = &detailed["results"][0][0];
    assert_eq!((&gold["value"], &gold["variant"]), (&json!(true), &json!("on")));
    assert_eq!(
        (&gold["variationIndex"], &gold["reason"]["kind"]),
        (&json!(0), &json!("RULE_MATCH"))
    );
    assert_eq!(detailed["results"][1][1]["reason"]["errorKind"], "USER_NOT_SPECIFIED");
    assert_eq!(detailed["results"][1][2]["reason"]["errorKind"], "FLAG_NOT_FOUND");
    let explained = client.post(&format!("{PATH}?explain=true"), body.clone()).await.expect(200);
    let steps = explained["results"][0][0]["steps"].as_array().unwrap();
    let clause = steps.iter().find(|step| step["step"] == "clause").unwrap();
    assert_eq!((&clause["found"], &clause["isMatch"]), (&json!("gold"), &json!(true)));
    assert!(clause["text"].as_str().unwrap().contains("plan is \"gold\""), "{clause}");
    let steps = explained["results"][0][1]["steps"].as_array().unwrap();
    let rollout = steps.iter().find(|step| step["step"] == "rollout").unwrap();
    assert_eq!(rollout["hash"], "murmur3");
    let is_first = rollout["bucket"].as_f64().unwrap() < 50_000.0;
    assert_eq!(rollout["slice"], if is_first { 0 } else { 1 });
    let browser = server.token("client", None).await;
    let refused = browser.post(&format!("{PATH}?explain=true"), body.clone()).await;
    assert_eq!(refused.expect(403)["code"], "token_kind");
    // Browsers see nothing that is not marked for them.
    let seen = browser.post(PATH, json!({"contexts": [{}]})).await.expect(200);
    assert_eq!(seen["flags"], json!([]));
}

#[tokio::test]
async fn too_much_and_nonsense_are_refused_as_a_whole() {
    let server = Server::start(Backend::Sqlite).await;
    let client = with_flags(&server).await;
    let user = json!({"kind": "user", "key": "u"});
    let long = json!({"kind": "user", "key": "u", "x": "x".repeat(4_097)});
    let nested = json!({"key": "u", "x": [[[[[[[[[1]]]]]]]]]});
    for (query, body, path, code) in [
        ("", json!({}), "contexts", "required"),
        ("", json!({"contexts": {}}), "contexts", "wrong_type"),
        ("", json!({"contexts": [user, "u"]}), "contexts[1]", "wrong_type"),
        ("", json!({"contexts": [user, {"key": 7}]}), "contexts[1].key", "wrong_type"),
        (
            "",
            json!({"contexts": [{"kind": "a b", "key": "u"}]}),
            "contexts[0].kind",
            "invalid_kind",
        ),
        ("", json!({"contexts": [long]}), "contexts[0].x", "too_long"),
        ("", json!({"contexts": [nested]}), "contexts[0].x", "too_deep"),
        ("", json!({"contexts": vec![&user; 1_001]}), "contexts", "too_many"),
        ("", json!({"contexts": [user], "flags": "gold"}), "flags", "wrong_type"),
        ("", json!({"contexts": [user], "flags": vec!["gold"; 1_001]}), "flags", "too_many"),
        ("", json!({"contexts": [user], "flag": ["gold"]}), "flag", "unknown_field"),
        ("?explain=true", json!({"contexts": vec![&user; 34]}), "contexts", "too_many"),
    ] {
        let answer = client.post(&format!("{PATH}{query}"), body.clone()).await;
        let problem = answer.expect(422);
        assert_eq!(problem["errors"][0]["path"], path, "{problem}");
        assert_eq!(problem["errors"][0]["code"], code, "{problem}");
    }
    let answer = client.post(&format!("{PATH}?explian=true"), json!({"contexts": []})).await;
    assert_eq!(answer.expect(400)["code"], "invalid_query");
    let large = json!({"contexts": [{"key": "u", "x": "x".repeat(4 * 1024 * 1024)}]});
    assert_eq!(client.post(PATH, large).await.expect(413)["code"], "body_too_large");
}
