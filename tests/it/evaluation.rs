//! Evaluation by OFREP: what providers rely on.

use crate::harness::Backend;
use crate::harness::Server;
use reqwest::Method;
use serde_json::json;

const FLAGS: &str = "/ofrep/v1/evaluate/flags";

#[tokio::test]
async fn answers_have_everything_that_providers_need() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("plain").await;
    let off = client.evaluate("plain", json!({"targetingKey": "u"})).await.expect(200);
    assert_eq!(off["key"], "plain");
    assert_eq!((&off["value"], &off["variant"]), (&json!(false), &json!("off")));
    // `DISABLED` would make some providers throw the value away.
    assert_eq!(off["reason"], "DEFAULT");
    assert_eq!(off["metadata"]["reason"], "OFF");
    server.admin.change("plain", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    for context in [json!({"targetingKey": "u"}), json!({}), json!(null)] {
        let on = client.evaluate("plain", context).await.expect(200);
        assert_eq!((&on["value"], &on["reason"]), (&json!(true), &json!("STATIC")));
    }
    for body in ["", "{}"] {
        let answer = client.raw(Method::POST, &format!("{FLAGS}/plain"), body).await;
        assert_eq!(answer.expect(200)["value"], true);
    }
    let doubled = client.post("//ofrep/v1/evaluate/flags/plain", json!({})).await;
    assert_eq!(doubled.expect(200)["value"], true);
    // A base URL or a path that ends in a slash is asked about all flags: no flag has an empty key.
    let all = client.post(&format!("{FLAGS}/"), json!({})).await.expect(200);
    assert_eq!(all["flags"][0]["key"], "plain");
}

