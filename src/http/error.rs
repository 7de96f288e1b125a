//! What clients are told when something goes wrong.
//!
//! The only place where a status is chosen. A handler returns an [`ApiError`]; it travels in the response's extensions to
//! the middleware, which knows the request's id and writes the body: a problem document (RFC 9457), or OFREP's own shape.

use crate::auth::Denied;
use crate::clock::Ids;
use crate::control::ControlError;
use crate::control::Dependency;
use crate::http::admin::impact::DependencyBody;
use crate::model::problem::Problem;
use crate::model::problem::Problems;
use crate::store::OTHER_INSTALLATION;
use crate::store::StoreError;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use std::time::Duration;
use utoipa::ToSchema;

/// Seconds after which a client may try again when the store is away or nothing is loaded yet.
const RETRY_AFTER_SECS: u32 = 2;

/// How soon a client may ask again that was refused because nothing is loaded: from 1 to 10 seconds.
const NOT_READY_RETRY_MIN: Duration = Duration::from_secs(1);
const NOT_READY_RETRY_SPREAD: Duration = Duration::from_secs(10);

/// An error that is told to a client.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    /// The status.
    pub(crate) status: StatusCode,
    /// A stable, machine-readable name.
    pub(crate) code: &'static str,
    /// One sentence: what is wrong and how to mend it.
    pub(crate) detail: String,
    /// Everything that is wrong, if it is the input.
    pub(crate) problems: Problems,
    /// What needs the thing that a dry run would take away.
    pub(crate) dependants: Vec<Dependency>,
    /// When to try again.
    pub(crate) retry_after_secs: Option<u32>,
}

/// The body of an error, as RFC 9457 defines it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProblemBody<'a> {
    /// Always `about:blank`: `code` says what it is.
    #[serde(rename = "type")]
    type_: &'static str,
    /// The status in words.
    title: &'a str,
    /// The HTTP status.
    status: u16,
    /// A stable, machine-readable name, e.g. `weights_sum`.
    code: &'a str,
    /// One sentence: what is wrong and how to mend it.
    detail: &'a str,
    /// Each thing that is wrong with the input.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemItem<'a>>,
    /// The flags and segments that need what would be taken away; in the answer to a dry run only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependants: Vec<DependencyBody>,
    /// The id of the request, which is also in the log and in the header `X-Request-Id`.
    request_id: &'a str,
}

/// One thing that is wrong with the input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemItem<'a> {
    /// Where, as a JSON path from the root of the body; empty for the whole body.
    path: &'a str,
    /// A stable, machine-readable name.
    code: &'a str,
    /// What is wrong and how to mend it.
    detail: &'a str,
}

