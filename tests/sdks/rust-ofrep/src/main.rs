//! OpenFeature's SDK for Rust with its provider for OFREP.
//!
//! The SDK has no nested attributes, no lists and no flags whose value is a list, and says `STATIC` whatever the reason was; so
//! what is compared are values for flat contexts. What every program does and how it is run is in ../../README.md.

use open_feature::Client;
use open_feature::EvaluationContext;
use open_feature::EvaluationErrorCode;
use open_feature::OpenFeature;
use open_feature::StructValue;
use open_feature::Value as OpenValue;
use open_feature_ofrep::OfrepOptions;
use open_feature_ofrep::OfrepProvider;
use reqwest::Method;
use reqwest::header::AUTHORIZATION;
use reqwest::header::HeaderMap;
use serde_json::Value;
use serde_json::json;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(45);

struct World {
    world: Value,
    client: Client,
    user: EvaluationContext,
    n_checks: usize,
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

fn server(what: &str) {
    assert!(Command::new(setting("SDKS_SERVER")).arg(what).status().unwrap().success());
}

/// The context, if the SDK can say it.
fn flat(context: &Value) -> Option<EvaluationContext> {
    let mut flat = EvaluationContext::default();
    for (name, value) in context.as_object()? {
        match value {
            Value::Bool(value) => flat.add_custom_field(name, *value),
            Value::Number(value) => flat.add_custom_field(name, value.as_i64()?),
            Value::String(value) => flat.add_custom_field(name, value.as_str()),
            Value::Array(items) if items.is_empty() => {}
            _ => return None,
        }
    }
    Some(flat)
}

fn json_of(value: &OpenValue) -> Value {
    match value {
        OpenValue::Bool(value) => json!(value),
        OpenValue::Int(value) => json!(value),
        OpenValue::Float(value) => json!(value),
        OpenValue::String(value) => json!(value),
        OpenValue::Array(items) => items.iter().map(json_of).collect(),
        OpenValue::Struct(value) => struct_of(value),
    }
}

fn struct_of(value: &StructValue) -> Value {
    let fields = value.fields.iter().map(|(name, value)| (name.clone(), json_of(value)));
    Value::Object(fields.collect())
}

impl World {
    async fn connect() -> Self {
        let world: Value =
            serde_json::from_str(&std::fs::read_to_string(setting("SDKS_WORLD")).unwrap()).unwrap();
        let mut headers = HeaderMap::new();
        let token = format!("Bearer {}", world["token"].as_str().unwrap());
        headers.insert(AUTHORIZATION, token.parse().unwrap());
        let base_url = world["url"].as_str().unwrap().to_owned();
        let options = OfrepOptions { base_url, headers, ..Default::default() };
        let provider = OfrepProvider::new(options).await.unwrap();
        let mut api = OpenFeature::singleton_mut().await;
        api.set_provider(provider).await;
        let client = api.create_client();
        let user = EvaluationContext::default()
            .with_targeting_key("live-user")
            .with_custom_field("plan", "gold");
        Self { world, client, user, n_checks: 0 }
    }

    fn check(&mut self, what: &str, found: &Value, expected: &Value) {
        assert_eq!(found, expected, "{what}");
        self.n_checks += 1;
    }

    /// Evaluates a flag whose value is like `like`; an error is its code.
    async fn value(&self, flag: &str, like: &Value, context: &EvaluationContext) -> Value {
        let client = &self.client;
        let context = Some(context);
        let found = match like {
            Value::Bool(_) => client.get_bool_value(flag, context, None).await.map(Value::from),
            Value::String(_) => client.get_string_value(flag, context, None).await.map(Value::from),
            Value::Number(number) if number.is_i64() => {
                client.get_int_value(flag, context, None).await.map(Value::from)
            }
            Value::Number(_) => client.get_float_value(flag, context, None).await.map(Value::from),
            _ => {
                let found = client.get_struct_value::<StructValue>(flag, context, None).await;
                found.map(|value| struct_of(&value))
            }
        };
        found.unwrap_or_else(|error| match error.code {
            EvaluationErrorCode::FlagNotFound => json!("FlagNotFound"),
            EvaluationErrorCode::General(_) => json!("General"),
            other => json!(other.to_string()),
        })
    }

    async fn becomes(&mut self, what: &str, flag: &str, expected: Value) {
        let found = self.value(flag, &expected, &self.user).await;
        self.check(what, &found, &expected);
    }

