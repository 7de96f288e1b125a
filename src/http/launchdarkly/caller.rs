//! Who asks: a server token of one environment that is made for LaunchDarkly's SDKs, of which something is loaded.

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::position::settle;
use crate::model::environment::ServerSdk;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use crate::snapshot::Freshness;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio::time::timeout_at;

/// The code of an error about a token that nobody knows.
const TOKEN_UNKNOWN: &str = "token_unknown";
/// How long a request waits for its token to become known: longer than from one look at the store to the next.
const TOKEN_WAIT_MAX: Duration = Duration::from_millis(1_500);

/// An SDK that may read an environment, whose flags are loaded.
#[derive(Debug)]
pub(crate) struct SdkCaller {
    pub(super) caller: Caller,
    pub(super) environment: Arc<Environment>,
}

impl FromRequestParts<DataState> for SdkCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &DataState) -> Result<Self, ApiError> {
        let freshness = state.snapshots.freshness();
        let caller = known_caller(parts, state).await;
        let caller = caller.map_err(|error| soften(error, &freshness))?;
        if caller.grant().kind != TokenKind::Server {
            let detail = "LaunchDarkly's server-side SDKs need a server token (vxs_…)";
            return Err(ApiError::forbidden("token_kind", detail));
        }
        let wanted = EnvironmentQuery::default();
        let environment = caller.environment(&wanted, None).map_err(|denied| {
            let error = ApiError::from(denied);
            let detail = "the token must be of one environment, because these SDKs cannot name one";
            match error.code {
                "environment_required" => ApiError::forbidden("environment_required", detail),
                _ => soften(error, &freshness),
            }
        })?;
        match environment.server_sdk() {
            Some(ServerSdk::LaunchDarkly) => {}
            // Kept by an earlier version of this program, which did not write it down.
            None => return Err(ApiError::not_ready()),
            Some(ServerSdk::None) => {
                let detail = "this environment is not for LaunchDarkly's server-side SDKs, whose rollouts hash otherwise; \
                    one that is was created with `\"serverSdk\": \"launchdarkly\"`";
                return Err(ApiError::forbidden("server_sdk", detail));
            }
        }
        settle(&parts.headers, &state.snapshots, &environment).await?;
        Ok(Self { caller, environment })
    }
}

/// Waits for a token that is not known: another replica may have made it a moment ago.
async fn known_caller(parts: &mut Parts, state: &DataState) -> Result<Caller, ApiError> {
    let mut changes = state.snapshots.directory_changes();
    let deadline = Instant::now() + TOKEN_WAIT_MAX;
    loop {
        let error = match Caller::from_request_parts(parts, state).await {
            Err(error) if error.code == TOKEN_UNKNOWN => error,
            known_or_refused => return known_or_refused,
        };
        // Without ringing: requests that nobody vouches for must not make work for the database.
        match timeout_at(deadline, changes.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(error),
        }
    }
}

/// What is not known may have been created since the store was last heard of: SDKs that are told so would give up for ever.
fn soften(error: ApiError, freshness: &Freshness) -> ApiError {
    let is_unknown = matches!(error.code, TOKEN_UNKNOWN | "not_found");
    if is_unknown && freshness.unconfirmed_for().is_some() {
        let detail = "the token is not known here, and the store has not confirmed for a while that it does not exist";
        return ApiError::unavailable("unconfirmed", detail);
    }
    error
}
