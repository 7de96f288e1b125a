//! Where LaunchDarkly's Rust library is known to differ from its Go one, which is the norm, each with the reason.
//!
//! An exception changes data so that the Rust library comes to the answer that is right. That makes it precise: a difference that
//! is still there afterwards has another cause.

use crate::ours::Ours;
use crate::theirs::Theirs;
use crate::world::World;
use serde_json::Value;
use serde_json::json;

/// A known difference.
pub(crate) struct Exception {
    pub(crate) name: &'static str,
    pub(crate) why: &'static str,
    /// Changes the environment and the context for which the flag with this key is evaluated.
    pub(crate) apply: fn(&mut World, &mut Value, &str, &Ours),
}

/// Those that are cheap to apply come first.
pub(crate) const EXCEPTIONS: &[Exception] = &[
    Exception {
        name: "share of a kind that is missing",
        why: "Go lets nobody in, Rust everybody if the share is not empty",
        apply: empty_shares_of_missing_kinds,
    },
    Exception {
        name: "several targets of one variation",
        why: "for an entry without values, Go looks at the first user target of its variation, Rust at all",
        apply: keep_first_targets,
    },
    Exception {
        name: "points in time",
        why: "Go and chrono read other texts beyond RFC 3339",
        apply: rewrite_times,
    },
    Exception {
        name: "numbers as times beyond the year 255,000",
        why: "Rust has no such times",
        apply: cap_times,
    },
    Exception {
        name: "limits of patterns",
        why: "patterns are bounded here, so that none can cost much memory",
        apply: forbid_large_patterns,
    },
    Exception {
        name: "unknown kind of rollout",
        why: "Go takes it for a plain rollout, Rust for malformed",
        apply: forget_unknown_kinds,
    },
    Exception {
        name: "empty bucketBy",
        why: "Go takes it for absent, Rust for malformed",
        apply: forget_empty_bucket_by,
    },
    Exception {
        name: "whole numbers beyond 2^53 as bucketBy",
        why: "Go hashes their digits, Rust nothing",
        apply: write_digits,
    },
    Exception {
        name: "anonymous is null",
        why: "Go refuses such a context unless it is an old user, Rust does not",
        apply: refuse_null_anonymous,
    },
    Exception {
        name: "unbounded segments",
        why: "Rust reads their lists, which are elsewhere, and says nothing of what it lacks",
        apply: empty_unbounded_segments,
    },
    Exception {
        name: "bad variation of a prerequisite",
        why: "Go says PREREQUISITE_FAILED, Rust MALFORMED_FLAG",
        apply: turn_off_bad_prerequisites,
    },
    Exception {
        name: "failed prerequisite that is asked for again",
        why: "Rust keeps it on its list of flags in progress, and so finds a circle",
        apply: settle_failed_prerequisites,
    },
];

/// Texts that may be points in time, each with one that every library reads as Go reads it.
pub(crate) const TIMES: &[(&str, &str)] = &[
    ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
    ("2024-02-29t12:00:00.000000001z", "2024-02-29T12:00:00.000000001Z"),
    ("2024-02-29T13:30:00+01:30", "2024-02-29T12:00:00Z"),
    ("2024-02-28T21:00:00-15:00", "2024-02-29T12:00:00Z"),
    ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
    ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
    ("2024-02-29", NO_TIME),
    ("2024-02-29T12:00Z", NO_TIME),
    ("2024-02-29T12:00:00", NO_TIME),
    ("2024-13-01T00:00:00Z", NO_TIME),
    ("1709208000000", NO_TIME),
    // Only Go reads these,
    ("2024-02-31T00:00:00Z", "2024-03-02T00:00:00Z"),
    ("2024-03-02T0:00:00-00:00", "2024-03-02T00:00:00Z"),
    ("2024-02-25T09:00:00-99:00", "2024-02-29T12:00:00Z"),
    ("2024-02-29T11:59:60Z", "2024-02-29T12:00:00Z"),
    // and only chrono these.
    ("2024-02-29 12:00:00Z", NO_TIME),
    ("2024-02-29T12:00:00.0123456789Z", NO_TIME),
];
const NO_TIME: &str = "never";

/// A pattern that is nested deeper than patterns may be here.
pub(crate) const NESTED_PATTERN: &str =
    "((((((((((((((((((((((((((((((((((((((((a))))))))))))))))))))))))))))))))))))))))";

