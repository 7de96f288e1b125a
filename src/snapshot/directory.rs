//! The directory: which environments there are and which tokens reach them.

use crate::clock::Clock;
use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::environment::Safety;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::model::token::Scope;
use crate::model::token::TokenKind;
use crate::snapshot::Environment;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

/// Which environments there are and which tokens reach them, at one version.
#[derive(Debug, Default)]
pub struct Directory {
    /// Where it stands in the history of projects, environments and tokens.
    pub position: Position,
    environments: Vec<Arc<Environment>>,
    tokens: HashMap<Digest, Slot>,
    /// When tokens stop working, in order.
    expiries: Vec<Timestamp>,
}

/// A token that is accepted.
#[derive(Debug, Clone)]
pub struct TokenEntry {
    /// What it grants.
    pub grant: Arc<Grant>,
    /// The environment, if the token is of just one.
    pub environment: Option<Arc<Environment>>,
}

/// A token with what is noted about it.
#[derive(Debug)]
struct Slot {
    entry: TokenEntry,
    /// Whether it was looked up since that was last asked; shared by all directories that have the token.
    is_used: Arc<AtomicBool>,
}

impl TokenEntry {
    fn has_expired(&self) -> bool {
        self.grant.expires_at.is_some_and(|at| at <= Clock.now())
    }
}

impl Directory {
    /// Puts a directory together.
    pub fn new(
        position: Position,
        environments: Vec<Arc<Environment>>,
        grants: impl IntoIterator<Item = (Digest, Grant)>,
    ) -> Self {
        let by_keys: HashMap<(&ProjectKey, &EnvKey), &Arc<Environment>> =
            environments.iter().map(|each| ((&each.project, &each.key), each)).collect();
        let entry = |grant: Grant| {
            let environment = match &grant.scope {
                Scope::Environment(project, env) => by_keys.get(&(project, env)),
                Scope::All | Scope::Project(_) => None,
            };
            let environment = environment.map(|environment| Arc::clone(environment));
            let entry = TokenEntry { grant: Arc::new(grant), environment };
            Slot { entry, is_used: Arc::default() }
        };
        let tokens: HashMap<Digest, Slot> =
            grants.into_iter().map(|(digest, grant)| (digest, entry(grant))).collect();
        let mut expiries: Vec<Timestamp> =
            tokens.values().filter_map(|slot| slot.entry.grant.expires_at).collect();
        expiries.sort_unstable();
        Self { position, environments, tokens, expiries }
    }

    /// The token with this digest, unless it has expired.
    ///
    /// # Cost
    ///
    /// One look-up, and for tokens that expire the time.
    pub fn token(&self, digest: &Digest) -> Option<&TokenEntry> {
        let slot = self.tokens.get(digest).filter(|slot| !slot.entry.has_expired())?;
        // Read first, because writing would take the line from the caches of all other processors.
        if !slot.is_used.load(Ordering::Relaxed) {
            slot.is_used.store(true, Ordering::Relaxed);
        }
        Some(&slot.entry)
    }

    /// Whether there is a token with this digest that has expired.
    pub fn has_expired(&self, digest: &Digest) -> bool {
        self.tokens.get(digest).is_some_and(|slot| slot.entry.has_expired())
    }

    /// How many tokens have expired, so that streams can look whether theirs has.
    pub fn n_expired(&self) -> usize {
        if self.expiries.is_empty() {
            return 0;
        }
        let now = Clock.now();
        self.expiries.partition_point(|at| *at <= now)
    }

    /// Goes on noting which tokens are used where an earlier directory has begun to.
    pub(super) fn inherit_usage(&mut self, old: &Self) {
        for (digest, slot) in &mut self.tokens {
            if let Some(old) = old.tokens.get(digest) {
                slot.is_used = Arc::clone(&old.is_used);
            }
        }
    }

    /// The tokens that were used since this was last asked.
    pub fn take_used(&self) -> Vec<(Digest, TokenKind)> {
        let used = self.tokens.iter();
        let used = used.filter(|(_, slot)| slot.is_used.swap(false, Ordering::Relaxed));
        used.map(|(digest, slot)| (*digest, slot.entry.grant.kind)).collect()
    }

    /// All tokens with what they grant.
    pub fn grants(&self) -> impl Iterator<Item = (&Digest, &Grant)> {
        self.tokens.iter().map(|(digest, slot)| (digest, &*slot.entry.grant))
    }

    /// All environments.
    pub fn environments(&self) -> &[Arc<Environment>] {
        &self.environments
    }

    /// The environment with this number.
    pub fn environment(&self, id: EnvId) -> Option<&Arc<Environment>> {
        self.environments.iter().find(|environment| environment.id == id)
    }

    /// What keeps an environment from being changed by mistake; nothing, if it is not served.
    pub fn safety(&self, project: &ProjectKey, env: &EnvKey) -> Safety {
        let is_it = |each: &&Arc<Environment>| each.project == *project && each.key == *env;
        self.environments.iter().find(is_it).map(|each| each.safety()).unwrap_or_default()
    }

    /// Whether a project has a protected environment.
    pub fn has_protected(&self, project: &ProjectKey) -> bool {
        let is_it = |each: &&Arc<Environment>| each.project == *project;
        self.environments.iter().filter(is_it).any(|each| each.safety().protected)
    }
}
