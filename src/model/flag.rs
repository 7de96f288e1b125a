//! A flag's definition: what it is called and which values it can take, the same in every environment of its project.
//!
//! Who gets which value is the flag's configuration, one per environment, in `rule`.

use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::key::FlagKey;
use crate::model::key::VariationKey;
use crate::model::limit::FLAG_BYTES_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::TEXT_CHARS_MAX;
use crate::model::limit::VALUE_BYTES_MAX;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::problem::Problems;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How much of a hash tells definitions of one flag apart.
const TAG_BYTES: usize = 8;

/// What type of value a flag serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlagKind {
    /// `true` or `false`.
    Boolean,
    /// A text.
    String,
    /// A number; `10` stays `10` and `10.0` stays `10.0`.
    Number,
    /// Any JSON object or array.
    Json,
}

/// The words for the kinds, as they appear in JSON.
pub const FLAG_KINDS: &[(&str, FlagKind)] = &[
    ("boolean", FlagKind::Boolean),
    ("string", FlagKind::String),
    ("number", FlagKind::Number),
    ("json", FlagKind::Json),
];

impl FlagKind {
    /// Whether `value` is of this kind.
    pub fn admits(self, value: &Value) -> bool {
        match self {
            Self::Boolean => value.is_boolean(),
            Self::String => value.is_string(),
            Self::Number => value.is_number(),
            Self::Json => value.is_object() || value.is_array(),
        }
    }

    /// The kind as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        FLAG_KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// One of the values that a flag can take.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Variation {
    /// Unique in the flag; instructions name variations by it, configuration by index.
    pub key: VariationKey,
    /// For people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What is served; of the flag's kind.
    pub value: Value,
}

/// Which kinds of client-side SDK may see the flag; server-side SDKs see every flag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSideAvailability {
    /// Browsers, which identify themselves by a client token.
    #[serde(default)]
    pub using_environment_id: bool,
    /// Mobile applications, which have a mobile token.
    #[serde(default)]
    pub using_mobile_key: bool,
}

/// The variations that the flag starts with in a new environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Defaults {
    /// Served to everyone once the flag is on.
    pub on_variation: VariationKey,
    /// Served while the flag is off.
    pub off_variation: VariationKey,
}

/// When a temporary flag is to be gone: at a time, or at the end of a day, UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
pub struct FlagEnd(String);

/// What can be the end of a temporary flag, in words.
pub const FLAG_END_RULE: &str =
    "must be a day like 2027-01-31, or a time with its offset like 2027-01-31T12:00:00Z";
/// Characters of an end.
pub const FLAG_END_CHARS_MAX: usize = 64;
/// Characters of a day.
const DAY_CHARS: usize = 10;

impl FlagEnd {
    /// Reads a day, or a time with its offset, of which the seconds are kept.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() == DAY_CHARS {
            return text.parse::<Date>().ok().map(|day| Self(day.to_string()));
        }
        let at = Timestamp::from_second(text.parse::<Timestamp>().ok()?.as_second()).ok()?;
        Some(Self(at.to_string()))
    }

    /// The time from which on it is past; what cannot be read never is.
    pub fn at(&self) -> Timestamp {
        let day = || {
            let next = self.0.parse::<Date>().ok()?.tomorrow().ok()?;
            Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
        };
        self.0.parse().ok().or_else(day).unwrap_or(Timestamp::MAX)
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A flag as it is the same in every environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FlagDefinition {
    /// Unique in the project.
    pub key: FlagKey,
    /// For people; the key if none was given.
    pub name: String,
    /// For people; may be empty.
    #[serde(default)]
    pub description: String,
    /// The type of every variation's value.
    pub kind: FlagKind,
    /// The values, at least one; configuration refers to them by index, so they keep their order.
    pub variations: Vec<Variation>,
    /// Free labels, sorted, each once.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether the flag is meant to be removed one day.
    #[serde(default)]
    pub temporary: bool,
    /// When it is to be gone; only of a temporary flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporary_until: Option<FlagEnd>,
    /// Which client-side SDKs may see it.
    #[serde(default)]
    pub client_side_availability: ClientSideAvailability,
    /// What it starts with in an environment.
    pub defaults: Defaults,
    /// Who looks after it, in their own words: an address, a name, a team.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintainer: Option<String>,
    /// What other systems know about it, by key.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_properties: BTreeMap<String, CustomProperty>,
    /// Whether nobody should use it any more; it is evaluated all the same.
    #[serde(default)]
    pub deprecated: bool,
    /// Whether it was put away: it is evaluated as if it were off everywhere, and cannot be changed until it is restored.
    #[serde(default)]
    pub archived: bool,
}

/// What another system knows about a flag.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustomProperty {
    /// For people.
    pub name: String,
    /// Each once, in the order in which they were added.
    #[serde(default)]
    pub values: Vec<String>,
}

