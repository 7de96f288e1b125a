//! The instructions that edit a flag's definition, which is the same in every environment, and how they are read.
//!
//! What they do is in `define`.

use crate::change::decode::decode_list;
use crate::model::decode::Fields;
use crate::model::flag::FLAG_END_CHARS_MAX;
use crate::model::flag::FLAG_END_RULE;
use crate::model::flag::FlagEnd;
use crate::model::flag::Variation;
use crate::model::flag::decode_value;
use crate::model::key::VariationKey;
use crate::model::limit::CUSTOM_VALUES_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::TEXT_CHARS_MAX;
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
    /// Says when a temporary flag is to be gone; `None` says that it is not known.
    SetTemporaryUntil(Option<FlagEnd>),
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
    /// Removes a variation that nothing uses; those after it move up, wherever they are used.
    RemoveVariation(String),
    /// Sets what the flag starts with in environments that are created later.
    UpdateDefaultVariation {
        /// Served while it is on; `None` leaves it as it is.
        on: Option<String>,
        /// Served while it is off; `None` leaves it as it is.
        off: Option<String>,
    },
    /// Says who looks after the flag; `None` says that nobody does.
    SetMaintainer(Option<String>),
    /// Changes what another system knows about the flag.
    EditCustomProperty {
        /// The key of the property.
        key: String,
        /// Its name, if that changes.
        name: Option<String>,
        /// What is changed.
        edit: ListEdit,
    },
    /// Says that nobody should use the flag any more, or that it may be used again.
    SetDeprecated(bool),
    /// Puts the flag away: it is off for everyone and cannot be changed.
    Archive {
        /// Whether that is done to a flag that is still evaluated.
        ignores_usage: bool,
    },
    /// Takes it back.
    Restore,
    /// Deletes the flag for good; its key stays taken.
    Delete,
}

/// What is changed of a list of texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEdit {
    /// Adds texts, as far as they are not there.
    Add(Vec<String>),
    /// Removes texts, as far as they are there.
    Remove(Vec<String>),
    /// Puts these in the place of all.
    Replace(Vec<String>),
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

/// The names of the instructions, in the order of the documentation.
pub const DEFINITION_INSTRUCTION_KINDS: &[&str] = &[
    "updateName",
    "updateDescription",
    "addTags",
    "removeTags",
    "makeFlagTemporary",
    "makeFlagPermanent",
    "updateTemporaryUntil",
    "removeTemporaryUntil",
    "updateMaintainerMember",
    "updateMaintainerTeam",
    "removeMaintainer",
    "addCustomProperties",
    "removeCustomProperties",
    "replaceCustomProperties",
    "turnOnClientSideAvailability",
    "turnOffClientSideAvailability",
    "addVariation",
    "updateVariation",
    "removeVariation",
    "updateDefaultVariation",
    "deprecateFlag",
    "restoreDeprecatedFlag",
    "archiveFlag",
    "restoreFlag",
    "deleteFlag",
];

/// Reads the list of instructions that stands in the field `instructions` of a body.
pub fn decode_definition_instructions(fields: &mut Fields<'_>) -> Vec<DefinitionInstruction> {
    decode_list(fields, DEFINITION_INSTRUCTION_KINDS, |kind, fields| {
        Some(match kind {
            "updateName" => {
                DefinitionInstruction::UpdateName(read_name(fields).unwrap_or_default())
            }
            "updateDescription" => DefinitionInstruction::UpdateDescription(
                fields.required_text("value", TEXT_CHARS_MAX),
            ),
            "addTags" => DefinitionInstruction::AddTags(read_tags(fields)),
            "removeTags" => DefinitionInstruction::RemoveTags(read_tags(fields)),
            "makeFlagTemporary" => DefinitionInstruction::SetTemporary(true),
            "makeFlagPermanent" => DefinitionInstruction::SetTemporary(false),
            "updateTemporaryUntil" => {
                DefinitionInstruction::SetTemporaryUntil(Some(read_end(fields)?))
            }
            "removeTemporaryUntil" => DefinitionInstruction::SetTemporaryUntil(None),
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
            "removeVariation" => DefinitionInstruction::RemoveVariation(
                fields.required_text("variation", NAME_CHARS_MAX),
            ),
            "updateDefaultVariation" => read_defaults(fields),
            "updateMaintainerMember" | "updateMaintainerTeam" => {
                DefinitionInstruction::SetMaintainer(Some(read_name(fields)?))
            }
            "removeMaintainer" => DefinitionInstruction::SetMaintainer(None),
            "addCustomProperties" | "removeCustomProperties" | "replaceCustomProperties" => {
                read_custom_property(kind, fields)
            }
            "deprecateFlag" => DefinitionInstruction::SetDeprecated(true),
            "restoreDeprecatedFlag" => DefinitionInstruction::SetDeprecated(false),
            "archiveFlag" => {
                let ignores_usage = fields.flag("ignoreUsage").unwrap_or(false);
                DefinitionInstruction::Archive { ignores_usage }
            }
            "restoreFlag" => DefinitionInstruction::Restore,
            "deleteFlag" => DefinitionInstruction::Delete,
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

fn read_name(fields: &mut Fields<'_>) -> Option<String> {
    if !fields.has("value") {
        fields.missing("value");
    }
    fields.name("value")
}

fn read_end(fields: &mut Fields<'_>) -> Option<FlagEnd> {
    if !fields.has("value") {
        fields.missing("value");
    }
    let end = FlagEnd::parse(&fields.text("value", FLAG_END_CHARS_MAX)?);
    if end.is_none() {
        fields.refuse("value", "invalid_time", FLAG_END_RULE);
    }
    end
}

fn read_tags(fields: &mut Fields<'_>) -> Vec<String> {
    if !fields.has("values") {
        fields.missing("values");
    }
    fields.texts("values", TAGS_MAX, NAME_CHARS_MAX)
}

fn read_defaults(fields: &mut Fields<'_>) -> DefinitionInstruction {
    let on = fields.text("onVariation", NAME_CHARS_MAX);
    let off = fields.text("offVariation", NAME_CHARS_MAX);
    if on.is_none() && off.is_none() {
        fields.refuse("onVariation", "required", "give `onVariation`, `offVariation` or both");
    }
    DefinitionInstruction::UpdateDefaultVariation { on, off }
}

fn read_custom_property(kind: &str, fields: &mut Fields<'_>) -> DefinitionInstruction {
    let key = fields.required_text("key", NAME_CHARS_MAX);
    if key.is_empty() && fields.problems().is_empty() {
        fields.refuse("key", "required", "must not be empty");
    }
    let name = fields.text("name", NAME_CHARS_MAX);
    if kind == "replaceCustomProperties" && !fields.has("values") {
        fields.missing("values");
    }
    let values = fields.texts("values", CUSTOM_VALUES_MAX, NAME_CHARS_MAX);
    let edit = match kind {
        "addCustomProperties" => ListEdit::Add(values),
        "removeCustomProperties" => ListEdit::Remove(values),
        _ => ListEdit::Replace(values),
    };
    DefinitionInstruction::EditCustomProperty { key, name, edit }
}
