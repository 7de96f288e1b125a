//! What an environment is made for.

use crate::model::rule::RolloutHash;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// Which server-side SDKs evaluate an environment's flags by themselves.
///
/// They hash on their own, so it decides which hashes rollouts may have. It is chosen when the environment is created.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServerSdk {
    /// None: whoever evaluates asks this server.
    #[default]
    None,
    /// LaunchDarkly's, which know SHA-1 only.
    LaunchDarkly,
}

/// The words for the kinds of server-side SDK, as they appear in JSON.
pub const SERVER_SDKS: &[(&str, ServerSdk)] =
    &[("none", ServerSdk::None), ("launchdarkly", ServerSdk::LaunchDarkly)];

impl ServerSdk {
    /// The hash of a rollout for which none was chosen.
    pub fn default_hash(self) -> RolloutHash {
        match self {
            Self::None => RolloutHash::Murmur3,
            Self::LaunchDarkly => RolloutHash::Sha1,
        }
    }

    /// Whether rollouts of the environment may have this hash.
    pub fn admits(self, hash: RolloutHash) -> bool {
        self == Self::None || hash == self.default_hash()
    }

    /// The word for it, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        SERVER_SDKS.iter().find(|(_, each)| *each == self).map_or("", |(word, _)| word)
    }
}

/// What keeps an environment from being changed by mistake. Kills, restores and turning flags off are never held up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Safety {
    /// Only some roles may change it.
    pub protected: bool,
    /// Every change says why.
    pub require_comment: bool,
    /// Every change of a flag says from which version.
    pub require_if_match: bool,
    /// Browsers send only contexts that a backend has signed.
    #[serde(default)]
    pub secure_mode: bool,
}
