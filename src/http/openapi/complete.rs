//! Completes the API document with what the routes do not say where they are: bounds of parameters, the answers that all routes
//! of a kind can give, and examples.
//!
//! What is added is data, in `overlay.yaml` and, for what is answered, in `answers.json`; which operation gets what is decided here.

use crate::http::openapi::dry_run;
use crate::http::openapi::instruction;
use anyhow::Context as _;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

const OVERLAY: &str = include_str!("overlay.yaml");
/// What a server answered to the examples, by operation; a test asks again.
const ANSWERS: &str = include_str!("answers.json");
/// The routes whose errors have OFREP's shape.
const OFREP: &str = "/ofrep/v1/evaluate/";
const PROBLEM: &str = "application/problem+json";
const JSON: &str = "application/json";
const STREAM: &str = "text/event-stream";
const METHODS: &[&str] = &["get", "put", "post", "delete", "patch"];

/// Adds all that the overlay has.
///
/// # Errors
///
/// The overlay cannot be read, or speaks of what the document lacks; a test rules both out.
pub(super) fn complete(document: &mut Value) -> anyhow::Result<()> {
    let overlay: Value = yaml_serde::from_str(OVERLAY)?;
    let mut examples: Map<String, Value> = serde_json::from_str(ANSWERS)?;
    if let Some(schemas) = object_mut(document, "/components/schemas") {
        schemas.extend(instruction::schemas());
        schemas.sort_keys();
    }
    for (name, patch) in fields(&overlay, "/schemas") {
        let schema = document.pointer_mut(&format!("/components/schemas/{name}"));
        merge(schema.with_context(|| format!("there is no schema {name}"))?, patch);
    }
    let mut unused: Vec<&String> = fields(&overlay, "/operations").map(|(id, _)| id).collect();
    let paths = document.pointer_mut("/paths").and_then(Value::as_object_mut);
    for (path, item) in paths.context("the document has no paths")?.iter_mut() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            if let Some(operation) =
                operation.as_object_mut().filter(|_| METHODS.contains(&method.as_str()))
            {
                let id = name(operation, method, path);
                unused.retain(|each| **each != id);
                if has_parameter(operation, "wait") {
                    dry_run::describe(operation, &id);
                }
                let own = overlay.pointer(&format!("/operations/{id}")).unwrap_or(&Value::Null);
                bound_parameters(operation, &overlay, own);
                complete_body(operation, own);
                complete_answers(operation, path, examples.remove(&id).as_ref());
            }
        }
    }
    unused.extend(examples.keys());
    anyhow::ensure!(unused.is_empty(), "there are no operations {unused:?}");
    if let (Some(components), Some(responses)) =
        (object_mut(document, "/components"), overlay.pointer("/responses"))
    {
        components.insert("responses".to_owned(), responses.clone());
    }
    Ok(())
}

fn fields<'v>(value: &'v Value, pointer: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

fn object_mut<'v>(value: &'v mut Value, pointer: &str) -> Option<&'v mut Map<String, Value>> {
    value.pointer_mut(pointer).and_then(Value::as_object_mut)
}

/// The operation's id; those for client-side SDKs are written from a table and get theirs from the path.
fn name(operation: &mut Map<String, Value>, method: &str, path: &str) -> String {
    if let Some(id) = operation.get("operationId").and_then(Value::as_str) {
        return id.to_owned();
    }
    let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let id = words.fold(method.to_owned(), |id, word| format!("{id}_{word}"));
    operation.insert("operationId".to_owned(), json!(id));
    id
}

/// Merges objects field by field, removes what the patch has as `null`, and replaces all else (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                match value {
                    Value::Null => drop(target.remove(key)),
                    value => merge(target.entry(key.clone()).or_insert(Value::Null), value),
                }
            }
        }
        (target, patch) => *target = patch.clone(),
    }
}

fn bound_parameters(operation: &mut Map<String, Value>, overlay: &Value, own: &Value) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let Some(name) = parameter.get("name").and_then(Value::as_str).map(str::to_owned) else {
            continue;
        };
        let common = overlay.get("parameters").and_then(|all| all.get(&name));
        let special = own.get("parameters").and_then(|all| all.get(&name));
        for patch in [common, special].into_iter().flatten() {
            let fields = parameter.as_object_mut();
            let schema = fields.map(|fields| fields.entry("schema").or_insert(json!({})));
            if let Some(schema) = schema {
                merge(schema, patch);
            }
        }
    }
}

/// A body that may be left out is not `null` instead.
fn complete_body(operation: &mut Map<String, Value>, own: &Value) {
    let contents = operation.get_mut("requestBody").and_then(|body| body.get_mut("content"));
    for content in contents.and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        let first = content.pointer("/schema/oneOf/0").cloned();
        if let (Some(content), Some(first)) = (content.as_object_mut(), first) {
            content.insert("schema".to_owned(), first);
        }
        if let (Some(content), Some(example)) = (content.as_object_mut(), own.get("request")) {
            content.insert("example".to_owned(), example.clone());
        }
    }
}

