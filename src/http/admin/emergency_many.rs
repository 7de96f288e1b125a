//! The routes for emergencies of many flags at once.

use crate::control::Selection;
use crate::http::AdminState;
use crate::http::admin::applied::Touched;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::WasBody;
use crate::http::authorized::Authorized;
use crate::http::authorized::Emergency;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::json_body::OptionalJsonBody;
use crate::model::change::Kill;
use crate::model::decode::Fields;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::KEY_RULE;
use crate::model::key::ProjectKey;
use crate::model::limit::KILLED_FLAGS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::TAGS_MAX;
use axum::Extension;
use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// The optional body of a kill or a restore of many flags; what the query names counts as well.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct EmergencyManyBody {
    /// Why; kept in the audit log.
    comment: Option<String>,
    /// These flags.
    flags: Option<Vec<FlagKey>>,
    /// And those that have any of these tags.
    tags: Option<Vec<String>>,
}

/// Flags that are killed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KilledManyBody {
    /// The id of the kill, by which it can be undone; `null` if all were killed already.
    kill: Option<String>,
    project: ProjectKey,
    environment: EnvKey,
    /// The environment's version.
    version: i64,
    #[schema(value_type = String)]
    killed_at: Timestamp,
    /// Those that were killed, by key.
    flags: Vec<KilledFlag>,
    /// Those that were killed already, by key.
    already_killed: Vec<FlagKey>,
    /// Those that are meant, or may be, and were left alone because they cannot be read, by key.
    left_alone: Vec<LeftFlag>,
}

/// One of many flags that were killed.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KilledFlag {
    flag: FlagKey,
    was: WasBody,
}

/// Flags that are no longer killed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RestoredManyBody {
    project: ProjectKey,
    environment: EnvKey,
    /// The environment's version.
    version: i64,
    /// Those that are as before the kill, by key.
    flags: Vec<RestoredFlag>,
    /// Those that were left alone, by key.
    left_alone: Vec<LeftFlag>,
}

/// One of many flags that were restored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RestoredFlag {
    flag: FlagKey,
    /// Whether it is on, as before the kill.
    on: bool,
}

/// One of many flags that were left alone.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LeftFlag {
    flag: FlagKey,
    /// Why, as the end of a sentence that begins with the flag.
    reason: String,
}

/// What a query and a body ask for.
#[derive(Debug, Default)]
struct Wanted {
    environment: EnvironmentQuery,
    selection: Selection,
    kill: Option<String>,
    comment: Option<String>,
}

