//! Reading lists of instructions for a flag's configuration.

use crate::change::instruction::ClauseEdit;
use crate::change::instruction::Instruction;
use crate::change::instruction::RuleSpec;
use crate::change::instruction::TargetSpec;
use crate::change::read;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::decode::wrong_type;
use crate::model::key::FlagKey;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::INSTRUCTIONS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::USER_KIND;
use serde_json::Value;

/// Lists of targets that one instruction may give: one for each variation and kind.
pub(super) const TARGET_LISTS_MAX: usize = 1_000;

type Read = fn(&mut Fields<'_>) -> Option<Instruction>;

const READERS: &[(&str, Read)] = &[
    ("turnFlagOn", |_| Some(Instruction::TurnFlagOn)),
    ("turnFlagOff", |_| Some(Instruction::TurnFlagOff)),
    ("updateFallthroughVariationOrRollout", |fields| {
        read::serve(fields).map(Instruction::UpdateFallthroughVariationOrRollout)
    }),
    ("updateOffVariation", |fields| {
        let variation = fields.required_text("variation", NAME_CHARS_MAX);
        Some(Instruction::UpdateOffVariation { variation })
    }),
    ("addRule", read_rule),
    ("removeRule", |fields| {
        let rule_id = fields.required_text("ruleId", NAME_CHARS_MAX);
        Some(Instruction::RemoveRule { rule_id })
    }),
    ("reorderRules", |fields| {
        if !fields.has("ruleIds") {
            fields.missing("ruleIds");
        }
        let rule_ids = fields.texts("ruleIds", RULES_MAX, NAME_CHARS_MAX);
        Some(Instruction::ReorderRules { rule_ids })
    }),
    ("replaceRules", read_rules),
    ("updateRuleDescription", |fields| {
        let rule_id = fields.required_text("ruleId", NAME_CHARS_MAX);
        let description = fields.required_text("description", NAME_CHARS_MAX);
        Some(Instruction::UpdateRuleDescription { rule_id, description })
    }),
    ("updateRuleTrackEvents", |fields| {
        let rule_id = fields.required_text("ruleId", NAME_CHARS_MAX);
        let track_events = read_track_events(fields)?;
        Some(Instruction::UpdateRuleTrackEvents { rule_id, track_events })
    }),
    ("updateTrackEvents", |fields| read_track_events(fields).map(Instruction::UpdateTrackEvents)),
    ("updateTrackEventsFallthrough", |fields| {
        read_track_events(fields).map(Instruction::UpdateTrackEventsFallthrough)
    }),
    ("updateRuleVariationOrRollout", |fields| {
        let rule_id = fields.required_text("ruleId", NAME_CHARS_MAX);
        let serve = read::serve(fields)?;
        Some(Instruction::UpdateRuleVariationOrRollout { rule_id, serve })
    }),
    ("addClauses", |fields| read_edit("addClauses", fields)),
    ("removeClauses", |fields| read_edit("removeClauses", fields)),
    ("updateClause", |fields| read_edit("updateClause", fields)),
    ("addValuesToClause", |fields| read_edit("addValuesToClause", fields)),
    ("removeValuesFromClause", |fields| read_edit("removeValuesFromClause", fields)),
    ("addTargets", |fields| Some(Instruction::AddTargets(read_targets(fields)))),
    ("removeTargets", |fields| Some(Instruction::RemoveTargets(read_targets(fields)))),
    ("replaceTargets", |fields| {
        if !fields.has("targets") {
            fields.missing("targets");
        }
        let read = |item: Value, path: &str, problems: &mut Problems| {
            object(item, path, problems, read_targets)
        };
        let targets = fields.list("targets", TARGET_LISTS_MAX, read);
        Some(Instruction::ReplaceTargets { context_kind: None, targets })
    }),
    ("clearTargets", |fields| {
        let has_kind = fields.has("contextKind");
        let context_kind = read::context_kind(fields, "contextKind");
        let variation = fields.text("variation", NAME_CHARS_MAX);
        Some(Instruction::ClearTargets {
            context_kind: has_kind.then_some(context_kind),
            variation,
        })
    }),
    ("addUserTargets", |fields| Some(Instruction::AddTargets(read_user_targets(fields)))),
    ("removeUserTargets", |fields| Some(Instruction::RemoveTargets(read_user_targets(fields)))),
    ("replaceUserTargets", |fields| {
        if !fields.has("targets") {
            fields.missing("targets");
        }
        let read = |item: Value, path: &str, problems: &mut Problems| {
            object(item, path, problems, read_user_targets)
        };
        let targets = fields.list("targets", TARGET_LISTS_MAX, read);
        Some(Instruction::ReplaceTargets { context_kind: Some(USER_KIND.to_owned()), targets })
    }),
    ("clearUserTargets", |fields| {
        let variation = fields.text("variation", NAME_CHARS_MAX);
        Some(Instruction::ClearTargets { context_kind: Some(USER_KIND.to_owned()), variation })
    }),
    ("addPrerequisite", |fields| {
        let (key, variation) = read_prerequisite(fields)?;
        Some(Instruction::AddPrerequisite { key, variation })
    }),
    ("removePrerequisite", |fields| {
        let key = fields.required_key("key", FlagKey::parse);
        Some(Instruction::RemovePrerequisite { key: key? })
    }),
    ("updatePrerequisite", |fields| {
        let (key, variation) = read_prerequisite(fields)?;
        Some(Instruction::UpdatePrerequisite { key, variation })
    }),
    ("replacePrerequisites", |fields| {
        if !fields.has("prerequisites") {
            fields.missing("prerequisites");
        }
        let read = |item: Value, path: &str, problems: &mut Problems| {
            object(item, path, problems, read_prerequisite).flatten()
        };
        let list = fields.list("prerequisites", PREREQUISITES_MAX, read);
        Some(Instruction::ReplacePrerequisites(list))
    }),
];

/// The names of the instructions, in the order of the documentation.
pub const INSTRUCTION_KINDS: [&str; READERS.len()] = {
    let mut kinds = [""; READERS.len()];
    let mut i = 0;
    while i < READERS.len() {
        #[expect(clippy::indexing_slicing, reason = "evaluated at compile time, within bounds")]
        let (kind, _) = READERS[i];
        #[expect(clippy::indexing_slicing, reason = "evaluated at compile time, within bounds")]
        {
            kinds[i] = kind;
        }
        i += 1;
    }
    kinds
};

/// Reads the list of instructions that stands in the field `instructions` of a body.
///
/// Problems are noted with paths from the root of the body.
pub fn decode_instructions(fields: &mut Fields<'_>) -> Vec<Instruction> {
    decode_list(fields, &INSTRUCTION_KINDS, |kind, fields| {
        let (_, read) = READERS.iter().find(|(name, _)| *name == kind)?;
        read(fields)
    })
}

/// Reads the field `instructions`, whose items are objects with one of the `kinds`.
pub(crate) fn decode_list<T>(
    fields: &mut Fields<'_>,
    kinds: &[&str],
    mut read: impl FnMut(&str, &mut Fields<'_>) -> Option<T>,
) -> Vec<T> {
    if !fields.has("instructions") {
        fields.missing("instructions");
    }
    if read::has_too_many_patterns(fields, "instructions") {
        fields.take("instructions");
        return Vec::new();
    }
    fields.list("instructions", INSTRUCTIONS_MAX, |item, path, problems| {
        let kind = match item.get("kind") {
            Some(Value::String(kind)) => kind.clone(),
            Some(other) => {
                wrong_type(problems, &format!("{path}.kind"), "a string", other);
                return None;
            }
            None if item.is_object() => {
                problems.add(format!("{path}.kind"), "required", "`kind` is required");
                return None;
            }
            None => {
                wrong_type(problems, path, "an object", &item);
                return None;
            }
        };
        if !kinds.contains(&kind.as_str()) {
            let detail =
                format!("`{kind}` is not an instruction here; known are {}", kinds.join(", "));
            problems.add(format!("{path}.kind"), "unknown_instruction", detail);
            return None;
        }
        let read_one = |fields: &mut Fields<'_>| {
            fields.take("kind");
            read(&kind, fields)
        };
        object(item, path, problems, read_one).flatten()
    })
}

fn read_rule(fields: &mut Fields<'_>) -> Option<Instruction> {
    let description = fields.text("description", NAME_CHARS_MAX).unwrap_or_default();
    let clauses = read::clauses(fields);
    let before_rule_id = fields.text("beforeRuleId", NAME_CHARS_MAX);
    let id = fields.text("id", NAME_CHARS_MAX).filter(|id| !id.is_empty());
    let serve = read::serve(fields)?;
    Some(Instruction::AddRule { id, description, clauses, serve, before_rule_id })
}

fn read_rules(fields: &mut Fields<'_>) -> Option<Instruction> {
    if !fields.has("rules") {
        fields.missing("rules");
    }
    let rules = fields.list("rules", RULES_MAX, |item, path, problems| {
        let read = |fields: &mut Fields<'_>| {
            let id = fields.text("id", NAME_CHARS_MAX).filter(|id| !id.is_empty());
            let description = fields.text("description", NAME_CHARS_MAX).unwrap_or_default();
            let clauses = read::clauses(fields);
            let track_events = fields.flag("trackEvents");
            Some(RuleSpec { id, description, clauses, serve: read::serve(fields)?, track_events })
        };
        object(item, path, problems, read).flatten()
    });
    Some(Instruction::ReplaceRules(rules))
}