/// An answer as the Rust library gives it, which has no word for what it lacks.
pub(crate) fn without_big_segments(answer: &Value) -> Value {
    let mut answer = answer.clone();
    if let Some(reason) = answer["reason"].as_object_mut() {
        reason.remove("bigSegmentsStatus");
    }
    answer
}

fn is_error(answer: &Value) -> bool {
    answer["reason"]["kind"] == "ERROR"
}

fn turn_off_bad_prerequisites(world: &mut World, context: &mut Value, key: &str, ours: &Ours) {
    let original = world.clone();
    let theirs = Theirs::new(world);
    for (i, flag) in world.flags.iter_mut().enumerate() {
        let own = flag["key"].as_str().unwrap().to_owned();
        let answers = [ours.answer(&own, context), theirs.answer(&own, context)];
        if own == key || !answers.iter().all(is_error) {
            continue;
        }
        // It is malformed only in what it serves if it is not with other things to serve.
        let mut mended = original.clone();
        let mended_flag = &mut mended.flags[i];
        let serves_nothing = |serve: &Value| {
            let slices = serve["rollout"]["variations"].as_array();
            serve["variation"].is_null() && slices.is_none_or(Vec::is_empty)
        };
        for_each_field(mended_flag, &mut |name, field| {
            if name == "variation" || (name == "offVariation" && !field.is_null()) {
                *field = json!(0);
            }
            if name == "bucketBy" {
                *field = json!("key");
            }
        });
        let serves = mended_flag["rules"].as_array_mut().unwrap().iter_mut();
        serves.filter(|rule| serves_nothing(rule)).for_each(|rule| rule["variation"] = json!(0));
        if serves_nothing(&mended_flag["fallthrough"]) {
            mended_flag["fallthrough"] = json!({"variation": 0});
        }
        if !is_error(&Ours::new(&mended).answer(&own, context)) {
            flag["on"] = json!(false);
            flag["offVariation"] = json!(null);
        }
    }
}

fn settle_failed_prerequisites(world: &mut World, context: &mut Value, key: &str, ours: &Ours) {
    let theirs = Theirs::new(world);
    for flag in &mut world.flags {
        let own = flag["key"].as_str().unwrap().to_owned();
        let answer = without_big_segments(&ours.answer(&own, context));
        let has_failed = answer["reason"]["kind"] == "PREREQUISITE_FAILED";
        // By itself it must be as it is here, or the cause of the difference is another.
        if own == key || !has_failed || answer != theirs.answer(&own, context) {
            continue;
        }
        // It serves its off variation, as one does that has nothing else to serve.
        for name in ["prerequisites", "targets", "contextTargets", "rules"] {
            flag[name] = json!([]);
        }
        flag["on"] = json!(!answer["variationIndex"].is_null());
        flag["fallthrough"] = json!({"variation": answer["variationIndex"]});
    }
}

fn keep_first_targets(world: &mut World, _: &mut Value, _: &str, _: &Ours) {
    for flag in &mut world.flags {
        if flag["contextTargets"].as_array().is_some_and(Vec::is_empty) {
            continue;
        }
        let mut seen = Vec::new();
        flag["targets"].as_array_mut().unwrap().retain(|target| {
            let is_first = !seen.contains(&target["variation"]);
            seen.push(target["variation"].clone());
            is_first
        });
    }
}

fn rewrite_times(world: &mut World, context: &mut Value, _: &str, _: &Ours) {
    for_each_time(world, context, &mut |time| {
        if let Some((_, plain)) = TIMES.iter().find(|(text, _)| time == text) {
            *time = json!(plain);
        }
    });
}

fn cap_times(world: &mut World, context: &mut Value, _: &str, _: &Ours) {
    for_each_time(world, context, &mut |time| match time.as_f64() {
        Some(9e15) => *time = json!(8.0e15),
        Some(1e300) => *time = json!(8.1e15),
        _ => {}
    });
}

fn forbid_large_patterns(world: &mut World, _: &mut Value, _: &str, _: &Ours) {
    for_each_clause(world, &mut |clause| {
        let is_pattern = clause["op"] == "matches";
        let values = clause["values"].as_array_mut().unwrap().iter_mut();
        for value in values.filter(|value| is_pattern && **value == NESTED_PATTERN) {
            *value = json!("(");
        }
    });
}

