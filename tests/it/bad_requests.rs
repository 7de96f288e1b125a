//! A table of bad requests: each gets its status and code, none a 500, and nothing is stored.

use crate::harness::Backend;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

const FLAGS: &str = "/api/v1/projects/shop/flags";
const ENV: &str = "/api/v1/projects/shop/environments/production";

/// One bad request: what is sent, and the status, code and path of the first problem that must come back.
struct Case {
    what: &'static str,
    method: Method,
    path: String,
    body: String,
    status: u16,
    code: &'static str,
    at: String,
}

fn case(
    what: &'static str,
    method: Method,
    path: impl Into<String>,
    body: impl ToString,
    (status, code, at): (u16, &'static str, &str),
) -> Case {
    Case {
        what,
        method,
        path: path.into(),
        body: body.to_string(),
        status,
        code,
        at: at.to_owned(),
    }
}

/// A bad instruction in a change of the flag `f`.
fn instruction(what: &'static str, body: Value, expected: (u16, &'static str, &str)) -> Case {
    let body = json!({"instructions": [{"kind": "turnFlagOn"}, body]});
    case(what, Method::PATCH, format!("{ENV}/flags/f"), body, expected)
}

/// A bad clause in a rule of the flag `f`.
fn clause(what: &'static str, body: Value, expected: (u16, &'static str, &str)) -> Case {
    instruction(what, json!({"kind": "addRule", "variation": "on", "clauses": [body]}), expected)
}

