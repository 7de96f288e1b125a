//! The API document, made from the routes themselves.
//!
//! `openapi.yaml` at the top of the repository is what [`yaml`] returns; a test compares the two. What no route says by itself
//! is added by `complete`.

mod complete;
mod dry_run;
mod instruction;

use crate::http::admin::history::ACCEPT;
use crate::http::admin::rehearsal::DryRunBody;
use crate::http::error::ProblemBody;
use crate::http::ofrep;
use crate::http::router;
use anyhow::anyhow;
use serde_json::Value;
use std::sync::LazyLock;
use utoipa::Modify;
use utoipa::OpenApi;
use utoipa::openapi::Content;
use utoipa::openapi::Object;
use utoipa::openapi::Ref;
use utoipa::openapi::RefOr;
use utoipa::openapi::Required;
use utoipa::openapi::Response;
use utoipa::openapi::Type;
use utoipa::openapi::path::ParameterBuilder;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::security::ApiKey;
use utoipa::openapi::security::ApiKeyValue;
use utoipa::openapi::security::HttpAuthScheme;
use utoipa::openapi::security::HttpBuilder;
use utoipa::openapi::security::SecurityScheme;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vexil",
        version = "1",
        description = "A self-hosted feature flag server: evaluation by OFREP, changes as server-sent events, administration by instructions. Errors are problem documents (RFC 9457) with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    paths(ofrep::evaluate_flag, ofrep::evaluate_all_flags, ofrep::stream_events),
    components(schemas(ProblemBody, DryRunBody)),
    security(("bearer" = []), ("apiKey" = [])),
    modifiers(&Common)
)]
struct Document;

/// What all routes have in common.
struct Common;

impl Modify for Common {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token: vxs_… of a backend, vxc_… or vxm_… of a client, vxa_… of an administrator."))
            .build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let api_key = ApiKeyValue::with_description("X-API-Key", "The same tokens.");
        components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(api_key)));
    }
}

/// The document without the routes that the router adds.
pub(super) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

static DOCUMENT: LazyLock<Result<Value, String>> =
    LazyLock::new(|| build().map_err(|error| error.to_string()));
static YAML: LazyLock<Result<String, String>> = LazyLock::new(|| {
    let document = value().map_err(|error| error.to_string())?;
    yaml_serde::to_string(document).map_err(|error| error.to_string())
});

/// Returns the API document; it is put together once.
///
/// # Errors
///
/// It cannot be, which a test rules out.
pub(super) fn value() -> anyhow::Result<&'static Value> {
    DOCUMENT.as_ref().map_err(|error| anyhow!(error.clone()))
}

/// Returns the API document as YAML; it is written once.
///
/// # Errors
///
/// The document cannot be written, which a test rules out.
pub fn yaml() -> anyhow::Result<&'static str> {
    YAML.as_deref().map_err(|error| anyhow!(error.clone()))
}

fn build() -> anyhow::Result<Value> {
    let mut document = router::documented();
    for item in document.paths.paths.values_mut() {
        let operations =
            [&mut item.get, &mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            let responses = &mut operation.responses.responses;
            // Every route can fail in ways that need no words of their own.
            responses.entry("default".to_owned()).or_insert_with(problem_response);
        }
    }
    let mut document = serde_json::to_value(&document)?;
    complete::complete(&mut document)?;
    Ok(document)
}

/// Says of every operation that writes what `admin/applied.rs` does for all of them.
pub(super) fn describe_waiting(document: &mut utoipa::openapi::OpenApi) {
    let parameter = |name: &str, description: &str| {
        let built = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Query)
            .required(Required::False)
            .description(Some(description))
            .schema(Some(Object::with_type(Type::String)));
        RefOr::T(built.build())
    };
    for (path, item) in &mut document.paths.paths {
        let operations = [&mut item.put, &mut item.post, &mut item.delete, &mut item.patch];
        for operation in operations.into_iter().flatten() {
            operation.parameters.get_or_insert_default().extend([
                parameter("wait", "`applied` answers when every live replica serves the change."),
                parameter("timeout", "How long to wait for that: `5s`, `500ms`, up to `30s`."),
            ]);
            let key = ParameterBuilder::new()
                .name("Idempotency-Key")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some(
                    "Does the same request once within 24 hours, however often it is sent.",
                ))
                .schema(Some(Object::with_type(Type::String)));
            if path != ACCEPT {
                operation.parameters.get_or_insert_default().push(RefOr::T(key.build()));
            }
            // Whoever sends no token is nobody who could say why.
            if operation.security.is_none() {
                let comment = ParameterBuilder::new()
                    .name("Vexil-Comment")
                    .parameter_in(ParameterIn::Header)
                    .required(Required::False)
                    .description(Some(
                        "Why, in UTF-8, where the body has no `comment`; kept in the audit log.",
                    ))
                    .schema(Some(Object::with_type(Type::String)));
                operation.parameters.get_or_insert_default().push(RefOr::T(comment.build()));
            }
            let pending =
                "It is done, and the replicas in `unconfirmed` have not confirmed in time.";
            let responses = &mut operation.responses.responses;
            responses.insert("202".to_owned(), RefOr::T(Response::new(pending)));
        }
    }
}

fn problem_response() -> RefOr<Response> {
    let mut response = Response::new("A problem document, or OFREP's error on its routes.");
    let schema = Ref::from_schema_name("ProblemBody");
    response
        .content
        .insert("application/problem+json".to_owned(), RefOr::T(Content::new(Some(schema))));
    RefOr::T(response)
}
