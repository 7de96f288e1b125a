//! Tokens: making, listing and revoking them.

use crate::auth::Denied;
use crate::auth::NewSecret;
use crate::auth::signing_state;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::limit::TOKENS_MAX;
use crate::model::problem::Problems;
use crate::model::token::Grant;
use crate::model::token::Holder;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::SigningState;
use crate::model::token::TokenKind;
use crate::store::NewToken;
use crate::store::PreviousSecret;
use crate::store::TokenRecord;
use crate::store::within_timeout;
use jiff::SignedDuration;
use jiff::Timestamp;

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
    /// Who will hold it; only for administration tokens.
    pub holder: Option<Holder>,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// How long a personal token may work.
const PERSONAL_MAX: SignedDuration = SignedDuration::from_hours(366 * 24);
/// How long any token may work that stops at all.
const EXPIRY_MAX: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// What is kept to check what a server token signs.
fn signing_of(kind: TokenKind, secret: &NewSecret) -> Option<SigningState> {
    (kind == TokenKind::Server).then(|| signing_state(&secret.token))
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
            check_expiry(&request, now)?;
            let TokenRequest { name, kind, role, scope, holder, expires_at } = request;
            let id = self.ids.next();
            let signing = signing_of(kind, secret);
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
                grant: Grant { id, name, kind, role, scope, holder, expires_at, signing },
                hint: secret.hint.clone(),
                created_at: now,
                created_by: author.actor.name.clone(),
                last_used_at: None,
                previous: None,
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
            self.finish(author, tx, Served::Directory(version)).await?;
            Ok(record)
        })
        .await
    }

    /// Revokes a token; it stops working, and its streams end.
    ///
    /// # Errors
    ///
    /// There is no such token, or the author may not do it.
    pub async fn revoke_token(
        &self,
        author: &Author,
        id: &str,
        may: impl Fn(&Grant) -> Result<(), Denied>,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            let mut tokens = tx.tokens().await?.into_iter().flatten();
            let found = tokens.find(|token| token.grant.id == id);
            let token = allowed(found, id, &may)?;
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
            self.finish(author, tx, Served::Directory(version)).await
        })
        .await
    }

    /// Gives a token another secret; the one before works for as long as `overlap`. Returns what is listed of it.
    ///
    /// # Errors
    ///
    /// There is no such token, or the author may not do it; `token_expired`.
    pub async fn rotate_token(
        &self,
        author: &Author,
        id: &str,
        overlap: SignedDuration,
        make: impl Fn(TokenKind) -> NewSecret,
        may: impl Fn(&Grant) -> Result<(), Denied>,
    ) -> Result<(TokenRecord, NewSecret), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let version = tx.bump_directory().await?;
            let mut tokens = tx.tokens().await?.into_iter().flatten();
            let found = tokens.find(|token| token.grant.id == id);
            let mut token = allowed(found, id, &may)?;
            if token.grant.expires_at.is_some_and(|at| at <= now) {
                let detail = "the token has expired; make another one";
                return Err(ControlError::conflict("token_expired", detail));
            }
            let secret = make(token.grant.kind);
            let until = now.checked_add(overlap).unwrap_or(Timestamp::MAX);
            let signing = signing_of(token.grant.kind, &secret);
            tx.rotate_token(id, until, &secret.digest, &secret.hint, signing.as_ref()).await?;
            let NewSecret { digest, hint, .. } = &secret;
            token.previous = Some(PreviousSecret {
                digest: std::mem::replace(&mut token.digest, *digest),
                expires_at: until,
                last_used_at: token.last_used_at.take(),
                signing: std::mem::replace(&mut token.grant.signing, signing),
            });
            token.hint.clone_from(hint);
            let (project, env) = scope_keys(&token.grant.scope);
            let deed = Deed {
                action: "token.rotate",
                subject: id,
                project,
                env,
                version: None,
                instructions: None,
                changes: vec![format!(
                    "gave the token `{}` another secret; the one before works until {until}",
                    token.grant.name
                )],
            };
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Directory(version)).await?;
            Ok((token, secret))
        })
        .await
    }
}

/// Returns a token that something may be done with; what the author does not reach does not exist.
fn allowed(
    found: Option<TokenRecord>,
    id: &str,
    may: impl Fn(&Grant) -> Result<(), Denied>,
) -> Result<TokenRecord, ControlError> {
    let token = found.ok_or_else(|| ControlError::not_found("token", id))?;
    match may(&token.grant) {
        Ok(()) => Ok(token),
        Err(Denied::NotFound) => Err(ControlError::not_found("token", id)),
        Err(denied) => Err(ControlError::Denied(denied)),
    }
}

/// Checks when a token is to stop working.
fn check_expiry(request: &TokenRequest, now: Timestamp) -> Result<(), ControlError> {
    let invalid = |code, detail: &str| Err(Problems::one("expiresAt", code, detail).into());
    let Some(expires_at) = request.expires_at else {
        return match request.holder {
            Some(Holder::Personal) => invalid(
                "required",
                "a personal token must have `expiresAt`, at most a year from now",
            ),
            _ => Ok(()),
        };
    };
    let lives = expires_at.duration_since(now);
    if lives <= SignedDuration::ZERO {
        return invalid("out_of_range", "must lie in the future");
    }
    if request.holder == Some(Holder::Personal) && lives > PERSONAL_MAX {
        return invalid("out_of_range", "a personal token works for at most a year");
    }
    if lives > EXPIRY_MAX {
        return invalid(
            "out_of_range",
            "must be within ten years; leave it out for a token that does not expire",
        );
    }
    Ok(())
}

fn scope_keys(scope: &Scope) -> (Option<&ProjectKey>, Option<&EnvKey>) {
    match scope {
        Scope::All => (None, None),
        Scope::Project(project) => (Some(project), None),
        Scope::Environment(project, env) => (Some(project), Some(env)),
    }
}
