//! What a change is applied to: locked, loaded as far as it is needed, and changed in memory until everything is decided.
//!
//! What a definition needs to know of all environments is in `world/define`; reading out what has changed, in `world/result`; what
//! has changed since a change was planned, in `world/conflict`.

mod conflict;
mod define;
mod result;

pub(super) use conflict::Planned;

use crate::change::Instruction;
use crate::change::Scene;
use crate::change::SegmentInstruction;
use crate::change::apply;
use crate::change::apply_to_segment;
use crate::change::asked_for;
use crate::change::check_segment_references;
use crate::change::differences;
use crate::change::references;
use crate::change::segment_differences;
use crate::clock::Ids;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::change_set::Part;
use crate::control::change_set::PartChanged;
use crate::model::change::EnvId;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::problem::Problems;
use crate::store::Damaged;
use crate::store::StoreError;
use crate::store::StoredFlag;
use crate::store::StoredSegment;
use crate::store::Tx;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Why one change among others was not made.
#[derive(Debug)]
pub(super) enum PartError {
    /// There is no such thing.
    NotFound { what: &'static str, key: String },
    /// Instructions are wrong.
    Invalid(Problems),
    /// Everything else, which ends all of them.
    Control(ControlError),
}

impl PartError {
    fn not_found(what: &'static str, key: &impl ToString) -> Self {
        Self::NotFound { what, key: key.to_string() }
    }

    /// Whether a flag cannot go because others need it, and not only one of its variations.
    pub(super) fn is_in_use(&self) -> bool {
        let Self::Invalid(problems) = self else { return false };
        let is_flag = |path: &str| path.ends_with(".kind");
        problems.as_slice().iter().any(|it| it.code == "in_use" && is_flag(&it.path))
    }

    /// What is wrong with one of many.
    pub(super) fn into_problems(self) -> Result<Problems, ControlError> {
        match self {
            Self::NotFound { what, key } => {
                let code = match what {
                    "environment" => "unknown_environment",
                    "segment" => "unknown_segment",
                    _ => "unknown_flag",
                };
                Ok(Problems::one(what, code, format!("there is no {what} `{key}`")))
            }
            Self::Invalid(problems) => Ok(problems),
            Self::Control(error) => Err(error),
        }
    }

    /// What is wrong with the only one.
    pub(super) fn into_error(self) -> Result<ControlError, ControlError> {
        match self {
            Self::NotFound { what, key } => Ok(ControlError::not_found(what, &key)),
            Self::Invalid(problems) => Ok(problems.into()),
            Self::Control(error) => Err(error),
        }
    }
}

impl From<StoreError> for PartError {
    fn from(error: StoreError) -> Self {
        Self::Control(error.into())
    }
}

impl From<Problems> for PartError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

/// A thing before and after.
#[derive(Debug)]
struct Pair<T> {
    before: T,
    now: T,
}

impl<T: Clone + PartialEq> Pair<T> {
    fn new(before: T) -> Self {
        Self { now: before.clone(), before }
    }

    fn is_changed(&self) -> bool {
        self.now != self.before
    }
}

/// A definition; `None` after it was deleted.
type Definition = Pair<Option<FlagDefinition>>;

/// An environment that is locked.
#[derive(Debug)]
struct Locked {
    id: EnvId,
    key: EnvKey,
    server_sdk: ServerSdk,
    /// The version that the change makes.
    version: i64,
    flags: BTreeMap<FlagKey, Pair<StoredFlag>>,
    segments: Option<BTreeMap<SegmentKey, Pair<StoredSegment>>>,
    /// Each flag that has prerequisites, with them; and what became of those that cannot be read.
    edges: Option<(BTreeMap<FlagKey, Vec<FlagKey>>, Damaged)>,
}

/// Everything that a change touches.
pub(super) struct World<'a> {
    tx: Tx,
    project: &'a ProjectKey,
    ids: Ids,
    now: Timestamp,
    environments: Vec<Locked>,
    definitions: BTreeMap<FlagKey, Definition>,
    /// Whether a window begins or ends, which no kill ends with.
    is_window: bool,
}

