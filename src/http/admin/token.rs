//! Tokens: of one environment, and administration tokens with a wider scope.

use crate::auth::Denied;
use crate::auth::includes;
use crate::auth::new_secret;
use crate::clock::Clock;
use crate::control::Author;
use crate::control::TokenRequest;
use crate::http::AdminState;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::page::PageQuery;
use crate::http::admin::page::PageWanted;
use crate::http::admin::page::Paged;
use crate::http::admin::required_name;
use crate::http::authorized::Authorized;
use crate::http::authorized::ManageOwnTokens;
use crate::http::authorized::ManageTokens;
use crate::http::authorized::ReadOwnTokens;
use crate::http::authorized::ReadTokens;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::http::json_body::OptionalJsonBody;
use crate::model::decode::Fields;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Grant;
use crate::model::token::HOLDERS;
use crate::model::token::Holder;
use crate::model::token::ROLES;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::TOKEN_KINDS;
use crate::model::token::TokenKind;
use crate::store::TokenRecord;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// Seconds for which the secret before a rotation may work on: up to 30 days.
const OVERLAP_SECS: RangeInclusive<i64> = 0..=2_592_000;
/// 7 days.
const OVERLAP_DEFAULT_SECS: i64 = 604_800;
/// Characters of a time.
const TIME_CHARS_MAX: usize = 64;

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
    /// Who holds it; only of administration tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<Holder>,
    /// The last characters of the token.
    hint: String,
    #[schema(value_type = String)]
    created_at: Timestamp,
    created_by: String,
    /// When it stops working; absent if it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
    /// When it was last used, a minute late; for client and mobile tokens only the day.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
    /// The secret before the last rotation, as long as it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<PreviousBody>,
}

/// A secret that was replaced and works for a while.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PreviousBody {
    /// Until when it works.
    #[schema(value_type = String)]
    expires_at: Timestamp,
    /// When it was last used, a minute late.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    last_used_at: Option<Timestamp>,
}

/// A token that has just been made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TokenCreated {
    #[serde(flatten)]
    listed: TokenBody,
    /// The token itself; shown only now, and not by a dry run, which makes none.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

impl TokenCreated {
    /// Shows a secret, unless it was not kept.
    fn new(record: TokenRecord, secret: String, is_rehearsal: bool) -> Self {
        let mut listed = TokenBody::from(record);
        if is_rehearsal {
            listed.hint.clear();
        }
        Self { listed, token: (!is_rehearsal).then_some(secret) }
    }
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
            holder: record.grant.holder,
            hint: record.hint,
            created_at: record.created_at,
            created_by: record.created_by,
            expires_at: record.grant.expires_at,
            last_used_at: record.last_used_at,
            previous: record.previous.filter(|previous| previous.expires_at > Clock.now()).map(
                |previous| PreviousBody {
                    expires_at: previous.expires_at,
                    last_used_at: previous.last_used_at,
                },
            ),
        }
    }
}

/// A token of one environment that is to be made.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct NewEnvironmentToken {
    /// For people.
    name: String,
    kind: TokenKind,
    /// Needed for `admin`, and only there.
    role: Option<Role>,
    /// Only for `admin`; `service`, if it is left out.
    holder: Option<Holder>,
    /// When it stops working, at most a year from now for `personal` tokens, which need it.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
}

/// An administration token that is to be made.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct NewAdminToken {
    /// For people.
    name: String,
    role: Role,
    /// The project that it reaches; all, if it is left out.
    project: Option<ProjectKey>,
    /// `service`, if it is left out.
    holder: Option<Holder>,
    /// When it stops working, at most a year from now for `personal` tokens, which need it.
    #[schema(value_type = Option<String>)]
    expires_at: Option<Timestamp>,
}

/// How a token is to be rotated.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct Rotation {
    /// For how many seconds the secret before works on: up to 2,592,000, which is 30 days; 7 days, if it is left out.
    overlap_secs: Option<u64>,
}

/// Lists the tokens of an environment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/tokens", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path),
        ("limit" = Option<u32>, Query, description = "Tokens in one answer, at most 1,000; all if it is left out."),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before.")),
    responses((status = 200, description = "The tokens, oldest first.", body = Paged<TokenBody>)))]
pub(crate) async fn list_environment_tokens(
    State(state): State<AdminState>,
    _: Authorized<ReadTokens>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Paged<TokenBody>>, ApiError> {
    let wanted = query.read()?;
    state.control.environment(&project, &env).await?;
    let scope = Scope::Environment(project, env);
    let mut tokens = state.control.tokens().await?;
    tokens.retain(|token| token.grant.scope == scope);
    Ok(Json(page_of(&wanted, tokens)))
}

/// A page of tokens, whose ids are in the order in which they were made.
fn page_of(wanted: &PageWanted, tokens: Vec<TokenRecord>) -> Paged<TokenBody> {
    wanted.page_of_all(tokens, |token| token.grant.id.clone(), TokenBody::from)
}

/// Makes a token of an environment; the answer is the only place where it is shown.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/tokens", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path)), request_body = NewEnvironmentToken,
    responses((status = 201, description = "The token.", body = TokenCreated)))]