fn forget_unknown_kinds(world: &mut World, _: &mut Value, _: &str, _: &Ours) {
    each_rollout(world, |rollout| {
        if rollout.get("kind").is_some_and(|kind| kind == "novel") {
            rollout["kind"] = json!("rollout");
        }
    });
}

fn forget_empty_bucket_by(world: &mut World, _: &mut Value, _: &str, _: &Ours) {
    each_rollout(world, |rollout| {
        if rollout.get("bucketBy").is_some_and(|name| name == "") {
            rollout["bucketBy"] = json!(null);
        }
    });
}

fn write_digits(_: &mut World, context: &mut Value, _: &str, _: &Ours) {
    for_each_field(context, &mut |name, value| {
        if name == "account" && value.as_f64().is_some_and(|number| number > 9e15) {
            *value = json!(format!("{:.0}", value.as_f64().unwrap()));
        }
    });
}

fn refuse_null_anonymous(_: &mut World, context: &mut Value, _: &str, _: &Ours) {
    if context.get("kind").is_some() {
        for_each_field(context, &mut |name, value| {
            if name == "anonymous" && value.is_null() {
                *value = json!(0);
            }
        });
    }
}

fn empty_unbounded_segments(world: &mut World, context: &mut Value, _: &str, _: &Ours) {
    for segment in &mut world.segments {
        if segment.get("unbounded").is_none() {
            continue;
        }
        for name in ["included", "excluded", "includedContexts", "excludedContexts"] {
            segment[name] = json!([]);
        }
        let kind = segment["unboundedContextKind"].as_str().unwrap();
        if segment["generation"].is_null() || !has_kind(context, kind) {
            segment["rules"] = json!([]);
        }
    }
}

fn empty_shares_of_missing_kinds(world: &mut World, context: &mut Value, _: &str, _: &Ours) {
    for segment in &mut world.segments {
        for rule in segment["rules"].as_array_mut().unwrap() {
            let kind = rule.get("rolloutContextKind").and_then(Value::as_str).unwrap_or("user");
            if rule.get("weight").is_some() && !has_kind(context, kind) {
                rule["weight"] = json!(0);
            }
        }
    }
}

fn has_kind(context: &Value, kind: &str) -> bool {
    let own = context.get("kind").and_then(Value::as_str).unwrap_or("user");
    own == kind || (own == "multi" && context.get(kind).is_some())
}

/// Passes every field of every object inside a value, but not what is inside the `values` of a clause.
fn for_each_field(value: &mut Value, visit: &mut impl FnMut(&str, &mut Value)) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_field(item, visit)),
        Value::Object(fields) => {
            for (name, field) in fields.iter_mut() {
                visit(name, field);
                if name != "values" {
                    for_each_field(field, visit);
                }
            }
        }
        _ => {}
    }
}

/// Passes every object that divides contexts: rollouts, and rules of segments.
fn each_rollout(world: &mut World, mut visit: impl FnMut(&mut Value)) {
    for whole in world.flags.iter_mut().chain(&mut world.segments) {
        for_each_field(whole, &mut |name, field| match name {
            "rollout" if field.is_object() => visit(field),
            "rules" => field.as_array_mut().unwrap().iter_mut().for_each(&mut visit),
            _ => {}
        });
    }
}

fn for_each_clause(world: &mut World, visit: &mut impl FnMut(&mut Value)) {
    for whole in world.flags.iter_mut().chain(&mut world.segments) {
        for_each_field(whole, &mut |name, field| {
            if name == "clauses" {
                field.as_array_mut().unwrap().iter_mut().for_each(&mut *visit);
            }
        });
    }
}

/// Passes everything that may be compared as a point in time.
fn for_each_time(world: &mut World, context: &mut Value, visit: &mut impl FnMut(&mut Value)) {
    let mut deep = |value: &mut Value| match value {
        Value::Array(items) => items.iter_mut().for_each(&mut *visit),
        single => visit(single),
    };
    for_each_clause(world, &mut |clause| {
        if ["before", "after"].contains(&clause["op"].as_str().unwrap()) {
            clause["values"].as_array_mut().unwrap().iter_mut().for_each(&mut deep);
        }
    });
    for_each_field(context, &mut |name, field| {
        if name == "at" {
            deep(field);
        }
    });
}
