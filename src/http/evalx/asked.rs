//! Who asks, about whom, and how: the credential and the context of a request by LaunchDarkly's client-side SDKs.
//!
//! The credential is a client token in the path, a mobile or server token in `Authorization`, or (where a browser cannot set
//! headers) either in the parameter `auth`. The context is JSON in base64 in the path, or the body of a `REPORT` or `POST`.

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::json_body::SDK_BODY_BYTES_MAX;
use crate::http::known::known;
use crate::http::limit::Arrival;
use crate::http::limit::Bounds;
use crate::http::limit::Limits;
use crate::http::position::settle;
use crate::http::secure::check_signed;
use crate::model::context::Context;
use crate::model::problem::Problems;
use crate::model::raw_context::RawContext;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use axum::RequestExt;
use axum::extract::Query;
use axum::extract::RawPathParams;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header;
use base64::Engine;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::GeneralPurpose;
use base64::engine::GeneralPurposeConfig;
use serde::Deserialize;
use std::net::IpAddr;
use std::sync::Arc;

/// Both alphabets are brought to this one first; padding may be there or not.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Which tokens a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Browsers, whose token stands in the path.
    Browser,
    /// Mobile applications.
    Mobile,
    /// Backends.
    Server,
    /// Browsers and mobile applications, wherever their token stands.
    Any,
}

/// What SDKs add to the path; what they invent beside it is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientQuery {
    with_reasons: Option<String>,
    /// Proves that the context is what the application's backend says.
    h: Option<String>,
    auth: Option<String>,
    basis: Option<String>,
}

/// A request whose credential is accepted.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) caller: Caller,
    pub(super) environment: Arc<Environment>,
    /// The network that the client is in.
    pub(super) address: Option<IpAddr>,
    pub(super) with_reasons: bool,
    /// What the client says that it has.
    pub(super) basis: Option<String>,
    given: Option<Given>,
    limits: Arc<Limits>,
    signature: Option<String>,
}

/// Where the context stands.
#[derive(Debug)]
enum Given {
    Encoded(String),
    Body(axum::body::Body),
}

impl Asked {
    /// Reads everything but the context.
    ///
    /// # Errors
    ///
    /// 401 or 404 if the credential is not one of this `side`, 405 if the method is not one of the route's, 503 if nothing is
    /// loaded.
    pub(super) async fn read(
        state: &DataState,
        side: Side,
        needs_context: bool,
        mut request: Request,
    ) -> Result<Self, ApiError> {
        let params = request.extract_parts::<RawPathParams>().await;
        let params = params.map_err(|_| ApiError::not_found("the path is not readable"))?;
        let param = |wanted| params.iter().find(|(name, _)| *name == wanted).map(|(_, text)| text);
        let Query(query) = Query::<ClientQuery>::try_from_uri(request.uri())
            .map_err(|error| ApiError::bad_request("invalid_query", error.body_text()))?;
        let in_path = param("environment");
        let caller = caller(state, side, in_path, &query, request.headers()).await?;
        let arrival = request.extensions().get::<Arrival>().cloned();
        if let Some(arrival) = &arrival {
            arrival.admit_caller(&caller, request.headers())?;
        }
        let environment = caller.environment(&EnvironmentQuery::default(), None)?;
        settle(request.headers(), &state.snapshots, &environment).await?;
        let address = arrival.map(|arrival| arrival.client_network(request.headers()));
        let encoded = param("context").map(str::to_owned);
        let has_body = [Method::POST.as_str(), "REPORT"].contains(&request.method().as_str());
        let given = match encoded {
            _ if !needs_context => None,
            Some(encoded) => Some(Given::Encoded(encoded)),
            None if has_body => {
                check_content_type(request.headers())?;
                Some(Given::Body(request.into_body()))
            }
            None => return Err(ApiError::method_not_allowed()),
        };
        let with_reasons = query.with_reasons.is_some_and(|text| text == "true" || text == "1");
        let (basis, signature) = (query.basis, query.h);
        let limits = Arc::clone(&state.limits);
        Ok(Self { caller, environment, address, with_reasons, basis, given, limits, signature })
    }