impl ApiError {
    /// An error of any kind.
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self {
            status,
            code,
            detail,
            problems: Problems::default(),
            dependants: Vec::new(),
            retry_after_secs: None,
        }
    }

    /// 400: the request itself cannot be understood.
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: no token, or one that is not accepted.
    pub(crate) fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// 403: the token may not do this.
    pub(crate) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 404: there is no such thing, or it lies outside of the token's scope.
    pub(crate) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", detail)
    }

    /// 429: what may be asked for in a second is used up.
    pub(crate) fn rate_limited(detail: impl Into<String>, retry_after_secs: u32) -> Self {
        let error = Self::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
        Self { retry_after_secs: Some(retry_after_secs), ..error }
    }

    /// 431: more headers than any client has a use for.
    pub(crate) fn too_many_headers(max: usize) -> Self {
        let detail = format!("a request has at most {max} headers");
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "too_many_headers", detail)
    }

    /// 500: the cause goes to the log, the client gets the request's id.
    pub(crate) fn internal() -> Self {
        let detail = "internal error; the log has the cause under this request's id";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail)
    }

    /// 503: later it may work.
    pub(crate) fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        let error = Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail);
        Self { retry_after_secs: Some(RETRY_AFTER_SECS), ..error }
    }

    /// 503: nothing has been loaded yet.
    pub(crate) fn not_ready() -> Self {
        let error =
            Self::unavailable("not_ready", "nothing has been loaded from the store yet; try again");
        // Spread, so that those who were refused together do not come back together.
        let after = NOT_READY_RETRY_MIN + NOT_READY_RETRY_SPREAD.mul_f64(Ids.jitter());
        Self { retry_after_secs: u32::try_from(after.as_secs()).ok(), ..error }
    }

    /// An input with problems, all of which are told.
    pub(crate) fn invalid(status: StatusCode, problems: Problems) -> Self {
        let (code, detail) = match problems.as_slice() {
            [] => ("invalid", "the body is not valid".to_owned()),
            [only] => (only.code, only.detail.clone()),
            [first, rest @ ..] => {
                (first.code, format!("{}; and {} more, see errors", first.detail, rest.len()))
            }
        };
        Self { problems, ..Self::new(status, code, detail) }
    }

    /// Takes the error that a response stands for, if its body has not been written yet.
    pub(crate) fn take_from(response: &mut Response) -> Option<Self> {
        if let Some(error) = response.extensions_mut().remove() {
            return Some(error);
        }
        // axum answers a method that a route does not have by itself, with the header `Allow` and without a body.
        let is_bare = !response.headers().contains_key(header::CONTENT_TYPE);
        (response.status() == StatusCode::METHOD_NOT_ALLOWED && is_bare)
            .then(Self::method_not_allowed)
    }

    /// 405: the response must also have the header `Allow`.
    pub(crate) fn method_not_allowed() -> Self {
        let detail = "the route does not have this method; the header Allow names those it has";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
    }

    /// Writes the error as a problem document.
    pub(crate) fn write_problem(&self, _: &Uri, request_id: &str) -> Response {
        let body = ProblemBody {
            type_: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            code: self.code,
            detail: &self.detail,
            errors: self.problems.as_slice().iter().map(problem_item).collect(),
            dependants: self.dependants.iter().cloned().map(DependencyBody::from).collect(),
            request_id,
        };
        self.respond("application/problem+json", serde_json::to_vec(&body).unwrap_or_default())
    }

    /// A response with this error's status and headers and the given body.
    pub(crate) fn respond(&self, content_type: &'static str, body: Vec<u8>) -> Response {
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(secs) = self.retry_after_secs {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        if matches!(self.status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT) {
            // The rest of the body is not read, so the connection cannot be used again.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

fn problem_item(problem: &Problem) -> ProblemItem<'_> {
    ProblemItem { path: &problem.path, code: problem.code, detail: &problem.detail }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::NotAdmin => Self::forbidden(
                "token_kind",
                "this needs an administration token (vxa_…), and the token is of an SDK",
            ),
            Denied::Role { needed } => {
                let role = needed.as_str();
                let detail = format!("this needs a token with the role {role}");
                Self::forbidden("role", detail)
            }
            Denied::Scope => {
                Self::forbidden("scope", "this needs a token whose scope is the installation")
            }
            Denied::NotFound => {
                Self::not_found("there is no such project or environment within the token's scope")
            }
            Denied::NoSuchFlag => {
                Self::not_found("no environment within the token's scope has such a flag")
            }
            Denied::Ambiguous { candidates } => {
                let candidates = candidates.join(", ");
                let detail = format!(
                    "the token reaches several environments ({candidates}); add ?project=…&environment=…"
                );
                Self::bad_request("environment_required", detail)
            }
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Invalid(problems) => {
                Self::invalid(StatusCode::UNPROCESSABLE_ENTITY, problems)
            }
            ControlError::NotFound { .. } => Self::not_found(error.to_string()),
            ControlError::Conflict { code, detail }
            | ControlError::ChangedSince { code, detail, .. } => {
                Self::new(StatusCode::CONFLICT, code, detail)
            }
            ControlError::Outdated { .. } => {
                Self::new(StatusCode::PRECONDITION_FAILED, "outdated", error.to_string())
            }
            ControlError::VersionRequired => {
                Self::new(StatusCode::PRECONDITION_REQUIRED, "if_match_required", error.to_string())
            }
            ControlError::Denied(denied) => denied.into(),
            ControlError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => {
                tracing::warn!(cause, "the store is unavailable");
                let detail = "the database cannot be reached; try again";
                Self::unavailable("store_unavailable", detail)
            }
            StoreError::Regressed(lost) => {
                let detail = if lost == OTHER_INSTALLATION {
                    format!(
                        "{lost}; lead this replica back to its own, or start it without what it has kept in its data directory"
                    )
                } else {
                    format!(
                        "the database lacks what was served ({lost}); restore it, or accept it with `vexil accept-history`"
                    )
                };
                Self::new(StatusCode::CONFLICT, "history_regressed", detail)
            }
            other => {
                tracing::error!(error = %other, "the store failed");
                Self::internal()
            }
        }
    }
}