impl<'a> World<'a> {
    /// Locks what the parts touch: the environments that they name, in the order of their numbers; for a definition, first the
    /// project and then all environments.
    pub(super) async fn lock(
        control: &Control,
        mut tx: Tx,
        project: &'a ProjectKey,
        parts: &[Part],
    ) -> Result<Self, ControlError> {
        let mut wanted = BTreeSet::new();
        let mut is_wide = false;
        for part in parts {
            match part {
                Part::Config { env, .. } | Part::Segment { env, .. } => _ = wanted.insert(env),
                Part::Definition { .. } => is_wide = true,
            }
        }
        if is_wide && !tx.lock_project(project).await? {
            return Err(ControlError::not_found("project", project));
        }
        let mut environments = Vec::new();
        for record in tx.environments().await? {
            let is_meant = is_wide || wanted.contains(&record.key);
            // One that was deleted since it was read is not there.
            if record.project == *project && is_meant && tx.lock_environment(record.id).await? {
                environments.push(Locked {
                    id: record.id,
                    key: record.key,
                    server_sdk: record.server_sdk,
                    version: 0,
                    flags: BTreeMap::new(),
                    segments: None,
                    edges: None,
                });
            }
        }
        let (ids, now) = (control.ids, control.clock.now());
        Ok(Self {
            tx,
            project,
            ids,
            now,
            environments,
            definitions: BTreeMap::new(),
            is_window: false,
        })
    }

    /// Takes what is applied for a start or an end of a window.
    pub(super) fn in_window(mut self, is_window: bool) -> Self {
        self.is_window = is_window;
        self
    }

    /// Applies one change in memory; what it does is seen by those after it.
    pub(super) async fn apply(&mut self, part: &Part) -> Result<PartChanged, PartError> {
        match part {
            Part::Config { env, flag, if_version, instructions } => {
                self.change_config(env, flag, instructions, *if_version).await
            }
            Part::Definition { flag, if_tag, instructions } => {
                self.define(flag, instructions, if_tag.as_deref()).await
            }
            Part::Segment { env, segment, if_version, instructions } => {
                self.change_segment(env, segment, instructions, *if_version).await
            }
        }
    }

    fn index_of(&self, env: &EnvKey) -> Result<usize, PartError> {
        let found = self.environments.iter().position(|each| each.key == *env);
        found.ok_or_else(|| PartError::not_found("environment", env))
    }

    fn environment(&mut self, index: usize) -> Result<&mut Locked, PartError> {
        let found = self.environments.get_mut(index);
        found.ok_or_else(|| PartError::not_found("environment", &index))
    }

    /// The definition as it is now; `None` if there is no such flag, or none any more.
    async fn definition(&mut self, key: &FlagKey) -> Result<Option<FlagDefinition>, PartError> {
        if let Some(known) = self.definitions.get(key) {
            return Ok(known.now.clone());
        }
        let found = self.tx.definition(self.project, key).await?;
        let found = found.filter(|(_, is_deleted)| !is_deleted).map(|(definition, _)| definition);
        self.definitions.insert(key.clone(), Pair::new(found.clone()));
        Ok(found)
    }

    /// The flag in an environment as it is now.
    async fn flag(&mut self, index: usize, key: &FlagKey) -> Result<&mut StoredFlag, PartError> {
        let project = self.project;
        let definition = self.definitions.get(key).map(|known| known.now.clone());
        if definition == Some(None) {
            return Err(PartError::not_found("flag", key));
        }
        let Self { tx, environments, .. } = self;
        let environment = environments.get_mut(index);
        let environment = environment.ok_or_else(|| PartError::not_found("environment", &index))?;
        if !environment.flags.contains_key(key) {
            let Some(mut flag) = tx.flag(project, environment.id, key).await? else {
                return Err(PartError::not_found("flag", key));
            };
            if let Some(Some(definition)) = definition {
                flag.definition = definition;
            }
            environment.flags.insert(key.clone(), Pair::new(flag));
        }
        let found = environment.flags.get_mut(key).map(|pair| &mut pair.now);
        found.ok_or_else(|| PartError::not_found("flag", key))
    }

    /// Each flag of an environment that has prerequisites, with them.
    async fn edges(
        &mut self,
        index: usize,
        damaged: Damaged,
    ) -> Result<&BTreeMap<FlagKey, Vec<FlagKey>>, PartError> {
        let Self { tx, environments, .. } = self;
        let environment = environments.get_mut(index);
        let environment = environment.ok_or_else(|| PartError::not_found("environment", &index))?;
        // Those of which none was left out are good for both.
        let known = environment.edges.take();
        let (mut edges, damaged) =
            match known.filter(|(_, known)| [damaged, Damaged::Refused].contains(known)) {
                Some(known) => known,
                None => (tx.prerequisites(environment.id, damaged).await?, damaged),
            };
        for (key, pair) in &environment.flags {
            let own = pair.now.config.prerequisites.iter().map(|each| each.key.clone());
            edges.insert(key.clone(), own.collect());
        }
        edges.retain(|_, others| !others.is_empty());
        Ok(&environment.edges.insert((edges, damaged)).0)
    }

