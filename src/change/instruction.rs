//! The instructions that edit a flag's configuration in one environment, and how they are read.

use crate::change::read;
use crate::change::read::ServeSpec;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::decode::wrong_type;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::INSTRUCTIONS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use serde_json::Value;
use std::collections::BTreeSet;

/// One step of a change of a flag's configuration; variations are named by key.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// Targets, rules and fallthrough decide.
    TurnFlagOn,
    /// Everyone gets the off variation.
    TurnFlagOff,
    /// Sets what those get whom no target and no rule matches.
    UpdateFallthroughVariationOrRollout(ServeSpec),
    /// Sets what everyone gets while the flag is off.
    UpdateOffVariation {
        /// The variation.
        variation: String,
    },
    /// Adds a rule, last or before another.
    AddRule {
        /// For people; may be empty.
        description: String,
        /// All must match.
        clauses: Vec<Clause>,
        /// What is served.
        serve: ServeSpec,
        /// The rule that it comes before; `None` adds it last.
        before_rule_id: Option<String>,
    },
    /// Removes a rule.
    RemoveRule {
        /// Its id.
        rule_id: String,
    },
    /// Gives a variation to contexts by their keys; takes them from the variation that they had.
    AddTargets(TargetSpec),
    /// Takes contexts from a variation's targets.
    RemoveTargets(TargetSpec),
    /// Makes another flag's variation a condition.
    AddPrerequisite {
        /// The other flag.
        key: FlagKey,
        /// The variation that it must serve.
        variation: String,
    },
    /// Removes a condition.
    RemovePrerequisite {
        /// The other flag.
        key: FlagKey,
    },
}

/// Individual targets.
#[derive(Debug, Clone, PartialEq)]
pub struct TargetSpec {
    /// The kind of the contexts.
    pub context_kind: String,
    /// The keys of the contexts.
    pub values: Vec<String>,
    /// The variation.
    pub variation: String,
}

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
    ("addTargets", |fields| Some(Instruction::AddTargets(read_targets(fields)))),
    ("removeTargets", |fields| Some(Instruction::RemoveTargets(read_targets(fields)))),
    ("addPrerequisite", |fields| {
        let key = fields.required_key("key", FlagKey::parse);
        let variation = fields.required_text("variation", NAME_CHARS_MAX);
        Some(Instruction::AddPrerequisite { key: key?, variation })
    }),
    ("removePrerequisite", |fields| {
        let key = fields.required_key("key", FlagKey::parse);
        Some(Instruction::RemovePrerequisite { key: key? })
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
    let serve = read::serve(fields)?;
    Some(Instruction::AddRule { description, clauses, serve, before_rule_id })
}

fn read_targets(fields: &mut Fields<'_>) -> TargetSpec {
    let context_kind = read::context_kind(fields, "contextKind");
    let variation = fields.required_text("variation", NAME_CHARS_MAX);
    if !fields.has("values") {
        fields.missing("values");
    }
    let values = fields.texts("values", TARGET_KEYS_MAX, CONTEXT_KEY_CHARS_MAX);
    TargetSpec { context_kind, values, variation }
}

/// What a change refers to beside its own flag.
#[derive(Debug, Default)]
pub struct References {
    /// Flags that become prerequisites.
    pub flags: BTreeSet<FlagKey>,
    /// Segments that rules ask for.
    pub segments: BTreeSet<SegmentKey>,
}

/// Returns what the instructions refer to, so that it can be loaded before they are applied.
pub fn references(instructions: &[Instruction]) -> References {
    let mut references = References::default();
    for instruction in instructions {
        match instruction {
            Instruction::AddPrerequisite { key, .. } => {
                references.flags.insert(key.clone());
            }
            Instruction::AddRule { clauses, .. } => {
                references.segments.extend(segments_of(clauses));
            }
            _ => {}
        }
    }
    references
}

/// Returns the segments that clauses ask for.
pub fn segments_of<'c>(
    clauses: impl IntoIterator<Item = &'c Clause>,
) -> impl Iterator<Item = SegmentKey> {
    let asking = clauses.into_iter().filter(|clause| clause.op == "segmentMatch");
    asking.flat_map(|clause| &clause.values).filter_map(Value::as_str).map(SegmentKey::stored)
}

/// Notes that a clause asks for a segment that does not exist.
pub(crate) fn check_segments(
    clauses: &[Clause],
    path: &str,
    exists: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    for (i, clause) in clauses.iter().enumerate().filter(|(_, c)| c.op == "segmentMatch") {
        for (j, key) in clause.values.iter().enumerate() {
            if let Some(key) = key.as_str().filter(|key| !exists(key)) {
                let path = format!("{path}.clauses[{i}].values[{j}]");
                let detail =
                    format!("`{key}` is not a segment of this environment; create it first");
                problems.add(path, "unknown_segment", detail);
            }
        }
    }
}
