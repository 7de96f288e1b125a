//! The two routes of OFREP: one flag, and all flags.
// HOT: memory only; no lock, no log.

use crate::auth::Denied;
use crate::eval::CompiledFlag;
use crate::eval::ErrorKind;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::eval::Ruleset;
use crate::eval::evaluate;
use crate::http::DataState;
use crate::http::condition::has_seen;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::json_body::SDK_BODY_BYTES_MAX;
use crate::http::limit::Bounds;
use crate::http::ofrep::events::EventStream;
use crate::http::ofrep::render::BulkMetadata;
use crate::http::ofrep::render::Item;
use crate::http::position::mark;
use crate::http::position::reach;
use crate::http::position::settle;
use crate::http::position::unconfirmed_ms;
use crate::http::secure::check_signed;
use crate::http::secure::signature_of;
use crate::http::stream::Affected;
use crate::model::change::Position;
use crate::model::context::Context;
use crate::model::flag::ClientSideAvailability;
use crate::model::key::FlagKey;
use crate::model::problem::Problems;
use crate::model::raw_context::RawContext;
use crate::model::token::TokenKind;
use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::Visitor;
use sha2::Digest;
use sha2::Sha256;
use std::borrow::Cow;
use std::fmt;

/// Bytes of SHA-256 that an entity tag has; 128 bits are beyond chance.
const ETAG_BYTES: usize = 16;
/// Bytes for which room is made for each flag in an answer, and in what its entity tag hashes; usual sizes, and no limits.
const ITEM_BYTES: usize = 256;
const ETAG_INPUT_BYTES: usize = 64;

/// A request whose token is accepted.
pub(super) struct Asked<'r> {
    pub(super) data: &'r DataState,
    pub(super) caller: Caller,
    pub(super) wanted: EnvironmentQuery,
    /// The position that the client has heard of, by another replica perhaps.
    pub(super) hint: Option<Position>,
    pub(super) headers: &'r HeaderMap,
    pub(super) body: Body,
}

/// Evaluates one flag.
#[utoipa::path(post, path = "/ofrep/v1/evaluate/flags/{key}", tag = "evaluation",
    params(("key" = String, Path, description = "The flag's key."),
        ("Vexil-Min-Version" = Option<String>, Header, description = "The `Vexil-Version` of an earlier answer; this one is of that version or a later one."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = super::render::RequestBody,
    responses((status = 200, description = "The value.", body = super::render::EvaluationBody),
        (status = 400, description = "The context is not valid, or lacks a key that the flag needs.", body = super::render::FailureBody),
        (status = 404, description = "There is no such flag.", body = super::render::FailureBody)))]
pub(super) async fn evaluate_flag(asked: Asked<'_>, key: &str) -> Result<Response, ApiError> {
    let Asked { data, caller, wanted, headers, body, .. } = asked;
    let environment = match caller.environment(&wanted, Some(key)) {
        Err(Denied::NoSuchFlag) => return Err(flag_not_found(key)),
        found => found?,
    };
    settle(headers, &data.snapshots, &environment).await?;
    let context = data.limits.bounds.read(body, SDK_BODY_BYTES_MAX, read_context).await?;
    check_signed(&caller, &environment, &context, signature_of(headers))?;
    let ruleset = environment.ruleset();
    let flag = ruleset.flag(key).filter(|flag| is_visible(flag, caller.grant().kind));
    let Some(flag) = flag else {
        // One that is there and hidden from the token is not unknown.
        if ruleset.flag(key).is_none() {
            data.events.count_unknown(environment.id, key, 1);
        }
        return Err(flag_not_found(key));
    };
    data.metrics.evaluations.inc();
    let outcome = evaluate(&ruleset, flag, &context);
    flag.usage.count(&outcome);
    let unconfirmed_ms = unconfirmed_ms(&data.snapshots, &environment);
    let item = Item::new(flag, &outcome, unconfirmed_ms.is_some());
    let status = match item {
        Item::Evaluation(_) => StatusCode::OK,
        Item::Failure(_) => StatusCode::BAD_REQUEST,
    };
    let mut body = Vec::with_capacity(ITEM_BYTES);
    item.write(&mut body);
    let position = Position { epoch: ruleset.epoch, version: ruleset.version };
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    mark(headers, position, unconfirmed_ms);
    Ok(response)
}

