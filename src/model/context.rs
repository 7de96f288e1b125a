//! Contexts: whom a flag is evaluated for.
//!
//! A context describes one thing (a user) or several at once (a user, their organization, a device), each a *kind* with a key
//! and attributes. It is read from LaunchDarkly's three JSON forms (single, multi, and the old user) or from OFREP's flat form.
//! How one of its attributes is named is in `attribute`.
//!
//! Source: the LaunchDarkly context schema, its Go SDK's reader, and the OFREP 0.3 context; `targetingKey` wins over `key`.

use crate::model::attribute::Attribute;
use crate::model::attribute::AttributeRef;
use crate::model::attribute::Root;
use crate::model::decode::wrong_type;
use crate::model::imprint::Imprint;
use crate::model::limit::CONTEXT_ATTRIBUTES_MAX;
use crate::model::limit::CONTEXT_BYTES_MAX;
use crate::model::limit::CONTEXT_DEPTH_MAX;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::CONTEXT_KINDS_MAX;
use crate::model::limit::CONTEXT_VALUE_BYTES_MAX;
use crate::model::problem::Problems;
use crate::model::problem::join;
use crate::model::raw_context::RawContext;
use crate::model::raw_context::RawFields;
use crate::model::rule::USER_KIND;
use serde_json::Value;
use std::fmt;

/// The texts among an old user's fields that are attributes; whatever else stands beside them is not.
const OLD_USER_TEXTS: &[&str] =
    &["name", "firstName", "lastName", "email", "country", "avatar", "ip"];
/// Fields of an old user's `custom` that would hide something else.
const NOT_CUSTOM: &[&str] = &["kind", "key", "name", "anonymous", "_meta"];

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
    is_user: bool,
    is_anonymous: bool,
    /// The names of the attributes, so that a search reads one short array and rarely a name.
    imprints: Vec<Imprint>,
    /// Everything else that is known, in the order of `imprints`.
    attributes: Vec<(String, Value)>,
}

/// Which kind of context is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KindRef {
    /// The one that is meant nearly always; found without a comparison of texts.
    User,
    Other(Box<str>),
}

impl KindRef {
    /// None named means `user`.
    pub(crate) fn new(kind: &str) -> Self {
        if kind.is_empty() || kind == USER_KIND { Self::User } else { Self::Other(Box::from(kind)) }
    }
}

impl fmt::Display for KindRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User => USER_KIND,
            Self::Other(kind) => kind,
        })
    }
}

impl Context {
    /// Reads a context in any form; `null` is the empty context. An old user is told by its `custom`, an object beside neither
    /// `kind` nor `targetingKey`; in any other form, keys may be missing, as OFREP allows.
    ///
    /// # Errors
    ///
    /// Every problem with the context, with paths from its root. Limits are not checked.
    pub fn decode(raw: impl Into<RawContext>) -> Result<Self, Problems> {
        let raw = raw.into();
        let form = match &raw {
            RawContext::Other(Value::Null) => return Ok(Self::default()),
            RawContext::Fields(fields)
                if fields.get("custom").is_some_and(Value::is_object)
                    && fields.get("kind").is_none()
                    && fields.get("targetingKey").is_none() =>
            {
                Form::LaunchDarkly
            }
            _ => Form::Ofrep,
        };
        let mut problems = Problems::default();
        let context = Self::read(raw, form, &mut problems);
        problems.into_result(context)
    }

    /// Reads a context as LaunchDarkly's SDKs do: strictly, in the single or multi form or that of an old user, which has no
    /// `kind`. OFREP's flat form is told by its `targetingKey`.
    ///
    /// # Errors
    ///
    /// Every problem with the context, with paths from its root. Limits are not checked.
    pub fn decode_launchdarkly(raw: impl Into<RawContext>) -> Result<Self, Problems> {
        let raw = raw.into();
        let form = match &raw {
            RawContext::Fields(fields)
                if fields.get("kind").is_none() && fields.get("targetingKey").is_some() =>
            {
                Form::Ofrep
            }
            _ => Form::LaunchDarkly,
        };
        let mut problems = Problems::default();
        let context = Self::read(raw, form, &mut problems);
        problems.into_result(context)
    }

    /// Checks what decoding does not: the limits, or so many `times` each of them.
    ///
    /// # Errors
    ///
    /// Every limit that is exceeded.
    pub fn check_limits(&self, times: usize) -> Result<(), Problems> {
        let mut problems = Problems::default();
        self.find_excess(times, &mut problems);
        problems.into_result(())
    }

