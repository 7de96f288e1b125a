//! Clauses: one test of one attribute, compiled once and matched many times.
// HOT: matching allocates nothing, builds no pattern, writes no log.

use crate::eval::evaluate::Evaluation;
use crate::eval::evaluate::Visited;
use crate::eval::outcome::ErrorKind;
use crate::model::context::Attribute;
use crate::model::context::AttributeRef;
use crate::model::key::SegmentKey;
use crate::model::limit::PATTERN_COMPILED_BYTES_MAX;
use crate::model::limit::PATTERN_NEST_MAX;
use crate::model::rule::Clause;
use crate::model::rule::USER_KIND;
use regex::Regex;
use serde_json::Value;
use std::collections::HashSet;

/// The names of the operators that a clause may have.
pub const OPERATORS: &[&str] = &[
    "in",
    "startsWith",
    "endsWith",
    "contains",
    "matches",
    "lessThan",
    "lessThanOrEqual",
    "greaterThan",
    "greaterThanOrEqual",
    "segmentMatch",
];

/// A clause that is ready to be matched.
#[derive(Debug)]
pub(crate) enum CompiledClause {
    /// Matches if the context is in any of the segments.
    Segment {
        /// The segments, in order.
        keys: Vec<SegmentKey>,
        /// Inverts the result.
        negate: bool,
    },
    /// Matches if the test holds for any kind of the context.
    Kind {
        /// What is tested.
        test: Test,
        /// Inverts the result.
        negate: bool,
    },
    /// Matches if the test holds for the attribute, or for any element of it if it is an array.
    Attribute {
        /// The kind of the context that has the attribute.
        kind: String,
        /// Which attribute.
        attribute: AttributeRef,
        /// What is tested.
        test: Test,
        /// Inverts the result.
        negate: bool,
    },
    /// The attribute is not a reference: reaching the clause makes the flag malformed.
    Malformed,
}

/// An operator with its values, made ready.
#[derive(Debug)]
pub(crate) enum Test {
    /// Equal to any of the values.
    In(ValueSet),
    /// Text that starts with any.
    StartsWith(Vec<String>),
    /// Text that ends with any.
    EndsWith(Vec<String>),
    /// Text that contains any.
    Contains(Vec<String>),
    /// Text in which any pattern is found, anywhere.
    Matches(Vec<Regex>),
    /// Number in relation to any.
    Compare(Comparison, Vec<f64>),
    /// Never holds: an operator that nobody knows.
    Never,
}

/// How two numbers are compared: the context's on the left, the clause's on the right.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Values to be equal to; texts, which are the usual case, in a set.
#[derive(Debug)]
pub(crate) struct ValueSet {
    texts: HashSet<String>,
    others: Vec<Value>,
}

/// Builds a pattern within the limits on patterns.
///
/// # Errors
///
/// Whatever the `regex` crate says, in one line.
pub(crate) fn build_pattern(pattern: &str) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_COMPILED_BYTES_MAX)
        .nest_limit(PATTERN_NEST_MAX)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            // A syntax error comes with a drawing of several lines; the last one says what is wrong.
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
}

impl CompiledClause {
    pub(crate) fn new(clause: &Clause) -> Self {
        let negate = clause.negate;
        let texts = || clause.values.iter().filter_map(Value::as_str);
        if clause.op == "segmentMatch" {
            return Self::Segment { keys: texts().map(SegmentKey::stored).collect(), negate };
        }
        let attribute = if clause.context_kind.is_empty() {
            (!clause.attribute.is_empty()).then(|| AttributeRef::literal(&clause.attribute))
        } else {
            AttributeRef::parse(&clause.attribute)
        };
        let Some(attribute) = attribute else {
            return Self::Malformed;
        };
        let test = Test::new(clause);
        if attribute == AttributeRef::literal("kind") {
            return Self::Kind { test, negate };
        }
        let kind = if clause.context_kind.is_empty() { USER_KIND } else { &clause.context_kind };
        Self::Attribute { kind: kind.to_owned(), attribute, test, negate }
    }

