//! Who keeps which slots of a rollout when a file gives it other weights.
//!
//! A rollout that names each variation once gives weights, as people write them, and as few contexts move as possible. One that
//! names a variation several times gives the slots themselves, as an export does after weights were changed.

use crate::change::rebalance::rebalance;
use crate::change::ring::is_same_ring;
use crate::change::ring::ring_of;
use crate::model::rule::FlagConfig;
use crate::model::rule::Rollout;
use crate::model::rule::RolloutKind;
use crate::model::rule::VariationOrRollout;
use crate::model::rule::WEIGHT_TOTAL;
use std::collections::BTreeSet;

/// Divides what a configuration leads to so that as few as possible get another variation than by the one before; `renumber`
/// returns that in the numbers that the variations have now.
pub(super) fn keep_slots(
    old: &FlagConfig,
    new: &mut FlagConfig,
    renumber: impl FnOnce(&FlagConfig) -> Option<FlagConfig>,
) {
    let rollouts = new.rules.iter().map(|rule| &rule.serve).chain([&new.fallthrough]);
    if !rollouts.into_iter().any(gives_weights) {
        return;
    }
    let Some(old) = renumber(old) else { return };
    keep(&old.fallthrough, &mut new.fallthrough);
    for rule in &mut new.rules {
        if let Some(before) = old.rules.iter().find(|before| before.id == rule.id) {
            keep(&before.serve, &mut rule.serve);
        }
    }
}

fn keep(old: &VariationOrRollout, new: &mut VariationOrRollout) {
    if old == new || !gives_weights(new) || !is_same_ring(old, new) {
        return;
    }
    let Some(rollout) = &mut new.rollout else { return };
    let slices = rollout.variations.iter();
    let weights: Vec<(i64, u32)> =
        slices.map(|slice| (slice.variation, slice.weight_milli_pct)).collect();
    rollout.variations = rebalance(&ring_of(old), &weights).0;
}

/// Whether each variation is named once, and the weights are whole. Experiments and slices that are not counted stay as given.
fn gives_weights(serve: &VariationOrRollout) -> bool {
    let Some(Rollout { kind, variations, .. }) =
        serve.rollout.as_ref().filter(|_| serve.variation.is_none())
    else {
        return false;
    };
    let named: BTreeSet<i64> = variations.iter().map(|slice| slice.variation).collect();
    let sum: u64 = variations.iter().map(|slice| u64::from(slice.weight_milli_pct)).sum();
    *kind == RolloutKind::Rollout
        && named.len() == variations.len()
        && sum == u64::from(WEIGHT_TOTAL)
        && !variations.iter().any(|slice| slice.untracked)
}