    fn read(raw: RawContext, form: Form, problems: &mut Problems) -> Self {
        let mut context = Self::default();
        let mut fields = match raw {
            RawContext::Fields(fields) => fields,
            RawContext::Other(value) => {
                wrong_type(problems, "", "an object", &value);
                return context;
            }
        };
        match (fields.get("kind"), form) {
            (Some(Value::String(kind)), _) if kind == "multi" => {
                fields.take("kind");
                context.kinds = read_multi(fields, form, problems);
            }
            (Some(Value::String(kind)), _) => {
                let kind = kind.clone();
                fields.take("kind");
                context.kinds.extend(read_kind(kind, fields, form, "", problems));
            }
            (None, Form::LaunchDarkly) => context.kinds.push(read_old_user(fields, problems)),
            (_, Form::Ofrep) => {
                fields.take("kind");
                context.kinds.extend(read_kind(USER_KIND.to_owned(), fields, form, "", problems));
            }
            (Some(other), Form::LaunchDarkly) => wrong_type(problems, "kind", "a string", other),
        }
        context
    }

    /// The part of the context that is meant.
    #[inline]
    pub(crate) fn of_kind(&self, kind: &KindRef) -> Option<&ContextKind> {
        self.kinds.iter().find(|each| match kind {
            KindRef::User => each.is_user,
            KindRef::Other(kind) => *each.kind == **kind,
        })
    }

    /// All parts of the context.
    pub fn kinds(&self) -> &[ContextKind] {
        &self.kinds
    }

    fn find_excess(&self, times: usize, problems: &mut Problems) {
        let [kinds_max, attributes_max, key_chars_max, value_bytes_max, bytes_max, depth_max] = [
            CONTEXT_KINDS_MAX,
            CONTEXT_ATTRIBUTES_MAX,
            CONTEXT_KEY_CHARS_MAX,
            CONTEXT_VALUE_BYTES_MAX,
            CONTEXT_BYTES_MAX,
            CONTEXT_DEPTH_MAX,
        ]
        .map(|max| max.saturating_mul(times));
        if self.kinds.len() > kinds_max {
            let detail = format!("must have at most {kinds_max} kinds");
            return problems.add("", "too_many", detail);
        }
        let n_attributes: usize = self.kinds.iter().map(|kind| kind.attributes.len()).sum();
        if n_attributes > attributes_max {
            let detail = format!("must have at most {attributes_max} attributes");
            problems.add("", "too_many", detail);
        }
        let mut n_bytes = 0_usize;
        for kind in &self.kinds {
            let prefix = if self.kinds.len() > 1 { kind.kind.as_str() } else { "" };
            let key = kind.key.as_deref().unwrap_or_default();
            if key.chars().count() > key_chars_max {
                let detail = format!("must be at most {key_chars_max} characters");
                problems.add(join(prefix, "key"), "too_long", detail);
            }
            for (name, value) in &kind.attributes {
                let path = || join(prefix, name);
                let Some(n_value) = size_of(value, depth_max) else {
                    let detail = format!("is nested deeper than {depth_max} levels; flatten it");
                    problems.add(path(), "too_deep", detail);
                    continue;
                };
                if n_value > value_bytes_max {
                    let detail = format!("must be at most {value_bytes_max} bytes");
                    problems.add(path(), "too_long", detail);
                }
                n_bytes = n_bytes.saturating_add(name.len() + n_value);
            }
        }
        if n_bytes > bytes_max {
            let detail = format!("must be at most {bytes_max} bytes in all");
            problems.add("", "too_long", detail);
        }
    }
}

/// How strictly a context is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As LaunchDarkly's SDKs do: every kind has a key.
    LaunchDarkly,
    /// As OFREP has it: keys may be missing, and `targetingKey` may stand for them. What LaunchDarkly's providers for OpenFeature
    /// pass over is passed over: a `kind`, `name` or `anonymous` of another type, and whatever is no object beside several kinds.
    Ofrep,
}

fn read_multi(fields: RawFields, form: Form, problems: &mut Problems) -> Vec<ContextKind> {
    let mut kinds = Vec::new();
    for (kind, value) in fields.into_vec() {
        match value {
            Value::Object(inner) => {
                let mut inner = RawFields::from(inner);
                let path = kind.clone();
                inner.take("kind");
                kinds.extend(read_kind(kind, inner, form, &path, problems));
            }
            // OFREP clients add their own `targetingKey` beside the kinds, and whatever else they know of everything.
            _ if form == Form::Ofrep => {}
            other => wrong_type(problems, &kind, "an object", &other),
        }
    }
    if kinds.is_empty() && problems.is_empty() {
        problems.add("", "empty_context", "a multi context needs at least one kind");
    }
    kinds
}

