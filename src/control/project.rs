//! Projects and environments.

use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::control::read::find_environment;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::limit::ENVIRONMENTS_MAX;
use crate::model::rule::FlagConfig;
use crate::store::EnvironmentRecord;
use crate::store::ProjectRecord;
use crate::store::within_timeout;
use std::time::Duration;

impl Control {
    /// Creates a project, without environments and flags.
    ///
    /// # Errors
    ///
    /// `key_taken` if there is one with this key.
    pub async fn create_project(
        &self,
        author: &Author,
        key: &ProjectKey,
        name: &str,
    ) -> Result<ProjectRecord, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            if !tx.insert_project(key, name, now).await? {
                let detail = format!("there is a project `{key}` already");
                return Err(ControlError::conflict("key_taken", detail));
            }
            let deed = project_deed("project.create", key, format!("created the project `{key}`"));
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Directory(version)).await?;
            Ok(ProjectRecord { key: key.clone(), name: name.to_owned(), created_at: now })
        })
        .await
    }

    /// Renames a project.
    ///
    /// # Errors
    ///
    /// There is none with this key.
    pub async fn rename_project(
        &self,
        author: &Author,
        key: &ProjectKey,
        name: &str,
    ) -> Result<ProjectRecord, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            if !tx.rename_project(key, name).await? {
                return Err(ControlError::not_found("project", key));
            }
            let deed = project_deed("project.rename", key, format!("renamed it to `{name}`"));
            self.record(&mut tx, author, deed, now).await?;
            let found = tx.projects().await?.into_iter().find(|project| project.key == *key);
            self.finish(author, tx, Served::Directory(version)).await?;
            found.ok_or_else(|| ControlError::not_found("project", key))
        })
        .await
    }

    /// Deletes a project with everything in it; the tokens of its environments stop working.
    ///
    /// # Errors
    ///
    /// There is none with this key.
    pub async fn delete_project(
        &self,
        author: &Author,
        key: &ProjectKey,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            if !tx.delete_project(key).await? {
                return Err(ControlError::not_found("project", key));
            }
            let deed = project_deed("project.delete", key, format!("deleted the project `{key}`"));
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Directory(version)).await
        })
        .await
    }

    /// Creates an environment, in which every flag of the project starts off.
    ///
    /// # Errors
    ///
    /// There is no such project; `key_taken` if it has such an environment; `too_many`.
    pub async fn create_environment(
        &self,
        author: &Author,
        project: &ProjectKey,
        key: &EnvKey,
        name: &str,
        server_sdk: ServerSdk,
    ) -> Result<EnvironmentRecord, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let directory_version = tx.bump_directory().await?;
            if !tx.lock_project(project).await? {
                return Err(ControlError::not_found("project", project));
            }
            let n_environments = tx.environments().await?;
            let n_environments = n_environments.iter().filter(|each| each.project == *project);
            if i64::try_from(n_environments.count()).is_ok_and(|n| n >= ENVIRONMENTS_MAX) {
                let detail = format!("a project can have at most {ENVIRONMENTS_MAX} environments");
                return Err(ControlError::too_many(detail));
            }
            let Some(env) = tx.insert_environment(project, key, name, server_sdk, now).await?
            else {
                let detail = format!("the project `{project}` has an environment `{key}` already");
                return Err(ControlError::conflict("key_taken", detail));
            };
            for definition in tx.definitions(project).await? {
                let config = FlagConfig::initial(&definition, initial_salt(project, key));
                tx.put_config(env, &definition.key, &config, None, FIRST_VERSION, now).await?;
            }
            tx.bump_environment(project, key, now).await?;
            let changes = vec![format!("created the environment `{key}`")];
            let deed = environment_deed("environment.create", project, key, changes);
            let audit_id = self.record(&mut tx, author, deed, now).await?;
            tx.log_change(env, FIRST_VERSION, &[], &[], &audit_id, now).await?;
            let created = find_environment(&mut tx, project, key).await?;
            self.finish(author, tx, Served::Directory(directory_version)).await?;
            Ok(created)
        })
        .await
    }

    /// Renames an environment, or sets how long evaluations go on in it without confirmation.
    ///
    /// # Errors
    ///
    /// There is none with these keys.
    pub async fn update_environment(
        &self,
        author: &Author,
        project: &ProjectKey,
        key: &EnvKey,
        change: EnvironmentChange,
    ) -> Result<EnvironmentRecord, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            let record = find_environment(&mut tx, project, key).await?;
            let mut changes = Vec::new();
            let name = change.name.unwrap_or_else(|| record.name.clone());
            if name != record.name {
                changes.push(format!("renamed it to `{name}`"));
            }
            let fail_closed_after = change.fail_closed_after.unwrap_or(record.fail_closed_after);
            if fail_closed_after != record.fail_closed_after {
                changes.push(match fail_closed_after {
                    None => "evaluations go on for ever without confirmation".to_owned(),
                    Some(after) => {
                        let secs = after.as_secs();
                        format!("evaluations end after {secs} s without confirmation")
                    }
                });
            }
            let safety = change.safety.apply(record.safety, &mut changes);
            if changes.is_empty() {
                return Ok(record);
            }
            tx.update_environment(record.id, &name, fail_closed_after, safety).await?;
            let deed = environment_deed("environment.update", project, key, changes);
            self.record(&mut tx, author, deed, now).await?;
            let changed = find_environment(&mut tx, project, key).await?;
            self.finish(author, tx, Served::Directory(version)).await?;
            Ok(changed)
        })
        .await
    }

    /// Deletes an environment with everything in it; its tokens stop working.
    ///
    /// # Errors
    ///
    /// There is none with these keys.
    pub async fn delete_environment(
        &self,
        author: &Author,
        project: &ProjectKey,
        key: &EnvKey,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            if !tx.delete_environment(project, key).await? {
                return Err(ControlError::not_found("environment", key));
            }
            let changes = vec![format!("deleted the environment `{key}`")];
            let deed = environment_deed("environment.delete", project, key, changes);
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Directory(version)).await
        })
        .await
    }
}

