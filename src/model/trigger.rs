//! What a secret URL does to a flag when it is called.

use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// What a trigger does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TriggerAction {
    /// Kills the flag.
    Kill,
    /// Undoes a kill of the flag.
    Restore,
}

/// The words for the actions, as they appear in JSON.
pub const TRIGGER_ACTIONS: &[(&str, TriggerAction)] =
    &[("kill", TriggerAction::Kill), ("restore", TriggerAction::Restore)];

/// What the caller of a trigger says of the alert that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// It has begun, or goes on.
    Firing,
    /// It is over.
    Resolved,
    /// Nothing is said of one.
    Unknown,
}
