//! Flags and segments as they stand in files: variations by key instead of by index, and nothing left out.
//!
//! The same content always has the same form, so that files can be compared.

use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;

/// Definitions, by key.
pub(super) type Definitions<'a> = BTreeMap<&'a FlagKey, &'a FlagDefinition>;

/// A definition without its key.
pub fn readable_definition(definition: &FlagDefinition) -> Map<String, Value> {
    let mut fields = fields_of(definition);
    for name in ["deprecated", "archived"] {
        if fields.get(name) == Some(&Value::Bool(false)) {
            fields.remove(name);
        }
    }
    fields
}

/// A segment without its key.
pub fn readable_segment(segment: &Segment) -> Map<String, Value> {
    fields_of(segment)
}

fn fields_of(thing: &impl serde::Serialize) -> Map<String, Value> {
    let mut fields = match serde_json::to_value(thing) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    fields.shift_remove("key");
    fields
}

/// A configuration with variations by key; an index that the flag does not have stays a number.
pub fn readable_config(
    config: &FlagConfig,
    definition: &FlagDefinition,
    others: &Definitions<'_>,
) -> Map<String, Value> {
    let mut fields = fields_of(config);
    visit(&mut fields, &mut |flag, place, _| {
        let definition = match flag {
            None => Some(definition),
            Some(key) => others.get(key).copied(),
        };
        let index = place.as_i64().and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| definition?.variations.get(index));
        if let Some(variation) = found {
            *place = Value::String(variation.key.to_string());
        }
    });
    fields
}

/// Puts indexes in the places of keys, and notes the keys that are of no variation.
pub(super) fn number(
    fields: &mut Map<String, Value>,
    definition: &FlagDefinition,
    others: &Definitions<'_>,
    path: &str,
    problems: &mut Problems,
) {
    visit(fields, &mut |flag, place, at| {
        let Value::String(key) = &*place else { return };
        let definition = match flag {
            None => definition,
            Some(flag) => match others.get(flag) {
                Some(other) => other,
                None => {
                    let detail = format!("there is no flag `{flag}`");
                    return problems.add(format!("{path}.{at}"), "unknown_flag", detail);
                }
            },
        };
        match definition.variation_index(key) {
            Some(index) => *place = Value::from(index),
            None => {
                let known: Vec<&str> =
                    definition.variations.iter().map(|each| each.key.as_str()).collect();
                let detail = format!(
                    "`{key}` is not a variation of `{}`; it has {}",
                    definition.key,
                    known.join(", ")
                );
                problems.add(format!("{path}.{at}"), "unknown_variation", detail);
            }
        }
    });
}

/// Calls `visitor` with each place of a configuration where a variation is named: of which other flag, if of one, and where.
fn visit(
    fields: &mut Map<String, Value>,
    visitor: &mut impl FnMut(Option<&FlagKey>, &mut Value, &str),
) {
    if let Some(place) = fields.get_mut("offVariation") {
        visitor(None, place, "offVariation");
    }
    for name in ["targets", "contextTargets"] {
        for (i, target) in items(fields, name) {
            if let Some(place) = target.get_mut("variation") {
                visitor(None, place, &format!("{name}[{i}].variation"));
            }
        }
    }
    for (i, prerequisite) in items(fields, "prerequisites") {
        let key = prerequisite.get("key").and_then(Value::as_str).map(FlagKey::stored);
        if let (Some(key), Some(place)) = (key, prerequisite.get_mut("variation")) {
            visitor(Some(&key), place, &format!("prerequisites[{i}].variation"));
        }
    }
    for (i, rule) in items(fields, "rules") {
        visit_serve(rule, &format!("rules[{i}]"), visitor);
    }
    if let Some(Value::Object(fallthrough)) = fields.get_mut("fallthrough") {
        visit_serve(fallthrough, "fallthrough", visitor);
    }
}

fn visit_serve(
    serve: &mut Map<String, Value>,
    path: &str,
    visitor: &mut impl FnMut(Option<&FlagKey>, &mut Value, &str),
) {
    if let Some(place) = serve.get_mut("variation") {
        visitor(None, place, &format!("{path}.variation"));
    }
    if let Some(Value::Object(rollout)) = serve.get_mut("rollout") {
        for (i, slice) in items(rollout, "variations") {
            if let Some(place) = slice.get_mut("variation") {
                visitor(None, place, &format!("{path}.rollout.variations[{i}].variation"));
            }
        }
    }
}

/// The objects of a list, with their places.
pub(super) fn items<'a>(
    fields: &'a mut Map<String, Value>,
    name: &str,
) -> impl Iterator<Item = (usize, &'a mut Map<String, Value>)> {
    let items = fields.get_mut(name).and_then(Value::as_array_mut).into_iter().flatten();
    items.enumerate().filter_map(|(i, item)| Some((i, item.as_object_mut()?)))
}
