//! Secret URLs by which alert managers kill or restore one flag.

use crate::auth::NewSecret;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Provenance;
use crate::control::Selection;
use crate::control::Served;
use crate::control::read::find_environment;
use crate::model::change::Actor;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::limit::TRIGGERS_MAX;
use crate::model::token::Digest;
use crate::model::trigger::Alert;
use crate::model::trigger::TriggerAction;
use crate::model::trigger::actor_name;
use crate::store::TriggerRecord;
use crate::store::within_timeout;

/// A trigger that is to be made.
#[derive(Debug)]
pub struct TriggerRequest {
    /// For people.
    pub name: String,
    /// What it does.
    pub action: TriggerAction,
    /// Whether it undoes its own kill when the alert is over.
    pub restores_when_resolved: bool,
}

/// What a trigger did when it was called.
#[derive(Debug)]
pub struct Fired {
    /// The trigger.
    pub trigger: TriggerRecord,
    /// What it did; `None` if everything was so already, or there was nothing to do.
    pub done: Option<TriggerAction>,
}

impl Control {
    /// Returns the triggers of a flag in an environment, oldest first.
    ///
    /// # Errors
    ///
    /// There is no such environment or flag.
    pub async fn triggers(
        &self,
        project: &ProjectKey,
        env: &EnvKey,
        flag: &FlagKey,
    ) -> Result<Vec<TriggerRecord>, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            if tx.flag(project, environment.id, flag).await?.is_none() {
                return Err(ControlError::not_found("flag", flag));
            }
            Ok(tx.triggers(environment.id, flag).await?)
        })
        .await
    }

    /// Makes a trigger, of which only the secret's digest is kept.
    ///
    /// # Errors
    ///
    /// There is no such environment or flag; `too_many`.
    pub async fn create_trigger(
        &self,
        author: &Author,
        (project, env_key, key): (&ProjectKey, &EnvKey, &FlagKey),
        request: TriggerRequest,
        secret: &NewSecret,
    ) -> Result<TriggerRecord, ControlError> {
        within_timeout(async {
            // The version that is counted up by the lock goes nowhere: nothing that is served changes.
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let environment = find_environment(&mut tx, project, env_key).await?;
            if !tx.lock_environment(environment.id).await? {
                return Err(ControlError::not_found("environment", env_key));
            }
            if tx.flag(project, environment.id, key).await?.is_none() {
                return Err(ControlError::not_found("flag", key));
            }
            if tx.triggers(environment.id, key).await?.len() >= TRIGGERS_MAX {
                let detail = format!(
                    "a flag can have at most {TRIGGERS_MAX} triggers in an environment; revoke one"
                );
                return Err(ControlError::too_many(detail));
            }
            let record = TriggerRecord {
                id: self.ids.next(),
                project: project.clone(),
                env: env_key.clone(),
                flag: key.clone(),
                action: request.action,
                restores_when_resolved: request.restores_when_resolved,
                name: request.name,
                hint: secret.hint.clone(),
                created_at: now,
                created_by: author.actor.name.clone(),
            };
            tx.insert_trigger(environment.id, &record, &secret.digest).await?;
            let deed = Deed {
                action: "trigger.create",
                subject: key.as_str(),
                project: Some(project),
                env: Some(env_key),
                version: None,
                instructions: None,
                changes: vec![format!("made the trigger `{}` ({})", record.name, record.id)],
            };
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Environments(Vec::new())).await?;
            Ok(record)
        })
        .await
    }

    /// Revokes a trigger.
    ///
    /// # Errors
    ///
    /// There is no such environment or trigger.
    pub async fn revoke_trigger(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        key: &FlagKey,
        id: &str,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let environment = find_environment(&mut tx, project, env_key).await?;
            if !tx.lock_environment(environment.id).await? {
                return Err(ControlError::not_found("environment", env_key));
            }
            if !tx.revoke_trigger(environment.id, key, id, now).await? {
                return Err(ControlError::not_found("trigger", id));
            }
            let deed = Deed {
                action: "trigger.revoke",
                subject: key.as_str(),
                project: Some(project),
                env: Some(env_key),
                version: None,
                instructions: None,
                changes: vec![format!("revoked the trigger {id}")],
            };
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Environments(Vec::new())).await
        })
        .await
    }

    /// Does what the trigger with this secret is for.
    ///
    /// What people have killed is not undone because an alert is over, and nothing is turned on while one fires.
    ///
    /// # Errors
    ///
    /// There is no such trigger, or no such flag any more.
    pub async fn fire_trigger(
        &self,
        digest: &Digest,
        alert: Alert,
        (request_id, provenance): (String, Provenance),
    ) -> Result<Fired, ControlError> {
        within_timeout(async {
            let missing = || ControlError::not_found("trigger", "…");
            let trigger = self.store.read().await?.trigger(digest).await?.ok_or_else(missing)?;
            let TriggerRecord { project, env, flag, .. } = &trigger;
            let selection = Selection::one(flag);
            let mut scene = self.load(project, env, &selection).await?;
            // Under the lock nobody revokes it any more.
            if scene.tx.trigger(digest).await?.is_none() {
                return Err(missing());
            }
            let name = actor_name(&trigger.name, &trigger.id);
            let found = scene.find(flag)?;
            let kill = found.killed.as_ref().filter(|_| !found.config.on);
            let done = to_do(&trigger, alert, kill.map(|kill| kill.by == name));
            let actor = Actor { id: trigger.id.clone(), name, holder: None };
            let comment = Some(format!("called by the trigger `{}`", trigger.name));
            let author = Author { actor, request_id, comment, provenance };
            match done {
                Some(TriggerAction::Kill) => {
                    self.kill_in(scene, &author, &selection).await?;
                }
                Some(TriggerAction::Restore) => {
                    self.restore_in(scene, &author, &selection, Vec::new()).await?;
                }
                None => {}
            }
            Ok(Fired { trigger, done })
        })
        .await
    }
}

/// What a trigger does when it is called; `is_own` says whether the flag is killed, and if so, whether by this trigger.
fn to_do(trigger: &TriggerRecord, alert: Alert, is_own: Option<bool>) -> Option<TriggerAction> {
    match (trigger.action, alert) {
        (TriggerAction::Kill, Alert::Firing | Alert::Unknown) => {
            is_own.is_none().then_some(TriggerAction::Kill)
        }
        (TriggerAction::Kill, Alert::Resolved) => {
            let is_meant = trigger.restores_when_resolved && is_own == Some(true);
            is_meant.then_some(TriggerAction::Restore)
        }
        (TriggerAction::Restore, Alert::Resolved | Alert::Unknown) => {
            is_own.is_some().then_some(TriggerAction::Restore)
        }
        (TriggerAction::Restore, Alert::Firing) => None,
    }
}
