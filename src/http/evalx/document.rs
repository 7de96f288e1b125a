//! The routes for client-side SDKs in the API document, written from the table of routes.

use crate::http::evalx::Answer;
use crate::http::evalx::ROUTES;
use crate::http::evalx::Side;
use utoipa::openapi::HttpMethod;
use utoipa::openapi::Object;
use utoipa::openapi::OpenApi;
use utoipa::openapi::Required;
use utoipa::openapi::Response as Described;
use utoipa::openapi::Type;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::path::ParameterBuilder;
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::path::PathItem;

/// Adds the routes to the API document.
pub(crate) fn describe(document: &mut OpenApi) {
    for &(path, side, answer) in ROUTES {
        let mut operation =
            OperationBuilder::new().tag("launchdarkly").summary(Some(summary(answer)));
        let in_path = ["environment", "context"];
        for name in in_path.into_iter().filter(|name| path.contains(&format!("{{{name}}}"))) {
            operation = operation.parameter(parameter(name, ParameterIn::Path));
        }
        let has_context = !matches!(answer, Answer::Pings | Answer::Goals);
        for name in ["withReasons", "basis", "auth"].into_iter().filter(|name| match *name {
            "withReasons" => has_context,
            "basis" => matches!(answer, Answer::Transfer | Answer::Transfers),
            _ => side == Side::Any,
        }) {
            operation = operation.parameter(parameter(name, ParameterIn::Query));
        }
        let operation = operation.response("200", Described::new(summary(answer))).build();
        let method = if path.contains("{context}") || !has_context {
            HttpMethod::Get
        } else if side == Side::Any {
            HttpMethod::Post
        } else {
            // Only `REPORT`.
            continue;
        };
        document.paths.paths.insert(path.to_owned(), PathItem::new(method, operation));
    }
}

fn summary(answer: Answer) -> &'static str {
    match answer {
        Answer::Values => {
            "Evaluates all flags that the token may see, for LaunchDarkly's client-side SDKs."
        }
        Answer::Stream => {
            "Streams values to LaunchDarkly's client-side SDKs: `put`, `patch`, `delete`."
        }
        Answer::Pings => "Streams to LaunchDarkly's client-side SDKs when to ask anew.",
        Answer::Goals => "Answers that there are no goals.",
        Answer::Transfer => "Evaluates all flags as a transfer of LaunchDarkly's second protocol.",
        Answer::Transfers => "Streams transfers of LaunchDarkly's second protocol.",
    }
}

fn parameter(name: &str, place: ParameterIn) -> ParameterBuilder {
    let description = match name {
        "environment" => "The environment's id: a client token.",
        "context" => "The context as JSON in base64.",
        "withReasons" => "`true` adds reasons.",
        "basis" => "The state of an earlier transfer.",
        _ => "A client or mobile token, for clients that cannot set headers.",
    };
    let required = if place == ParameterIn::Path { Required::True } else { Required::False };
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(description))
        .schema(Some(Object::with_type(Type::String)))
}
