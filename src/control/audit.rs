//! The audit log: what is listed of it, how it leaves the installation page by page, and its end, signed.

use crate::change::list_names;
use crate::control::Control;
use crate::control::ControlError;
use crate::model::audit::SignedHead;
use crate::model::audit::line;
use crate::model::change::AuditEntry;
use crate::model::key::EnvKey;
use crate::store::AuditCursor;
use crate::store::AuditFilter;
use crate::store::Logged;
use crate::store::within_timeout;

/// Names of flags and segments that an entry tells; further ones are counted.
const NAMES_MAX: usize = 20;

impl Control {
    /// Returns entries of the audit log, newest first.
    ///
    /// Of an environment, that is what was done in it, and what was done to it among others: that without what it did elsewhere.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let mut entries = tx.audit(filter).await?;
            if let (Some(project), Some(env)) = (&filter.project, &filter.env) {
                let spanning = tx.spanning_audit((project, env), filter).await?;
                entries
                    .extend(spanning.into_iter().map(|(entry, here)| seen_from(env, entry, &here)));
                entries.sort_by(|a, b| b.id.cmp(&a.id));
                entries.truncate(usize::try_from(filter.limit).unwrap_or_default());
            }
            Ok(entries)
        })
        .await
    }

    /// Returns the next lines of an export, and how far it has come then; no lines at the end.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn export_audit(
        &self,
        cursor: AuditCursor,
    ) -> Result<(String, AuditCursor), ControlError> {
        within_timeout(async {
            let (entries, cursor) = self.store.read().await?.export_audit(cursor).await?;
            Ok((entries.iter().map(line).collect(), cursor))
        })
        .await
    }

    /// Returns the end of the audit log, signed.
    ///
    /// # Errors
    ///
    /// Those of the store.
    pub async fn audit_head(&self) -> Result<SignedHead, ControlError> {
        within_timeout(async {
            let (seq, hash) = self.store.read().await?.audit_head().await?;
            Ok(self.signer.sign(seq, hash, self.clock.now()))
        })
        .await
    }
}

/// An entry as an environment's log shows it: who may read one environment must not learn from it what there is in others.
fn seen_from(env: &EnvKey, entry: AuditEntry, here: &Logged) -> AuditEntry {
    let version = Some(here.version);
    // A definition is the same everywhere.
    if entry.action.starts_with("flag.") {
        return AuditEntry { version, ..entry };
    }
    let names: Vec<&str> = here.flags.iter().chain(&here.segments).map(String::as_str).collect();
    let subject = list_names(names.iter(), NAMES_MAX);
    let changes = vec![format!("changed {subject} in `{env}`, as a part of a larger change")];
    AuditEntry { version, subject, changes, instructions: None, ..entry }
}
