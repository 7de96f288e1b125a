//! The audit log as it leaves the installation: exported page by page, and its end, signed.

use crate::control::Control;
use crate::control::ControlError;
use crate::model::audit::SignedHead;
use crate::model::audit::line;
use crate::store::AuditCursor;
use crate::store::within_timeout;

impl Control {
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