pub(crate) async fn create_environment_token(
    State(state): State<AdminState>,
    caller: Authorized<ManageTokens>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    let (name, kind, role, (holder, expires_at)) = decode(body, |fields| {
        let name = required_name(fields);
        if !fields.has("kind") {
            fields.missing("kind");
        }
        let kind = fields.word("kind", TOKEN_KINDS);
        let has_role = fields.has("role");
        let role = fields.word("role", ROLES);
        let has_holder = fields.has("holder");
        let term = term(fields);
        match kind {
            Some(TokenKind::Server | TokenKind::Client | TokenKind::Mobile) if has_holder => {
                fields.refuse("holder", "conflicting_fields", "only admin tokens have a holder");
            }
            Some(TokenKind::Admin) if !has_role => fields.missing("role"),
            Some(TokenKind::Server | TokenKind::Client | TokenKind::Mobile) if has_role => {
                fields.refuse("role", "conflicting_fields", "only admin tokens have a role");
            }
            _ => {}
        }
        Some((name?, kind?, role, term))
    })?;
    let scope = Scope::Environment(project, env);
    let holder = (kind == TokenKind::Admin).then(|| holder.unwrap_or(Holder::Service));
    let request = TokenRequest { name, kind, role, scope, holder, expires_at };
    create(&state, &caller, request).await
}

/// Revokes a token of an environment; its streams end.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/environments/{environment}/tokens/{token}", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path), ("token" = String, Path, description = "The token's id.")),
    responses((status = 204, description = "It no longer works.")))]
pub(crate) async fn revoke_environment_token(
    State(state): State<AdminState>,
    caller: Authorized<ManageTokens>,
    Keys((project, env, id)): Keys<(ProjectKey, EnvKey, String)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    let scope = Scope::Environment(project, env);
    let may = |each: &Grant| may_handle(caller.role(), each, each.scope == scope);
    state.control.revoke_token(&caller.author(None), &id, may).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists the administration tokens that are wider than one environment, as far as they are within the token's scope.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens",
    params(
        ("limit" = Option<u32>, Query, description = "Tokens in one answer, at most 1,000; all if it is left out."),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before.")),
    responses((status = 200, description = "The tokens, oldest first.", body = Paged<TokenBody>)))]
pub(crate) async fn list_tokens(
    State(state): State<AdminState>,
    caller: Authorized<ReadOwnTokens>,
    Params(query): Params<PageQuery>,
) -> Result<Json<Paged<TokenBody>>, ApiError> {
    let wanted = query.read()?;
    let mut tokens = state.control.tokens().await?;
    tokens.retain(|token| is_wide_within(&token.grant.scope, &caller.grant().scope));
    Ok(Json(page_of(&wanted, tokens)))
}

/// Makes an administration token for a project or for the installation; the answer is the only place where it is shown.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", request_body = NewAdminToken,
    responses((status = 201, description = "The token.", body = TokenCreated)))]
pub(crate) async fn create_token(
    State(state): State<AdminState>,
    caller: Authorized<ManageOwnTokens>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    let (name, role, project, (holder, expires_at)) = decode(body, |fields| {
        let name = required_name(fields);
        if !fields.has("role") {
            fields.missing("role");
        }
        let role = fields.word("role", ROLES);
        let project = fields.key("project", ProjectKey::parse);
        let term = term(fields);
        Some((name?, role?, project, term))
    })?;
    let scope = project.map_or(Scope::All, Scope::Project);
    if !is_wide_within(&scope, &caller.grant().scope) {
        return Err(Denied::Scope.into());
    }
    let (kind, role) = (TokenKind::Admin, Some(role));
    let holder = Some(holder.unwrap_or(Holder::Service));
    let request = TokenRequest { name, kind, role, scope, holder, expires_at };
    create(&state, &caller, request).await
}

/// Revokes an administration token.
#[utoipa::path(delete, path = "/api/v1/tokens/{token}", tag = "tokens",
    params(("token" = String, Path, description = "The token's id.")),
    responses((status = 204, description = "It no longer works.")))]
