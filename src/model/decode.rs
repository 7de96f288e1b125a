//! Reading the fields of a JSON object so that every problem is found at once.
//!
//! A derive of serde stops at the first problem and knows no path. [`Fields`] takes fields one by one, notes what is wrong
//! with its JSON path, and at the end reports every field that nobody asked for. What the text of the JSON may be
//! (duplicates, depth) is checked before, by `strict_json`.
//!
//! A reader that finds a problem still returns a stand-in, so that the caller reads on; the caller must ask
//! [`Problems::is_empty`] before it uses anything.

use crate::model::key::KEY_RULE;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::problem::Problems;
use crate::model::problem::join;
use serde_json::Map;
use serde_json::Value;

/// The fields of one JSON object that have not been read yet.
#[derive(Debug)]
pub struct Fields<'p> {
    path: String,
    rest: Map<String, Value>,
    known: Vec<&'static str>,
    problems: &'p mut Problems,
}

/// Reads the object at `path` with `read`, which must ask for every field that is allowed.
///
/// Returns `None` if `value` is not an object; that is noted as a problem.
pub fn object<T>(
    value: Value,
    path: &str,
    problems: &mut Problems,
    read: impl FnOnce(&mut Fields<'_>) -> T,
) -> Option<T> {
    let Value::Object(rest) = value else {
        wrong_type(problems, path, "an object", &value);
        return None;
    };
    let mut fields = Fields { path: path.to_owned(), rest, known: Vec::new(), problems };
    let result = read(&mut fields);
    fields.report_unknown();
    Some(result)
}

/// Notes that the value at `path` has the wrong JSON type.
pub fn wrong_type(problems: &mut Problems, path: &str, wanted: &str, found: &Value) {
    let found = match found {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    problems.add(path, "wrong_type", format!("must be {wanted}, got {found}"));
}

impl Fields<'_> {
    /// The path of a field of this object.
    pub fn path(&self, name: &str) -> String {
        join(&self.path, name)
    }

    /// Where problems are noted, for readers of nested values.
    pub fn problems(&mut self) -> &mut Problems {
        self.problems
    }

    /// Notes a problem with the field `name`.
    pub fn refuse(&mut self, name: &str, code: &'static str, detail: impl Into<String>) {
        self.problems.add(join(&self.path, name), code, detail);
    }

    /// Whether the field is there and not `null`.
    pub fn has(&self, name: &str) -> bool {
        self.rest.get(name).is_some_and(|value| !value.is_null())
    }

    /// Looks at a field without taking it.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.rest.get(name)
    }

    /// Takes a field as it is; `null` counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.take_or_null(name).filter(|value| !value.is_null())
    }

    /// Takes a field as it is, `null` included.
    pub fn take_or_null(&mut self, name: &'static str) -> Option<Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        // Keeps the order of the rest, in which unknown fields are reported.
        self.rest.shift_remove(name)
    }

    /// Takes a text of at most `chars_max` characters, if the field is there.
    pub fn text(&mut self, name: &'static str, chars_max: usize) -> Option<String> {
        match self.take(name)? {
            Value::String(text) if text.chars().count() <= chars_max => Some(text),
            Value::String(_) => {
                let detail = format!("must be at most {chars_max} characters");
                self.refuse(name, "too_long", detail);
                None
            }
            other => {
                wrong_type(self.problems, &join(&self.path, name), "a string", &other);
                None
            }
        }
    }

    /// Takes a name for people, if the field is there; it may not be empty.
    pub fn name(&mut self, name: &'static str) -> Option<String> {
        let text = self.text(name, NAME_CHARS_MAX)?;
        if text.is_empty() {
            self.refuse(name, "required", "must not be empty");
        }
        Some(text)
    }

    /// Takes a text that must be there; a missing one is noted and read as empty.
    pub fn required_text(&mut self, name: &'static str, chars_max: usize) -> String {
        if !self.has(name) {
            self.missing(name);
        }
        self.text(name, chars_max).unwrap_or_default()
    }

    /// Takes a key of the type that `parse` makes, if the field is there.
    pub fn key<K>(&mut self, name: &'static str, parse: fn(&str) -> Option<K>) -> Option<K> {
        let text = match self.take(name)? {
            Value::String(text) => text,
            other => {
                wrong_type(self.problems, &join(&self.path, name), "a string", &other);
                return None;
            }
        };
        let key = parse(&text);
        if key.is_none() {
            self.refuse(name, "invalid_key", KEY_RULE);
        }
        key
    }

    /// Takes a key that must be there; returns `None` after noting what is wrong.
    pub fn required_key<K>(
        &mut self,
        name: &'static str,
        parse: fn(&str) -> Option<K>,
    ) -> Option<K> {
        if !self.has(name) {
            self.missing(name);
        }
        self.key(name, parse)
    }

    /// Takes a boolean, if the field is there.
    pub fn flag(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(value) => Some(value),
            other => {
                wrong_type(self.problems, &join(&self.path, name), "a boolean", &other);
                None
            }
        }
    }

    /// Takes an integer within `range`, if the field is there.
    pub fn integer(
        &mut self,
        name: &'static str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.take(name)?;
        let Some(integer) = value.as_i64() else {
            wrong_type(self.problems, &join(&self.path, name), "an integer", &value);
            return None;
        };
        if range.contains(&integer) {
            return Some(integer);
        }
        let detail = format!("must be from {} to {}, got {integer}", range.start(), range.end());
        self.refuse(name, "out_of_range", detail);
        None
    }

    /// Takes one of a fixed set of words, if the field is there.
    pub fn word<T: Copy>(&mut self, name: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(name, NAME_CHARS_MAX)?;
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            self.refuse(name, "unknown_value", format!("must be one of {}", known.join(", ")));
        }
        found
    }

    /// Takes an array of at most `items_max` items and reads each with `read(item, path, problems)`.
    ///
    /// An absent field reads as an empty list.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        items_max: usize,
        mut read: impl FnMut(Value, &str, &mut Problems) -> Option<T>,
    ) -> Vec<T> {
        let path = join(&self.path, name);
        let items = match self.take(name) {
            None => return Vec::new(),
            Some(Value::Array(items)) => items,
            Some(other) => {
                wrong_type(self.problems, &path, "an array", &other);
                return Vec::new();
            }
        };
        if items.len() > items_max {
            let detail = format!("must have at most {items_max} items, got {}", items.len());
            self.problems.add(path, "too_many", detail);
            return Vec::new();
        }
        let mut list = Vec::with_capacity(items.len());
        for (i, item) in items.into_iter().enumerate() {
            list.extend(read(item, &format!("{path}[{i}]"), self.problems));
        }
        list
    }

    /// Takes an array of non-empty texts.
    pub fn texts(&mut self, name: &'static str, items_max: usize, chars_max: usize) -> Vec<String> {
        self.list(name, items_max, |item, path, problems| match item {
            Value::String(text) if text.is_empty() || text.chars().count() > chars_max => {
                let detail = format!("must be 1 to {chars_max} characters");
                problems.add(path, "invalid_text", detail);
                None
            }
            Value::String(text) => Some(text),
            other => {
                wrong_type(problems, path, "a string", &other);
                None
            }
        })
    }

    /// Notes that the field `name` must be there.
    pub fn missing(&mut self, name: &str) {
        self.refuse(name, "required", format!("`{name}` is required"));
    }

    fn report_unknown(self) {
        for name in self.rest.keys() {
            let known = self.known.join(", ");
            let detail = format!("`{name}` is not a known field; known are {known}");
            self.problems.add(join(&self.path, name), "unknown_field", detail);
        }
    }
}
