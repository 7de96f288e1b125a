//! Contexts: whom a flag is evaluated for, and references to their attributes.
//!
//! A context describes one thing (a user) or several at once (a user, their organization, a device), each a *kind* with a key
//! and attributes. LaunchDarkly's single and multi form and OFREP's flat form are read here.
//!
//! Source: the LaunchDarkly context schema and the OFREP 0.3 context; `targetingKey` wins over `key`.

use crate::model::decode::wrong_type;
use crate::model::limit::CONTEXT_ATTRIBUTES_MAX;
use crate::model::limit::CONTEXT_DEPTH_MAX;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::problem::Problems;
use crate::model::problem::join;
use crate::model::rule::USER_KIND;
use crate::model::strict_json::is_deeper_than;
use serde_json::Map;
use serde_json::Value;

/// Whom a flag is evaluated for: one or more kinds, each at most once.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// In the order of the JSON object; few, so that a search is faster than a map.
    kinds: Vec<ContextKind>,
}

/// One thing that a context describes.
#[derive(Debug, Clone, PartialEq)]
pub struct ContextKind {
    /// What it is: `user`, `organization`, `device`, ….
    pub kind: String,
    /// Which one it is; `None` if the caller did not say, as OFREP allows.
    pub key: Option<String>,
    /// Everything else that is known, `name` and `anonymous` included.
    attributes: Map<String, Value>,
}

/// An attribute's value, borrowed from a context.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Attribute<'a> {
    /// A text that is not stored as JSON: a key or a kind.
    Text(&'a str),
    /// Any other value.
    Json(&'a Value),
}

impl Context {
    /// Reads a context from JSON; `null` is the empty context.
    ///
    /// # Errors
    ///
    /// Every problem with the context, with paths from its root.
    pub fn decode(value: Value) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut fields = match value {
            Value::Null => return Ok(Self::default()),
            Value::Object(fields) => fields,
            other => {
                wrong_type(&mut problems, "", "an object", &other);
                return Err(problems);
            }
        };
        let mut kinds = Vec::new();
        match fields.remove("kind") {
            Some(Value::String(kind)) if kind == "multi" => {
                for (kind, value) in fields {
                    match value {
                        Value::Object(inner) => {
                            let path = kind.clone();
                            kinds.extend(decode_kind(kind, inner, &path, &mut problems));
                        }
                        // OFREP clients add their own `targetingKey` beside the kinds.
                        _ if kind == "targetingKey" || kind == "key" => {}
                        other => wrong_type(&mut problems, &kind, "an object", &other),
                    }
                }
                if kinds.is_empty() && problems.is_empty() {
                    problems.add("", "empty_context", "a multi context needs at least one kind");
                }
            }
            Some(Value::String(kind)) => kinds.extend(decode_kind(kind, fields, "", &mut problems)),
            Some(Value::Null) | None => {
                kinds.extend(decode_kind(USER_KIND.to_owned(), fields, "", &mut problems));
            }
            Some(other) => wrong_type(&mut problems, "kind", "a string", &other),
        }
        let n_attributes: usize = kinds.iter().map(|kind| kind.attributes.len()).sum();
        if n_attributes > CONTEXT_ATTRIBUTES_MAX {
            let detail = format!("must have at most {CONTEXT_ATTRIBUTES_MAX} attributes");
            problems.add("", "too_many", detail);
        }
        problems.into_result(Self { kinds })
    }

    /// The part of the context that is of `kind`.
    pub fn kind(&self, kind: &str) -> Option<&ContextKind> {
        self.kinds.iter().find(|each| each.kind == kind)
    }

    /// All parts of the context.
    pub fn kinds(&self) -> &[ContextKind] {
        &self.kinds
    }
}

fn decode_kind(
    kind: String,
    mut fields: Map<String, Value>,
    path: &str,
    problems: &mut Problems,
) -> Option<ContextKind> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if kind.is_empty() || kind == "kind" || !kind.bytes().all(is_word) {
        let detail = "a kind must be characters of A-Z a-z 0-9 . _ - and not the word `kind`";
        problems.add(join(path, "kind"), "invalid_kind", detail);
        return None;
    }
    let key = fields.remove("key");
    let (name, key) = match fields.remove("targetingKey") {
        Some(Value::Null) | None => ("key", key),
        targeting_key => ("targetingKey", targeting_key),
    };
    let key = match key {
        None | Some(Value::Null) => None,
        // An empty key identifies nobody: treated as absent, as OFREP clients send it for "unknown".
        Some(Value::String(key)) if key.is_empty() => None,
        Some(Value::String(key)) if key.chars().count() <= CONTEXT_KEY_CHARS_MAX => Some(key),
        Some(Value::String(_)) => {
            let detail = format!("must be at most {CONTEXT_KEY_CHARS_MAX} characters");
            problems.add(join(path, name), "too_long", detail);
            None
        }
        Some(other) => {
            wrong_type(problems, &join(path, name), "a string", &other);
            None
        }
    };
    if let Some(other) = fields.get("anonymous").filter(|value| !value.is_boolean()) {
        wrong_type(problems, &join(path, "anonymous"), "a boolean", other);
    }
    // Absent means `false`, and rules may ask for it.
    fields.entry("anonymous").or_insert(Value::Bool(false));
    // Describes the context to event pipelines; never addressable by rules.
    fields.remove("_meta");
    fields.remove("privateAttributes");
    for (name, value) in &fields {
        if is_deeper_than(value, CONTEXT_DEPTH_MAX) {
            let detail = format!("is nested deeper than {CONTEXT_DEPTH_MAX} levels; flatten it");
            problems.add(join(path, name), "too_deep", detail);
        }
    }
    Some(ContextKind { kind, key, attributes: fields })
}

