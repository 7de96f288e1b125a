//! Changes that are made later: what is planned, and what became of it.
//!
//! When windows begin and end is in `window`; how an entry is executed, in `control`.

use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::window::Windows;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// What has become of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleState {
    /// It is still to come.
    Pending,
    /// It was made.
    Done,
    /// It could not be made, or its author may not make it any more.
    Failed,
    /// What it was planned on has changed since, so nothing was made.
    Conflict,
    /// It was later than it may be.
    Skipped,
    /// Somebody took it back.
    Cancelled,
}

/// The words for the states, as they appear in JSON.
pub const SCHEDULE_STATES: &[(&str, ScheduleState)] = &[
    ("pending", ScheduleState::Pending),
    ("done", ScheduleState::Done),
    ("failed", ScheduleState::Failed),
    ("conflict", ScheduleState::Conflict),
    ("skipped", ScheduleState::Skipped),
    ("cancelled", ScheduleState::Cancelled),
];

impl ScheduleState {
    /// The word for it, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        SCHEDULE_STATES.iter().find(|(_, each)| *each == self).map_or("", |(word, _)| word)
    }
}

/// What is planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// In order; each sees what the ones before it did. Windows have one, whose instructions are those of the start.
    pub changes: Vec<PlannedChange>,
    /// Whether the changes were sent as a list.
    pub is_list: bool,
    /// The time as it was asked for; `None` for windows.
    pub at: Option<String>,
    /// The time zone that `at` was given in.
    pub time_zone: Option<String>,
    /// When a flag is on, again and again.
    pub windows: Option<Windows>,
    /// Seconds by which it may be late.
    pub skip_if_late_by_secs: Option<i64>,
}

/// One planned change, of a flag or of a segment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlannedChange {
    /// The flag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flag: Option<FlagKey>,
    /// The segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<SegmentKey>,
    /// What is to be done, as it was sent.
    pub instructions: Value,
    /// The version that the flag or segment had when this was planned.
    pub base: i64,
}

/// What came of an entry, or of the latest start or end of windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// Whether it was made; windows go on whatever this is.
    pub state: ScheduleState,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// The environment's version that it made; absent if everything was so already, or nothing was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// What was done, in words.
    pub changes: Vec<String>,
    /// Why nothing was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<OutcomeProblem>,
}

/// Why nothing was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeProblem {
    /// A stable, machine-readable name.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
    /// Each instruction that cannot be applied any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<OutcomeError>,
    /// What differs from the state that this was planned on: `before` is how it was then, `after` how it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<Object>)]
    pub differs: Vec<Value>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OutcomeError {
    /// Where, as a JSON path.
    pub path: String,
    /// A stable, machine-readable name.
    pub code: String,
    /// One sentence for people.
    pub detail: String,
}