fn definitions() -> Vec<Case> {
    let flag = |what, body: Value, expected| case(what, Method::POST, FLAGS, body, expected);
    let nested =
        format!(r#"{{"key":"x","kind":"json","variations":{}{}}}"#, "[".repeat(64), "]".repeat(64));
    // The path of the first place that is too deep.
    let at = format!("variations{}", "[0]".repeat(32));
    let huge = format!(r#"{{"key":"x","kind":"boolean","description":"{}"}}"#, "x".repeat(5 << 20));
    vec![
        case("not JSON", Method::POST, FLAGS, "{\"key\":", (400, "json_syntax", "")),
        case("empty body", Method::POST, FLAGS, "", (400, "json_syntax", "")),
        case("two documents", Method::POST, FLAGS, "{}{}", (400, "json_syntax", "")),
        case(
            "number out of range",
            Method::POST,
            FLAGS,
            r#"{"key":1e999}"#,
            (400, "json_syntax", ""),
        ),
        case(
            "not UTF-8 escapes",
            Method::POST,
            FLAGS,
            r#"{"key":"\ud800"}"#,
            (400, "json_syntax", ""),
        ),
        case("not an object", Method::POST, FLAGS, "[1]", (422, "wrong_type", "")),
        case(
            "duplicate key",
            Method::POST,
            FLAGS,
            r#"{"key":"x","kind":"boolean","key":"y"}"#,
            (400, "duplicate_key", "key"),
        ),
        case(
            "NUL in a text",
            Method::POST,
            FLAGS,
            r#"{"key":"x","kind":"boolean","name":"a\u0000b"}"#,
            (400, "nul_character", "name"),
        ),
        case("deep JSON", Method::POST, FLAGS, nested, (400, "too_deep", &at)),
        case("body over the limit", Method::POST, FLAGS, huge, (413, "body_too_large", "")),
        flag("missing key", json!({"kind": "boolean"}), (422, "required", "key")),
        flag("bad key", json!({"key": "a b", "kind": "boolean"}), (422, "invalid_key", "key")),
        flag(
            "key of the wrong type",
            json!({"key": 7, "kind": "boolean"}),
            (422, "wrong_type", "key"),
        ),
        flag("taken key", json!({"key": "f", "kind": "boolean"}), (409, "key_taken", "")),
        flag(
            "unknown field",
            json!({"key": "x", "kind": "boolean", "colour": 1}),
            (422, "unknown_field", "colour"),
        ),
        flag("unknown kind", json!({"key": "x", "kind": "date"}), (422, "unknown_value", "kind")),
        flag(
            "no variations",
            json!({"key": "x", "kind": "string"}),
            (422, "required", "variations"),
        ),
        flag(
            "value of another kind",
            json!({"key": "x", "kind": "number", "variations": [{"key": "a", "value": "1"}]}),
            (422, "variation_kind", "variations[0].value"),
        ),
        flag(
            "variation twice",
            json!({"key": "x", "kind": "number", "variations": [{"key": "a", "value": 1}, {"key": "a", "value": 2}]}),
            (422, "duplicate_variation", "variations[1].key"),
        ),
        flag(
            "unknown default",
            json!({"key": "x", "kind": "boolean", "defaults": {"onVariation": "red"}}),
            (422, "unknown_variation", "defaults.onVariation"),
        ),
    ]
}

fn changes() -> Vec<Case> {
    let fallthrough = |weights: Value| json!({"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": weights});
    let clause_of = |op: &str, value: Value| json!({"attribute": "a", "op": op, "values": [value]});
    vec![
        instruction(
            "unknown instruction",
            json!({"kind": "explode"}),
            (422, "unknown_instruction", "instructions[1].kind"),
        ),
        instruction(
            "instruction without kind",
            json!({}),
            (422, "required", "instructions[1].kind"),
        ),
        instruction(
            "unknown field",
            json!({"kind": "turnFlagOff", "now": true}),
            (422, "unknown_field", "instructions[1].now"),
        ),
        instruction(
            "weights of 99 %",
            fallthrough(json!({"on": 25_000, "off": 74_000})),
            (422, "weights_sum", "instructions[1].rolloutWeights"),
        ),
        instruction(
            "negative weight",
            fallthrough(json!({"on": -1, "off": 100_001})),
            (422, "invalid_weight", "instructions[1].rolloutWeights.on"),
        ),
        instruction(
            "half a weight",
            fallthrough(json!({"on": 0.5, "off": 99_999.5})),
            (422, "invalid_weight", "instructions[1].rolloutWeights.on"),
        ),
        instruction(
            "weight of no variation",
            fallthrough(json!({"on": 50_000, "red": 50_000})),
            (422, "unknown_variation", "instructions[1].rolloutWeights.red"),
        ),
        instruction(
            "unknown hash",
            json!({"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": {"on": 100_000}, "rolloutHash": "md5"}),
            (422, "unknown_value", "instructions[1].rolloutHash"),
        ),
        instruction(
            "seed beyond what JSON keeps",
            json!({"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": {"on": 100_000}, "rolloutSeed": 1_i64 << 53}),
            (422, "out_of_range", "instructions[1].rolloutSeed"),
        ),
        instruction(
            "seed without a rollout",
            json!({"kind": "updateFallthroughVariationOrRollout", "variation": "on", "rolloutSeed": 1}),
            (422, "conflicting_fields", "instructions[1].rolloutSeed"),
        ),
        instruction(
            "no such variation",
            json!({"kind": "updateOffVariation", "variation": "red"}),
            (422, "unknown_variation", "instructions[1].variation"),
        ),
        instruction(
            "variation and weights",
            json!({"kind": "updateFallthroughVariationOrRollout", "variation": "on", "rolloutWeights": {"on": 100_000}}),
            (422, "conflicting_fields", "instructions[1].rolloutWeights"),
        ),
        instruction(
            "no such rule",
            json!({"kind": "removeRule", "ruleId": "none"}),
            (422, "unknown_rule", "instructions[1].ruleId"),
        ),
        instruction(
            "no such prerequisite flag",
            json!({"kind": "addPrerequisite", "key": "none", "variation": "on"}),
            (422, "unknown_flag", "instructions[1].key"),
        ),
        instruction(
            "prerequisite cycle",
            json!({"kind": "addPrerequisite", "key": "g", "variation": "on"}),
            (422, "cycle", "instructions[1].key"),
        ),
        instruction(
            "own prerequisite",
            json!({"kind": "addPrerequisite", "key": "f", "variation": "on"}),
            (422, "cycle", "instructions[1].key"),
        ),
        instruction(
            "targets of the wrong type",
            json!({"kind": "addTargets", "variation": "on", "values": [1]}),
            (422, "wrong_type", "instructions[1].values[0]"),
        ),
        clause(
            "bad regex",
            clause_of("matches", json!("a(b")),
            (422, "invalid_pattern", "instructions[1].clauses[0].values[0]"),
        ),
        clause(
            "regex that is too large",
            clause_of("matches", json!("\\w{1000}")),
            (422, "invalid_pattern", "instructions[1].clauses[0].values[0]"),
        ),
        clause(
            "too many patterns",
            json!({"attribute": "a", "op": "matches", "values": vec!["a"; 21]}),
            (422, "too_many", "instructions"),
        ),
        clause(
            "unknown operator",
            clause_of("isNear", json!(1)),
            (422, "unknown_operator", "instructions[1].clauses[0].op"),
        ),
        clause(
            "text to compare",
            clause_of("lessThan", json!("5")),
            (422, "value_type", "instructions[1].clauses[0].values[0]"),
        ),
        clause(
            "bad attribute",
            json!({"attribute": "/a//b", "op": "in", "values": [1]}),
            (422, "invalid_attribute", "instructions[1].clauses[0].attribute"),
        ),
        clause(
            "no values",
            json!({"attribute": "a", "op": "in", "values": []}),
            (422, "required", "instructions[1].clauses[0].values"),
        ),
        clause(
            "no such segment",
            clause_of("segmentMatch", json!("none")),
            (422, "unknown_segment", "instructions[1].clauses[0].values[0]"),
        ),
        case(
            "no instructions",
            Method::PATCH,
            format!("{ENV}/flags/f"),
            "{}",
            (422, "required", "instructions"),
        ),
        case(
            "instructions of the wrong type",
            Method::PATCH,
            format!("{ENV}/flags/f"),
            r#"{"instructions":{}}"#,
            (422, "wrong_type", "instructions"),
        ),
    ]
}

fn others() -> Vec<Case> {
    let one = json!({"instructions": [{"kind": "turnFlagOn"}]});
    vec![
        case(
            "unknown flag",
            Method::PATCH,
            format!("{ENV}/flags/none"),
            &one,
            (404, "not_found", ""),
        ),
        case(
            "NUL in the path",
            Method::PATCH,
            format!("{ENV}/flags/a%00b"),
            &one,
            (404, "not_found", ""),
        ),
        case(
            "unknown environment",
            Method::PATCH,
            "/api/v1/projects/shop/environments/none/flags/f",
            &one,
            (404, "not_found", ""),
        ),
        case(
            "unknown query",
            Method::PATCH,
            format!("{ENV}/flags/f?dryrun=true"),
            &one,
            (400, "invalid_query", ""),
        ),
        case("unknown route", Method::GET, "/api/v1/flags", "", (404, "not_found", "")),
        case("wrong method", Method::PUT, FLAGS, "{}", (405, "method_not_allowed", "")),
        case(
            "segment cycle",
            Method::PUT,
            format!("{ENV}/segments/s"),
            json!({"rules": [{"clauses": [{"op": "segmentMatch", "values": ["s"]}]}]}),
            (422, "cycle", "rules"),
        ),
        case(
            "share above the whole",
            Method::PUT,
            format!("{ENV}/segments/s"),
            json!({"rules": [{"clauses": [], "weight": 100_001}]}),
            (422, "out_of_range", "rules[0].weight"),
        ),
        case(
            "share of an unknown hash",
            Method::PUT,
            format!("{ENV}/segments/s"),
            json!({"rules": [{"clauses": [], "weight": 1, "hash": "md5"}]}),
            (422, "unknown_value", "rules[0].hash"),
        ),
        case(
            "environment for an unknown SDK",
            Method::POST,
            "/api/v1/projects/shop/environments",
            json!({"key": "x", "serverSdk": "other"}),
            (422, "unknown_value", "serverSdk"),
        ),
        case(
            "environment for no text",
            Method::POST,
            "/api/v1/projects/shop/environments",
            json!({"key": "x", "serverSdk": true}),
            (422, "wrong_type", "serverSdk"),
        ),
        case(
            "import into an environment of another kind",
            Method::POST,
            format!("{ENV}/import/launchdarkly"),
            json!({"flags": {}, "segments": {}}),
            (409, "server_sdk_required", ""),
        ),
        case(
            "import of something else",
            Method::POST,
            format!("{ENV}/import/launchdarkly"),
            json!({"items": []}),
            (422, "required", ""),
        ),
        case(
            "token without a role",
            Method::POST,
            format!("{ENV}/tokens"),
            json!({"name": "t", "kind": "admin"}),
            (422, "required", "role"),
        ),
        case(
            "SDK token with a role",
            Method::POST,
            format!("{ENV}/tokens"),
            json!({"name": "t", "kind": "server", "role": "viewer"}),
            (422, "conflicting_fields", "role"),
        ),
        case("flag in use", Method::DELETE, format!("{FLAGS}/f"), "", (409, "in_use", "")),
        case("audit limit", Method::GET, "/api/v1/audit?limit=0", "", (400, "invalid_query", "")),
    ]
}

/// Everything that is stored, as far as the API shows it.
async fn state(server: &Server) -> Vec<String> {
    let mut state = Vec::new();
    for path in [
        FLAGS.to_owned(),
        format!("{ENV}/flags"),
        format!("{ENV}/segments"),
        format!("{ENV}/tokens"),
        "/api/v1/audit?limit=500".to_owned(),
    ] {
        state.push(server.admin.get(&path).await.text);
    }
    state
}

async fn refuse_all(backend: Backend) {
    let server = Server::start(backend).await;
    server.with_environment().await;
    server.flag("f").await;
    server.flag("g").await;
    let prerequisite = json!([{"kind": "addPrerequisite", "key": "f", "variation": "on"}]);
    server.admin.change("g", prerequisite).await.expect(200);
    server.admin.post(&format!("{ENV}/segments"), json!({"key": "s"})).await.expect(201);
    let before = state(&server).await;
    let cases: Vec<Case> = [definitions(), changes(), others()].into_iter().flatten().collect();
    println!("{:<32} {:<6} {:<6} {:<20} at", "bad request", "method", "status", "code");
    for case in cases {
        let answer = server.admin.raw(case.method.clone(), &case.path, case.body.clone()).await;
        let problem = &answer.body;
        let code = problem["code"].as_str().unwrap_or_default();
        let at = problem["errors"][0]["path"].as_str().unwrap_or_default();
        println!("{:<32} {:<6} {:<6} {code:<20} {at}", case.what, case.method, answer.status);
        assert_eq!(
            (answer.status, code, at),
            (case.status, case.code, case.at.as_str()),
            "{}: {}",
            case.what,
            answer.text
        );
        assert_eq!(answer.header("content-type"), "application/problem+json", "{}", case.what);
        assert_eq!(problem["status"], case.status);
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()));
        assert_eq!(problem["requestId"], answer.header("x-request-id"));
    }
    assert_eq!(state(&server).await, before, "nothing was stored");
    assert_eq!(server.admin.get("/readyz").await.status, 200, "the server goes on");
}

