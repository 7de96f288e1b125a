//! The documents say what the code does.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// `UPDATE_OPENAPI=1` writes the document instead.
#[test]
fn openapi_yaml_is_what_the_routes_say() {
    let actual = vexil::http::openapi::yaml().unwrap();
    if std::env::var("UPDATE_OPENAPI").is_ok() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.yaml");
        std::fs::write(path, actual).unwrap();
    }
    assert!(read("openapi.yaml") == actual, "openapi.yaml is out of date: set UPDATE_OPENAPI=1");
}

#[tokio::test]
async fn the_served_document_is_the_one_in_the_repository() {
    let server = Server::start(Backend::Sqlite).await;
    let served = reqwest::get(format!("{}/openapi.yaml", server.url)).await.unwrap();
    assert!(served.text().await.unwrap() == read("openapi.yaml"));
}

/// The names of the properties of a schema in the document.
fn properties(document: &str, schema: &str) -> BTreeSet<String> {
    let start = format!("    {schema}:");
    let lines = document.lines().skip_while(|line| *line != start).skip(1);
    let own = lines.take_while(|line| line.starts_with("      "));
    let listed = own.skip_while(|line| *line != "      properties:").skip(1);
    let names = listed.take_while(|line| line.starts_with("        "));
    let name = |line: &str| Some(line.strip_prefix("        ")?.strip_suffix(':')?.to_owned());
    names.filter_map(name).filter(|name| !name.starts_with(' ')).collect()
}

/// Bodies are read field by field and described by types of their own; this keeps the two together.
#[tokio::test]
async fn bodies_have_the_fields_that_the_document_lists() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let env = "/api/v1/projects/shop/environments/production";
    let document = read("openapi.yaml");
    for (path, is_patch, schema) in [
        ("/api/v1/projects", false, "NewProject"),
        ("/api/v1/projects/shop", true, "Rename"),
        ("/api/v1/projects/shop/environments", false, "NewEnvironment"),
        ("/api/v1/projects/shop/flags", false, "NewFlag"),
        ("/api/v1/projects/shop/flags/f", true, "DefinitionPatch"),
        (&format!("{env}/flags/f"), true, "ConfigPatch"),
        (env, true, "EnvironmentChangeBody"),
        (&format!("{env}/flags/f/revert"), false, "Revert"),
        (&format!("{env}/tokens/t/rotate"), false, "Rotation"),
        (&format!("{env}/segments"), false, "NewSegment"),
        ("/api/v1/projects/shop/changes", false, "ChangeSetBody"),
        ("/kill", false, "EmergencyManyBody"),
        (&format!("{env}/flags/f/triggers"), false, "NewTrigger"),
        (&format!("{env}/segments/s"), true, "SegmentPatch"),
        (&format!("{env}/tokens"), false, "NewEnvironmentToken"),
        ("/api/v1/tokens", false, "NewAdminToken"),
        ("/kill/f", false, "EmergencyBody"),
    ] {
        let body = json!({"no-such-field": 1});
        let refused = if is_patch {
            server.admin.patch(path, body).await
        } else {
            server.admin.post(path, body).await
        };
        let problem = refused.expect(422);
        let errors = problem["errors"].as_array().unwrap();
        let unknown = errors.iter().find(|error| error["code"] == "unknown_field").unwrap();
        let (_, known) = unknown["detail"].as_str().unwrap().split_once("known are ").unwrap();
        let known: BTreeSet<String> = known.split(", ").map(str::to_owned).collect();
        assert_eq!(known, properties(&document, schema), "{path}");
    }
}

/// The examples of `docs/changes.md`: the method, the path and the body of each.
fn examples(document: &str) -> Vec<(Method, String, Value)> {
    let mut examples = Vec::new();
    let mut place = (Method::PATCH, String::new());
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        for (start, method) in [("`PATCH ", Method::PATCH), ("`POST ", Method::POST)] {
            let found = line.strip_prefix(start).and_then(|rest| rest.strip_suffix('`'));
            if let Some(found) = found {
                place = (method, found.to_owned());
            }
        }
        if line == "```json" {
            let body: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let (method, path) = place.clone();
            examples.push((method, path, serde_json::from_str(&body.join("\n")).unwrap()));
        }
    }
    examples
}

