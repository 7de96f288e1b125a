//! What may be *written*: the checks that compiling itself does not make, because evaluation must be total.
//!
//! A fielded SDK tells nobody that a pattern does not build or that an attribute cannot exist, so it is refused here, before
//! it is stored. Paths in the problems are relative to the thing that is checked.

use crate::eval::OPERATORS;
use crate::eval::date::point_in_time;
use crate::eval::operator::build_pattern;
use crate::eval::semver::Version;
use crate::model::attribute::Attribute;
use crate::model::attribute::AttributeRef;
use crate::model::limit::PATTERN_BYTES_MAX;
use crate::model::limit::PATTERN_COMPILED_BYTES_MAX;
use crate::model::limit::PATTERN_EVALUATED_BYTES_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use serde_json::Value;

/// Checks a clause: its operator, its attribute and each of its values.
pub fn clause(clause: &Clause, problems: &mut Problems, path: &str) {
    let at = |name: &str| format!("{path}.{name}");
    if !OPERATORS.contains(&clause.op.as_str()) {
        let known = OPERATORS.join(", ");
        let detail = format!("`{}` is not an operator; known are {known}", clause.op);
        problems.add(at("op"), "unknown_operator", detail);
        return;
    }
    let is_segment_match = clause.op == "segmentMatch";
    if !is_segment_match && AttributeRef::parse(&clause.attribute).is_none() {
        let detail = "must be an attribute's name, or a path like /address/city";
        problems.add(at("attribute"), "invalid_attribute", detail);
    }
    if clause.values.is_empty() {
        problems.add(at("values"), "required", "must have at least one value");
    }
    for (i, value) in clause.values.iter().enumerate() {
        if let Some((code, detail)) = value_problem(&clause.op, value) {
            problems.add(format!("{path}.values[{i}]"), code, detail);
        }
    }
}

fn value_problem(op: &str, value: &Value) -> Option<(&'static str, String)> {
    let wrong = |wanted: &str| {
        Some(("value_type", format!("the values of `{op}` must be {wanted}, got {value}")))
    };
    match op {
        "startsWith" | "endsWith" | "contains" if !value.is_string() => wrong("strings"),
        "segmentMatch" if !value.is_string() => wrong("keys of segments"),
        "lessThan" | "lessThanOrEqual" | "greaterThan" | "greaterThanOrEqual"
            if !value.is_number() =>
        {
            wrong("numbers")
        }
        "before" | "after" if Attribute::new(value).and_then(point_in_time).is_none() => {
            wrong("times: RFC 3339 texts like \"2026-01-31T12:00:00Z\", or milliseconds since 1970")
        }
        "semVerEqual" | "semVerLessThan" | "semVerGreaterThan"
            if value.as_str().and_then(Version::parse).is_none() =>
        {
            wrong("semantic versions like \"2.1.0\"")
        }
        "matches" => match value.as_str() {
            None => wrong("strings"),
            Some(pattern) => pattern_problem(pattern),
        },
        _ => None,
    }
}

/// Tells apart what nobody can be matched by (`invalid_pattern`) and what only may not be written (`pattern_too_large`).
fn pattern_problem(pattern: &str) -> Option<(&'static str, String)> {
    if let Err(error) = build_pattern(pattern, PATTERN_EVALUATED_BYTES_MAX) {
        let detail = format!("is not a pattern of the Rust `regex` syntax: {error}");
        return Some(("invalid_pattern", detail));
    }
    if pattern.len() > PATTERN_BYTES_MAX {
        let detail = format!("a pattern must be at most {PATTERN_BYTES_MAX} bytes");
        return Some(("pattern_too_large", detail));
    }
    build_pattern(pattern, PATTERN_COMPILED_BYTES_MAX).err().map(|_| {
        let detail = format!(
            "makes a program of more than {PATTERN_COMPILED_BYTES_MAX} bytes; repeat less often, or write [0-9A-Za-z_] for \\w and [0-9] for \\d, which mean all of Unicode"
        );
        ("pattern_too_large", detail)
    })
}

/// Checks the name of an attribute by which contexts are divided.
pub fn bucket_by(bucket_by: &str, problems: &mut Problems, path: &str) {
    if !bucket_by.is_empty() && AttributeRef::parse(bucket_by).is_none() {
        let detail = "must be an attribute's name, or a path like /account/id";
        problems.add(path, "invalid_attribute", detail);
    }
}
