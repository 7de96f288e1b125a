//! What has changed since a change was planned, as far as the change touches it.
//!
//! What entries of the schedule made since is no conflict: whoever planned several planned each on those before.

use super::World;
use crate::change::Difference;
use crate::change::Instruction;
use crate::change::differences;
use crate::control::ControlError;
use crate::control::change_set::EXECUTE;
use crate::control::change_set::Part;
use crate::control::change_set::PartChanged;
use crate::control::world::PartError;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::rule::FlagConfig;
use crate::store::StoredFlag;
use std::collections::BTreeSet;

/// Versions that are looked through; as many of each flag are kept.
const VERSIONS_MAX: i64 = 200;

/// The state that a change was planned on.
#[derive(Debug, Clone, Copy)]
pub(in crate::control) struct Planned {
    /// The version that the flag or segment had.
    pub(in crate::control) base: i64,
    /// Whether only a kill is a conflict, and each one is, however old.
    pub(in crate::control) is_repeated: bool,
}

impl World<'_> {
    /// The version that the subject of a part had before this change; 0 if it is not known.
    pub(in crate::control) fn version_of(&self, part: &Part) -> i64 {
        match part {
            Part::Config { env, flag, .. } => {
                let environment = self.environments.iter().find(|each| each.key == *env);
                let pair = environment.and_then(|environment| environment.flags.get(flag));
                pair.map_or(0, |pair| pair.before.version)
            }
            Part::Segment { env, segment, .. } => {
                let environment = self.environments.iter().find(|each| each.key == *env);
                let segments = environment.and_then(|environment| environment.segments.as_ref());
                let pair = segments.and_then(|segments| segments.get(segment));
                pair.map_or(0, |pair| pair.before.version)
            }
            Part::Definition { .. } => 0,
        }
    }

    /// Checks that what a part touches has not changed since it was planned. Turning a flag off is never held up.
    ///
    /// # Errors
    ///
    /// It has changed; or the flag was killed, and the part turns it on.
    pub(in crate::control) async fn check_planned(
        &mut self,
        part: &Part,
        planned: Planned,
        done: &PartChanged,
    ) -> Result<(), ControlError> {
        let version = self.version_of(part);
        match part {
            Part::Config { env, flag, instructions, .. } => {
                if instructions.iter().all(|each| *each == Instruction::TurnFlagOff) {
                    return Ok(());
                }
                let index = self.index_of(env)?;
                self.check_kill(index, flag, planned, version).await?;
                if planned.is_repeated || version == planned.base {
                    return Ok(());
                }
                let touched = done.differences.iter().map(|each| each.path.as_str()).collect();
                let differs = self.changed_since(index, flag, planned.base, &touched).await?;
                refuse(&format!("the flag `{flag}`"), planned.base, version, differs)
            }
            Part::Segment { segment, .. } => {
                let is_changed = version != planned.base && !done.changes.is_empty();
                let difference = Difference {
                    path: "version".to_owned(),
                    before: Some(planned.base.into()),
                    after: Some(version.into()),
                };
                let differs = is_changed.then_some(difference).into_iter().collect();
                refuse(&format!("the segment `{segment}`"), planned.base, version, differs)
            }
            Part::Definition { .. } => Ok(()),
        }
    }

    async fn check_kill(
        &mut self,
        index: usize,
        key: &FlagKey,
        planned: Planned,
        version: i64,
    ) -> Result<(), ControlError> {
        let is_on = self.flag(index, key).await?.config.on;
        let before = self.environments.get(index).and_then(|each| each.flags.get(key));
        let kill = before.and_then(|pair| pair.before.killed.as_ref());
        let Planned { base, is_repeated } = planned;
        match kill {
            Some(kill) if is_on && (is_repeated || kill.version > base) => {
                let since = match kill.version > base {
                    true => format!(", after this was planned at version {base}"),
                    false => String::new(),
                };
                let detail = format!(
                    "the flag `{key}` was killed by {} at version {}{since}; it is at version {version}",
                    kill.by, kill.version
                );
                let killed = Difference {
                    path: "killed".to_owned(),
                    before: None,
                    after: Some(kill.version.into()),
                };
                Err(ControlError::ChangedSince { code: "killed", detail, differs: vec![killed] })
            }
            _ => Ok(()),
        }
    }

    /// What differs between the version that was planned on and now, among what is touched and was changed by others.
    async fn changed_since(
        &mut self,
        index: usize,
        key: &FlagKey,
        base: i64,
        touched: &BTreeSet<&str>,
    ) -> Result<Vec<Difference>, ControlError> {
        let Self { tx, environments, .. } = self;
        let found = environments.get(index).and_then(|each| Some((each.id, each.flags.get(key)?)));
        let Some((env, pair)) = found else { return Ok(Vec::new()) };
        let StoredFlag { definition, config: now, .. } = &pair.before;
        let is_touched = |each: &Difference| touched.contains(each.path.as_str());
        let mut versions = tx.flag_versions(env, key, 0, VERSIONS_MAX).await?;
        versions.reverse();
        let (older, newer): (Vec<_>, Vec<_>) =
            versions.into_iter().partition(|each| each.version <= base);
        let start = match older.last() {
            Some(older) => tx.config_at(env, key, older.version).await?,
            None => None,
        };
        let Some(start) = start else {
            // So much has changed since that nothing is known of the state before.
            let all = touched.iter().map(|path| (*path).to_owned());
            return Ok(all.map(|path| Difference { path, before: None, after: None }).collect());
        };
        let mut foreign = BTreeSet::new();
        let mut before = start.clone();
        for version in newer {
            let Some(after) = tx.config_at(env, key, version.version).await? else { continue };
            if version.made.is_none_or(|made| made.action != EXECUTE) {
                foreign.extend(paths(definition, &before, &after));
            }
            before = after;
        }
        let mut differs = differences(definition, &start, now);
        differs.retain(|each| is_touched(each) && foreign.contains(&each.path));
        Ok(differs)
    }
}

fn paths(
    definition: &FlagDefinition,
    before: &FlagConfig,
    after: &FlagConfig,
) -> impl Iterator<Item = String> {
    differences(definition, before, after).into_iter().map(|each| each.path)
}

fn refuse(
    name: &str,
    base: i64,
    version: i64,
    differs: Vec<Difference>,
) -> Result<(), ControlError> {
    if differs.is_empty() {
        return Ok(());
    }
    let detail = format!(
        "{name} has changed since this was planned: it was at version {base} and is at version {version}"
    );
    Err(ControlError::ChangedSince { code: "changed_since", detail, differs })
}

impl From<PartError> for ControlError {
    fn from(error: PartError) -> Self {
        match error.into_error() {
            Ok(error) | Err(error) => error,
        }
    }
}
