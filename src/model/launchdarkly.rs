//! Flags and segments as LaunchDarkly serves them to its server-side SDKs: `{"flags": {…}, "segments": {…}}`.
//!
//! Reading is forgiving, because such data may be old: what may be missing is filled in, and what cannot be read is told for
//! each flag alone. Nothing is validated; `eval` gives a meaning to whatever makes no sense.
//!
//! How they are written is in `write`.
//!
//! Source: LaunchDarkly's Go SDK, `ldmodel/model_unmarshal.go`. Its rollouts hash with SHA-1.

mod write;

pub use write::stored_version;
pub use write::wire_position;
pub use write::wire_version;
pub use write::write_flag;
pub use write::write_segment;

use crate::model::flag::ClientSideAvailability;
use crate::model::flag::Defaults;
use crate::model::flag::FlagDefinition;
use crate::model::flag::FlagKind;
use crate::model::flag::Variation;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::key::VariationKey;
use crate::model::key::is_key;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use crate::model::rule::RolloutHash;
use crate::model::segment::Segment;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Everything in one environment of LaunchDarkly.
#[derive(Debug, Default)]
pub struct LaunchDarklyData {
    /// The flags, in the order of the file.
    pub flags: Vec<LaunchDarklyFlag>,
    /// The segments, in the order of the file.
    pub segments: Vec<LaunchDarklySegment>,
}

/// One flag of LaunchDarkly.
#[derive(Debug)]
pub struct LaunchDarklyFlag {
    /// The key by which it is looked up.
    pub key: FlagKey,
    /// What it is; an error in words if it cannot be read.
    pub content: Result<(FlagDefinition, FlagConfig), String>,
    /// Fields that are in use there and unknown here.
    pub unknown: Vec<&'static str>,
}

/// One segment of LaunchDarkly.
#[derive(Debug)]
pub struct LaunchDarklySegment {
    /// The key by which it is looked up.
    pub key: SegmentKey,
    /// What it is; an error in words if it cannot be read.
    pub content: Result<Segment, String>,
}

/// Fields of flags that say what SDKs report, which this server does not keep.
const REPORTING: &[&str] =
    &["debugEventsUntilDate", "migration", "samplingRatio", "excludeFromSummaries"];

/// Reads a file of flags and segments, also inside the `data` of a stream's `put` event. What is deleted is left out.
///
/// How deep the file is nested has been bounded by whoever parsed it.
///
/// # Errors
///
/// It is not such a file at all.
pub fn read(mut file: Value) -> Result<LaunchDarklyData, Problems> {
    if let Some(data) = file.get_mut("data").map(Value::take) {
        file = data;
    }
    let is_file = file.get("flags").is_some() || file.get("segments").is_some();
    let Value::Object(mut file) = file else {
        return Err(Problems::one("", "wrong_type", "must be an object"));
    };
    if !is_file {
        let detail = "must have `flags` and `segments`, each an object by key";
        return Err(Problems::one("", "required", detail));
    }
    let flags = take_objects(&mut file, "flags")?;
    let segments = take_objects(&mut file, "segments")?;
    let is_there = |(_, body): &(String, Value)| body.get("deleted") != Some(&Value::Bool(true));
    let flags = flags.into_iter().filter(is_there).map(|(key, body)| read_flag(&key, body));
    let segments =
        segments.into_iter().filter(is_there).map(|(key, body)| read_segment(&key, body));
    Ok(LaunchDarklyData { flags: flags.collect(), segments: segments.collect() })
}

fn take_objects(file: &mut Map<String, Value>, name: &str) -> Result<Map<String, Value>, Problems> {
    match file.shift_remove(name) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(Problems::one(name, "wrong_type", "must be an object by key")),
    }
}

fn read_flag(key: &str, body: Value) -> LaunchDarklyFlag {
    let is_used = |name: &&&str| {
        let value = body.get(**name).unwrap_or(&Value::Null);
        ![Value::Null, Value::Bool(false)].contains(value)
    };
    let unknown = REPORTING.iter().filter(is_used).copied().collect();
    LaunchDarklyFlag { key: FlagKey::stored(key), unknown, content: flag_content(key, body) }
}

fn flag_content(key: &str, body: Value) -> Result<(FlagDefinition, FlagConfig), String> {
    let Value::Object(mut fields) = body else {
        return Err("must be an object".to_owned());
    };
    let values = match fields.shift_remove("variations") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(values)) => values,
        Some(_) => return Err("`variations` must be an array".to_owned()),
    };
    let key = own_key(key, &fields)?;
    let availability = availability(&fields)?;
    let mut fields = Value::Object(fields);
    complete(&mut fields);
    let config: FlagConfig = serde_json::from_value(fields).map_err(|error| error.to_string())?;
    let kind = kind_of(&values);
    let variations = named(kind, values);
    let key_at = |index: Option<i64>, otherwise: Option<&Variation>| {
        let found = index.and_then(|i| usize::try_from(i).ok()).and_then(|i| variations.get(i));
        let found = found.or(otherwise).map(|variation| variation.key.clone());
        found.unwrap_or_else(|| VariationKey::stored("none"))
    };
    // As for a flag that is created without defaults.
    let defaults = Defaults {
        on_variation: key_at(config.fallthrough.variation, variations.first()),
        off_variation: key_at(config.off_variation, variations.last()),
    };
    let definition = FlagDefinition {
        name: key.clone(),
        key: FlagKey::stored(&key),
        description: String::new(),
        kind,
        variations,
        tags: Vec::new(),
        temporary: false,
        temporary_until: None,
        client_side_availability: availability,
        defaults,
        maintainer: None,
        custom_properties: BTreeMap::new(),
        deprecated: false,
        archived: false,
    };
    Ok((definition, config))
}