#[tokio::test]
async fn every_error_has_key_code_and_details() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("split").await;
    let weights = json!([{"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"on": 50_000, "off": 50_000}}]);
    server.admin.change("split", weights).await.expect(200);
    let nested = |n| format!("{{\"context\":{{\"x\":{}1{}}}}}", "[".repeat(n), "]".repeat(n));
    let (deep, too_deep) = (nested(100), nested(200));
    let large = format!("{{\"context\":{{\"x\":\"{}\"}}}}", "x".repeat(1024 * 1024));
    for (path, body, status, code) in [
        ("/split", "{", 400, "PARSE_ERROR"),
        ("/split", "[]", 400, "PARSE_ERROR"),
        ("/split", r#"[{"targetingKey":"u"}]"#, 400, "PARSE_ERROR"),
        ("/split", deep.as_str(), 400, "INVALID_CONTEXT"),
        ("/split", too_deep.as_str(), 400, "PARSE_ERROR"),
        ("/split", r#"{"context":"u"}"#, 400, "INVALID_CONTEXT"),
        ("/split", r#"{"context":{"targetingKey":7}}"#, 400, "INVALID_CONTEXT"),
        ("/split", r#"{"context":{}}"#, 400, "TARGETING_KEY_MISSING"),
        ("/split", large.as_str(), 413, "GENERAL"),
        ("/none", "{}", 404, "FLAG_NOT_FOUND"),
        ("/a%2Fb%20c", "{}", 404, "FLAG_NOT_FOUND"),
        ("/%ff", "{}", 404, "FLAG_NOT_FOUND"),
        ("/split?project=none", "{}", 404, "GENERAL"),
    ] {
        let answer = client.raw(Method::POST, &format!("{FLAGS}{path}"), body.to_owned()).await;
        assert_eq!(answer.header("content-type"), "application/json", "{path}");
        let error = answer.expect(status);
        assert_eq!(error["errorCode"], code, "{path}: {error}");
        assert!(error["errorDetails"].is_string() && error["key"].is_string(), "{error}");
    }
    let answer = client.raw(Method::POST, &format!("{FLAGS}/a%2Fb%20c"), "{}").await;
    assert_eq!(answer.expect(404)["key"], "a/b c");
    let stranger = client.with_token("nobody's token");
    let answer = stranger.evaluate("split", json!({})).await;
    assert_eq!(answer.expect(401)["errorCode"], "GENERAL");
}

#[tokio::test]
async fn all_flags_come_sorted_and_one_that_fails_spoils_no_other() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    for key in ["b", "c", "a"] {
        server.flag_on(key).await;
    }
    let weights = json!([{"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"on": 50_000, "off": 50_000}}]);
    server.admin.change("b", weights).await.expect(200);
    let all = client.post(FLAGS, json!({"context": {}})).await.expect(200);
    let flags = all["flags"].as_array().unwrap();
    let keys: Vec<_> = flags.iter().map(|flag| flag["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    assert_eq!(flags[0]["value"], true);
    assert_eq!(flags[1]["errorCode"], "TARGETING_KEY_MISSING");
    assert_eq!(all["metadata"]["flagSetId"], "production");
}

#[tokio::test]
async fn the_etag_covers_the_results_for_this_context() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("a").await;
    let rule = json!([{"kind": "addRule", "variation": "off", "clauses": [
        {"attribute": "plan", "op": "in", "values": ["free"]}]}]);
    server.admin.change("a", rule).await.expect(200);
    let ask = async |plan: &str, etag: &str| {
        let body = json!({"context": {"targetingKey": "u", "plan": plan}});
        let request = client.request(Method::POST, FLAGS).json(&body);
        client.send(request.header("If-None-Match", etag)).await
    };
    let first = ask("gold", "").await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with('"') && first.status == 200);
    for same in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
        let again = ask("gold", &same).await;
        assert_eq!((again.status, again.header("etag")), (304, etag.as_str()), "{same}");
        assert!(again.text.is_empty());
    }
    // Another context with other results is not the same answer, whatever the configuration's version is.
    let other = ask("free", &etag).await;
    assert_eq!(other.status, 200);
    assert_ne!(other.header("etag"), etag);
    // A change that matters makes it a new answer.
    server.admin.change("a", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    assert_eq!(ask("gold", &etag).await.status, 200);
}

#[tokio::test]
async fn numbers_and_the_order_of_keys_stay_as_they_were_written() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let body = r#"{"key":"n","kind":"number","variations":[{"key":"int","value":10},{"key":"float","value":10.0}]}"#;
    let flags = "/api/v1/projects/shop/flags";
    server.admin.raw(Method::POST, flags, body).await.expect(201);
    let body =
        r#"{"key":"j","kind":"json","variations":[{"key":"v","value":{"z":1,"a":[1.50,2e0]}}]}"#;
    server.admin.raw(Method::POST, flags, body).await.expect(201);
    let off = client.evaluate("n", json!({})).await;
    assert!(off.text.contains(r#""value":10.0,"#), "{}", off.text);
    server.admin.change("n", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let on = client.evaluate("n", json!({})).await;
    assert!(on.text.contains(r#""value":10,"#), "{}", on.text);
    let json = client.evaluate("j", json!({})).await;
    assert!(json.text.contains(r#""value":{"z":1,"a":[1.5,2.0]},"#), "{}", json.text);
}

#[tokio::test]
async fn clients_see_only_what_is_meant_for_them() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    for (key, browsers, mobiles) in
        [("web", true, false), ("app", false, true), ("both", true, true), ("none", false, false)]
    {
        let body = json!({"key": key, "kind": "boolean", "clientSideAvailability":
            {"usingEnvironmentId": browsers, "usingMobileKey": mobiles}});
        server.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }
    let browser = server.token("client", None).await;
    let mobile = server.token("mobile", None).await;
    for (client, expected) in [
        (&backend, vec!["app", "both", "none", "web"]),
        (&browser, vec!["both", "web"]),
        (&mobile, vec!["app", "both"]),
    ] {
        let all = client.post(FLAGS, json!({})).await.expect(200);
        let flags = all["flags"].as_array().unwrap();
        let keys: Vec<_> = flags.iter().map(|flag| flag["key"].as_str().unwrap()).collect();
        assert_eq!(keys, expected);
        for key in ["app", "both", "none", "web"] {
            let status = if expected.contains(&key) { 200 } else { 404 };
            assert_eq!(client.evaluate(key, json!({})).await.status, status, "{key}");
        }
    }
}

#[tokio::test]
async fn browsers_on_other_pages_may_evaluate() {
    let server = Server::start(Backend::Sqlite).await;
    let browser = server.with_environment().await;
    let preflight = browser
        .http
        .request(Method::OPTIONS, format!("{}{FLAGS}", server.url))
        .header("Origin", "https://shop.example")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization,content-type,if-none-match");
    let answer = browser.send(preflight).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, "*"));
    let allowed = answer.header("access-control-allow-headers");
    for header in ["authorization", "content-type", "if-none-match", "x-api-key"] {
        assert!(allowed.contains(header), "{allowed}");
    }
    let request = browser.request(Method::POST, FLAGS).header("Origin", "https://shop.example");
    let answer = browser.send(request.body("{}")).await;
    assert_eq!(answer.header("access-control-expose-headers"), "etag,retry-after");
}
