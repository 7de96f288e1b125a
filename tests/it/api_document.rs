//! The API document holds what it promises: its examples work, and its page at `/docs` stands alone.
//!
//! That it is the one that the code makes is tested in `documents`.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

fn document() -> Value {
    yaml_serde::from_str(vexil::http::openapi::yaml().unwrap()).unwrap()
}

/// Method, path and operation of each.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            all.push((method, path.clone(), operation.clone()));
        }
    }
    all
}

/// Operations whose example is refused on a server where nothing is wrong, and how.
const REFUSED: [(&str, u16); 2] = [("accept_history", 409), ("restore_flag", 409)];
/// `{"kind":"user","key":"ann"}`
const CONTEXT: &str = "eyJraW5kIjoidXNlciIsImtleSI6ImFubiJ9";

struct Fixture {
    server: Server,
    backend: Client,
    mobile: Client,
    client: Client,
}

impl Fixture {
    async fn start() -> Self {
        let server = Server::start(Backend::Sqlite).await;
        server.admin.post("/api/v1/projects", json!({"key": "shop"})).await.expect(201);
        let body = json!({"key": "production", "serverSdk": "launchdarkly"});
        server.admin.post("/api/v1/projects/shop/environments", body).await.expect(201);
        server.flag("checkout-v2").await;
        let [backend, mobile, client] = [
            server.token("server", None),
            server.token("mobile", None),
            server.token("client", None),
        ];
        Self { backend: backend.await, mobile: mobile.await, client: client.await, server }
    }

    /// Whoever may send a request to a path.
    fn caller(&self, path: &str) -> &Client {
        match path {
            _ if path.starts_with("/mobile/") => &self.mobile,
            _ if path.starts_with("/events/") => &self.client,
            "/api/v1/evaluate" => &self.backend,
            _ if ["/api/", "/kill", "/restore"].iter().any(|each| path.starts_with(each)) => {
                &self.server.admin
            }
            _ => &self.backend,
        }
    }

    /// A path with the names and ids of what is there.
    async fn filled(&self, path: &str) -> String {
        let environment = "/api/v1/projects/shop/environments/production";
        let list = match path {
            _ if path.starts_with("/events/") => None,
            _ if path.starts_with("/api/v1/tokens/{token}") => Some("/api/v1/tokens".to_owned()),
            _ if path.contains("{token}") => Some(format!("{environment}/tokens")),
            _ if path.contains("/schedule/{id}") => Some(format!("{environment}/schedule")),
            _ => None,
        };
        let id = match list {
            Some(list) => {
                let all = self.server.admin.get(&list).await.expect(200);
                all["items"][0]["id"].as_str().unwrap_or("none").to_owned()
            }
            None => self.client.token.clone(),
        };
        let mut path = path.replace("{context}", CONTEXT);
        for (name, value) in [
            ("{project}", "shop"),
            ("{environment}", "production"),
            ("{flag}", "checkout-v2"),
            ("{key}", "checkout-v2"),
            ("{segment}", "staff"),
            ("{token}", &id),
            ("{id}", &id),
        ] {
            path = path.replace(name, value);
        }
        // An administrator's token reaches the environment that another example creates, too.
        match path.starts_with("/kill") || path.starts_with("/restore") {
            true => format!("{path}?project=shop&environment=production"),
            false => path,
        }
    }
}

/// Whether an answer has the fields that an example has, and they are of the same types.
fn is_like(example: &Value, answer: &Value) -> Result<(), String> {
    match (example, answer) {
        (Value::Object(example), Value::Object(answer)) => {
            for (key, value) in example {
                let found = answer.get(key).ok_or_else(|| format!("there is no {key}"))?;
                is_like(value, found).map_err(|why| format!("{key}: {why}"))?;
            }
            Ok(())
        }
        (Value::Array(example), Value::Array(answer)) => match (example.first(), answer.first()) {
            (Some(example), Some(answer)) => is_like(example, answer),
            _ => Ok(()),
        },
        _ if std::mem::discriminant(example) == std::mem::discriminant(answer) => Ok(()),
        _ => Err(format!("{answer} is not like {example}")),
    }
}