fn read_kind(
    kind: String,
    mut fields: RawFields,
    form: Form,
    path: &str,
    problems: &mut Problems,
) -> Option<ContextKind> {
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if kind.is_empty() || ["kind", "multi"].contains(&kind.as_str()) || !kind.bytes().all(is_word) {
        let detail = "a kind must be characters of A-Z a-z 0-9 . _ - and not `kind` or `multi`";
        problems.add(join(path, "kind"), "invalid_kind", detail);
        return None;
    }
    let key = match form {
        Form::Ofrep => read_ofrep_key(&mut fields, path, problems),
        Form::LaunchDarkly => {
            let key = read_required_key(&mut fields, path, problems);
            if key.as_deref() == Some("") {
                problems.add(join(path, "key"), "required", "must not be empty");
            }
            key
        }
    };
    let is_anonymous = match fields.take("anonymous") {
        None => false,
        Some(Value::Bool(value)) => value,
        Some(_) if form == Form::Ofrep => false,
        Some(other) => {
            wrong_type(problems, &join(path, "anonymous"), "a boolean", &other);
            false
        }
    };
    if let Some(other) = fields.get("name").filter(|name| !name.is_string() && !name.is_null()) {
        match form {
            Form::LaunchDarkly => wrong_type(problems, &join(path, "name"), "a string", other),
            Form::Ofrep => _ = fields.take("name"),
        }
    }
    // Describes the context to event pipelines; never addressable by rules.
    let meta = fields.take("_meta");
    match form {
        Form::Ofrep => {
            fields.take("privateAttributes");
        }
        Form::LaunchDarkly => match meta {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(other) => wrong_type(problems, &join(path, "_meta"), "an object", &other),
        },
    }
    Some(ContextKind::new(kind, key, is_anonymous, fields))
}

/// The key, which must be there and be a text; an empty one is the caller's to judge.
fn read_required_key(
    fields: &mut RawFields,
    path: &str,
    problems: &mut Problems,
) -> Option<String> {
    match fields.take("key") {
        Some(Value::String(key)) => return Some(key),
        Some(other) => wrong_type(problems, &join(path, "key"), "a string", &other),
        None => problems.add(join(path, "key"), "required", "`key` is required"),
    }
    None
}

fn read_ofrep_key(fields: &mut RawFields, path: &str, problems: &mut Problems) -> Option<String> {
    let key = fields.take("key");
    let (name, key) = match fields.take("targetingKey") {
        Some(Value::Null) | None => ("key", key),
        targeting_key => ("targetingKey", targeting_key),
    };
    match key {
        None | Some(Value::Null) => None,
        // An empty key identifies nobody: treated as absent, as OFREP clients send it for "unknown".
        Some(Value::String(key)) => (!key.is_empty()).then_some(key),
        Some(other) => {
            wrong_type(problems, &join(path, name), "a string", &other);
            None
        }
    }
}

/// A user as LaunchDarkly's SDKs described it before there were kinds: `custom` is flattened, and the key may be empty.
fn read_old_user(mut fields: RawFields, problems: &mut Problems) -> ContextKind {
    let key = read_required_key(&mut fields, "", problems);
    let is_anonymous = match fields.take("anonymous") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(value)) => value,
        Some(other) => {
            wrong_type(problems, "anonymous", "a boolean", &other);
            false
        }
    };
    let mut attributes = match fields.take("custom") {
        None | Some(Value::Null) => RawFields::default(),
        Some(Value::Object(mut custom)) => {
            custom.retain(|name, _| !NOT_CUSTOM.contains(&name.as_str()));
            custom.into()
        }
        Some(other) => {
            wrong_type(problems, "custom", "an object", &other);
            RawFields::default()
        }
    };
    for name in OLD_USER_TEXTS {
        match fields.take(name) {
            None | Some(Value::Null) => {}
            Some(value @ Value::String(_)) => {
                attributes.put((*name).to_owned(), value);
            }
            Some(other) => wrong_type(problems, name, "a string", &other),
        }
    }
    ContextKind::new(USER_KIND.to_owned(), key, is_anonymous, attributes)
}

/// The bytes of the texts in a value, roughly its size; `None` if it is nested deeper than `depth` objects and arrays.
fn size_of(value: &Value, depth: usize) -> Option<usize> {
    match value {
        Value::String(text) => Some(text.len()),
        Value::Array(items) => {
            let below = depth.checked_sub(1)?;
            items.iter().try_fold(0_usize, |sum, item| Some(sum + 1 + size_of(item, below)?))
        }
        Value::Object(fields) => {
            let below = depth.checked_sub(1)?;
            let size = |(name, item): (&String, &Value)| Some(name.len() + size_of(item, below)?);
            fields.iter().try_fold(0_usize, |sum, field| Some(sum + size(field)?))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(8),
    }
}

fn value_below<'v>(value: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, step| value.as_object()?.get(step))
}

