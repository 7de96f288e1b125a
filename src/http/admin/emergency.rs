//! The routes for emergencies: short enough to be typed at 3 a.m.

use crate::control::Selection;
use crate::http::AdminState;
use crate::http::admin::applied::Touched;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::WasBody;
use crate::http::authorized::Authorized;
use crate::http::authorized::Emergency;
use crate::http::error::ApiError;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::http::json_body::OptionalJsonBody;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// Which environment is meant, for tokens that reach several.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct EmergencyQuery {
    project: Option<String>,
    environment: Option<String>,
    #[serde(default)]
    #[expect(dead_code, reason = "is heeded before, and must be true or false")]
    dry_run: bool,
}

impl From<EmergencyQuery> for EnvironmentQuery {
    fn from(query: EmergencyQuery) -> Self {
        Self { project: query.project, environment: query.environment }
    }
}

/// The optional body of a kill or a restore.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct EmergencyBody {
    /// Why; kept in the audit log.
    comment: Option<String>,
}

/// A flag that is killed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KilledBody {
    flag: FlagKey,
    project: ProjectKey,
    environment: EnvKey,
    /// The environment's version.
    version: i64,
    /// The id of the kill, by which it can be undone.
    kill: String,
    #[schema(value_type = String)]
    killed_at: Timestamp,
    was: WasBody,
}

/// A flag that is no longer killed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoredBody {
    flag: FlagKey,
    project: ProjectKey,
    environment: EnvKey,
    /// The environment's version.
    version: i64,
    /// Whether the flag is on, as before the kill.
    on: bool,
}

/// Kills a flag: everyone gets its off variation until it is restored or turned on.
///
/// Needs no body. A token of one environment says which is meant; others add `?project=…&environment=…` unless only one
/// environment has the flag. Killing a killed flag succeeds and changes nothing,
/// but a kill of a trigger becomes that of the caller, and the end of the alert does not undo it any more.
#[utoipa::path(post, path = "/kill/{flag}", tag = "emergencies",
    params(("flag" = String, Path),
        ("project" = Option<String>, Query, description = "Needed only if several environments have the flag."),
        ("environment" = Option<String>, Query, description = "Needed only if several environments have the flag.")),
    request_body = Option<EmergencyBody>,
    responses((status = 200, description = "The flag is off for everyone.", body = KilledBody),
        (status = 409, description = "The flag cannot be read.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn kill_flag(
    State(state): State<AdminState>,
    caller: Authorized<Emergency>,
    Keys((flag,)): Keys<(FlagKey,)>,
    Params(wanted): Params<EmergencyQuery>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(Extension<Touched>, Json<KilledBody>), ApiError> {
    let found = caller.environment(&wanted.into(), Some(flag.as_str()))?;
    let (project, environment) = (found.project.clone(), found.key.clone());
    let comment = decode(body, |fields| Some(comment(fields)))?;
    let author = caller.author(comment);
    let one = Selection::one(&flag);
    let killed = state.control.kill_many(&author, &project, &environment, &one).await?;
    let version = killed.version;
    let kill = killed.killed.into_iter().chain(killed.already).next();
    let (_, kill) =
        kill.ok_or_else(|| ApiError::not_found(format!("there is no flag `{flag}`")))?;
    let (was, killed_at, kill) = (WasBody { on: kill.was_on }, kill.at, kill.id);
    let touched = Touched { project: project.clone(), environment: environment.clone() };
    let body = KilledBody { flag, project, environment, version, kill, killed_at, was };
    Ok((Extension(touched), Json(body)))
}

/// Undoes a kill: the flag is on or off as before; whatever else was changed since stays.
#[utoipa::path(post, path = "/restore/{flag}", tag = "emergencies",
    params(("flag" = String, Path),
        ("project" = Option<String>, Query, description = "Needed only if several environments have the flag."),
        ("environment" = Option<String>, Query, description = "Needed only if several environments have the flag.")),
    request_body = Option<EmergencyBody>,
    responses((status = 200, description = "The flag is as before.", body = RestoredBody),
        (status = 409, description = "There is no kill to undo, or the flag cannot be read.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn restore_flag(
    State(state): State<AdminState>,
    caller: Authorized<Emergency>,
    Keys((flag,)): Keys<(FlagKey,)>,
    Params(wanted): Params<EmergencyQuery>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(Extension<Touched>, Json<RestoredBody>), ApiError> {
    let found = caller.environment(&wanted.into(), Some(flag.as_str()))?;
    let (project, environment) = (found.project.clone(), found.key.clone());
    let comment = decode(body, |fields| Some(comment(fields)))?;
    let author = caller.author(comment);
    let one = Selection::one(&flag);
    let restored = state.control.restore_many(&author, &project, &environment, &one).await?;
    let (version, on) = (restored.version, restored.restored.iter().any(|(_, on)| *on));
    let touched = Touched { project: project.clone(), environment: environment.clone() };
    Ok((Extension(touched), Json(RestoredBody { flag, project, environment, version, on })))
}
