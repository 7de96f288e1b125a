//! The instructions that edit a flag's definition, which is the same in every environment.

use crate::change::instruction::decode_list;
use crate::model::decode::Fields;
use crate::model::flag::FlagDefinition;
use crate::model::flag::Variation;
use crate::model::flag::decode_value;
use crate::model::flag::sorted_tags;
use crate::model::flag::unknown_variation;
use crate::model::key::VariationKey;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::TEXT_CHARS_MAX;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::problem::Problems;
use serde_json::Value;

/// One step of a change of a flag's definition.
#[derive(Debug, Clone, PartialEq)]
pub enum DefinitionInstruction {
    /// Sets the name.
    UpdateName(String),
    /// Sets the description.
    UpdateDescription(String),
    /// Adds tags; those that are there stay.
    AddTags(Vec<String>),
    /// Removes tags, as far as they are there.
    RemoveTags(Vec<String>),
    /// Says that the flag is to be removed one day, or that it stays.
    SetTemporary(bool),
    /// Shows or hides the flag to a kind of client-side SDK.
    SetClientSideAvailability {
        /// Which kind.
        side: ClientSide,
        /// Whether it sees the flag.
        available: bool,
    },
    /// Adds a variation, last.
    AddVariation(Variation),
    /// Changes a variation's value or name; its key and place stay.
    UpdateVariation {
        /// Its key.
        variation: String,
        /// The new value, if it changes.
        value: Option<Value>,
        /// The new name, if it changes.
        name: Option<String>,
    },
}

/// A kind of client-side SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientSide {
    /// Browsers.
    UsingEnvironmentId,
    /// Mobile applications.
    UsingMobileKey,
}

const SIDES: &[(&str, ClientSide)] = &[
    ("usingEnvironmentId", ClientSide::UsingEnvironmentId),
    ("usingMobileKey", ClientSide::UsingMobileKey),
];

const KINDS: &[&str] = &[
    "updateName",
    "updateDescription",
    "addTags",
    "removeTags",
    "makeFlagTemporary",
    "makeFlagPermanent",
    "turnOnClientSideAvailability",
    "turnOffClientSideAvailability",
    "addVariation",
    "updateVariation",
];

/// Reads the list of instructions that stands in the field `instructions` of a body.
pub fn decode_definition_instructions(fields: &mut Fields<'_>) -> Vec<DefinitionInstruction> {
    decode_list(fields, KINDS, |kind, fields| {
        Some(match kind {
            "updateName" => {
                if !fields.has("value") {
                    fields.missing("value");
                }
                DefinitionInstruction::UpdateName(fields.name("value").unwrap_or_default())
            }
            "updateDescription" => DefinitionInstruction::UpdateDescription(
                fields.required_text("value", TEXT_CHARS_MAX),
            ),
            "addTags" => DefinitionInstruction::AddTags(read_tags(fields)),
            "removeTags" => DefinitionInstruction::RemoveTags(read_tags(fields)),
            "makeFlagTemporary" => DefinitionInstruction::SetTemporary(true),
            "makeFlagPermanent" => DefinitionInstruction::SetTemporary(false),
            "addVariation" => {
                let key = fields.required_key("key", VariationKey::parse);
                let name = fields.text("name", NAME_CHARS_MAX).unwrap_or_default();
                let value = decode_value(fields, None);
                DefinitionInstruction::AddVariation(Variation { key: key?, name, value: value? })
            }
            "updateVariation" => {
                let variation = fields.required_text("variation", NAME_CHARS_MAX);
                let name = fields.text("name", NAME_CHARS_MAX);
                let value = if fields.has("value") {
                    decode_value(fields, None)
                } else {
                    fields.take("value")
                };
                DefinitionInstruction::UpdateVariation { variation, value, name }
            }
            _ => {
                if !fields.has("value") {
                    fields.missing("value");
                }
                let side = fields.word("value", SIDES);
                let available = kind == "turnOnClientSideAvailability";
                DefinitionInstruction::SetClientSideAvailability { side: side?, available }
            }
        })
    })
}

fn read_tags(fields: &mut Fields<'_>) -> Vec<String> {
    if !fields.has("values") {
        fields.missing("values");
    }
    fields.texts("values", TAGS_MAX, NAME_CHARS_MAX)
}

