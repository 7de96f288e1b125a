//! Tokens: making, listing and revoking them.

use crate::auth::NewSecret;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::limit::TOKENS_MAX;
use crate::model::token::Grant;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::TokenKind;
use crate::store::NewToken;
use crate::store::TokenRecord;
use crate::store::within_timeout;

/// A token that is asked for.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// For people.
    pub name: String,
    /// What kind of program will hold it.
    pub kind: TokenKind,
    /// What it may administer; only for administration tokens.
    pub role: Option<Role>,
    /// Where.
    pub scope: Scope,
}

impl Control {
    /// Stores a token that `secret` holds; returns what is listed of it.
    ///
    /// # Errors
    ///
    /// There is no such project or environment; `too_many`; `key_taken` if the token is there already.
    pub async fn create_token(
        &self,
        author: &Author,
        request: TokenRequest,
        secret: &NewSecret,
    ) -> Result<TokenRecord, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            let TokenRequest { name, kind, role, scope } = request;
            let env = match &scope {
                Scope::All => None,
                Scope::Project(project) => {
                    if !tx.lock_project(project).await? {
                        return Err(ControlError::not_found("project", project));
                    }
                    None
                }
                Scope::Environment(project, key) => {
                    let mut environments = tx.environments().await?.into_iter();
                    let found =
                        environments.find(|each| each.project == *project && each.key == *key);
                    Some(found.ok_or_else(|| ControlError::not_found("environment", key))?.id)
                }
            };
            if tx.count_tokens().await? >= TOKENS_MAX {
                let detail = format!("there can be at most {TOKENS_MAX} tokens; revoke some");
                return Err(ControlError::too_many(detail));
            }
            let record = TokenRecord {
                digest: secret.digest,
                grant: Grant { id: self.ids.next(), name, kind, role, scope },
                hint: secret.hint.clone(),
                created_at: now,
                created_by: author.actor.name.clone(),
            };
            if !tx.insert_token(&NewToken { record: &record, env }).await? {
                return Err(ControlError::conflict("key_taken", "this token is there already"));
            }
            let (project, env) = scope_keys(&record.grant.scope);
            let deed = Deed {
                action: "token.create",
                subject: &record.grant.id,
                project,
                env,
                version: None,
                instructions: None,
                changes: vec![format!("created the token `{}`", record.grant.name)],
            };
            self.record(&mut tx, author, deed, now).await?;
            self.finish(tx, Served::Directory(version)).await?;
            Ok(record)
        })
        .await
    }

    /// Revokes a token; it stops working, and its streams end.
    ///
    /// # Errors
    ///
    /// There is no such token within `is_within`.
    pub async fn revoke_token(
        &self,
        author: &Author,
        id: &str,
        is_within: impl Fn(&Scope) -> bool,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            let mut tokens = tx.tokens().await?.into_iter().flatten();
            let found = tokens.find(|token| token.grant.id == id && is_within(&token.grant.scope));
            let Some(token) = found else {
                return Err(ControlError::not_found("token", id));
            };
            tx.revoke_token(id, now).await?;
            let (project, env) = scope_keys(&token.grant.scope);
            let deed = Deed {
                action: "token.revoke",
                subject: id,
                project,
                env,
                version: None,
                instructions: None,
                changes: vec![format!("revoked the token `{}`", token.grant.name)],
            };
            self.record(&mut tx, author, deed, now).await?;
            self.finish(tx, Served::Directory(version)).await
        })
        .await
    }
}

fn scope_keys(scope: &Scope) -> (Option<&ProjectKey>, Option<&EnvKey>) {
    match scope {
        Scope::All => (None, None),
        Scope::Project(project) => (Some(project), None),
        Scope::Environment(project, env) => (Some(project), Some(env)),
    }
}
