//! LaunchDarkly's protocol for browsers and mobile applications: values that were evaluated here, once or as a stream.
//!
//! Works for every environment, because SDKs on this side do not hash. `asked` reads who asks about whom, `view` is what that
//! one gets, `values` and `transfer` write it for the two protocols, `stream` keeps it current. What server-side SDKs are
//! served, and events, are elsewhere.
//!
//! Source: LaunchDarkly's JavaScript SDKs (`launchdarkly-js-client-sdk` 3.9, `@launchdarkly/js-client-sdk` 4.10); ld-relay 8.

mod asked;
mod bootstrap;
mod document;
mod entry;
mod stream;
mod transfer;
mod values;
mod view;

pub(crate) use asked::decode_base64;
pub(crate) use bootstrap::__path_find_bootstrap;
pub(crate) use bootstrap::find_bootstrap;
pub(crate) use document::describe;

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::position::has_reached;
use crate::http::position::mark;
use crate::http::position::unconfirmed_ms;
use crate::http::stream::Holder;
use crate::http::stream::Speech;
use crate::http::stream::Watch;
use crate::model::change::Position;
use crate::snapshot::Environment;
use asked::Asked;
use asked::Side;
use axum::Router;
use axum::extract::Request;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::any;
use stream::Pings;
use stream::Transfers;
use stream::Values;
use transfer::Transfer;
use transfer::version_of;
use view::Told;
use view::View;

/// What a route answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// All values, once.
    Values,
    /// All values, and which of them differ.
    Stream,
    /// When to ask anew.
    Pings,
    /// What a page counts as a goal: nothing, because goals are not kept here.
    Goals,
    /// All values, once, as a transfer.
    Transfer,
    /// Transfers.
    Transfers,
}

/// The methods of routes; what a page asks with `OPTIONS` is answered before.
const METHODS: &[&str] = &["GET", "HEAD", "POST", "REPORT"];
/// The methods of routes with a context in the path, which need no body.
const READING: &[&str] = &["GET", "HEAD"];

/// All routes. A context that is not in the path is the body of a `REPORT`, which no API document can name.
const ROUTES: &[(&str, Side, Answer)] = &[
    ("/sdk/evalx/{environment}/contexts/{context}", Side::Browser, Answer::Values),
    ("/sdk/evalx/{environment}/users/{context}", Side::Browser, Answer::Values),
    ("/sdk/evalx/{environment}/context", Side::Browser, Answer::Values),
    ("/sdk/evalx/{environment}/user", Side::Browser, Answer::Values),
    ("/eval/{environment}/{context}", Side::Browser, Answer::Stream),
    ("/eval/{environment}", Side::Browser, Answer::Stream),
    ("/ping/{environment}", Side::Browser, Answer::Pings),
    ("/sdk/goals/{environment}", Side::Browser, Answer::Goals),
    ("/msdk/evalx/contexts/{context}", Side::Mobile, Answer::Values),
    ("/msdk/evalx/users/{context}", Side::Mobile, Answer::Values),
    ("/msdk/evalx/context", Side::Mobile, Answer::Values),
    ("/msdk/evalx/user", Side::Mobile, Answer::Values),
    ("/meval/{context}", Side::Mobile, Answer::Stream),
    ("/meval", Side::Mobile, Answer::Stream),
    ("/mping", Side::Mobile, Answer::Pings),
    ("/sdk/evalx/contexts/{context}", Side::Server, Answer::Values),
    ("/sdk/evalx/users/{context}", Side::Server, Answer::Values),
    ("/sdk/evalx/context", Side::Server, Answer::Values),
    ("/sdk/evalx/user", Side::Server, Answer::Values),
    ("/sdk/poll/eval/{context}", Side::Any, Answer::Transfer),
    ("/sdk/poll/eval", Side::Any, Answer::Transfer),
    ("/sdk/stream/eval/{context}", Side::Any, Answer::Transfers),
    ("/sdk/stream/eval", Side::Any, Answer::Transfers),
];

