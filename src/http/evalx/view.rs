//! What one context gets of the flags that its client may see, now and after each change.
//!
//! How that is written for which protocol is in `values` and `transfer`.

use crate::eval::CompiledFlag;
use crate::eval::Ruleset;
use crate::eval::evaluate;
use crate::http::evalx::entry::Entry;
use crate::http::evalx::entry::Fingerprint;
use crate::http::ofrep::is_visible;
use crate::model::context::Context;
use crate::model::key::FlagKey;
use crate::model::token::TokenKind;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Bytes of SHA-256 that a digest has; 64 bits are enough to tell one client's states apart.
const DIGEST_BYTES: usize = 8;

/// Who looks: a context, and what its client may see.
#[derive(Debug)]
pub(super) struct View {
    pub(super) context: Context,
    pub(super) kind: TokenKind,
    pub(super) with_reasons: bool,
}

/// What a client has been told about each flag, so that it is told only what differs.
#[derive(Debug, Default)]
pub(super) struct Told(BTreeMap<FlagKey, Fingerprint>);

/// What differs for a client.
#[derive(Debug, Default)]
pub(super) struct Difference<'r> {
    pub(super) entries: Vec<Entry<'r>>,
    pub(super) gone: Vec<FlagKey>,
}

impl View {
    /// All flags that the client may see, by key.
    pub(super) fn all<'r>(&self, ruleset: &'r Ruleset) -> Vec<Entry<'r>> {
        let visible = ruleset.flags().filter(|flag| is_visible(flag, self.kind));
        visible.map(|flag| self.entry(ruleset, flag)).collect()
    }

    /// What differs, among these flags, from what the client has been told; takes note of it.
    pub(super) fn difference<'r>(
        &self,
        ruleset: &'r Ruleset,
        flags: &BTreeSet<FlagKey>,
        told: &mut Told,
    ) -> Difference<'r> {
        let mut difference = Difference::default();
        for key in flags {
            let flag = ruleset.flag(key.as_str()).filter(|flag| is_visible(flag, self.kind));
            match flag.map(|flag| self.entry(ruleset, flag)) {
                Some(entry) => {
                    let fingerprint = entry.fingerprint();
                    if told.0.insert(key.clone(), fingerprint) != Some(fingerprint) {
                        difference.entries.push(entry);
                    }
                }
                None if told.0.remove(key).is_some() => difference.gone.push(key.clone()),
                None => {}
            }
        }
        difference
    }

    fn entry<'r>(&self, ruleset: &'r Ruleset, flag: &'r CompiledFlag) -> Entry<'r> {
        Entry::new(flag, &evaluate(ruleset, flag, &self.context), self.with_reasons)
    }
}

impl Told {
    /// Of a client that was told these.
    pub(super) fn of(entries: &[Entry<'_>]) -> Self {
        let told = entries.iter().map(|entry| (entry.flag.key.clone(), entry.fingerprint()));
        Self(told.collect())
    }

    /// All of it in short; the same from every replica.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (key, fingerprint) in &self.0 {
            hash.update(key.as_str());
            // Keys have no zero in them, so each ends where its zero is.
            hash.update([0]);
            hash.update(fingerprint.to_be_bytes());
        }
        hex::encode(hash.finalize().get(..DIGEST_BYTES).unwrap_or_default())
    }
}

impl Difference<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.gone.is_empty()
    }
}
