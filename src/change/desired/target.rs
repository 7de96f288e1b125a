//! What one flag or segment comes to when a file is laid over what is there.

use super::readable;
use super::readable::Definitions;
use super::readable::readable_definition;
use super::readable::readable_segment;
use super::shape;
use crate::change::import::limit;
use crate::change::import::sense;
use crate::change::segment::settle_hashes;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::limit::CUSTOM_PROPERTIES_MAX;
use crate::model::limit::CUSTOM_VALUES_MAX;
use crate::model::problem::Problem;
use crate::model::problem::Problems;
use crate::model::problem::join;
use crate::model::rule::FlagConfig;
use crate::model::rule::is_default;
use crate::model::segment::Segment;
use serde_json::Map;
use serde_json::Value;

/// Fields of a definition that cannot be given when a flag is created by hand.
const EXTRAS: [&str; 3] = ["deprecated", "archived", "customProperties"];

/// The definition of a flag; `None` if something is wrong with it, which is noted.
pub(super) fn definition(
    key: &FlagKey,
    here: Option<&FlagDefinition>,
    given: &Map<String, Value>,
    path: &str,
    problems: &mut Problems,
) -> Option<FlagDefinition> {
    let mut fields = here.map(readable_definition).unwrap_or_default();
    if let (Some(here), Some(kind)) = (here, given.get("kind"))
        && kind.as_str() != Some(here.kind.as_str())
    {
        let detail =
            format!("is `{}`, and the kind of a flag cannot be changed", here.kind.as_str());
        problems.add(join(path, "kind"), "immutable", detail);
        return None;
    }
    fields.extend(given.clone());
    if given.get("temporary") == Some(&Value::Bool(false)) && !given.contains_key("temporaryUntil")
    {
        // A flag that becomes permanent has no end any more.
        fields.shift_remove("temporaryUntil");
    }
    if let Some(here) = here
        && fields == readable_definition(here)
    {
        return Some(here.clone());
    }
    let mut extras = Map::new();
    for name in EXTRAS {
        extras.extend(fields.shift_remove(name).map(|value| (name.to_owned(), value)));
    }
    let extras = Value::Object(extras);
    let n_before = problems.as_slice().len();
    shape::check(&extras, shape::DEFINITION_EXTRAS, path, problems);
    if problems.as_slice().len() > n_before {
        return None;
    }
    if let Some(own) = fields.insert("key".to_owned(), Value::String(key.to_string()))
        && own.as_str() != Some(key.as_str())
    {
        problems.add(join(path, "key"), "key_differs", format!("must be `{key}`, or be left out"));
    }
    let mut definition = match FlagDefinition::decode(Value::Object(fields)) {
        Ok(definition) => definition,
        Err(wrong) => {
            problems.add_below(path, wrong);
            return None;
        }
    };
    let is_set = |name: &str| extras.get(name).and_then(Value::as_bool).unwrap_or(false);
    (definition.deprecated, definition.archived) = (is_set("deprecated"), is_set("archived"));
    if let Some(custom) = extras.get("customProperties").filter(|custom| !custom.is_null()) {
        match serde_json::from_value(custom.clone()) {
            Ok(custom) => definition.custom_properties = custom,
            Err(error) => {
                let path = join(path, "customProperties");
                problems.add(path, "wrong_type", format!("cannot be read: {error}"));
                return None;
            }
        }
        let has_too_many_values =
            definition.custom_properties.values().any(|it| it.values.len() > CUSTOM_VALUES_MAX);
        if definition.custom_properties.len() > CUSTOM_PROPERTIES_MAX || has_too_many_values {
            let detail = format!(
                "must have at most {CUSTOM_PROPERTIES_MAX} properties of {CUSTOM_VALUES_MAX} values"
            );
            problems.add(join(path, "customProperties"), "too_many", detail);
            return None;
        }
    }
    Some(definition)
}

/// What a configuration is laid over.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    /// The definition that the flag will have.
    pub(super) definition: &'a FlagDefinition,
    /// The definitions that all flags will have.
    pub(super) definitions: &'a Definitions<'a>,
    /// Which SDKs evaluate the environment by themselves.
    pub(super) server_sdk: ServerSdk,
}