#[tokio::test]
async fn every_example_is_accepted_as_the_document_says() {
    let fixture = Fixture::start().await;
    let document = document();
    let mut n_sent = 0;
    for (method, path, operation) in operations(&document) {
        let body = &operation["requestBody"];
        let example = &body["content"]["application/json"]["example"];
        if body.is_null() {
            continue;
        }
        assert!(
            !example.is_null() || path.ends_with("{secret}") || path.contains("/eval"),
            "{path} lacks one"
        );
        if example.is_null() {
            continue;
        }
        let client = fixture.caller(&path);
        let request = client.request(method.clone(), &fixture.filled(&path).await);
        let answer = client.send(request.json(example)).await;
        let id = operation["operationId"].as_str().unwrap();
        if let Some((_, status)) = REFUSED.iter().find(|(refused, _)| *refused == id) {
            assert_eq!(answer.status, *status, "{}", answer.text);
            continue;
        }
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text);
        let described = &operation["responses"][answer.status.to_string()];
        assert!(described.is_object(), "{method} {path} {} is not described", answer.status);
        assert_described(&document, described, &answer.body, &path);
        n_sent += 1;
    }
    assert!(n_sent >= 30, "{n_sent}");
    // What is there now is like the examples of what can be read.
    for (method, path, operation) in operations(&document) {
        let described = &operation["responses"]["200"];
        let is_example = !described["content"]["application/json"]["example"].is_null();
        if method == Method::GET && is_example {
            let client = fixture.caller(&path);
            let answer = client.get(&fixture.filled(&path).await).await.expect(200);
            assert_described(&document, described, &answer, &path);
        }
    }
}

/// Asserts that an answer has what the schema requires and what the example has.
fn assert_described(document: &Value, described: &Value, answer: &Value, path: &str) {
    let content = &described["content"]["application/json"];
    let schema = content["schema"]["$ref"].as_str();
    if let Some(schema) = schema.and_then(|name| name.rsplit('/').next()) {
        let required = &document["components"]["schemas"][schema]["required"];
        for field in required.as_array().into_iter().flatten() {
            let field = field.as_str().unwrap();
            assert!(answer.get(field).is_some(), "{path} lacks {field}");
        }
    }
    if !content["example"].is_null() {
        is_like(&content["example"], answer)
            .unwrap_or_else(|why| panic!("{path}: {why}: {answer}"));
    }
}

#[test]
fn every_operation_has_an_id_of_its_own_and_says_how_errors_look() {
    let document = document();
    let mut ids = std::collections::BTreeSet::new();
    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(ids.insert(id.to_owned()), "{id} twice");
        for (code, answer) in operation["responses"].as_object().unwrap() {
            let name = answer["$ref"].as_str().and_then(|name| name.rsplit('/').next());
            let answer = name.map_or(answer, |name| &document["components"]["responses"][name]);
            let has_body = answer["content"].is_object();
            assert!(has_body || code.starts_with(['2', '3']), "{method} {path} {code}");
        }
    }
}

#[tokio::test]
async fn headers_that_are_read_and_sent_are_described() {
    let document = document();
    let operation = |id: &str| {
        let mut all = operations(&document).into_iter();
        all.find(|(.., each)| each["operationId"] == id).map(|(.., each)| each).unwrap()
    };
    let names = |operation: &Value| -> Vec<String> {
        let all = operation["parameters"].as_array().unwrap().iter();
        all.map(|each| each["name"].as_str().unwrap().to_owned()).collect()
    };
    for id in ["update_flag", "create_segment", "kill_flag", "delete_flag"] {
        let names = names(&operation(id));
        assert!(names.contains(&"Vexil-Comment".to_owned()), "{id}: {names:?}");
    }
    let server = Server::start(Backend::Sqlite).await;
    for replayed in [None, Some("true")] {
        let request = server.admin.request(Method::POST, "/api/v1/projects?wait=applied");
        let request = request.header("Idempotency-Key", "k").json(&json!({"key": "shop"}));
        let answer = server.admin.send(request).await;
        let headers = operation("create_project")["responses"]["201"]["headers"].clone();
        for name in ["Idempotency-Replayed", "Vexil-Replicas"] {
            assert!(headers[name].is_object(), "{name} is not described");
        }
        assert_eq!(answer.status, 201, "{}", answer.text);
        let sent = answer.headers.get("idempotency-replayed");
        assert_eq!(sent.map(|value| value.to_str().unwrap()), replayed);
        assert!(replayed.is_some() || answer.headers.contains_key("vexil-replicas"));
    }
}

#[tokio::test]
async fn the_page_stands_alone_and_has_every_operation() {
    let server = Server::start(Backend::Sqlite).await;
    let answer = reqwest::get(format!("{}/docs", server.url)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let page = answer.text().await.unwrap();
    for outside in [
        "<script",
        "<link",
        "<img",
        "<iframe",
        "@import",
        "url(",
        "href=\"http",
        "href=\"//",
        "src=",
    ] {
        assert!(!page.contains(outside), "{outside}");
    }
    for (_, _, operation) in operations(&document()) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        for (code, answer) in operation["responses"].as_object().unwrap() {
            let example = &answer["content"]["application/json"]["example"];
            if !example.is_null() {
                let shown = serde_json::to_string_pretty(example).unwrap();
                let shown = shown.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
                let shown =
                    format!("{code}, for example:</p><pre>{}", shown.replace('"', "&quot;"));
                assert!(page.contains(&shown), "{id}: {shown}");
            }
        }
    }
    for reference in page.split("href=\"#").skip(1) {
        let target = reference.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
    }
    assert_eq!(page.matches("<pre>").count(), page.matches("</pre>").count());
}
