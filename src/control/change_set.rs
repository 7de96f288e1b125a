//! Changes of flags and segments: one, or many at once over any environments of a project, all or nothing.
//!
//! Everything that is written by instructions goes through here. What instructions do is in `change`; what is loaded for them, and
//! how it is held until all are applied, in `world`.

use crate::change::DefinitionInstruction;
use crate::change::Difference;
use crate::change::Instruction;
use crate::change::Moved;
use crate::change::SegmentInstruction;
use crate::change::list_names;
use crate::control::Author;
use crate::control::Claimed;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::control::safety;
use crate::control::world::PartError;
use crate::control::world::World;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::problem::Problems;
use crate::store::StoredFlag;
use crate::store::StoredSegment;
use crate::store::Tx;
use crate::store::within_timeout;

/// Keys that the audit entry of a change of many names as its subject.
const NAMES_MAX: usize = 20;
/// How the audit log calls what an entry of the schedule did.
pub(super) const EXECUTE: &str = "schedule.execute";

/// One change among others.
#[derive(Debug)]
pub enum Part {
    /// Of a flag in one environment.
    Config {
        /// The environment.
        env: EnvKey,
        /// The flag.
        flag: FlagKey,
        /// Refuse if it is not at this version.
        if_version: Option<i64>,
        /// What is to be done, in order.
        instructions: Vec<Instruction>,
    },
    /// Of a flag in the whole project.
    Definition {
        /// The flag.
        flag: FlagKey,
        /// Refuse if the definition does not have this tag.
        if_tag: Option<String>,
        /// What is to be done, in order.
        instructions: Vec<DefinitionInstruction>,
    },
    /// Of a segment.
    Segment {
        /// The environment.
        env: EnvKey,
        /// The segment.
        segment: SegmentKey,
        /// Refuse if it is not at this version.
        if_version: Option<i64>,
        /// What is to be done, in order.
        instructions: Vec<SegmentInstruction>,
    },
}

/// Changes that are made together or not at all.
#[derive(Debug)]
pub struct ChangeSet {
    /// In order; each sees what the ones before it did.
    pub parts: Vec<Part>,
    /// The same as it was sent, as JSON, for the audit log.
    pub raw: String,
    /// The entry of the schedule that this is, if it was planned.
    pub claimed: Option<Claimed>,
}

/// Changes that were made, or would be.
#[derive(Debug)]
pub struct ChangedSet {
    /// What each did.
    pub parts: Vec<PartChanged>,
    /// The versions of the environments that were changed; of all that were asked for if nothing was.
    pub versions: Vec<(EnvKey, i64)>,
}

/// What one change did, or would do.
#[derive(Debug, Default)]
pub struct PartChanged {
    /// The flag in its environment, after everything.
    pub flag: Option<StoredFlag>,
    /// The definition, after everything, if that was to be changed; also of a flag that is deleted.
    pub definition: Option<FlagDefinition>,
    /// The segment, after everything.
    pub segment: Option<StoredSegment>,
    /// What was done, in words; empty if everything was so already.
    pub changes: Vec<String>,
    /// How many of those whom the fallthrough serves get another variation.
    pub moved: Option<Moved>,
    /// The same for each rule that leads elsewhere, by its id.
    pub rules_moved: Vec<(String, Moved)>,
    /// What differs; told of a dry run only.
    pub differences: Vec<Difference>,
    /// What is allowed but cannot be meant.
    pub warnings: Vec<String>,
    /// What depends on the flag or segment; told of a dry run only.
    pub dependants: Vec<Dependency>,
    /// What the flag or segment depends on; told of a dry run only.
    pub depends_on: Vec<Dependency>,
}

/// A flag or segment that depends on another, or that another depends on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// A flag.
    Flag(EnvKey, FlagKey),
    /// A segment.
    Segment(EnvKey, SegmentKey),
}

impl Part {
    fn name(&self) -> String {
        match self {
            Self::Config { env, flag, .. } => format!("`{flag}` in `{env}`"),
            Self::Definition { flag, .. } => format!("`{flag}`"),
            Self::Segment { env, segment, .. } => format!("the segment `{segment}` in `{env}`"),
        }
    }

