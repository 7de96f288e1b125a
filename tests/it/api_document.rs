//! The API document holds what it promises: its examples work, and its page at `/docs` stands alone.
//!
//! That it is the one that the code makes is tested in `documents`.

use crate::harness::Backend;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;

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

fn filled(path: &str) -> String {
    let path = path.replace("{project}", "shop").replace("{environment}", "production");
    let path = path.replace("{flag}", "checkout-v2").replace("{key}", "checkout-v2");
    // An administrator's token reaches the environment that another example creates, too.
    match path.starts_with("/kill") {
        true => format!("{path}?project=shop&environment=production"),
        false => path,
    }
}

#[tokio::test]
async fn every_example_is_accepted_as_the_document_says() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag("checkout-v2").await;
    let document = document();
    let mut n_sent = 0;
    for (method, path, operation) in operations(&document) {
        let example = &operation["requestBody"]["content"]["application/json"]["example"];
        if example.is_null() {
            continue;
        }
        let is_ofrep = path.starts_with("/ofrep/");
        let client = if is_ofrep || path == "/api/v1/evaluate" { &backend } else { &server.admin };
        let answer =
            client.send(client.request(method.clone(), &filled(&path)).json(example)).await;
        let described = &operation["responses"][answer.status.to_string()];
        assert!((200..300).contains(&answer.status), "{method} {path}: {}", answer.text);
        assert!(described.is_object(), "{method} {path} {} is not described", answer.status);
        let schema = described["content"]["application/json"]["schema"]["$ref"].as_str();
        if let Some(schema) = schema.and_then(|name| name.rsplit('/').next()) {
            let required = &document["components"]["schemas"][schema]["required"];
            for field in required.as_array().into_iter().flatten() {
                let field = field.as_str().unwrap();
                assert!(answer.body.get(field).is_some(), "{method} {path} lacks {field}");
            }
        }
        n_sent += 1;
    }
    assert!(n_sent >= 20, "{n_sent}");
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
    }
    for reference in page.split("href=\"#").skip(1) {
        let target = reference.split('"').next().unwrap();
        assert!(page.contains(&format!("id=\"{target}\"")), "{target}");
    }
    assert_eq!(page.matches("<pre>").count(), page.matches("</pre>").count());
}
