//! Why a command was not carried out.

use crate::auth::Denied;
use crate::change::Difference;
use crate::model::problem::Problems;
use crate::store::StoreError;

/// Why a command was not carried out; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The input is wrong.
    #[error("{0}")]
    Invalid(Problems),
    /// There is no such thing.
    #[error("there is no {what} `{key}`")]
    NotFound {
        /// What kind of thing: `flag`, `project`, ….
        what: &'static str,
        /// Its key.
        key: String,
    },
    /// It cannot be done as things are.
    #[error("{detail}")]
    Conflict {
        /// A stable, machine-readable name.
        code: &'static str,
        /// One sentence for people.
        detail: String,
    },
    /// The caller's copy is out of date.
    #[error("the flag has changed since: it is at version {current}")]
    Outdated {
        /// The version that it has now.
        current: i64,
    },
    /// The environment wants to know from which version a change of a flag starts.
    #[error(
        "the environment requires `If-Match` with the flag's `ETag` for every change of a flag"
    )]
    VersionRequired,
    /// What a change was planned on has changed since.
    #[error("{detail}")]
    ChangedSince {
        /// A stable, machine-readable name.
        code: &'static str,
        /// One sentence for people.
        detail: String,
        /// How it was when the change was planned, and how it is.
        differs: Vec<Difference>,
    },
    /// The author may not do it.
    #[error("the author may not do it")]
    Denied(Denied),
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Problems> for ControlError {
    fn from(problems: Problems) -> Self {
        Self::Invalid(problems)
    }
}

impl ControlError {
    /// There is no such thing.
    pub(super) fn not_found(what: &'static str, key: &(impl ToString + ?Sized)) -> Self {
        Self::NotFound { what, key: key.to_string() }
    }

    /// There are as many as there may be.
    pub(super) fn too_many(detail: impl Into<String>) -> Self {
        Self::Invalid(Problems::one("", "too_many", detail))
    }

    /// It cannot be done as things are.
    pub(super) fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::Conflict { code, detail: detail.into() }
    }
}
