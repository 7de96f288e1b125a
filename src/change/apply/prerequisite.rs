//! Conditions: variations that other flags must serve.

use super::Change;
use crate::change::cycle;
use crate::model::flag::unknown_variation;
use crate::model::key::FlagKey;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::rule::Prerequisite;

impl Change<'_> {
    pub(super) fn add_prerequisite(&mut self, key: &FlagKey, variation: &str) {
        let Some(prerequisite) = self.prerequisite(key, variation) else { return };
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
        if self.sets_prerequisites("key", prerequisites) {
            self.say(format!("added the prerequisite `{key}` serving `{variation}`"));
        }
    }

    pub(super) fn update_prerequisite(&mut self, key: &FlagKey, variation: &str) {
        let mut prerequisites = self.applied.config.prerequisites.clone();
        let Some(found) = prerequisites.iter_mut().find(|each| each.key == *key) else {
            return self.refuse("key", "unknown_prerequisite", not_a_prerequisite(key));
        };
        let Some(prerequisite) = self.prerequisite(key, variation) else { return };
        if *found != prerequisite {
            *found = prerequisite;
            self.applied.config.prerequisites = prerequisites;
            self.say(format!("changed the prerequisite `{key}` to serving `{variation}`"));
        }
    }

    pub(super) fn replace_prerequisites(&mut self, list: &[(FlagKey, String)]) {
        let path = self.path.clone();
        let mut prerequisites: Vec<Prerequisite> = Vec::with_capacity(list.len());
        for (i, (key, variation)) in list.iter().enumerate() {
            self.path = format!("{path}.prerequisites[{i}]");
            if prerequisites.iter().any(|earlier| earlier.key == *key) {
                let detail = format!("`{key}` is an earlier prerequisite");
                self.refuse("key", "duplicate_prerequisite", detail);
            } else {
                prerequisites.extend(self.prerequisite(key, variation));
            }
        }
        self.path = path;
        let is_whole = prerequisites.len() == list.len();
        let is_same = prerequisites == self.applied.config.prerequisites;
        if is_whole && !is_same && self.sets_prerequisites("prerequisites", prerequisites) {
            let keys: Vec<String> = list.iter().map(|(key, _)| format!("`{key}`")).collect();
            self.say(match keys.is_empty() {
                true => "removed all prerequisites".to_owned(),
                false => format!("replaced all prerequisites by {}", keys.join(", ")),
            });
        }
    }

    /// A condition on another flag; notes why there can be none.
    fn prerequisite(&mut self, key: &FlagKey, variation: &str) -> Option<Prerequisite> {
        let Some(other) = self.scene.flags.get(key) else {
            let detail = format!("`{key}` is not a flag of this project");
            self.refuse("key", "unknown_flag", detail);
            return None;
        };
        if other.archived {
            let detail = format!("`{key}` is archived and so fulfils nothing; restore it first");
            self.refuse("key", "archived", detail);
            return None;
        }
        let Some(index) = other.variation_index(variation) else {
            let detail = unknown_variation(variation, &other.variations);
            self.refuse("variation", "unknown_variation", detail);
            return None;
        };
        Some(Prerequisite { key: key.clone(), variation: i64::try_from(index).unwrap_or(0) })
    }

    /// Sets the conditions unless flags would wait for each other, which is noted with `field`.
    fn sets_prerequisites(&mut self, field: &str, prerequisites: Vec<Prerequisite>) -> bool {
        let mut edges = self.scene.prerequisites.clone();
        let own = prerequisites.iter().map(|each| each.key.clone());
        edges.insert(self.scene.definition.key.clone(), own.collect());
        if let Err(refusal) = cycle::check(&edges) {
            let (code, detail) = refusal.describe("prerequisites");
            self.refuse(field, code, detail);
            return false;
        }
        self.applied.config.prerequisites = prerequisites;
        true
    }

    pub(super) fn remove_prerequisite(&mut self, key: &FlagKey) {
        let prerequisites = &mut self.applied.config.prerequisites;
        let n_before = prerequisites.len();
        prerequisites.retain(|each| each.key != *key);
        if prerequisites.len() == n_before {
            return self.refuse("key", "unknown_prerequisite", not_a_prerequisite(key));
        }
        self.say(format!("removed the prerequisite `{key}`"));
    }
}

fn not_a_prerequisite(key: &FlagKey) -> String {
    format!("`{key}` is not a prerequisite of this flag")
}
