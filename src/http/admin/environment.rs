//! Environments.

use crate::control::EnvironmentChange;
use crate::control::SafetyChange;
use crate::http::AdminState;
use crate::http::admin::Items;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::authorized::Authorized;
use crate::http::authorized::ManageEnvironment;
use crate::http::authorized::ManageProject;
use crate::http::authorized::ReadEnvironment;
use crate::http::authorized::ReadPartOfProject;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::environment::SERVER_SDKS;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::limit::FAIL_CLOSED_SECS;
use crate::store::EnvironmentRecord;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// An environment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EnvironmentBody {
    key: EnvKey,
    name: String,
    /// Which server-side SDKs evaluate its flags by themselves.
    server_sdk: ServerSdk,
    /// After how many seconds without confirmation by the store evaluations end with 503; `null` is never.
    fail_closed_after_secs: Option<u64>,
    /// Whether editors may only turn flags off in it.
    protected: bool,
    /// Whether every change must have a comment.
    require_comment: bool,
    /// Whether every change of a flag must have `If-Match`.
    require_if_match: bool,
    /// Whether browsers must send contexts that a backend has signed.
    secure_mode: bool,
    /// How often it was changed.
    version: i64,
    #[schema(value_type = String)]
    created_at: Timestamp,
}

impl From<EnvironmentRecord> for EnvironmentBody {
    fn from(record: EnvironmentRecord) -> Self {
        let fail_closed_after_secs = record.fail_closed_after.map(|after| after.as_secs());
        let EnvironmentRecord { key, name, server_sdk, version, created_at, safety, .. } = record;
        let Safety { protected, require_comment, require_if_match, secure_mode } = safety;
        Self {
            key,
            name,
            server_sdk,
            fail_closed_after_secs,
            protected,
            require_comment,
            require_if_match,
            secure_mode,
            version,
            created_at,
        }
    }
}

/// An environment that is to be created.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct NewEnvironment {
    key: EnvKey,
    /// The key, if it is left out.
    name: Option<String>,
    /// Which server-side SDKs will evaluate its flags by themselves; cannot be changed later. With `launchdarkly`, every
    /// rollout hashes with `sha1`.
    server_sdk: Option<ServerSdk>,
}

/// What is to be changed about an environment; what is left out stays.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct EnvironmentChangeBody {
    /// For people.
    name: Option<String>,
    /// After how many seconds without confirmation by the store evaluations end with 503, at least 10; `null` is never.
    fail_closed_after_secs: Option<u64>,
    /// Whether editors may only turn flags off in it.
    protected: Option<bool>,
    /// Whether every change must have a comment.
    require_comment: Option<bool>,
    /// Whether every change of a flag must have `If-Match`.
    require_if_match: Option<bool>,
    /// Whether browsers must send contexts that a backend has signed.
    secure_mode: Option<bool>,
}

/// Lists the environments of a project that the token reaches.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments", tag = "environments",
    params(("project" = String, Path)),
    responses((status = 200, description = "The environments, oldest first.", body = Items<EnvironmentBody>)))]
pub(crate) async fn list_environments(
    State(state): State<AdminState>,
    caller: Authorized<ReadPartOfProject>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
) -> Result<Json<Items<EnvironmentBody>>, ApiError> {
    let (_, mut environments) = state.control.project(&project).await?;
    environments.retain(|each| caller.grant().scope.covers_environment(&project, &each.key));
    Ok(Json(Items { items: environments.into_iter().map(EnvironmentBody::from).collect() }))
}

/// Creates an environment, in which every flag of the project starts off.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments", tag = "environments",
    params(("project" = String, Path)), request_body = NewEnvironment,
    responses((status = 201, description = "The environment.", body = EnvironmentBody)))]
pub(crate) async fn create_environment(
    State(state): State<AdminState>,
    caller: Authorized<ManageProject>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<EnvironmentBody>), ApiError> {
    let new = decode(body, |fields| {
        let key = fields.required_key("key", EnvKey::parse);
        let name = fields.name("name");
        let server_sdk = fields.word("serverSdk", SERVER_SDKS);
        Some(NewEnvironment { key: key?, name, server_sdk })
    })?;
    let name = new.name.unwrap_or_else(|| new.key.to_string());
    let server_sdk = new.server_sdk.unwrap_or_default();
    let author = caller.author(None);
    let created = state.control.create_environment(&author, &project, &new.key, &name, server_sdk);
    let environment = created.await?;
    Ok((StatusCode::CREATED, Json(environment.into())))
}

/// Returns an environment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)),
    responses((status = 200, description = "The environment.", body = EnvironmentBody)))]
pub(crate) async fn find_environment(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, key)): Keys<(ProjectKey, EnvKey)>,
    _: Params<NoParams>,
) -> Result<Json<EnvironmentBody>, ApiError> {
    Ok(Json(state.control.environment(&project, &key).await?.into()))
}

/// Changes an environment: its name, or how long evaluations go on without confirmation.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/environments/{environment}", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = EnvironmentChangeBody,
    responses((status = 200, description = "The environment.", body = EnvironmentBody)))]
pub(crate) async fn update_environment(
    State(state): State<AdminState>,
    caller: Authorized<ManageEnvironment>,
    Keys((project, key)): Keys<(ProjectKey, EnvKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<Json<EnvironmentBody>, ApiError> {
    let change = decode(body, |fields| {
        let is_given = fields.peek("failClosedAfterSecs").is_some();
        let secs = fields.integer("failClosedAfterSecs", FAIL_CLOSED_SECS);
        let after = secs.and_then(|secs| u64::try_from(secs).ok()).map(Duration::from_secs);
        Some(EnvironmentChange {
            name: fields.name("name"),
            fail_closed_after: is_given.then_some(after),
            safety: SafetyChange {
                protected: fields.flag("protected"),
                require_comment: fields.flag("requireComment"),
                require_if_match: fields.flag("requireIfMatch"),
                secure_mode: fields.flag("secureMode"),
            },
        })
    })?;
    let author = caller.author(None);
    Ok(Json(state.control.update_environment(&author, &project, &key, change).await?.into()))
}

/// Deletes an environment with everything in it; its tokens stop working.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path)),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete_environment(
    State(state): State<AdminState>,
    caller: Authorized<ManageProject>,
    Keys((project, key)): Keys<(ProjectKey, EnvKey)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    state.control.delete_environment(&caller.author(None), &project, &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
