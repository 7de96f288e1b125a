//! Changes of definitions, which every environment of the project sees.

use super::PartError;
use super::World;
use crate::change::DefinitionInstruction;
use crate::change::Renumbering;
use crate::change::Uses;
use crate::change::apply_to_definition;
use crate::change::definition_differences;
use crate::change::variations_used;
use crate::control::ControlError;
use crate::control::change_set::PartChanged;
use crate::control::flag_history::renumber_versions;
use crate::control::recent_use;
use crate::model::key::FlagKey;
use crate::store::Damaged;

impl World<'_> {
    pub(super) async fn define(
        &mut self,
        key: &FlagKey,
        instructions: &[DefinitionInstruction],
        if_tag: Option<&str>,
    ) -> Result<PartChanged, PartError> {
        let Some(old) = self.definition(key).await? else {
            return Err(PartError::not_found("flag", key));
        };
        let tag = old.tag();
        if if_tag.is_some_and(|wanted| wanted != tag) {
            let what = format!("the definition of the flag `{key}`");
            return Err(PartError::Control(ControlError::Outdated { what, tag }));
        }
        let needs_uses = instructions.iter().any(|instruction| {
            matches!(
                instruction,
                DefinitionInstruction::RemoveVariation(_)
                    | DefinitionInstruction::Archive { .. }
                    | DefinitionInstruction::Delete
            )
        });
        // Whoever deletes a flag by its key means it.
        let is_deleting = instructions.contains(&DefinitionInstruction::Delete);
        let needs_idle = !is_deleting
            && !old.archived
            && instructions.contains(&DefinitionInstruction::Archive { ignores_usage: false });
        let uses = if needs_uses { self.uses(key).await? } else { Uses::default() };
        let defined = apply_to_definition(&old, &uses, instructions)?;
        if needs_idle {
            let idle = recent_use::refuse(&mut self.tx, self.project, key, self.now).await;
            idle.map_err(PartError::Control)?;
        }
        if let Some(renumbering) = &defined.renumbering {
            self.renumber(key, renumbering).await?;
        }
        let differences = definition_differences(&old, &defined.definition);
        let new = (!defined.is_deleted).then_some(defined.definition.clone());
        for environment in &mut self.environments {
            if let (Some(pair), Some(definition)) = (environment.flags.get_mut(key), &new) {
                pair.now.definition.clone_from(definition);
            }
        }
        if let Some(known) = self.definitions.get_mut(key) {
            known.now = new;
        }
        Ok(PartChanged {
            definition: Some(defined.definition),
            changes: defined.changes,
            differences,
            ..PartChanged::default()
        })
    }

    /// Where a flag is used, in all environments.
    async fn uses(&mut self, key: &FlagKey) -> Result<Uses, PartError> {
        let mut uses = Uses::default();
        for index in 0..self.environments.len() {
            let env = self.environment(index)?.key.clone();
            let flag = self.flag(index, key).await?;
            for (variation, place) in variations_used(&flag.definition, &flag.config) {
                let place = format!("{place} in `{env}`");
                uses.variations.entry(variation).or_insert(place);
            }
            for dependant in self.dependants_in(index, key, Damaged::Refused).await? {
                let name = format!("`{dependant}` in `{env}`");
                let is_archived = self.definition(&dependant).await?.is_some_and(|it| it.archived);
                let other = self.flag(index, &dependant).await?;
                for prerequisite in &other.config.prerequisites {
                    if prerequisite.key == *key {
                        let place = format!("{name}, which has it as a prerequisite");
                        uses.variations.entry(prerequisite.variation).or_insert(place);
                    }
                }
                match is_archived {
                    true => uses.archived_dependants.push(name),
                    false => uses.live_dependants.push(name),
                }
            }
        }
        Ok(uses)
    }

    /// The flags of an environment that have a flag as a prerequisite.
    pub(super) async fn dependants_in(
        &mut self,
        index: usize,
        key: &FlagKey,
        damaged: Damaged,
    ) -> Result<Vec<FlagKey>, PartError> {
        let edges = self.edges(index, damaged).await?;
        let asking = edges.iter().filter(|(_, others)| others.contains(key));
        let asking: Vec<FlagKey> = asking.map(|(dependant, _)| dependant.clone()).collect();
        let is_there = |dependant: &FlagKey| {
            self.definitions.get(dependant).is_none_or(|known| known.now.is_some())
        };
        Ok(asking.into_iter().filter(is_there).collect())
    }

    /// Renumbers the variations of a flag wherever they are named, in earlier versions too.
    async fn renumber(
        &mut self,
        key: &FlagKey,
        renumbering: &Renumbering,
    ) -> Result<(), PartError> {
        for index in 0..self.environments.len() {
            renumbering.apply(&mut self.flag(index, key).await?.config);
            for dependant in self.dependants_in(index, key, Damaged::Refused).await? {
                let other = self.flag(index, &dependant).await?;
                renumbering.apply_to_dependant(key, &mut other.config);
            }
            let env = self.environment(index)?.id;
            renumber_versions(&mut self.tx, env, key, renumbering).await?;
        }
        Ok(())
    }
}
