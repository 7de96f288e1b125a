//! The JSON of a context, before it is known what it describes.
//!
//! Read straight from text, without the map of a general JSON object: a context has few fields, which are found faster by
//! looking at each than by a hash of the name. What the fields mean is in `context`.

use serde::Deserialize;
use serde::Deserializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use std::fmt;

/// Up to so many fields are searched one by one for a name that comes twice; more are put into a map first, so that nobody
/// can make it slow.
const SEARCHED_MAX: usize = 64;

/// The JSON of a context.
#[derive(Debug)]
pub enum RawContext {
    /// An object.
    Fields(RawFields),
    /// What is no object; `null` stands for no context.
    Other(Value),
}

impl Default for RawContext {
    fn default() -> Self {
        Self::Other(Value::Null)
    }
}

impl From<Value> for RawContext {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(fields) => Self::Fields(fields.into()),
            other => Self::Other(other),
        }
    }
}

/// The fields of an object, each name once, in the order of the JSON.
#[derive(Debug, Default)]
pub struct RawFields(Vec<(String, Value)>);

impl From<Map<String, Value>> for RawFields {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields.into_iter().collect())
    }
}

impl RawFields {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(each, _)| each == name).map(|(_, value)| value)
    }

    /// Removes a field; the others keep their order.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        let i = self.0.iter().position(|(each, _)| each == name)?;
        Some(self.0.remove(i).1)
    }

    /// Sets a field; of a name that comes twice, the last value counts, in the first one's place.
    pub(super) fn put(&mut self, name: String, value: Value) {
        match self.0.iter_mut().find(|(each, _)| *each == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn into_vec(self) -> Vec<(String, Value)> {
        self.0
    }
}

impl<'de> Deserialize<'de> for RawContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawContextVisitor)
    }
}

struct RawContextVisitor;

impl<'de> Visitor<'de> for RawContextVisitor {
    type Value = RawContext;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a context")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawContext, A::Error> {
        let mut fields = RawFields::default();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if fields.0.len() < SEARCHED_MAX {
                fields.put(name, value);
                continue;
            }
            let mut all: Map<String, Value> = fields.0.into_iter().chain([(name, value)]).collect();
            while let Some((name, value)) = map.next_entry()? {
                all.insert(name, value);
            }
            fields = all.into();
        }
        Ok(RawContext::Fields(fields))
    }

    fn visit_unit<E>(self) -> Result<RawContext, E> {
        Ok(RawContext::default())
    }

    fn visit_bool<E>(self, value: bool) -> Result<RawContext, E> {
        Ok(RawContext::Other(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<RawContext, E> {
        Ok(RawContext::Other(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<RawContext, E> {
        Ok(RawContext::Other(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<RawContext, E> {
        Ok(RawContext::Other(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<RawContext, E> {
        Ok(RawContext::Other(value.into()))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<RawContext, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(RawContext::Other(Value::Array(items)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(n_max: usize) -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..n_max)
    }

    proptest! {
        /// However many fields there are and whichever come twice, what is read is what a map would have.
        #[test]
        fn text_and_value_are_read_alike(names in names(3 * SEARCHED_MAX)) {
            let fields = names.iter().enumerate().map(|(i, name)| format!("\"{name}\":{i}"));
            let text = format!("{{{}}}", fields.collect::<Vec<_>>().join(","));
            let from_value = RawContext::from(serde_json::from_str::<Value>(&text).unwrap());
            let from_text: RawContext = serde_json::from_str(&text).unwrap();
            let (RawContext::Fields(a), RawContext::Fields(b)) = (from_text, from_value) else {
                panic!("objects have fields");
            };
            prop_assert_eq!(a.into_vec(), b.into_vec());
        }
    }

    #[test]
    fn what_is_no_object_is_kept_as_it_is() {
        for text in ["null", "true", "-7", "7", "0.5", "\"x\"", "[1,[2]]"] {
            let RawContext::Other(value) = serde_json::from_str(text).unwrap() else {
                panic!("{text} is no object");
            };
            assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        }
    }
}
