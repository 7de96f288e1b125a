//! LaunchDarkly's protocol for browsers and mobile applications, on the wire.

use crate::harness::Answer;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Events;
use crate::harness::Server;
use crate::harness::eventually;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Hmac;
use hmac::KeyInit;
use hmac::Mac;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use sha2::Sha256;

const FLAGS: &str = "/api/v1/projects/shop/flags";
const SEGMENTS: &str = "/api/v1/projects/shop/environments/production/segments";

fn encoded(context: &Value) -> String {
    URL_SAFE_NO_PAD.encode(context.to_string())
}

fn ada() -> Value {
    json!({"kind": "user", "key": "ada", "plan": "gold"})
}

fn report() -> Method {
    Method::from_bytes(b"REPORT").unwrap()
}

/// A request as a browser sends it: without any header of ours.
async fn plain(client: &Client, method: Method, path: &str) -> Answer {
    client.send(client.http.request(method, format!("{}{path}", client.url))).await
}

async fn stream(client: &Client, path: &str) -> Events {
    Events::of(client.http.get(format!("{}{path}", client.url))).await
}

/// Creates a flag that browsers may see, and turns it on.
async fn flag(server: &Server, key: &str) {
    let visible = json!({"key": key, "kind": "boolean",
        "clientSideAvailability": {"usingEnvironmentId": true, "usingMobileKey": false}});
    server.admin.post(FLAGS, visible).await.expect(201);
    server.admin.change(key, json!([{"kind": "turnFlagOn"}])).await.expect(200);
}

async fn with_browser() -> (Server, Client) {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let browser = server.token("client", None).await;
    (server, browser)
}

#[tokio::test]
async fn a_browser_gets_the_values_that_it_may_see() {
    let (server, browser) = with_browser().await;
    flag(&server, "a").await;
    server.flag_on("secret").await;
    let path = format!("/sdk/evalx/{}/contexts/{}", browser.token, encoded(&ada()));
    let answer = plain(&browser, Method::GET, &path).await;
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    let values = answer.expect(200);
    let entry = &values["a"];
    assert_eq!((&entry["value"], &entry["variation"]), (&json!(true), &json!(0)));
    assert!(entry["version"].as_i64() >= entry["flagVersion"].as_i64());
    assert!(entry.get("reason").is_none() && entry.get("trackEvents").is_none());
    assert!(values.get("secret").is_none());
    let with = plain(&browser, Method::GET, &format!("{path}?withReasons=true&auth=x")).await;
    assert_eq!(with.expect(200)["a"]["reason"], json!({"kind": "FALLTHROUGH"}));
    // The old alias, the padded and the standard alphabet, and the body of a REPORT.
    let old = format!("/sdk/evalx/{}/users/{}", browser.token, encoded(&json!({"key": "ada"})));
    assert_eq!(plain(&browser, Method::GET, &old).await.expect(200), values);
    let url = format!("{}/sdk/evalx/{}/context", browser.url, browser.token);
    let sent = browser.http.request(report(), url).json(&ada());
    assert_eq!(browser.send(sent).await.expect(200), values);
}

