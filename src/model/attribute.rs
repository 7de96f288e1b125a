//! References to a context's attributes, and what they find.
//!
//! How a context stores its attributes is in `context`.

use crate::model::imprint::Imprint;
use serde_json::Value;
use std::fmt;

/// An attribute's value, borrowed from a context; never `null`, which counts as absent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attribute<'a> {
    /// A text.
    Text(&'a str),
    /// A number, as LaunchDarkly compares and hashes numbers: in double precision.
    Number(f64),
    /// `true` or `false`.
    Bool(bool),
    /// Any element of it may be what is looked for.
    Array(&'a [Value]),
    /// An object.
    Object(&'a Value),
}

impl<'a> Attribute<'a> {
    /// Looks at a JSON value; `None` for `null`.
    pub fn new(value: &'a Value) -> Option<Self> {
        match value {
            Value::Null => None,
            Value::String(text) => Some(Self::Text(text)),
            Value::Number(number) => number.as_f64().map(Self::Number),
            Value::Bool(value) => Some(Self::Bool(*value)),
            Value::Array(items) => Some(Self::Array(items)),
            Value::Object(_) => Some(Self::Object(value)),
        }
    }

    /// The value as JSON.
    pub fn to_json(self) -> Value {
        match self {
            Self::Text(text) => Value::from(text),
            Self::Number(number) => whole(number).map_or_else(|| Value::from(number), Value::from),
            Self::Bool(value) => Value::from(value),
            Self::Array(items) => Value::from(items),
            Self::Object(value) => value.clone(),
        }
    }
}

/// The number as an integer, if it is whole and within 64 bits.
pub(crate) fn whole(number: f64) -> Option<i64> {
    /// 2^63, the first whole number that is too large.
    const TOO_LARGE: f64 = 9_223_372_036_854_775_808.0;
    let is_whole = number.fract() == 0.0 && (-TOO_LARGE..TOO_LARGE).contains(&number);
    #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range of i64")]
    is_whole.then_some(number as i64)
}

/// Which attribute is meant: a plain name or a path into nested objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeRef {
    pub(crate) root: Root,
    /// The steps below it.
    pub(crate) path: Vec<String>,
}

/// Where a reference begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Root {
    Key,
    Kind,
    Anonymous,
    Name { imprint: Imprint, name: String },
}

impl AttributeRef {
    /// The context's key.
    pub const KEY: Self = Self { root: Root::Key, path: Vec::new() };

    /// A plain name, whatever characters it has.
    pub fn literal(name: &str) -> Self {
        let root = match name {
            "key" => Root::Key,
            "kind" => Root::Kind,
            "anonymous" => Root::Anonymous,
            _ => Root::Name { imprint: Imprint::new(name), name: name.to_owned() },
        };
        Self { root, path: Vec::new() }
    }

    /// Reads a reference: a plain name, or a path that starts with `/` in which `~1` is `/` and `~0` is `~`.
    ///
    /// Returns `None` if it is not a reference: empty, an empty step, or another character after `~`.
    ///
    /// Source: LaunchDarkly's attribute reference syntax.
    pub fn parse(text: &str) -> Option<Self> {
        let Some(path) = text.strip_prefix('/') else {
            return (!text.is_empty()).then(|| Self::literal(text));
        };
        let mut steps = path.split('/').map(decode_step);
        let mut reference = Self::literal(&steps.next()??);
        reference.path = steps.collect::<Option<_>>()?;
        Some(reference)
    }
}

impl fmt::Display for AttributeRef {
    /// Writes it so that it could be read again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = match &self.root {
            Root::Key => "key",
            Root::Kind => "kind",
            Root::Anonymous => "anonymous",
            Root::Name { name, .. } => name,
        };
        if self.path.is_empty() && !root.starts_with('/') {
            return f.write_str(root);
        }
        for step in std::iter::once(root).chain(self.path.iter().map(String::as_str)) {
            write!(f, "/{}", step.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

fn decode_step(step: &str) -> Option<String> {
    if step.is_empty() {
        return None;
    }
    let mut decoded = String::with_capacity(step.len());
    let mut chars = step.chars();
    while let Some(c) = chars.next() {
        decoded.push(match c {
            '~' => match chars.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(decoded)
}