    /// Refuses the change unless what it changes is at this version.
    ///
    /// # Errors
    ///
    /// `conflicting_fields` if it is to be at another one, too.
    pub fn require_version(&mut self, version: i64) -> Result<(), Problems> {
        let (Self::Config { if_version, .. } | Self::Segment { if_version, .. }) = self else {
            return Ok(());
        };
        if if_version.replace(version).is_some_and(|other| other != version) {
            let detail = "`ifVersion` and If-Match name different versions; give one of them";
            return Err(Problems::one("ifVersion", "conflicting_fields", detail));
        }
        Ok(())
    }

    /// The environment whose safety the change must heed, and whether it lacks a version that may be required; none if it only turns a flag off, or is
    /// of a whole project.
    pub(super) fn touched(&self) -> Option<(&EnvKey, bool)> {
        match self {
            Self::Config { env, if_version, instructions, .. } => {
                let is_emergency = instructions.iter().all(|it| *it == Instruction::TurnFlagOff);
                (!is_emergency).then_some((env, if_version.is_none()))
            }
            Self::Segment { env, .. } => Some((env, false)),
            Self::Definition { .. } => None,
        }
    }

    pub(super) fn key(&self) -> &str {
        match self {
            Self::Config { flag, .. } | Self::Definition { flag, .. } => flag.as_str(),
            Self::Segment { segment, .. } => segment.as_str(),
        }
    }

    fn action(&self) -> &'static str {
        match self {
            Self::Config { .. } => "flag.change",
            Self::Definition { .. } if self.is_deletion() => "flag.delete",
            Self::Definition { .. } => "flag.update",
            Self::Segment { .. } => "segment.update",
        }
    }

    /// Whether a flag is deleted.
    pub(super) fn is_deletion(&self) -> bool {
        let Self::Definition { instructions, .. } = self else { return false };
        matches!(instructions.last(), Some(DefinitionInstruction::Delete))
    }
}

impl Control {
    /// Makes many changes in one transaction: one version for each environment that is changed, and one audit entry.
    ///
    /// # Errors
    ///
    /// There is no such project; any of the changes is wrong, and then all problems are told, with paths like
    /// `changes[2].instructions[0].variation`.
    pub async fn change_many(
        &self,
        author: &Author,
        project: &ProjectKey,
        set: ChangeSet,
    ) -> Result<ChangedSet, ControlError> {
        let failed = |failures: Vec<(usize, PartError)>| {
            let mut problems = Problems::default();
            for (i, failure) in failures {
                problems.add_below(&format!("changes[{i}]"), failure.into_problems()?);
            }
            Ok(ControlError::Invalid(problems))
        };
        within_timeout(async {
            let tx = self.store.write().await?;
            self.change_set(tx, author, project, &set, "project.change", failed).await
        })
        .await
    }

    /// Makes one change.
    ///
    /// # Errors
    ///
    /// There is no such flag, segment or environment; an instruction is wrong; the flag is not at the version that was asked for.
    pub async fn change_one(
        &self,
        author: &Author,
        project: &ProjectKey,
        set: ChangeSet,
    ) -> Result<(PartChanged, Vec<(EnvKey, i64)>), ControlError> {
        let action = set.parts.first().map_or("", Part::action);
        let failed = |failures: Vec<(usize, PartError)>| {
            let first = failures.into_iter().next();
            first
                .map_or_else(|| Ok(Problems::default().into()), |(_, failure)| failure.into_error())
        };
        let changed = within_timeout(async {
            let tx = self.store.write().await?;
            self.change_set(tx, author, project, &set, action, failed).await
        })
        .await?;
        let part = changed.parts.into_iter().next().unwrap_or_default();
        Ok((part, changed.versions))
    }