impl ContextKind {
    /// The value of an attribute; `None` if it is absent or `null`.
    pub fn attribute(&self, reference: &AttributeRef) -> Option<Attribute<'_>> {
        let (first, rest) = reference.steps.split_first()?;
        let mut value = match first.as_str() {
            "key" if rest.is_empty() => return self.key.as_deref().map(Attribute::Text),
            "kind" if rest.is_empty() => return Some(Attribute::Text(&self.kind)),
            name => self.attributes.get(name)?,
        };
        for step in rest {
            value = value.as_object()?.get(step)?;
        }
        (!value.is_null()).then_some(Attribute::Json(value))
    }
}

/// Which attribute is meant: a plain name or a path into nested objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttributeRef {
    steps: Vec<String>,
}

impl AttributeRef {
    /// The context's key.
    pub fn key() -> Self {
        Self::literal("key")
    }

    /// A plain name, whatever characters it has.
    pub fn literal(name: &str) -> Self {
        Self { steps: vec![name.to_owned()] }
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
        let steps: Option<Vec<String>> = path.split('/').map(decode_step).collect();
        steps.map(|steps| Self { steps })
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attribute(context: Value, kind: &str, reference: &str) -> Option<Value> {
        let context = Context::decode(context).unwrap();
        let reference = AttributeRef::parse(reference).unwrap();
        context.kind(kind)?.attribute(&reference).map(|attribute| match attribute {
            Attribute::Text(text) => json!(text),
            Attribute::Json(value) => value.clone(),
        })
    }

    #[test]
    fn the_three_forms_mean_the_same() {
        let single = json!({"kind":"user","key":"u-1","plan":"gold"});
        let multi = json!({"kind":"multi","user":{"key":"u-1","plan":"gold"}});
        let flat = json!({"targetingKey":"u-1","key":"ignored","plan":"gold"});
        let decoded = [single, multi, flat].map(|form| Context::decode(form).unwrap());
        assert_eq!(decoded[0], decoded[1]);
        assert_eq!(decoded[0], decoded[2]);
    }

    #[test]
    fn references_walk_objects_only() {
        let context =
            json!({"key":"u","addr":{"city":"Ulm","a/b":1,"~":2},"list":[{"x":1}],"/raw":3});
        for (reference, expected) in [
            ("/addr/city", Some(json!("Ulm"))),
            ("/addr/a~1b", Some(json!(1))),
            ("/addr/~0", Some(json!(2))),
            ("/list/0", None),
            ("/list/x", None),
            ("addr/city", None),
            ("/~1raw", Some(json!(3))),
            ("key", Some(json!("u"))),
            ("/kind", Some(json!("user"))),
            ("anonymous", Some(json!(false))),
            ("/key/x", None),
        ] {
            assert_eq!(attribute(context.clone(), "user", reference), expected, "{reference}");
        }
        for bad in ["", "/", "//x", "/x/", "/a//b", "/~2", "/a~"] {
            assert!(AttributeRef::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn bad_contexts_are_refused_with_their_path() {
        for (context, path, code) in [
            (json!("u-1"), "", "wrong_type"),
            (json!({"kind": 7}), "kind", "wrong_type"),
            (json!({"kind": "kind", "key": "k"}), "kind", "invalid_kind"),
            (json!({"targetingKey": 7}), "targetingKey", "wrong_type"),
            (json!({"kind": "multi"}), "", "empty_context"),
            (json!({"kind": "multi", "user": "u"}), "user", "wrong_type"),
            (json!({"kind": "multi", "org": {"key": 1}}), "org.key", "wrong_type"),
            (json!({"key": "k".repeat(257)}), "key", "too_long"),
            (json!({"x": [[[[[[[[[1]]]]]]]]]}), "x", "too_deep"),
            (json!({"anonymous": "yes"}), "anonymous", "wrong_type"),
        ] {
            let problems = Context::decode(context.clone()).unwrap_err();
            let first = &problems.as_slice()[0];
            assert_eq!((first.path.as_str(), first.code), (path, code), "{context}");
        }
    }
}