#[tokio::test]
async fn each_gets_its_answer_and_nothing_is_stored_on_sqlite() {
    refuse_all(Backend::Sqlite).await;
}

#[tokio::test]
async fn each_gets_its_answer_and_nothing_is_stored_on_postgres() {
    refuse_all(Backend::Postgres).await;
}

#[tokio::test]
async fn all_problems_are_told_at_once() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let body = json!({"comment": 7, "colour": "red", "instructions": [
        {"kind": "explode"},
        {"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": {"on": 1}},
        {"kind": "addRule", "variation": "on", "clauses": [
            {"attribute": "a", "op": "matches", "values": ["(", "ok", "["]},
            {"attribute": "", "op": "in", "values": [1], "extra": true}]},
    ]});
    let problem = server.admin.patch(&format!("{ENV}/flags/f"), body).await.expect(422);
    let paths: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["path"].as_str().unwrap())
        .collect();
    assert_eq!(
        paths,
        [
            "comment",
            "instructions[0].kind",
            "instructions[1].rolloutWeights",
            "instructions[2].clauses[0].values[0]",
            "instructions[2].clauses[0].values[2]",
            "instructions[2].clauses[1].attribute",
            "instructions[2].clauses[1].extra",
            "colour",
        ]
    );
    // What only shows when instructions are applied is told at once, too.
    let body = json!({"instructions": [
        {"kind": "updateOffVariation", "variation": "red"},
        {"kind": "removeRule", "ruleId": "none"},
    ]});
    let problem = server.admin.patch(&format!("{ENV}/flags/f"), body).await.expect(422);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_method_that_a_route_lacks_is_refused_whatever_else_the_request_has() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    for path in ["/api/v1/projects", "/api/v1/tokens"] {
        let request = server.admin.request(Method::PUT, &format!("{path}?wait=soon"));
        let answer = server.admin.send(request.header("Idempotency-Key", "same").body("{}")).await;
        assert_eq!(answer.status, 405, "{path}: {}", answer.text);
        assert!(answer.header("allow").contains("POST"), "{path}: {}", answer.header("allow"));
        assert_eq!(answer.body["code"], "method_not_allowed");
    }
    for (method, path, allowed) in [
        (Method::TRACE, "/sdk/evalx/context", "GET,HEAD,POST,REPORT"),
        (Method::DELETE, "/sdk/evalx/context", "GET,HEAD,POST,REPORT"),
        // What would be in the body is in the path.
        (Method::DELETE, "/sdk/evalx/contexts/0", "GET,HEAD"),
        (Method::POST, "/sdk/evalx/contexts/0", "GET,HEAD"),
    ] {
        let answer = backend.send(backend.request(method, path)).await;
        assert_eq!(answer.status, 405, "{}", answer.text);
        assert_eq!(answer.header("allow"), allowed);
    }
}

#[tokio::test]
async fn a_version_that_nobody_was_given_is_refused_at_once() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag("f").await;
    for version in ["1-900000000000", "999999999-1", "x", "01-1"] {
        let request = backend.request(Method::POST, "/ofrep/v1/evaluate/flags");
        let request = request.header("Vexil-Min-Version", version);
        let answer = backend.send(request.json(&json!({"context": {"targetingKey": "a"}}))).await;
        assert_eq!(answer.status, 400, "{version}: {}", answer.text);
    }
}