    /// Makes changes in a transaction that was begun for them.
    pub(super) async fn change_set(
        &self,
        tx: Tx,
        author: &Author,
        project: &ProjectKey,
        set: &ChangeSet,
        action: &'static str,
        failed: impl FnOnce(Vec<(usize, PartError)>) -> Result<ControlError, ControlError>,
    ) -> Result<ChangedSet, ControlError> {
        let is_window = set.claimed.as_ref().is_some_and(Claimed::is_repeated);
        let world = World::lock(self, tx, project, &set.parts).await?;
        let mut world = world.in_window(is_window);
        let mut results = Vec::with_capacity(set.parts.len());
        let mut failures = Vec::new();
        for (i, part) in set.parts.iter().enumerate() {
            match world.apply(part).await {
                Ok(result) => {
                    if let Some(claimed) = &set.claimed {
                        world.check_planned(part, claimed.planned(i), &result).await?;
                    }
                    results.push(result);
                }
                Err(PartError::Control(error)) => return Err(error),
                Err(failure) => {
                    // Now, before those after it change what is in the way.
                    if let Part::Definition { flag, .. } = part
                        && failure.is_in_use()
                        && let Some(rehearsal) = &author.provenance.rehearsal
                    {
                        let blocking = world.blocking(flag, part.is_deletion()).await?;
                        rehearsal.tell(Vec::new(), blocking);
                    }
                    failures.push((i, failure));
                }
            }
        }
        if !failures.is_empty() {
            return Err(failed(failures)?);
        }
        let versions = world.count_up().await?;
        let is_changed = world.is_changed();
        if !is_changed {
            results.iter_mut().for_each(|result| result.changes.clear());
        }
        let is_written = is_changed && !author.is_rehearsing();
        for (part, result) in set.parts.iter().zip(&mut results) {
            world.conclude(part, is_written, result);
            if author.is_rehearsing() {
                world.tell_dependencies(part, result).await?;
            } else {
                result.differences.clear();
            }
        }
        if is_written {
            let positions = world.write().await?;
            let (tx, now, written) = world.into_tx();
            self.finish_set(tx, author, project, (set, &results), action, now, written).await?;
            debug_assert_eq!(positions, versions.len(), "each environment has one version");
        }
        Ok(ChangedSet { parts: results, versions })
    }

    /// Records what was written in the audit log and in the log of each environment, and finishes.
    #[expect(clippy::too_many_arguments, reason = "the second half of one caller")]
    async fn finish_set(
        &self,
        mut tx: Tx,
        author: &Author,
        project: &ProjectKey,
        (set, results): (&ChangeSet, &[PartChanged]),
        action: &'static str,
        now: jiff::Timestamp,
        written: Vec<Written>,
    ) -> Result<(), ControlError> {
        let is_single = set.parts.len() == 1;
        let words = set.parts.iter().zip(results).flat_map(|(part, result)| {
            let name = part.name();
            let word = move |word: &String| match is_single {
                true => word.clone(),
                false => format!("{name}: {word}"),
            };
            result.changes.iter().map(word)
        });
        let changes = words.collect();
        let has_definition = set.parts.iter().any(|part| matches!(part, Part::Definition { .. }));
        let only = match written.as_slice() {
            [only] if !has_definition => Some(only),
            _ => None,
        };
        let mut names: Vec<&str> = set.parts.iter().map(Part::key).collect();
        names.dedup();
        let subject = list_names(names.iter(), NAMES_MAX);
        let deed = Deed {
            action,
            subject: &subject,
            project: Some(project),
            env: only.map(|written| &written.env),
            version: only.map(|written| written.version),
            instructions: Some(set.raw.clone()),
            changes,
        };
        if has_definition {
            safety::check_definition(&mut tx, author, project).await?;
        }
        for part in &set.parts {
            if let Some((env, needs_version)) = part.touched() {
                safety::check_environment(&mut tx, author, project, env, needs_version).await?;
            }
        }
        if let Some(claimed) = &set.claimed {
            let version = written.first().map(|written| written.version);
            claimed.finish(&mut tx, version, &deed.changes, now).await?;
        }
        let audit_id = self.append(&mut tx, author, deed, now).await?;
        let mut positions = Vec::with_capacity(written.len());
        for Written { id, version, flags, segments, .. } in &written {
            let flags: Vec<&str> = flags.iter().map(FlagKey::as_str).collect();
            let segments: Vec<&str> = segments.iter().map(SegmentKey::as_str).collect();
            tx.log_change(*id, *version, &flags, &segments, &audit_id, now).await?;
            positions.push((*id, *version));
        }
        self.finish(author, tx, Served::Environments(positions)).await
    }
}

/// What was written of one environment.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) id: crate::model::change::EnvId,
    pub(super) env: EnvKey,
    pub(super) version: i64,
    pub(super) flags: Vec<FlagKey>,
    pub(super) segments: Vec<SegmentKey>,
}
