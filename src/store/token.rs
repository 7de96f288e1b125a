//! Tokens: digests and what they grant. The tokens themselves are stored nowhere.

use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::model::token::HOLDERS;
use crate::model::token::Holder;
use crate::model::token::ROLES;
use crate::model::token::Scope;
use crate::model::token::SigningState;
use crate::model::token::TOKEN_KINDS;
use crate::model::token::TokenKind;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// A token as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRecord {
    /// SHA-256 of the token.
    pub digest: Digest,
    /// What it grants.
    pub grant: Grant,
    /// The last characters of the token, by which people recognise it.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// The name of who made it.
    pub created_by: String,
    /// When it was last used, as far as that was noted.
    pub last_used_at: Option<Timestamp>,
    /// The secret before the last rotation, as long as that works.
    pub previous: Option<PreviousSecret>,
}

/// A secret that was replaced and works for a while.
#[derive(Debug, Clone, PartialEq)]
pub struct PreviousSecret {
    /// SHA-256 of it.
    pub digest: Digest,
    /// Until when it works.
    pub expires_at: Timestamp,
    /// When it was last used, as far as that was noted.
    pub last_used_at: Option<Timestamp>,
    /// Proves what was signed with it.
    pub signing: Option<SigningState>,
}

impl TokenRecord {
    /// The digests that are accepted for the token, with what each grants.
    pub fn grants(&self) -> impl Iterator<Item = (Digest, Grant)> {
        let previous = self.previous.as_ref().map(|previous| {
            let own = self.grant.expires_at;
            let expires_at = own.map_or(previous.expires_at, |own| own.min(previous.expires_at));
            let signing = previous.signing.clone();
            (previous.digest, Grant { expires_at: Some(expires_at), signing, ..self.grant.clone() })
        });
        std::iter::once((self.digest, self.grant.clone())).chain(previous)
    }
}

/// A token that is to be stored.
#[derive(Debug)]
pub struct NewToken<'a> {
    /// What is listed of it.
    pub record: &'a TokenRecord,
    /// The number of its environment, if it is of one.
    pub env: Option<EnvId>,
}

#[derive(sqlx::FromRow)]
struct TokenRow {
    id: String,
    digest: Vec<u8>,
    kind: String,
    role: Option<String>,
    project_key: Option<String>,
    environment_key: Option<String>,
    name: String,
    hint: String,
    created_at: jiff_sqlx::Timestamp,
    created_by: String,
    holder: Option<String>,
    expires_at: Option<jiff_sqlx::Timestamp>,
    last_used_at: Option<jiff_sqlx::Timestamp>,
    previous_digest: Option<Vec<u8>>,
    previous_expires_at: Option<jiff_sqlx::Timestamp>,
    previous_last_used_at: Option<jiff_sqlx::Timestamp>,
    signing: Option<Vec<u8>>,
    previous_signing: Option<Vec<u8>>,
}

impl TokenRow {
    fn read(self) -> Result<TokenRecord, StoreError> {
        let corrupt = |cause: &str| StoreError::Corrupt {
            table: "token",
            key: self.id.clone(),
            cause: cause.to_owned(),
        };
        let digest = Digest::try_from(self.digest.as_slice()).map_err(|_| corrupt("digest"))?;
        let kind = TOKEN_KINDS.iter().find(|(word, _)| *word == self.kind);
        let (_, kind) = kind.ok_or_else(|| corrupt("kind"))?;
        let role = match &self.role {
            None => None,
            Some(role) => {
                let found = ROLES.iter().find(|(word, _)| word == role);
                Some(found.ok_or_else(|| corrupt("role"))?.1)
            }
        };
        // Tokens of the time before had no holder; they were not bound to expire.
        let holder = match (&self.holder, kind) {
            (Some(word), _) => {
                let found = HOLDERS.iter().find(|(each, _)| each == word);
                Some(found.ok_or_else(|| corrupt("holder"))?.1)
            }
            (None, TokenKind::Admin) => Some(Holder::Service),
            (None, _) => None,
        };
        let previous = match (&self.previous_digest, &self.previous_expires_at) {
            (Some(digest), Some(expires_at)) => Some(PreviousSecret {
                digest: Digest::try_from(digest.as_slice()).map_err(|_| corrupt("digest"))?,
                expires_at: expires_at.to_jiff(),
                last_used_at: self.previous_last_used_at.map(jiff_sqlx::Timestamp::to_jiff),
                signing: self.previous_signing.clone().map(SigningState),
            }),
            _ => None,
        };
        let expires_at = self.expires_at.map(jiff_sqlx::Timestamp::to_jiff);
        let scope = match (&self.project_key, &self.environment_key) {
            (None, _) => Scope::All,
            (Some(project), None) => Scope::Project(ProjectKey::stored(project)),
            (Some(project), Some(env)) => {
                Scope::Environment(ProjectKey::stored(project), EnvKey::stored(env))
            }
        };
        Ok(TokenRecord {
            digest,
            grant: Grant {
                id: self.id,
                name: self.name,
                kind: *kind,
                role,
                scope,
                holder,
                expires_at,
                signing: self.signing.map(SigningState),
            },
            hint: self.hint,
            created_at: self.created_at.to_jiff(),
            created_by: self.created_by,
            last_used_at: self.last_used_at.map(jiff_sqlx::Timestamp::to_jiff),
            previous,
        })
    }
}