    /// Whether the clause matches.
    ///
    /// # Errors
    ///
    /// The clause, or a segment that it refers to, is malformed.
    pub(crate) fn matches(
        &self,
        evaluation: &Evaluation<'_>,
        visited: Option<&Visited<'_>>,
    ) -> Result<bool, ErrorKind> {
        match self {
            Self::Malformed => Err(ErrorKind::MalformedFlag),
            Self::Segment { keys, negate } => {
                for key in keys {
                    if evaluation.is_in_segment(key, visited)? {
                        return Ok(!negate);
                    }
                }
                Ok(*negate)
            }
            Self::Kind { test, negate } => {
                let kinds = evaluation.context.kinds();
                let holds = kinds.iter().any(|each| test.holds(Attribute::Text(&each.kind)));
                Ok(holds != *negate)
            }
            Self::Attribute { kind, attribute, test, negate } => {
                let found =
                    evaluation.context.kind(kind).and_then(|each| each.attribute(attribute));
                // An absent attribute matches nothing, not even when negated.
                Ok(found.is_some_and(|value| test.holds_for_any(value) != *negate))
            }
        }
    }
}

impl Test {
    fn new(clause: &Clause) -> Self {
        let texts = || clause.values.iter().filter_map(Value::as_str);
        let owned = || texts().map(str::to_owned).collect();
        let numbers = || clause.values.iter().filter_map(Value::as_f64).collect();
        match clause.op.as_str() {
            "in" => Self::In(ValueSet::new(&clause.values)),
            "startsWith" => Self::StartsWith(owned()),
            "endsWith" => Self::EndsWith(owned()),
            "contains" => Self::Contains(owned()),
            // A pattern that cannot be built matches nothing; writing one is refused.
            "matches" => Self::Matches(texts().filter_map(|p| build_pattern(p).ok()).collect()),
            "lessThan" => Self::Compare(Comparison::Less, numbers()),
            "lessThanOrEqual" => Self::Compare(Comparison::LessOrEqual, numbers()),
            "greaterThan" => Self::Compare(Comparison::Greater, numbers()),
            "greaterThanOrEqual" => Self::Compare(Comparison::GreaterOrEqual, numbers()),
            _ => Self::Never,
        }
    }

    fn holds_for_any(&self, attribute: Attribute<'_>) -> bool {
        match attribute {
            Attribute::Json(Value::Array(items)) => {
                items.iter().any(|item| self.holds(Attribute::Json(item)))
            }
            single => self.holds(single),
        }
    }

    fn holds(&self, attribute: Attribute<'_>) -> bool {
        let text = match attribute {
            Attribute::Text(text) => Some(text),
            Attribute::Json(value) => value.as_str(),
        };
        let number = match attribute {
            Attribute::Text(_) => None,
            Attribute::Json(value) => value.as_f64(),
        };
        match self {
            Self::In(set) => set.contains(attribute),
            Self::StartsWith(all) => text.is_some_and(|t| all.iter().any(|v| t.starts_with(v))),
            Self::EndsWith(all) => text.is_some_and(|t| all.iter().any(|v| t.ends_with(v))),
            Self::Contains(all) => text.is_some_and(|t| all.iter().any(|v| t.contains(v))),
            Self::Matches(all) => text.is_some_and(|t| all.iter().any(|p| p.is_match(t))),
            Self::Compare(comparison, all) => {
                number.is_some_and(|n| all.iter().any(|v| comparison.holds(n, *v)))
            }
            Self::Never => false,
        }
    }
}

impl Comparison {
    fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

impl ValueSet {
    fn new(values: &[Value]) -> Self {
        let (texts, others): (Vec<_>, Vec<_>) = values.iter().partition(|value| value.is_string());
        Self {
            texts: texts.into_iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            others: others.into_iter().cloned().collect(),
        }
    }

    fn contains(&self, attribute: Attribute<'_>) -> bool {
        match attribute {
            Attribute::Text(text) => self.texts.contains(text),
            Attribute::Json(Value::String(text)) => self.texts.contains(text.as_str()),
            Attribute::Json(value) => self.others.iter().any(|other| is_equal(other, value)),
        }
    }
}

/// Deep equality in which `1` equals `1.0`, but `"1"` and `true` do not equal `1`.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || l.as_f64() == r.as_f64(),
        (Value::Array(l), Value::Array(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| is_equal(l, r))
        }
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len()
                && l.iter().all(|(key, l)| r.get(key).is_some_and(|r| is_equal(l, r)))
        }
        _ => left == right,
    }
}