/// The routes with their handlers, which pages of any origin may ask.
pub(super) fn routes() -> Router<DataState> {
    let mut routes = Router::new();
    for &(path, side, answer) in ROUTES {
        let methods = if path.contains("{context}") { READING } else { METHODS };
        let handler = move |State(state): State<DataState>, request: Request| async move {
            if !methods.contains(&request.method().as_str()) {
                let allow = [(header::ALLOW, methods.join(","))];
                return Ok((allow, ApiError::method_not_allowed()).into_response());
            }
            respond(&state, side, answer, request).await
        };
        // In base64's first alphabet a context may have slashes.
        routes = routes.route(&path.replace("{context}", "{*context}"), any(handler));
    }
    routes
}

async fn respond(
    state: &DataState,
    side: Side,
    answer: Answer,
    request: Request,
) -> Result<Response, ApiError> {
    let needs_context = !matches!(answer, Answer::Pings | Answer::Goals);
    let mut asked = match Asked::read(state, side, needs_context, request).await {
        Err(error) if error.status == StatusCode::METHOD_NOT_ALLOWED => {
            // Without a context in the path there has to be a body.
            return Ok(([(header::ALLOW, "POST,REPORT")], error).into_response());
        }
        asked => asked?,
    };
    if matches!(answer, Answer::Transfer | Answer::Transfers) {
        catch_up(state, &asked.environment, asked.basis.as_deref()).await?;
    }
    let told = Told::default();
    match answer {
        Answer::Goals => Ok(json(b"[]".to_vec())),
        Answer::Values | Answer::Transfer => {
            let view = view(&mut asked).await?;
            Ok(once(state, &asked, &view, answer))
        }
        Answer::Pings => streamed(state, &asked, Pings(asked.caller.grant().kind)),
        Answer::Stream => {
            let view = view(&mut asked).await?;
            streamed(state, &asked, Values { view, told })
        }
        Answer::Transfers => {
            let (view, basis) = (view(&mut asked).await?, asked.basis.take());
            streamed(state, &asked, Transfers { view, told, basis })
        }
    }
}

/// Waits until nothing older is served than the client has, by the state that it names.
async fn catch_up(
    state: &DataState,
    environment: &Environment,
    basis: Option<&str>,
) -> Result<(), ApiError> {
    if let Some(version) = basis.and_then(|basis| version_of(basis, environment)) {
        let seen = Position { version, ..environment.position() };
        has_reached(seen, state, environment).await?;
    }
    Ok(())
}

/// What is said as it happens.
fn streamed<S: Speech + Send + Unpin + 'static>(
    state: &DataState,
    asked: &Asked,
    speech: S,
) -> Result<Response, ApiError> {
    let Asked { caller, environment, address, .. } = asked;
    let kind = caller.grant().kind;
    let holder = Holder { token: caller.digest, kind, address: *address };
    Ok(Watch::open(&state.streams, environment, holder, speech)?.into_response())
}

async fn view(asked: &mut Asked) -> Result<View, ApiError> {
    let context = asked.context().await?;
    let (kind, with_reasons) = (asked.caller.grant().kind, asked.with_reasons);
    Ok(View { context, kind, with_reasons })
}

/// All values as they are now.
fn once(state: &DataState, asked: &Asked, view: &View, answer: Answer) -> Response {
    let ruleset = asked.environment.ruleset();
    let entries = view.all(&ruleset);
    state.metrics.evaluations.inc_by(u64::try_from(entries.len()).unwrap_or_default());
    let body = match answer {
        Answer::Transfer => {
            let (told, basis) = (Told::of(&entries), asked.basis.as_deref());
            Transfer::full(&asked.environment, ruleset.version, &entries, &told, basis).body()
        }
        _ => values::body(&entries, ruleset.version),
    };
    let mut response = json(body);
    let position = Position { epoch: ruleset.epoch, version: ruleset.version };
    mark(response.headers_mut(), position, unconfirmed_ms(&state.snapshots, &asked.environment));
    response
}

fn json(body: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}
