//! The instructions that edit a segment, and how they are read.
//!
//! What they do is in `segment_apply`; reading a whole segment, in `segment`.

use crate::change::decode::decode_list;
use crate::change::decode::read_clause_edit;
use crate::change::instruction::ClauseEdit;
use crate::change::read;
use crate::model::decode::Fields;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::TEXT_CHARS_MAX;
use crate::model::rule::Clause;
use crate::model::rule::ROLLOUT_HASHES;
use crate::model::rule::RolloutHash;
use crate::model::rule::USER_KIND;
use crate::model::rule::WEIGHT_TOTAL;

/// One step of a change of a segment.
#[derive(Debug, Clone, PartialEq)]
pub enum SegmentInstruction {
    /// Sets the name.
    UpdateName(String),
    /// Sets the description.
    UpdateDescription(String),
    /// Adds tags; those that are there stay.
    AddTags(Vec<String>),
    /// Removes tags, as far as they are there.
    RemoveTags(Vec<String>),
    /// Adds keys to a list, or removes them from it.
    EditKeys {
        /// Whether it is the list of those who are in; otherwise, of those who are out.
        is_included: bool,
        /// Whether keys are added; otherwise they are removed.
        is_added: bool,
        /// The kind of the contexts.
        context_kind: String,
        /// Their keys.
        values: Vec<String>,
    },
    /// Removes all keys of one kind from a list.
    ClearKeys {
        /// Whether it is the list of those who are in; otherwise, of those who are out.
        is_included: bool,
        /// The kind of the contexts.
        context_kind: String,
    },
    /// Adds a rule, last or before another.
    AddRule {
        /// The id that it gets; `None` makes one.
        id: Option<String>,
        /// For people; may be empty.
        description: String,
        /// All must match.
        clauses: Vec<Clause>,
        /// Which share of those who match is in.
        share: ShareSpec,
        /// The rule that it comes before; `None` adds it last.
        before_rule_id: Option<String>,
    },
    /// Removes a rule.
    RemoveRule(String),
    /// Puts the rules into another order.
    ReorderRules(Vec<String>),
    /// Sets what people call a rule.
    UpdateRuleDescription {
        /// The rule.
        rule_id: String,
        /// May be empty.
        description: String,
    },
    /// Sets which share of those who match a rule is in.
    UpdateRuleShare {
        /// The rule.
        rule_id: String,
        /// The share.
        share: ShareSpec,
    },
    /// Changes the clauses of a rule.
    EditClauses {
        /// The rule.
        rule_id: String,
        /// What is changed.
        edit: ClauseEdit,
    },
}

/// A share of those who match a rule.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareSpec {
    /// In thousandths of a percent; `None` is everyone.
    pub weight_milli_pct: Option<u32>,
    /// The attribute that is hashed; empty means the key, `None` leaves it as it is.
    pub bucket_by: Option<String>,
    /// The kind of context that is divided; `None` leaves it as it is.
    pub context_kind: Option<String>,
    /// How it is hashed; `None` leaves it as it is.
    pub hash: Option<RolloutHash>,
}

/// The names of the instructions, in the order of the documentation.
pub const SEGMENT_INSTRUCTION_KINDS: &[&str] = &[
    "updateName",
    "updateDescription",
    "addTags",
    "removeTags",
    "addIncludedTargets",
    "removeIncludedTargets",
    "clearIncludedTargets",
    "addExcludedTargets",
    "removeExcludedTargets",
    "clearExcludedTargets",
    "addIncludedUsers",
    "removeIncludedUsers",
    "addExcludedUsers",
    "removeExcludedUsers",
    "addRule",
    "removeRule",
    "reorderRules",
    "updateRuleDescription",
    "updateRuleRolloutAndContextKind",
    "addClauses",
    "removeClauses",
    "updateClause",
    "addValuesToClause",
    "removeValuesFromClause",
];

