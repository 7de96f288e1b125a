//! Definitions of flags.

use crate::change::decode_definition_instructions;
use crate::control::DefinitionChange;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::flag_list::Facts;
use crate::http::admin::flag_list::Item;
use crate::http::admin::flag_list::ListQuery;
use crate::http::admin::flag_list::Order;
use crate::http::admin::flag_list::Page;
use crate::http::admin::impact::ImpactBody;
use crate::http::admin::invalid;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangeFlag;
use crate::http::authorized::CreateFlag;
use crate::http::authorized::ReadProject;
use crate::http::authorized::Versioned;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::flag::ClientSideAvailability;
use crate::model::flag::Defaults;
use crate::model::flag::FlagDefinition;
use crate::model::flag::FlagEnd;
use crate::model::flag::FlagKind;
use crate::model::flag::Variation;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderName;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::AppendHeaders;
use axum::response::IntoResponse;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A flag that is to be created.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `FlagDefinition::decode` reads")]
pub(crate) struct NewFlag {
    key: FlagKey,
    /// The key, if it is left out.
    name: Option<String>,
    description: Option<String>,
    kind: FlagKind,
    /// May be left out for a boolean flag: then `on` is true and `off` is false.
    variations: Option<Vec<Variation>>,
    tags: Option<Vec<String>>,
    temporary: Option<bool>,
    /// When it is to be gone: the end of a day like `2027-01-31`, UTC, or a time; only of a temporary flag.
    temporary_until: Option<FlagEnd>,
    client_side_availability: Option<ClientSideAvailability>,
    /// Who looks after it.
    maintainer: Option<String>,
    /// If it is left out, the first variation is served when the flag is on and the last when it is off.
    defaults: Option<Defaults>,
}

/// A change of a flag's definition.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct DefinitionPatch {
    /// Why; kept in the audit log.
    comment: Option<String>,
    /// Instructions like `{"kind":"updateName","value":"…"}`, applied all or nothing.
    #[schema(value_type = Vec<Object>)]
    instructions: Vec<Value>,
}

/// A definition that was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DefinitionChanged {
    flag: FlagDefinition,
    #[serde(flatten)]
    impact: ImpactBody,
}

/// Flags of a project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DefinitionList {
    #[schema(value_type = Vec<FlagDefinition>)]
    items: Vec<Item<FlagDefinition>>,
    /// How many there are on all pages.
    total: usize,
    /// The `cursor` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Lists the flags of a project; those that are archived only if the filter asks for a state.
#[utoipa::path(get, path = "/api/v1/projects/{project}/flags", tag = "flags",
    params(("project" = String, Path),
        ("limit" = Option<u32>, Query, description = "Flags in one answer, at most 1,000; all if it is left out."),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before."),
        ("filter" = Option<String>, Query, description = "Terms with commas between: `tag:…`, `kind:…`, `state:…`, or a text. All must apply."),
        ("sort" = Option<String>, Query, description = "`key`, `name` or `created`, with `-` before it to turn it around."),
        ("fields" = Option<String>, Query, description = "Names of fields with commas between; only these are answered.")),
    responses((status = 200, description = "The definitions.", body = DefinitionList)))]
pub(crate) async fn list_flags(
    State(state): State<AdminState>,
    _: Authorized<ReadProject>,
    Keys((project,)): Keys<(ProjectKey,)>,
    Params(query): Params<ListQuery>,
) -> Result<Json<DefinitionList>, ApiError> {
    let wanted = query.read(false)?;
    let definitions = state.control.definitions(&project).await?;
    let times = match wanted.order {
        Order::Created => state.control.definition_times(&project).await?,
        Order::Key | Order::Name => BTreeMap::new(),
    };
    let facts = |definition: &FlagDefinition| times.get(&definition.key).copied();
    let page = wanted.page(
        definitions,
        |definition| Facts {
            definition,
            switches: None,
            created_at: facts(definition),
            stale: Vec::new(),
        },
        |definition| definition,
    );
    let Page { items, total, next } = page;
    Ok(Json(DefinitionList { items, total, next }))
}

/// Creates a flag; in every environment it starts off.
#[utoipa::path(post, path = "/api/v1/projects/{project}/flags", tag = "flags",
    params(("project" = String, Path)), request_body = NewFlag,
    responses((status = 201, description = "The definition.", body = FlagDefinition)))]
pub(crate) async fn create_flag(
    State(state): State<AdminState>,
    caller: Authorized<CreateFlag>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<(StatusCode, Json<FlagDefinition>), ApiError> {
    let definition = FlagDefinition::decode(body).map_err(invalid)?;
    state.control.create_flag(&caller.author(None), &project, &definition).await?;
    Ok((StatusCode::CREATED, Json(definition)))
}

/// Returns a flag's definition.
#[utoipa::path(get, path = "/api/v1/projects/{project}/flags/{flag}", tag = "flags",
    params(("project" = String, Path), ("flag" = String, Path)),
    responses((status = 200, description = "The definition.", body = FlagDefinition)))]
pub(crate) async fn find_flag(
    State(state): State<AdminState>,
    _: Authorized<ReadProject>,
    Keys((project, key)): Keys<(ProjectKey, FlagKey)>,
    _: Params<NoParams>,
) -> Result<impl IntoResponse, ApiError> {
    let definition = state.control.definition(&project, &key).await?;
    Ok((etag(&definition), Json(definition)))
}

/// Changes a flag's definition by instructions.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/flags/{flag}", tag = "flags",
    params(("project" = String, Path), ("flag" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen."),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the definition's `ETag`.")),
    request_body = DefinitionPatch,
    responses((status = 200, description = "The definition and what was done.", body = DefinitionChanged),
        (status = 412, description = "The definition has changed since.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn update_flag(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeFlag>>,
    Keys((project, key)): Keys<(ProjectKey, FlagKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<impl IntoResponse, ApiError> {
    let raw = body.get("instructions").map(Value::to_string).unwrap_or_default();
    let (instructions, comment) = decode(body, |fields| {
        let comment = comment(fields);
        Some((decode_definition_instructions(fields), comment))
    })?;
    let author = caller.author(comment);
    let change = DefinitionChange { instructions, raw, if_tag: caller.if_tag() };
    let changed = state.control.change_definition(&author, &project, &key, change);
    let (flag, done) = changed.await?;
    let impact = ImpactBody::new(done, None);
    let etag = (!author.is_rehearsing()).then(|| etag(&flag));
    Ok((etag, Json(DefinitionChanged { flag, impact })))
}

/// The `ETag` of a definition.
fn etag(definition: &FlagDefinition) -> AppendHeaders<[(HeaderName, String); 1]> {
    AppendHeaders([(header::ETAG, format!("\"{}\"", definition.tag()))])
}

/// Deletes a flag everywhere; its key is never given to another flag.
#[utoipa::path(delete, path = "/api/v1/projects/{project}/flags/{flag}", tag = "flags",
    params(("project" = String, Path), ("flag" = String, Path),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the definition's `ETag`.")),
    responses((status = 204, description = "It is gone."),
        (status = 412, description = "The definition has changed since.", body = crate::http::error::ProblemBody),
        (status = 422, description = "It is a prerequisite of another flag.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn delete_flag(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeFlag>>,
    Keys((project, key)): Keys<(ProjectKey, FlagKey)>,
    _: Params<PatchQuery>,
) -> Result<StatusCode, ApiError> {
    let author = caller.author(None);
    state.control.delete_flag(&author, &project, &key, caller.if_tag()).await?;
    Ok(StatusCode::NO_CONTENT)
}