impl ContextKind {
    fn new(kind: String, key: Option<String>, is_anonymous: bool, fields: RawFields) -> Self {
        let mut attributes = fields.into_vec();
        attributes.retain(|(_, value)| !value.is_null());
        let imprints = attributes.iter().map(|(name, _)| Imprint::new(name)).collect();
        Self { is_user: kind == USER_KIND, kind, key, is_anonymous, imprints, attributes }
    }

    /// The value of an attribute; `None` if it is absent or `null`.
    #[inline]
    pub fn attribute(&self, reference: &AttributeRef) -> Option<Attribute<'_>> {
        match &reference.root {
            Root::Name { imprint, name } => {
                let value = self.named(*imprint, name)?;
                let is_whole = reference.path.is_empty();
                Attribute::new(if is_whole { value } else { value_below(value, &reference.path)? })
            }
            // What is built in has nothing below it.
            _ if !reference.path.is_empty() => None,
            Root::Key => self.key.as_deref().map(Attribute::Text),
            Root::Kind => Some(Attribute::Text(&self.kind)),
            Root::Anonymous => Some(Attribute::Bool(self.is_anonymous)),
        }
    }

    #[inline]
    fn named(&self, imprint: Imprint, name: &str) -> Option<&Value> {
        for (each, (found, value)) in self.imprints.iter().zip(&self.attributes) {
            if *each == imprint && (imprint.is_exact() || found == name) {
                return Some(value);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn attribute(context: Value, kind: &str, reference: &str) -> Option<Value> {
        let context = Context::decode(context).unwrap();
        let reference = AttributeRef::parse(reference).unwrap();
        context.of_kind(&KindRef::new(kind))?.attribute(&reference).map(Attribute::to_json)
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
        let kinds = (0..=CONTEXT_KINDS_MAX).map(|i| (format!("k{i}"), json!({"key": "x"})));
        let kind = ("kind".to_owned(), json!("multi"));
        let many_kinds = Value::Object(kinds.chain([kind]).collect());
        for (context, path, code) in [
            (json!("u-1"), "", "wrong_type"),
            (json!({"kind": "kind", "key": "k"}), "kind", "invalid_kind"),
            (json!({"targetingKey": 7}), "targetingKey", "wrong_type"),
            (json!({"kind": "multi"}), "", "empty_context"),
            (json!({"kind": "multi", "user": "u"}), "", "empty_context"),
            (json!({"kind": "multi", "org": {"key": 1}}), "org.key", "wrong_type"),
            (json!({"key": "k".repeat(257)}), "key", "too_long"),
            (json!({"x": [[[[[[[[[1]]]]]]]]]}), "x", "too_deep"),
            (many_kinds.clone(), "", "too_many"),
        ] {
            let decoded = Context::decode(context.clone());
            let problems = decoded.and_then(|context| context.check_limits(1)).unwrap_err();
            let first = &problems.as_slice()[0];
            assert_eq!((first.path.as_str(), first.code), (path, code), "{context}");
        }
    }

    #[test]
    fn what_the_providers_of_openfeature_pass_over_is_passed_over() {
        let user = json!({"key": "u", "plan": "gold"});
        for (mixed, plain) in [
            (
                json!({"kind": "multi", "targetingKey": "x", "org": {"key": "o"}, "user": user,
                    "region": "eu", "beta": true, "list": [1], "n": 1.5, "nothing": null}),
                json!({"kind": "multi", "org": {"key": "o"}, "user": user}),
            ),
            (json!({"kind": 7, "key": "u", "plan": "gold"}), user.clone()),
            (json!({"kind": ["org"], "key": "u", "plan": "gold"}), user.clone()),
            (json!({"key": "u", "plan": "gold", "anonymous": "yes"}), user.clone()),
            (json!({"key": "u", "plan": "gold", "name": 7}), user.clone()),
            (
                json!({"kind": "org", "key": "o", "anonymous": null}),
                json!({"kind": "org", "key": "o"}),
            ),
        ] {
            let decoded = Context::decode(mixed.clone()).map_err(|problems| problems.to_string());
            assert_eq!(decoded, Ok(Context::decode(plain).unwrap()), "{mixed}");
        }
        // LaunchDarkly's own SDKs refuse such contexts, and so do the routes for them.
        for (refused, path) in [
            (json!({"kind": "multi", "org": {"key": "o"}, "region": "eu"}), "region"),
            (json!({"kind": 7, "key": "u"}), "kind"),
            (json!({"kind": "user", "key": "u", "anonymous": "yes"}), "anonymous"),
            (json!({"kind": "user", "key": "u", "name": 7}), "name"),
        ] {
            let problems = Context::decode_launchdarkly(refused.clone()).unwrap_err();
            let first = &problems.as_slice()[0];
            assert_eq!((first.path.as_str(), first.code), (path, "wrong_type"), "{refused}");
        }
    }
}
