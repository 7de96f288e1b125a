//! What is recorded of a change: who made it, when and where, and how to undo a kill.

use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Holder;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;

/// Identifies an environment in the database; never reused.
pub type EnvId = i64;

/// A place in the history of one environment.
///
/// Compared wherever a ruleset is installed, cached or sent: lower never replaces higher.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Grows when the database's history was replaced.
    pub epoch: i64,
    /// Grows by one with every change.
    pub version: i64,
}

/// Who made a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// The id of the token that was used, or a fixed word for a token that comes from the configuration.
    pub id: String,
    /// For people.
    pub name: String,
    /// Who holds the token; `None` where that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<Holder>,
}

/// How a flag was before it was killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kill {
    /// The id of the kill; empty for one that was made before kills had ids.
    #[serde(default)]
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// The name of who did it.
    pub by: String,
    /// The environment's version that the kill made.
    pub version: i64,
    /// Whether the flag was on.
    pub was_on: bool,
}

/// One entry of the audit log.
#[derive(Debug, Clone, PartialEq)]
pub struct AuditEntry {
    /// Ordered by time.
    pub id: String,
    /// When; to the microsecond.
    pub at: Timestamp,
    /// Who.
    pub actor: Actor,
    /// The project that was changed; `None` for the installation.
    pub project: Option<ProjectKey>,
    /// The environment that was changed; `None` for a whole project.
    pub env: Option<EnvKey>,
    /// What was done: `flag.update`, `flag.kill`, `token.create`, ….
    pub action: String,
    /// The key or id of what was changed.
    pub subject: String,
    /// The environment's version that the change made, if it is of one environment.
    pub version: Option<i64>,
    /// Why, in the words of the one who did it.
    pub comment: Option<String>,
    /// The instructions as they were sent, as JSON.
    pub instructions: Option<String>,
    /// What was done, in words.
    pub changes: Vec<String>,
    /// The id of the request that did it.
    pub request_id: String,
    /// The address that the request came from, as far as proxies are trusted to tell.
    pub address: Option<String>,
    /// Where it stands in the chain and what seals it there; see `audit`.
    pub link: Option<AuditLink>,
    /// The fields whose stored form cannot be read: of the actor and the changes the raw text is there instead, of others nothing.
    pub unreadable: Vec<&'static str>,
}

/// A place in the chain of audit entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditLink {
    /// Counts from 1, without gaps.
    pub seq: i64,
    /// SHA-256 of the hash before and of this entry, as hexadecimal digits.
    pub hash: String,
}
