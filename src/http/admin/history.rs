//! Accepting that the database has lost what replicas have served.

use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::authorized::Authorized;
use crate::http::authorized::ManageInstallation;
use crate::http::error::ApiError;
use crate::http::extract::Params;
use crate::http::json_body::OptionalJsonBody;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

/// The route by which it is accepted.
pub(crate) const ACCEPT: &str = "/api/v1/history/accept";

/// A history that was accepted as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AcceptedBody {
    /// The epoch that begins with it; all replicas take what the database has.
    epoch: i64,
    /// What is missing in it, in words.
    lost: String,
}

/// Accepts that the database lacks what was served, as after a restored backup: all replicas take what is there.
///
/// Needs an administrator's token whose scope is the installation.
#[utoipa::path(post, path = ACCEPT, tag = "emergencies",
    request_body = Option<super::emergency::EmergencyBody>,
    responses((status = 200, description = "It is accepted.", body = AcceptedBody),
        (status = 409, description = "The database lacks nothing, or is another installation's.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn accept_history(
    State(state): State<AdminState>,
    caller: Authorized<ManageInstallation>,
    _: Params<PatchQuery>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<AcceptedBody>, ApiError> {
    let comment = decode(body, |fields| Some(comment(fields)))?;
    let accepted = state.control.accept_history(&caller.author(comment)).await?;
    Ok(Json(AcceptedBody { epoch: accepted.epoch, lost: accepted.lost }))
}
