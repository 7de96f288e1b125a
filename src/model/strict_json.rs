//! Reading JSON so that no part of it is silently lost.
//!
//! `serde_json::Value` keeps the last of two equal keys, and PostgreSQL cannot store a NUL. Both are refused here, with the
//! path of the place, and so is nesting that nobody needs. What the fields *mean* is read by `decode`.
//!
//! Whole numbers beyond 64 bits become floating-point numbers, as they do in most readers of JSON.

use crate::model::limit::JSON_DEPTH_MAX;
use crate::model::problem::Problems;
use crate::model::problem::join;
use serde::de;
use serde::de::DeserializeSeed;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Value;
use std::cell::RefCell;
use std::fmt;

/// Parses a JSON text, refusing duplicate keys, NUL characters and nesting deeper than [`JSON_DEPTH_MAX`].
///
/// # Errors
///
/// `json_syntax` (alone, since nothing after it can be trusted), or all of `duplicate_key`, `nul_character` and `too_deep`.
pub fn parse(bytes: &[u8]) -> Result<Value, Problems> {
    let problems = RefCell::new(Problems::default());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let seed = Strict { parent: None, step: Step::Root, depth: 0, problems: &problems };
    let value = seed.deserialize(&mut deserializer);
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    let problems = problems.into_inner();
    match value {
        Ok(value) => problems.into_result(value),
        Err(error) if problems.is_empty() => {
            Err(Problems::one("", "json_syntax", format!("the body is not JSON: {error}")))
        }
        Err(_) => Err(problems),
    }
}

/// A place in the document that is being read; its path is written out only when something is wrong with it, since
/// otherwise reading many elements below a long key would take for ever.
struct Strict<'a> {
    parent: Option<&'a Strict<'a>>,
    step: Step<'a>,
    depth: usize,
    problems: &'a RefCell<Problems>,
}

/// How a place is reached from the one around it.
#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Item(usize),
}

impl Strict<'_> {
    fn below<'s, E: de::Error>(&'s self, step: Step<'s>) -> Result<Strict<'s>, E> {
        let (depth, problems) = (self.depth + 1, self.problems);
        let below = Strict { parent: Some(self), step, depth, problems };
        if self.depth == JSON_DEPTH_MAX {
            let detail = format!("is nested deeper than {JSON_DEPTH_MAX} levels; flatten it");
            below.refuse("too_deep", detail);
            return Err(E::custom("too deep"));
        }
        Ok(below)
    }

    fn check_text(&self, text: &str) {
        if text.contains('\0') {
            self.refuse("nul_character", "contains a NUL character; remove it");
        }
    }

    fn refuse(&self, code: &'static str, detail: impl Into<String>) {
        self.problems.borrow_mut().add(self.path(), code, detail);
    }

    fn path(&self) -> String {
        let before = self.parent.map(Strict::path).unwrap_or_default();
        match self.step {
            Step::Root => before,
            Step::Field(name) => join(&before, name),
            Step::Item(i) => format!("{before}[{i}]"),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        self.check_text(value);
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let seed = self.below(Step::Item(list.len()))?;
            match items.next_element_seed(seed)? {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = fields.next_key::<String>()? {
            let seed = self.below(Step::Field(&key))?;
            seed.check_text(&key);
            if map.contains_key(&key) {
                seed.refuse(
                    "duplicate_key",
                    format!("`{key}` appears twice in one object; keep one"),
                );
            }
            let value = fields.next_value_seed(seed)?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(String, &'static str)> {
        match parse(text.as_bytes()) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.as_slice().iter().map(|p| (p.path.clone(), p.code)).collect(),
        }
    }

    #[test]
    fn keeps_what_is_written() {
        let value = parse(br#"{"a":[1,1.0,-2,true,null,"x"],"b":{"c":18446744073709551615}}"#);
        let text = value.map(|value| value.to_string());
        assert_eq!(
            text.unwrap(),
            r#"{"a":[1,1.0,-2,true,null,"x"],"b":{"c":18446744073709551615}}"#
        );
    }

    #[test]
    fn refuses_what_would_be_lost() {
        assert_eq!(codes(r#"{"a":{"b":1,"b":2}}"#), [("a.b".to_owned(), "duplicate_key")]);
        assert_eq!(codes(r#"{"a":["x\u0000"]}"#), [("a[0]".to_owned(), "nul_character")]);
        assert_eq!(codes(r#"{"a":1}{"#), [(String::new(), "json_syntax")]);
        assert_eq!(codes("1e999"), [(String::new(), "json_syntax")]);
        assert_eq!(codes(""), [(String::new(), "json_syntax")]);
    }

    #[test]
    fn many_elements_below_a_long_key_cost_no_more_than_their_bytes() {
        let text = format!("{{\"{}\":[{}0]}}", "k".repeat(1_000_000), "0,".repeat(500_000));
        assert!(parse(text.as_bytes()).is_ok());
        let nested = format!("{{\"a\":[0,{{\"b\":{text}}}]}}").replace("0]}}", "\"\\u0000\"]}}");
        let path = codes(&nested).remove(0).0;
        assert!(path.starts_with("a[1].b.kkk") && path.ends_with("k[500000]"), "{}", path.len());
    }

    #[test]
    fn refuses_deep_nesting_and_allows_the_limit() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(JSON_DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(codes(&nested(JSON_DEPTH_MAX + 1)).first().map(|c| c.1), Some("too_deep"));
        assert_eq!(codes(&nested(100_000)).first().map(|c| c.1), Some("too_deep"));
    }
}
