//! Operators with their values, made ready: patterns built, dates and versions read, values in sets, comparisons reduced to
//! the one value that decides.
// HOT: testing allocates nothing, builds no pattern, writes no log.

use crate::eval::date::Nanos;
use crate::eval::date::point_in_time;
use crate::eval::key_set::KeySet;
use crate::eval::semver::Version;
use crate::model::attribute::Attribute;
use crate::model::limit::PATTERN_EVALUATED_BYTES_MAX;
use crate::model::limit::PATTERN_NEST_MAX;
use crate::model::rule::Clause;
use regex::Regex;
use serde_json::Value;
use std::cmp::Ordering;

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
    "before",
    "after",
    "semVerEqual",
    "semVerLessThan",
    "semVerGreaterThan",
    "segmentMatch",
];

/// An operator with its values, made ready. A clause holds if its operator holds for any of its values, so for an order only
/// the largest or the smallest value counts.
#[derive(Debug)]
pub(crate) enum Test {
    /// Equal to any of the values, all of which are texts.
    InTexts(KeySet),
    /// Equal to any of the values.
    In(Box<ValueSet>),
    StartsWith(Box<[Box<str>]>),
    EndsWith(Box<[Box<str>]>),
    Contains(Box<[Box<str>]>),
    /// Any pattern is found, anywhere in the text.
    Matches(Box<[Regex]>),
    Less(f64),
    LessOrEqual(f64),
    Greater(f64),
    GreaterOrEqual(f64),
    Before(Nanos),
    After(Nanos),
    /// Of one precedence with any.
    SemVerEqual(Box<[Version<String>]>),
    SemVerLess(Box<Version<String>>),
    SemVerGreater(Box<Version<String>>),
    /// Never holds: an operator that nobody knows, or no value that makes sense for it.
    Never,
}

/// Values to be equal to, of any type.
#[derive(Debug)]
pub(crate) struct ValueSet {
    texts: KeySet,
    /// Sorted.
    numbers: Vec<f64>,
    others: Vec<Value>,
}

/// Builds a pattern that compiles to at most `bytes_max` bytes, within the other limits on patterns.
///
/// # Errors
///
/// Whatever the `regex` crate says, in one line.
pub(crate) fn build_pattern(pattern: &str, bytes_max: usize) -> Result<Regex, String> {
    regex::RegexBuilder::new(pattern)
        .size_limit(bytes_max)
        .nest_limit(PATTERN_NEST_MAX)
        .build()
        .map_err(|error| {
            let text = error.to_string();
            // A syntax error comes with a drawing of several lines; the last one says what is wrong.
            text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
        })
}

impl Test {
    pub(crate) fn new(clause: &Clause) -> Self {
        let texts = || clause.values.iter().filter_map(Value::as_str);
        let boxed = || texts().map(Box::from).collect();
        let numbers = || clause.values.iter().filter_map(Value::as_f64);
        let largest = || numbers().max_by(f64::total_cmp);
        let smallest = || numbers().min_by(f64::total_cmp);
        let points = || clause.values.iter().filter_map(Attribute::new).filter_map(point_in_time);
        let versions = || texts().filter_map(Version::parse);
        let kept = |version: Version<&str>| Box::new(version.to_owned());
        let ready = match clause.op.as_str() {
            "in" if clause.values.iter().all(Value::is_string) => {
                Some(Self::InTexts(texts().collect()))
            }
            "in" => Some(Self::In(Box::new(ValueSet::new(&clause.values)))),
            "startsWith" => Some(Self::StartsWith(boxed())),
            "endsWith" => Some(Self::EndsWith(boxed())),
            "contains" => Some(Self::Contains(boxed())),
            // A pattern that cannot be built matches nothing; writing one is refused.
            "matches" => {
                let build = |pattern| build_pattern(pattern, PATTERN_EVALUATED_BYTES_MAX).ok();
                Some(Self::Matches(texts().filter_map(build).collect()))
            }
            "lessThan" => largest().map(Self::Less),
            "lessThanOrEqual" => largest().map(Self::LessOrEqual),
            "greaterThan" => smallest().map(Self::Greater),
            "greaterThanOrEqual" => smallest().map(Self::GreaterOrEqual),
            "before" => points().max().map(Self::Before),
            "after" => points().min().map(Self::After),
            "semVerEqual" => {
                Some(Self::SemVerEqual(versions().map(|version| version.to_owned()).collect()))
            }
            "semVerLessThan" => {
                versions().max_by(Version::compare).map(|version| Self::SemVerLess(kept(version)))
            }
            "semVerGreaterThan" => versions()
                .min_by(Version::compare)
                .map(|version| Self::SemVerGreater(kept(version))),
            _ => None,
        };
        ready.unwrap_or(Self::Never)
    }

