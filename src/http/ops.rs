//! Routes for those who operate the server.

use crate::auth;
use crate::auth::Permission;
use crate::auth::Place;
use crate::http::DataState;
use crate::http::Phase;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::http::openapi;
use crate::http::position::render_position;
use crate::snapshot::LOST_TOLD_MAX;
use crate::snapshot::Missing;
use crate::snapshot::Source;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

/// Whether the process is alive.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Liveness {
    /// Always `live`.
    status: &'static str,
}

/// Whether the process can answer evaluations, and how current they are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Readiness {
    /// `ready`, `starting` or `stopping`.
    status: &'static str,
    /// Where what is served comes from: `store`, `disk` (what an earlier run kept) or `nothing`.
    source: &'static str,
    /// Whether the store does not confirm that what is served is current. Evaluations go on all the same.
    stale: bool,
    /// How long ago the store last confirmed it, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    confirmed_ms_ago: Option<u64>,
    /// Why the database cannot be used, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'static str>,
    /// Present if the database lacks what replicas have served: nothing can be changed until that is mended or accepted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    history_regressed: bool,
    /// What of it this replica has served, environment by environment.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<LostEnvironment>,
    /// How many more of them there are.
    #[serde(skip_serializing_if = "is_zero")]
    lost_more: usize,
    /// How many environments have changes that cannot be read; they serve what was there before.
    #[serde(skip_serializing_if = "is_zero")]
    quarantined: usize,
}

/// An environment that the database lacks as it was served; whoever asks may not know its name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LostEnvironment {
    /// Its number in the database; 0 stands for projects, environments and tokens.
    environment: i64,
    /// The position that was served, as in `Vexil-Version`.
    served: String,
    /// The position that the database has; absent if it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    found: Option<String>,
}

impl From<&Missing> for LostEnvironment {
    fn from(missing: &Missing) -> Self {
        Self {
            environment: missing.id,
            served: render_position(missing.served),
            found: missing.found.map(render_position),
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature is serde's")]
fn is_zero(n: &usize) -> bool {
    *n == 0
}

/// Says that the process is alive; depends on nothing.
#[utoipa::path(get, path = "/livez", tag = "operations", security(()),
    responses((status = 200, description = "The process is alive.", body = Liveness)))]
pub(crate) async fn find_liveness() -> Json<Liveness> {
    Json(Liveness { status: "live" })
}

/// Says whether the process can answer evaluations.
///
/// Stays 200 while the store is away, because evaluations go on; `stale` tells.
#[utoipa::path(get, path = "/readyz", tag = "operations", security(()), responses(
    (status = 200, description = "Evaluations are answered.", body = Readiness),
    (status = 503, description = "Nothing is loaded yet, or the process is stopping.", body = Readiness)))]
pub(crate) async fn find_readiness(State(state): State<DataState>) -> Response {
    let freshness = state.snapshots.freshness();
    let (code, status) = match (freshness.is_ready, state.streams.phase()) {
        (true, Phase::Serving) => (StatusCode::OK, "ready"),
        (false, Phase::Serving) => (StatusCode::SERVICE_UNAVAILABLE, "starting"),
        (_, Phase::Draining | Phase::Leaving) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
    };
    let confirmed_ms_ago = freshness.confirmed_ago.map(|ago| ago.as_millis());
    let confirmed_ms_ago = confirmed_ms_ago.and_then(|ms| u64::try_from(ms).ok());
    let source = match freshness.source {
        Source::Nothing => "nothing",
        Source::Disk => "disk",
        Source::Store => "store",
    };
    let directory = state.snapshots.directory();
    let quarantined = directory.environments().iter().filter(|each| each.is_quarantined()).count();
    let regression = state.snapshots.regression();
    let history_regressed = regression.is_some();
    let missing = regression.unwrap_or_default().missing;
    let readiness = Readiness {
        status,
        source,
        stale: freshness.is_stale,
        confirmed_ms_ago,
        problem: state.snapshots.problem(),
        history_regressed,
        lost: missing.iter().take(LOST_TOLD_MAX).map(LostEnvironment::from).collect(),
        lost_more: missing.len().saturating_sub(LOST_TOLD_MAX),
        quarantined,
    };
    (code, Json(readiness)).into_response()
}

/// The same as `/readyz`, under the name that many load balancers expect.
#[utoipa::path(get, path = "/health", tag = "operations", security(()), responses(
    (status = 200, description = "Evaluations are answered.", body = Readiness),
    (status = 503, description = "Nothing is loaded yet, or the process is stopping.", body = Readiness)))]
pub(crate) async fn find_health(state: State<DataState>) -> Response {
    find_readiness(state).await
}

/// Returns all metrics in the text format of OpenMetrics.
///
/// Needs an administration token, of any role, whose scope is the installation: labels name all environments.
#[utoipa::path(get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "The metrics.", body = String, content_type = "application/openmetrics-text")))]
pub(crate) async fn list_metrics(
    State(state): State<DataState>,
    caller: Caller,
) -> Result<Response, ApiError> {
    auth::require(caller.grant(), Permission::Read, Place::Installation)?;
    let is_unconfirmed = state.snapshots.freshness().is_unconfirmed();
    state.metrics.store_stale.set(i64::from(is_unconfirmed));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], state.metrics.render()).into_response())
}

/// Returns the description of this API.
#[utoipa::path(get, path = "/openapi.yaml", tag = "operations", security(()),
    responses((status = 200, description = "The description.", body = String, content_type = "application/yaml")))]
pub(crate) async fn find_openapi() -> Response {
    match openapi::yaml() {
        Ok(text) => ([(header::CONTENT_TYPE, "application/yaml")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the API document");
            ApiError::internal().into_response()
        }
    }
}
