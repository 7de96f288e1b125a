//! Evaluation once more, the naive way: LaunchDarkly's rules as they are written, on stored JSON, with no thought of speed.
//!
//! Nothing is compiled and no type of the crate is used, so that what the two have in common is what they were meant to do. Only
//! stored fields that are valid JSON of their type are understood. What the operators do with two values is in `naive_value`.

use crate::eval::tests::Answer;
use crate::eval::tests::KEYLESS;
use crate::eval::tests::LACKING;
use crate::eval::tests::MALFORMED;
use crate::eval::tests::experiment;
use crate::eval::tests::naive_value::holds;
use crate::eval::tests::nothing;
use crate::eval::tests::random::World;
use serde_json::Value;
use serde_json::json;
use sha1::Digest;
use sha1::Sha1;
use std::cell::Cell;

/// A part of an evaluation, or the reason of the error that ends the whole.
type Step<T> = Result<T, &'static str>;

/// Where on the ring a context lies.
enum Place {
    /// The context has no part of the kind that is asked for.
    NoKind,
    /// It has one without a key, and the key is what is hashed.
    NoKey,
    /// A slot, or a share of the whole for SHA-1.
    At(f32),
}

/// The slot of a value, by the crate that the prepared hash is measured against.
pub(super) fn slot(prefix: &str, value: &str) -> u32 {
    let hash = murmur3::murmur3_32(&mut format!("{prefix}{value}").as_bytes(), 0).unwrap();
    u32::try_from((u64::from(hash) * 100_000) >> 32).unwrap()
}

/// The share of a value, from the digits of the hash as LaunchDarkly describes it.
pub(super) fn share(prefix: &str, value: &str) -> f32 {
    let digest = Sha1::digest(format!("{prefix}{value}"));
    let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    u64::from_str_radix(digits.get(..15).unwrap(), 16).unwrap() as f32
        / 0x0FFF_FFFF_FFFF_FFFF_u64 as f32
}

struct Naive<'a> {
    world: &'a World,
    context: &'a Value,
    /// Whether a segment was asked whose keys are kept elsewhere.
    is_lacking: Cell<bool>,
}

/// Evaluates a stored flag for a context in LaunchDarkly's single or multi form.
pub(super) fn evaluate(world: &World, flag: &Value, context: &Value) -> Answer {
    let naive = Naive { world, context, is_lacking: Cell::new(false) };
    let (value, index, reason) = naive.flag(flag, &[]).unwrap_or_else(nothing);
    let lacking = if naive.is_lacking.get() { LACKING } else { "" };
    (value, index, format!("{reason}{lacking}"))
}