/// Evaluates all flags that the token may see.
///
/// The `ETag` covers the results for exactly this context, so `If-None-Match` answers 304 only if nothing would differ.
#[utoipa::path(post, path = "/ofrep/v1/evaluate/flags", tag = "evaluation",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer."),
        ("Vexil-Min-Version" = Option<String>, Header, description = "The `Vexil-Version` of an earlier answer; this one is of that version or a later one."),
        ("project" = Option<String>, Query, description = "Needed only if the token reaches several environments."),
        ("environment" = Option<String>, Query, description = "Needed only if the token reaches several environments.")),
    request_body = super::render::RequestBody,
    responses((status = 200, description = "The values.", body = super::render::BulkBody),
        (status = 304, description = "Nothing differs from the earlier answer."),
        (status = 400, description = "The context is not valid.", body = super::render::FailureBody)))]
pub(super) async fn evaluate_all_flags(asked: Asked<'_>) -> Result<Response, ApiError> {
    let Asked { data, caller, wanted, hint, headers, body } = asked;
    let environment = caller.environment(&wanted, None)?;
    settle(headers, &data.snapshots, &environment).await?;
    if let Some(hint) = hint {
        // If it is not reached in time, an older answer is better than none.
        let _ = reach(hint, &data.snapshots, &environment).await;
    }
    let context = data.limits.bounds.read(body, SDK_BODY_BYTES_MAX, read_context).await?;
    check_signed(&caller, &environment, &context, signature_of(headers))?;
    let ruleset = environment.ruleset();
    let visible = ruleset.flags().filter(|flag| is_visible(flag, caller.grant().kind));
    let mut outcomes: Vec<(&CompiledFlag, Outcome<'_>)> = Vec::with_capacity(ruleset.n_flags());
    outcomes.extend(visible.map(|flag| (&**flag, evaluate(&ruleset, flag, &context))));
    data.metrics.evaluations.inc_by(u64::try_from(outcomes.len()).unwrap_or_default());
    for (flag, outcome) in &outcomes {
        flag.usage.count(outcome);
    }
    let unconfirmed_ms = unconfirmed_ms(&data.snapshots, &environment);
    let is_stale = unconfirmed_ms.is_some();
    let events = EventStream::of(&caller, &environment);
    let etag = etag_of(&events, environment.id, ruleset.epoch, is_stale, &outcomes);
    let position = Position { epoch: ruleset.epoch, version: ruleset.version };
    let mut response = if has_seen(headers, &etag) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let version = ruleset.version.to_string();
        let flag_set_id = environment.key.as_str();
        let metadata = BulkMetadata { flag_set_id, version: &version, stale: is_stale };
        ([(header::CONTENT_TYPE, "application/json")], write_all(&outcomes, &metadata, &events))
            .into_response()
    };
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::try_from(format!("\"{etag}\"")) {
        headers.insert(header::ETAG, etag);
    }
    mark(headers, position, unconfirmed_ms);
    Ok(response)
}

pub(super) fn flag_not_found(key: &str) -> ApiError {
    let detail = format!("there is no flag `{key}` that the token may see");
    ApiError::new(StatusCode::NOT_FOUND, "flag_not_found", detail)
}

/// Which flags a token's holder may see.
pub(crate) fn is_visible(flag: &CompiledFlag, kind: TokenKind) -> bool {
    reaches(flag.client_side_availability, kind)
}

fn reaches(availability: ClientSideAvailability, kind: TokenKind) -> bool {
    match kind {
        TokenKind::Server | TokenKind::Admin => true,
        TokenKind::Client => availability.using_environment_id,
        TokenKind::Mobile => availability.using_mobile_key,
    }
}

/// Whether a token's holder may see any of the flags that answer otherwise, or could before they were withdrawn.
pub(crate) fn is_any_visible(ruleset: &Ruleset, affected: &Affected, kind: TokenKind) -> bool {
    let is_seen =
        |key: &FlagKey| ruleset.flag(key.as_str()).is_some_and(|flag| is_visible(flag, kind));
    affected.flags.iter().any(is_seen)
        || affected.withdrawn.iter().any(|availability| reaches(*availability, kind))
}