#[tokio::test]
async fn what_is_wrong_is_told_so_that_a_page_can_read_it() {
    let (server, browser) = with_browser().await;
    let (id, server_token) = (&browser.token, server.token("server", None).await.token);
    let good = encoded(&ada());
    let mistyped = format!("{}0", &id[..id.len() - 1]);
    for (path, status, code) in [
        (format!("/sdk/evalx/unknown/contexts/{good}"), 404, "environment_not_found"),
        (format!("/sdk/evalx/{mistyped}/contexts/{good}"), 404, "environment_not_found"),
        (format!("/sdk/evalx/{server_token}/contexts/{good}"), 404, "environment_not_found"),
        (format!("/eval/unknown/{good}"), 404, "environment_not_found"),
        ("/ping/unknown".to_owned(), 404, "environment_not_found"),
        ("/sdk/goals/unknown".to_owned(), 404, "environment_not_found"),
        (format!("/sdk/evalx/{id}/contexts/e*"), 400, "invalid_base64"),
        (format!("/sdk/evalx/{id}/contexts/eA"), 400, "json_syntax"),
        (format!("/sdk/evalx/{id}/contexts/{}", encoded(&json!({}))), 400, "invalid_context"),
        (
            format!("/sdk/evalx/{id}/contexts/{}", encoded(&json!({"kind": "kind", "key": "x"}))),
            400,
            "invalid_context",
        ),
        (format!("/sdk/evalx/{id}/contexts/{}", encoded(&json!([]))), 400, "invalid_context"),
        (format!("/sdk/evalx/{id}/context"), 405, "method_not_allowed"),
        (format!("/sdk/poll/eval/{good}"), 401, "token_missing"),
        (format!("/sdk/poll/eval/{good}?auth={server_token}"), 401, "token_kind"),
        (format!("/msdk/evalx/contexts/{good}"), 401, "token_missing"),
    ] {
        let answer = plain(&browser, Method::GET, &path).await;
        assert_eq!(answer.header("access-control-allow-origin"), "*", "{path}");
        assert_eq!((answer.status, &answer.body["code"]), (status, &json!(code)), "{path}");
        let allow = if status == 405 { "POST,REPORT" } else { "" };
        assert_eq!(answer.header("allow"), allow, "{path}");
    }
    let url = format!("{}/sdk/evalx/{id}/context", browser.url);
    let text = browser.http.request(report(), &url).body("{}");
    assert_eq!(browser.send(text).await.expect(415)["code"], "content_type");
}

#[tokio::test]
async fn a_preflight_needs_no_credential() {
    let (_server, browser) = with_browser().await;
    for path in ["/sdk/evalx/any/contexts/x", "/eval/any/x", "/sdk/goals/any", "/sdk/poll/eval/x"] {
        let answer = plain(&browser, Method::OPTIONS, path).await;
        assert_eq!(answer.status, 204, "{path}");
        assert!(answer.header("access-control-allow-methods").contains("REPORT"));
        let allowed = answer.header("access-control-allow-headers").to_lowercase();
        for header in ["x-launchdarkly-user-agent", "authorization", "content-type"] {
            assert!(allowed.contains(header), "{header}");
        }
        assert_eq!(answer.header("access-control-allow-origin"), "*");
    }
    let goals = plain(&browser, Method::GET, &format!("/sdk/goals/{}", browser.token)).await;
    assert_eq!(goals.expect(200), json!([]));
}

#[tokio::test]
async fn contexts_in_paths_are_read_in_every_form_of_base64() {
    let (_server, browser) = with_browser().await;
    // `?>` and `~` make slashes and pluses of the first alphabet.
    let context = r#"{"kind":"user","key":"a?>??>~~~>ü"}"#;
    let plain_form = STANDARD.encode(context);
    assert!(plain_form.contains('/'), "{plain_form}");
    for encoded in [
        plain_form.clone(),
        plain_form.trim_end_matches('=').to_owned(),
        plain_form.replace('/', "%2F").replace('+', "%2B").replace('=', "%3D"),
        URL_SAFE.encode(context),
        URL_SAFE_NO_PAD.encode(context),
    ] {
        let path =
            format!("/sdk/evalx/{}/contexts/{encoded}?what=ever&withReasons=1", browser.token);
        plain(&browser, Method::GET, &path).await.expect(200);
        let path = format!("/sdk/evalx/{}/users/{encoded}", browser.token);
        plain(&browser, Method::GET, &path).await.expect(200);
        let path = format!("/sdk/poll/eval/{encoded}?auth={}", browser.token);
        plain(&browser, Method::GET, &path).await.expect(200);
    }
}