impl FlagDefinition {
    /// What tells this definition from others of the flag: the beginning of the SHA-256 of its stored form, in hexadecimal.
    pub fn tag(&self) -> String {
        // OK because text and numbers can always be written.
        let stored = serde_json::to_vec(self).unwrap_or_default();
        let hash = Sha256::digest(stored);
        hash.iter().take(TAG_BYTES).map(|byte| format!("{byte:02x}")).collect()
    }

    /// The index of the variation with this key.
    pub fn variation_index(&self, key: &str) -> Option<usize> {
        self.variations.iter().position(|variation| variation.key.as_str() == key)
    }

    /// The key of the variation at `index`, for people; the number itself if there is none.
    pub fn variation_name(&self, index: i64) -> String {
        let found = usize::try_from(index).ok().and_then(|index| self.variations.get(index));
        found.map_or_else(|| index.to_string(), |variation| variation.key.to_string())
    }

    /// Says what is wrong if the definition is larger than it may be.
    pub fn size_problem(&self) -> Option<String> {
        size_problem(self)
    }

    /// Reads the body that creates a flag.
    ///
    /// # Errors
    ///
    /// Every problem with the body, with paths from its root.
    pub fn decode(body: Value) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let definition = object(body, "", &mut problems, decode_definition).flatten();
        match definition {
            Some(definition) if problems.is_empty() => match definition.size_problem() {
                Some(detail) => Err(Problems::one("", "too_large", detail)),
                None => Ok(definition),
            },
            _ => Err(problems),
        }
    }
}

/// Says what is wrong with a definition or configuration that is larger than it may be.
pub(crate) fn size_problem<T: Serialize>(body: &T) -> Option<String> {
    let n_bytes = serde_json::to_vec(body).map_or(usize::MAX, |text| text.len());
    (n_bytes > FLAG_BYTES_MAX).then(|| {
        format!("makes {n_bytes} bytes of JSON, of at most {FLAG_BYTES_MAX}; put long lists of keys into segments")
    })
}

fn decode_definition(fields: &mut Fields<'_>) -> Option<FlagDefinition> {
    let key = fields.required_key("key", FlagKey::parse);
    let name = fields.name("name");
    let description = fields.text("description", TEXT_CHARS_MAX).unwrap_or_default();
    if !fields.has("kind") {
        fields.missing("kind");
    }
    let kind = fields.word("kind", FLAG_KINDS);
    let variations = decode_variations(fields, kind);
    let tags = sorted_tags(fields.texts("tags", TAGS_MAX, NAME_CHARS_MAX));
    let temporary = fields.flag("temporary").unwrap_or(false);
    let temporary_until = decode_end(fields, temporary);
    let client_side_availability = decode_availability(fields).unwrap_or_default();
    let defaults = decode_defaults(fields, &variations);
    let maintainer = fields.name("maintainer");
    let key = key?;
    Some(FlagDefinition {
        name: name.unwrap_or_else(|| key.to_string()),
        key,
        description,
        kind: kind?,
        variations,
        tags,
        temporary,
        temporary_until,
        client_side_availability,
        defaults: defaults?,
        maintainer,
        custom_properties: BTreeMap::new(),
        deprecated: false,
        archived: false,
    })
}

/// Reads the field `temporaryUntil`, which only a temporary flag has.
fn decode_end(fields: &mut Fields<'_>, is_temporary: bool) -> Option<FlagEnd> {
    let text = fields.text("temporaryUntil", FLAG_END_CHARS_MAX)?;
    let end = FlagEnd::parse(&text);
    if end.is_none() {
        fields.refuse("temporaryUntil", "invalid_time", FLAG_END_RULE);
    } else if !is_temporary {
        let detail = "only a temporary flag has an end; say `temporary` as well";
        fields.refuse("temporaryUntil", "conflicting_fields", detail);
    }
    end
}

/// Sorts tags and drops those that are there twice.
pub fn sorted_tags(mut tags: Vec<String>) -> Vec<String> {
    tags.sort();
    tags.dedup();
    tags
}

