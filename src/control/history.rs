//! Accepting that the database has lost what replicas have served.

use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::store::within_timeout;

/// A history that was accepted as it is.
#[derive(Debug)]
pub struct Accepted {
    /// The epoch that begins with it.
    pub epoch: i64,
    /// What is missing in it, in words.
    pub lost: String,
}

impl Control {
    /// Accepts that the database lacks what replicas have served: they take what is there, and it can be changed again.
    ///
    /// # Errors
    ///
    /// `history_intact` if nothing is missing, `history_regressed` if the database is another installation's.
    pub async fn accept_history(&self, author: &Author) -> Result<Accepted, ControlError> {
        within_timeout(async {
            let mut tx = self.store.begin_accepting().await?;
            let Some((epoch, lost)) = tx.accept_history().await? else {
                let detail =
                    "the database lacks nothing that was served, so there is nothing to accept";
                return Err(ControlError::conflict("history_intact", detail));
            };
            let deed = Deed {
                action: "history.accept",
                subject: "history",
                project: None,
                env: None,
                version: None,
                instructions: None,
                changes: vec![format!("accepted that this is lost: {lost}")],
            };
            self.record(&mut tx, author, deed, self.clock.now()).await?;
            let directory_version = tx.positions().await?.directory_version;
            self.finish(author, tx, Served::Directory(directory_version)).await?;
            Ok(Accepted { epoch, lost })
        })
        .await
    }
}
