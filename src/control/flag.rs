//! Definitions of flags: what is the same in every environment.

use crate::change::DefinitionInstruction;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::control::change_set::ChangeSet;
use crate::control::change_set::Part;
use crate::control::change_set::PartChanged;
use crate::control::project::initial_salt;
use crate::model::change::EnvId;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::limit::FLAGS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;

/// A change of a definition that is asked for.
#[derive(Debug)]
pub struct DefinitionChange {
    /// What is to be done, in order.
    pub instructions: Vec<DefinitionInstruction>,
    /// The same as it was sent, as JSON, for the audit log.
    pub raw: String,
    /// Refuse if the definition does not have this tag.
    pub if_tag: Option<String>,
}

/// An environment that a change of a definition touches, locked, with its new version.
struct Touched {
    id: EnvId,
    key: EnvKey,
    version: i64,
}

impl Control {
    /// Creates a flag; in every environment of the project it starts off.
    ///
    /// # Errors
    ///
    /// There is no such project; `key_taken` if there is or ever was a flag with this key; `too_many`.
    pub async fn create_flag(
        &self,
        author: &Author,
        project: &ProjectKey,
        definition: &FlagDefinition,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let key = &definition.key;
            let mut tx = self.store.write().await?;
            if !tx.lock_project(project).await? {
                return Err(ControlError::not_found("project", project));
            }
            match tx.definition(project, key).await? {
                None => {}
                Some((_, false)) => {
                    let detail = format!("there is a flag `{key}` already");
                    return Err(ControlError::conflict("key_taken", detail));
                }
                Some((_, true)) => {
                    let detail = format!(
                        "there was a flag `{key}`; the key of a deleted flag is never given to another, because old code may still ask for it"
                    );
                    return Err(ControlError::conflict("key_taken", detail));
                }
            }
            if tx.count_definitions(project).await? >= FLAGS_MAX {
                let detail = format!("a project can have at most {FLAGS_MAX} flags");
                return Err(ControlError::too_many(detail));
            }
            tx.insert_definition(project, definition, now).await?;
            let touched = self.lock_environments(&mut tx, project, now).await?;
            for env in &touched {
                let config = FlagConfig::initial(definition, initial_salt(project, &env.key));
                tx.put_config(env.id, key, &config, None, env.version, now).await?;
            }
            let deed = Deed {
                action: "flag.create",
                subject: key.as_str(),
                project: Some(project),
                env: None,
                version: None,
                instructions: None,
                changes: vec![format!("created the flag `{key}`")],
            };
            let audit_id = self.record(&mut tx, author, deed, now).await?;
            for env in &touched {
                tx.log_change(env.id, env.version, &[key.as_str()], &[], &audit_id, now).await?;
            }
            let positions = touched.iter().map(|env| (env.id, env.version)).collect();
            self.finish(author, tx, Served::Environments(positions)).await
        })
        .await
    }

    /// Changes a flag's definition.
    ///
    /// # Errors
    ///
    /// There is no such flag, or an instruction is wrong.
    pub async fn change_definition(
        &self,
        author: &Author,
        project: &ProjectKey,
        key: &FlagKey,
        change: DefinitionChange,
    ) -> Result<(FlagDefinition, PartChanged), ControlError> {
        let DefinitionChange { instructions, raw, if_tag } = change;
        let part = Part::Definition { flag: key.clone(), if_tag, instructions };
        let set = ChangeSet { parts: vec![part], raw, claimed: None };
        let (mut done, _) = self.change_one(author, project, set).await?;
        let definition = done.definition.take();
        let definition = definition.ok_or_else(|| ControlError::not_found("flag", key))?;
        Ok((definition, done))
    }

    /// Deletes a flag everywhere; its key stays taken.
    ///
    /// # Errors
    ///
    /// There is no such flag; `in_use` if it is a prerequisite of another.
    pub async fn delete_flag(
        &self,
        author: &Author,
        project: &ProjectKey,
        key: &FlagKey,
        if_tag: Option<String>,
    ) -> Result<(), ControlError> {
        let instructions = vec![DefinitionInstruction::Delete];
        let raw = r#"[{"kind":"deleteFlag"}]"#.to_owned();
        let change = DefinitionChange { instructions, raw, if_tag };
        match self.change_definition(author, project, key, change).await {
            Err(ControlError::Invalid(problems)) => Err(without_instructions(problems)),
            deleted => {
                let (_, done) = deleted?;
                // Nothing is answered that could tell it.
                if let Some(rehearsal) = &author.provenance.rehearsal {
                    rehearsal.record(&done.changes);
                }
                Ok(())
            }
        }
    }

    /// Locks all environments of a project, in the order of their numbers.
    async fn lock_environments(
        &self,
        tx: &mut Tx,
        project: &ProjectKey,
        now: Timestamp,
    ) -> Result<Vec<Touched>, ControlError> {
        let mut touched = Vec::new();
        for environment in tx.environments().await? {
            if environment.project == *project
                && let Some((id, version)) =
                    tx.bump_environment(project, &environment.key, now).await?
            {
                touched.push(Touched { id, key: environment.key, version });
            }
        }
        Ok(touched)
    }
}

/// What keeps a flag from being deleted, for whoever has sent no instruction that could be named.
fn without_instructions(problems: Problems) -> ControlError {
    match problems.as_slice() {
        [only] if only.code == "in_use" => ControlError::conflict("in_use", only.detail.clone()),
        _ => ControlError::Invalid(problems),
    }
}
