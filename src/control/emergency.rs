//! Emergencies: killing a flag and undoing exactly that.

use crate::change::differences;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::flag_config::Locked;
use crate::control::rehearsal::dependants_of_flags;
use crate::model::change::Kill;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::rule::FlagConfig;
use crate::model::trigger::is_actor_name;
use crate::store::KillRecord;
use crate::store::within_timeout;
use std::collections::BTreeSet;

/// A flag that is killed.
#[derive(Debug)]
pub struct Killed {
    /// How it was, when it was killed and by whom; of the first kill, if it was killed already.
    pub kill: Kill,
    /// The environment's version.
    pub version: i64,
}

/// A flag that is no longer killed.
#[derive(Debug)]
pub struct Restored {
    /// Whether it is on now, as before the kill.
    pub is_on: bool,
    /// The environment's version.
    pub version: i64,
}

impl Control {
    /// Kills a flag: it serves its off variation to everyone, and remembers how it was.
    ///
    /// Killing a killed flag changes nothing and succeeds, but a person takes over a trigger's kill, which is then not undone
    /// because the alert is over.
    ///
    /// # Errors
    ///
    /// There is no such flag.
    pub async fn kill_flag(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        key: &FlagKey,
    ) -> Result<Killed, ControlError> {
        within_timeout(async {
            let locked = self.lock_flag(project, env_key, key).await?;
            self.kill_locked(author, (project, env_key), locked).await
        })
        .await
    }

    /// Kills a flag of an environment that is locked.
    pub(super) async fn kill_locked(
        &self,
        author: &Author,
        (project, env_key): (&ProjectKey, &EnvKey),
        locked: Locked,
    ) -> Result<Killed, ControlError> {
        let Locked { mut tx, env, version, mut flag, now } = locked;
        let key = flag.definition.key.clone();
        let by = author.actor.name.clone();
        let (was_on, change) = match flag.killed.take_if(|_| !flag.config.on) {
            Some(kill) if !takes_over(&by, &kill) => {
                return Ok(Killed { kill, version: version - 1 });
            }
            Some(kill) => (kill.was_on, format!("took over the kill of the {}", kill.by)),
            None => (flag.config.on, "killed the flag".to_owned()),
        };
        if let Some(rehearsal) = &author.provenance.rehearsal {
            let keys = BTreeSet::from([key.clone()]);
            let dependants = dependants_of_flags(&mut tx, (env, env_key), &keys).await?;
            let after = FlagConfig { on: false, ..flag.config.clone() };
            rehearsal.tell(differences(&flag.definition, &flag.config, &after), dependants);
        }
        let kill = Kill { id: self.ids.next(), at: now, by, version, was_on };
        let (id, flags) = (kill.id.clone(), vec![key.clone()]);
        let record = KillRecord { id, version, flags, tags: Vec::new(), at: now };
        tx.insert_kill(env, &record).await?;
        flag.config.on = false;
        flag.killed = Some(kill.clone());
        flag.version = version;
        flag.changed_at = now;
        let deed = Deed {
            action: "flag.kill",
            subject: key.as_str(),
            project: Some(project),
            env: Some(env_key),
            version: Some(version),
            instructions: Some(r#"[{"kind":"turnFlagOff"}]"#.to_owned()),
            changes: vec![change],
        };
        self.put(tx, author, env, &flag, deed).await?;
        Ok(Killed { kill, version })
    }

    /// Undoes a kill: the flag is on or off as before. What was changed since the kill stays.
    ///
    /// # Errors
    ///
    /// There is no such flag; `not_killed` if there is no kill to undo.
    pub async fn restore_flag(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        key: &FlagKey,
    ) -> Result<Restored, ControlError> {
        within_timeout(async {
            let locked = self.lock_flag(project, env_key, key).await?;
            self.restore_locked(author, (project, env_key), locked).await
        })
        .await
    }

    /// Undoes the kill of a flag of an environment that is locked.
    pub(super) async fn restore_locked(
        &self,
        author: &Author,
        (project, env_key): (&ProjectKey, &EnvKey),
        locked: Locked,
    ) -> Result<Restored, ControlError> {
        let Locked { mut tx, env, version, mut flag, now } = locked;
        let key = flag.definition.key.clone();
        let Some(kill) = flag.killed.take() else {
            let detail = format!("`{key}` is not killed, so there is nothing to restore");
            return Err(ControlError::conflict("not_killed", detail));
        };
        if let Some(rehearsal) = &author.provenance.rehearsal {
            let keys = BTreeSet::from([key.clone()]);
            let dependants = dependants_of_flags(&mut tx, (env, env_key), &keys).await?;
            let after = FlagConfig { on: kill.was_on, ..flag.config.clone() };
            rehearsal.tell(differences(&flag.definition, &flag.config, &after), dependants);
        }
        flag.config.on = kill.was_on;
        flag.version = version;
        flag.changed_at = now;
        let state = if kill.was_on { "on" } else { "off" };
        let deed = Deed {
            action: "flag.restore",
            subject: key.as_str(),
            project: Some(project),
            env: Some(env_key),
            version: Some(version),
            instructions: kill.was_on.then(|| r#"[{"kind":"turnFlagOn"}]"#.to_owned()),
            changes: vec![format!("restored the flag: it is {state}, as before the kill")],
        };
        self.put(tx, author, env, &flag, deed).await?;
        Ok(Restored { is_on: kill.was_on, version })
    }
}

/// Whether somebody who kills a killed flag is from then on the one who has killed it.
pub(super) fn takes_over(by: &str, kill: &Kill) -> bool {
    is_actor_name(&kill.by) && !is_actor_name(by)
}
