//! Applying instructions to a flag's configuration, all or nothing.

use crate::change::cycle;
use crate::change::instruction::Instruction;
use crate::change::instruction::TargetSpec;
use crate::change::instruction::check_segments;
use crate::change::read::RolloutSpec;
use crate::change::read::ServeSpec;
use crate::change::read::hash_not_served;
use crate::change::read::too_many_patterns;
use crate::change::rebalance::Moved;
use crate::change::rebalance::rebalance;
use crate::change::ring::is_same_ring;
use crate::change::ring::moved_by;
use crate::change::ring::ring_of;
use crate::change::ring::rollout;
use crate::change::ring::served_by;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::flag::unknown_variation;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use crate::model::rule::Prerequisite;
use crate::model::rule::Rollout;
use crate::model::rule::RolloutHash;
use crate::model::rule::Rule;
use crate::model::rule::Target;
use crate::model::rule::USER_KIND;
use crate::model::rule::VariationOrRollout;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

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
}

/// Applies instructions in order; `new_rule_id` makes the ids of rules that are added.
///
/// # Errors
///
/// Every problem with any of the instructions, with paths like `instructions[2].variation`.
pub fn apply(
    scene: &Scene<'_>,
    instructions: &[Instruction],
    new_rule_id: &mut dyn FnMut() -> String,
) -> Result<Applied, Problems> {
    let mut change = Change {
        scene,
        applied: Applied { config: scene.config.clone(), changes: Vec::new(), moved: None },
        problems: Problems::default(),
        path: String::new(),
    };
    for (i, instruction) in instructions.iter().enumerate() {
        change.path = format!("instructions[{i}]");
        change.step(instruction, new_rule_id);
    }
    let mut applied = change.problems.into_result(change.applied)?;
    // What was too large already, in data of an older version, may be edited.
    if let Some(detail) = applied.config.size_problem()
        && scene.config.size_problem().is_none()
    {
        return Err(Problems::one("instructions", "too_large", detail));
    }
    let (old, new) = (&scene.config.fallthrough, &applied.config.fallthrough);
    if applied.config == *scene.config {
        // One step may have undone another.
        applied.changes.clear();
    } else if old != new {
        applied.moved = moved_by(old, new);
    }
    Ok(applied)
}

/// A change while it is being applied.
struct Change<'a> {
    scene: &'a Scene<'a>,
    applied: Applied,
    problems: Problems,
    path: String,
}