/// A body, of which only the context counts.
#[derive(Default)]
struct Sent {
    context: RawContext,
}

impl<'de> Deserialize<'de> for Sent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;
        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Sent;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Sent, A::Error> {
                let mut sent = Sent::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    match &*name {
                        "context" => sent.context = map.next_value()?,
                        _ => _ = map.next_value::<IgnoredAny>()?,
                    }
                }
                Ok(sent)
            }
        }
        // A derived reader would also take an array.
        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Reads the body's `context`. Clients also send no body, no context or `null`: all are the empty context.
fn read_context(body: &[u8], bounds: &Bounds) -> Result<Context, ApiError> {
    if body.is_empty() {
        return Ok(Context::default());
    }
    let Sent { context } = serde_json::from_slice(body).map_err(|error| {
        ApiError::bad_request("json_syntax", format!("the body is not JSON as it must be: {error}"))
    })?;
    let context = Context::decode(context).and_then(|context| bounds.check_context(context));
    context.map_err(|found| {
        let mut problems = Problems::default();
        problems.add_below("context", found);
        let error = ApiError::invalid(StatusCode::BAD_REQUEST, problems.clone());
        ApiError { code: "invalid_context", detail: problems.to_string(), ..error }
    })
}

/// Writes a `BulkBody`.
fn write_all(
    outcomes: &[(&CompiledFlag, Outcome<'_>)],
    metadata: &BulkMetadata<'_>,
    events: &EventStream,
) -> Vec<u8> {
    let mut body = Vec::with_capacity((outcomes.len() + 1).saturating_mul(ITEM_BYTES));
    body.extend_from_slice(b"{\"flags\":[");
    for (i, (flag, outcome)) in outcomes.iter().enumerate() {
        if i > 0 {
            body.push(b',');
        }
        Item::new(flag, outcome, metadata.stale).write(&mut body);
    }
    body.extend_from_slice(b"],\"metadata\":");
    metadata.write(&mut body);
    body.extend_from_slice(b",\"eventStreams\":[");
    events.write(&mut body);
    body.extend_from_slice(b"]}");
    body
}

/// A strong entity tag of the results, without its quotes: of everything that decides what is written about each flag, and of where the stream is.
///
/// A flag's version stands for its definition and its configuration, the program's for the way in which they are written. All
/// replicas of one version compute the same tag.
fn etag_of(
    events: &EventStream,
    env: i64,
    epoch: i64,
    is_stale: bool,
    outcomes: &[(&CompiledFlag, Outcome<'_>)],
) -> String {
    let mut hashed = Vec::with_capacity((outcomes.len() + 1).saturating_mul(ETAG_INPUT_BYTES));
    hashed.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    hashed.extend_from_slice(events.uri().as_bytes());
    hashed.extend_from_slice(&env.to_be_bytes());
    hashed.extend_from_slice(&epoch.to_be_bytes());
    hashed.push(u8::from(is_stale));
    for (flag, outcome) in outcomes {
        // Keys have no zero in them, so each ends where its zero is.
        hashed.extend_from_slice(flag.key.as_str().as_bytes());
        hashed.push(0);
        hashed.extend_from_slice(&flag.version.to_be_bytes());
        let variation = outcome.variation.map_or(usize::MAX, |(index, _)| index);
        hashed.extend_from_slice(&variation.to_be_bytes());
        let (reason, detail, text) = match outcome.reason {
            Reason::Off => (0_u8, 0, ""),
            Reason::Fallthrough { .. } => (1, 0, ""),
            Reason::TargetMatch => (2, 0, ""),
            Reason::RuleMatch { rule_index, .. } => (3, rule_index, ""),
            Reason::PrerequisiteFailed { key } => (4, key.len(), key),
            Reason::Error(ErrorKind::MalformedFlag) => (5, 0, ""),
            Reason::Error(ErrorKind::TargetingKeyMissing) => (6, 0, ""),
        };
        hashed.push(reason);
        hashed.extend_from_slice(&detail.to_be_bytes());
        hashed.extend_from_slice(text.as_bytes());
    }
    let digest = Sha256::digest(&hashed);
    let start = digest.get(..ETAG_BYTES).unwrap_or_default();
    hex::encode(start)
}
