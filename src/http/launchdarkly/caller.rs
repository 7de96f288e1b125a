//! Who asks: a server token of one environment that is made for LaunchDarkly's SDKs, of which something is loaded.

use crate::http::DataState;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::extract::EnvironmentQuery;
use crate::http::known::is_unknown;
use crate::http::known::known;
use crate::http::limit::Arrival;
use crate::http::middleware::RequestId;
use crate::http::position::settle;
use crate::model::environment::ServerSdk;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use std::sync::Arc;

/// An SDK that may read an environment, whose flags are loaded.
#[derive(Debug)]
pub(crate) struct SdkCaller {
    pub(super) caller: Caller,
    pub(super) environment: Arc<Environment>,
}

impl FromRequestParts<DataState> for SdkCaller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &DataState) -> Result<Self, ApiError> {
        let request_id = parts.extensions.get::<RequestId>();
        let find =
            || Caller::new(&parts.headers, Arc::clone(&state.snapshots), request_id.cloned());
        let caller = known(&state.snapshots, &find).await?;
        if let Some(arrival) = parts.extensions.get::<Arrival>() {
            arrival.admit_caller(&caller, &parts.headers)?;
        }
        if caller.grant().kind != TokenKind::Server {
            let detail = "LaunchDarkly's server-side SDKs need a server token (vxs_…)";
            return Err(ApiError::forbidden("token_kind", detail));
        }
        let environment = match environment_of(&caller) {
            // Another replica may have made it a moment ago.
            Err(error) if is_unknown(&error) => {
                let find = || environment_of(&find()?);
                known(&state.snapshots, find).await?
            }
            found => found?,
        };
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

fn environment_of(caller: &Caller) -> Result<Arc<Environment>, ApiError> {
    caller.environment(&EnvironmentQuery::default(), None).map_err(|denied| {
        let error = ApiError::from(denied);
        let detail = "the token must be of one environment, because these SDKs cannot name one";
        match error.code {
            "environment_required" => ApiError::forbidden("environment_required", detail),
            _ => error,
        }
    })
}
