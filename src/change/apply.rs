//! Applying instructions to a flag's configuration, all or nothing.

mod clause;
mod prerequisite;
mod rule;
mod serve;
mod target;
mod track;

use crate::change::instruction::Instruction;
use crate::change::rebalance::Moved;
use crate::change::ring::moved_by;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::flag::unknown_variation;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
pub(crate) use clause::Edition;
pub(crate) use clause::edit_clauses;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
pub(in crate::change) use target::targets_by_kind;

/// What a change is applied to, and what it may refer to.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The flag's definition.
    pub definition: &'a FlagDefinition,
    /// Its configuration before the change.
    pub config: &'a FlagConfig,
    /// The flags that the change refers to, as far as they exist.
    pub flags: &'a BTreeMap<FlagKey, FlagDefinition>,
    /// Each flag of the environment that has prerequisites, with them; needed only if the change adds one.
    pub prerequisites: &'a BTreeMap<FlagKey, Vec<FlagKey>>,
    /// The segments that the change refers to, as far as they exist.
    pub segments: &'a BTreeSet<SegmentKey>,
    /// Which SDKs evaluate the environment by themselves.
    pub server_sdk: ServerSdk,
}

/// The result of a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The configuration after it; equal to the one before if everything was so already.
    pub config: FlagConfig,
    /// What was done, in words, one sentence per effect; empty if everything was so already.
    pub changes: Vec<String>,
    /// How many of those whom the fallthrough serves get another variation, if it was changed and the two can be compared.
    pub moved: Option<Moved>,
    /// The same for each rule that was there before and now leads elsewhere, by its id.
    pub rules_moved: Vec<(String, Moved)>,
}

/// Applies instructions in order; `new_id` makes the ids of rules and clauses that are added.
///
/// A flag that was put away can only be turned off.
///
/// # Errors
///
/// Every problem with any of the instructions, with paths like `instructions[2].variation`.
pub fn apply(
    scene: &Scene<'_>,
    instructions: &[Instruction],
    new_id: &mut dyn FnMut() -> String,
) -> Result<Applied, Problems> {
    let applied = Applied {
        config: scene.config.clone(),
        changes: Vec::new(),
        moved: None,
        rules_moved: Vec::new(),
    };
    let mut change =
        Change { scene, applied, problems: Problems::default(), path: String::new(), new_id };
    for (i, instruction) in instructions.iter().enumerate() {
        change.path = format!("instructions[{i}]");
        change.step(instruction);
    }
    let mut applied = change.problems.into_result(change.applied)?;
    // What was too large already, in data of an older version, may be edited.
    if let Some(detail) = applied.config.size_problem()
        && scene.config.size_problem().is_none()
    {
        return Err(Problems::one("instructions", "too_large", detail));
    }
    if applied.config == *scene.config || applied.changes.is_empty() {
        // One step may have undone another, or clauses may only have been given the ids that they had by their places.
        applied.config = scene.config.clone();
        applied.changes.clear();
        return Ok(applied);
    }
    let (old, new) = (&scene.config.fallthrough, &applied.config.fallthrough);
    if old != new {
        applied.moved = moved_by(old, new);
    }
    for rule in &applied.config.rules {
        let before = scene.config.rules.iter().find(|before| before.id == rule.id);
        let differing = before.filter(|before| before.serve != rule.serve);
        let moved = differing.and_then(|before| moved_by(&before.serve, &rule.serve));
        applied.rules_moved.extend(moved.map(|moved| (rule.id.clone(), moved)));
    }
    Ok(applied)
}

/// A change while it is being applied.
struct Change<'a> {
    scene: &'a Scene<'a>,
    new_id: &'a mut dyn FnMut() -> String,
    applied: Applied,
    problems: Problems,
    path: String,
}

impl Change<'_> {
    fn step(&mut self, instruction: &Instruction) {
        if self.scene.definition.archived && *instruction != Instruction::TurnFlagOff {
            let detail = "the flag is archived; restore it first by `restoreFlag`";
            return self.refuse("kind", "archived", detail);
        }
        match instruction {
            Instruction::TurnFlagOn => self.turn(true),
            Instruction::TurnFlagOff => self.turn(false),
            Instruction::UpdateFallthroughVariationOrRollout(serve) => self.set_fallthrough(serve),
            Instruction::UpdateOffVariation { variation } => self.set_off_variation(variation),
            Instruction::AddRule { id, description, clauses, serve, before_rule_id } => {
                let before = before_rule_id.as_deref();
                self.add_rule(id.as_deref(), description, clauses, serve, before);
            }
            Instruction::RemoveRule { rule_id } => self.remove_rule(rule_id),
            Instruction::ReorderRules { rule_ids } => self.reorder_rules(rule_ids),
            Instruction::ReplaceRules(rules) => self.replace_rules(rules),
            Instruction::UpdateRuleDescription { rule_id, description } => {
                self.describe_rule(rule_id, description);
            }
            Instruction::UpdateTrackEvents(track) => self.track(*track),
            Instruction::UpdateTrackEventsFallthrough(track) => self.track_fallthrough(*track),
            Instruction::UpdateRuleTrackEvents { rule_id, track_events } => {
                self.track_rule(rule_id, *track_events);
            }
            Instruction::UpdateRuleVariationOrRollout { rule_id, serve } => {
                self.set_rule_serve(rule_id, serve);
            }
            Instruction::EditClauses { rule_id, edit } => self.edit_rule(rule_id, edit),
            Instruction::AddTargets(targets) => self.add_targets(targets),
            Instruction::RemoveTargets(targets) => self.remove_targets(targets),
            Instruction::ReplaceTargets { context_kind, targets } => {
                self.replace_targets(context_kind.as_deref(), targets);
            }
            Instruction::ClearTargets { context_kind, variation } => {
                self.clear_targets(context_kind.as_deref(), variation.as_deref());
            }
            Instruction::AddPrerequisite { key, variation } => {
                self.add_prerequisite(key, variation);
            }
            Instruction::UpdatePrerequisite { key, variation } => {
                self.update_prerequisite(key, variation);
            }
            Instruction::RemovePrerequisite { key } => self.remove_prerequisite(key),
            Instruction::ReplacePrerequisites(list) => self.replace_prerequisites(list),
        }
    }

    fn refuse(&mut self, field: &str, code: &'static str, detail: impl Into<String>) {
        self.problems.add(format!("{}.{field}", self.path), code, detail);
    }

    fn say(&mut self, change: String) {
        self.applied.changes.push(change);
    }

    /// The index of a variation of this flag; notes a problem with `field` if there is none.
    fn variation(&mut self, field: &str, key: &str) -> Option<i64> {
        let index = self.scene.definition.variation_index(key);
        if index.is_none() {
            let detail = unknown_variation(key, &self.scene.definition.variations);
            self.refuse(field, "unknown_variation", detail);
        }
        index.and_then(|index| i64::try_from(index).ok())
    }

    fn turn(&mut self, on: bool) {
        if self.applied.config.on != on {
            self.applied.config.on = on;
            self.say(format!("turned the flag {}", if on { "on" } else { "off" }));
        }
    }
}