fn complete_answers(operation: &mut Map<String, Value>, path: &str, example: Option<&Value>) {
    let codes = codes(operation, path);
    let is_confirmed = has_parameter(operation, "wait");
    let has_position = path.contains("{environment}")
        || path.starts_with(OFREP)
        || path.starts_with("/kill")
        || path.starts_with("/restore");
    let has_tag = has_parameter(operation, "If-None-Match") || has_parameter(operation, "If-Match");
    let Some(answers) = operation.get_mut("responses").and_then(Value::as_object_mut) else {
        return;
    };
    for code in codes {
        let name = if path.starts_with(OFREP) { format!("Ofrep{code}") } else { code.to_owned() };
        let reference = json!({"$ref": format!("#/components/responses/{name}")});
        answers.entry(code).or_insert(reference);
    }
    if path.starts_with(OFREP) {
        answers
            .insert("default".to_owned(), json!({"$ref": "#/components/responses/OfrepDefault"}));
    }
    answers.sort_keys();
    for (code, answer) in answers.iter_mut() {
        let Some(answer) = answer.as_object_mut().filter(|answer| !answer.contains_key("$ref"))
        else {
            continue;
        };
        if code.starts_with(['2', '3']) {
            complete_success(answer, code, path, is_confirmed);
            if ["200", "201"].contains(&code.as_str())
                && let Some(example) = example
                && let Some(content) = answer.get_mut("content").and_then(|all| all.get_mut(JSON))
                && let Some(content) = content.as_object_mut()
            {
                content.insert("example".to_owned(), example.clone());
            }
            let mut headers = json!({"X-Request-Id": header("The id of the request.")});
            if has_position {
                merge(
                    &mut headers,
                    &json!({
                    "Vexil-Version": header("The position that the answer is of."),
                    "Vexil-Stale": header("For how many milliseconds the store has not confirmed it.")}),
                );
            }
            if is_confirmed {
                merge(
                    &mut headers,
                    &json!({
                    "Idempotency-Replayed": header("`true` if this is the answer to an earlier request with the same `Idempotency-Key`."),
                    "Vexil-Replicas": header("With `wait`: how many replicas serve the change.")}),
                );
            }
            if has_tag {
                merge(
                    &mut headers,
                    &json!({"ETag": header("What `If-Match` or `If-None-Match` takes.")}),
                );
            }
            answer.insert("headers".to_owned(), headers);
        } else if !path.starts_with(OFREP) {
            complete_error(answer, code);
        }
    }
}

fn header(description: &str) -> Value {
    json!({"description": description, "schema": {"type": "string"}})
}

fn has_parameter(operation: &Map<String, Value>, wanted: &str) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array);
    parameters.into_iter().flatten().any(|each| each.get("name") == Some(&json!(wanted)))
}

/// The statuses of errors that an operation of its kind can give.
fn codes(operation: &Map<String, Value>, path: &str) -> Vec<&'static str> {
    let is_open = operation.contains_key("security");
    let mut codes = Vec::new();
    if !is_open {
        codes.extend(["400", "401", "403", "404", "429", "503"]);
    } else if path.contains('{') {
        codes.extend(["400", "404", "429", "503"]);
    }
    if operation.contains_key("requestBody") {
        codes.extend(["408", "413"]);
        if !path.starts_with(OFREP) {
            codes.push("422");
        }
    }
    if has_parameter(operation, "wait") {
        codes.push("409");
    }
    if has_parameter(operation, "If-Match") {
        codes.extend(["412", "428"]);
    }
    codes
}

fn complete_success(answer: &mut Map<String, Value>, code: &str, path: &str, is_confirmed: bool) {
    if code == "202" && is_confirmed {
        let schema = json!({"type": "object", "required": ["unconfirmed"], "properties": {
            "unconfirmed": {"type": "array", "items": {"type": "string"}}}});
        answer.insert("content".to_owned(), json!({JSON: {"schema": schema}}));
    }
    let is_client_side = ["eval", "ping", "goals"].iter().any(|word| path.contains(word));
    if code == "200" && !answer.contains_key("content") && is_client_side {
        let is_once = path.contains("evalx") || path.contains("/poll") || path.contains("/goals");
        let content_type = if is_once { JSON } else { STREAM };
        answer.insert("content".to_owned(), json!({content_type: {}}));
    }
    let contents = answer.get_mut("content").and_then(Value::as_object_mut);
    for (content_type, content) in contents.into_iter().flatten() {
        match content_type.as_str() {
            // A schema would be one of each event, which the description has in words.
            STREAM => *content = json!({}),
            "application/yaml" => *content = json!({"schema": {"type": "object"}}),
            _ => {}
        }
    }
}

/// An error that is described without its body, or with a type that only successes have, is a problem document all the same.
fn complete_error(answer: &mut Map<String, Value>, code: &str) {
    let schema =
        answer.get("content").and_then(|content| content.pointer("/application~1json/schema"));
    let is_problem =
        |schema: &Value| schema == &json!({"$ref": "#/components/schemas/ProblemBody"});
    if !answer.contains_key("content") || schema.is_some_and(is_problem) {
        let schema = json!({"$ref": "#/components/schemas/ProblemBody"});
        answer.insert("content".to_owned(), json!({PROBLEM: {"schema": schema}}));
    }
    let mut headers = json!({"X-Request-Id": header("The id of the request.")});
    if matches!(code, "429" | "503") {
        merge(
            &mut headers,
            &json!({"Retry-After": header("Seconds to wait before trying again.")}),
        );
    }
    answer.insert("headers".to_owned(), headers);
}
