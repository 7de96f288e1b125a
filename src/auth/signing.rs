//! Secure mode: whether a context is one that an application's backend has signed with a server token.
//!
//! The signature is HMAC-SHA256 of the context's key, whose key is the token. Tokens are stored nowhere, but an HMAC needs its
//! key only for the first block of each of its two hashes, so the states after those are kept: they check signatures, and
//! nobody can find the token from them.
//!
//! Source: `secureModeHash` of LaunchDarkly's server-side SDKs; RFC 2104.

use crate::model::context::Context;
use crate::model::token::SigningState;
use crate::model::token::TokenKind;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use sha2::Digest;
use sha2::Sha256;
use sha2::digest::common::hazmat::SerializableState;
use sha2::digest::common::hazmat::SerializedState;
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// Bytes of a block of SHA-256.
const BLOCK_BYTES: usize = 64;
const INNER_PAD: u8 = 0x36;
const OUTER_PAD: u8 = 0x5c;

/// Returns what is kept of a token to check what it signs.
pub fn signing_state(token: &str) -> SigningState {
    let hashed = Sha256::digest(token.as_bytes());
    let key = if token.len() > BLOCK_BYTES { hashed.as_slice() } else { token.as_bytes() };
    let state = |pad: u8| {
        let mut block = [pad; BLOCK_BYTES];
        block.iter_mut().zip(key).for_each(|(byte, of_key)| *byte ^= of_key);
        Sha256::new_with_prefix(block).serialize().to_vec()
    };
    SigningState([state(INNER_PAD), state(OUTER_PAD)].concat())
}

/// Whether any server token of the environment has signed the context.
pub fn is_signed_context(
    directory: &Directory,
    environment: &Arc<Environment>,
    context: &Context,
    signature: &str,
) -> bool {
    let message = canonical_key(context);
    let signature = signature.to_ascii_lowercase();
    let states = directory.grants().filter(|(digest, grant)| {
        grant.kind == TokenKind::Server
            && directory.token(digest).is_some_and(|entry| {
                entry.environment.as_ref().is_some_and(|own| Arc::ptr_eq(own, environment))
            })
    });
    states.filter_map(|(_, grant)| grant.signing.as_ref()).any(|state| {
        let expected = sign(state, message.as_bytes()).unwrap_or_default();
        !expected.is_empty() && bool::from(expected.as_bytes().ct_eq(signature.as_bytes()))
    })
}

/// The signature of a message; `None` if the state is none.
fn sign(SigningState(state): &SigningState, message: &[u8]) -> Option<String> {
    let (inner, outer) = state.split_at_checked(state.len() / 2)?;
    let resumed = |state: &[u8]| {
        let state = SerializedState::<Sha256>::try_from(state).ok()?;
        Sha256::deserialize(&state).ok()
    };
    let inner = resumed(inner)?.chain_update(message).finalize();
    Some(hex::encode(resumed(outer)?.chain_update(inner).finalize()))
}

/// The key of a context as one text: of a user alone as it is, otherwise `kind:key` of each kind, in the order of the kinds.
fn canonical_key(context: &Context) -> String {
    let kinds = context.kinds();
    if let [only] = kinds
        && only.kind == "user"
    {
        return only.key.clone().unwrap_or_default();
    }
    let mut parts: Vec<(&str, String)> = kinds
        .iter()
        .map(|each| {
            let key = each.key.as_deref().unwrap_or_default();
            (each.kind.as_str(), key.replace('%', "%25").replace(':', "%3A"))
        })
        .collect();
    parts.sort_unstable();
    let parts: Vec<String> = parts.iter().map(|(kind, key)| format!("{kind}:{key}")).collect();
    parts.join(":")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn signatures_are_those_of_launchdarklys_sdks() {
        let state = signing_state("sdk-key-123");
        for (context, signature) in [
            (
                json!({"kind": "user", "key": "u1"}),
                "df06f0afcbdc593a0d9e9a84d9cb13790690ba8f0a81618158df88fb937d8c1c",
            ),
            (
                json!({"kind": "multi", "user": {"key": "u:1"}, "org": {"key": "o%1"}}),
                "e48c70717a0076144fda4ba965b32265511e59fad745b266ee1288981d02db8e",
            ),
        ] {
            let context = Context::decode(context).unwrap();
            let message = canonical_key(&context);
            assert_eq!(sign(&state, message.as_bytes()).unwrap(), signature, "{message}");
        }
        let device = Context::decode(json!({"kind": "device", "key": "a:b"})).unwrap();
        assert_eq!(canonical_key(&device), "device:a%3Ab");
        assert_eq!(sign(&SigningState(vec![1, 2, 3]), b"x"), None);
    }
}
