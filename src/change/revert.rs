//! Going back to an earlier configuration of a flag, as far as what it refers to is still there.

use crate::change::Applied;
use crate::change::Scene;
use crate::change::cycle;
use crate::change::instruction::segments_of;
use crate::change::read::hash_not_served;
use crate::change::ring::moved_by;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use crate::model::rule::Rollout;
use crate::model::rule::Rule;
use crate::model::rule::VariationOrRollout;

/// Where a problem with an earlier version is told.
const PATH: &str = "version";

/// Replaces a flag's configuration with an earlier one.
///
/// # Errors
///
/// It serves variations, or refers to flags or segments, that are not there any more; or it would refer in a circle.
pub fn revert(scene: &Scene<'_>, earlier: FlagConfig) -> Result<Applied, Problems> {
    let mut problems = Problems::default();
    let mut refuse = |code, detail: String| problems.add(PATH, code, detail);
    if scene.definition.archived {
        refuse("archived", "the flag is archived; restore it first by `restoreFlag`".to_owned());
    }
    for index in variations_of(&earlier) {
        let is_there =
            usize::try_from(index).is_ok_and(|index| index < scene.definition.variations.len());
        if !is_there {
            let detail = format!("it serves variation {index}, which the flag has no more");
            refuse("unknown_variation", detail);
        }
    }
    for prerequisite in &earlier.prerequisites {
        let key = &prerequisite.key;
        match scene.flags.get(key) {
            None => {
                refuse("unknown_flag", format!("its prerequisite `{key}` is not there any more"));
            }
            Some(definition) => {
                let is_there = usize::try_from(prerequisite.variation)
                    .is_ok_and(|index| index < definition.variations.len());
                if !is_there {
                    let detail = format!("the variation of its prerequisite `{key}` is gone");
                    refuse("unknown_variation", detail);
                }
            }
        }
    }
    for segment in segments_of(earlier.rules.iter().flat_map(|rule| &rule.clauses)) {
        if !scene.segments.contains(&segment) {
            let detail = format!("the segment `{segment}` that it asks for is not there any more");
            refuse("unknown_segment", detail);
        }
    }
    for rollout in rollouts_of(&earlier) {
        if !scene.server_sdk.admits(rollout.hash) {
            refuse("hash_not_served", hash_not_served().to_owned());
        }
    }
    let mut edges = scene.prerequisites.clone();
    let own = earlier.prerequisites.iter().map(|each| each.key.clone());
    edges.insert(scene.definition.key.clone(), own.collect());
    if let Err(refusal) = cycle::check(&edges) {
        let (code, detail) = refusal.describe("prerequisites");
        refuse(code, detail);
    }
    let changes = differences(scene, &earlier);
    let moved = moved_by(&scene.config.fallthrough, &earlier.fallthrough);
    let moved = moved.filter(|_| scene.config.fallthrough != earlier.fallthrough);
    let was = |rule: &Rule| scene.config.rules.iter().find(|it| it.id == rule.id);
    let rule_moved = |rule: &Rule| {
        let before = was(rule).filter(|before| before.serve != rule.serve)?;
        Some((rule.id.clone(), moved_by(&before.serve, &rule.serve)?))
    };
    let rules_moved = earlier.rules.iter().filter_map(rule_moved).collect();
    problems.into_result(Applied { config: earlier, changes, moved, rules_moved })
}

/// What serves something in a configuration.
fn serves_of(config: &FlagConfig) -> impl Iterator<Item = &VariationOrRollout> {
    config.rules.iter().map(|rule| &rule.serve).chain([&config.fallthrough])
}

fn rollouts_of(config: &FlagConfig) -> impl Iterator<Item = &Rollout> {
    serves_of(config).filter_map(|serve| serve.rollout.as_ref())
}

/// The indexes of all variations that a configuration names.
fn variations_of(config: &FlagConfig) -> impl Iterator<Item = i64> {
    let fixed = serves_of(config).filter_map(|serve| serve.variation);
    let slices = rollouts_of(config).flat_map(|rollout| &rollout.variations);
    let targets = config.targets.iter().chain(&config.context_targets);
    let targets = targets.map(|target| target.variation);
    fixed.chain(slices.map(|slice| slice.variation)).chain(targets).chain(config.off_variation)
}

/// What differs, in words.
fn differences(scene: &Scene<'_>, earlier: &FlagConfig) -> Vec<String> {
    let now = scene.config;
    let mut words = Vec::new();
    if now.on != earlier.on {
        words
            .push(if earlier.on { "turned the flag on" } else { "turned the flag off" }.to_owned());
    }
    for (differs, what) in [
        (now.prerequisites != earlier.prerequisites, "prerequisites"),
        (
            now.targets != earlier.targets || now.context_targets != earlier.context_targets,
            "individual targets",
        ),
        (now.rules != earlier.rules, "rules"),
        (now.fallthrough != earlier.fallthrough, "fallthrough"),
        (now.off_variation != earlier.off_variation, "off variation"),
        (now.salt != earlier.salt, "salt"),
        (
            (now.track_events, now.track_events_fallthrough)
                != (earlier.track_events, earlier.track_events_fallthrough),
            "tracked events",
        ),
    ] {
        if differs {
            words.push(format!("set the {what} back"));
        }
    }
    words
}
