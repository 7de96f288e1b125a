//! LaunchDarkly's server-side SDK for Rust, streaming.
//!
//! What every program does and how it is run is in ../../README.md.

use launchdarkly_server_sdk::Client;
use launchdarkly_server_sdk::ConfigBuilder;
use launchdarkly_server_sdk::Context;
use launchdarkly_server_sdk::ContextBuilder;
use launchdarkly_server_sdk::EventProcessorBuilder;
use launchdarkly_server_sdk::FlagValue;
use launchdarkly_server_sdk::MultiContextBuilder;
use launchdarkly_server_sdk::NullEventProcessorBuilder;
use launchdarkly_server_sdk::ServiceEndpointsBuilder;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::process::Command;
use std::process::ExitCode;
use std::time::Duration;
use std::time::Instant;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(45);

struct World {
    world: Value,
    client: Client,
    user: Context,
    /// Why a flag was not evaluated before the client was started.
    early: Value,
    n_checks: usize,
}

fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is set"))
}

fn server(what: &str) {
    assert!(Command::new(setting("SDKS_SERVER")).arg(what).status().unwrap().success());
}

impl World {
    async fn connect() -> Self {
        let world: Value =
            serde_json::from_str(&std::fs::read_to_string(setting("SDKS_WORLD")).unwrap()).unwrap();
        let url = world["url"].as_str().unwrap();
        let config = ConfigBuilder::new(world["token"].as_str().unwrap())
            .service_endpoints(ServiceEndpointsBuilder::new().relay_proxy(url))
            .event_processor(&NullEventProcessorBuilder::new())
            .build()
            .unwrap();
        let client = Client::build(config).unwrap();
        let user = ContextBuilder::new("live-user").set_string("plan", "gold").build().unwrap();
        let early = client.variation_detail(&user, "live-string", FlagValue::Json(Value::Null));
        let early = serde_json::to_value(&early.reason).unwrap();
        client.start_with_default_executor();
        Self { world, client, user, early, n_checks: 0 }
    }

    fn check(&mut self, what: &str, found: &Value, expected: &Value) {
        assert_eq!(found, expected, "{what}");
        self.n_checks += 1;
    }

    /// The value, the reason's kind, and the whole reason.
    fn detail(&self, flag: &str, context: &Context) -> [Value; 3] {
        let detail = self.client.variation_detail(context, flag, FlagValue::Json(Value::Null));
        let value = match detail.value.unwrap() {
            FlagValue::Bool(value) => json!(value),
            FlagValue::Str(value) => json!(value),
            FlagValue::Number(value) => json!(value),
            FlagValue::Json(value) => value,
        };
        let reason = serde_json::to_value(&detail.reason).unwrap();
        [value, reason["kind"].clone(), reason]
    }