    /// Reads the context.
    ///
    /// # Errors
    ///
    /// 400 if it is none, or not one that the backend has signed where it must.
    pub(super) async fn context(&mut self) -> Result<Context, ApiError> {
        let bounds = &self.limits.bounds;
        let context = match self.given.take() {
            Some(Given::Encoded(encoded)) => read_context(&decode_base64(&encoded)?, bounds),
            Some(Given::Body(body)) => bounds.read(body, SDK_BODY_BYTES_MAX, read_context).await,
            None => read_context(&[], bounds),
        }?;
        check_signed(&self.caller, &self.environment, &context, self.signature.as_deref())?;
        Ok(context)
    }
}

/// Reads a context from JSON; each of its kinds must have a key.
pub(super) fn read_context(text: &[u8], bounds: &Bounds) -> Result<Context, ApiError> {
    let raw: RawContext = serde_json::from_slice(text).map_err(|error| {
        ApiError::bad_request("json_syntax", format!("the context is not JSON: {error}"))
    })?;
    let context = Context::decode_launchdarkly(raw).and_then(|it| bounds.check_context(it));
    let context = context.map_err(invalid)?;
    if let Some(nameless) = context.kinds().iter().find(|kind| kind.key.is_none()) {
        let detail = format!("must be there for the kind `{}`", nameless.kind);
        return Err(invalid(Problems::one("key", "required", detail)));
    }
    Ok(context)
}

fn invalid(problems: Problems) -> ApiError {
    let detail = problems.to_string();
    let error = ApiError::invalid(StatusCode::BAD_REQUEST, problems);
    ApiError { code: "invalid_context", detail, ..error }
}

/// Finds out who is asking.
async fn caller(
    state: &DataState,
    side: Side,
    in_path: Option<&str>,
    query: &ClientQuery,
    headers: &HeaderMap,
) -> Result<Caller, ApiError> {
    let in_query = query.auth.as_deref().filter(|_| side == Side::Any);
    let find = || match in_path.or(in_query) {
        Some(token) => Caller::of_token(token, Arc::clone(&state.snapshots), None),
        None => Caller::new(headers, Arc::clone(&state.snapshots), None),
    };
    let caller = known(&state.snapshots, find).await;
    let is_meant = |caller: &Caller| match (side, caller.grant().kind) {
        (Side::Browser, kind) => kind == TokenKind::Client,
        (Side::Mobile, kind) => kind == TokenKind::Mobile,
        (Side::Server, kind) => kind == TokenKind::Server,
        (Side::Any, kind) => matches!(kind, TokenKind::Client | TokenKind::Mobile),
    };
    match caller {
        Ok(caller) if is_meant(&caller) => Ok(caller),
        // SDKs stop for good when they read this, so only for what will never be right.
        Ok(_) if side == Side::Browser => Err(no_environment()),
        Ok(_) => {
            let detail = "the token is of another kind than this route is for";
            Err(ApiError::unauthorized("token_kind", detail))
        }
        Err(error) if side == Side::Browser && error.status == StatusCode::UNAUTHORIZED => {
            Err(no_environment())
        }
        Err(error) => Err(error),
    }
}

fn no_environment() -> ApiError {
    let detail = "the path names no environment: its id is a client token (vxc_…)";
    ApiError::new(StatusCode::NOT_FOUND, "environment_not_found", detail)
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if value.is_some_and(|value| value.trim_start().starts_with("application/json")) {
        return Ok(());
    }
    let detail = "a context is sent as application/json";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", detail))
}

/// Reads base64 in either alphabet, padded or not.
pub(crate) fn decode_base64(encoded: &str) -> Result<Vec<u8>, ApiError> {
    // A browser's form of the other alphabet: a plus in a query is a space.
    let usual: String = encoded
        .chars()
        .map(|c| match c {
            '+' | ' ' => '-',
            '/' => '_',
            other => other,
        })
        .collect();
    BASE64
        .decode(usual)
        .map_err(|_| ApiError::bad_request("invalid_base64", "must be JSON in base64 (RFC 4648)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_base64_is_read() {
        let text = r#"{"key":"ÿ>?"}"#.as_bytes();
        for encoded in ["eyJrZXkiOiLDvz4_In0", "eyJrZXkiOiLDvz4/In0=", "eyJrZXkiOiLDvz4_In0="] {
            assert_eq!(decode_base64(encoded).unwrap(), text, "{encoded}");
        }
        for bad in ["=", "a", "eyJ*", "é"] {
            assert_eq!(decode_base64(bad).unwrap_err().code, "invalid_base64", "{bad}");
        }
    }
}