/// The schema of the body that a path takes, in which all others can be found.
fn body_schema(document: &Value, method: &Method, path: &str) -> Value {
    let is_here = |template: &str| {
        let (ours, theirs) = (path.split('/'), template.split('/'));
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(own, theirs)| theirs.starts_with('{') || own == theirs)
    };
    let paths = document["paths"].as_object().unwrap();
    let (_, item) = paths.iter().find(|(template, _)| is_here(template)).unwrap();
    let operation = &item[method.as_str().to_lowercase()];
    let mut schema = operation["requestBody"]["content"]["application/json"]["schema"].clone();
    schema["components"] = document["components"].clone();
    schema
}

#[test]
fn the_examples_of_the_change_language_are_as_the_api_document_describes_them() {
    let document: Value = yaml_serde::from_str(&read("openapi.yaml")).unwrap();
    for (method, path, body) in examples(&read("docs/changes.md")) {
        let schema = body_schema(&document, &method, &path);
        let validator = jsonschema::validator_for(&schema).unwrap();
        if let Err(error) = validator.validate(&body) {
            panic!("{path} {body}: {} at {}", error, error.instance_path());
        }
        // What is written otherwise is not.
        for instruction in 0..body["instructions"].as_array().map_or(0, Vec::len) {
            let mut other = body.clone();
            other["instructions"][instruction]["no-such-field"] = json!(1);
            assert!(!validator.is_valid(&other), "{other}");
            other = body.clone();
            other["instructions"][instruction]["kind"] = json!("no-such-kind");
            assert!(!validator.is_valid(&other), "{other}");
        }
    }
}

#[test]
fn every_kind_of_instruction_has_a_schema_in_the_api_document() {
    let document: Value = yaml_serde::from_str(&read("openapi.yaml")).unwrap();
    for (family, kinds) in [
        ("ConfigInstruction", vexil::change::INSTRUCTION_KINDS.as_slice()),
        ("DefinitionInstruction", vexil::change::DEFINITION_INSTRUCTION_KINDS),
        ("SegmentInstruction", vexil::change::SEGMENT_INSTRUCTION_KINDS),
    ] {
        let schema = &document["components"]["schemas"][family];
        let mapping = schema["discriminator"]["mapping"].as_object().unwrap();
        assert_eq!(mapping.keys().collect::<Vec<_>>(), kinds, "{family}");
        for (kind, reference) in mapping {
            assert!(schema["oneOf"].as_array().unwrap().contains(&json!({"$ref": reference})));
            let pointer = reference.as_str().unwrap().trim_start_matches('#');
            let own = document.pointer(pointer).unwrap();
            assert_eq!(own["properties"]["kind"]["enum"], json!([kind]), "{family}");
            assert_eq!(own["required"][0], "kind", "{kind}");
        }
    }
}

#[tokio::test]
async fn the_examples_of_the_change_language_work() {
    let folder = Folder::new();
    let mut process = command()
        .args(["demo", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let text = |name: &str| line[name].as_str().unwrap().to_owned();
    let client = Client::new(&text("url"), &text("adminToken"));
    let document = read("docs/changes.md");
    let examples = examples(&document);
    assert!(examples.len() >= vexil::change::INSTRUCTION_KINDS.len(), "{examples:?}");
    for (method, path, body) in examples {
        let answer = client.send(client.request(method, &path).json(&body)).await;
        assert!([200, 201].contains(&answer.status), "{path} {body}: {}", answer.text);
    }
    let kinds = vexil::change::INSTRUCTION_KINDS.iter();
    let kinds = kinds.chain(vexil::change::DEFINITION_INSTRUCTION_KINDS);
    for kind in kinds.chain(vexil::change::SEGMENT_INSTRUCTION_KINDS) {
        assert!(
            document.contains(&format!("\"kind\": \"{kind}\""))
                || document.contains(&format!("\"kind\":\"{kind}\"")),
            "{kind} has no example"
        );
    }
    process.kill().await.unwrap();
}
