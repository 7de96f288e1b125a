//! The directory: which environments there are and which tokens reach them.

use crate::model::change::EnvId;
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
    /// Grows with every change of projects, environments and tokens.
    pub version: i64,
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
        version: i64,
        environments: Vec<Arc<Environment>>,
        grants: impl IntoIterator<Item = (Digest, Grant)>,
    ) -> Self {
        let mut directory = Self { version, environments, tokens: HashMap::new() };
        let entry = |grant: Grant| {
            let environment = match &grant.scope {
                Scope::Environment(project, env) => directory.find(project, env).cloned(),
                Scope::All | Scope::Project(_) => None,
            };
            TokenEntry { grant: Arc::new(grant), environment }
        };
        let tokens = grants.into_iter().map(|(digest, grant)| (digest, entry(grant))).collect();
        directory.tokens = tokens;
        directory
    }

    /// The token with this digest.
    pub fn token(&self, digest: &Digest) -> Option<&TokenEntry> {
        self.tokens.get(digest)
    }

    /// All environments.
    pub fn environments(&self) -> &[Arc<Environment>] {
        &self.environments
    }

    /// The environment with this number.
    pub fn environment(&self, id: EnvId) -> Option<&Arc<Environment>> {
        self.environments.iter().find(|environment| environment.id == id)
    }

    /// The environment with these keys.
    pub fn find(&self, project: &ProjectKey, env: &EnvKey) -> Option<&Arc<Environment>> {
        let is_meant = |each: &&Arc<Environment>| each.key == *env && each.project == *project;
        self.environments.iter().find(is_meant)
    }
}
