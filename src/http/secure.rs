//! Secure mode: in environments that ask for it, browsers send only contexts that the application's backend has signed.

use crate::auth;
use crate::http::error::ApiError;
use crate::http::extract::Caller;
use crate::model::context::Context;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use axum::http::HeaderMap;
use std::sync::Arc;

/// Where clients that speak no protocol of LaunchDarkly's send the signature.
const SIGNATURE: &str = "vexil-context-hash";

/// Checks that a browser may ask about a context.
///
/// # Errors
///
/// 400 if the environment is in secure mode and none of its server tokens has signed the context.
pub(crate) fn check_signed(
    caller: &Caller,
    environment: &Arc<Environment>,
    context: &Context,
    signature: Option<&str>,
) -> Result<(), ApiError> {
    if !needs_signature(caller, environment) {
        return Ok(());
    }
    let directory = caller.snapshots.directory();
    let is_signed =
        |signature| auth::is_signed_context(&directory, environment, context, signature);
    if signature.is_some_and(is_signed) {
        return Ok(());
    }
    let detail = "the environment is in secure mode: send the hash of the context that the backend's SDK makes (`secureModeHash`), as `h` or as Vexil-Context-Hash";
    Err(ApiError::bad_request("secure_mode", detail))
}

/// Whether contexts of this caller must be signed.
pub(crate) fn needs_signature(caller: &Caller, environment: &Environment) -> bool {
    caller.grant().kind == TokenKind::Client && environment.safety().secure_mode
}

/// The signature in the headers.
pub(crate) fn signature_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SIGNATURE).and_then(|value| value.to_str().ok())
}