#[tokio::test]
async fn a_page_may_send_headers_of_its_own() {
    let (_server, browser) = with_browser().await;
    for path in ["/sdk/evalx/any/contexts/x", "/events/bulk/any", "/ofrep/v1/evaluate/flags"] {
        let request = browser.http.request(Method::OPTIONS, format!("{}{path}", browser.url));
        let request = request.header("Origin", "https://shop.example");
        let request = request.header("Access-Control-Request-Headers", "traceparent,x-mine");
        let answer = browser.send(request).await;
        let allowed = answer.header("access-control-allow-headers").to_lowercase();
        for header in ["traceparent", "x-mine", "authorization", "content-type"] {
            assert!(allowed.split(',').any(|one| one == header), "{path}: {allowed}");
        }
    }
    let preflight = plain(&browser, Method::OPTIONS, "/ofrep/v1/evaluate/flags").await;
    // In secure mode, OFREP's clients send the signature in it.
    assert!(preflight.header("access-control-allow-headers").contains("vexil-context-hash"));
}

#[tokio::test]
async fn mobile_applications_and_backends_have_their_own_routes() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    let mobile = server.token("mobile", None).await;
    let both = json!({"key": "m", "kind": "boolean",
        "clientSideAvailability": {"usingEnvironmentId": false, "usingMobileKey": true}});
    server.admin.post(FLAGS, both).await.expect(201);
    server.flag("s").await;
    let ctx = encoded(&ada());
    let keys = |values: Value| values.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let path = format!("/msdk/evalx/contexts/{ctx}");
    assert_eq!(keys(mobile.get(&path).await.expect(200)), ["m"]);
    assert_eq!(backend.get(&path).await.expect(401)["code"], "token_kind");
    let all = backend.get(&format!("/sdk/evalx/contexts/{ctx}")).await.expect(200);
    assert_eq!(keys(all), ["m", "s"]);
    let sent = mobile.request(report(), "/msdk/evalx/context").json(&ada());
    assert_eq!(keys(mobile.send(sent).await.expect(200)), ["m"]);
    let mut events = Events::of(mobile.request(report(), "/meval").json(&ada())).await;
    let (name, values) = events.event().await.unwrap();
    assert_eq!((name.as_str(), keys(values)), ("put", vec!["m".to_owned()]));
    let mut pings = Events::of(mobile.request(Method::GET, "/mping")).await;
    assert_eq!(pings.event().await.unwrap().0, "ping");
}

#[tokio::test]
async fn a_stream_sends_what_differs_for_its_context_and_nothing_else() {
    let (server, browser) = with_browser().await;
    for key in ["direct", "by-segment", "dependent"] {
        flag(&server, key).await;
    }
    server.admin.post(SEGMENTS, json!({"key": "beta"})).await.expect(201);
    server
        .admin
        .post(
            SEGMENTS,
            json!({"key": "outer", "rules": [{"clauses": [
        {"attribute": "", "op": "segmentMatch", "values": ["beta"]}]}]}),
        )
        .await
        .expect(201);
    let rule = json!([{"kind": "addRule", "variation": "off", "clauses": [
        {"attribute": "", "op": "segmentMatch", "values": ["outer"]}]}]);
    server.admin.change("by-segment", rule).await.expect(200);
    let needs = json!([{"kind": "addPrerequisite", "key": "by-segment", "variation": "on"}]);
    server.admin.change("dependent", needs).await.expect(200);

    let path = format!("/eval/{}/{}?withReasons=true", browser.token, encoded(&ada()));
    let mut events = stream(&browser, &path).await;
    assert_eq!(events.headers["content-type"], "text/event-stream");
    assert_eq!(events.headers["access-control-allow-origin"], "*");
    let (name, put) = events.event().await.unwrap();
    assert_eq!(name, "put");
    assert_eq!(put["dependent"]["prerequisites"], json!(["by-segment"]));
    assert_eq!(put["dependent"]["value"], true);

    // Somebody else enters the segment: nothing differs here. Then this one does, through two segments and a prerequisite.
    let include = |keys: Value| json!({"name": "beta", "included": keys});
    let beta = format!("{SEGMENTS}/beta");
    server.admin.put(&beta, include(json!(["bob"]))).await.expect(200);
    server.admin.put(&beta, include(json!(["bob", "ada"]))).await.expect(200);
    let (name, first) = events.event().await.unwrap();
    assert_eq!(
        (name.as_str(), &first["key"], &first["value"]),
        ("patch", &json!("by-segment"), &json!(false))
    );
    assert!(first["version"].as_i64() > put["by-segment"]["version"].as_i64());
    assert_eq!(first["flagVersion"], put["by-segment"]["flagVersion"]);
    let (_, second) = events.event().await.unwrap();
    assert_eq!((&second["key"], &second["value"]), (&json!("dependent"), &json!(false)));
    assert_eq!(second["reason"]["prerequisiteKey"], "by-segment");

    // A flag that is withdrawn from browsers, and one that is deleted, are gone.
    let hide = json!({"instructions": [{"kind": "turnOffClientSideAvailability", "value": "usingEnvironmentId"}]});
    server.admin.patch(&format!("{FLAGS}/direct"), hide).await.expect(200);
    let (name, data) = events.event().await.unwrap();
    assert_eq!((name.as_str(), &data["key"]), ("delete", &json!("direct")));
    server.admin.delete(&format!("{FLAGS}/dependent")).await.expect(204);
    let (name, data) = events.event().await.unwrap();
    assert_eq!((name.as_str(), &data["key"]), ("delete", &json!("dependent")));
    assert!(data["version"].as_i64() > second["version"].as_i64());
}

