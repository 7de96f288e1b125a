//! Who is asking, and what they may do.
//!
//! # Invariants
//!
//! * Everything is decided from the snapshot's directory: a request is authenticated without the store.
//! * Tokens are compared and kept as digests; the token itself is shown once, when it is made.
//! * Denied unless a check here says otherwise. What lies outside of a token's scope does not exist for it.

mod permission;
mod seal;
mod signature;
mod signing;
mod ticket;
mod token;

pub use permission::Denied;
pub use permission::Permission;
pub use permission::Place;
pub use permission::environment_for;
pub use permission::includes;
pub use permission::require;
pub use seal::AnswerKey;
pub use signature::HeadSigner;
pub use signature::is_signed;
pub use signing::is_signed_context;
pub use signing::signing_state;
pub use ticket::ticket;
pub use ticket::ticket_holder;
pub use token::NewSecret;
pub use token::digest;
pub use token::is_mistyped;
pub use token::is_trigger_secret;
pub use token::new_secret;
pub use token::new_trigger_secret;
