//! The instructions that edit a flag's configuration in one environment, and what they refer to.
//!
//! How they are read is in `decode`.

use crate::change::read::ServeSpec;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::key::is_key;
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
        /// The id that it gets; `None` makes one.
        id: Option<String>,
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
    /// Puts the rules into another order.
    ReorderRules {
        /// The ids of all rules.
        rule_ids: Vec<String>,
    },
    /// Puts other rules in the place of all that are there.
    ReplaceRules(Vec<RuleSpec>),
    /// Sets what people call a rule.
    UpdateRuleDescription {
        /// The rule.
        rule_id: String,
        /// May be empty.
        description: String,
    },
    /// Sets whether SDKs report each evaluation of the flag as an event.
    UpdateTrackEvents(bool),
    /// Sets whether they report those that the fallthrough serves.
    UpdateTrackEventsFallthrough(bool),
    /// Sets whether they report those that a rule decides.
    UpdateRuleTrackEvents {
        /// The rule.
        rule_id: String,
        /// Whether they do.
        track_events: bool,
    },
    /// Sets what a rule leads to.
    UpdateRuleVariationOrRollout {
        /// The rule.
        rule_id: String,
        /// What is served.
        serve: ServeSpec,
    },
    /// Changes the clauses of a rule.
    EditClauses {
        /// The rule.
        rule_id: String,
        /// What is changed.
        edit: ClauseEdit,
    },
    /// Gives a variation to contexts by their keys; takes them from the variation that they had.
    AddTargets(TargetSpec),
    /// Takes contexts from a variation's targets.
    RemoveTargets(TargetSpec),
    /// Puts other targets in the place of those that are there.
    ReplaceTargets {
        /// The kind of the contexts, of which all targets are; `None` replaces those of every kind.
        context_kind: Option<String>,
        /// The targets.
        targets: Vec<TargetSpec>,
    },
    /// Removes targets.
    ClearTargets {
        /// The kind of the contexts; `None` removes those of every kind.
        context_kind: Option<String>,
        /// Only those of this variation.
        variation: Option<String>,
    },
    /// Makes another flag's variation a condition.
    AddPrerequisite {
        /// The other flag.
        key: FlagKey,
        /// The variation that it must serve.
        variation: String,
    },
    /// Sets which variation a condition asks for.
    UpdatePrerequisite {
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
    /// Puts other conditions in the place of all that are there: flags, and the variations that they must serve.
    ReplacePrerequisites(Vec<(FlagKey, String)>),
}

/// A rule that takes its place among others.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// The id of the rule that it goes on from, or that it gets; `None` makes one.
    pub id: Option<String>,
    /// For people; may be empty.
    pub description: String,
    /// All must match.
    pub clauses: Vec<Clause>,
    /// What is served.
    pub serve: ServeSpec,
    /// Whether SDKs report what it decides; `None` leaves that as it was.
    pub track_events: Option<bool>,
}

/// What is changed of a rule's clauses, of a flag's rule as of a segment's.
#[derive(Debug, Clone, PartialEq)]
pub enum ClauseEdit {
    /// Adds clauses, last.
    Add(Vec<Clause>),
    /// Removes those with these ids.
    Remove(Vec<String>),
    /// Replaces one, which keeps its id and its place.
    Update {
        /// Its id.
        clause_id: String,
        /// What it becomes.
        clause: Clause,
    },
    /// Adds values to one, as far as it lacks them.
    AddValues {
        /// Its id.
        clause_id: String,
        /// The values.
        values: Vec<Value>,
    },
    /// Removes values from one, as far as it has them.
    RemoveValues {
        /// Its id.
        clause_id: String,
        /// The values.
        values: Vec<Value>,
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
            Instruction::UpdatePrerequisite { key, .. } => {
                references.flags.insert(key.clone());
            }
            Instruction::ReplacePrerequisites(list) => {
                references.flags.extend(list.iter().map(|(key, _)| key.clone()));
            }
            Instruction::AddRule { clauses, .. } => {
                references.segments.extend(segments_of(clauses));
            }
            Instruction::ReplaceRules(rules) => {
                let clauses = rules.iter().flat_map(|rule| &rule.clauses);
                references.segments.extend(segments_of(clauses));
            }
            Instruction::EditClauses { edit, .. } => references.segments.extend(edit.segments()),
            _ => {}
        }
    }
    references
}

impl ClauseEdit {
    /// The segments that may be asked for afterwards and were not before. Values may be of any operator: what is no segment is
    /// not found, and not asked for.
    pub(crate) fn segments(&self) -> Vec<SegmentKey> {
        match self {
            Self::Add(clauses) => segments_of(clauses).collect(),
            Self::Update { clause, .. } => segments_of([clause]).collect(),
            Self::AddValues { values, .. } => {
                let texts = values.iter().filter_map(Value::as_str);
                texts.filter(|text| is_key(text)).map(SegmentKey::stored).collect()
            }
            Self::Remove(_) | Self::RemoveValues { .. } => Vec::new(),
        }
    }
}

/// Returns the segments that clauses ask for.
pub fn segments_of<'c>(
    clauses: impl IntoIterator<Item = &'c Clause>,
) -> impl Iterator<Item = SegmentKey> {
    let asking = clauses.into_iter().filter(|clause| clause.op == "segmentMatch");
    asking.flat_map(|clause| &clause.values).filter_map(Value::as_str).map(SegmentKey::stored)
}

/// Notes that clauses ask for a segment that does not exist.
pub(crate) fn check_segments(
    clauses: &[Clause],
    path: &str,
    exists: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    for (i, clause) in clauses.iter().enumerate() {
        check_segments_among(clause, &format!("{path}.clauses[{i}]"), &exists, problems);
    }
}

/// Notes that the clause at `path` asks for a segment that does not exist.
pub(crate) fn check_segments_among(
    clause: &Clause,
    path: &str,
    exists: impl Fn(&str) -> bool,
    problems: &mut Problems,
) {
    for (j, key) in clause.values.iter().enumerate().filter(|_| clause.op == "segmentMatch") {
        if let Some(key) = key.as_str().filter(|key| !exists(key)) {
            let detail = format!("`{key}` is not a segment of this environment; create it first");
            problems.add(format!("{path}.values[{j}]"), "unknown_segment", detail);
        }
    }
}
