//! Configurations of flags: what a flag is in one environment.

use crate::change::decode_instructions;
use crate::control::ConfigChange;
use crate::control::ConfigChanged;
use crate::control::StaleFlag;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_list::Facts;
use crate::http::admin::flag_list::Item;
use crate::http::admin::flag_list::ListQuery;
use crate::http::admin::flag_list::Page;
use crate::http::admin::impact::ImpactBody;
use crate::http::admin::usage::DAYS_DEFAULT;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangeConfig;
use crate::http::authorized::ReadEnvironment;
use crate::http::authorized::Versioned;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::change::Kill;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::rule::FlagConfig;
use crate::store::StoredFlag;
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// A flag in one environment: its definition, its configuration, and what is known about both.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FlagBody {
    #[serde(flatten)]
    definition: FlagDefinition,
    #[serde(flatten)]
    config: FlagConfig,
    /// The environment's version at which the flag last changed; also its `ETag`.
    version: i64,
    /// How it was before it was killed, if it is killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    killed: Option<KillBody>,
    #[schema(value_type = String)]
    created_at: Timestamp,
    #[schema(value_type = String)]
    changed_at: Timestamp,
}

/// How a flag was before it was killed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KillBody {
    #[schema(value_type = String)]
    killed_at: Timestamp,
    /// Who did it.
    killed_by: String,
    was: WasBody,
}

/// The state before a kill.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WasBody {
    /// Whether the flag was on.
    pub(crate) on: bool,
}

impl From<Kill> for KillBody {
    fn from(kill: Kill) -> Self {
        Self { killed_at: kill.at, killed_by: kill.by, was: WasBody { on: kill.was_on } }
    }
}

impl From<StoredFlag> for FlagBody {
    fn from(flag: StoredFlag) -> Self {
        let StoredFlag { definition, mut config, killed, version, created_at, changed_at } = flag;
        config.name_clauses();
        let killed = killed.map(KillBody::from);
        Self { definition, config, version, killed, created_at, changed_at }
    }
}

/// The flags of an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlagList {
    #[schema(value_type = Vec<FlagBody>)]
    items: Vec<Item<FlagBody>>,
    /// The environment's version.
    version: i64,
    /// How many there are on all pages.
    total: usize,
    /// The `cursor` of the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// A change of a flag in one environment.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct ConfigPatch {
    /// Why; kept in the audit log.
    comment: Option<String>,
    /// Instructions like `{"kind":"turnFlagOn"}`, applied all or nothing; `docs/changes.md` lists them.
    #[schema(value_type = Vec<Object>)]
    instructions: Vec<Value>,
}

/// A flag that was changed, or would be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FlagChanged {
    flag: FlagBody,
    /// The environment's version after the change.
    version: i64,
    #[serde(flatten)]
    impact: ImpactBody,
}

impl FlagChanged {
    pub(crate) fn new(changed: ConfigChanged) -> Self {
        let ConfigChanged { flag, version, done } = changed;
        let impact = ImpactBody::new(done, Some(&flag.definition));
        Self { flag: FlagBody::from(flag), version, impact }
    }
}

/// Lists the flags of an environment with their configurations; those that are archived only if the filter asks for a state.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/flags", tag = "flags",
    params(("project" = String, Path), ("environment" = String, Path),
        ("limit" = Option<u32>, Query, description = "Flags in one answer, at most 1,000; all if it is left out."),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before."),
        ("filter" = Option<String>, Query, description = "Terms with commas between: `tag:…`, `kind:…`, `state:…`, `stale:…`, or a text. All must apply."),
        ("sort" = Option<String>, Query, description = "`key`, `name` or `created`, with `-` before it to turn it around."),
        ("fields" = Option<String>, Query, description = "Names of fields with commas between; only these are answered.")),
    responses((status = 200, description = "The flags.", body = FlagList)))]
pub(crate) async fn list_environment_flags(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<ListQuery>,
) -> Result<Json<FlagList>, ApiError> {
    let wanted = query.read(true)?;
    let (flags, version) = state.control.flags(&project, &env).await?;
    let mut stale = BTreeMap::new();
    if wanted.asks_for_stale() {
        let (found, _) = state.control.stale_flags(&project, &env, DAYS_DEFAULT).await?;
        let of = |found: StaleFlag| (found.flag.definition.key, found.reasons);
        stale.extend(found.into_iter().map(of));
    }
    let facts = |flag: &StoredFlag| (flag.config.on, flag.killed.is_some());
    let page = wanted.page(
        flags,
        |flag| Facts {
            definition: &flag.definition,
            switches: Some(facts(flag)),
            created_at: Some(flag.created_at),
            stale: stale.get(&flag.definition.key).cloned().unwrap_or_default(),
        },
        FlagBody::from,
    );
    let Page { items, total, next } = page;
    Ok(Json(FlagList { items, version, total, next }))
}

/// Returns a flag with its configuration in an environment.
#[utoipa::path(get, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}", tag = "flags",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path)),
    responses((status = 200, description = "The flag.", body = FlagBody)))]
pub(crate) async fn find_environment_flag(
    State(state): State<AdminState>,
    _: Authorized<ReadEnvironment>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    _: Params<NoParams>,
) -> Result<impl IntoResponse, ApiError> {
    let flag = state.control.flag(&project, &env, &key).await?;
    Ok(([(header::ETAG, etag_of(flag.version))], Json(FlagBody::from(flag))))
}

/// How a change is made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PatchQuery {
    /// Only says what would happen.
    #[serde(default)]
    #[expect(dead_code, reason = "only read strictly here; the author knows it from `rehearse`")]
    dry_run: bool,
}

/// Changes a flag in one environment by instructions.
///
/// The instructions are applied in order, all or nothing. If everything is so already, the version stays.
#[utoipa::path(patch, path = "/api/v1/projects/{project}/environments/{environment}/flags/{flag}", tag = "flags",
    params(("project" = String, Path), ("environment" = String, Path), ("flag" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen."),
        ("If-Match" = Option<String>, Header, description = "Refuses unless this is the flag's `ETag`.")),
    request_body = ConfigPatch,
    responses((status = 200, description = "The flag and what was done.", body = FlagChanged),
        (status = 412, description = "The flag has changed since.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn update_environment_flag(
    State(state): State<AdminState>,
    caller: Authorized<Versioned<ChangeConfig>>,
    Keys((project, env, key)): Keys<(ProjectKey, EnvKey, FlagKey)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<impl IntoResponse, ApiError> {
    let if_version = caller.if_version()?;
    let raw = body.get("instructions").map(Value::to_string).unwrap_or_default();
    let (instructions, comment) = decode(body, |fields| {
        let comment = comment(fields);
        Some((decode_instructions(fields), comment))
    })?;
    let change = ConfigChange { instructions, raw, if_version };
    let author = caller.author(comment);
    let changed = state.control.change_config(&author, &project, &env, &key, change).await?;
    Ok(changed_flag(changed))
}

/// Answers with a flag that was changed, and its `ETag`.
pub(crate) fn changed_flag(changed: ConfigChanged) -> impl IntoResponse {
    let etag = [(header::ETAG, etag_of(changed.flag.version))];
    (etag, Json(FlagChanged::new(changed)))
}

/// The `ETag` of what has a version.
pub(crate) fn etag_of(version: i64) -> String {
    format!("\"{version}\"")
}