    async fn becomes(&mut self, what: &str, flag: &str, part: usize, expected: Value) {
        let deadline = Instant::now() + PATIENCE;
        let mut found = self.detail(flag, &self.user);
        while found[part] != expected && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
            found = self.detail(flag, &self.user);
        }
        self.check(what, &found[part], &expected);
    }

    async fn send(&self, method: reqwest::Method, path: &str, body: Value) -> Value {
        let url = format!("{}/api/v1/projects/shop{path}", self.world["url"].as_str().unwrap());
        let request = reqwest::Client::new().request(method, url);
        let request = request.bearer_auth(self.world["admin"].as_str().unwrap()).json(&body);
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default()
    }

    async fn tells(&mut self, what: &str, path: &str, expected: Value, read: fn(&Value) -> Value) {
        let path = format!("/environments/production/{path}");
        let deadline = Instant::now() + PATIENCE;
        let mut found = read(&self.send(reqwest::Method::GET, &path, Value::Null).await);
        while found != expected && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
            found = read(&self.send(reqwest::Method::GET, &path, Value::Null).await);
        }
        self.check(what, &found, &expected);
    }

    async fn change(&self, flag: &str, instruction: Value) {
        let path = format!("/environments/production/flags/{flag}");
        self.send(reqwest::Method::PATCH, &path, json!({"instructions": [instruction]})).await;
    }

    async fn evaluates(&mut self) {
        let initialised = self.client.wait_for_initialization(Duration::from_secs(20)).await;
        self.check("initialised", &json!(initialised), &json!(true));
        for (flag, expected) in [
            ("live-boolean", json!(false)),
            ("live-string", json!("red")),
            ("live-number", json!(1.0)),
            ("live-json", json!({"a": [1, {"b": null}]})),
        ] {
            let found = self.detail(flag, &self.user);
            self.check(flag, &found[0], &expected);
        }
        let error = |kind: &str| json!({"kind": "ERROR", "errorKind": kind});
        let early = self.early.clone();
        self.check("before it is ready", &early, &error("CLIENT_NOT_READY"));
        for (flag, kind) in [("unknown", "FLAG_NOT_FOUND"), ("live-malformed", "MALFORMED_FLAG")] {
            let found = self.detail(flag, &self.user);
            self.check(flag, &found[2], &error(kind));
        }
        let big = self.detail("live-big", &self.user);
        let what = "a big segment, which is sent as an ordinary one";
        self.check(what, &json!([big[0], big[2]]), &json!([1.0, {"kind": "FALLTHROUGH"}]));
    }

    fn agrees(&mut self) {
        let mut kinds = BTreeSet::new();
        for each in self.world["expected"].as_array().unwrap().clone() {
            let context: Context = serde_json::from_value(each["context"].clone()).unwrap();
            for (key, expected) in each["flags"].as_object().unwrap() {
                let [value, kind, reason] = self.detail(key, &context);
                let is_same_value = match (value.as_f64(), expected[0].as_f64()) {
                    (Some(found), Some(expected)) => found == expected,
                    _ => value == expected[0],
                };
                let is_same = is_same_value && reason == expected[3];
                assert!(is_same, "{key} for {}: {value} {reason}, not {expected}", each["context"]);
                kinds.insert(kind.as_str().unwrap().to_owned());
            }
        }
        for edge in self.world["edges"].as_array().unwrap().clone() {
            let context: Context = serde_json::from_value(edge["context"].clone()).unwrap();
            let found = self.detail(edge["key"].as_str().unwrap(), &context);
            self.check("at the edge of a slice", &found[0], &edge["value"]);
        }
        let all = ["FALLTHROUGH", "OFF", "PREREQUISITE_FAILED", "RULE_MATCH", "TARGET_MATCH"];
        self.check("every reason was among them", &json!(kinds), &json!(all));
    }

    async fn follows(&mut self) {
        let fixed = json!({"kind": "updateFallthroughVariationOrRollout", "variation": "v0"});
        self.change("live-boolean", fixed).await;
        self.becomes("another fallthrough", "live-boolean", 0, json!(true)).await;
        let clauses =
            json!([{"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]}]);
        let rule = json!({"kind": "addRule", "clauses": clauses, "variation": "v0"});
        self.change("live-rule", rule).await;
        self.becomes("a rule", "live-rule", 1, json!("RULE_MATCH")).await;
        self.change("live-number", json!({"kind": "turnFlagOff"})).await;
        self.becomes("off", "live-number", 1, json!("OFF")).await;
        let segment = json!({"key": "live", "included": ["live-user"]});
        let path = "/environments/production/segments/live";
        self.send(reqwest::Method::PUT, path, segment).await;
        self.becomes("in the segment", "live-segment", 1, json!("RULE_MATCH")).await;
        self.send(reqwest::Method::DELETE, "/flags/live-gone", json!({})).await;
        self.becomes("a flag that was deleted", "live-gone", 1, json!("ERROR")).await;
    }

    async fn survives(&mut self) {
        server("kill");
        let outage = Duration::from_secs_f64(setting("SDKS_OUTAGE_SECS").parse().unwrap());
        let end = Instant::now() + outage;
        loop {
            let found = self.detail("live-boolean", &self.user);
            self.check("values stay through an outage", &found[0], &json!(true));
            tokio::time::sleep(Duration::from_millis(200)).await;
            if Instant::now() > end {
                break;
            }
        }
        server("start");
        let fixed = json!({"kind": "updateFallthroughVariationOrRollout", "variation": "v1"});
        self.change("live-boolean", fixed).await;
        self.becomes("catches up after an outage", "live-boolean", 0, json!(false)).await;
    }

    /// A second client, because the first reports nothing.
    async fn reports(&mut self) {
        let url = self.world["url"].as_str().unwrap();
        let mut events: EventProcessorBuilder = EventProcessorBuilder::new();
        events.flush_interval(Duration::from_secs(1));
        let config = ConfigBuilder::new(self.world["token"].as_str().unwrap())
            .service_endpoints(ServiceEndpointsBuilder::new().relay_proxy(url))
            .event_processor(&events)
            .build()
            .unwrap();
        let reporter = Client::build(config).unwrap();
        reporter.start_with_default_executor();
        assert_eq!(reporter.wait_for_initialization(Duration::from_secs(20)).await, Some(true));
        let mut parts = MultiContextBuilder::new();
        parts.add_context(ContextBuilder::new("other-user").build().unwrap());
        parts.add_context(ContextBuilder::new("live-shop").kind("organization").build().unwrap());
        let other = parts.build().unwrap();
        for (flag, context, times) in [
            ("live-string", &self.user, 7),
            ("live-rule", &self.user, 5),
            ("live-rule", &other, 4),
            ("nobody-has-it", &other, 3),
        ] {
            for _ in 0..times {
                reporter.variation_detail(context, flag, FlagValue::Json(Value::Null));
            }
        }
        for _ in 0..2 {
            reporter.track_metric(self.user.clone(), "bought", 19.5, json!({"amount": 2}));
        }
        reporter.track_event(other.clone(), "looked");
        reporter.flush();
        let counts = |usage: &Value| {
            let variations = usage["variations"].as_array().unwrap().iter();
            variations
                .map(|each| (each["variation"].as_str().unwrap().to_owned(), each["count"].clone()))
                .collect()
        };
        let what = "what was evaluated is counted";
        self.tells(what, "flags/live-string/usage", json!({"v0": 7}), counts).await;
        let what = "each variation is counted";
        self.tells(what, "flags/live-rule/usage", json!({"v0": 5, "v1": 4}), counts).await;
        let is_told = |unknown: &Value| {
            let items = unknown["items"].as_array().unwrap();
            json!(items.iter().any(|item| item["flag"] == "nobody-has-it"))
        };
        self.tells("an unknown flag is told", "unknown-flags", json!(true), is_told).await;
        reporter.close();
    }
}

async fn run() -> usize {
    let mut world = World::connect().await;
    world.evaluates().await;
    world.agrees();
    world.follows().await;
    world.survives().await;
    world.reports().await;
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