/// Kills flags by key and by tag, all at once: everyone gets their off variations until they are restored or turned on.
///
/// One version of the environment, one entry in the audit log. Flags that are killed already stay as they are. If a key or a tag
/// names nothing, nothing is killed. A flag that cannot be read is left alone and named, and the others are killed.
#[utoipa::path(post, path = "/kill", tag = "emergencies",
    params(("tag" = Option<Vec<String>>, Query, description = "Flags that have this tag; may be repeated."),
        ("flag" = Option<Vec<String>>, Query, description = "The flag with this key; may be repeated."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = Option<EmergencyManyBody>,
    responses((status = 200, description = "The flags are off for everyone.", body = KilledManyBody),
        (status = 409, description = "None of the flags can be read.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn kill_flags(
    State(state): State<AdminState>,
    caller: Authorized<Emergency>,
    Params(pairs): Params<Vec<(String, String)>>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(Extension<Touched>, Json<KilledManyBody>), ApiError> {
    let wanted = read_wanted(pairs, body, false)?;
    let (project, environment) = find(&caller, &wanted)?;
    let author = caller.author(wanted.comment);
    let control = &state.control;
    let killed = control.kill_many(&author, &project, &environment, &wanted.selection).await?;
    let one = |(flag, kill): (_, Kill)| KilledFlag { flag, was: WasBody { on: kill.was_on } };
    let left = |(flag, reason)| LeftFlag { flag, reason };
    let touched = Touched { project: project.clone(), environment: environment.clone() };
    let body = KilledManyBody {
        kill: killed.id,
        project,
        environment,
        version: killed.version,
        killed_at: killed.at,
        flags: killed.killed.into_iter().map(one).collect(),
        already_killed: killed.already.into_iter().map(|(flag, _)| flag).collect(),
        left_alone: killed.left.into_iter().map(left).collect(),
    };
    Ok((Extension(touched), Json(body)))
}

/// Undoes kills, all at once: by the id of the kill, by tag, or by key.
///
/// By id and by tag, a flag that was changed since the kill is left alone and named, and by tag also one that has the tag and was
/// killed otherwise; by key, the flag is restored and what else was changed stays.
#[utoipa::path(post, path = "/restore", tag = "emergencies",
    params(("kill" = Option<String>, Query, description = "The id of the kill that is undone, and nothing else."),
        ("tag" = Option<Vec<String>>, Query, description = "Kills by this tag; may be repeated."),
        ("flag" = Option<Vec<String>>, Query, description = "The flag with this key; may be repeated."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = Option<EmergencyManyBody>,
    responses((status = 200, description = "The flags are as before, but for those that were left alone.", body = RestoredManyBody),
        (status = 409, description = "There is no kill to undo, or none of the flags can be read.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn restore_flags(
    State(state): State<AdminState>,
    caller: Authorized<Emergency>,
    Params(pairs): Params<Vec<(String, String)>>,
    OptionalJsonBody(body): OptionalJsonBody,
) -> Result<(Extension<Touched>, Json<RestoredManyBody>), ApiError> {
    let wanted = read_wanted(pairs, body, true)?;
    let (project, environment) = find(&caller, &wanted)?;
    let author = caller.author(wanted.comment);
    let control = &state.control;
    let restored = match &wanted.kill {
        Some(id) => control.restore_kill(&author, &project, &environment, id).await?,
        None => control.restore_many(&author, &project, &environment, &wanted.selection).await?,
    };
    let touched = Touched { project: project.clone(), environment: environment.clone() };
    let flag = |(flag, on)| RestoredFlag { flag, on };
    let left = |(flag, reason)| LeftFlag { flag, reason };
    let body = RestoredManyBody {
        project,
        environment,
        version: restored.version,
        flags: restored.restored.into_iter().map(flag).collect(),
        left_alone: restored.left.into_iter().map(left).collect(),
    };
    Ok((Extension(touched), Json(body)))
}

fn find(caller: &Caller, wanted: &Wanted) -> Result<(ProjectKey, EnvKey), ApiError> {
    let flag = wanted.selection.flags.first().map(FlagKey::as_str);
    let found = caller.environment(&wanted.environment, flag)?;
    Ok((found.project.clone(), found.key.clone()))
}

fn read_wanted(
    pairs: Vec<(String, String)>,
    body: Value,
    takes_kill: bool,
) -> Result<Wanted, ApiError> {
    let invalid = |detail: String| ApiError::bad_request("invalid_query", detail);
    let mut wanted = decode(body, |fields| Some(read_body(fields)))?;
    for (name, value) in pairs {
        let single = match name.as_str() {
            "tag" if value.is_empty() => return Err(invalid("tag must not be empty".to_owned())),
            "tag" => {
                wanted.selection.tags.insert(value);
                continue;
            }
            "flag" => {
                let key = FlagKey::parse(&value);
                let key = key.ok_or_else(|| invalid(format!("flag {KEY_RULE}")))?;
                wanted.selection.flags.insert(key);
                continue;
            }
            "dryRun" if ["true", "false"].contains(&value.as_str()) => continue,
            "dryRun" => return Err(invalid("dryRun must be true or false".to_owned())),
            "project" => &mut wanted.environment.project,
            "environment" => &mut wanted.environment.environment,
            "kill" if takes_kill => &mut wanted.kill,
            _ => return Err(invalid(format!("`{name}` is not a parameter of this route"))),
        };
        if single.replace(value).is_some() {
            return Err(invalid(format!("`{name}` is given twice")));
        }
    }
    let Selection { flags, tags } = &wanted.selection;
    let is_empty = flags.is_empty() && tags.is_empty();
    if wanted.kill.is_some() && !is_empty {
        return Err(invalid("give `kill`, or flags and tags, not both".to_owned()));
    }
    if wanted.kill.is_none() && is_empty {
        let detail = "name flags by ?flag=… or ?tag=…, or in the body as `flags` or `tags`";
        return Err(ApiError::bad_request("selection_required", detail));
    }
    Ok(wanted)
}

fn read_body(fields: &mut Fields<'_>) -> Wanted {
    let comment = comment(fields);
    let path = fields.path("flags");
    let texts = fields.texts("flags", KILLED_FLAGS_MAX, NAME_CHARS_MAX);
    let mut selection = Selection::default();
    for (i, text) in texts.iter().enumerate() {
        match FlagKey::parse(text) {
            Some(key) => _ = selection.flags.insert(key),
            None => fields.problems().add(format!("{path}[{i}]"), "invalid_key", KEY_RULE),
        }
    }
    selection.tags.extend(fields.texts("tags", TAGS_MAX, NAME_CHARS_MAX));
    Wanted { selection, comment, ..Wanted::default() }
}
