//! Earlier versions of a flag in an environment, and going back to one.

use crate::change::Applied;
use crate::change::Renumbering;
use crate::change::Scene;
use crate::change::asks_for;
use crate::change::differences;
use crate::change::revert;
use crate::change::segments_of;
use crate::change::warnings;
use crate::control::Author;
use crate::control::ConfigChanged;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Dependency;
use crate::control::PartChanged;
use crate::control::flag_config::Locked;
use crate::control::read::find_environment;
use crate::control::rehearsal::dependants_of_flags;
use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::rule::FlagConfig;
use crate::store::Damaged;
use crate::store::FlagVersion;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::within_timeout;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Going back to an earlier version of a flag.
#[derive(Debug, Clone, Copy)]
pub struct RevertRequest {
    /// The environment's version that made what is wanted back.
    pub version: i64,
    /// Refuse if the flag is not at this version.
    pub if_version: Option<i64>,
}

impl Control {
    /// Returns the versions of a flag in an environment, newest first; those before `before`, unless that is 0.
    ///
    /// # Errors
    ///
    /// There is no such flag.
    pub async fn flag_history(
        &self,
        (project, env): (&ProjectKey, &EnvKey),
        key: &FlagKey,
        before: i64,
        limit: i64,
    ) -> Result<Vec<FlagVersion>, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            if tx.flag(project, environment.id, key).await?.is_none() {
                return Err(ControlError::not_found("flag", key));
            }
            Ok(tx.flag_versions(environment.id, key, before, limit).await?)
        })
        .await
    }

    /// Gives a flag the configuration back that it had at an earlier version, as a new change.
    ///
    /// # Errors
    ///
    /// There is no such flag or version; what it refers to is gone; the flag is not at the version that was asked for.
    pub async fn revert_flag(
        &self,
        author: &Author,
        (project, env_key): (&ProjectKey, &EnvKey),
        key: &FlagKey,
        request: RevertRequest,
    ) -> Result<ConfigChanged, ControlError> {
        within_timeout(async {
            let mut locked = self.lock_flag(project, env_key, key).await?;
            let current = locked.flag.version;
            ControlError::check_version(("flag", key), current, request.if_version)?;
            let earlier = locked.tx.config_at(locked.env, key, request.version).await?;
            let Some(earlier) = earlier else {
                let what = format!("{key} at version {}", request.version);
                return Err(ControlError::not_found("version", &what));
            };
            let applied = revert_in(&mut locked, project, earlier).await?;
            let mut done = PartChanged { moved: applied.moved, ..PartChanged::default() };
            (done.changes, done.rules_moved) = (applied.changes, applied.rules_moved);
            done.warnings = warnings(&applied.config);
            if author.is_rehearsing() {
                tell(&mut locked, env_key, &applied.config, &mut done).await?;
            }
            let Locked { tx, env, version, mut flag, now } = locked;
            if applied.config == flag.config {
                return Ok(ConfigChanged { flag, version: version - 1, done });
            }
            // A version that is on ends a kill, as turning the flag on does.
            if flag.killed.is_some() && applied.config.on {
                flag.killed = None;
                done.changes.push("ended the kill: there is nothing to restore".to_owned());
            }
            flag.config = applied.config;
            done.changes.insert(0, format!("went back to version {}", request.version));
            if author.is_rehearsing() {
                return Ok(ConfigChanged { flag, version, done });
            }
            flag.version = version;
            flag.changed_at = now;
            let instruction = json!([{"kind": "revertToVersion", "version": request.version}]);
            let deed = Deed {
                action: "flag.revert",
                subject: key.as_str(),
                project: Some(project),
                env: Some(env_key),
                version: Some(version),
                instructions: Some(instruction.to_string()),
                changes: done.changes.clone(),
            };
            self.put(tx, author, env, &flag, deed).await?;
            Ok(ConfigChanged { flag, version, done })
        })
        .await
    }
}

/// Tells of a dry run what differs, what depends on the flag, and what it depends on then.
async fn tell(
    locked: &mut Locked,
    env_key: &EnvKey,
    earlier: &FlagConfig,
    done: &mut PartChanged,
) -> Result<(), ControlError> {
    let Locked { tx, env, flag, .. } = locked;
    done.differences = differences(&flag.definition, &flag.config, earlier);
    let (flags, segments) = asks_for(earlier);
    let flags = flags.into_iter().map(|key| Dependency::Flag(env_key.clone(), key));
    let segment = |key| Dependency::Segment(env_key.clone(), key);
    done.depends_on = flags.chain(segments.into_iter().map(segment)).collect();
    let keys = BTreeSet::from([flag.definition.key.clone()]);
    done.dependants = dependants_of_flags(tx, (*env, env_key), &keys).await?;
    Ok(())
}

/// Loads what an earlier configuration refers to, and goes back to it.
async fn revert_in(
    locked: &mut Locked,
    project: &ProjectKey,
    earlier: FlagConfig,
) -> Result<Applied, ControlError> {
    let Locked { tx, env, flag, .. } = locked;
    let mut flags = BTreeMap::new();
    for prerequisite in &earlier.prerequisites {
        if let Some((definition, false)) = tx.definition(project, &prerequisite.key).await? {
            flags.insert(prerequisite.key.clone(), definition);
        }
    }
    let prerequisites = if flags.is_empty() {
        BTreeMap::new()
    } else {
        tx.prerequisites(*env, Damaged::Refused).await?
    };
    let mut segments = BTreeSet::new();
    let asked = earlier.rules.iter().flat_map(|rule| &rule.clauses);
    let asked: Vec<SegmentKey> = segments_of(asked).collect();
    for key in asked {
        if tx.segment(*env, &key).await?.is_some() {
            segments.insert(key);
        }
    }
    let server_sdk = tx.server_sdk(*env).await?;
    let scene = Scene {
        definition: &flag.definition,
        config: &flag.config,
        flags: &flags,
        prerequisites: &prerequisites,
        segments: &segments,
        server_sdk,
    };
    Ok(revert(&scene, earlier)?)
}

/// Renumbers the variations of a flag in all that is kept of earlier versions, its own and those of flags that had it as a
/// prerequisite; what served or asked for a variation that was removed is forgotten, because nobody could go back to it.
pub(super) async fn renumber_versions(
    tx: &mut Tx,
    env: EnvId,
    key: &FlagKey,
    renumbering: &Renumbering,
) -> Result<(), StoreError> {
    let mut renumbered = Vec::new();
    for mut earlier in tx.earlier_configs(env, key).await? {
        let is_kept = match earlier.flag == *key {
            true => renumbering.apply_to_earlier(&mut earlier.config),
            false => renumbering.apply_to_earlier_dependant(key, &mut earlier.config),
        };
        if is_kept {
            renumbered.push(earlier);
        } else {
            tx.forget_flag_version(env, &earlier.flag, earlier.version).await?;
        }
    }
    tx.put_earlier(env, &renumbered).await
}
