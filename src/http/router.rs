//! All routes but OFREP's, which the front door answers without a router.

use crate::http::AdminState;
use crate::http::DataState;
use crate::http::admin;
use crate::http::admin::applied::confirm;
use crate::http::admin::idempotency::once;
use crate::http::admin::rehearsal::rehearse;
use crate::http::cors::allow_pages;
use crate::http::docs;
use crate::http::error::ApiError;
use crate::http::evaluate;
use crate::http::evalx;
use crate::http::event;
use crate::http::launchdarkly;
use crate::http::middleware::admit;
use crate::http::middleware::observe;
use crate::http::ofrep;
use crate::http::openapi::describe_waiting;
use crate::http::openapi::document;
use crate::http::ops;
use crate::http::stream;
use axum::Router;
use axum::middleware::from_fn;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Returns the router with all routes but OFREP's, and their layers.
pub(super) fn router(data: DataState, admin: AdminState) -> Router {
    let metrics = Arc::clone(&data.metrics);
    let (routes, _) = data_routes().split_for_parts();
    let (event_routes, _) = event_routes().split_for_parts();
    let for_pages = evalx::routes()
        .merge(event_routes)
        .route_layer(from_fn(admit))
        // Which keeps itself within the limits, because a provider must not be refused for them.
        .route("/ofrep/v1/events", get(ofrep::stream_events))
        .route_layer(from_fn(allow_pages))
        .with_state(data.clone());
    let routes = routes.with_state(data);
    let (admin_routes, _) = admin_routes().with_state(admin.clone()).split_for_parts();
    // What is only tried out is told before the answer is kept.
    let admin_routes = admin_routes.route_layer(from_fn(rehearse));
    // What was asked to be done once is confirmed as often as it is asked.
    let admin_routes = admin_routes
        .route_layer(from_fn_with_state(admin.clone(), once))
        .route_layer(from_fn_with_state(admin, confirm))
        // Behind the layers: what no route does is refused as such, whatever its key and its query.
        .method_not_allowed_fallback(async || ApiError::method_not_allowed());
    routes
        .merge(admin_routes)
        .fallback(async || ApiError::not_found("there is no such route; see /openapi.yaml"))
        .layer(from_fn(admit))
        .merge(for_pages)
        .layer(from_fn_with_state(metrics, observe))
}

/// Routes that are answered from memory.
fn data_routes() -> OpenApiRouter<DataState> {
    OpenApiRouter::new()
        .routes(routes!(evaluate::evaluate_many))
        .routes(routes!(evalx::find_bootstrap))
        .routes(routes!(stream::stream_changes))
        .routes(routes!(launchdarkly::stream_all))
        .routes(routes!(launchdarkly::stream_flags))
        .routes(routes!(launchdarkly::poll_all))
        .routes(routes!(launchdarkly::poll_flags))
        .routes(routes!(launchdarkly::find_sdk_flag))
        .routes(routes!(launchdarkly::find_sdk_segment))
        .routes(routes!(launchdarkly::poll_data_system))
        .routes(routes!(launchdarkly::stream_data_system))
        .routes(routes!(ops::find_liveness))
        .routes(routes!(ops::find_readiness))
        .routes(routes!(ops::find_health))
        .routes(routes!(ops::list_metrics))
        .routes(routes!(ops::find_openapi))
        .routes(routes!(docs::show_docs))
}

/// Routes where SDKs report.
fn event_routes() -> OpenApiRouter<DataState> {
    OpenApiRouter::new()
        .routes(routes!(event::take_server_events))
        .routes(routes!(event::take_client_events))
        .routes(routes!(event::take_mobile_events))
        .merge(event::other_routes().into())
}

/// Routes that read and write the store.
fn admin_routes() -> OpenApiRouter<AdminState> {
    use admin::audit;
    use admin::change;
    use admin::emergency;
    use admin::emergency_many;
    use admin::environment;
    use admin::flag;
    use admin::flag_config;
    use admin::flag_history;
    use admin::history;
    use admin::import;
    use admin::project;
    use admin::schedule;
    use admin::segment;
    use admin::state;
    use admin::token;
    use admin::trigger;
    use admin::usage;
    OpenApiRouter::new()
        .routes(routes!(emergency::kill_flag))
        .routes(routes!(emergency::restore_flag))
        .routes(routes!(emergency_many::kill_flags))
        .routes(routes!(emergency_many::restore_flags))
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
        .routes(routes!(change::change_many))
        .routes(routes!(trigger::fire_trigger))
        .routes(routes!(trigger::list_triggers, trigger::create_trigger))
        .routes(routes!(trigger::revoke_trigger))
        .routes(routes!(flag_history::list_flag_versions))
        .routes(routes!(flag_history::revert_flag))
        .routes(routes!(import::import_launchdarkly))
        .routes(routes!(state::export_state))
        .routes(routes!(state::plan_state))
        .routes(routes!(state::apply_state))
        .routes(routes!(segment::list_segments, segment::create_segment))
        .routes(routes!(
            segment::find_segment,
            segment::update_segment,
            segment::change_segment,
            segment::delete_segment
        ))
        .routes(routes!(schedule::list_schedule, schedule::create_schedule))
        .routes(routes!(schedule::find_schedule, schedule::cancel_schedule))
        .routes(routes!(token::list_environment_tokens, token::create_environment_token))
        .routes(routes!(token::revoke_environment_token))
        .routes(routes!(token::rotate_environment_token))
        .routes(routes!(token::rotate_token))
        .routes(routes!(token::list_tokens, token::create_token))
        .routes(routes!(token::revoke_token))
        .routes(routes!(usage::list_usage))
        .routes(routes!(usage::find_flag_usage))
        .routes(routes!(usage::list_stale_flags))
        .routes(routes!(usage::list_unknown_flags))
        .routes(routes!(history::accept_history))
        .routes(routes!(audit::list_audit))
        .routes(routes!(audit::export_audit))
        .routes(routes!(audit::find_audit_head))
        .routes(routes!(audit::list_project_audit))
        .routes(routes!(audit::list_environment_audit))
}

/// The API document with all routes.
pub(super) fn documented() -> utoipa::openapi::OpenApi {
    let (_, data) = data_routes().split_for_parts();
    let (_, events) = event_routes().split_for_parts();
    let (_, mut admin) = admin_routes().split_for_parts();
    describe_waiting(&mut admin);
    let mut all = document();
    all.merge(data);
    all.merge(events);
    all.merge(admin);
    evalx::describe(&mut all);
    all
}