    async fn send(&self, method: Method, path: &str, body: Value) {
        let url = format!("{}/api/v1/projects/shop{path}", self.world["url"].as_str().unwrap());
        let request = reqwest::Client::new().request(method, url);
        let request = request.bearer_auth(self.world["admin"].as_str().unwrap()).json(&body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
    }

    async fn change(&self, flag: &str, instruction: Value) {
        let path = format!("/environments/production/flags/{flag}");
        self.send(Method::PATCH, &path, json!({"instructions": [instruction]})).await;
    }

    async fn serves(&self, flag: &str, variation: &str) {
        let kind = "updateFallthroughVariationOrRollout";
        self.change(flag, json!({"kind": kind, "variation": variation})).await;
    }

    async fn evaluates(&mut self) {
        self.becomes("boolean", "live-boolean", json!(false)).await;
        self.becomes("string", "live-string", json!("red")).await;
        self.becomes("number", "live-number", json!(1)).await;
        // The SDK has no null.
        self.becomes("json", "live-json", json!({"a": [1, {"b": ""}]})).await;
        let unknown = self.value("unknown", &json!("red"), &self.user).await;
        self.check("unknown flag", &unknown, &json!("FlagNotFound"));
        // This provider takes every answer 400 for a wrong context.
        let malformed = self.value("live-malformed", &json!("red"), &self.user).await;
        self.check("malformed", &malformed, &json!("INVALID_CONTEXT"));
        let nobody = EvaluationContext::default().with_custom_field("plan", "gold");
        let divided = self.value("flag-44", &json!(true), &nobody).await;
        self.check("divided without a key", &divided, &json!("INVALID_CONTEXT"));
    }

    async fn agrees(&mut self) {
        let mut n_contexts = 0;
        for each in self.world["expected"].as_array().unwrap().clone() {
            let Some(context) = flat(&each["context"]) else {
                continue;
            };
            n_contexts += 1;
            for (key, expected) in each["flags"].as_object().unwrap() {
                let expected = &expected[0];
                if matches!(expected, Value::Object(_) | Value::Array(_) | Value::Null) {
                    continue;
                }
                let found = self.value(key, expected, &context).await;
                assert_eq!(&found, expected, "{key} for {}", each["context"]);
            }
        }
        self.check("some contexts were flat", &json!(n_contexts > 0), &json!(true));
    }

    /// Each change is there as soon as it has been acknowledged.
    async fn follows(&mut self) {
        self.serves("live-boolean", "v0").await;
        self.becomes("another fallthrough", "live-boolean", json!(true)).await;
        let clauses =
            json!([{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]);
        let rule = json!({"kind": "addRule", "clauses": clauses, "variation": "v0"});
        self.change("live-rule", rule).await;
        self.becomes("a rule", "live-rule", json!(true)).await;
        let segment = json!({"key": "live", "included": ["live-user"]});
        self.send(Method::PUT, "/environments/production/segments/live", segment).await;
        self.becomes("in the segment", "live-segment", json!(true)).await;
        self.send(Method::DELETE, "/flags/live-gone", json!({})).await;
        let gone = self.value("live-gone", &json!(true), &self.user).await;
        self.check("a flag that was deleted", &gone, &json!("FlagNotFound"));
    }

    async fn survives(&mut self) {
        server("kill");
        let outage = Duration::from_secs_f64(setting("SDKS_OUTAGE_SECS").parse().unwrap());
        let end = Instant::now() + outage;
        loop {
            let found = self.value("live-boolean", &json!(true), &self.user).await;
            self.check("an error in an outage", &found, &json!("General"));
            tokio::time::sleep(Duration::from_millis(200)).await;
            if Instant::now() > end {
                break;
            }
        }
        server("start");
        let deadline = Instant::now() + PATIENCE;
        while self.value("live-boolean", &json!(true), &self.user).await != json!(true)
            && Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.becomes("answers after an outage", "live-boolean", json!(true)).await;
        self.serves("live-boolean", "v1").await;
        self.becomes("follows after an outage", "live-boolean", json!(false)).await;
    }
}

async fn run() -> usize {
    let mut world = World::connect().await;
    world.evaluates().await;
    world.agrees().await;
    world.follows().await;
    world.survives().await;
    world.n_checks
}

#[tokio::main]
async fn main() -> ExitCode {
    match tokio::spawn(run()).await {
        Ok(n_checks) => {
            println!("passed {n_checks} checks");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("failed {}", error.to_string().replace('\n', " "));
            ExitCode::FAILURE
        }
    }
}
