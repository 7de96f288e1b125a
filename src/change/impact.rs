//! What a change means: the difference between two configurations, and what is allowed but cannot be meant.
//!
//! Who moves is in `rebalance`. Only what is certain is warned of.

use crate::change::apply::targets_by_kind;
use crate::change::segment_plain::full_segment;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::rule::Clause;
use crate::model::rule::FlagConfig;
use crate::model::rule::Rule;
use crate::model::rule::VariationOrRollout;
use crate::model::segment::Segment;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// One thing that differs.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// What: `on`, `fallthrough`, `rules.<id>`, `targets.<kind>.<variation>`, `prerequisites.<flag>`, ….
    pub path: String,
    /// What it was; absent for what is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// What it is; absent for what is gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// Everything that differs between two configurations of a flag; variations are named by key.
pub fn differences(
    definition: &FlagDefinition,
    before: &FlagConfig,
    after: &FlagConfig,
) -> Vec<Difference> {
    let (before, after) = (parts_of(definition, before), parts_of(definition, after));
    compare(&before, &after)
}

/// Everything that differs between two definitions of a flag.
pub fn definition_differences(before: &FlagDefinition, after: &FlagDefinition) -> Vec<Difference> {
    let parts = |definition: &FlagDefinition| {
        let mut parts = fields_of(definition);
        let variations = parts.remove("variations");
        let items = variations.as_ref().and_then(Value::as_array).into_iter().flatten();
        for item in items {
            let key = item.get("key").and_then(Value::as_str).unwrap_or_default();
            parts.insert(format!("variations.{key}"), item.clone());
        }
        parts
    };
    compare(&parts(before), &parts(after))
}

/// Everything that differs between two states of a segment; how they are written down makes no difference.
pub fn segment_differences(before: &Segment, after: &Segment) -> Vec<Difference> {
    let parts = |segment: &Segment| {
        let segment = full_segment(segment.clone());
        let mut parts = fields_of(&segment);
        parts.remove("rules");
        for rule in &segment.rules {
            parts.insert(format!("rules.{}", rule.id), to_value(rule));
        }
        let order: Vec<&str> = segment.rules.iter().map(|rule| rule.id.as_str()).collect();
        parts.insert("ruleOrder".to_owned(), Value::from(order));
        parts
    };
    compare(&parts(before), &parts(after))
}

fn compare(before: &BTreeMap<String, Value>, after: &BTreeMap<String, Value>) -> Vec<Difference> {
    let paths: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = paths.into_iter().filter(|path| before.get(*path) != after.get(*path));
    differing
        .map(|path| Difference {
            path: path.clone(),
            before: before.get(path).cloned(),
            after: after.get(path).cloned(),
        })
        .collect()
}

fn to_value(part: &impl Serialize) -> Value {
    // OK because keys of what is stored are texts.
    serde_json::to_value(part).unwrap_or_default()
}

fn fields_of(whole: &impl Serialize) -> BTreeMap<String, Value> {
    match to_value(whole) {
        Value::Object(fields) => fields.into_iter().collect(),
        _ => BTreeMap::new(),
    }
}

/// A configuration by parts that people tell apart.
fn parts_of(definition: &FlagDefinition, config: &FlagConfig) -> BTreeMap<String, Value> {
    let mut parts = BTreeMap::new();
    parts.insert("on".to_owned(), Value::Bool(config.on));
    let off = config.off_variation.map(|index| definition.variation_name(index));
    parts.extend(off.map(|name| ("offVariation".to_owned(), Value::String(name))));
    for (name, tracks) in [
        ("trackEvents", config.track_events),
        ("trackEventsFallthrough", config.track_events_fallthrough),
    ] {
        if tracks {
            parts.insert(name.to_owned(), Value::Bool(true));
        }
    }
    let fallthrough = Value::Object(served(definition, &config.fallthrough));
    parts.insert("fallthrough".to_owned(), fallthrough);
    for rule in &config.rules {
        parts.insert(format!("rules.{}", rule.id), rule_of(definition, rule));
    }
    let order: Vec<&str> = config.rules.iter().map(|rule| rule.id.as_str()).collect();
    parts.insert("ruleOrder".to_owned(), Value::from(order));
    for prerequisite in &config.prerequisites {
        let path = format!("prerequisites.{}", prerequisite.key);
        parts.insert(path, Value::from(prerequisite.variation));
    }
    for (kind, of_kind) in targets_by_kind(config) {
        let mut by_variation: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (key, variation) in of_kind {
            by_variation.entry(variation).or_default().push(key);
        }
        for (variation, keys) in by_variation {
            let path = format!("targets.{kind}.{}", definition.variation_name(variation));
            parts.insert(path, Value::from(keys));
        }
    }
    parts
}