fn decode_variations(fields: &mut Fields<'_>, kind: Option<FlagKind>) -> Vec<Variation> {
    if kind == Some(FlagKind::Boolean) && !fields.has("variations") {
        fields.take("variations");
        let named = |key, value| Variation {
            key: VariationKey::stored(key),
            name: String::new(),
            value: Value::Bool(value),
        };
        return vec![named("on", true), named("off", false)];
    }
    let has_list = fields.has("variations");
    let path = fields.path("variations");
    let variations = fields.list("variations", VARIATIONS_MAX, |item, path, problems| {
        let read = |fields: &mut Fields<'_>| {
            let key = fields.required_key("key", VariationKey::parse);
            let name = fields.text("name", NAME_CHARS_MAX).unwrap_or_default();
            let value = decode_value(fields, kind);
            Some(Variation { key: key?, name, value: value? })
        };
        object(item, path, problems, read).flatten()
    });
    if !has_list {
        fields.missing("variations");
    } else if variations.is_empty() && fields.problems().is_empty() {
        fields.refuse("variations", "required", "must have at least one variation");
    }
    for (i, variation) in variations.iter().enumerate() {
        if variations.iter().take(i).any(|earlier| earlier.key == variation.key) {
            let detail = format!("`{}` is the key of an earlier variation", variation.key);
            fields.problems().add(format!("{path}[{i}].key"), "duplicate_variation", detail);
        }
    }
    variations
}

/// Reads the field `value` of a variation, which must be of `kind` if that is known.
pub fn decode_value(fields: &mut Fields<'_>, kind: Option<FlagKind>) -> Option<Value> {
    let Some(value) = fields.take_or_null("value") else {
        fields.missing("value");
        return None;
    };
    if let Some(kind) = kind
        && !kind.admits(&value)
    {
        let detail = format!("must be a value of kind {}", kind.as_str());
        fields.refuse("value", "variation_kind", detail);
        return None;
    }
    if value.to_string().len() > VALUE_BYTES_MAX {
        let detail = format!("must be at most {VALUE_BYTES_MAX} bytes as JSON");
        fields.refuse("value", "too_long", detail);
        return None;
    }
    Some(value)
}

/// Reads the field `clientSideAvailability`, if it is there.
fn decode_availability(fields: &mut Fields<'_>) -> Option<ClientSideAvailability> {
    let value = fields.take("clientSideAvailability")?;
    let path = fields.path("clientSideAvailability");
    object(value, &path, fields.problems(), |fields| ClientSideAvailability {
        using_environment_id: fields.flag("usingEnvironmentId").unwrap_or(false),
        using_mobile_key: fields.flag("usingMobileKey").unwrap_or(false),
    })
}

/// Reads the field `defaults`; without it, the first variation is served when on and the last when off.
fn decode_defaults(fields: &mut Fields<'_>, variations: &[Variation]) -> Option<Defaults> {
    let mut on_variation = variations.first().map(|variation| variation.key.clone());
    let mut off_variation = variations.last().map(|variation| variation.key.clone());
    if let Some(value) = fields.take("defaults") {
        let path = fields.path("defaults");
        object(value, &path, fields.problems(), |fields| {
            on_variation = decode_default(fields, "onVariation", variations, on_variation.take());
            off_variation =
                decode_default(fields, "offVariation", variations, off_variation.take());
        });
    }
    Some(Defaults { on_variation: on_variation?, off_variation: off_variation? })
}

fn decode_default(
    fields: &mut Fields<'_>,
    name: &'static str,
    variations: &[Variation],
    otherwise: Option<VariationKey>,
) -> Option<VariationKey> {
    let Some(key) = fields.text(name, NAME_CHARS_MAX) else {
        return otherwise;
    };
    let found = variations.iter().find(|variation| variation.key.as_str() == key);
    // Without any variation the problem is there, and has been noted.
    if found.is_none() && !variations.is_empty() {
        fields.refuse(name, "unknown_variation", unknown_variation(&key, variations));
    }
    found.map(|variation| variation.key.clone())
}

/// The sentence for a variation that the flag does not have.
pub fn unknown_variation(key: &str, variations: &[Variation]) -> String {
    let known: Vec<&str> = variations.iter().map(|variation| variation.key.as_str()).collect();
    format!("`{key}` is not a variation of this flag; it has {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::FlagEnd;

    #[test]
    fn a_day_ends_with_its_last_second_and_a_time_at_once() {
        let at = |text: &str| FlagEnd::parse(text).map(|end| end.at().to_string());
        assert_eq!(at("2027-01-31").as_deref(), Some("2027-02-01T00:00:00Z"));
        assert_eq!(at("2027-01-31T12:00:00+01:00").as_deref(), Some("2027-01-31T11:00:00Z"));
        assert_eq!(at("9999-12-31").as_deref(), Some("9999-12-30T22:00:00.999999999Z"));
        for bad in ["", "soon", "2027-02-30", "2027-01-31T12:00:00", "20270131"] {
            assert_eq!(at(bad), None, "{bad}");
        }
    }
}
