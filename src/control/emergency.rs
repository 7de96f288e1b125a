//! Emergencies: killing a flag and undoing exactly that.

use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::flag_config::Locked;
use crate::model::change::Kill;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::KillRecord;
use crate::store::within_timeout;

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
    /// Killing a killed flag changes nothing and succeeds.
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
            let Locked { mut tx, env, version, mut flag, now } = locked;
            if let Some(kill) = flag.killed.filter(|_| !flag.config.on) {
                return Ok(Killed { kill, version: version - 1 });
            }
            let by = author.actor.name.clone();
            let kill = Kill { id: self.ids.next(), at: now, by, version, was_on: flag.config.on };
            let flags = vec![key.clone()];
            let id = kill.id.clone();
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
                changes: vec!["killed the flag".to_owned()],
            };
            self.put(tx, author, env, &flag, deed).await?;
            Ok(Killed { kill, version })
        })
        .await
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
            let Locked { tx, env, version, mut flag, now } = locked;
            let Some(kill) = flag.killed.take() else {
                let detail = format!("`{key}` is not killed, so there is nothing to restore");
                return Err(ControlError::conflict("not_killed", detail));
            };
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
        })
        .await
    }
}
