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
    #[error("{what} has changed since: its `ETag` is \"{tag}\"")]
    Outdated {
        /// What is asked for.
        what: String,
        /// The tag that it has now; of what has a version, that.
        tag: String,
    },
    /// The environment wants to know from which version a change of a flag starts.
    #[error(
        "the environment requires `If-Match` with the flag's `ETag`, or among many changes `ifVersion`, for every change of a flag"
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

    /// Checks that something is at the version that is asked for.
    pub(super) fn check_version(
        (what, key): (&str, &(impl ToString + ?Sized)),
        version: i64,
        wanted: Option<i64>,
    ) -> Result<(), Self> {
        if wanted.is_none_or(|wanted| wanted == version) {
            return Ok(());
        }
        let what = format!("the {what} `{}`", key.to_string());
        Err(Self::Outdated { what, tag: version.to_string() })
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
