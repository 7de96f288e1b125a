//! Reading out what has changed: versions, what each change led to, and what is to be written.

use super::Locked;
use super::World;
use crate::change::asked_for;
use crate::change::asks_for;
use crate::change::segments_of;
use crate::change::warnings;
use crate::control::ControlError;
use crate::control::change_set::Dependency;
use crate::control::change_set::Part;
use crate::control::change_set::PartChanged;
use crate::control::change_set::Written;
use crate::control::world::PartError;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::segment::Segment;
use crate::store::Damaged;
use crate::store::StoredFlag;
use crate::store::Tx;
use jiff::Timestamp;

impl World<'_> {
    /// Whether anything differs from what is stored.
    pub(in crate::control) fn is_changed(&self) -> bool {
        self.is_redefined() || self.environments.iter().any(Locked::is_changed)
    }

    fn is_redefined(&self) -> bool {
        self.definitions.values().any(super::Pair::is_changed)
    }

    /// Counts up the environments that have changed, and returns their versions; if none has, those of all as they are.
    pub(in crate::control) async fn count_up(
        &mut self,
    ) -> Result<Vec<(EnvKey, i64)>, ControlError> {
        let (is_redefined, is_changed) = (self.is_redefined(), self.is_changed());
        let Self { tx, project, now, environments, .. } = self;
        let mut versions = Vec::new();
        for environment in environments {
            if is_changed && !is_redefined && !environment.is_changed() {
                continue;
            }
            let Some((_, version)) = tx.bump_environment(project, &environment.key, *now).await?
            else {
                return Err(ControlError::not_found("environment", &environment.key));
            };
            environment.version = version;
            // Where nothing has changed, nothing is committed, and the version goes with it.
            let version = if is_changed { version } else { version - 1 };
            versions.push((environment.key.clone(), version));
        }
        Ok(versions)
    }

    /// Completes a result by what things are in the end.
    pub(in crate::control) fn conclude(
        &self,
        part: &Part,
        is_written: bool,
        result: &mut PartChanged,
    ) {
        match part {
            Part::Config { env, flag, .. } => {
                let Some(environment) = self.find(env) else { return };
                let Some(pair) = environment.flags.get(flag) else { return };
                let mut flag = pair.now.clone();
                let is_touched = pair.is_changed() || self.is_redefined_flag(&flag);
                if is_written && is_touched {
                    // Otherwise the flag's own version stays: it would be wrong in an `If-Match`.
                    (flag.version, flag.changed_at) = (environment.version, self.now);
                }
                result.warnings = warnings(&flag.config);
                result.flag = Some(flag);
            }
            Part::Definition { flag, .. } => {
                let known = self.definitions.get(flag);
                if let Some(definition) = known.and_then(|known| known.now.clone()) {
                    result.definition = Some(definition);
                }
            }
            Part::Segment { env, segment, .. } => {
                let Some(environment) = self.find(env) else { return };
                let segments = environment.segments.as_ref();
                let Some(pair) = segments.and_then(|all| all.get(segment)) else { return };
                let mut segment = pair.now.clone();
                if is_written && pair.is_changed() {
                    (segment.version, segment.changed_at) = (environment.version, self.now);
                }
                result.segment = Some(segment);
            }
        }
    }

    fn find(&self, env: &EnvKey) -> Option<&Locked> {
        self.environments.iter().find(|each| each.key == *env)
    }

    fn is_redefined_flag(&self, flag: &StoredFlag) -> bool {
        self.definitions.get(&flag.definition.key).is_some_and(super::Pair::is_changed)
    }

    /// Says what depends on the thing that was changed, as far as that can be read, and what it depends on.
    pub(in crate::control) async fn tell_dependencies(
        &mut self,
        part: &Part,
        result: &mut PartChanged,
    ) -> Result<(), ControlError> {
        let told = match part {
            Part::Config { env, flag, .. } => {
                let index = self.environments.iter().position(|each| each.key == *env);
                if let Some(stored) = &result.flag {
                    let (flags, segments) = asks_for(&stored.config);
                    let flags = flags.into_iter().map(|key| Dependency::Flag(env.clone(), key));
                    let segment = |key| Dependency::Segment(env.clone(), key);
                    result.depends_on = flags.chain(segments.into_iter().map(segment)).collect();
                }
                self.flags_asking_for_flag(index.into_iter().collect(), flag).await
            }
            Part::Definition { flag, .. } => {
                let all = (0..self.environments.len()).collect();
                self.flags_asking_for_flag(all, flag).await
            }
            Part::Segment { env, segment, .. } => {
                if let Some(stored) = &result.segment {
                    let segment = |key| Dependency::Segment(env.clone(), key);
                    result.depends_on =
                        asked_for(&stored.segment).into_iter().map(segment).collect();
                }
                self.asking_for_segment(env, segment).await
            }
        };
        match told {
            Ok(dependants) => result.dependants = dependants,
            Err(PartError::Control(error)) => return Err(error),
            // What is deleted has no dependants.
            Err(_) => {}
        }
        Ok(())
    }

    /// Says which flags keep a flag from going: an archived one keeps it from being deleted, and not from being archived.
    pub(in crate::control) async fn blocking(
        &mut self,
        flag: &FlagKey,
        is_deletion: bool,
    ) -> Result<Vec<Dependency>, ControlError> {
        let mut blocking = Vec::new();
        for index in 0..self.environments.len() {
            let env = self.environment(index)?.key.clone();
            for key in self.dependants_in(index, flag, Damaged::LeftOut).await? {
                let definition = self.definition(&key).await?;
                if is_deletion || definition.is_none_or(|it| !it.archived) {
                    blocking.push(Dependency::Flag(env.clone(), key));
                }
            }
        }
        Ok(blocking)
    }

    async fn flags_asking_for_flag(
        &mut self,
        indexes: Vec<usize>,
        flag: &FlagKey,
    ) -> Result<Vec<Dependency>, PartError> {
        let mut dependants = Vec::new();
        for index in indexes {
            let env = self.environment(index)?.key.clone();
            let keys = self.dependants_in(index, flag, Damaged::LeftOut).await?.into_iter();
            dependants.extend(keys.map(|key| Dependency::Flag(env.clone(), key)));
        }
        Ok(dependants)
    }

    async fn asking_for_segment(
        &mut self,
        env: &EnvKey,
        segment: &SegmentKey,
    ) -> Result<Vec<Dependency>, PartError> {
        let index = self.index_of(env)?;
        let id = self.environment(index)?.id;
        let mut dependants = Vec::new();
        let stored = self.tx.configs_asking_for_segments(id, Damaged::LeftOut).await?;
        let environment = self.environment(index)?;
        for (key, config) in stored {
            let now = environment.flags.get(&key).map(|pair| &pair.now.config);
            let config = now.unwrap_or(&config);
            let clauses = config.rules.iter().flat_map(|rule| &rule.clauses);
            if segments_of(clauses).any(|asked| asked == *segment) {
                dependants.push(Dependency::Flag(env.clone(), key));
            }
        }
        for (key, pair) in environment.segments.iter().flatten() {
            if asked_for(&pair.now.segment).contains(segment) {
                dependants.push(Dependency::Segment(env.clone(), key.clone()));
            }
        }
        Ok(dependants)
    }

    /// Writes everything that has changed; returns in how many environments.
    pub(in crate::control) async fn write(&mut self) -> Result<usize, ControlError> {
        let Self { tx, project, now, environments, definitions, .. } = self;
        let redefined = definitions.iter().filter(|(_, pair)| pair.is_changed());
        let redefined: Vec<_> = redefined.map(|(key, pair)| (key, pair.now.as_ref())).collect();
        for (key, definition) in &redefined {
            match definition {
                Some(definition) => tx.update_definition(project, definition).await?,
                None => _ = tx.delete_definition(project, key, *now).await?,
            }
        }
        let mut n_written = 0;
        for environment in environments.iter().filter(|each| each.version > 0) {
            let (id, version) = (environment.id, environment.version);
            for (key, definition) in &redefined {
                match definition {
                    Some(_) => tx.touch_config(id, key, version, *now).await?,
                    None => tx.delete_config(id, key, version, *now).await?,
                }
            }
            let is_there = |key: &FlagKey| !redefined.contains(&(key, None));
            let flags: Vec<&StoredFlag> = environment
                .flags
                .iter()
                .filter(|(key, pair)| pair.is_changed() && is_there(key))
                .map(|(_, pair)| &pair.now)
                .collect();
            tx.put_flags(id, &flags, version, *now).await?;
            let segments: Vec<Segment> = environment.changed_segments().cloned().collect();
            tx.put_segments(id, &segments, version, *now).await?;
            n_written += 1;
        }
        Ok(n_written)
    }

    /// The transaction, in which everything is locked.
    pub(in crate::control) fn tx(&mut self) -> &mut Tx {
        &mut self.tx
    }

    /// The transaction, with what was written in it.
    pub(in crate::control) fn into_tx(self) -> (Tx, Timestamp, Vec<Written>) {
        let redefined = self.definitions.iter().filter(|(_, pair)| pair.is_changed());
        let redefined: Vec<&FlagKey> = redefined.map(|(key, _)| key).collect();
        let mut written = Vec::new();
        for environment in self.environments.iter().filter(|each| each.version > 0) {
            let changed = environment.flags.iter().filter(|(_, pair)| pair.is_changed());
            let mut flags: Vec<FlagKey> = changed.map(|(key, _)| key.clone()).collect();
            flags.extend(redefined.iter().map(|key| (*key).clone()));
            flags.sort();
            flags.dedup();
            let segments = environment.changed_segments().map(|each| each.key.clone());
            written.push(Written {
                id: environment.id,
                env: environment.key.clone(),
                version: environment.version,
                flags,
                segments: segments.collect(),
            });
        }
        (self.tx, self.now, written)
    }
}

impl Locked {
    fn is_changed(&self) -> bool {
        let has_flag = self.flags.values().any(super::Pair::is_changed);
        has_flag || self.changed_segments().next().is_some()
    }

    fn changed_segments(&self) -> impl Iterator<Item = &Segment> {
        let all = self.segments.iter().flat_map(|segments| segments.values());
        all.filter(|pair| pair.is_changed()).map(|pair| &pair.now.segment)
    }
}
