//! A project as a file says it should be: reading the file, and the plan of what has to change for it.
//!
//! A file owns what it names and nothing else: what it leaves out stays as it is, and a flag that was killed stays killed. Salts,
//! seeds, hashes and the ids of rules are in the file, so that wherever it is applied everyone gets the same variation.
//!
//! Loading what is there, and writing the plan in one transaction, is in `control`.

mod plan;
mod project;
mod readable;
mod shape;
mod slots;
mod target;
mod words;

use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::environment::SERVER_SDKS;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::KEY_RULE;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::limit::FAIL_CLOSED_SECS;
use crate::model::problem::Problems;
pub use plan::plan_state;
pub use plan::readable_settings;
pub use project::Actual;
pub use project::ActualEnvironment;
pub use project::EnvironmentPlan;
pub use project::Managed;
pub use project::PlannedChange;
pub use project::PlannedDetail;
pub use project::ProjectPlan;
pub use project::StatePlan;
pub use readable::readable_config;
pub use readable::readable_definition;
pub use readable::readable_segment;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a file says at its top, so that a later form can be told from this one.
pub const STATE_FORMAT: &str = "vexil/1";

/// What a file says about a project.
#[derive(Debug, Clone, Default)]
pub struct DesiredState {
    /// What it is called.
    pub name: Option<String>,
    /// Its environments, as far as the file names them.
    pub environments: BTreeMap<EnvKey, DesiredEnvironment>,
    /// Its flags.
    pub flags: BTreeMap<FlagKey, DesiredFlag>,
    /// The segments of each environment.
    pub segments: BTreeMap<EnvKey, BTreeMap<SegmentKey, Map<String, Value>>>,
}

/// What a file says about an environment; what is left out stays.
#[derive(Debug, Clone, Default)]
pub struct DesiredEnvironment {
    /// For people.
    pub name: Option<String>,
    /// Which server-side SDKs evaluate it by themselves.
    pub server_sdk: Option<ServerSdk>,
    /// How many seconds evaluations go on without confirmation; `Some(None)` is for ever.
    pub fail_closed_after_secs: Option<Option<u64>>,
    /// Whether only some roles may change it.
    pub protected: Option<bool>,
    /// Whether every change says why.
    pub require_comment: Option<bool>,
    /// Whether every change of a flag says from which version.
    pub require_if_match: Option<bool>,
    /// Whether browsers send only contexts that a backend has signed.
    pub secure_mode: Option<bool>,
}

/// What a file says about a flag; what is left out stays.
#[derive(Debug, Clone, Default)]
pub struct DesiredFlag {
    /// Its definition.
    pub definition: Map<String, Value>,
    /// Its configurations.
    pub environments: BTreeMap<EnvKey, Map<String, Value>>,
}

impl DesiredState {
    /// Reads what a file says about the project `key`.
    ///
    /// # Errors
    ///
    /// Every problem with its form, with paths from its root.
    pub fn read(state: Value, key: &ProjectKey) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let read = object(state, "", &mut problems, |fields| read_state(fields, key));
        problems.into_result(read.unwrap_or_default())
    }
}

fn read_state(fields: &mut Fields<'_>, key: &ProjectKey) -> DesiredState {
    let mut state = DesiredState::default();
    match fields.take("format") {
        None => fields.missing("format"),
        Some(Value::String(format)) if format == STATE_FORMAT => {}
        Some(_) => {
            let detail = format!("must be `{STATE_FORMAT}`");
            fields.refuse("format", "unknown_format", detail);
        }
    }
    if let Some(project) = fields.take("project") {
        let path = fields.path("project");
        object(project, &path, fields.problems(), |fields| {
            let own = fields.required_key("key", ProjectKey::parse);
            if own.is_some_and(|own| own != *key) {
                let detail = format!("is another project than `{key}`, which it is applied to");
                fields.refuse("key", "project_differs", detail);
            }
            state.name = fields.name("name");
        });
    }
    state.environments = map(fields, "environments", EnvKey::parse, |value, path, problems| {
        object(value, path, problems, read_environment)
    });
    state.flags = map(fields, "flags", FlagKey::parse, read_flag);
    state.segments = map(fields, "segments", EnvKey::parse, |value, path, problems| {
        entries(value, path, problems, SegmentKey::parse, |value, path, problems| {
            let segment = filled(value, "rules");
            shape::check(&segment, shape::SEGMENT, path, problems);
            into_fields(segment)
        })
    });
    state
}

fn read_environment(fields: &mut Fields<'_>) -> DesiredEnvironment {
    let is_given = fields.peek("failClosedAfterSecs").is_some();
    let secs = fields.integer("failClosedAfterSecs", FAIL_CLOSED_SECS);
    let secs = secs.and_then(|secs| u64::try_from(secs).ok());
    DesiredEnvironment {
        name: fields.name("name"),
        server_sdk: fields.word("serverSdk", SERVER_SDKS),
        fail_closed_after_secs: is_given.then_some(secs),
        protected: fields.flag("protected"),
        require_comment: fields.flag("requireComment"),
        require_if_match: fields.flag("requireIfMatch"),
        secure_mode: fields.flag("secureMode"),
    }
}

fn read_flag(value: Value, path: &str, problems: &mut Problems) -> Option<DesiredFlag> {
    let Value::Object(mut definition) = value else {
        crate::model::decode::wrong_type(problems, path, "an object", &value);
        return None;
    };
    let environments = definition.shift_remove("environments");
    let environments = environments.unwrap_or_else(|| Value::Object(Map::new()));
    let path = format!("{path}.environments");
    let environments =
        entries(environments, &path, problems, EnvKey::parse, |value, path, problems| {
            let config = filled(value, "rules");
            shape::check(&config, shape::CONFIG, path, problems);
            into_fields(config)
        })?;
    Some(DesiredFlag { definition, environments })
}

/// Gives each rule that has no id one that is made from its place, so that it is the same whenever the file is read.
fn filled(mut value: Value, name: &str) -> Value {
    if let Some(fields) = value.as_object_mut() {
        for (i, rule) in readable::items(fields, name) {
            if rule.get("id").is_none_or(|id| id == "") {
                rule.shift_insert(0, "id".to_owned(), Value::String(format!("rule-{}", i + 1)));
            }
        }
    }
    value
}

fn into_fields(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// Reads a field whose fields are keys of things.
fn map<K: Ord, T>(
    fields: &mut Fields<'_>,
    name: &'static str,
    parse: fn(&str) -> Option<K>,
    read: impl FnMut(Value, &str, &mut Problems) -> Option<T>,
) -> BTreeMap<K, T> {
    let path = fields.path(name);
    let Some(value) = fields.take(name) else { return BTreeMap::new() };
    entries(value, &path, fields.problems(), parse, read).unwrap_or_default()
}

fn entries<K: Ord, T>(
    value: Value,
    path: &str,
    problems: &mut Problems,
    parse: fn(&str) -> Option<K>,
    mut read: impl FnMut(Value, &str, &mut Problems) -> Option<T>,
) -> Option<BTreeMap<K, T>> {
    let Value::Object(entries) = value else {
        crate::model::decode::wrong_type(problems, path, "an object", &value);
        return None;
    };
    let mut all = BTreeMap::new();
    for (text, value) in entries {
        let path = format!("{path}.{text}");
        let Some(key) = parse(&text) else {
            problems.add(path, "invalid_key", KEY_RULE);
            continue;
        };
        if let Some(thing) = read(value, &path, problems) {
            all.insert(key, thing);
        }
    }
    Some(all)
}
