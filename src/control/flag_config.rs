//! Configurations of flags: the change language at work, in one environment.

use crate::change::Instruction;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::control::change_set::ChangeSet;
use crate::control::change_set::Part;
use crate::control::change_set::PartChanged;
use crate::model::change::EnvId;
use crate::model::change::Kill;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::rule::FlagConfig;
use crate::store::StoredFlag;
use crate::store::Tx;
use jiff::Timestamp;

/// A change that is asked for.
#[derive(Debug)]
pub struct ConfigChange {
    /// What is to be done, in order.
    pub instructions: Vec<Instruction>,
    /// The same as it was sent, as JSON, for the audit log.
    pub raw: String,
    /// Refuse if the flag is not at this version.
    pub if_version: Option<i64>,
}

/// A change that was made, or would be.
#[derive(Debug)]
pub struct ConfigChanged {
    /// The flag after it.
    pub flag: StoredFlag,
    /// The environment's version after it.
    pub version: i64,
    /// What was done, and what that means.
    pub done: PartChanged,
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
        let ConfigChange { instructions, raw, if_version } = change;
        let (env, flag) = (env_key.clone(), key.clone());
        let part = Part::Config { env, flag, if_version, instructions };
        let set = ChangeSet { parts: vec![part], raw, claimed: None };
        let (mut done, versions) = self.change_one(author, project, set).await?;
        let flag = done.flag.take().ok_or_else(|| ControlError::not_found("flag", key))?;
        let version = versions.first().map_or(flag.version, |(_, version)| *version);
        Ok(ConfigChanged { flag, version, done })
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
        self.finish(author, tx, Served::Environments(vec![(env, *version)])).await
    }
}
