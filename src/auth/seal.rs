//! Encrypting kept answers with a key that is made of the caller's token, which is stored nowhere: an answer can hold a secret,
//! and only who sent the request may read it again.

use aws_lc_rs::aead::AES_256_GCM;
use aws_lc_rs::aead::Aad;
use aws_lc_rs::aead::NONCE_LEN;
use aws_lc_rs::aead::Nonce;
use aws_lc_rs::aead::RandomizedNonceKey;

const PURPOSE: &str = "vexil key of a kept answer";

/// Encrypts and decrypts the answer to one request.
pub struct AnswerKey(Option<RandomizedNonceKey>);

impl std::fmt::Debug for AnswerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnswerKey(…)")
    }
}

impl AnswerKey {
    /// Makes the key of a token and of what tells the request from others of it.
    pub fn new(token: &str, request: &str) -> Self {
        let material = format!("{token}\n{request}");
        let key = blake3::derive_key(PURPOSE, material.as_bytes());
        // OK because the key has the length that the algorithm wants; without it nothing would be kept.
        Self(RandomizedNonceKey::new(&AES_256_GCM, &key).ok())
    }

    /// Encrypts an answer; `None` if the system has no randomness.
    pub fn seal(&self, mut answer: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = self.0.as_ref()?.seal_in_place_append_tag(Aad::empty(), &mut answer).ok()?;
        let mut sealed = nonce.as_ref().to_vec();
        sealed.append(&mut answer);
        Some(sealed)
    }

    /// Decrypts an answer; `None` if it was encrypted with another key.
    pub fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let opened = self.0.as_ref()?.open_in_place(nonce, Aad::empty(), &mut text).ok()?;
        Some(opened.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::AnswerKey;

    #[test]
    fn only_the_same_token_and_request_open_an_answer() {
        let key = AnswerKey::new("token", "request");
        let sealed = key.seal(b"a secret".to_vec()).unwrap();
        assert!(!sealed.windows(6).any(|part| part == b"secret"));
        assert_eq!(AnswerKey::new("token", "request").open(&sealed).unwrap(), b"a secret");
        assert_eq!(AnswerKey::new("other", "request").open(&sealed), None);
        assert_eq!(AnswerKey::new("token", "other").open(&sealed), None);
        assert_eq!(key.open(&sealed[1..]), None);
        assert_eq!(key.open(b""), None);
    }
}