impl Change<'_> {
    fn step(&mut self, instruction: &Instruction, new_rule_id: &mut dyn FnMut() -> String) {
        match instruction {
            Instruction::TurnFlagOn => self.turn(true),
            Instruction::TurnFlagOff => self.turn(false),
            Instruction::UpdateFallthroughVariationOrRollout(serve) => self.set_fallthrough(serve),
            Instruction::UpdateOffVariation { variation } => self.set_off_variation(variation),
            Instruction::AddRule { description, clauses, serve, before_rule_id } => {
                let scene = self.scene;
                let exists = |key: &str| scene.segments.contains(key);
                check_segments(clauses, &self.path, exists, &mut self.problems);
                let serve = self.fresh_serve(serve);
                let position = self.rule_position(before_rule_id.as_deref());
                if let (Some(serve), Some(position)) = (serve, position) {
                    let (description, clauses) = (description.clone(), clauses.clone());
                    let rule = Rule { id: new_rule_id(), description, clauses, serve };
                    self.add_rule(rule, position);
                }
            }
            Instruction::RemoveRule { rule_id } => self.remove_rule(rule_id),
            Instruction::AddTargets(targets) => self.add_targets(targets),
            Instruction::RemoveTargets(targets) => self.remove_targets(targets),
            Instruction::AddPrerequisite { key, variation } => {
                self.add_prerequisite(key, variation);
            }
            Instruction::RemovePrerequisite { key } => self.remove_prerequisite(key),
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

    fn set_off_variation(&mut self, key: &str) {
        let Some(index) = self.variation("variation", key) else { return };
        if self.applied.config.off_variation != Some(index) {
            self.applied.config.off_variation = Some(index);
            self.say(format!("set the off variation to `{key}`"));
        }
    }

    fn set_fallthrough(&mut self, serve: &ServeSpec) {
        let new = match serve {
            ServeSpec::Variation(key) => {
                let Some(index) = self.variation("variation", key) else { return };
                VariationOrRollout { variation: Some(index), rollout: None }
            }
            ServeSpec::Rollout(spec) => {
                let Some(weights) = self.weights(spec) else { return };
                let old = self.applied.config.fallthrough.clone();
                let before = old.rollout.as_ref().filter(|_| old.variation.is_none());
                let Some(hash) = self.hash(spec, before) else { return };
                let mut fresh = rollout(spec, hash, before);
                let is_same = is_same_ring(&old, &served_by(fresh.clone()));
                let old = if is_same { ring_of(&old) } else { Vec::new() };
                fresh.variations = rebalance(&old, &weights).0;
                served_by(fresh)
            }
        };
        if self.applied.config.fallthrough != new {
            let words = self.words_for(serve);
            self.applied.config.fallthrough = new;
            self.say(format!("set the fallthrough to {words}"));
        }
    }

    /// What a new rule leads to: nobody had it before, so the slices stand in the order of the variations.
    fn fresh_serve(&mut self, serve: &ServeSpec) -> Option<VariationOrRollout> {
        match serve {
            ServeSpec::Variation(key) => {
                let variation = self.variation("variation", key)?;
                Some(VariationOrRollout { variation: Some(variation), rollout: None })
            }
            ServeSpec::Rollout(spec) => {
                let weights = self.weights(spec)?;
                let mut fresh = rollout(spec, self.hash(spec, None)?, None);
                fresh.variations = rebalance(&[], &weights).0;
                Some(served_by(fresh))
            }
        }
    }

    /// How contexts are hashed: as the instruction says, else as before, else as is usual in the environment.
    fn hash(&mut self, spec: &RolloutSpec, before: Option<&Rollout>) -> Option<RolloutHash> {
        let server_sdk = self.scene.server_sdk;
        let known = spec.hash.or(before.map(|rollout| rollout.hash));
        let hash = known.unwrap_or(server_sdk.default_hash());
        if !server_sdk.admits(hash) {
            self.refuse("rolloutHash", "hash_not_served", hash_not_served());
            return None;
        }
        Some(hash)
    }

    /// The weights by index, in the order of the variations.
    fn weights(&mut self, spec: &RolloutSpec) -> Option<Vec<(i64, u32)>> {
        let mut weights = Vec::with_capacity(spec.weights_milli_pct.len());
        for (key, weight) in &spec.weights_milli_pct {
            let index = self.variation(&format!("rolloutWeights.{key}"), key);
            weights.extend(index.map(|index| (index, *weight)));
        }
        weights.sort_unstable();
        (weights.len() == spec.weights_milli_pct.len()).then_some(weights)
    }

    fn words_for(&self, serve: &ServeSpec) -> String {
        match serve {
            ServeSpec::Variation(key) => format!("`{key}`"),
            ServeSpec::Rollout(spec) => {
                let share = |(key, weight): &(String, u32)| format!("{} `{key}`", percent(*weight));
                let shares: Vec<String> = spec.weights_milli_pct.iter().map(share).collect();
                shares.join(", ")
            }
        }
    }

    /// Where a new rule goes: last, or before another.
    fn rule_position(&mut self, before_rule_id: Option<&str>) -> Option<usize> {
        let rules = &self.applied.config.rules;
        let Some(id) = before_rule_id else { return Some(rules.len()) };
        let position = rules.iter().position(|rule| rule.id == id);
        if position.is_none() {
            let detail = "is not a rule of this flag in this environment";
            self.refuse("beforeRuleId", "unknown_rule", detail);
        }
        position
    }

    fn add_rule(&mut self, rule: Rule, position: usize) {
        let rules = &mut self.applied.config.rules;
        if rules.len() == RULES_MAX {
            let detail = format!("a flag can have at most {RULES_MAX} rules");
            return self.problems.add(self.path.clone(), "too_many", detail);
        }
        let clauses = rules.iter().chain([&rule]).flat_map(|rule| &rule.clauses);
        let matching = clauses.filter(|clause| clause.op == "matches");
        if matching.map(|clause| clause.values.len()).sum::<usize>() > PATTERNS_MAX {
            return self.refuse("clauses", "too_many", too_many_patterns());
        }
        let name = if rule.description.is_empty() {
            format!("rule {}", rule.id)
        } else {
            format!("rule `{}`", rule.description)
        };
        rules.insert(position, rule);
        self.say(format!("added {name} at position {}", position + 1));
    }

    fn remove_rule(&mut self, rule_id: &str) {
        let rules = &mut self.applied.config.rules;
        let Some(position) = rules.iter().position(|rule| rule.id == rule_id) else {
            let detail = format!("`{rule_id}` is not a rule of this flag in this environment");
            return self.refuse("ruleId", "unknown_rule", detail);
        };
        rules.remove(position);
        self.say(format!("removed rule {rule_id} from position {}", position + 1));
    }

    fn add_targets(&mut self, spec: &TargetSpec) {
        let Some(variation) = self.variation("variation", &spec.variation) else { return };
        let mut targets = targets_by_kind(&self.applied.config);
        let of_kind = targets.entry(spec.context_kind.clone()).or_default();
        let n_before = of_kind.len();
        let mut added = 0;
        for value in &spec.values {
            added += usize::from(of_kind.insert(value.clone(), variation) != Some(variation));
        }
        let n_more = of_kind.len() - n_before;
        if targets.values().map(BTreeMap::len).sum::<usize>() > TARGET_KEYS_MAX && n_more > 0 {
            let detail =
                format!("a flag can have at most {TARGET_KEYS_MAX} targets; use a segment");
            return self.refuse("values", "too_many", detail);
        }
        if added > 0 {
            set_targets(&mut self.applied.config, &targets);
            let kind = &spec.context_kind;
            self.say(format!("targeted {added} {kind} key(s) to `{}`", spec.variation));
        }
    }

    fn remove_targets(&mut self, spec: &TargetSpec) {
        let Some(variation) = self.variation("variation", &spec.variation) else { return };
        let mut targets = targets_by_kind(&self.applied.config);
        let mut removed = 0;
        if let Some(of_kind) = targets.get_mut(&spec.context_kind) {
            for value in &spec.values {
                if of_kind.get(value) == Some(&variation) {
                    of_kind.remove(value);
                    removed += 1;
                }
            }
        }
        if removed > 0 {
            set_targets(&mut self.applied.config, &targets);
            let kind = &spec.context_kind;
            self.say(format!("removed {removed} {kind} key(s) from `{}`", spec.variation));
        }
    }

    fn add_prerequisite(&mut self, key: &FlagKey, variation: &str) {
        let Some(other) = self.scene.flags.get(key) else {
            let detail = format!("`{key}` is not a flag of this project");
            return self.refuse("key", "unknown_flag", detail);
        };
        let Some(index) = other.variation_index(variation) else {
            let detail = unknown_variation(variation, &other.variations);
            return self.refuse("variation", "unknown_variation", detail);
        };
        let prerequisite =
            Prerequisite { key: key.clone(), variation: i64::try_from(index).unwrap_or(0) };
        let mut prerequisites = self.applied.config.prerequisites.clone();
        match prerequisites.iter_mut().find(|each| each.key == *key) {
            Some(same) if *same == prerequisite => return,
            Some(same) => *same = prerequisite,
            None => prerequisites.push(prerequisite),
        }
        if prerequisites.len() > PREREQUISITES_MAX {
            let detail = format!("a flag can have at most {PREREQUISITES_MAX} prerequisites");
            return self.refuse("key", "too_many", detail);
        }
        let mut edges = self.scene.prerequisites.clone();
        let own = prerequisites.iter().map(|each| each.key.clone());
        edges.insert(self.scene.definition.key.clone(), own.collect());
        if let Err(refusal) = cycle::check(&edges) {
            let (code, detail) = refusal.describe("prerequisites");
            return self.refuse("key", code, detail);
        }
        self.applied.config.prerequisites = prerequisites;
        self.say(format!("added the prerequisite `{key}` serving `{variation}`"));
    }

    fn remove_prerequisite(&mut self, key: &FlagKey) {
        let prerequisites = &mut self.applied.config.prerequisites;
        let n_before = prerequisites.len();
        prerequisites.retain(|each| each.key != *key);
        if prerequisites.len() == n_before {
            let detail = format!("`{key}` is not a prerequisite of this flag");
            return self.refuse("key", "unknown_prerequisite", detail);
        }
        self.say(format!("removed the prerequisite `{key}`"));
    }
}

/// A weight as people write it: `25000` is `25%`, `333` is `0.333%`.
fn percent(weight_milli_pct: u32) -> String {
    let text = format!("{}.{:03}", weight_milli_pct / 1_000, weight_milli_pct % 1_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

/// All individual targets: context kind, key, variation.
type Targets = BTreeMap<String, BTreeMap<String, i64>>;

fn targets_by_kind(config: &FlagConfig) -> Targets {
    let mut targets = Targets::new();
    let users = config.targets.iter().map(|target| (USER_KIND, target));
    let others = config.context_targets.iter().map(|target| {
        let kind = target.context_kind.as_str();
        (if kind.is_empty() { USER_KIND } else { kind }, target)
    });
    for (kind, target) in users.chain(others) {
        let of_kind = targets.entry(kind.to_owned()).or_default();
        for value in &target.values {
            // The first entry decides, as it does in an evaluation.
            of_kind.entry(value.clone()).or_insert(target.variation);
        }
    }
    targets
}

/// Writes targets in LaunchDarkly's two lists: user keys in `targets`, with an empty entry in `contextTargets` for each as
/// soon as there are other kinds.
fn set_targets(config: &mut FlagConfig, targets: &Targets) {
    config.targets.clear();
    config.context_targets.clear();
    for (kind, of_kind) in targets {
        let mut by_variation: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        for (value, variation) in of_kind {
            by_variation.entry(*variation).or_default().push(value.clone());
        }
        for (variation, values) in by_variation {
            let context_kind = if kind == USER_KIND { String::new() } else { kind.clone() };
            let target = Target { context_kind, values, variation };
            if kind == USER_KIND {
                config.targets.push(target);
            } else {
                config.context_targets.push(target);
            }
        }
    }
    if !config.context_targets.is_empty() {
        let users = config.targets.iter().map(|target| Target {
            context_kind: USER_KIND.to_owned(),
            values: Vec::new(),
            variation: target.variation,
        });
        config.context_targets.splice(0..0, users.collect::<Vec<_>>());
    }
}
