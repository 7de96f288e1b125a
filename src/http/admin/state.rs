//! A whole project as a file: export, plan, apply.

use crate::auth;
use crate::auth::Permission;
use crate::auth::Place;
use crate::change::Actual;
use crate::change::DesiredState;
use crate::change::PlannedChange;
use crate::change::STATE_FORMAT;
use crate::change::readable_config;
use crate::change::readable_definition;
use crate::change::readable_segment;
use crate::change::readable_settings;
use crate::control::StateApplied;
use crate::control::StateRequest;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::import::NoteBody;
use crate::http::admin::invalid;
use crate::http::authorized::Authorized;
use crate::http::authorized::ImportFlags;
use crate::http::authorized::ReadProject;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::Keys;
use crate::http::extract::NoParams;
use crate::http::extract::Params;
use crate::http::json_body::IMPORT_BODY_BYTES_MAX;
use crate::http::json_body::collect;
use crate::http::json_body::parse;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::segment::Segment;
use crate::store::Made;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Who looks after what is applied without an owner.
const DEFAULT_OWNER: &str = "code";

/// A project as it is to be.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct StateBody {
    /// What the project is to be, as `export` returns it; what is left out stays as it is.
    #[schema(value_type = Object)]
    state: Value,
    /// Why; kept in the audit log.
    comment: Option<String>,
    /// Who looks after what is in it; `code` if it is left out.
    owner: Option<String>,
    /// Archives flags and deletes segments that the owner applied before and that are not in it any more.
    prune: Option<bool>,
    /// Prunes also more than a tenth of them.
    force: Option<bool>,
    /// The versions of environments that the plan was made at; 409 if one has changed since.
    versions: Option<BTreeMap<String, i64>>,
}

/// What changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatePlanBody {
    dry_run: bool,
    /// What changes; empty if everything is so already.
    changes: Vec<PlannedChangeBody>,
    /// What is left alone, and what makes no sense but is kept.
    notes: Vec<NoteBody>,
    /// The versions of the environments, after it.
    versions: BTreeMap<String, i64>,
}

/// A thing that changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlannedChangeBody {
    /// `create`, `update`, `archive` or `delete`.
    op: &'static str,
    /// `project`, `environment`, `segment`, `flag` or `configuration`.
    kind: &'static str,
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvKey>,
    details: Vec<PlannedDetailBody>,
    /// Who last changed what is there; only of a plan, and absent if it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_changed: Option<LastChanged>,
}

/// Who last changed something, and when.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastChanged {
    /// The name of the token.
    by: String,
    #[schema(value_type = String)]
    at: Timestamp,
    /// As the audit log names it.
    action: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    /// The entry of the audit log.
    audit_id: String,
}

/// A field that differs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlannedDetailBody {
    field: String,
    before: Option<Value>,
    after: Option<Value>,
    /// Both in words.
    text: String,
}

impl PlannedChangeBody {
    fn new(change: PlannedChange, origin: Option<Made>) -> Self {
        let PlannedChange { op, kind, key, environment, details } = change;
        let details = details.into_iter().map(|it| PlannedDetailBody {
            field: it.field,
            before: it.before,
            after: it.after,
            text: it.text,
        });
        let last_changed = origin.map(|Made { audit_id, at, actor, action, comment, .. }| {
            LastChanged { by: actor.name, at, action, comment, audit_id }
        });
        Self { op, kind, key, environment, details: details.collect(), last_changed }
    }
}

/// Exports a project: its environments, flags with their configurations, and segments, but no tokens.
///
/// The same content is always the same text. What it returns can be applied here or elsewhere.
#[utoipa::path(get, path = "/api/v1/projects/{project}/export", tag = "projects",
    params(("project" = String, Path)),
    responses((status = 200, description = "The project.", body = Object)))]
pub(crate) async fn export_state(
    State(state): State<AdminState>,
    _: Authorized<ReadProject>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let actual = state.control.state(&project).await?;
    Ok(Json(render(&project, &actual)))
}

/// Says what applying a project would change; nothing is written.
#[utoipa::path(post, path = "/api/v1/projects/{project}/plan", tag = "projects",
    params(("project" = String, Path)), request_body = StateBody,
    responses((status = 200, description = "What would change.", body = StatePlanBody)))]
pub(crate) async fn plan_state(
    State(state): State<AdminState>,
    caller: Authorized<ReadProject>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<NoParams>,
    body: Body,
) -> Result<Json<StatePlanBody>, ApiError> {
    let (mut request, comment) = read(body, &project).await?;
    (request.may_manage, request.may_create) = (true, true);
    let author = caller.author(comment).rehearsing();
    let applied = state.control.apply_state(&author, &project, &request).await?;
    Ok(Json(answer(applied, true)))
}

