//! The directory: which environments there are and which tokens reach them.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::model::token::Scope;
use crate::snapshot::Environment;
use std::collections::HashMap;
use std::sync::Arc;

/// Which environments there are and which tokens reach them, at one version.
#[derive(Debug, Default)]
pub struct Directory {
    /// Where it stands in the history of projects, environments and tokens.
    pub position: Position,
    environments: Vec<Arc<Environment>>,
    tokens: HashMap<Digest, TokenEntry>,
}

/// A token that is accepted.
#[derive(Debug, Clone)]
pub struct TokenEntry {
    /// What it grants.
    pub grant: Arc<Grant>,
    /// The environment, if the token is of just one.
    pub environment: Option<Arc<Environment>>,
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
            TokenEntry { grant: Arc::new(grant), environment }
        };
        let tokens = grants.into_iter().map(|(digest, grant)| (digest, entry(grant))).collect();
        Self { position, environments, tokens }
    }

    /// The token with this digest.
    pub fn token(&self, digest: &Digest) -> Option<&TokenEntry> {
        self.tokens.get(digest)
    }

    /// All tokens with what they grant.
    pub fn grants(&self) -> impl Iterator<Item = (&Digest, &Grant)> {
        self.tokens.iter().map(|(digest, entry)| (digest, &*entry.grant))
    }

    /// All environments.
    pub fn environments(&self) -> &[Arc<Environment>] {
        &self.environments
    }

    /// The environment with this number.
    pub fn environment(&self, id: EnvId) -> Option<&Arc<Environment>> {
        self.environments.iter().find(|environment| environment.id == id)
    }
}
