//! Two values and an operator between them, the naive way: patterns and a calendar where the evaluator reads by hand.

use jiff::civil::date;
use regex::Captures;
use regex::Regex;
use serde_json::Value;
use serde_json::json;
use std::cmp::Ordering;
use std::sync::LazyLock;

/// Source: LaunchDarkly's Go SDK, which admits a little more than RFC 3339.
static TIME: LazyLock<Regex> = LazyLock::new(|| {
    let time = r"^(\d{4})-(\d\d)-(\d\d)[Tt](\d{1,2}):(\d\d):(\d\d)(?:\.(\d{1,9}))?";
    let zone = r"(?:[Zz]|([+-])(\d\d):(\d\d))$";
    ascii(&format!("{time}{zone}"))
});

/// Source: the pattern that semver.org recommends, with a minor and a patch that may be missing.
static VERSION: LazyLock<Regex> = LazyLock::new(|| {
    let number = r"(0|[1-9]\d*)";
    let part = r"(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)";
    let build = r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?";
    let core = format!(r"^{number}(?:\.{number}(?:\.{number})?)?");
    ascii(&format!(r"{core}(?:-({part}(?:\.{part})*))?{build}$"))
});

/// A pattern whose digits are those of ASCII.
fn ascii(pattern: &str) -> Regex {
    Regex::new(&pattern.replace(r"\d", "[0-9]")).unwrap()
}

/// Whether an operator holds between a context's value and one of a clause.
pub(super) fn holds(op: &str, left: &Value, right: &Value) -> bool {
    let texts = |holds: fn(&str, &str) -> bool| {
        left.as_str().zip(right.as_str()).is_some_and(|(left, right)| holds(left, right))
    };
    let numbers = |holds: fn(&f64, &f64) -> bool| {
        left.as_f64().zip(right.as_f64()).is_some_and(|(left, right)| holds(&left, &right))
    };
    let times = |order| time(left).zip(time(right)).is_some_and(|(l, r)| l.cmp(&r) == order);
    let versions = |order| {
        let both = left.as_str().and_then(version).zip(right.as_str().and_then(version));
        both.is_some_and(|(left, right)| left.cmp(&right) == order)
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
        "before" => times(Ordering::Less),
        "after" => times(Ordering::Greater),
        "semVerEqual" => versions(Ordering::Equal),
        "semVerLessThan" => versions(Ordering::Less),
        "semVerGreaterThan" => versions(Ordering::Greater),
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

/// Nanoseconds since 1970.
fn time(value: &Value) -> Option<i128> {
    if let Some(number) = value.as_f64() {
        let milliseconds: i128 = format!("{:.0}", number.trunc()).parse().unwrap();
        return Some(milliseconds * 1_000_000);
    }
    let captures = TIME.captures(value.as_str()?)?;
    let [year, month, day, hour, minute, second] =
        [1, 2, 3, 4, 5, 6].map(|i| number::<i64>(&captures, i));
    let [zone_hours, zone_minutes] = [9, 10].map(|i| number::<i64>(&captures, i));
    let is_past = [(day, 31), (hour, 23), (minute, 59), (second, 60), (zone_minutes, 59)];
    if is_past.iter().any(|(value, last)| value > last) || day == 0 {
        return None;
    }
    // A day that its month does not have is one of the next month.
    let first = jiff::civil::Date::new(year.try_into().ok()?, month.try_into().ok()?, 1).ok()?;
    let days = first.duration_since(date(1970, 1, 1)).as_hours() / 24 + day - 1;
    let sign = if captures.get(8).is_some_and(|sign| sign.as_str() == "-") { 1 } else { -1 };
    let minutes = (days * 24 + hour + sign * zone_hours) * 60 + minute + sign * zone_minutes;
    let digits = captures.get(7).map_or("", |fraction| fraction.as_str());
    let nanos: i128 = format!("{digits:0<9}").parse().unwrap();
    Some(i128::from(minutes * 60 + second) * 1_000_000_000 + nanos)
}

/// The number of a group; 0 if it is not there.
fn number<T: std::str::FromStr + Default>(captures: &Captures<'_>, group: usize) -> T {
    captures.get(group).and_then(|found| found.as_str().parse().ok()).unwrap_or_default()
}

/// One identifier of a pre-release part: numbers, which are compared by their length first, come before texts.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identifier {
    Number(usize, String),
    Text(String),
}

/// A version in the order of its precedence: what has no pre-release part comes after what has one.
type Version = ([u64; 3], bool, Vec<Identifier>);

fn version(text: &str) -> Option<Version> {
    let captures = VERSION.captures(text)?;
    let fits = |i| captures.get(i).is_none_or(|found| found.as_str().parse::<u64>().is_ok());
    if ![1, 2, 3].into_iter().all(fits) {
        return None;
    }
    let core = [1, 2, 3].map(|i| number::<u64>(&captures, i));
    let pre = captures.get(4).map(|pre| pre.as_str().split('.').map(identifier).collect());
    Some((core, pre.is_none(), pre.unwrap_or_default()))
}

fn identifier(text: &str) -> Identifier {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Identifier::Number(text.len(), text.to_owned());
    }
    Identifier::Text(text.to_owned())
}
