//! Secret URLs that kill or restore a flag; only digests of the secrets are kept.

use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::token::Digest;
use crate::model::trigger::TRIGGER_ACTIONS;
use crate::model::trigger::TriggerAction;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::on_tx;
use crate::store::sql;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// A trigger as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerRecord {
    /// Ordered by time.
    pub id: String,
    /// The project of its flag.
    pub project: ProjectKey,
    /// The environment in which it acts.
    pub env: EnvKey,
    /// Its flag.
    pub flag: FlagKey,
    /// What it does.
    pub action: TriggerAction,
    /// Whether it undoes its own kill when the alert is over.
    pub restores_when_resolved: bool,
    /// For people.
    pub name: String,
    /// The last characters of the secret.
    pub hint: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

#[derive(sqlx::FromRow)]
struct TriggerRow {
    id: String,
    project_key: String,
    environment_key: String,
    flag_key: String,
    action: String,
    restores_when_resolved: bool,
    name: String,
    hint: String,
    created_at: jiff_sqlx::Timestamp,
    created_by: String,
}

impl TriggerRow {
    fn read(self) -> Result<TriggerRecord, StoreError> {
        let action = TRIGGER_ACTIONS.iter().find(|(word, _)| *word == self.action);
        let (_, action) = action.ok_or_else(|| StoreError::Corrupt {
            table: "trigger_url",
            key: self.id.clone(),
            cause: "action".to_owned(),
        })?;
        Ok(TriggerRecord {
            project: ProjectKey::stored(&self.project_key),
            env: EnvKey::stored(&self.environment_key),
            flag: FlagKey::stored(&self.flag_key),
            action: *action,
            restores_when_resolved: self.restores_when_resolved,
            name: self.name,
            hint: self.hint,
            created_at: self.created_at.to_jiff(),
            created_by: self.created_by,
            id: self.id,
        })
    }
}

const TRIGGERS: &str = "select t.id, e.project_key, e.key as environment_key, t.flag_key, t.action,
        t.restores_when_resolved, t.name, t.hint, t.created_at, t.created_by
    from trigger_url t join environment e on e.id = t.environment_id
    where t.environment_id = $1 and t.flag_key = $2 and t.revoked_at is null order by t.id";
const TRIGGER: &str = "select t.id, e.project_key, e.key as environment_key, t.flag_key, t.action,
        t.restores_when_resolved, t.name, t.hint, t.created_at, t.created_by
    from trigger_url t join environment e on e.id = t.environment_id
    where t.digest = $1 and t.revoked_at is null";
const INSERT_TRIGGER: &str = "insert into trigger_url
    (id, digest, environment_id, flag_key, action, restores_when_resolved, name, hint, created_at,
     created_by)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
const REVOKE_TRIGGER: &str = "update trigger_url set revoked_at = $4
    where environment_id = $1 and flag_key = $2 and id = $3 and revoked_at is null";

impl Tx {
    /// Reads the triggers of a flag that are not revoked, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if one cannot be read.
    pub async fn triggers(
        &mut self,
        env: EnvId,
        flag: &FlagKey,
    ) -> Result<Vec<TriggerRecord>, StoreError> {
        let rows = on_tx!(self, c => {
            sql!(TRIGGERS => TriggerRow).bind(env).bind(flag.as_str()).fetch_all(c).await
        })?;
        rows.into_iter().map(TriggerRow::read).collect()
    }

    /// Finds the trigger whose secret has this digest; `None` if there is none, or it was revoked.
    ///
    /// # Errors
    ///
    /// [`StoreError::Corrupt`] if it cannot be read.
    pub async fn trigger(&mut self, digest: &Digest) -> Result<Option<TriggerRecord>, StoreError> {
        let row = on_tx!(self, c => {
            sql!(TRIGGER => TriggerRow).bind(digest.as_slice()).fetch_optional(c).await
        })?;
        row.map(TriggerRow::read).transpose()
    }

    /// Stores a trigger.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn insert_trigger(
        &mut self,
        env: EnvId,
        trigger: &TriggerRecord,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        let action = TRIGGER_ACTIONS.iter().find(|(_, action)| *action == trigger.action);
        let action = action.map_or("", |(word, _)| word);
        on_tx!(self, c => {
            sql!(INSERT_TRIGGER)
                .bind(&trigger.id)
                .bind(digest.as_slice())
                .bind(env)
                .bind(trigger.flag.as_str())
                .bind(action)
                .bind(trigger.restores_when_resolved)
                .bind(&trigger.name)
                .bind(&trigger.hint)
                .bind(trigger.created_at.to_sqlx())
                .bind(&trigger.created_by)
                .execute(c)
                .await
                .map(|_| ())
        })?;
        Ok(())
    }

    /// Revokes a trigger of a flag; returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// Those of the database.
    pub async fn revoke_trigger(
        &mut self,
        env: EnvId,
        flag: &FlagKey,
        id: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let n_rows = on_tx!(self, c => {
            let query = sql!(REVOKE_TRIGGER).bind(env).bind(flag.as_str()).bind(id);
            query.bind(now.to_sqlx()).execute(c).await?.rows_affected()
        });
        Ok(n_rows == 1)
    }
}
