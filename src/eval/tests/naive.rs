//! Evaluation once more, the naive way: LaunchDarkly's rules as they are written, on stored JSON, with no thought of speed.
//!
//! Nothing is compiled and no type of the crate is used but the hash, so that what the two have in common is what they were
//! meant to do. Only stored fields that are valid JSON of their type are understood.

use crate::eval::tests::Answer;
use crate::eval::tests::KEYLESS;
use crate::eval::tests::MALFORMED;
use crate::eval::tests::nothing;
use crate::eval::tests::random::World;
use regex::Regex;
use serde_json::Value;
use serde_json::json;

/// A part of an evaluation, or the reason of the error that ends the whole.
type Step<T> = Result<T, &'static str>;

/// Where on the ring a context lies.
enum Place {
    /// The context has no part of the kind that is asked for.
    NoKind,
    /// It has one without a key, and the key is what is hashed.
    NoKey,
    Slot(u32),
}

/// The slot of a value, by the crate that the prepared hash is measured against.
pub(super) fn slot(prefix: &str, value: &str) -> u32 {
    let hash = murmur3::murmur3_32(&mut format!("{prefix}{value}").as_bytes(), 0).unwrap();
    u32::try_from((u64::from(hash) * 100_000) >> 32).unwrap()
}

struct Naive<'a> {
    world: &'a World,
    context: &'a Value,
}

/// Evaluates a stored flag for a context in LaunchDarkly's single or multi form.
pub(super) fn evaluate(world: &World, flag: &Value, context: &Value) -> Answer {
    let naive = Naive { world, context };
    naive.flag(flag, &[]).unwrap_or_else(nothing)
}

impl Naive<'_> {
    fn flag(&self, flag: &Value, chain: &[&str]) -> Step<Answer> {
        if flag["on"] != true {
            return off(flag, "OFF");
        }
        let chain = [chain, &[text(flag, "key")]].concat();
        for prerequisite in list(flag, "prerequisites") {
            let key = text(prerequisite, "key");
            let failed = format!("PREREQUISITE_FAILED {key}");
            let Some(other) = self.world.flags.iter().find(|other| text(other, "key") == key)
            else {
                return off(flag, &failed);
            };
            if chain.contains(&key) {
                return Err(MALFORMED);
            }
            let (_, index, _) = self.flag(other, &chain)?;
            if other["on"] != true || json!(index) != prerequisite["variation"] {
                return off(flag, &failed);
            }
        }
        if let Some(target) = self.target(flag) {
            return variation(flag, target, "TARGET_MATCH");
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
            return variation(flag, &serve["variation"], reason);
        }
        let rollout = &serve["rollout"];
        let slices = list(rollout, "variations");
        let last = slices.last().ok_or(MALFORMED)?;
        let prefix = match &rollout["seed"] {
            Value::Null => format!("{}.{}.", text(flag, "key"), text(flag, "salt")),
            seed => format!("{seed}."),
        };
        let place = self.place(&prefix, text(rollout, "contextKind"), text(rollout, "bucketBy"))?;
        let slot = match place {
            Place::Slot(slot) => u64::from(slot),
            // A context without any kind has no key either.
            Place::NoKind if !self.context.is_null() => 0,
            Place::NoKind | Place::NoKey => return Err(KEYLESS),
        };
        let mut sum = 0;
        for slice in slices {
            sum += slice["weight"].as_u64().unwrap();
            if slot < sum {
                return variation(flag, &slice["variation"], reason);
            }
        }
        variation(flag, &last["variation"], reason)
    }

    fn place(&self, prefix: &str, kind: &str, bucket_by: &str) -> Step<Place> {
        let name = if bucket_by.is_empty() { "key" } else { bucket_by };
        let path = reference(name, kind.is_empty()).ok_or(MALFORMED)?;
        let Some(part) = self.part(or_user(kind)) else {
            return Ok(Place::NoKind);
        };
        Ok(match attribute(or_user(kind), part, &path) {
            None if path == ["key"] => Place::NoKey,
            Some(Value::String(value)) => Place::Slot(slot(prefix, &value)),
            Some(Value::Number(number)) if number.as_f64().is_some_and(|n| n.fract() == 0.0) => {
                let digits = format!("{:.0}", number.as_f64().unwrap());
                Place::Slot(slot(prefix, &digits))
            }
            _ => Place::Slot(0),
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
        for (users, contexts, is_in) in
            [("included", "includedContexts", true), ("excluded", "excludedContexts", false)]
        {
            let has = |kind: &str, keys: &[Value]| {
                let key = self.part(or_user(kind)).and_then(|part| part.get("key"));
                key.is_some_and(|key| keys.contains(key))
            };
            let in_context = |each: &Value| has(text(each, "contextKind"), list(each, "values"));
            if has("user", list(segment, users)) || list(segment, contexts).iter().any(in_context) {
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
        let Some(weight) = rule["weight"].as_u64() else {
            return Ok(true);
        };
        let prefix = format!("{}.{}.", text(segment, "key"), text(segment, "salt"));
        let kind = text(rule, "rolloutContextKind");
        Ok(match self.place(&prefix, kind, text(rule, "bucketBy"))? {
            Place::NoKind => false,
            Place::NoKey => 0 < weight,
            Place::Slot(slot) => u64::from(slot) < weight,
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

fn off(flag: &Value, reason: &str) -> Step<Answer> {
    match &flag["offVariation"] {
        Value::Null => Ok(nothing(reason)),
        index => variation(flag, index, reason),
    }
}

fn variation(flag: &Value, index: &Value, reason: &str) -> Step<Answer> {
    let index = index.as_u64().and_then(|index| usize::try_from(index).ok()).ok_or(MALFORMED)?;
    let found = list(flag, "variations").get(index).ok_or(MALFORMED)?;
    Ok((found["value"].clone(), Some(index), reason.to_owned()))
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

fn holds(op: &str, left: &Value, right: &Value) -> bool {
    let texts = |holds: fn(&str, &str) -> bool| {
        left.as_str().zip(right.as_str()).is_some_and(|(left, right)| holds(left, right))
    };
    let numbers = |holds: fn(&f64, &f64) -> bool| {
        left.as_f64().zip(right.as_f64()).is_some_and(|(left, right)| holds(&left, &right))
    };
    match op {
        "in" => with_floats(left) == with_floats(right),
        "startsWith" => texts(|left, right| left.starts_with(right)),
        "endsWith" => texts(|left, right| left.ends_with(right)),
        "contains" => texts(|left, right| left.contains(right)),
        "matches" => texts(|left, right| Regex::new(right).is_ok_and(|regex| regex.is_match(left))),
        "lessThan" => numbers(f64::lt),
        "lessThanOrEqual" => numbers(f64::le),
        "greaterThan" => numbers(f64::gt),
        "greaterThanOrEqual" => numbers(f64::ge),
        _ => false,
    }
}

/// The value with every number written as a float, so that equal numbers are equal.
fn with_floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_floats).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), with_floats(value))).collect()
        }
        other => other.clone(),
    }
}
