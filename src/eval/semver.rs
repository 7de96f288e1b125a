//! Semantic versions as the `semVer…` operators compare them.
// HOT: no allocation.

use std::cmp::Ordering;

/// A semantic version; build metadata is checked and then forgotten, because it has no part in the order.
///
/// `pre` is the pre-release part, empty if there is none: borrowed from a context, owned in a clause.
#[derive(Debug, Clone)]
pub(crate) struct Version<S> {
    core: [u64; 3],
    pre: S,
}

impl<'a> Version<&'a str> {
    /// Reads a version, of which minor and patch may be missing (`2`, `2.1-rc.1`) and then are 0.
    ///
    /// Leading zeros, a `v` before it, a fourth number and spaces are refused.
    ///
    /// Source: Semantic Versioning 2.0.0; LaunchDarkly's SDKs admit missing parts.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (text, build) = cut(text, '+');
        let (numbers, pre) = cut(text, '-');
        if build.is_some_and(|build| !build.split('.').all(is_identifier)) {
            return None;
        }
        let is_allowed =
            |part: &str| is_identifier(part) && !(is_number(part) && has_leading_zero(part));
        if pre.is_some_and(|pre| !pre.split('.').all(is_allowed)) {
            return None;
        }
        let mut core = [0; 3];
        let mut parts = numbers.split('.');
        for (i, number) in core.iter_mut().enumerate() {
            match parts.next() {
                Some(part) => *number = parse_number(part)?,
                None if i > 0 => break,
                None => return None,
            }
        }
        parts.next().is_none().then_some(Self { core, pre: pre.unwrap_or_default() })
    }

    /// Keeps the version beyond the text that it was read from.
    pub(crate) fn to_owned(&self) -> Version<String> {
        Version { core: self.core, pre: self.pre.to_owned() }
    }
}

impl<S: AsRef<str>> Version<S> {
    /// Compares by precedence.
    pub(crate) fn compare<T: AsRef<str>>(&self, other: &Version<T>) -> Ordering {
        self.core.cmp(&other.core).then_with(|| compare_pre(self.pre.as_ref(), other.pre.as_ref()))
    }
}

/// What stands before the first `separator`, and what after it.
fn cut(text: &str, separator: char) -> (&str, Option<&str>) {
    text.split_once(separator).map_or((text, None), |(before, after)| (before, Some(after)))
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn is_number(part: &str) -> bool {
    part.bytes().all(|b| b.is_ascii_digit())
}

fn has_leading_zero(part: &str) -> bool {
    part.len() > 1 && part.starts_with('0')
}

/// Reads a number that fits 64 bits.
fn parse_number(part: &str) -> Option<u64> {
    // `parse` alone would admit a sign.
    if is_number(part) && !has_leading_zero(part) { part.parse().ok() } else { None }
}

/// A version without a pre-release part comes after one with it; identifiers are compared one by one, numbers before texts.
fn compare_pre(left: &str, right: &str) -> Ordering {
    match (left.is_empty(), right.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut lefts, mut rights) = (left.split('.'), right.split('.'));
    loop {
        let order = match (lefts.next(), rights.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(left), Some(right)) => compare_identifiers(left, right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn compare_identifiers(left: &str, right: &str) -> Ordering {
    match (is_number(left), is_number(right)) {
        // Without leading zeros the longer number is the larger one, however long they are.
        (true, true) => left.len().cmp(&right.len()).then_with(|| left.cmp(right)),
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => left.cmp(right),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precedence_is_that_of_the_specification() {
        let ascending = [
            "0",
            "0.0.1",
            "0.1",
            "1.0.0-0",
            "1.0.0-9",
            "1.0.0-10",
            "1.0.0-18446744073709551616",
            "1.0.0--",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1",
            "1.0.1",
            "1.2",
            "1.10",
            "2-rc.1",
            "2",
            "18446744073709551615",
        ];
        for (i, left) in ascending.iter().enumerate() {
            for (j, right) in ascending.iter().enumerate() {
                let order = Version::parse(left).unwrap().compare(&Version::parse(right).unwrap());
                assert_eq!(order, i.cmp(&j), "{left} {right}");
            }
        }
    }

    #[test]
    fn missing_parts_are_zero_and_build_metadata_does_not_count() {
        let two = Version::parse("2.0.0").unwrap();
        for same in ["2", "2.0", "2+build", "2.0+1.2", "2.0.0+0-0.x", "2.0.0+01"] {
            assert_eq!(Version::parse(same).unwrap().compare(&two), Ordering::Equal, "{same}");
        }
    }

    #[test]
    fn other_texts_are_no_versions() {
        for bad in [
            "",
            " 2",
            "2 ",
            "v2",
            "2.",
            ".2",
            "2..1",
            "02",
            "2.01",
            "1.2.3.4",
            "2-",
            "2-a..b",
            "2-01",
            "2+",
            "2+a..b",
            "2-ä",
            "+2",
            "-2",
            "2.x",
            "2_1",
            "2.1.",
            "18446744073709551616",
        ] {
            assert!(Version::parse(bad).is_none(), "{bad}");
        }
    }
}
