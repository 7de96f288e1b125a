//! Individual targets.

use super::Change;
use crate::change::instruction::TargetSpec;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::rule::FlagConfig;
use crate::model::rule::Target;
use crate::model::rule::USER_KIND;
use std::collections::BTreeMap;

impl Change<'_> {
    pub(super) fn add_targets(&mut self, spec: &TargetSpec) {
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
            return self.refuse("values", "too_many", too_many_targets());
        }
        if added > 0 {
            set_targets(&mut self.applied.config, &targets);
            let kind = &spec.context_kind;
            self.say(format!("targeted {added} {kind} key(s) to `{}`", spec.variation));
        }
    }

    pub(super) fn remove_targets(&mut self, spec: &TargetSpec) {
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

    /// Puts lists of targets in the place of all that are there; a key belongs to the last list that has it.
    pub(super) fn replace_targets(&mut self, kind: Option<&str>, lists: &[TargetSpec]) {
        let path = self.path.clone();
        let mut old = targets_by_kind(&self.applied.config);
        old.retain(|_, of_kind| !of_kind.is_empty());
        let mut targets = Targets::new();
        if let Some(kind) = kind {
            targets.clone_from(&old);
            targets.remove(kind);
        }
        for (i, list) in lists.iter().enumerate() {
            self.path = format!("{path}.targets[{i}]");
            if let Some(variation) = self.variation("variation", &list.variation) {
                let of_kind = targets.entry(list.context_kind.clone()).or_default();
                of_kind.extend(list.values.iter().map(|value| (value.clone(), variation)));
            }
        }
        self.path = path;
        targets.retain(|_, of_kind| !of_kind.is_empty());
        let n_targets: usize = targets.values().map(BTreeMap::len).sum();
        if n_targets > TARGET_KEYS_MAX {
            return self.refuse("targets", "too_many", too_many_targets());
        }
        if old != targets {
            set_targets(&mut self.applied.config, &targets);
            let n_new: usize = match kind {
                Some(kind) => targets.get(kind).map_or(0, BTreeMap::len),
                None => n_targets,
            };
            let which = kind.map_or_else(String::new, |kind| format!(" {kind}"));
            self.say(format!("replaced all{which} targets by {n_new} key(s)"));
        }
    }

    /// Removes all targets of a kind or of every kind, or those of one variation.
    pub(super) fn clear_targets(&mut self, context_kind: Option<&str>, variation: Option<&str>) {
        let wanted = match variation {
            Some(key) => {
                let Some(index) = self.variation("variation", key) else { return };
                Some(index)
            }
            None => None,
        };
        let mut targets = targets_by_kind(&self.applied.config);
        let mut removed = Vec::new();
        for (kind, of_kind) in &mut targets {
            if context_kind.is_some_and(|wanted| wanted != kind) {
                continue;
            }
            let n_before = of_kind.len();
            of_kind.retain(|_, variation| wanted.is_some_and(|wanted| wanted != *variation));
            let n_removed = n_before - of_kind.len();
            if n_removed > 0 {
                removed.push(format!("{n_removed} {kind} key(s)"));
            }
        }
        if !removed.is_empty() {
            set_targets(&mut self.applied.config, &targets);
            self.say(format!("removed {} from the targets", removed.join(", ")));
        }
    }
}

fn too_many_targets() -> String {
    format!("a flag can have at most {TARGET_KEYS_MAX} targets; use a segment")
}

/// All individual targets: context kind, key, variation.
pub(in crate::change) type Targets = BTreeMap<String, BTreeMap<String, i64>>;

pub(in crate::change) fn targets_by_kind(config: &FlagConfig) -> Targets {
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
