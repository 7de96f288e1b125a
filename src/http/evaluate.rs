//! Many contexts and many flags in one request: `POST /api/v1/evaluate`.
// HOT: memory only; no lock, no log.
//!
//! Each context is read once, whatever the number of flags. How the answer is written is in `evaluate/answer.rs`.

mod answer;

use crate::eval::CompiledFlag;
use crate::eval::Ruleset;
use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::evaluate::answer::Detail;
use crate::http::evaluate::answer::Rows;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::json_body::parse;
use crate::http::limit::Bounds;
use crate::http::ofrep::is_visible;
use crate::http::position::mark;
use crate::http::position::settle;
use crate::http::position::unconfirmed_ms;
use crate::http::secure::needs_signature;
use crate::model::change::Position;
use crate::model::context::Context;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::limit::KEY_CHARS_MAX;
use crate::model::problem::Problems;
use crate::model::token::TokenKind;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use std::sync::Arc;
use utoipa::ToSchema;

/// Bytes of the body of one request.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Contexts in one request.
const CONTEXTS_MAX: usize = 1_000;
/// Flags that one request can name; without names it means all flags.
const NAMED_FLAGS_MAX: usize = 1_000;
/// Evaluations in one request.
const EVALUATIONS_MAX: usize = 1_000_000;
/// Evaluations that one request can have explained, each of which can take a page.
const EXPLAINED_MAX: usize = 100;

/// The environment that is meant, and how much is told.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvaluateQuery {
    project: Option<String>,
    environment: Option<String>,
    #[serde(default)]
    detail: bool,
    #[serde(default)]
    explain: bool,
}

/// Who is asked about what.
#[derive(Debug, ToSchema)]
pub(crate) struct EvaluateRequest {
    /// Up to 1,000 contexts in any form: single, multi, an old user with `custom`, or OFREP's flat form.
    #[schema(value_type = Vec<Object>)]
    contexts: Vec<Context>,
    /// The keys of up to 1,000 flags; all that the token may see, by key, if it is left out.
    flags: Option<Vec<String>>,
}

/// Evaluates flags for contexts, a row for each context and in it a value for each flag.
///
/// Rows are sent as they are evaluated. A flag that is unknown or has no value for a context leads to `null` there, with a reason in the
/// detailed form; the rest is not affected.
#[utoipa::path(post, path = "/api/v1/evaluate", tag = "evaluation",
    params(("detail" = Option<bool>, Query, description = "Answers with objects that have value, variation and reason."),
        ("explain" = Option<bool>, Query, description = "As `detail`, and tells step by step why; for at most 100 evaluations, and not for client and mobile tokens."),
        ("Vexil-Min-Version" = Option<String>, Header, description = "The `Vexil-Version` of an earlier answer; this one is of that version or a later one."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = EvaluateRequest,
    responses((status = 200, description = "The values.", body = answer::EvaluateBody),
        (status = 422, description = "A context or the number of evaluations is not valid; nothing was evaluated.", body = crate::http::error::ProblemBody)))]
pub(crate) async fn evaluate_many(
    State(state): State<DataState>,
    caller: Caller,
    Params(query): Params<EvaluateQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let kind = caller.grant().kind;
    if query.explain && matches!(kind, TokenKind::Client | TokenKind::Mobile) {
        let detail = "an explanation shows rules, which client and mobile tokens must not see";
        return Err(ApiError::forbidden("token_kind", detail));
    }
    let wanted = EnvironmentQuery { project: query.project, environment: query.environment };
    let environment = caller.environment(&wanted, None)?;
    settle(&headers, &state.snapshots, &environment).await?;
    if needs_signature(&caller, &environment) {
        let detail = "the environment is in secure mode: browsers evaluate one signed context at a time, by OFREP";
        return Err(ApiError::forbidden("secure_mode", detail));
    }
    let bounds = &state.limits.bounds;
    let request = bounds.read(body, BODY_BYTES_MAX, read_request).await?;
    let ruleset = Arc::clone(&environment.ruleset());
    let flags = find_flags(&ruleset, request.flags, kind);
    let n_evaluations = flags.len().saturating_mul(request.contexts.len());
    let max = if query.explain { EXPLAINED_MAX } else { EVALUATIONS_MAX };
    if n_evaluations > max {
        let detail = format!("{n_evaluations} evaluations are asked for, of at most {max}");
        let problems = Problems::one("contexts", "too_many", detail);
        return Err(ApiError::invalid(StatusCode::UNPROCESSABLE_ENTITY, problems));
    }
    state.metrics.evaluations.inc_by(u64::try_from(n_evaluations).unwrap_or_default());
    let n_contexts = u64::try_from(request.contexts.len()).unwrap_or_default();
    for (key, _) in flags.iter().filter(|(key, flag)| flag.is_none() && ruleset.flag(key).is_none())
    {
        state.events.count_unknown(environment.id, key, n_contexts);
    }
    let detail = match (query.explain, query.detail) {
        (true, _) => Detail::Explained,
        (false, true) => Detail::Reasons,
        (false, false) => Detail::Values,
    };
    let position = Position { epoch: ruleset.epoch, version: ruleset.version };
    let rows = Rows::new(environment.key.as_str(), ruleset, flags, request.contexts, detail);
    let body = Body::from_stream(stream::iter(rows.map(Ok::<_, Infallible>)));
    let mut response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    mark(response.headers_mut(), position, unconfirmed_ms(&state.snapshots, &environment));
    Ok(response)
}

fn read_request(body: &[u8], bounds: &Bounds) -> Result<EvaluateRequest, ApiError> {
    let mut problems = Problems::default();
    let request = object(parse(body)?, "", &mut problems, |fields: &mut Fields<'_>| {
        if !fields.has("contexts") {
            fields.missing("contexts");
        }
        let contexts = fields.list("contexts", CONTEXTS_MAX, |item, path, problems| {
            let context = Context::decode(item).and_then(|it| bounds.check_context(it));
            context.map_err(|found| problems.add_below(path, found)).ok()
        });
        let has_flags = fields.has("flags");
        let flags = fields.texts("flags", NAMED_FLAGS_MAX, KEY_CHARS_MAX);
        EvaluateRequest { contexts, flags: has_flags.then_some(flags) }
    });
    let empty = EvaluateRequest { contexts: Vec::new(), flags: None };
    problems
        .into_result(request.unwrap_or(empty))
        .map_err(|problems| ApiError::invalid(StatusCode::UNPROCESSABLE_ENTITY, problems))
}

/// The flags that are asked for, as far as the token may see them.
fn find_flags(
    ruleset: &Ruleset,
    keys: Option<Vec<String>>,
    kind: TokenKind,
) -> Vec<(String, Option<Arc<CompiledFlag>>)> {
    let visible = |flag: &&Arc<CompiledFlag>| is_visible(flag, kind);
    match keys {
        Some(keys) => {
            let find = |key: &str| ruleset.flag(key).filter(visible).cloned();
            keys.into_iter().map(|key| (key.clone(), find(&key))).collect()
        }
        None => {
            let all = ruleset.flags().filter(visible);
            all.map(|flag| (flag.key.to_string(), Some(Arc::clone(flag)))).collect()
        }
    }
}
