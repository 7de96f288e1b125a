//! Projects.

use crate::http::AdminState;
use crate::http::admin::Items;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::required_name;
use crate::http::authorized::Authorized;
use crate::http::authorized::DeleteProject;
use crate::http::authorized::ManageInstallation;
use crate::http::authorized::ManageProject;
use crate::http::authorized::ReadOwn;
use crate::http::authorized::ReadPartOfProject;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
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

/// Lists the projects that the token reaches.
#[utoipa::path(get, path = "/api/v1/projects", tag = "projects",
    responses((status = 200, description = "The projects, by key.", body = Items<ProjectBody>)))]
pub(crate) async fn list_projects(
    State(state): State<AdminState>,
    caller: Authorized<ReadOwn>,
    _: Params<NoParams>,
) -> Result<Json<Items<ProjectBody>>, ApiError> {
    let mut projects = state.control.projects().await?;
    projects.retain(|project| caller.grant().scope.reaches_project(&project.key));
    Ok(Json(Items { items: projects.into_iter().map(ProjectBody::from).collect() }))
}

/// Creates a project.
#[utoipa::path(post, path = "/api/v1/projects", tag = "projects", request_body = NewProject,
    responses((status = 201, description = "The project.", body = ProjectBody)))]
pub(crate) async fn create_project(
    State(state): State<AdminState>,
    caller: Authorized<ManageInstallation>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<ProjectBody>), ApiError> {
    let new = decode(body, |fields| {
        let key = fields.required_key("key", ProjectKey::parse);
        let name = fields.name("name");
        Some(NewProject { key: key?, name })
    })?;
    let name = new.name.unwrap_or_else(|| new.key.to_string());
    let record = state.control.create_project(&caller.author(None), &new.key, &name).await?;
    Ok((StatusCode::CREATED, Json(record.into())))
}

/// Returns a project with the keys of its environments.
#[utoipa::path(get, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)),
    responses((status = 200, description = "The project.", body = ProjectBody)))]
pub(crate) async fn find_project(
    State(state): State<AdminState>,
    caller: Authorized<ReadPartOfProject>,
    Keys((key,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
) -> Result<Json<ProjectBody>, ApiError> {
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
    caller: Authorized<ManageProject>,
    Keys((key,)): Keys<(ProjectKey,)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<Json<ProjectBody>, ApiError> {
    let name = decode(body, required_name)?;
    let record = state.control.rename_project(&caller.author(None), &key, &name).await?;
    Ok(Json(record.into()))
}

/// Deletes a project with everything in it.
#[utoipa::path(delete, path = "/api/v1/projects/{project}", tag = "projects",
    params(("project" = String, Path)),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete_project(
    State(state): State<AdminState>,
    caller: Authorized<DeleteProject>,
    Keys((key,)): Keys<(ProjectKey,)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    state.control.delete_project(&caller.author(None), &key).await?;
    Ok(StatusCode::NO_CONTENT)
}
