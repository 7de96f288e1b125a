//! What a plan changes, in words.

use serde_json::Value;
use std::collections::BTreeMap;

/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 120;
/// Names that are listed; further ones are counted.
const NAMES_MAX: usize = 10;

/// Puts what differs in a field into words.
pub(super) fn describe(field: &str, before: Option<&Value>, after: Option<&Value>) -> String {
    match (field, before, after) {
        ("on", _, Some(Value::Bool(true))) => "turns the flag on".to_owned(),
        ("on", _, Some(Value::Bool(false))) => "turns the flag off".to_owned(),
        ("archived", _, Some(Value::Bool(true))) => "archives the flag".to_owned(),
        ("archived", Some(Value::Bool(true)), _) => "restores the flag from the archive".to_owned(),
        ("fallthrough", before, after) => {
            format!("fallthrough: {} → {}", serves(before), serves(after))
        }
        ("rules", Some(Value::Array(before)), Some(Value::Array(after))) => {
            by_key("rules", "id", before, after)
        }
        ("variations" | "prerequisites", Some(Value::Array(before)), Some(Value::Array(after))) => {
            by_key(field, "key", before, after)
        }
        (
            "included" | "excluded" | "tags",
            Some(Value::Array(before)),
            Some(Value::Array(after)),
        ) => texts(field, before, after),
        (
            "targets" | "contextTargets" | "includedContexts" | "excludedContexts",
            Some(Value::Array(before)),
            Some(Value::Array(after)),
        ) => {
            let n = |lists: &[Value]| -> usize {
                let values = |list: &Value| list.get("values")?.as_array().map(Vec::len);
                lists.iter().filter_map(values).sum()
            };
            format!("{field}: {} → {} key(s)", n(before), n(after))
        }
        (_, before, after) => format!("{field}: {} → {}", shown(before), shown(after)),
    }
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= VALUE_CHARS_MAX {
        return text;
    }
    text.chars().take(VALUE_CHARS_MAX).chain(['…']).collect()
}

/// Whom a variation or rollout serves what.
fn serves(serve: Option<&Value>) -> String {
    let Some(serve) = serve else { return "nothing".to_owned() };
    let name = |value: Option<&Value>| match value {
        Some(Value::String(key)) => format!("`{key}`"),
        other => shown(other),
    };
    if serve.get("variation").is_some() {
        return name(serve.get("variation"));
    }
    let slices = serve.pointer("/rollout/variations").and_then(Value::as_array);
    let mut shares: BTreeMap<String, i64> = BTreeMap::new();
    for slice in slices.into_iter().flatten() {
        let weight = slice.get("weight").and_then(Value::as_i64).unwrap_or(0);
        *shares.entry(name(slice.get("variation"))).or_default() += weight;
    }
    let share = |(name, weight): (String, i64)| {
        let (whole, part) = (weight / 1_000, weight % 1_000);
        let part = format!("{part:03}");
        let part = part.trim_end_matches('0');
        let point = if part.is_empty() { "" } else { "." };
        format!("{whole}{point}{part} % {name}")
    };
    let shares: Vec<String> = shares.into_iter().map(share).collect();
    if shares.is_empty() { "nothing".to_owned() } else { shares.join(", ") }
}

/// Which of things that have keys are new, gone, different or in another order.
fn by_key(field: &str, name: &str, before: &[Value], after: &[Value]) -> String {
    let key = |thing: &Value| thing.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let (old, new): (Vec<String>, Vec<String>) =
        (before.iter().map(key).collect(), after.iter().map(key).collect());
    let added = new.iter().filter(|key| !old.contains(key));
    let removed = old.iter().filter(|key| !new.contains(key));
    let other = |thing: &&Value| before.iter().any(|it| key(it) == key(thing) && it != *thing);
    let changed: Vec<String> = after.iter().filter(other).map(key).collect();
    let parts = [
        list("adds", added.map(String::as_str)),
        list("removes", removed.map(String::as_str)),
        list("changes", changed.iter().map(String::as_str)),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return format!("{field}: another order");
    }
    format!("{field}: {}", parts.join(", "))
}

fn texts(field: &str, before: &[Value], after: &[Value]) -> String {
    let added = after.iter().filter(|each| !before.contains(each)).filter_map(Value::as_str);
    let removed = before.iter().filter(|each| !after.contains(each)).filter_map(Value::as_str);
    let parts = [list("adds", added), list("removes", removed)];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        return format!("{field}: another order");
    }
    format!("{field}: {}", parts.join(", "))
}

fn list<'a>(verb: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    let n_more = names.len().saturating_sub(NAMES_MAX);
    let named = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(" ");
    let rest = if n_more == 0 { String::new() } else { format!(" and {n_more} more") };
    (!names.is_empty()).then(|| format!("{verb} {named}{rest}"))
}
