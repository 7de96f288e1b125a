//! What is served: the off variation, the fallthrough, and what rules lead to.

use super::Change;
use crate::change::read::RolloutSpec;
use crate::change::read::ServeSpec;
use crate::change::read::hash_not_served;
use crate::change::rebalance::rebalance;
use crate::change::ring::is_same_ring;
use crate::change::ring::ring_of;
use crate::change::ring::rollout;
use crate::change::ring::served_by;
use crate::model::rule::Rollout;
use crate::model::rule::RolloutHash;
use crate::model::rule::VariationOrRollout;

impl Change<'_> {
    pub(super) fn set_off_variation(&mut self, key: &str) {
        let Some(index) = self.variation("variation", key) else { return };
        if self.applied.config.off_variation != Some(index) {
            self.applied.config.off_variation = Some(index);
            self.say(format!("set the off variation to `{key}`"));
        }
    }

    pub(super) fn set_fallthrough(&mut self, serve: &ServeSpec) {
        let old = self.applied.config.fallthrough.clone();
        let Some(new) = self.served(serve, Some(&old)) else { return };
        if old != new {
            let words = self.words_for(serve);
            self.applied.config.fallthrough = new;
            self.say(format!("set the fallthrough to {words}"));
        }
    }

    /// What is served in place of `old`, so that the fewest move. Nobody had a new rule before, so its slices stand in the order
    /// of the variations.
    pub(super) fn served(
        &mut self,
        serve: &ServeSpec,
        old: Option<&VariationOrRollout>,
    ) -> Option<VariationOrRollout> {
        match serve {
            ServeSpec::Variation(key) => {
                let variation = self.variation("variation", key)?;
                Some(VariationOrRollout { variation: Some(variation), rollout: None })
            }
            ServeSpec::Rollout(spec) => {
                let weights = self.weights(spec)?;
                let divided = old.filter(|old| old.variation.is_none());
                let before = divided.and_then(|old| old.rollout.as_ref());
                let hash = self.hash(spec, before)?;
                let mut fresh = rollout(spec, hash, before);
                let same = old.filter(|old| is_same_ring(old, &served_by(fresh.clone())));
                fresh.variations = rebalance(&same.map(ring_of).unwrap_or_default(), &weights).0;
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

    pub(super) fn words_for(&self, serve: &ServeSpec) -> String {
        match serve {
            ServeSpec::Variation(key) => format!("`{key}`"),
            ServeSpec::Rollout(spec) => {
                let share = |(key, weight): &(String, u32)| format!("{} `{key}`", percent(*weight));
                let shares: Vec<String> = spec.weights_milli_pct.iter().map(share).collect();
                shares.join(", ")
            }
        }
    }
}

/// A weight as people write it: `25000` is `25%`, `333` is `0.333%`.
fn percent(weight_milli_pct: u32) -> String {
    let text = format!("{}.{:03}", weight_milli_pct / 1_000, weight_milli_pct % 1_000);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}