fn rule_of(definition: &FlagDefinition, rule: &Rule) -> Value {
    let mut fields = served(definition, &rule.serve);
    fields.insert("description".to_owned(), Value::from(rule.description.as_str()));
    fields.insert("clauses".to_owned(), to_value(&rule.clauses));
    Value::Object(fields)
}

fn served(definition: &FlagDefinition, serve: &VariationOrRollout) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(index) = serve.variation {
        fields.insert("variation".to_owned(), Value::String(definition.variation_name(index)));
    } else if let Some(rollout) = &serve.rollout {
        let mut weights: BTreeMap<String, u32> = BTreeMap::new();
        for slice in &rollout.variations {
            let weight = weights.entry(definition.variation_name(slice.variation)).or_default();
            *weight = weight.saturating_add(slice.weight_milli_pct);
        }
        fields.insert("rolloutWeights".to_owned(), to_value(&weights));
        if let Value::Object(mut rest) = to_value(rollout) {
            rest.remove("variations");
            fields.insert("rollout".to_owned(), Value::Object(rest));
        }
    }
    fields
}

/// What is allowed in a configuration but cannot be meant.
pub fn warnings(config: &FlagConfig) -> Vec<String> {
    let mut warnings = Vec::new();
    for (i, rule) in config.rules.iter().enumerate() {
        let position = i + 1;
        if rule.clauses.is_empty() && position < config.rules.len() {
            warnings.push(format!(
                "rule {position} has no clauses and so matches everyone; the rules after it are never reached"
            ));
        }
        if let Some(clause) = rule.clauses.iter().find(|clause| never_matches(clause)) {
            let attribute = &clause.attribute;
            warnings.push(format!(
                "rule {position} never matches: its clause on `{attribute}` has no values"
            ));
        }
        let mut earlier = config.rules.iter().take(i).enumerate();
        // A rule without clauses has been told already.
        let covering = earlier.find(|(_, earlier)| {
            !earlier.clauses.is_empty() && covers(&earlier.clauses, &rule.clauses)
        });
        if let Some((j, _)) = covering {
            let earlier = j + 1;
            warnings.push(format!(
                "rule {position} never matches: whoever it asks for is taken by rule {earlier} before"
            ));
        }
    }
    warnings
}

fn never_matches(clause: &Clause) -> bool {
    clause.values.is_empty() && !clause.negate
}

/// Whether each clause of `earlier` is one of `later`, so that who matches these matches those.
fn covers(earlier: &[Clause], later: &[Clause]) -> bool {
    let is_same = |left: &Clause, right: &Clause| {
        let (id, other) = (String::new(), String::new());
        Clause { id, ..left.clone() } == Clause { id: other, ..right.clone() }
    };
    earlier.iter().all(|clause| later.iter().any(|other| is_same(clause, other)))
}

/// The other flags and the segments that a configuration asks for.
pub fn asks_for(config: &FlagConfig) -> (Vec<FlagKey>, BTreeSet<SegmentKey>) {
    let flags = config.prerequisites.iter().map(|each| each.key.clone()).collect();
    let clauses = config.rules.iter().flat_map(|rule| &rule.clauses);
    (flags, crate::change::instruction::segments_of(clauses).collect())
}