/// Applies instructions to a definition, in order and all or nothing; returns it with what was done, in words.
///
/// # Errors
///
/// Every problem with any of the instructions, with paths like `instructions[0].value`.
pub fn apply_to_definition(
    definition: &FlagDefinition,
    instructions: &[DefinitionInstruction],
) -> Result<(FlagDefinition, Vec<String>), Problems> {
    let mut new = definition.clone();
    let mut changes = Vec::new();
    let mut problems = Problems::default();
    for (i, instruction) in instructions.iter().enumerate() {
        let before = new.clone();
        let path = format!("instructions[{i}]");
        let words = step(&mut new, instruction, &path, &mut problems);
        if new != before {
            changes.push(words);
        }
    }
    // What was too large already, in data of an older version, may be edited.
    if new != *definition
        && let Some(detail) = new.size_problem()
        && definition.size_problem().is_none()
    {
        problems.add("instructions", "too_large", detail);
    }
    problems.into_result((new, changes))
}

fn step(
    flag: &mut FlagDefinition,
    instruction: &DefinitionInstruction,
    path: &str,
    problems: &mut Problems,
) -> String {
    match instruction {
        DefinitionInstruction::UpdateName(name) => {
            flag.name.clone_from(name);
            format!("renamed the flag to `{name}`")
        }
        DefinitionInstruction::UpdateDescription(description) => {
            flag.description.clone_from(description);
            "changed the description".to_owned()
        }
        DefinitionInstruction::AddTags(tags) => {
            let is_new = |tag: &&String| !flag.tags.contains(tag);
            let added: Vec<&str> = tags.iter().filter(is_new).map(String::as_str).collect();
            let words = format!("added the tags {}", added.join(", "));
            flag.tags = sorted_tags(flag.tags.iter().chain(tags).cloned().collect());
            if flag.tags.len() > TAGS_MAX {
                let detail = format!("a flag can have at most {TAGS_MAX} tags");
                problems.add(format!("{path}.values"), "too_many", detail);
            }
            words
        }
        DefinitionInstruction::RemoveTags(tags) => {
            let (removed, kept): (Vec<String>, Vec<String>) =
                flag.tags.drain(..).partition(|tag| tags.contains(tag));
            flag.tags = kept;
            format!("removed the tags {}", removed.join(", "))
        }
        DefinitionInstruction::SetTemporary(temporary) => {
            flag.temporary = *temporary;
            format!("made the flag {}", if *temporary { "temporary" } else { "permanent" })
        }
        DefinitionInstruction::SetClientSideAvailability { side, available } => {
            let availability = &mut flag.client_side_availability;
            let (field, who) = match side {
                ClientSide::UsingEnvironmentId => {
                    (&mut availability.using_environment_id, "browsers")
                }
                ClientSide::UsingMobileKey => {
                    (&mut availability.using_mobile_key, "mobile applications")
                }
            };
            *field = *available;
            format!("made the flag {} to {who}", if *available { "visible" } else { "invisible" })
        }
        DefinitionInstruction::AddVariation(variation) => {
            add_variation(flag, variation, path, problems);
            format!("added the variation `{}`", variation.key)
        }
        DefinitionInstruction::UpdateVariation { variation, value, name } => {
            update_variation(flag, variation, value.as_ref(), name.as_ref(), path, problems);
            format!("changed the variation `{variation}`")
        }
    }
}

fn add_variation(
    flag: &mut FlagDefinition,
    variation: &Variation,
    path: &str,
    problems: &mut Problems,
) {
    if flag.variation_index(variation.key.as_str()).is_some() {
        let detail = format!("`{}` is a variation already", variation.key);
        problems.add(format!("{path}.key"), "duplicate_variation", detail);
    } else if !flag.kind.admits(&variation.value) {
        wrong_kind(flag, path, problems);
    } else if flag.variations.len() == VARIATIONS_MAX {
        let detail = format!("a flag can have at most {VARIATIONS_MAX} variations");
        problems.add(path, "too_many", detail);
    } else {
        flag.variations.push(variation.clone());
    }
}

fn update_variation(
    flag: &mut FlagDefinition,
    key: &str,
    value: Option<&Value>,
    name: Option<&String>,
    path: &str,
    problems: &mut Problems,
) {
    let kind = flag.kind;
    let Some(found) = flag.variations.iter_mut().find(|each| each.key.as_str() == key) else {
        let detail = unknown_variation(key, &flag.variations);
        return problems.add(format!("{path}.variation"), "unknown_variation", detail);
    };
    if let Some(name) = name {
        found.name.clone_from(name);
    }
    match value {
        Some(value) if kind.admits(value) => found.value = value.clone(),
        Some(_) => wrong_kind(flag, path, problems),
        None => {}
    }
}

fn wrong_kind(flag: &FlagDefinition, path: &str, problems: &mut Problems) {
    let detail = format!("must be a value of kind {}", flag.kind.as_str());
    problems.add(format!("{path}.value"), "variation_kind", detail);
}
