//! The admin API: projects, environments, flags, segments, tokens, the audit log, and the routes for emergencies.
//!
//! Each handler says first what the caller must be allowed to do, then reads its input, then calls one command of
//! `control`.

pub(crate) mod applied;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod emergency;
pub(crate) mod emergency_many;
pub(crate) mod environment;
pub(crate) mod flag;
pub(crate) mod flag_config;
pub(crate) mod flag_history;
pub(crate) mod flag_list;
pub(crate) mod history;
pub(crate) mod idempotency;
pub(crate) mod impact;
pub(crate) mod import;
pub(crate) mod page;
pub(crate) mod project;
pub(crate) mod rehearsal;
pub(crate) mod schedule;
pub(crate) mod segment;
pub(crate) mod state;
pub(crate) mod token;
pub(crate) mod trigger;
pub(crate) mod usage;

use crate::http::error::ApiError;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::limit::TEXT_CHARS_MAX;
use crate::model::problem::Problems;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// A list of things.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Items<T> {
    /// The things.
    pub(crate) items: Vec<T>,
}

/// Reads a body with `read`, which must ask for every field that is allowed.
///
/// # Errors
///
/// 422 with everything that is wrong.
pub(crate) fn decode<T>(
    body: Value,
    read: impl FnOnce(&mut Fields<'_>) -> Option<T>,
) -> Result<T, ApiError> {
    let mut problems = Problems::default();
    match object(body, "", &mut problems, read).flatten() {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(invalid(problems)),
    }
}

/// 422 with everything that is wrong.
pub(crate) fn invalid(problems: Problems) -> ApiError {
    ApiError::invalid(StatusCode::UNPROCESSABLE_ENTITY, problems)
}

/// Reads the optional field `comment`.
pub(crate) fn comment(fields: &mut Fields<'_>) -> Option<String> {
    fields.text("comment", TEXT_CHARS_MAX)
}

/// Reads the field `name`, which must be there and not be empty.
pub(crate) fn required_name(fields: &mut Fields<'_>) -> Option<String> {
    if !fields.has("name") {
        fields.missing("name");
    }
    fields.name("name")
}