fn read_track_events(fields: &mut Fields<'_>) -> Option<bool> {
    if !fields.has("trackEvents") {
        fields.missing("trackEvents");
    }
    fields.flag("trackEvents")
}

fn read_edit(kind: &str, fields: &mut Fields<'_>) -> Option<Instruction> {
    let rule_id = fields.required_text("ruleId", NAME_CHARS_MAX);
    Some(Instruction::EditClauses { rule_id, edit: read_clause_edit(kind, fields)? })
}

/// Reads what is changed of a rule's clauses, by the name of the instruction.
pub(super) fn read_clause_edit(kind: &str, fields: &mut Fields<'_>) -> Option<ClauseEdit> {
    match kind {
        "addClauses" => {
            if !fields.has("clauses") {
                fields.missing("clauses");
            }
            return Some(ClauseEdit::Add(read::clauses(fields)));
        }
        "removeClauses" => {
            if !fields.has("clauseIds") {
                fields.missing("clauseIds");
            }
            let ids = fields.texts("clauseIds", CLAUSES_MAX, NAME_CHARS_MAX);
            return Some(ClauseEdit::Remove(ids));
        }
        _ => {}
    }
    let clause_id = fields.required_text("clauseId", NAME_CHARS_MAX);
    if kind == "updateClause" {
        let Some(value) = fields.take("clause") else {
            fields.missing("clause");
            return None;
        };
        let path = fields.path("clause");
        let read = |fields: &mut Fields<'_>| read::clause(fields, &path);
        let clause = object(value, &path, fields.problems(), read)?;
        return Some(ClauseEdit::Update { clause_id, clause });
    }
    if !fields.has("values") {
        fields.missing("values");
    }
    let values = fields.list("values", CLAUSE_VALUES_MAX, |value, _, _| Some(value));
    Some(if kind == "addValuesToClause" {
        ClauseEdit::AddValues { clause_id, values }
    } else {
        ClauseEdit::RemoveValues { clause_id, values }
    })
}

fn read_prerequisite(fields: &mut Fields<'_>) -> Option<(FlagKey, String)> {
    let key = fields.required_key("key", FlagKey::parse);
    let variation = fields.required_text("variation", NAME_CHARS_MAX);
    Some((key?, variation))
}

fn read_targets(fields: &mut Fields<'_>) -> TargetSpec {
    let context_kind = read::context_kind(fields, "contextKind");
    TargetSpec { context_kind, ..read_user_targets(fields) }
}

fn read_user_targets(fields: &mut Fields<'_>) -> TargetSpec {
    let context_kind = USER_KIND.to_owned();
    let variation = fields.required_text("variation", NAME_CHARS_MAX);
    if !fields.has("values") {
        fields.missing("values");
    }
    let values = fields.texts("values", TARGET_KEYS_MAX, CONTEXT_KEY_CHARS_MAX);
    TargetSpec { context_kind, values, variation }
}