pub(crate) async fn revoke_token(
    State(state): State<AdminState>,
    caller: Authorized<ManageOwnTokens>,
    Keys((id,)): Keys<(String,)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    let own = &caller.grant().scope;
    let may = |each: &Grant| may_handle(caller.role(), each, is_wide_within(&each.scope, own));
    state.control.revoke_token(&caller.author(None), &id, may).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Gives a token of an environment another secret, which the answer alone shows; the one before works on for a while.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/tokens/{token}/rotate", tag = "tokens",
    params(("project" = String, Path), ("environment" = String, Path), ("token" = String, Path, description = "The token's id.")),
    request_body = Option<Rotation>,
    responses((status = 200, description = "The token with its new secret.", body = TokenCreated)))]
pub(crate) async fn rotate_environment_token(
    State(state): State<AdminState>,
    caller: Authorized<ManageTokens>,
    Keys((project, env, id)): Keys<(ProjectKey, EnvKey, String)>,
    _: Params<PatchQuery>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<TokenCreated>, ApiError> {
    let scope = Scope::Environment(project, env);
    let may = |each: &Grant| may_handle(caller.role(), each, each.scope == scope);
    rotate(&state, &caller.author(None), &id, body, may).await
}

/// Gives an administration token another secret, which the answer alone shows; the one before works on for a while.
#[utoipa::path(post, path = "/api/v1/tokens/{token}/rotate", tag = "tokens",
    params(("token" = String, Path, description = "The token's id.")), request_body = Option<Rotation>,
    responses((status = 200, description = "The token with its new secret.", body = TokenCreated)))]
pub(crate) async fn rotate_token(
    State(state): State<AdminState>,
    caller: Authorized<ManageOwnTokens>,
    Keys((id,)): Keys<(String,)>,
    _: Params<PatchQuery>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<Json<TokenCreated>, ApiError> {
    let own = &caller.grant().scope;
    let may = |each: &Grant| may_handle(caller.role(), each, is_wide_within(&each.scope, own));
    rotate(&state, &caller.author(None), &id, body, may).await
}

/// Whether a scope is wider than one environment, and within another.
fn is_wide_within(scope: &Scope, own: &Scope) -> bool {
    match scope {
        Scope::All => *own == Scope::All,
        Scope::Project(project) => own.covers_project(project),
        Scope::Environment(..) => false,
    }
}

/// Whether a token may be handed out by one with `role`: nobody hands out more than their own rights.
fn may_hand_out(role: Role, other: Option<Role>) -> Result<(), Denied> {
    match other {
        Some(other) if !includes(role, other) => Err(Denied::Role { needed: Role::Administrator }),
        _ => Ok(()),
    }
}

/// Whether a token may be revoked or rotated; one that is not `within` does not exist.
fn may_handle(role: Role, grant: &Grant, within: bool) -> Result<(), Denied> {
    if within { may_hand_out(role, grant.role) } else { Err(Denied::NotFound) }
}

/// Reads who will hold a token and when it stops working.
fn term(fields: &mut Fields<'_>) -> (Option<Holder>, Option<Timestamp>) {
    let holder = fields.word("holder", HOLDERS);
    let has_expiry = fields.has("expiresAt");
    let text = fields.text("expiresAt", TIME_CHARS_MAX);
    let expires_at = text.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    if has_expiry && text.is_some() && expires_at.is_none() {
        let detail = "must be a time with its offset, like 2027-01-31T12:00:00Z";
        fields.refuse("expiresAt", "invalid_time", detail);
    }
    (holder, expires_at.map(to_seconds))
}

/// Both databases give back what they were given, and nobody needs more.
fn to_seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

async fn create<R>(
    state: &AdminState,
    caller: &Authorized<R>,
    request: TokenRequest,
) -> Result<(StatusCode, Json<TokenCreated>), ApiError> {
    may_hand_out(caller.role(), request.role)?;
    let secret = new_secret(request.kind, state.control.ids);
    let author = caller.author(None);
    let record = state.control.create_token(&author, request, &secret).await?;
    let created = TokenCreated::new(record, secret.token, author.is_rehearsing());
    Ok((StatusCode::CREATED, Json(created)))
}

async fn rotate(
    state: &AdminState,
    author: &Author,
    id: &str,
    body: Value,
    may: impl Fn(&Grant) -> Result<(), Denied>,
) -> Result<Json<TokenCreated>, ApiError> {
    let secs = decode(body, |fields| Some(fields.integer("overlapSecs", OVERLAP_SECS)))?;
    let overlap = SignedDuration::from_secs(secs.unwrap_or(OVERLAP_DEFAULT_SECS));
    let ids = state.control.ids;
    let make = |kind| new_secret(kind, ids);
    let rotated = state.control.rotate_token(author, id, overlap, make, may).await?;
    let (record, secret) = rotated;
    Ok(Json(TokenCreated::new(record, secret.token, author.is_rehearsing())))
}
