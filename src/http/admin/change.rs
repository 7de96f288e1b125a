//! Changes of many flags and segments at once.

use crate::auth;
use crate::auth::Permission;
use crate::auth::Place;
use crate::change::decode_definition_instructions;
use crate::change::decode_instructions;
use crate::change::decode_segment_instructions;
use crate::change::has_too_many_patterns;
use crate::control::ChangeSet;
use crate::control::ChangedSet;
use crate::control::Part;
use crate::control::PartChanged;
use crate::http::AdminState;
use crate::http::admin::comment;
use crate::http::admin::decode;
use crate::http::admin::flag_config::PatchQuery;
use crate::http::admin::impact::ImpactBody;
use crate::http::authorized::Authorized;
use crate::http::authorized::ChangePart;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::http::json_body::JsonBody;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::limit::CHANGES_INSTRUCTIONS_MAX;
use crate::model::limit::CHANGES_MAX;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Changes that are made together or not at all.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct ChangeSetBody {
    /// Why; kept in the audit log.
    comment: Option<String>,
    /// In order; each sees what the ones before it did.
    changes: Vec<OneChange>,
}

/// One change: of a flag in an environment, of a flag everywhere (without `environment`), or of a segment.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes a body that is read field by field")]
pub(crate) struct OneChange {
    flag: Option<FlagKey>,
    segment: Option<SegmentKey>,
    environment: Option<EnvKey>,
    /// Refuses all changes unless the flag or segment is at this version in the environment, which its `ETag` names.
    #[schema(minimum = 1)]
    if_version: Option<i64>,
    /// Instructions as the routes of a single flag or segment take them.
    #[schema(value_type = Vec<Object>)]
    instructions: Vec<Value>,
}

/// Changes that were made, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangedSetBody {
    /// The version of each environment that was changed; of each that was named if everything was so already.
    versions: BTreeMap<String, i64>,
    /// What each change did, in the order in which they were sent.
    changes: Vec<OneChanged>,
    /// Whether nothing was written.
    dry_run: bool,
}

/// What one of many changes did.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OneChanged {
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<FlagKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<EnvKey>,
    #[serde(flatten)]
    impact: ImpactBody,
}