#[tokio::test]
async fn pings_come_for_what_the_token_may_see() {
    let (server, browser) = with_browser().await;
    flag(&server, "seen").await;
    server.flag("unseen").await;
    let mut events = stream(&browser, &format!("/ping/{}", browser.token)).await;
    let block = events.block().await.unwrap();
    assert_eq!(block, "event: ping\ndata:  ", "an event without data would not be delivered");
    server.admin.change("unseen", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    server.admin.change("seen", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    assert_eq!(events.event().await.unwrap().0, "ping");
    let hide = json!({"instructions": [{"kind": "turnOffClientSideAvailability", "value": "usingEnvironmentId"}]});
    server.admin.patch(&format!("{FLAGS}/seen"), hide).await.expect(200);
    assert_eq!(events.event().await.unwrap().0, "ping", "the page would keep the flag's value");
    // One for both or one for the second: none is left when the next change comes.
    let listed = server.admin.get("/api/v1/projects/shop/environments/production/tokens").await;
    let listed = listed.expect(200);
    let own = listed["items"].as_array().unwrap().iter().find(|token| token["kind"] == "client");
    let id = own.unwrap()["id"].as_str().unwrap().to_owned();
    server
        .admin
        .delete(&format!("/api/v1/projects/shop/environments/production/tokens/{id}"))
        .await
        .expect(204);
    assert_eq!(events.event().await, None, "the stream of a revoked token ends");
}

#[tokio::test]
async fn the_second_protocol_transfers_everything_once_and_then_what_differs() {
    let (server, browser) = with_browser().await;
    flag(&server, "a").await;
    flag(&server, "b").await;
    let path = format!("/sdk/poll/eval/{}?auth={}", encoded(&ada()), browser.token);
    let answer = plain(&browser, Method::GET, &path).await.expect(200);
    let events = answer["events"].as_array().unwrap();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["server-intent", "put-object", "put-object", "payload-transferred"]);
    assert_eq!(events[0]["data"]["payloads"][0]["intentCode"], "xfer-full");
    let object = &events[1]["data"];
    assert_eq!((&object["kind"], &object["key"]), (&json!("flag-eval"), &json!("a")));
    assert_eq!(object["object"]["value"], true);
    assert!(object["object"].get("version").is_none());
    let state = events[3]["data"]["state"].as_str().unwrap().to_owned();
    let again = plain(&browser, Method::GET, &format!("{path}&basis={state}")).await.expect(200);
    assert_eq!(again["events"].as_array().unwrap().len(), 1);
    assert_eq!(again["events"][0]["data"]["payloads"][0]["intentCode"], "none");
    // Of another context, the state says nothing.
    let url = format!("{}/sdk/poll/eval?auth={}&basis={state}", browser.url, browser.token);
    let rule = json!([{"kind": "addRule", "variation": "off", "clauses": [
        {"attribute": "plan", "op": "in", "values": ["free"]}]}]);
    server.admin.change("a", rule).await.expect(200);
    let sent = browser.http.post(url).json(&json!({"kind": "user", "key": "bob", "plan": "free"}));
    let other = browser.send(sent).await.expect(200);
    assert_eq!(other["events"][0]["data"]["payloads"][0]["intentCode"], "xfer-full");

    let path = path.replace("/sdk/poll/", "/sdk/stream/");
    let mut events = stream(&browser, &format!("{path}&basis={state}")).await;
    let (name, intent) = events.event().await.unwrap();
    assert_eq!(
        (name.as_str(), &intent["payloads"][0]["intentCode"]),
        ("server-intent", &json!("none"))
    );
    server.admin.change("b", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    let (name, intent) = events.event().await.unwrap();
    assert_eq!(
        (name.as_str(), &intent["payloads"][0]["intentCode"]),
        ("server-intent", &json!("xfer-changes"))
    );
    let (name, object) = events.event().await.unwrap();
    assert_eq!((name.as_str(), &object["object"]["value"]), ("put-object", &json!(false)));
    let (name, done) = events.event().await.unwrap();
    assert_eq!(name, "payload-transferred");
    let now = done["state"].as_str().unwrap();
    let poll = path.replace("/sdk/stream/", "/sdk/poll/");
    let none = plain(&browser, Method::GET, &format!("{poll}&basis={now}")).await.expect(200);
    assert_eq!(none["events"][0]["data"]["payloads"][0]["intentCode"], "none");
    server.admin.delete(&format!("{FLAGS}/b")).await.expect(204);
    events.event().await.unwrap();
    let (name, gone) = events.event().await.unwrap();
    assert_eq!((name.as_str(), &gone["key"]), ("delete-object", &json!("b")));
}

#[tokio::test]
async fn entries_say_what_sdks_have_to_report() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let body = json!({"key": "imported", "serverSdk": "launchdarkly"});
    server.admin.post("/api/v1/projects/shop/environments", body).await.expect(201);
    let imported = "/api/v1/projects/shop/environments/imported";
    let flag = |is_visible: bool, fields: Value| {
        let mut flag = json!({"version": 1, "on": true, "salt": "s", "variations": [true, false],
            "offVariation": 1, "fallthrough": {"variation": 0},
            "clientSideAvailability": {"usingEnvironmentId": is_visible, "usingMobileKey": is_visible}});
        flag.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        flag
    };
    let wanted = |keys: &[&str]| -> Value {
        keys.iter().map(|key| json!({"key": key, "variation": 0})).collect()
    };
    let halves = json!({"rollout": {"kind": "experiment", "variations": [
        {"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]}});
    let clause = |plan: &str| json!({"contextKind": "user", "attribute": "plan", "op": "in", "values": [plan]});
    let flags = json!({
        "gate": flag(false, json!({"key": "gate", "on": false})),
        "shell": flag(false, json!({"key": "shell"})),
        "stops": flag(true, json!({"key": "stops", "prerequisites": wanted(&["shell", "gate", "late"])})),
        "late": flag(false, json!({"key": "late"})),
        "passes": flag(true, json!({"key": "passes", "prerequisites": wanted(&["shell", "late"])})),
        "nothing": flag(true, json!({"key": "nothing", "variations": [null, true]})),
        "measured": flag(true, json!({"key": "measured", "fallthrough": halves})),
        "tracked": flag(true, json!({"key": "tracked", "trackEvents": true})),
        "falls": flag(true, json!({"key": "falls", "trackEventsFallthrough": true})),
        "ruled": flag(true, json!({"key": "ruled", "trackEventsFallthrough": true, "rules": [
            {"id": "quiet", "clauses": [clause("silver")], "variation": 0},
            {"id": "loud", "clauses": [clause("gold")], "variation": 0, "trackEvents": true}]})),
    });
    let file = json!({"flags": flags, "segments": {}});
    server.admin.post(&format!("{imported}/import/launchdarkly"), file).await.expect(200);
    let tokens = format!("{imported}/tokens");
    let made = server.admin.post(&tokens, json!({"name": "t", "kind": "client"})).await.expect(201);
    let browser = server.admin.with_token(made["token"].as_str().unwrap());

    let path = format!("/sdk/evalx/{}/contexts/{}", browser.token, encoded(&ada()));
    let values = plain(&browser, Method::GET, &path).await.expect(200);
    // Up to the first that fails, hidden ones too.
    assert_eq!(values["stops"]["prerequisites"], json!(["shell", "gate"]));
    assert_eq!(values["passes"]["prerequisites"], json!(["shell", "late"]));
    assert!(values.get("shell").is_none() && values["nothing"].get("prerequisites").is_none());
    assert_eq!(
        (&values["nothing"]["value"], &values["nothing"]["variation"]),
        (&json!(null), &json!(0))
    );
    // Of what is measured the reason is told, and of nothing else.
    let measured = &values["measured"];
    assert_eq!((&measured["trackEvents"], &measured["trackReason"]), (&json!(true), &json!(true)));
    assert_eq!(measured["reason"], json!({"kind": "FALLTHROUGH", "inExperiment": true}));
    assert!(
        values["stops"].get("reason").is_none() && values["stops"].get("trackReason").is_none()
    );

    let told = |values: &Value, key: &str| {
        ["trackEvents", "trackReason", "reason"].map(|name| values[key].get(name).is_some())
    };
    assert_eq!(told(&values, "tracked"), [true, false, false], "all of it, and of no experiment");
    assert_eq!(told(&values, "falls"), [true; 3]);
    assert_eq!(told(&values, "ruled"), [true; 3]);
    let silver = json!({"kind": "user", "key": "bob", "plan": "silver"});
    let path = format!("/sdk/evalx/{}/contexts/{}", browser.token, encoded(&silver));
    let silver = plain(&browser, Method::GET, &path).await.expect(200);
    assert_eq!(told(&silver, "ruled"), [false; 3], "another rule decided");

    let path = format!("/api/v1/bootstrap?context={}", encoded(&ada()));
    let page = browser.get(&path).await;
    assert_eq!(page.header("cache-control"), "no-store");
    let states = page.expect(200)["$flagsState"].clone();
    assert_eq!(states["stops"]["prerequisites"], json!(["shell", "gate"]));
    assert_eq!(states["measured"]["trackReason"], true);
    assert!(states["nothing"].get("prerequisites").is_none());
    let tracked = &states["tracked"];
    assert_eq!((&tracked["trackEvents"], tracked.get("trackReason")), (&json!(true), None));

    // OFREP has no word for a value that is none but to leave it out.
    let one = browser.evaluate("nothing", json!({"targetingKey": "ada"})).await.expect(200);
    let all = browser.post("/ofrep/v1/evaluate/flags", json!({})).await.expect(200);
    let of_all = all["flags"].as_array().unwrap().iter().find(|flag| flag["key"] == "nothing");
    for answer in [&one, of_all.unwrap()] {
        assert_eq!(
            (answer.get("value"), &answer["reason"]),
            (None, &json!("DISABLED")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn a_page_can_carry_its_values() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    flag(&server, "a").await;
    server.flag("secret").await;
    let path = format!("/api/v1/bootstrap?context={}", encoded(&ada()));
    let values = backend.get(&path).await.expect(200);
    assert_eq!((&values["a"], &values["$valid"]), (&json!(true), &json!(true)));
    assert_eq!(values["$flagsState"]["a"]["variation"], 0);
    assert!(values.get("secret").is_none());
    let all = backend.get(&format!("{path}&clientSideOnly=false&withReasons=true")).await;
    let all = all.expect(200);
    assert_eq!(all["secret"], false);
    assert_eq!(all["$flagsState"]["secret"]["reason"], json!({"kind": "OFF"}));
    let browser = server.token("client", None).await;
    let hers = browser.get(&format!("{path}&clientSideOnly=false")).await.expect(200);
    assert!(hers.get("secret").is_none());
}

#[tokio::test]
async fn one_address_has_few_streams_of_a_client_token() {
    let (_server, browser) = with_browser().await;
    let path = format!("/ping/{}", browser.token);
    let mut open = Vec::new();
    for _ in 0..20 {
        open.push(stream(&browser, &path).await);
    }
    let answer = plain(&browser, Method::GET, &path).await;
    assert_eq!(answer.header("access-control-allow-origin"), "*");
    assert_eq!(answer.expect(429)["code"], "too_many_streams");
}

/// What `secureModeHash` of a backend's SDK makes of a context's key.
fn signed(token: &str, key: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(token.as_bytes()).unwrap();
    mac.update(key.as_bytes());
    hex::encode(mac.finalize().into_bytes())
}

#[tokio::test]
async fn in_secure_mode_only_signed_contexts_are_evaluated() {
    let server = Server::start(Backend::Postgres).await;
    let backend = server.with_environment().await;
    let (browser, other) = (server.token("client", None).await, server.token("server", None).await);
    flag(&server, "a").await;
    let path = format!("/sdk/evalx/{}/contexts/{}", browser.token, encoded(&ada()));
    plain(&browser, Method::GET, &path).await.expect(200);
    let environment = "/api/v1/projects/shop/environments/production";
    server.admin.patch(environment, json!({"secureMode": true})).await.expect(200);
    eventually("the mode is served", || async {
        plain(&browser, Method::GET, &path).await.status == 400
    })
    .await;
    let ask = async |h: String| plain(&browser, Method::GET, &format!("{path}?h={h}")).await;
    // With any of the environment's server tokens, and with nothing else.
    for token in [&backend.token, &other.token] {
        assert_eq!(ask(signed(token, "ada")).await.expect(200)["a"]["value"], true);
        assert_eq!(ask(signed(token, "bob")).await.expect(400)["code"], "secure_mode");
    }
    assert_eq!(ask(signed(&browser.token, "ada")).await.status, 400);
    assert_eq!(ask(String::new()).await.status, 400);
    // By OFREP the signature stands in a header; whole lists of contexts are for backends.
    let single = "/ofrep/v1/evaluate/flags/a";
    let body = json!({"context": {"targetingKey": "ada"}});
    assert_eq!(browser.post(single, body.clone()).await.status, 400);
    let request = browser.request(Method::POST, single).json(&body);
    let request = request.header("vexil-context-hash", signed(&backend.token, "ada"));
    assert_eq!(browser.send(request).await.expect(200)["value"], true);
    backend.post(single, body).await.expect(200);
    let many = json!({"contexts": [{"targetingKey": "ada"}], "flags": ["a"]});
    assert_eq!(
        browser.post("/api/v1/evaluate", many.clone()).await.expect(403)["code"],
        "secure_mode"
    );
    backend.post("/api/v1/evaluate", many).await.expect(200);
    // A secret that was replaced signs on while it works, and the new one too.
    let tokens = format!("{environment}/tokens");
    let listed = server.admin.get(&tokens).await.expect(200);
    let of_kind = |token: &&Value| token["kind"] == "server";
    let id = listed["items"].as_array().unwrap().iter().find(of_kind).unwrap()["id"].clone();
    let rotate = format!("{tokens}/{}/rotate", id.as_str().unwrap());
    let rotated = server.admin.post(&rotate, json!({})).await.expect(200);
    let new = rotated["token"].as_str().unwrap().to_owned();
    eventually("the new secret signs", || async { ask(signed(&new, "ada")).await.status == 200 })
        .await;
    ask(signed(&backend.token, "ada")).await.expect(200);
    server.admin.patch(environment, json!({"secureMode": false})).await.expect(200);
    eventually("any context is taken", || async {
        plain(&browser, Method::GET, &path).await.status == 200
    })
    .await;
}
