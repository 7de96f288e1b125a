//! Tokens: of one environment, and administration tokens with a wider scope.

use crate::auth;
use crate::auth::Denied;
use crate::auth::new_secret;
use crate::control::TokenRequest;
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
use crate::model::token::ROLES;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::TOKEN_KINDS;
use crate::model::token::TokenKind;
use crate::store::TokenRecord;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

/// A token as it is listed: everything but the token itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TokenBody {
    id: String,
    name: String,
    kind: TokenKind,
    /// What it may administer; only of administration tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
    /// The project that it reaches; absent if it reaches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<ProjectKey>,
    /// The environment that it reaches; absent if it reaches all of the project.
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvKey>,
    /// The last characters of the token.
    hint: String,
    #[schema(value_type = String)]
    created_at: Timestamp,
    created_by: String,
}

/// A token that has just been made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenCreated {
    #[serde(flatten)]
    listed: TokenBody,
    /// The token itself; shown only now.
    token: String,
}

impl From<TokenRecord> for TokenBody {
    fn from(record: TokenRecord) -> Self {
        let (project, environment) = match record.grant.scope {
            Scope::All => (None, None),
            Scope::Project(project) => (Some(project), None),
            Scope::Environment(project, env) => (Some(project), Some(env)),
        };
        Self {
            id: record.grant.id,
            name: record.grant.name,
            kind: record.grant.kind,
            role: record.grant.role,
            project,
            environment,
            hint: record.hint,
            created_at: record.created_at,
            created_by: record.created_by,
        }
    }
}

/// A token of one environment that is to be made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct NewEnvironmentToken {
    /// For people.
    name: String,
    kind: TokenKind,
    /// Needed for `admin`, and only there.
    role: Option<Role>,
}

/// An administration token that is to be made.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct NewAdminToken {
    /// For people.
    name: String,
    role: Role,
    /// The project that it reaches; all, if it is left out.
    project: Option<ProjectKey>,
}

/// Lists the tokens of an environment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/tokens", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path)),
    responses((status = 200, description = "The tokens, oldest first.", body = Items<TokenBody>)))]
pub(crate) async fn list_environment_tokens(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    _: Params<NoParams>,
) -> Result<Json<Items<TokenBody>>, ApiError> {
    auth::require_role_in_environment(caller.grant(), Role::Administrator, &project, &env)?;
    state.control.environment(&project, &env).await?;
    let scope = Scope::Environment(project, env);
    let mut tokens = state.control.tokens().await?;
    tokens.retain(|token| token.grant.scope == scope);
    Ok(Json(Items { items: tokens.into_iter().map(TokenBody::from).collect() }))
}

/// Makes a token of an environment; the answer is the only place where it is shown.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/tokens", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = NewEnvironmentToken,
    responses((status = 201, description = "The token.", body = TokenCreated)))]
pub(crate) async fn create_environment_token(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    _: Params<NoParams>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    auth::require_role_in_environment(caller.grant(), Role::Administrator, &project, &env)?;
    let (name, kind, role) = decode(body, |fields| {
        let name = required_name(fields);
        if !fields.has("kind") {
            fields.missing("kind");
        }
        let kind = fields.word("kind", TOKEN_KINDS);
        let has_role = fields.has("role");
        let role = fields.word("role", ROLES);
        match kind {
            Some(TokenKind::Admin) if !has_role => fields.missing("role"),
            Some(TokenKind::Server | TokenKind::Client | TokenKind::Mobile) if has_role => {
                fields.refuse("role", "conflicting_fields", "only admin tokens have a role");
            }
            _ => {}
        }
        Some((name?, kind?, role))
    })?;
    let request = TokenRequest { name, kind, role, scope: Scope::Environment(project, env) };
    create(&state, &caller, request).await
}

/// Revokes a token of an environment; its streams end.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/tokens/{token}", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path), ("token" = String, Path, description = "The token's id.")),
    responses((status = 204, description = "It no longer works.")))]
pub(crate) async fn revoke_environment_token(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((project, env, id)): Keys<(ProjectKey, EnvKey, String)>,
    _: Params<NoParams>,
) -> Result<StatusCode, ApiError> {
    auth::require_role_in_environment(caller.grant(), Role::Administrator, &project, &env)?;
    let scope = Scope::Environment(project, env);
    state.control.revoke_token(&caller.author(None), &id, |each| *each == scope).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the administration tokens that are wider than one environment, as far as they are within the token's scope.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    responses((status = 200, description = "The tokens, oldest first.", body = Items<TokenBody>)))]
pub(crate) async fn list_tokens(
    State(state): State<AdminState>,
    caller: AdminCaller,
    _: Params<NoParams>,
) -> Result<Json<Items<TokenBody>>, ApiError> {
    auth::require_role(caller.grant(), Role::Administrator)?;
    let mut tokens = state.control.tokens().await?;
    tokens.retain(|token| is_wide_within(&token.grant.scope, &caller.grant().scope));
    Ok(Json(Items { items: tokens.into_iter().map(TokenBody::from).collect() }))
}

/// Makes an administration token for a project or for the installation; the answer is the only place where it is shown.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewAdminToken,
    responses((status = 201, description = "The token.", body = TokenCreated)))]
pub(crate) async fn create_token(
    State(state): State<AdminState>,
    caller: AdminCaller,
    _: Params<NoParams>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    auth::require_role(caller.grant(), Role::Administrator)?;
    let (name, role, project) = decode(body, |fields| {
        let name = required_name(fields);
        if !fields.has("role") {
            fields.missing("role");
        }
        let role = fields.word("role", ROLES);
        let project = fields.key("project", ProjectKey::parse);
        Some((name?, role?, project))
    })?;
    let scope = project.map_or(Scope::All, Scope::Project);
    if !is_wide_within(&scope, &caller.grant().scope) {
        return Err(Denied::Scope.into());
    }
    let request = TokenRequest { name, kind: TokenKind::Admin, role: Some(role), scope };
    create(&state, &caller, request).await
}

/// Revokes an administration token.
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", tag = "tokens",
    params(("token" = String, Path, description = "The token's id.")),
    responses((status = 204, description = "It no longer works.")))]
pub(crate) async fn revoke_token(
    State(state): State<AdminState>,
    caller: AdminCaller,
    Keys((id,)): Keys<(String,)>,
    _: Params<NoParams>,
) -> Result<StatusCode, ApiError> {
    auth::require_role(caller.grant(), Role::Administrator)?;
    let own = &caller.grant().scope;
    let is_within = |each: &Scope| is_wide_within(each, own);
    state.control.revoke_token(&caller.author(None), &id, is_within).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether a scope is wider than one environment, and within another.
fn is_wide_within(scope: &Scope, own: &Scope) -> bool {
    match scope {
        Scope::All => *own == Scope::All,
        Scope::Project(project) => own.covers_project(project),
        Scope::Environment(..) => false,
    }
}

async fn create(
    state: &AdminState,
    caller: &AdminCaller,
    request: TokenRequest,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    let secret = new_secret(request.kind, state.control.ids);
    let record = state.control.create_token(&caller.author(None), request, &secret).await?;
    let created = TokenCreated { listed: record.into(), token: secret.token };
    Ok((StatusCode::CREATED, Json(created)))
}