impl Naive<'_> {
    fn flag(&self, flag: &Value, chain: &[&str]) -> Step<Answer> {
        if flag["on"] != true {
            return Ok(off(flag, "OFF"));
        }
        let chain = [chain, &[text(flag, "key")]].concat();
        for prerequisite in list(flag, "prerequisites") {
            let key = text(prerequisite, "key");
            let failed = format!("PREREQUISITE_FAILED {key}");
            let Some(other) = self.world.flags.iter().find(|other| text(other, "key") == key)
            else {
                return Ok(off(flag, &failed));
            };
            if chain.contains(&key) {
                return Err(MALFORMED);
            }
            let (_, index, _) = self.flag(other, &chain)?;
            if other["on"] != true || json!(index) != prerequisite["variation"] {
                return Ok(off(flag, &failed));
            }
        }
        if let Some(target) = self.target(flag) {
            return Ok(variation(flag, target, "TARGET_MATCH"));
        }
        for (i, rule) in list(flag, "rules").iter().enumerate() {
            if self.all_match(rule, &[])? {
                let reason = format!("RULE_MATCH {i} {}", text(rule, "id"));
                return self.variation_or_rollout(flag, rule, &reason);
            }
        }
        self.variation_or_rollout(flag, &flag["fallthrough"], "FALLTHROUGH")
    }

    /// The variation of the first individual target.
    fn target<'f>(&self, flag: &'f Value) -> Option<&'f Value> {
        let has = |kind: &str, target: &Value| {
            let key = self.part(kind).and_then(|part| part.get("key"));
            key.is_some_and(|key| list(target, "values").contains(key))
        };
        let users = list(flag, "targets");
        let contexts = list(flag, "contextTargets");
        if contexts.is_empty() {
            return users
                .iter()
                .find(|target| has("user", target))
                .map(|found| &found["variation"]);
        }
        let matches = |target: &&Value| {
            let kind = or_user(text(target, "contextKind"));
            if kind == "user" && list(target, "values").is_empty() {
                let same = users.iter().find(|user| user["variation"] == target["variation"]);
                return same.is_some_and(|user| has("user", user));
            }
            has(kind, target)
        };
        contexts.iter().find(matches).map(|found| &found["variation"])
    }

    fn variation_or_rollout(&self, flag: &Value, serve: &Value, reason: &str) -> Step<Answer> {
        if !serve["variation"].is_null() {
            return Ok(variation(flag, &serve["variation"], reason));
        }
        let rollout = &serve["rollout"];
        let slices = list(rollout, "variations");
        let Some(last) = slices.last() else {
            return Ok(nothing(MALFORMED));
        };
        let prefix = match &rollout["seed"] {
            Value::Null => format!("{}.{}.", text(flag, "key"), text(flag, "salt")),
            seed => format!("{seed}."),
        };
        let is_experiment = rollout["kind"] == "experiment";
        let bucket_by = if is_experiment { "" } else { text(rollout, "bucketBy") };
        let place = self.place(&rollout["hash"], &prefix, text(rollout, "contextKind"), bucket_by);
        let (at, has_kind) = match place {
            // What this rollout divides by is no reference.
            Err(_) => return Ok(nothing(MALFORMED)),
            Ok(Place::At(at)) => (at, true),
            // A context without any kind has no key either.
            Ok(Place::NoKind) if !self.context.is_null() => (0.0, false),
            Ok(Place::NoKind | Place::NoKey) => return Err(KEYLESS),
        };
        let mut end = End::default();
        let is_below = |slice: &&Value| {
            end.add(weight(slice));
            end.is_above(at, &rollout["hash"])
        };
        let slice = slices.iter().find(is_below).unwrap_or(last);
        let is_tracked = is_experiment && has_kind && slice["untracked"] != true;
        let reason = format!("{reason}{}", experiment(is_tracked));
        Ok(variation(flag, &slice["variation"], &reason))
    }

    fn place(&self, hash: &Value, prefix: &str, kind: &str, bucket_by: &str) -> Step<Place> {
        let name = if bucket_by.is_empty() { "key" } else { bucket_by };
        let path = reference(name, kind.is_empty()).ok_or(MALFORMED)?;
        let Some(part) = self.part(or_user(kind)) else {
            return Ok(Place::NoKind);
        };
        let hashed = |value: &str| match hash.as_str() {
            Some("sha1") => share(prefix, value),
            _ => slot(prefix, value) as f32,
        };
        Ok(match attribute(or_user(kind), part, &path) {
            None if path == ["key"] => Place::NoKey,
            Some(Value::String(value)) => Place::At(hashed(&value)),
            Some(Value::Number(number)) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                let digits = format!("{:.0}", number.as_f64().unwrap() + 0.0);
                Place::At(hashed(&digits))
            }
            _ => Place::At(0.0),
        })
    }

    fn all_match(&self, rule: &Value, segments: &[&str]) -> Step<bool> {
        for clause in list(rule, "clauses") {
            if !self.clause(clause, segments)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn clause(&self, clause: &Value, segments: &[&str]) -> Step<bool> {
        let negate = clause["negate"] == true;
        let values = list(clause, "values");
        if text(clause, "op") == "segmentMatch" {
            for key in values.iter().filter_map(Value::as_str) {
                if self.segment(key, segments)? {
                    return Ok(!negate);
                }
            }
            return Ok(negate);
        }
        let kind = text(clause, "contextKind");
        let path = reference(text(clause, "attribute"), kind.is_empty()).ok_or(MALFORMED)?;
        let is_match =
            |value: &Value| values.iter().any(|other| holds(text(clause, "op"), value, other));
        if path == ["kind"] {
            let any = self.parts().iter().any(|(kind, _)| is_match(&json!(kind)));
            return Ok(any != negate);
        }
        let found = self.part(or_user(kind)).and_then(|part| attribute(kind, part, &path));
        Ok(match found {
            None => false,
            Some(Value::Array(items)) => items.iter().any(is_match) != negate,
            Some(value) => is_match(&value) != negate,
        })
    }

    fn segment(&self, key: &str, outer: &[&str]) -> Step<bool> {
        let Some(segment) = self.world.segments.iter().find(|each| text(each, "key") == key) else {
            return Ok(false);
        };
        if outer.contains(&key) {
            return Err(MALFORMED);
        }
        if segment["unbounded"] == true {
            let kind = or_user(text(segment, "unboundedContextKind"));
            let has_kind = self.part(kind).is_some();
            let has_generation = !segment["generation"].is_null();
            if has_kind || !has_generation {
                self.is_lacking.set(true);
            }
            if !has_kind || !has_generation {
                return Ok(false);
            }
        }
        for (users, contexts, is_in) in
            [("included", "includedContexts", true), ("excluded", "excludedContexts", false)]
        {
            let has = |kind: &str, keys: &[Value]| {
                let key = self.part(or_user(kind)).and_then(|part| part.get("key"));
                key.is_some_and(|key| keys.contains(key))
            };
            let in_context = |each: &Value| has(text(each, "contextKind"), list(each, "values"));
            let is_listed =
                has("user", list(segment, users)) || list(segment, contexts).iter().any(in_context);
            if is_listed && segment["unbounded"] != true {
                return Ok(is_in);
            }
        }
        let inner = [outer, &[key]].concat();
        for rule in list(segment, "rules") {
            if self.all_match(rule, &inner)? && self.is_in_share(segment, rule)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_in_share(&self, segment: &Value, rule: &Value) -> Step<bool> {
        if rule["weight"].is_null() {
            return Ok(true);
        }
        let mut end = End::default();
        end.add(weight(rule));
        let prefix = format!("{}.{}.", text(segment, "key"), text(segment, "salt"));
        let kind = text(rule, "rolloutContextKind");
        Ok(match self.place(&rule["hash"], &prefix, kind, text(rule, "bucketBy"))? {
            Place::NoKind => false,
            Place::NoKey => end.is_above(0.0, &rule["hash"]),
            Place::At(at) => end.is_above(at, &rule["hash"]),
        })
    }

    /// The kinds of the context, each with its key and attributes.
    fn parts(&self) -> Vec<(&str, &Value)> {
        match (&self.context["kind"], self.context) {
            (_, Value::Null) => Vec::new(),
            (Value::String(kind), Value::Object(parts)) if kind == "multi" => {
                let parts = parts.iter().filter(|(kind, _)| *kind != "kind");
                parts.map(|(kind, part)| (kind.as_str(), part)).collect()
            }
            (kind, part) => vec![(or_user(kind.as_str().unwrap_or_default()), part)],
        }
    }

    fn part(&self, kind: &str) -> Option<&Value> {
        self.parts().iter().find(|(each, _)| *each == kind).map(|(_, part)| *part)
    }
}

fn text<'v>(object: &'v Value, name: &str) -> &'v str {
    object[name].as_str().unwrap_or_default()
}

fn list<'v>(object: &'v Value, name: &str) -> &'v [Value] {
    object[name].as_array().map_or(&[], Vec::as_slice)
}

