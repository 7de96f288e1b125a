//! All values as a page can carry them in its HTML, so that a browser's SDK starts with them and asks nobody.
//!
//! Source of the shape: `allFlagsState` of LaunchDarkly's server-side SDKs.

use crate::eval::CompiledFlag;
use crate::eval::Outcome;
use crate::eval::ReasonBody;
use crate::eval::evaluate;
use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::evalx::asked::decode_base64;
use crate::http::evalx::asked::read_context;
use crate::http::evalx::entry::prerequisites;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::extract::Params;
use crate::http::ofrep::is_visible;
use crate::http::position::mark;
use crate::http::position::settle;
use crate::http::position::unconfirmed_ms;
use crate::http::secure::check_signed;
use crate::http::secure::signature_of;
use crate::model::change::Position;
use crate::model::token::TokenKind;
use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Serialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What may be asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct BootstrapQuery {
    context: String,
    client_side_only: Option<bool>,
    with_reasons: Option<bool>,
    project: Option<String>,
    environment: Option<String>,
}

/// All values by key, and beside them what an SDK needs to report and to order them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Bootstrap<'r> {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    values: BTreeMap<&'r str, Option<&'r RawValue>>,
    #[serde(rename = "$flagsState")]
    #[schema(value_type = Object)]
    state: BTreeMap<&'r str, FlagState<'r>>,
    /// Always `true`.
    #[serde(rename = "$valid")]
    valid: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct FlagState<'r> {
    #[serde(skip_serializing_if = "Option::is_none")]
    variation: Option<usize>,
    version: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    track_events: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    track_reason: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ReasonBody<'r>>,
    /// The keys of those that were asked.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prerequisites: Vec<&'r str>,
}

/// Evaluates all flags of a page, as LaunchDarkly's browser SDKs take them for `bootstrap`.
#[utoipa::path(get, path = "/api/v1/bootstrap", tag = "evaluation",
    params(("context" = String, Query, description = "The context as JSON in base64."),
        ("clientSideOnly" = Option<bool>, Query, description = "`false` also has the flags that browsers may not see; only for server and administration tokens."),
        ("withReasons" = Option<bool>, Query, description = "`true` adds reasons."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    responses((status = 200, description = "The values by key, and `$flagsState`.", body = Bootstrap),
        (status = 400, description = "The context is not valid.")))]
pub(crate) async fn find_bootstrap(
    State(state): State<DataState>,
    caller: Caller,
    Params(query): Params<BootstrapQuery>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let BootstrapQuery { context, client_side_only, with_reasons, project, environment } = query;
    let environment = caller.environment(&EnvironmentQuery { project, environment }, None)?;
    settle(&headers, &state.snapshots, &environment).await?;
    let context = read_context(&decode_base64(&context)?, &state.limits.bounds)?;
    check_signed(&caller, &environment, &context, signature_of(&headers))?;
    let kind = match caller.grant().kind {
        TokenKind::Server | TokenKind::Admin if client_side_only != Some(false) => {
            TokenKind::Client
        }
        own => own,
    };
    let ruleset = environment.ruleset();
    let visible = ruleset.flags().filter(|flag| is_visible(flag, kind));
    let mut answer = Bootstrap { values: BTreeMap::new(), state: BTreeMap::new(), valid: true };
    for flag in visible {
        let outcome = evaluate(&ruleset, flag, &context);
        answer.values.insert(flag.key.as_str(), outcome.value());
        let about = FlagState::new(flag, &outcome, with_reasons == Some(true));
        answer.state.insert(flag.key.as_str(), about);
    }
    state.metrics.evaluations.inc_by(u64::try_from(answer.state.len()).unwrap_or_default());
    // It is about one context, and goes into a page of that context's.
    let mut response = ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response();
    let position = Position { epoch: ruleset.epoch, version: ruleset.version };
    mark(response.headers_mut(), position, unconfirmed_ms(&state.snapshots, &environment));
    Ok(response)
}

impl<'r> FlagState<'r> {
    fn new(flag: &'r CompiledFlag, outcome: &Outcome<'r>, with_reason: bool) -> Self {
        let is_measured = flag.is_measured(&outcome.reason);
        Self {
            variation: outcome.variation.map(|(index, _)| index),
            version: flag.version,
            track_events: is_measured || flag.track_events,
            track_reason: is_measured,
            reason: (with_reason || is_measured).then(|| outcome.reason_body()),
            prerequisites: prerequisites(flag, &outcome.reason),
        }
    }
}
