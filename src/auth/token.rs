//! Making and reading tokens.
//!
//! A token is a prefix that tells its kind, 43 characters of base 62 (256 random bits) and 6 characters of checksum:
//! `vxs_` + 43 + 6. The prefix lets secret scanners find leaked tokens; the checksum tells a typo from an unknown token
//! without a look-up. A token of 256 random bits needs no slow hash: it is kept as plain SHA-256.

use crate::clock::Ids;
use crate::model::token::Digest;
use crate::model::token::TokenKind;
use sha2::Digest as _;
use sha2::Sha256;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// `62^43` is just above `2^256`.
const SECRET_CHARS: usize = 43;
/// `62^6` is above `2^32`.
const CHECKSUM_CHARS: usize = 6;
/// The last characters of a token, which are kept for people to recognise it by.
const HINT_CHARS: usize = 4;

/// The prefix of a trigger's secret.
const TRIGGER_PREFIX: &str = "vxt_";

const PREFIXES: &[(TokenKind, &str)] = &[
    (TokenKind::Server, "vxs_"),
    (TokenKind::Client, "vxc_"),
    (TokenKind::Mobile, "vxm_"),
    (TokenKind::Admin, "vxa_"),
];

/// A token that has just been made; the only moment at which it is known.
pub struct NewSecret {
    /// The token.
    pub token: String,
    /// What is stored of it.
    pub digest: Digest,
    /// Its last characters.
    pub hint: String,
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NewSecret(…{})", self.hint)
    }
}

/// Makes a token.
pub fn new_secret(kind: TokenKind, ids: Ids) -> NewSecret {
    complete(kind, &ids.secret(ALPHABET, SECRET_CHARS))
}

impl NewSecret {
    /// Takes a token that is known beforehand, as the demonstration's are.
    pub fn known(token: &str) -> Self {
        let n_chars = token.chars().count();
        let hint = token.chars().skip(n_chars.saturating_sub(HINT_CHARS)).collect();
        Self { token: token.to_owned(), digest: digest(token), hint }
    }
}

/// Makes the secret of a trigger, which has the form of a token and is none.
pub fn new_trigger_secret(ids: Ids) -> NewSecret {
    with_checksum(TRIGGER_PREFIX, &ids.secret(ALPHABET, SECRET_CHARS))
}

/// Whether a text has the form and the checksum of a trigger's secret.
pub fn is_trigger_secret(text: &str) -> bool {
    let start = text.len().checked_sub(CHECKSUM_CHARS).and_then(|end| text.get(..end));
    let is_complete = start.is_some_and(|start| text.get(start.len()..) == Some(&checksum(start)));
    text.starts_with(TRIGGER_PREFIX) && is_complete
}

fn complete(kind: TokenKind, secret: &str) -> NewSecret {
    let prefix = PREFIXES.iter().find(|(each, _)| *each == kind).map_or("", |(_, prefix)| prefix);
    with_checksum(prefix, secret)
}

fn with_checksum(prefix: &str, secret: &str) -> NewSecret {
    let start = format!("{prefix}{secret}");
    NewSecret::known(&format!("{start}{}", checksum(&start)))
}

/// Returns what is stored of a token.
pub fn digest(token: &str) -> Digest {
    Sha256::digest(token.as_bytes()).into()
}

/// Whether a text has the form of a token but not its checksum, so that it is a typo and not an unknown token.
pub fn is_mistyped(token: &str) -> bool {
    let has_prefix = PREFIXES.iter().any(|(_, prefix)| token.starts_with(prefix));
    let start = token.len().checked_sub(CHECKSUM_CHARS).and_then(|end| token.get(..end));
    has_prefix && start.is_none_or(|start| token.get(start.len()..) != Some(&checksum(start)))
}

/// CRC-32 in base 62, most significant digit first.
fn checksum(text: &str) -> String {
    let mut rest = crc32fast::hash(text.as_bytes());
    let mut digits = Vec::with_capacity(CHECKSUM_CHARS);
    for _ in 0..CHECKSUM_CHARS {
        let digit = usize::try_from(rest % 62).ok().and_then(|i| ALPHABET.get(i)).copied();
        digits.push(digit.map_or('0', char::from));
        rest /= 62;
    }
    digits.iter().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_their_form() {
        for (kind, prefix) in PREFIXES {
            let secret = new_secret(*kind, Ids);
            assert!(secret.token.starts_with(prefix));
            assert_eq!(secret.token.len(), 4 + SECRET_CHARS + CHECKSUM_CHARS);
            assert!(!is_mistyped(&secret.token));
            assert!(secret.token.ends_with(&secret.hint));
            assert_eq!(secret.digest, digest(&secret.token));
            assert!(!format!("{secret:?}").contains(&secret.token));
        }
        assert_ne!(
            new_secret(TokenKind::Admin, Ids).token,
            new_secret(TokenKind::Admin, Ids).token
        );
    }

    #[test]
    fn every_typo_is_noticed() {
        let token = new_secret(TokenKind::Server, Ids).token;
        for i in 4..token.len() {
            let mut typo = token.clone().into_bytes();
            typo[i] = if typo[i] == b'x' { b'y' } else { b'x' };
            assert!(is_mistyped(&String::from_utf8(typo).unwrap()), "position {i}");
        }
        assert!(is_mistyped("vxs_"));
        assert!(!is_mistyped("a secret of the operator's own"));
    }
}
