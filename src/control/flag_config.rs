//! Configurations of flags: the change language at work, in one environment.

use crate::change::Instruction;
use crate::change::Moved;
use crate::change::Scene;
use crate::change::apply;
use crate::change::references;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::model::change::EnvId;
use crate::model::change::Kill;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::rule::FlagConfig;
use crate::store::StoredFlag;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// A change that is asked for.
#[derive(Debug)]
pub struct ConfigChange {
    /// What is to be done, in order.
    pub instructions: Vec<Instruction>,
    /// The same as it was sent, as JSON, for the audit log.
    pub raw: String,
    /// Refuse if the flag is not at this version.
    pub if_version: Option<i64>,
    /// Only say what would happen.
    pub is_dry_run: bool,
}

/// A change that was made, or would be.
#[derive(Debug)]
pub struct ConfigChanged {
    /// The flag after it.
    pub flag: StoredFlag,
    /// The environment's version after it.
    pub version: i64,
    /// What was done, in words; empty if everything was so already.
    pub changes: Vec<String>,
    /// How many contexts get another variation, if a percentage was changed.
    pub moved: Option<Moved>,
}

/// A flag of a locked environment.
pub(super) struct Locked {
    pub(super) tx: Tx,
    pub(super) env: EnvId,
    pub(super) version: i64,
    pub(super) flag: StoredFlag,
    pub(super) now: Timestamp,
}

impl Control {
    /// Changes a flag in one environment.
    ///
    /// If everything is so already, nothing is written and the version stays.
    ///
    /// # Errors
    ///
    /// There is no such flag; an instruction is wrong; the flag is not at the version that was asked for.
    pub async fn change_config(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        key: &FlagKey,
        change: ConfigChange,
    ) -> Result<ConfigChanged, ControlError> {
        within_timeout(async {
            let mut locked = self.lock_flag(project, env_key, key).await?;
            let current = locked.flag.version;
            if change.if_version.is_some_and(|version| version != current) {
                return Err(ControlError::Outdated { current });
            }
            let applied = self.apply_to(&mut locked, project, &change.instructions).await?;
            let Locked { tx, env, version, mut flag, now } = locked;
            let (mut changes, moved) = (applied.changes, applied.moved);
            // Whoever turns a killed flag on, or off for good, ends the kill: there is nothing left to restore.
            let is_turned_off = change.instructions.contains(&Instruction::TurnFlagOff);
            let ends_kill = flag.killed.is_some() && (applied.config.on || is_turned_off);
            if applied.config == flag.config && !ends_kill {
                return Ok(ConfigChanged { flag, version: version - 1, changes, moved });
            }
            if ends_kill {
                flag.killed = None;
                changes.push("ended the kill: there is nothing to restore".to_owned());
            }
            flag.config = applied.config;
            if change.is_dry_run {
                // The flag's own version stays: it would be wrong in an `If-Match`.
                return Ok(ConfigChanged { flag, version, changes, moved });
            }
            flag.version = version;
            flag.changed_at = now;
            let deed = Deed {
                action: "flag.change",
                subject: key.as_str(),
                project: Some(project),
                env: Some(env_key),
                version: Some(version),
                instructions: Some(change.raw),
                changes: changes.clone(),
            };
            self.put(tx, author, env, &flag, deed).await?;
            Ok(ConfigChanged { flag, version, changes, moved })
        })
        .await
    }

    /// Locks an environment and reads one of its flags.
    pub(super) async fn lock_flag(
        &self,
        project: &ProjectKey,
        env_key: &EnvKey,
        key: &FlagKey,
    ) -> Result<Locked, ControlError> {
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        let Some((env, version)) = tx.bump_environment(project, env_key, now).await? else {
            return Err(ControlError::not_found("environment", env_key));
        };
        let Some(flag) = tx.flag(project, env, key).await? else {
            return Err(ControlError::not_found("flag", key));
        };
        Ok(Locked { tx, env, version, flag, now })
    }

    /// Loads what instructions refer to and applies them.
    async fn apply_to(
        &self,
        locked: &mut Locked,
        project: &ProjectKey,
        instructions: &[Instruction],
    ) -> Result<crate::change::Applied, ControlError> {
        let Locked { tx, env, flag, .. } = locked;
        let wanted = references(instructions);
        let mut flags = BTreeMap::new();
        for key in &wanted.flags {
            if let Some((definition, false)) = tx.definition(project, key).await? {
                flags.insert(key.clone(), definition);
            }
        }
        let prerequisites =
            if wanted.flags.is_empty() { BTreeMap::new() } else { tx.prerequisites(*env).await? };
        let mut segments = BTreeSet::new();
        for key in wanted.segments {
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
        Ok(apply(&scene, instructions, &mut || self.ids.next())?)
    }

    /// Writes a flag's configuration with everything that belongs to a change, and finishes.
    pub(super) async fn put(
        &self,
        mut tx: Tx,
        author: &Author,
        env: EnvId,
        flag: &StoredFlag,
        deed: Deed<'_>,
    ) -> Result<(), ControlError> {
        let StoredFlag { definition, config, killed, version, changed_at, .. } = flag;
        let key = &definition.key;
        let killed: Option<&Kill> = killed.as_ref();
        let config: &FlagConfig = config;
        tx.put_config(env, key, config, killed, *version, *changed_at).await?;
        let audit_id = self.record(&mut tx, author, deed, *changed_at).await?;
        tx.log_change(env, *version, &[key.as_str()], &[], &audit_id, *changed_at).await?;
        self.finish(tx, Served::Environments(vec![(env, *version)])).await
    }
}