/// A configuration made of fields; `None` if something is wrong with it, which is noted.
///
/// Where SDKs evaluate by themselves, what makes no sense is kept with a note, because it came from elsewhere and means the
/// same there.
pub(super) fn config(
    mut fields: Map<String, Value>,
    ground: &Ground<'_>,
    path: &str,
    problems: &mut Problems,
    notes: &mut Vec<Problem>,
) -> Option<FlagConfig> {
    let n_before = problems.as_slice().len();
    fill_hashes(&mut fields, ground.server_sdk);
    readable::number(&mut fields, ground.definition, ground.definitions, path, problems);
    if problems.as_slice().len() > n_before {
        return None;
    }
    let config: FlagConfig = match serde_json::from_value(Value::Object(fields)) {
        Ok(config) => config,
        Err(error) => {
            problems.add(path, "unreadable", format!("cannot be read: {error}"));
            return None;
        }
    };
    if let Err(wrong) = limit::check_flag(ground.definition, &config, ground.server_sdk) {
        problems.add_below(path, wrong);
    }
    let sense = sense::flag(ground.definition, &config);
    tell(sense, path, ground.server_sdk, problems, notes);
    (problems.as_slice().len() == n_before).then_some(config)
}

/// A segment laid over one that is there, or over an empty one.
pub(super) fn segment(
    (key, salt): (&SegmentKey, &str),
    here: Option<&Segment>,
    given: &Map<String, Value>,
    (path, server_sdk): (&str, ServerSdk),
    problems: &mut Problems,
    notes: &mut Vec<Problem>,
) -> Option<Segment> {
    let n_before = problems.as_slice().len();
    let mut fields = here.map(readable_segment).unwrap_or_default();
    fields.extend(given.clone());
    let mut default = |name: &str, text: &str| {
        let value = || Value::String(text.to_owned());
        fields.entry(name).or_insert_with(value);
    };
    default("name", key.as_str());
    default("salt", salt);
    fields.insert("key".to_owned(), Value::String(key.to_string()));
    let mut segment: Segment = match serde_json::from_value(Value::Object(fields)) {
        Ok(segment) => segment,
        Err(error) => {
            problems.add(path, "unreadable", format!("cannot be read: {error}"));
            return None;
        }
    };
    segment.tags.sort();
    segment.tags.dedup();
    if let Err(wrong) = settle_hashes(&mut segment, server_sdk) {
        problems.add_below(path, wrong);
    }
    if let Err(wrong) = limit::check_segment(&segment, server_sdk) {
        problems.add_below(path, wrong);
    }
    tell(sense::segment(&segment), path, server_sdk, problems, notes);
    (problems.as_slice().len() == n_before).then_some(segment)
}

fn tell(
    sense: Vec<Problem>,
    path: &str,
    server_sdk: ServerSdk,
    problems: &mut Problems,
    notes: &mut Vec<Problem>,
) {
    for Problem { path: place, code, detail } in sense {
        let place = join(path, &place);
        match server_sdk {
            ServerSdk::None => problems.add(place, code, detail),
            ServerSdk::LaunchDarkly => notes.push(Problem { path: place, code, detail }),
        }
    }
}

/// Gives rollouts that name no hash the one that the environment must have.
fn fill_hashes(fields: &mut Map<String, Value>, server_sdk: ServerSdk) {
    let hash = server_sdk.default_hash();
    if is_default(&hash) {
        return;
    }
    let Ok(word) = serde_json::to_value(hash) else { return };
    let fill = |serve: &mut Map<String, Value>| {
        if let Some(Value::Object(rollout)) = serve.get_mut("rollout") {
            rollout.entry("hash").or_insert_with(|| word.clone());
        }
    };
    for (_, rule) in readable::items(fields, "rules") {
        fill(rule);
    }
    if let Some(Value::Object(fallthrough)) = fields.get_mut("fallthrough") {
        fill(fallthrough);
    }
}