    async fn change_config(
        &mut self,
        env: &EnvKey,
        key: &FlagKey,
        instructions: &[Instruction],
        if_version: Option<i64>,
    ) -> Result<PartChanged, PartError> {
        let index = self.index_of(env)?;
        let mut flag = self.flag(index, key).await?.clone();
        ControlError::check_version(("flag", key), flag.version, if_version)
            .map_err(PartError::Control)?;
        let wanted = references(instructions);
        let mut flags = BTreeMap::new();
        for key in &wanted.flags {
            let found = self.definition(key).await?;
            flags.extend(found.map(|definition| (key.clone(), definition)));
        }
        let prerequisites = match wanted.flags.is_empty() {
            true => BTreeMap::new(),
            false => self.edges(index, Damaged::Refused).await?.clone(),
        };
        let mut segments = BTreeSet::new();
        for key in wanted.segments {
            if self.has_segment(index, &key).await? {
                segments.insert(key);
            }
        }
        let scene = Scene {
            definition: &flag.definition,
            config: &flag.config,
            flags: &flags,
            prerequisites: &prerequisites,
            segments: &segments,
            server_sdk: self.environment(index)?.server_sdk,
        };
        let ids = self.ids;
        let applied = apply(&scene, instructions, &mut || ids.next())?;
        let mut changes = applied.changes;
        // Whoever turns a killed flag on, or off for good, ends the kill: there is nothing left to restore. A window does neither.
        let is_turned_off = instructions.contains(&Instruction::TurnFlagOff);
        let is_ended = !self.is_window && (applied.config.on || is_turned_off);
        if flag.killed.is_some() && is_ended {
            flag.killed = None;
            changes.push("ended the kill: there is nothing to restore".to_owned());
        }
        let differences = differences(&flag.definition, &flag.config, &applied.config);
        flag.config = applied.config;
        *self.flag(index, key).await? = flag;
        let (moved, rules_moved) = (applied.moved, applied.rules_moved);
        Ok(PartChanged { changes, moved, rules_moved, differences, ..PartChanged::default() })
    }

    async fn has_segment(&mut self, index: usize, key: &SegmentKey) -> Result<bool, PartError> {
        let environment = self.environment(index)?;
        if let Some(segments) = &environment.segments {
            return Ok(segments.contains_key(key));
        }
        let id = environment.id;
        Ok(self.tx.segment(id, key).await?.is_some())
    }

    async fn change_segment(
        &mut self,
        env: &EnvKey,
        key: &SegmentKey,
        instructions: &[SegmentInstruction],
        if_version: Option<i64>,
    ) -> Result<PartChanged, PartError> {
        let index = self.index_of(env)?;
        let Self { tx, environments, ids, .. } = self;
        let environment = environments.get_mut(index);
        let environment = environment.ok_or_else(|| PartError::not_found("environment", env))?;
        let segments = match environment.segments.take() {
            Some(segments) => segments,
            None => {
                let stored = tx.segments(environment.id).await?.into_iter();
                stored.map(|each| (each.segment.key.clone(), Pair::new(each))).collect()
            }
        };
        let segments = environment.segments.insert(segments);
        let Some(pair) = segments.get(key) else {
            return Err(PartError::not_found("segment", key));
        };
        ControlError::check_version(("segment", key), pair.now.version, if_version)
            .map_err(PartError::Control)?;
        let old = pair.now.segment.clone();
        let exists = |key: &str| segments.contains_key(key);
        let ids = *ids;
        let (sdk, new_id) = (environment.server_sdk, &mut || ids.next());
        let (new, changes) = apply_to_segment(&old, &exists, sdk, instructions, new_id)?;
        if !changes.is_empty() {
            let edge = |(key, pair): (&SegmentKey, &Pair<StoredSegment>)| {
                (key.clone(), asked_for(&pair.now.segment))
            };
            let edges: BTreeMap<_, _> = segments.iter().map(edge).collect();
            check_segment_references(&new, &edges)?;
        }
        let differences = segment_differences(&old, &new);
        if let Some(pair) = segments.get_mut(key).filter(|_| !changes.is_empty()) {
            pair.now.segment = new;
        }
        Ok(PartChanged { changes, differences, ..PartChanged::default() })
    }
}