    /// Whether it holds for a value, or for any element of an array.
    #[inline]
    pub(crate) fn holds_for_any(&self, attribute: Attribute<'_>) -> bool {
        match attribute {
            Attribute::Array(items) => items.iter().any(|item| {
                Attribute::new(item).map_or_else(|| self.holds_for_null(), |item| self.holds(item))
            }),
            single => self.holds(single),
        }
    }

    /// Only elements of arrays can be `null`; an attribute that is counts as absent.
    fn holds_for_null(&self) -> bool {
        matches!(self, Self::In(set) if set.others.contains(&Value::Null))
    }

    /// Whether it holds for a value as a whole.
    #[inline]
    pub(crate) fn holds(&self, attribute: Attribute<'_>) -> bool {
        match (self, attribute) {
            (Self::InTexts(set), Attribute::Text(text)) => set.contains(text),
            (Self::In(set), attribute) => set.contains(attribute),
            (Self::StartsWith(all), Attribute::Text(t)) => all.iter().any(|v| t.starts_with(&**v)),
            (Self::EndsWith(all), Attribute::Text(t)) => all.iter().any(|v| t.ends_with(&**v)),
            (Self::Contains(all), Attribute::Text(t)) => all.iter().any(|v| t.contains(&**v)),
            (Self::Matches(all), Attribute::Text(text)) => all.iter().any(|p| p.is_match(text)),
            (Self::Less(than), Attribute::Number(number)) => number < *than,
            (Self::LessOrEqual(than), Attribute::Number(number)) => number <= *than,
            (Self::Greater(than), Attribute::Number(number)) => number > *than,
            (Self::GreaterOrEqual(than), Attribute::Number(number)) => number >= *than,
            (Self::Before(than), attribute) => {
                point_in_time(attribute).is_some_and(|at| at < *than)
            }
            (Self::After(than), attribute) => point_in_time(attribute).is_some_and(|at| at > *than),
            (Self::SemVerEqual(all), Attribute::Text(text)) => Version::parse(text)
                .is_some_and(|v| all.iter().any(|each| v.compare(each) == Ordering::Equal)),
            (Self::SemVerLess(than), Attribute::Text(text)) => {
                Version::parse(text).is_some_and(|v| v.compare(than) == Ordering::Less)
            }
            (Self::SemVerGreater(than), Attribute::Text(text)) => {
                Version::parse(text).is_some_and(|v| v.compare(than) == Ordering::Greater)
            }
            _ => false,
        }
    }
}

impl ValueSet {
    fn new(values: &[Value]) -> Self {
        let mut numbers: Vec<f64> = values.iter().filter_map(Value::as_f64).collect();
        numbers.sort_unstable_by(f64::total_cmp);
        let is_other = |value: &&Value| !value.is_string() && !value.is_number();
        Self {
            texts: values.iter().filter_map(Value::as_str).collect(),
            numbers,
            others: values.iter().filter(is_other).cloned().collect(),
        }
    }

    fn contains(&self, attribute: Attribute<'_>) -> bool {
        match attribute {
            Attribute::Text(text) => self.texts.contains(text),
            Attribute::Number(number) => {
                // Not by `total_cmp`, for which 0 and -0 differ.
                let start = self.numbers.partition_point(|each| *each < number);
                self.numbers.get(start).is_some_and(|each| *each == number)
            }
            Attribute::Bool(value) => self.others.iter().any(|other| *other == value),
            Attribute::Array(items) => self
                .others
                .iter()
                .any(|other| other.as_array().is_some_and(|other| are_equal(other, items))),
            Attribute::Object(object) => self.others.iter().any(|other| is_equal(other, object)),
        }
    }
}

fn are_equal(left: &[Value], right: &[Value]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_equal(left, right))
}

/// Deep equality in which `1` equals `1.0`, but `"1"` and `true` do not equal `1`.
fn is_equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => l == r || l.as_f64() == r.as_f64(),
        (Value::Array(l), Value::Array(r)) => are_equal(l, r),
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len()
                && l.iter().all(|(key, l)| r.get(key).is_some_and(|r| is_equal(l, r)))
        }
        _ => left == right,
    }
}