/// Changes many flags and segments of a project at once, all or nothing.
///
/// Each environment that is changed gets one new version, and the audit log one entry. Of flags in an environment, the role editor
/// is needed there; of definitions, in the whole project.
#[utoipa::path(post, path = "/api/v1/projects/{project}/changes", tag = "changes",
    params(("project" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen.")),
    request_body = ChangeSetBody,
    responses((status = 200, description = "What was done.", body = ChangedSetBody),
        (status = 412, description = "A flag or segment is not at the version of its `ifVersion`.", body = crate::http::error::ProblemBody),
        (status = 428, description = "An environment asks for `ifVersion`.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn change_many(
    State(state): State<AdminState>,
    caller: Authorized<ChangePart>,
    Keys((project,)): Keys<(ProjectKey,)>,
    _: Params<PatchQuery>,
    JsonBody(body): JsonBody,
) -> Result<Json<ChangedSetBody>, ApiError> {
    let raw = body.get("changes").map(Value::to_string).unwrap_or_default();
    let (parts, comment) = decode(body, |fields| {
        let comment = comment(fields);
        Some((read_parts(fields), comment))
    })?;
    for part in &parts {
        authorize(&caller, &project, part)?;
    }
    if !state.control.snapshots.directory().environments().iter().any(|it| it.project == project) {
        // A project without environments has definitions only; whether it exists, the store knows.
        state.control.project(&project).await?;
    }
    let author = caller.author(comment);
    let names: Vec<_> = parts.iter().map(name_of).collect();
    let set = ChangeSet { parts, raw, claimed: None };
    let ChangedSet { parts, versions } = state.control.change_many(&author, &project, set).await?;
    let one = |((flag, segment, environment), done): (Name, PartChanged)| {
        let definition = done.flag.as_ref().map(|flag| flag.definition.clone());
        let impact = ImpactBody::new(done, definition.as_ref());
        OneChanged { flag, segment, environment, impact }
    };
    let changes = names.into_iter().zip(parts).map(one).collect();
    let versions = versions.into_iter().map(|(env, version)| (env.to_string(), version));
    let dry_run = author.is_rehearsing();
    Ok(Json(ChangedSetBody { versions: versions.collect(), changes, dry_run }))
}

/// Checks that one of the changes may be made; what a protected environment asks for is decided when it is written.
fn authorize(caller: &Caller, project: &ProjectKey, part: &Part) -> Result<(), ApiError> {
    let grant = caller.grant();
    let may = |permission, place| auth::require(grant, permission, place);
    match part {
        Part::Config { env, .. } | Part::Segment { env, .. } => {
            may(Permission::Change, Place::Environment(project, env))?;
        }
        Part::Definition { .. } => {
            may(Permission::Change, Place::Project(project))?;
            if caller.snapshots.directory().has_protected(project) {
                may(Permission::ChangeProtected, Place::Project(project))?;
            }
        }
    }
    Ok(())
}

type Name = (Option<FlagKey>, Option<SegmentKey>, Option<EnvKey>);

fn name_of(part: &Part) -> Name {
    match part {
        Part::Config { env, flag, .. } => (Some(flag.clone()), None, Some(env.clone())),
        Part::Definition { flag, .. } => (Some(flag.clone()), None, None),
        Part::Segment { env, segment, .. } => (None, Some(segment.clone()), Some(env.clone())),
    }
}

/// Reads the field `changes`.
fn read_parts(fields: &mut Fields<'_>) -> Vec<Part> {
    if !fields.has("changes") {
        fields.missing("changes");
    }
    if has_too_much(fields) {
        return Vec::new();
    }
    fields.list("changes", CHANGES_MAX, |item, path, problems| {
        object(item, path, problems, read_part).flatten()
    })
}

/// Refuses and takes the field `changes` if it has more than is read one by one.
pub(super) fn has_too_much(fields: &mut Fields<'_>) -> bool {
    if has_too_many_patterns(fields, "changes") {
        fields.take("changes");
        return true;
    }
    let listed = fields.peek("changes").and_then(Value::as_array).into_iter().flatten();
    let lists = listed.filter_map(|change| change.get("instructions").and_then(Value::as_array));
    let is_over = lists.map(Vec::len).sum::<usize>() > CHANGES_INSTRUCTIONS_MAX;
    if is_over {
        let detail = format!("must have at most {CHANGES_INSTRUCTIONS_MAX} instructions together");
        fields.refuse("changes", "too_many", detail);
        fields.take("changes");
    }
    is_over
}

fn read_part(fields: &mut Fields<'_>) -> Option<Part> {
    let (has_flag, has_segment) = (fields.has("flag"), fields.has("segment"));
    let flag = fields.key("flag", FlagKey::parse);
    let segment = fields.key("segment", SegmentKey::parse);
    let has_environment = fields.has("environment");
    let env = fields.key("environment", EnvKey::parse);
    match (has_flag, has_segment) {
        (true, true) => {
            let detail = "give either `flag` or `segment`, not both";
            fields.refuse("segment", "conflicting_fields", detail);
            fields.take("instructions");
            None
        }
        (false, false) => {
            fields.refuse("flag", "required", "give `flag` or `segment`");
            fields.take("instructions");
            None
        }
        (true, false) if has_environment => {
            let if_version = fields.integer("ifVersion", 1..=i64::MAX);
            let instructions = decode_instructions(fields);
            Some(Part::Config { env: env?, flag: flag?, if_version, instructions })
        }
        (true, false) => {
            let instructions = decode_definition_instructions(fields);
            Some(Part::Definition { flag: flag?, if_tag: None, instructions })
        }
        (false, true) => {
            if !has_environment {
                fields.missing("environment");
            }
            let if_version = fields.integer("ifVersion", 1..=i64::MAX);
            let instructions = decode_segment_instructions(fields);
            Some(Part::Segment { env: env?, segment: segment?, if_version, instructions })
        }
    }
}