fn read_segment(key: &str, body: Value) -> LaunchDarklySegment {
    let content = || {
        let Value::Object(mut fields) = body else {
            return Err("must be an object".to_owned());
        };
        let key = own_key(key, &fields)?;
        fields.insert("name".to_owned(), Value::from(key.as_str()));
        fields.insert("key".to_owned(), Value::from(key));
        let mut fields = Value::Object(fields);
        complete(&mut fields);
        let read = serde_json::from_value(fields);
        let mut segment: Segment = read.map_err(|error: serde_json::Error| error.to_string())?;
        // Also for a share of everyone, whose rule may leave out its clauses.
        let shares = segment.rules.iter_mut().filter(|rule| rule.weight_milli_pct.is_some());
        shares.for_each(|rule| _ = rule.hash.get_or_insert(RolloutHash::Sha1));
        Ok(segment)
    };
    LaunchDarklySegment { key: SegmentKey::stored(key), content: content() }
}

/// The key that is hashed: the body's own, or that by which it is looked up.
fn own_key(key: &str, fields: &Map<String, Value>) -> Result<String, String> {
    match fields.get("key") {
        None | Some(Value::Null) => Ok(key.to_owned()),
        Some(Value::String(own)) => Ok(own.clone()),
        Some(_) => Err("`key` must be a string".to_owned()),
    }
}

/// Old data knows no `clientSideAvailability`: mobile SDKs saw every flag, browsers those with `clientSide`.
fn availability(fields: &Map<String, Value>) -> Result<ClientSideAvailability, String> {
    match fields.get("clientSideAvailability") {
        None | Some(Value::Null) => Ok(ClientSideAvailability {
            using_environment_id: fields.get("clientSide") == Some(&Value::Bool(true)),
            using_mobile_key: true,
        }),
        Some(given) => serde_json::from_value(given.clone()).map_err(|error| error.to_string()),
    }
}

/// Brings the structure of a flag or segment into our stored form: nothing is `null`, whole numbers are integers, weights are
/// in range, and each rollout of a flag says that it hashes with SHA-1. The `values` of clauses and targets stay as they are.
fn complete(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(complete),
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            let structure = fields.iter_mut().filter(|(name, _)| *name != "values");
            structure.for_each(|(_, field)| complete(field));
            // After what is `null` in it is gone.
            if let Some(Value::Object(rollout)) = fields.get_mut("rollout") {
                rollout.entry("hash").or_insert_with(|| json!("sha1"));
            }
            if let Some(weight) = fields.get_mut("weight") {
                clamp_weight(weight);
            }
        }
        Value::Number(number) => {
            let float = number.as_f64().filter(|_| number.is_f64());
            if let Some(whole) = float.and_then(crate::model::attribute::whole) {
                *value = Value::from(whole);
            }
        }
        _ => {}
    }
}

/// LaunchDarkly's SDK for Go reads any integer; nobody is below 0, and everybody is below what does not fit.
fn clamp_weight(weight: &mut Value) {
    let Value::Number(number) = weight else {
        return;
    };
    if number.as_i64().is_some_and(|number| number < 0) {
        *weight = Value::from(0);
    } else if number.as_u64().is_some_and(|number| number > u64::from(u32::MAX)) {
        *weight = Value::from(u32::MAX);
    }
}

/// The kind that all values have; JSON if they have none in common.
fn kind_of(values: &[Value]) -> FlagKind {
    let kinds = [FlagKind::Boolean, FlagKind::String, FlagKind::Number];
    let common = kinds.into_iter().find(|kind| values.iter().all(|value| kind.admits(value)));
    common.filter(|_| !values.is_empty()).unwrap_or(FlagKind::Json)
}

/// Gives each value a key, which LaunchDarkly does not tell: `on` and `off`, the text itself, or its number.
fn named(kind: FlagKind, values: Vec<Value>) -> Vec<Variation> {
    let usual = |value: &Value| match value {
        Value::Bool(true) => Some("on".to_owned()),
        Value::Bool(false) => Some("off".to_owned()),
        Value::String(text) if is_key(text) => Some(text.clone()),
        _ => None,
    };
    let keys: Vec<Option<String>> = values.iter().map(usual).collect();
    let mut seen = BTreeSet::new();
    let are_different = keys.iter().all(|key| seen.insert(key));
    let has_usual_keys =
        kind != FlagKind::Json && are_different && keys.iter().all(Option::is_some);
    let numbered = |(i, (key, value)): (usize, (Option<String>, Value))| {
        let key = key.filter(|_| has_usual_keys).unwrap_or_else(|| format!("variation-{i}"));
        Variation { key: VariationKey::stored(&key), name: String::new(), value }
    };
    keys.into_iter().zip(values).enumerate().map(numbered).collect()
}