const TOKENS: &str = "select t.id, t.digest, t.kind, t.role, t.project_key,
        e.key as environment_key, t.name, t.hint, t.created_at, t.created_by, t.holder, t.expires_at,
        t.last_used_at, t.previous_digest, t.previous_expires_at, t.previous_last_used_at,
        t.signing, t.previous_signing
    from token t left join environment e on e.id = t.environment_id
    where t.revoked_at is null order by t.id";
const TOKEN: &str = "select t.id, t.digest, t.kind, t.role, t.project_key,
        e.key as environment_key, t.name, t.hint, t.created_at, t.created_by, t.holder, t.expires_at,
        t.last_used_at, t.previous_digest, t.previous_expires_at, t.previous_last_used_at,
        t.signing, t.previous_signing
    from token t left join environment e on e.id = t.environment_id
    where t.id = $1 and t.revoked_at is null";
const COUNT_TOKENS: &str = "select count(*) from token where revoked_at is null";
const INSERT_TOKEN: &str = "insert into token
    (id, digest, kind, role, project_key, environment_id, name, hint, created_at, created_by,
     holder, expires_at, signing)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) on conflict do nothing";
const ROTATE_TOKEN: &str = "update token set previous_digest = digest, previous_expires_at = $2,
        previous_last_used_at = last_used_at, digest = $3, hint = $4, last_used_at = null,
        previous_signing = signing, signing = $5
    where id = $1 and revoked_at is null";
/// Only later times replace what is there: several replicas write.
const TOUCH_TOKEN: &str = "update token set last_used_at = $2 where digest = $1
    and (last_used_at is null or last_used_at < $2)";
const TOUCH_PREVIOUS: &str =
    "update token set previous_last_used_at = $2 where previous_digest = $1
    and (previous_last_used_at is null or previous_last_used_at < $2)";
const REVOKE_TOKEN: &str = "update token set revoked_at = $2 where id = $1 and revoked_at is null";

impl Tx {
    /// Reads all tokens that are not revoked, oldest first.
    ///
    /// # Errors
    ///
    /// Those of the database; a token that cannot be read is an error in its own place.
    pub async fn tokens(&mut self) -> Result<Vec<Result<TokenRecord, StoreError>>, StoreError> {
        let rows = on_tx!(self, c => sql!(TOKENS => TokenRow).fetch_all(c).await)?;
        Ok(rows.into_iter().map(TokenRow::read).collect())
    }

    /// Finds a token that is not revoked, by its id.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn token(&mut self, id: &str) -> Result<Option<TokenRecord>, StoreError> {
        let row = on_tx!(self, c => sql!(TOKEN => TokenRow).bind(id).fetch_optional(c).await)?;
        row.map(TokenRow::read).transpose()
    }

    /// Counts the tokens that are not revoked.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn count_tokens(&mut self) -> Result<i64, StoreError> {
        let (count,) = on_tx!(self, c => sql!(COUNT_TOKENS => (i64,)).fetch_one(c).await)?;
        Ok(count)
    }

    /// Stores a token; returns `false` if it is there already.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_token(&mut self, token: &NewToken<'_>) -> Result<bool, StoreError> {
        let TokenRecord { digest, grant, hint, created_at, created_by, .. } = token.record;
        let kind = TOKEN_KINDS.iter().find(|(_, kind)| *kind == grant.kind).map(|(word, _)| *word);
        let role = ROLES.iter().find(|(_, role)| Some(*role) == grant.role).map(|(word, _)| *word);
        let project = match &grant.scope {
            Scope::All => None,
            Scope::Project(project) | Scope::Environment(project, _) => Some(project.as_str()),
        };
        let n_rows = on_tx!(self, c => {
            sql!(INSERT_TOKEN)
                .bind(&grant.id)
                .bind(digest.as_slice())
                .bind(kind)
                .bind(role)
                .bind(project)
                .bind(token.env)
                .bind(&grant.name)
                .bind(hint)
                .bind(created_at.to_sqlx())
                .bind(created_by)
                .bind(grant.holder.map(Holder::as_str))
                .bind(grant.expires_at.map(ToSqlx::to_sqlx))
                .bind(grant.signing.as_ref().map(|state| state.0.as_slice()))
                .execute(c)
                .await?
                .rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Revokes a token; returns `false` if there is none, or it is revoked already.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn revoke_token(&mut self, id: &str, now: Timestamp) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            sql!(REVOKE_TOKEN).bind(id).bind(now.to_sqlx()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Gives a token another secret; the one before works until `previous_expires_at`.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn rotate_token(
        &mut self,
        id: &str,
        previous_expires_at: Timestamp,
        digest: &Digest,
        hint: &str,
        signing: Option<&SigningState>,
    ) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(ROTATE_TOKEN).bind(id).bind(previous_expires_at.to_sqlx());
            let signing = signing.map(|state| state.0.as_slice());
            query.bind(digest.as_slice()).bind(hint).bind(signing).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Notes when secrets were last used.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn touch_tokens(&mut self, used: &[(Digest, Timestamp)]) -> Result<(), StoreError> {
        for (digest, at) in used {
            for sql in [TOUCH_TOKEN, TOUCH_PREVIOUS] {
                on_tx!(self, c => {
                    let query = sql!(sql).bind(digest.as_slice()).bind(at.to_sqlx());
                    query.execute(c).await.map(|_| ())
                })?;
            }
        }
        Ok(())
    }
}