/// What is to be changed about an environment.
#[derive(Debug, Default)]
pub struct EnvironmentChange {
    /// For people.
    pub name: Option<String>,
    /// How long evaluations go on without confirmation; `Some(None)` is for ever.
    pub fail_closed_after: Option<Option<Duration>>,
    /// What keeps it from being changed by mistake.
    pub safety: SafetyChange,
}

/// What is to be changed about what keeps an environment from being changed by mistake.
#[derive(Debug, Default, Clone, Copy)]
pub struct SafetyChange {
    /// Whether only some roles may change it.
    pub protected: Option<bool>,
    /// Whether every change says why.
    pub require_comment: Option<bool>,
    /// Whether every change of a flag says from which version.
    pub require_if_match: Option<bool>,
    /// Whether browsers send only contexts that a backend has signed.
    pub secure_mode: Option<bool>,
}

impl SafetyChange {
    /// Returns what comes out, and adds what changes in words.
    fn apply(self, old: Safety, changes: &mut Vec<String>) -> Safety {
        let mut decide = |old: bool, new: Option<bool>, on: &str, off: &str| {
            let new = new.unwrap_or(old);
            if new != old {
                changes.push(if new { on } else { off }.to_owned());
            }
            new
        };
        Safety {
            protected: decide(
                old.protected,
                self.protected,
                "protected it",
                "ended its protection",
            ),
            require_comment: decide(
                old.require_comment,
                self.require_comment,
                "every change needs a comment",
                "changes need no comment",
            ),
            require_if_match: decide(
                old.require_if_match,
                self.require_if_match,
                "every change of a flag needs `If-Match`",
                "changes of flags need no `If-Match`",
            ),
            secure_mode: decide(
                old.secure_mode,
                self.secure_mode,
                "browsers must send signed contexts",
                "browsers may send any context",
            ),
        }
    }
}

/// The version of an environment that has just been created.
const FIRST_VERSION: i64 = 1;

/// Returns the salt of what is new in an environment: different in each, but the same in every installation, so that a
/// rollout divides users alike wherever the same project and environment are set up.
pub fn initial_salt(project: &ProjectKey, env: &EnvKey) -> String {
    format!("{project}.{env}")
}

fn project_deed<'a>(action: &'static str, key: &'a ProjectKey, change: String) -> Deed<'a> {
    Deed {
        action,
        subject: key.as_str(),
        project: Some(key),
        env: None,
        version: None,
        instructions: None,
        changes: vec![change],
    }
}

fn environment_deed<'a>(
    action: &'static str,
    project: &'a ProjectKey,
    key: &'a EnvKey,
    changes: Vec<String>,
) -> Deed<'a> {
    Deed {
        action,
        subject: key.as_str(),
        project: Some(project),
        env: Some(key),
        version: None,
        instructions: None,
        changes,
    }
}
