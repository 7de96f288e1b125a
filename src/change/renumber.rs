//! What becomes of the indexes in configurations when a flag loses a variation.

use crate::model::flag::FlagDefinition;
use crate::model::flag::Variation;
use crate::model::key::FlagKey;
use crate::model::rule::FlagConfig;
use crate::model::rule::Target;
use crate::model::rule::VariationOrRollout;

/// Which index each variation has after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renumbering(Vec<Option<i64>>);

impl Renumbering {
    /// What becomes of the variations of one definition in another, by their keys; `None` if every index stays.
    pub(super) fn between(before: &FlagDefinition, after: &FlagDefinition) -> Option<Self> {
        let origin = |new: &Variation| {
            before.variations.iter().position(|variation| variation.key == new.key)
        };
        let origins: Vec<Option<usize>> = after.variations.iter().map(origin).collect();
        Self::new(before.variations.len(), &origins)
    }

    /// `origins` are the indexes before of the variations that are there after; `None` if every index stays.
    pub(super) fn new(n_before: usize, origins: &[Option<usize>]) -> Option<Self> {
        let after = |before: usize| {
            let position = origins.iter().position(|origin| *origin == Some(before))?;
            i64::try_from(position).ok()
        };
        let indexes: Vec<Option<i64>> = (0..n_before).map(after).collect();
        let stays = |(i, index): (usize, &Option<i64>)| {
            index.is_some_and(|new| usize::try_from(new) == Ok(i))
        };
        (!indexes.iter().enumerate().all(stays)).then_some(Self(indexes))
    }

    /// The index after; `None` for a variation that was removed. What never was an index stays none.
    fn of(&self, index: i64) -> Option<i64> {
        let known = usize::try_from(index).ok().and_then(|index| self.0.get(index));
        known.copied().unwrap_or(Some(index))
    }

    /// Renumbers the flag's own variations in one of its configurations.
    ///
    /// Only what is never served names a variation that was removed: it is dropped.
    pub fn apply(&self, config: &mut FlagConfig) {
        config.off_variation = config.off_variation.and_then(|index| self.of(index));
        for list in [&mut config.targets, &mut config.context_targets] {
            list.retain_mut(|target| {
                self.of(target.variation).map(|index| target.variation = index).is_some()
            });
        }
        let serves = config.rules.iter_mut().map(|rule| &mut rule.serve);
        for serve in serves.chain([&mut config.fallthrough]) {
            serve.variation = serve.variation.and_then(|index| self.of(index));
            if let Some(rollout) = &mut serve.rollout {
                let slices = &mut rollout.variations;
                slices.retain_mut(|slice| {
                    self.of(slice.variation).map(|index| slice.variation = index).is_some()
                });
            }
        }
    }

    /// Renumbers an earlier configuration of the flag; returns `false` if it serves a variation that was removed, so that nobody could
    /// go back to it.
    pub fn apply_to_earlier(&self, config: &mut FlagConfig) -> bool {
        let is_whole = places_of(config).iter().all(|(index, _)| self.of(*index).is_some());
        self.apply(config);
        is_whole
    }

    /// Renumbers what an earlier configuration of another flag asks of this one; returns `false` if it asks for a variation that was
    /// removed.
    pub fn apply_to_earlier_dependant(&self, key: &FlagKey, config: &mut FlagConfig) -> bool {
        let mut asked = config.prerequisites.iter().filter(|each| each.key == *key);
        let is_whole = asked.all(|each| self.of(each.variation).is_some());
        self.apply_to_dependant(key, config);
        is_whole
    }

    /// Renumbers what another flag asks of this one; returns whether anything changed.
    pub fn apply_to_dependant(&self, key: &FlagKey, config: &mut FlagConfig) -> bool {
        let mut has_changed = false;
        for prerequisite in config.prerequisites.iter_mut().filter(|each| each.key == *key) {
            let index = self.of(prerequisite.variation).unwrap_or(prerequisite.variation);
            has_changed |= index != prerequisite.variation;
            prerequisite.variation = index;
        }
        has_changed
    }
}

/// Where a configuration uses variations of its flag: an index and a place in words, in the order of an evaluation.
pub fn variations_used(definition: &FlagDefinition, config: &FlagConfig) -> Vec<(i64, String)> {
    let mut used = places_of(config);
    used.retain(|(index, _)| {
        usize::try_from(*index).is_ok_and(|i| i < definition.variations.len())
    });
    used
}

/// The indexes that a configuration uses, whether there are such variations or not, and where.
fn places_of(config: &FlagConfig) -> Vec<(i64, String)> {
    let mut used: Vec<(i64, String)> = Vec::new();
    used.extend(config.off_variation.map(|index| (index, "the off variation".to_owned())));
    let targets = config.targets.iter().chain(&config.context_targets);
    let is_there = |target: &&Target| !target.values.is_empty();
    used.extend(targets.filter(is_there).map(|each| (each.variation, "targets".to_owned())));
    for rule in &config.rules {
        let place = format!("the rule {}", rule.id);
        used.extend(served(&rule.serve).map(|index| (index, place.clone())));
    }
    used.extend(served(&config.fallthrough).map(|index| (index, "the fallthrough".to_owned())));
    used
}

fn served(serve: &VariationOrRollout) -> impl Iterator<Item = i64> {
    let slices = serve.rollout.iter().flat_map(|rollout| &rollout.variations);
    let slices = slices.filter(|slice| slice.weight_milli_pct > 0).map(|slice| slice.variation);
    serve.variation.into_iter().chain(slices)
}
