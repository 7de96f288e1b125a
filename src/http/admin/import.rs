//! Bringing over an environment of LaunchDarkly.

use crate::change::Import;
use crate::change::ImportedKeys;
use crate::control::ImportRequest;
use crate::control::Imported;
use crate::http::AdminState;
use crate::http::admin::invalid;
use crate::http::authorized::Authorized;
use crate::http::authorized::ImportFlags;
use crate::http::blocking::blocking;
use crate::http::error::ApiError;
use crate::http::extract::Keys;
use crate::http::extract::Params;
use crate::http::json_body::IMPORT_BODY_BYTES_MAX;
use crate::http::json_body::collect;
use crate::http::json_body::parse;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::problem::Problem;
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// A file of flags and segments as LaunchDarkly serves it to its server-side SDKs.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what `Import::read` reads")]
pub(crate) struct LaunchDarklyFile {
    /// The flags, by key.
    #[schema(value_type = Object)]
    flags: serde_json::Value,
    /// The segments, by key.
    #[schema(value_type = Object)]
    segments: serde_json::Value,
}

/// How a file is imported.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ImportQuery {
    /// Only says what would happen.
    #[serde(default)]
    #[expect(dead_code, reason = "only read strictly here; the author knows it from `rehearse`")]
    dry_run: bool,
    /// Overwrites what is there and differs.
    #[serde(default)]
    replace: bool,
}

/// An import that was made, or would be.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImportBody {
    /// The environment's version after it.
    version: i64,
    dry_run: bool,
    flags: ImportedFlagsBody,
    segments: ImportedSegmentsBody,
    /// Why something was refused, what makes no sense in the file and what will be done with it, and what was not brought
    /// over.
    notes: Vec<NoteBody>,
    /// How many notes there are beyond those.
    more_notes: usize,
}

/// What became of each flag of the file, by key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedFlagsBody {
    /// They are new.
    created: Vec<String>,
    /// They were there, and untouched in this environment.
    configured: Vec<String>,
    /// They were there, and were overwritten.
    replaced: Vec<String>,
    /// They were there, just like that.
    unchanged: Vec<String>,
    /// They were not brought over; a note says why.
    refused: Vec<String>,
}

/// What became of each segment of the file, by key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportedSegmentsBody {
    /// They are new.
    created: Vec<String>,
    /// They were there, and were overwritten.
    replaced: Vec<String>,
    /// They were there, just like that.
    unchanged: Vec<String>,
    /// They were not brought over; a note says why.
    refused: Vec<String>,
}

/// What is to be known about a place in the file.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NoteBody {
    /// Where, as a JSON path from the root of the file.
    path: String,
    /// A stable, machine-readable name.
    code: &'static str,
    /// One sentence for people.
    detail: String,
}

impl From<Problem> for NoteBody {
    fn from(problem: Problem) -> Self {
        Self { path: problem.path, code: problem.code, detail: problem.detail }
    }
}

impl From<ImportedKeys> for ImportedFlagsBody {
    fn from(keys: ImportedKeys) -> Self {
        let ImportedKeys { created, configured, replaced, unchanged, refused } = keys;
        Self { created, configured, replaced, unchanged, refused }
    }
}

impl From<ImportedKeys> for ImportedSegmentsBody {
    fn from(keys: ImportedKeys) -> Self {
        let ImportedKeys { created, replaced, unchanged, refused, .. } = keys;
        Self { created, replaced, unchanged, refused }
    }
}

/// Imports the flags and segments of an environment of LaunchDarkly.
///
/// The environment must have been created with `serverSdk` `launchdarkly`. Everything that can be brought over is, in one
/// transaction. The token must be an editor's of the whole project, because the definitions of flags belong to it.
#[utoipa::path(post, path = "/api/v1/projects/{project}/environments/{environment}/import/launchdarkly", tag = "environments",
    params(("project" = String, Path), ("environment" = String, Path),
        ("dryRun" = Option<bool>, Query, description = "Only says what would happen."),
        ("replace" = Option<bool>, Query, description = "Overwrites what is there and differs.")),
    request_body = LaunchDarklyFile,
    responses((status = 200, description = "What became of each flag and segment.", body = ImportBody),
        (status = 409, description = "The environment was not created for LaunchDarkly's SDKs.", body = crate::http::error::ProblemBody),
        (status = 413, description = "The file is larger than 16 MiB.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn import_launchdarkly(
    State(state): State<AdminState>,
    caller: Authorized<ImportFlags>,
    Keys((project, env)): Keys<(ProjectKey, EnvKey)>,
    Params(query): Params<ImportQuery>,
    body: Body,
) -> Result<Json<ImportBody>, ApiError> {
    let bytes = collect(body, IMPORT_BODY_BYTES_MAX).await?;
    let read = move || Import::read(parse(&bytes)?).map_err(invalid);
    // A large file takes long enough to keep other requests waiting.
    let import = blocking(read).await??;
    let request = ImportRequest { import, is_replacing: query.replace };
    let author = caller.author(None);
    let Imported { version, report } =
        state.control.import(&author, &project, &env, request).await?;
    Ok(Json(ImportBody {
        version,
        dry_run: author.is_rehearsing(),
        flags: report.flags.into(),
        segments: report.segments.into(),
        notes: report.notes.into_iter().map(NoteBody::from).collect(),
        more_notes: report.n_more_notes,
    }))
}
