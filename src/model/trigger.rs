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

/// How the names of triggers begin where they act.
const NAME_START: &str = "trigger `";

/// The name of a trigger as that of somebody who acts; the id makes it unique.
pub fn actor_name(name: &str, id: &str) -> String {
    format!("{NAME_START}{name}` {id}")
}

/// Whether this is the name of a trigger and not of a person.
pub fn is_actor_name(name: &str) -> bool {
    name.starts_with(NAME_START)
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
