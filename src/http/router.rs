//! All routes.

use crate::http::AdminState;
use crate::http::DataState;
use crate::http::admin;
use crate::http::error::ApiError;
use crate::http::evaluate;
use crate::http::middleware::WriteError;
use crate::http::middleware::observe;
use crate::http::middleware::panicked;
use crate::http::ofrep;
use crate::http::openapi::document;
use crate::http::ops;
use crate::http::stream;
use axum::Router;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::Method;
use axum::http::header;
use axum::middleware::from_fn_with_state;
use axum::routing::post;
use std::sync::Arc;
use std::time::Duration;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::Any;
use tower_http::cors::CorsLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a browser may remember what it may send.
const CORS_MAX_AGE: Duration = Duration::from_secs(7_200);

/// Returns the router with all routes and layers.
pub fn router(data: DataState, admin: AdminState) -> Router {
    let metrics = Arc::clone(&data.metrics);
    let (ofrep_routes, _) = ofrep_routes().with_state(data.clone()).split_for_parts();
    let (routes, _) = data_routes().with_state(data).split_for_parts();
    let (admin_routes, _) = admin_routes().with_state(admin).split_for_parts();
    let observed =
        |write_error: WriteError| from_fn_with_state((Arc::clone(&metrics), write_error), observe);
    // Each route has one layer of several, the outermost first: those that are put on one by one are boxed one by one.
    let ofrep_routes = ofrep_routes.layer((
        observed(ofrep::write_error),
        no_sniffing(),
        cors(),
        CatchPanicLayer::custom(panicked),
    ));
    routes
        .merge(admin_routes)
        .fallback(async || ApiError::not_found("there is no such route; see /openapi.yaml"))
        .layer((
            observed(ApiError::write_problem),
            no_sniffing(),
            CatchPanicLayer::custom(panicked),
        ))
        .merge(ofrep_routes)
}

/// The routes of OFREP, answered from memory, with errors in its own shape.
fn ofrep_routes() -> OpenApiRouter<DataState> {
    // The key may hold escaped slashes, which clients unescape, so the route takes the rest of the path.
    OpenApiRouter::new()
        .routes(routes!(ofrep::evaluate_all_flags))
        .route("/ofrep/v1/evaluate/flags/{*key}", post(ofrep::evaluate_flag))
}

/// Other routes that are answered from memory.
fn data_routes() -> OpenApiRouter<DataState> {
    OpenApiRouter::new()
        .routes(routes!(evaluate::evaluate_many))
        .routes(routes!(stream::stream_changes))
        .routes(routes!(ops::find_liveness))
        .routes(routes!(ops::find_readiness))
        .routes(routes!(ops::find_health))
        .routes(routes!(ops::list_metrics))
        .routes(routes!(ops::find_openapi))
}

/// Routes that read and write the store.
fn admin_routes() -> OpenApiRouter<AdminState> {
    use admin::audit;
    use admin::emergency;
    use admin::environment;
    use admin::flag;
    use admin::flag_config;
    use admin::import;
    use admin::project;
    use admin::segment;
    use admin::token;
    OpenApiRouter::new()
        .routes(routes!(emergency::kill_flag))
        .routes(routes!(emergency::restore_flag))
        .routes(routes!(project::list_projects, project::create_project))
        .routes(routes!(project::find_project, project::update_project, project::delete_project))
        .routes(routes!(environment::list_environments, environment::create_environment))
        .routes(routes!(
            environment::find_environment,
            environment::update_environment,
            environment::delete_environment
        ))
        .routes(routes!(flag::list_flags, flag::create_flag))
        .routes(routes!(flag::find_flag, flag::update_flag, flag::delete_flag))
        .routes(routes!(flag_config::list_environment_flags))
        .routes(routes!(flag_config::find_environment_flag, flag_config::update_environment_flag))
        .routes(routes!(import::import_launchdarkly))
        .routes(routes!(segment::list_segments, segment::create_segment))
        .routes(routes!(segment::find_segment, segment::update_segment, segment::delete_segment))
        .routes(routes!(token::list_environment_tokens, token::create_environment_token))
        .routes(routes!(token::revoke_environment_token))
        .routes(routes!(token::list_tokens, token::create_token))
        .routes(routes!(token::revoke_token))
        .routes(routes!(audit::list_audit))
        .routes(routes!(audit::list_project_audit))
        .routes(routes!(audit::list_environment_audit))
}

fn no_sniffing() -> SetResponseHeaderLayer<HeaderValue> {
    let no_sniffing = HeaderValue::from_static("nosniff");
    SetResponseHeaderLayer::if_not_present(header::X_CONTENT_TYPE_OPTIONS, no_sniffing)
}

/// Browsers may evaluate from any page: a client token is public, and no cookie is ever read.
fn cors() -> CorsLayer {
    CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::POST, Method::GET, Method::OPTIONS])
        .allow_headers([
            header::CONTENT_TYPE,
            header::AUTHORIZATION,
            header::IF_NONE_MATCH,
            HeaderName::from_static("x-api-key"),
        ])
        .expose_headers([header::ETAG, header::RETRY_AFTER])
        .max_age(CORS_MAX_AGE)
}

/// The API document with all routes.
pub(super) fn documented() -> utoipa::openapi::OpenApi {
    let (_, ofrep) = ofrep_routes().split_for_parts();
    let (_, data) = data_routes().split_for_parts();
    let (_, admin) = admin_routes().split_for_parts();
    let mut all = document();
    all.merge(ofrep);
    all.merge(data);
    all.merge(admin);
    all
}
