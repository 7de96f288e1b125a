//! Whom an event is about: the kinds and keys of its context, and nothing else of it.
//!
//! Attributes are passed over while the text is read, so that none of them gets anywhere.

use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::CONTEXT_KINDS_MAX;
use crate::model::limit::KEY_CHARS_MAX;
use crate::model::rule::USER_KIND;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use std::fmt;

/// The kind and key of each part of a context.
pub(super) type Units = Vec<(String, String)>;

/// A text, or a number as its digits; anything else is none.
#[derive(Debug, Default)]
pub(super) struct Text(pub(super) Option<String>);

/// A context in any of LaunchDarkly's forms: single, multi, or the old user.
#[derive(Debug, Default)]
pub(super) struct ContextUnits(pub(super) Units);

/// An object of keys by kind.
#[derive(Debug, Default)]
pub(super) struct KeyUnits(pub(super) Units);

/// The key in an object; anything else has none.
#[derive(Debug, Default)]
struct Part(Option<String>);

/// Keeps a unit if its kind and key are such as a context may have.
pub(super) fn keep(units: &mut Units, kind: String, key: Option<String>) {
    let Some(key) = key else { return };
    let is_kind_char = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    let is_kind = !kind.is_empty() && kind.len() <= KEY_CHARS_MAX && kind.bytes().all(is_kind_char);
    let is_key =
        !key.is_empty() && !key.contains('\0') && key.chars().count() <= CONTEXT_KEY_CHARS_MAX;
    if is_kind && is_key && units.len() < CONTEXT_KINDS_MAX {
        units.push((kind, key));
    }
}

/// Writes a visitor that reads one form and passes over all others.
macro_rules! lenient {
    ($type:ty, $visit_map:item, { $($other:item)* }) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Lenient;
                impl<'de> Visitor<'de> for Lenient {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("anything")
                    }

                    $visit_map

                    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                        while seq.next_element::<IgnoredAny>()?.is_some() {}
                        Ok(Self::Value::default())
                    }

                    fn visit_unit<E>(self) -> Result<Self::Value, E> {
                        Ok(Self::Value::default())
                    }

                    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
                        Ok(Self::Value::default())
                    }

                    $($other)*
                }
                deserializer.deserialize_any(Lenient)
            }
        }
    };
}

/// Passes over what is not an object.
macro_rules! lenient_object {
    ($type:ty, $visit_map:item) => {
        lenient!($type, $visit_map, {
            fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
                Ok(Self::Value::default())
            }
            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(Self::Value::default())
            }
            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(Self::Value::default())
            }
            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(Self::Value::default())
            }
        });
    };
}

lenient!(
    Text,
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Text, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Text(None))
    },
    {
        fn visit_str<E>(self, text: &str) -> Result<Text, E> {
            Ok(Text(Some(text.to_owned())))
        }
        fn visit_i64<E>(self, number: i64) -> Result<Text, E> {
            Ok(Text(Some(number.to_string())))
        }
        fn visit_u64<E>(self, number: u64) -> Result<Text, E> {
            Ok(Text(Some(number.to_string())))
        }
        fn visit_f64<E>(self, number: f64) -> Result<Text, E> {
            Ok(Text(Some(number.to_string())))
        }
    }
);

lenient_object!(
    Part,
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
        let mut part = Part(None);
        while let Some(name) = map.next_key::<String>()? {
            if name == "key" {
                part.0 = map.next_value::<Text>()?.0;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(part)
    }
);

lenient_object!(
    ContextUnits,
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ContextUnits, A::Error> {
        let (mut kind, mut key) = (None, None);
        // Should this turn out to be a single context, these are attributes, and are thrown away.
        let mut parts = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "kind" => kind = map.next_value::<Text>()?.0,
                "key" => key = map.next_value::<Text>()?.0,
                _ if parts.len() < CONTEXT_KINDS_MAX => {
                    let part = map.next_value::<Part>()?.0;
                    parts.extend(part.map(|key| (name, key)));
                }
                _ => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        let mut units = Vec::new();
        match kind.as_deref() {
            Some("multi") => {
                for (kind, key) in parts {
                    keep(&mut units, kind, Some(key));
                }
            }
            Some(kind) => keep(&mut units, kind.to_owned(), key),
            None => keep(&mut units, USER_KIND.to_owned(), key),
        }
        Ok(ContextUnits(units))
    }
);

lenient_object!(
    KeyUnits,
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeyUnits, A::Error> {
        let mut units = Vec::new();
        while let Some(kind) = map.next_key::<String>()? {
            let key = map.next_value::<Text>()?.0;
            keep(&mut units, kind, key);
        }
        Ok(KeyUnits(units))
    }
);