/// Reads the list of instructions that stands in the field `instructions` of a body.
pub fn decode_segment_instructions(fields: &mut Fields<'_>) -> Vec<SegmentInstruction> {
    decode_list(fields, SEGMENT_INSTRUCTION_KINDS, |kind, fields| {
        Some(match kind {
            "updateName" => {
                if !fields.has("value") {
                    fields.missing("value");
                }
                SegmentInstruction::UpdateName(fields.name("value").unwrap_or_default())
            }
            "updateDescription" => {
                SegmentInstruction::UpdateDescription(fields.required_text("value", TEXT_CHARS_MAX))
            }
            "addTags" | "removeTags" => {
                let tags = required_texts(fields, "values", TAGS_MAX, NAME_CHARS_MAX);
                match kind {
                    "addTags" => SegmentInstruction::AddTags(tags),
                    _ => SegmentInstruction::RemoveTags(tags),
                }
            }
            "clearIncludedTargets" | "clearExcludedTargets" => {
                let context_kind = read::context_kind(fields, "contextKind");
                let is_included = kind == "clearIncludedTargets";
                SegmentInstruction::ClearKeys { is_included, context_kind }
            }
            "addIncludedTargets"
            | "removeIncludedTargets"
            | "addExcludedTargets"
            | "removeExcludedTargets" => {
                let context_kind = read::context_kind(fields, "contextKind");
                read_keys(kind, fields, context_kind)
            }
            "addIncludedUsers"
            | "removeIncludedUsers"
            | "addExcludedUsers"
            | "removeExcludedUsers" => read_keys(kind, fields, USER_KIND.to_owned()),
            "addRule" => SegmentInstruction::AddRule {
                id: fields.text("id", NAME_CHARS_MAX).filter(|id| !id.is_empty()),
                description: fields.text("description", NAME_CHARS_MAX).unwrap_or_default(),
                clauses: read::clauses(fields),
                before_rule_id: fields.text("beforeRuleId", NAME_CHARS_MAX),
                share: read_share(fields),
            },
            "removeRule" => {
                SegmentInstruction::RemoveRule(fields.required_text("ruleId", NAME_CHARS_MAX))
            }
            "reorderRules" => SegmentInstruction::ReorderRules(required_texts(
                fields,
                "ruleIds",
                RULES_MAX,
                NAME_CHARS_MAX,
            )),
            "updateRuleDescription" => SegmentInstruction::UpdateRuleDescription {
                rule_id: fields.required_text("ruleId", NAME_CHARS_MAX),
                description: fields.required_text("description", NAME_CHARS_MAX),
            },
            "updateRuleRolloutAndContextKind" => SegmentInstruction::UpdateRuleShare {
                rule_id: fields.required_text("ruleId", NAME_CHARS_MAX),
                share: read_share(fields),
            },
            _ => {
                let rule_id = fields.required_text("ruleId", NAME_CHARS_MAX);
                let edit = read_clause_edit(kind, fields)?;
                SegmentInstruction::EditClauses { rule_id, edit }
            }
        })
    })
}

fn required_texts(
    fields: &mut Fields<'_>,
    name: &'static str,
    items_max: usize,
    chars_max: usize,
) -> Vec<String> {
    if !fields.has(name) {
        fields.missing(name);
    }
    fields.texts(name, items_max, chars_max)
}

fn read_keys(kind: &str, fields: &mut Fields<'_>, context_kind: String) -> SegmentInstruction {
    SegmentInstruction::EditKeys {
        is_included: kind.contains("Included"),
        is_added: kind.starts_with("add"),
        context_kind,
        values: required_texts(fields, "values", SEGMENT_KEYS_MAX, CONTEXT_KEY_CHARS_MAX),
    }
}

fn read_share(fields: &mut Fields<'_>) -> ShareSpec {
    let has = ["bucketBy", "rolloutContextKind"].map(|name| fields.has(name));
    let [has_bucket_by, has_kind] = has;
    let weight = fields.integer("weight", 0..=i64::from(WEIGHT_TOTAL));
    let bucket_by = read::bucket_by(fields, "bucketBy");
    let context_kind = read::context_kind(fields, "rolloutContextKind");
    ShareSpec {
        weight_milli_pct: weight.and_then(|weight| u32::try_from(weight).ok()),
        bucket_by: has_bucket_by.then_some(bucket_by),
        context_kind: has_kind.then_some(context_kind),
        hash: fields.word("hash", ROLLOUT_HASHES),
    }
}