fn or_user(kind: &str) -> &str {
    if kind.is_empty() { "user" } else { kind }
}

/// Where a slice ends, for each hash.
#[derive(Default)]
struct End {
    slots: u64,
    share: f32,
}

impl End {
    fn add(&mut self, weight: u64) {
        self.slots += weight;
        self.share += weight as f32 / 100_000.0;
    }

    fn is_above(&self, at: f32, hash: &Value) -> bool {
        if hash == "sha1" { at < self.share } else { f64::from(at) < self.slots as f64 }
    }
}

fn weight(slice: &Value) -> u64 {
    slice["weight"].as_u64().unwrap()
}

fn off(flag: &Value, reason: &str) -> Answer {
    match &flag["offVariation"] {
        Value::Null => nothing(reason),
        index => variation(flag, index, reason),
    }
}

fn variation(flag: &Value, index: &Value, reason: &str) -> Answer {
    let index = index.as_u64().and_then(|index| usize::try_from(index).ok());
    let found = index.and_then(|index| Some((index, list(flag, "variations").get(index)?)));
    found.map_or_else(
        || nothing(MALFORMED),
        |(index, found)| (found["value"].clone(), Some(index), reason.to_owned()),
    )
}

/// The steps of an attribute reference; `None` if it is not one.
fn reference(text: &str, is_plain: bool) -> Option<Vec<String>> {
    if text.is_empty() {
        return None;
    }
    let path = text.strip_prefix('/').filter(|_| !is_plain);
    let Some(path) = path else {
        return Some(vec![text.to_owned()]);
    };
    let step = |step: &str| {
        let is_escape = |rest: &str| rest.starts_with(['0', '1']);
        let is_good = !step.is_empty() && step.split('~').skip(1).all(is_escape);
        is_good.then(|| step.replace("~1", "/").replace("~0", "~"))
    };
    path.split('/').map(step).collect()
}

/// An attribute of one part of the context; `None` if it is absent or null.
fn attribute(kind: &str, part: &Value, path: &[String]) -> Option<Value> {
    let built_in = match path.first().map(String::as_str)? {
        "kind" => Some(json!(or_user(kind))),
        "anonymous" => Some(part.get("anonymous").cloned().unwrap_or(json!(false))),
        name @ ("key" | "name" | "_meta") => part.get(name).filter(|_| name != "_meta").cloned(),
        _ => {
            let walk = |value: &Value, step: &String| value.as_object()?.get(step).cloned();
            let found = path.iter().try_fold(part.clone(), |value, step| walk(&value, step));
            return found.filter(|value| !value.is_null());
        }
    };
    built_in.filter(|value| path.len() == 1 && !value.is_null())
}
