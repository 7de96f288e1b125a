//! Says of every operation that writes what `admin/rehearsal.rs` does for all of them.

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Operations whose answers are made for dry runs.
const OWN_ANSWERS: &[&str] =
    &["change_many", "create_schedule", "apply_state", "import_launchdarkly"];
/// The operation that writes nothing anyway.
const PLAN: &str = "plan_state";
const JSON: &str = "application/json";

/// Adds the parameter and the answers.
pub(super) fn describe(operation: &mut Map<String, Value>, id: &str) {
    if id == PLAN || OWN_ANSWERS.contains(&id) {
        return;
    }
    let parameters = operation.entry("parameters").or_insert(json!([]));
    if let Some(parameters) = parameters.as_array_mut()
        && !parameters.iter().any(|each| each.get("name") == Some(&json!("dryRun")))
    {
        parameters.push(json!({"name": "dryRun", "in": "query", "required": false,
            "description": "Only says what would happen.", "schema": {"type": "boolean"}}));
    }
    let answers = operation.get_mut("responses").and_then(Value::as_object_mut);
    let Some(answers) = answers else { return };
    let told = json!({"$ref": "#/components/schemas/DryRunBody"});
    let described = |answer: Option<&Value>| {
        let schema = answer.and_then(|it| it.pointer("/content/application~1json/schema")).cloned();
        schema.map_or_else(|| told.clone(), |schema| json!({"allOf": [schema, told]}))
    };
    let schema = described(answers.get("200").or_else(|| answers.get("201")));
    let content = json!({JSON: {"schema": schema}});
    match answers.get_mut("200").and_then(Value::as_object_mut) {
        Some(answer) => drop(answer.insert("content".to_owned(), content)),
        None => {
            let description = "What would happen: the answer to a dry run.";
            let answer = json!({"description": description, "content": content});
            answers.insert("200".to_owned(), answer);
        }
    }
}
