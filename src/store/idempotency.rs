//! Answers that are kept under a key of the client's, so that a request which is repeated changes nothing twice.
//!
//! A request claims its key before it does anything, marks the claim in the transaction of its change, and leaves its answer
//! there afterwards. Who has lost the claim meanwhile cannot mark it, so at most one of them changes anything.

use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// What is known about a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The digest of the request that the key was first used for.
    pub request: String,
    /// Who works on it.
    pub claim: String,
    /// Since when.
    pub claimed_at: Timestamp,
    /// The audit entry of the change, if it was made.
    pub audit_id: Option<String>,
    /// The answer, if there is one already.
    pub answer: Option<Vec<u8>>,
}

/// A claim on a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The token that the key is of.
    pub token_id: String,
    /// The key.
    pub key: String,
    /// Tells this claim from others on the same key.
    pub id: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    request: String,
    claim: String,
    claimed_at: jiff_sqlx::Timestamp,
    audit_id: Option<String>,
    answer: Option<Vec<u8>>,
}

const CLAIM: &str = "insert into idempotency (token_id, key, request, claim, claimed_at)
    values ($1, $2, $3, $4, $5) on conflict do nothing";
const KEPT: &str = "select request, claim, claimed_at, audit_id, answer from idempotency
    where token_id = $1 and key = $2";
const TAKE_OVER: &str = "update idempotency set claim = $4, claimed_at = $5
    where token_id = $1 and key = $2 and claim = $3 and audit_id is null and answer is null";
const MARK: &str = "update idempotency set audit_id = $4
    where token_id = $1 and key = $2 and claim = $3 and answer is null";
const ANSWER: &str = "update idempotency set answer = $4
    where token_id = $1 and key = $2 and claim = $3";
const RELEASE: &str = "delete from idempotency
    where token_id = $1 and key = $2 and claim = $3 and audit_id is null";
const FORGET_POSTGRES: &str = "delete from idempotency where claimed_at < $1";
const FORGET_SQLITE: &str = "delete from idempotency where julianday(claimed_at) < julianday($1)";

impl Tx {
    /// Claims a key; returns `false` if it was used before.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn claim_key(
        &mut self,
        claim: &Claim,
        request: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(CLAIM).bind(&claim.token_id).bind(&claim.key).bind(request);
            query.bind(&claim.id).bind(now.to_sqlx()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Reads what is known about a key.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn kept_answer(
        &mut self,
        token_id: &str,
        key: &str,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(KEPT => Row).bind(token_id).bind(key).fetch_optional(c).await
        })?;
        Ok(row.map(|row| KeptAnswer {
            request: row.request,
            claim: row.claim,
            claimed_at: row.claimed_at.to_jiff(),
            audit_id: row.audit_id,
            answer: row.answer,
        }))
    }

    /// Takes a claim over from one who has left it; returns `false` if that one has done something meanwhile.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn take_over_key(
        &mut self,
        claim: &Claim,
        from: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(TAKE_OVER).bind(&claim.token_id).bind(&claim.key).bind(from);
            query.bind(&claim.id).bind(now.to_sqlx()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Marks that the change was made, in its transaction; returns `false` if the claim was taken over.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn mark_claim(&mut self, claim: &Claim, audit_id: &str) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(MARK).bind(&claim.token_id).bind(&claim.key).bind(&claim.id);
            query.bind(audit_id).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }

    /// Keeps the answer.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn keep_answer(&mut self, claim: &Claim, answer: &[u8]) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(ANSWER).bind(&claim.token_id).bind(&claim.key).bind(&claim.id);
            query.bind(answer).execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Gives a key back of which nothing came, unless its change was made.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn release_key(&mut self, claim: &Claim) -> Result<(), StoreError> {
        on_tx!(self, c => {
            let query = sql!(RELEASE).bind(&claim.token_id).bind(&claim.key).bind(&claim.id);
            query.execute(c).await.map(|_| ())
        })?;
        Ok(())
    }

    /// Forgets the keys that were claimed before a time; returns how many.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn forget_keys(&mut self, before: Timestamp) -> Result<u64, StoreError> {
        let sql = match self {
            Self::Postgres(_) => FORGET_POSTGRES,
            Self::Sqlite(_) => FORGET_SQLITE,
        };
        Ok(on_tx!(self, c => sql!(sql).bind(before.to_sqlx()).execute(c).await?.rows_affected()))
    }
}
