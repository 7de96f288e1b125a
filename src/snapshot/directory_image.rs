//! The directory written down: which environments there are, and the digests of the tokens that reach them.

use crate::model::change::EnvId;
use crate::model::change::Position;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::snapshot::Directory;
use crate::snapshot::image::ImageError;
use crate::snapshot::image::ImageKey;
use crate::snapshot::image::open;
use crate::snapshot::image::seal;
use serde::Deserialize;
use serde::Serialize;

/// The directory as it is written down.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DirectoryImage {
    /// Which installation it is of.
    pub installation: String,
    /// Where it stands.
    pub position: Position,
    /// All environments.
    pub environments: Vec<EnvironmentEntry>,
    /// All tokens that are in the store.
    pub tokens: Vec<(Digest, Grant)>,
}

/// An environment as the directory names it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvironmentEntry {
    /// Its number in the database.
    pub id: EnvId,
    /// The project that it belongs to.
    pub project: ProjectKey,
    /// Its key.
    pub key: EnvKey,
    /// How long evaluations go on without confirmation, in seconds; `None` is for ever.
    pub fail_closed_after_secs: Option<u64>,
    /// Which server-side SDKs it is for; `None` if an earlier version of the program wrote it.
    #[serde(default)]
    pub server_sdk: Option<ServerSdk>,
    /// What keeps it from being changed by mistake.
    #[serde(default)]
    pub safety: Safety,
}

impl DirectoryImage {
    /// Takes down a directory, without the tokens that are not in the store.
    pub fn of(installation: &str, directory: &Directory, configured: &[(Digest, Grant)]) -> Self {
        let is_stored = |digest: &Digest| !configured.iter().any(|(each, _)| each == digest);
        let mut tokens: Vec<(Digest, Grant)> = directory
            .grants()
            .filter(|(digest, _)| is_stored(digest))
            .map(|(digest, grant)| (*digest, grant.clone()))
            .collect();
        tokens.sort_by_key(|(digest, _)| *digest);
        let entry = |environment: &std::sync::Arc<crate::snapshot::Environment>| EnvironmentEntry {
            id: environment.id,
            project: environment.project.clone(),
            key: environment.key.clone(),
            fail_closed_after_secs: environment.fail_closed_after().map(|after| after.as_secs()),
            server_sdk: environment.server_sdk(),
            safety: environment.safety(),
        };
        let environments = directory.environments().iter().map(entry).collect();
        let installation = installation.to_owned();
        Self { installation, position: directory.position, environments, tokens }
    }

    /// Writes it down.
    pub fn seal(&self, key: &ImageKey) -> Vec<u8> {
        // OK because all of it has a JSON form.
        seal(key, &serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what [`DirectoryImage::seal`] wrote.
    ///
    /// # Errors
    ///
    /// The bytes are not such an image.
    pub fn open(key: &ImageKey, bytes: &[u8]) -> Result<Self, ImageError> {
        let text = open(key, bytes)?;
        serde_json::from_slice(text).map_err(|error| ImageError::Malformed(error.to_string()))
    }
}
