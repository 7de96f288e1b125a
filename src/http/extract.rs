//! What handlers ask for: who is calling, which keys the path has, which parameters the query has.

use crate::auth;
use crate::auth::Denied;
use crate::http::error::ApiError;
use crate::http::limit::Arrival;
use crate::http::middleware::RequestId;
use crate::model::key::is_key;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::snapshot::Environment;
use crate::snapshot::Snapshots;
use crate::snapshot::TokenEntry;
use axum::extract::FromRef;
use axum::extract::FromRequestParts;
use axum::extract::Path;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::header;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;

/// Who is calling: a token that is accepted.
#[derive(Debug)]
pub(crate) struct Caller {
    /// The token's entry in the directory.
    pub(crate) entry: TokenEntry,
    /// What is served; kept, because the environment is often looked up next.
    pub(crate) snapshots: Arc<Snapshots>,
    /// The digest of the token, by which it is found again later.
    pub(crate) digest: Digest,
    request_id: Option<RequestId>,
}

impl<S> FromRequestParts<S> for Caller
where
    S: Send + Sync,
    Arc<Snapshots>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let snapshots = Arc::<Snapshots>::from_ref(state);
        let request_id = parts.extensions.get::<RequestId>().cloned();
        let caller = Self::new(&parts.headers, snapshots, request_id)?;
        if let Some(arrival) = parts.extensions.get::<Arrival>() {
            arrival.admit_caller(&caller, &parts.headers)?;
        }
        Ok(caller)
    }
}

/// Reads the token from `Authorization: Bearer …`, `X-API-Key: …`, or (as LaunchDarkly's SDKs send it) `Authorization: …`,
/// before which the oldest of them write `api_key`.
pub(crate) fn token_of(headers: &HeaderMap) -> Result<&str, ApiError> {
    let authorization = headers.get(header::AUTHORIZATION);
    let value = authorization.or_else(|| headers.get("x-api-key")).and_then(|v| v.to_str().ok());
    let token = value.map(|value| {
        let (scheme, rest) = value.split_once(' ').unwrap_or(("", value));
        match scheme.eq_ignore_ascii_case("bearer") || scheme == "api_key" {
            true => rest.trim(),
            // The scheme alone is no token.
            false if value.trim().eq_ignore_ascii_case("bearer") => "",
            false => value.trim(),
        }
    });
    token.filter(|token| !token.is_empty()).ok_or_else(|| {
        ApiError::unauthorized("token_missing", "send a token as `Authorization: Bearer <token>`")
    })
}

fn refusal(token: &str, digest: &Digest, snapshots: &Snapshots) -> ApiError {
    if snapshots.directory().has_expired(digest) {
        return ApiError::unauthorized(
            "token_expired",
            "the token has expired; ask for another one",
        );
    }
    if auth::is_mistyped(token) {
        let detail = "the token is mistyped or cut off: its checksum is wrong";
        return ApiError::unauthorized("token_malformed", detail);
    }
    if !snapshots.freshness().is_ready {
        return ApiError::not_ready();
    }
    ApiError::unauthorized("token_unknown", "the token is unknown or was revoked")
}

impl Caller {
    /// Finds out who sends a request with these headers.
    pub(crate) fn new(
        headers: &HeaderMap,
        snapshots: Arc<Snapshots>,
        request_id: Option<RequestId>,
    ) -> Result<Self, ApiError> {
        Self::of_token(token_of(headers)?, snapshots, request_id)
    }

    /// Finds out who holds a token.
    pub(crate) fn of_token(
        token: &str,
        snapshots: Arc<Snapshots>,
        request_id: Option<RequestId>,
    ) -> Result<Self, ApiError> {
        let digest = auth::digest(token);
        let Some(entry) = snapshots.directory().token(&digest).cloned() else {
            return Err(refusal(token, &digest, &snapshots));
        };
        Ok(Self { entry, snapshots, digest, request_id })
    }

    /// Finds out whose ticket this is.
    pub(crate) fn of_ticket(ticket: &str, snapshots: Arc<Snapshots>) -> Result<Self, ApiError> {
        let Some((digest, entry)) = auth::ticket_holder(&snapshots.directory(), ticket) else {
            return Err(refusal("", &Digest::default(), &snapshots));
        };
        Ok(Self { entry, snapshots, digest, request_id: None })
    }

    /// What the token grants.
    pub(crate) fn grant(&self) -> &Grant {
        &self.entry.grant
    }

    /// The id of the request.
    pub(crate) fn request_id(&self) -> &str {
        self.request_id.as_ref().map(RequestId::as_str).unwrap_or_default()
    }

    /// The environment that a request means which names none in its path; see [`auth::environment_for`].
    pub(crate) fn environment(
        &self,
        wanted: &EnvironmentQuery,
        flag: Option<&str>,
    ) -> Result<Arc<Environment>, Denied> {
        let is_unnamed = wanted.project.is_none() && wanted.environment.is_none();
        if let Some(environment) = self.entry.environment.as_ref().filter(|_| is_unnamed) {
            return Ok(Arc::clone(environment));
        }
        auth::environment_for(
            self.grant(),
            &self.snapshots.directory(),
            wanted.project.as_deref(),
            wanted.environment.as_deref(),
            flag,
        )
    }
}

/// The environment that is meant, for tokens that reach several.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EnvironmentQuery {
    /// The project's key.
    pub(crate) project: Option<String>,
    /// The environment's key.
    pub(crate) environment: Option<String>,
}

/// No parameters at all: one that is meant for another route must not be ignored.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

/// The keys in a path. A text that cannot be a key cannot name anything, so it is not found.
#[derive(Debug)]
pub(crate) struct Keys<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Keys<T>
where
    S: Send + Sync,
    T: DeserializeOwned + Send,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let not_found = |_| ApiError::not_found("the path names nothing");
        let texts = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        if let Some((name, _)) = texts.map_err(not_found)?.iter().find(|(_, text)| !is_key(text)) {
            return Err(ApiError::not_found(format!("the path has no valid key at {{{name}}}")));
        }
        Path::from_request_parts(parts, state).await.map(|Path(keys)| Self(keys)).map_err(not_found)
    }
}

/// The parameters of a query; those that are not known are refused where `T` refuses them.
#[derive(Debug)]
pub(crate) struct Params<T>(pub(crate) T);

impl<S, T> FromRequestParts<S> for Params<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Query::from_request_parts(parts, state)
            .await
            .map(|Query(params)| Self(params))
            .map_err(|error| ApiError::bad_request("invalid_query", error.body_text()))
    }
}