/// Makes a project what is sent: creates what is missing, changes what differs, and leaves alone what is not named.
///
/// Everything is one transaction, with one entry in the audit log and one version for each environment that changes. A flag that
/// was killed stays killed. To create the project, the token must be an administrator's of the installation.
#[utoipa::path(post, path = "/api/v1/projects/{project}/apply", tag = "projects",
    params(("project" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen.")),
    request_body = StateBody,
    responses((status = 200, description = "What was changed.", body = StatePlanBody),
        (status = 409, description = "An environment has changed since the plan, or too much would be pruned.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn apply_state(
    State(state): State<AdminState>,
    caller: Authorized<ImportFlags>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<PatchQuery>,
    body: Body,
) -> Result<Json<StatePlanBody>, ApiError> {
    let (mut request, comment) = read(body, &project).await?;
    let may = |permission, place| is_allowed(&caller, permission, place);
    request.may_manage = may(Permission::ManageProject, Place::Project(&project));
    request.may_create = may(Permission::ManageInstallation, Place::Installation);
    let author = caller.author(comment);
    let applied = state.control.apply_state(&author, &project, &request).await?;
    Ok(Json(answer(applied, author.is_rehearsing())))
}

fn is_allowed(caller: &Caller, permission: Permission, place: Place<'_>) -> bool {
    auth::require(caller.grant(), permission, place).is_ok()
}

async fn read(
    body: Body,
    project: &ProjectKey,
) -> Result<(StateRequest, Option<String>), ApiError> {
    let bytes = collect(body, IMPORT_BODY_BYTES_MAX).await?;
    let body = parse(&bytes)?;
    let (state, mut request, comment) = decode(body, |fields| {
        let comment = comment(fields);
        let owner = fields.text("owner", NAME_CHARS_MAX).filter(|owner| !owner.is_empty());
        let is_pruning = fields.flag("prune").unwrap_or(false);
        let is_forced = fields.flag("force").unwrap_or(false);
        let mut if_versions = BTreeMap::new();
        if let Some(given) = fields.take("versions") {
            match given.as_object() {
                None => fields.refuse("versions", "wrong_type", "must be an object"),
                Some(given) => {
                    for (env, version) in given {
                        match (EnvKey::parse(env), version.as_i64()) {
                            (Some(env), Some(version)) => _ = if_versions.insert(env, version),
                            _ => fields.refuse(
                                "versions",
                                "wrong_type",
                                "must map keys of environments to whole numbers",
                            ),
                        }
                    }
                }
            }
        }
        let state = fields.take("state");
        if state.is_none() {
            fields.missing("state");
        }
        let request = StateRequest {
            desired: DesiredState::default(),
            owner: owner.unwrap_or_else(|| DEFAULT_OWNER.to_owned()),
            is_pruning,
            is_forced,
            if_versions,
            may_manage: false,
            may_create: false,
        };
        Some((state?, request, comment))
    })?;
    request.desired = DesiredState::read(state, project).map_err(invalid)?;
    Ok((request, comment))
}

fn answer(applied: StateApplied, dry_run: bool) -> StatePlanBody {
    let StateApplied { plan, versions, origins } = applied;
    let origins = origins.into_iter().chain(std::iter::repeat(None));
    let changes = plan.changes.into_iter().zip(origins);
    StatePlanBody {
        dry_run,
        changes: changes.map(|(it, origin)| PlannedChangeBody::new(it, origin)).collect(),
        notes: plan.notes.into_iter().map(NoteBody::from).collect(),
        versions: versions.into_iter().map(|(env, version)| (env.to_string(), version)).collect(),
    }
}

/// A project as a file has it.
fn render(project: &ProjectKey, actual: &Actual) -> Value {
    let live = actual.definitions.iter().filter(|(_, (_, is_deleted))| !is_deleted);
    let live: BTreeMap<_, _> = live.map(|(key, (definition, _))| (key, definition)).collect();
    let environments: Map<String, Value> = actual
        .environments
        .iter()
        .map(|(env, here)| (env.to_string(), Value::Object(readable_settings(&here.settings))))
        .collect();
    let flag = |(key, definition): (&FlagKey, &FlagDefinition)| {
        let mut fields = readable_definition(definition);
        let configs: Map<String, Value> = actual
            .environments
            .iter()
            .filter_map(|(env, here)| {
                let (config, _) = here.flags.get(key)?;
                Some((env.to_string(), Value::Object(readable_config(config, definition, &live))))
            })
            .collect();
        fields.insert("environments".to_owned(), Value::Object(configs));
        (key.to_string(), Value::Object(fields))
    };
    let flags: Map<String, Value> = live.iter().map(|(key, it)| flag((*key, *it))).collect();
    let segments: Map<String, Value> = actual
        .environments
        .iter()
        .filter(|(_, here)| !here.segments.is_empty())
        .map(|(env, here)| {
            let segment = |(key, it): (&SegmentKey, &Segment)| {
                (key.to_string(), Value::Object(readable_segment(it)))
            };
            (env.to_string(), Value::Object(here.segments.iter().map(segment).collect()))
        })
        .collect();
    json!({
        "format": STATE_FORMAT,
        "project": {"key": project.as_str(), "name": actual.name},
        "environments": environments,
        "flags": flags,
        "segments": segments,
    })
}
