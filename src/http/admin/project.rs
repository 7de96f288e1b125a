//! Projects.

use crate::auth;
use crate::auth::Denied;
use crate::http::AdminState;
use crate::http::admin::Items;
use crate::http::admin::decode;
use crate::http::admin::required_name;
use crate::http::error::ApiError;
use crate::http::extract::AdminCaller;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Grant;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::store::ProjectRecord;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A project.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProjectBody {
    key: ProjectKey,
    name: String,
    #[schema(value_type = String)]
    created_at: Timestamp,
    /// The keys of its environments; only in the answer about one project.
    #[serde(skip_serializing_if = "Option::is_none")]
    environments: Option<Vec<EnvKey>>,
}

impl From<ProjectRecord> for ProjectBody {
    fn from(record: ProjectRecord) -> Self {
        let ProjectRecord { key, name, created_at } = record;
        Self { key, name, created_at, environments: None }
    }
}

/// A project that is to be created.
#[derive(Debug, ToSchema)]
pub(crate) struct NewProject {
    key: ProjectKey,
    /// The key, if it is left out.
    name: Option<String>,
}

/// A new name.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct Rename {
    name: String,
}

/// Whether the project is within the token's scope as a whole or in part.
pub(super) fn reaches(grant: &Grant, project: &ProjectKey) -> bool {
    match &grant.scope {
        Scope::All => true,
        Scope::Project(own) | Scope::Environment(own, _) => own == project,
    }
}

/// Lists the projects that the token reaches.
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects",
    responses((status = 200, description = "The projects, by key.", body = Items<ProjectBody>)))]
pub(crate) async fn list_projects(
    State(state): State<AdminState>,
    caller: AdminCaller,
    _: Params<NoParams>,
) -> Result<Json<Items<ProjectBody>>, ApiError> {
    auth::require_role(caller.grant(), Role::Viewer)?;
    let mut projects = state.control.projects().await?;
    projects.retain(|project| reaches(caller.grant(), &project.key));
    Ok(Json(Items { items: projects.into_iter().map(ProjectBody::from).collect() }))
}

/// Creates a project.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, description = "The project.", body = ProjectBody)))]
pub(crate) async fn create_project(
    State(state): State<AdminState>,
    caller: AdminCaller,
    _: Params<NoParams>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ProjectBody>), ApiError> {
    auth::require_role(caller.grant(), Role::Administrator)?;
    if caller.grant().scope != Scope::All {
        return Err(Denied::Scope.into());
    }
    let new = decode(body, |fields| {
        let key = fields.required_key("key", ProjectKey::parse);
        let name = fields.name("name");
        Some(NewProject { key: key?, name })
    })?;
    let name = new.name.unwrap_or_else(|| new.key.to_string());
    state.control.create_project(&caller.author(None), &new.key, &name).await?;
    let (record, _) = state.control.project(&new.key).await?;
    Ok((StatusCode::CREATED, Json(record.into())))
}

/// Returns a project with the keys of its environments.
#[utoipa::path(get, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)),
    responses((status = 200, description = "The project.", body = ProjectBody)))]
pub(crate) async fn find_project(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((key,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
) -> Result<Json<ProjectBody>, ApiError> {
    auth::require_role(caller.grant(), Role::Viewer)?;
    if !reaches(caller.grant(), &key) {
        return Err(Denied::NotFound.into());
    }
    let (record, environments) = state.control.project(&key).await?;
    let within = |env: &EnvKey| caller.grant().scope.covers_environment(&key, env);
    let environments = environments.into_iter().map(|each| each.key).filter(within).collect();
    Ok(Json(ProjectBody { environments: Some(environments), ..record.into() }))
}

/// Renames a project.
#[utoipa::path(patch, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)), request_body = Rename,
    responses((status = 200, description = "The project.", body = ProjectBody)))]
pub(crate) async fn update_project(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((key,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
    JsonBody(body): JsonBody,
) -> Result<Json<ProjectBody>, ApiError> {
    auth::require_role_in_project(caller.grant(), Role::Administrator, &key)?;
    let name = decode(body, required_name)?;
    state.control.rename_project(&caller.author(None), &key, &name).await?;
    let (record, _) = state.control.project(&key).await?;
    Ok(Json(record.into()))
}

/// Deletes a project with everything in it.
#[utoipa::path(delete, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete_project(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((key,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
) -> Result<StatusCode, ApiError> {
    auth::require_role_in_project(caller.grant(), Role::Administrator, &key)?;
    state.control.delete_project(&caller.author(None), &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
