//! What a token may do, as it is stored: never the token itself, only its digest.
//!
//! How tokens are made, read and checked is in `auth`.

use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// SHA-256 of a token.
pub type Digest = [u8; 32];

/// What kind of program holds a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// A backend: sees every flag of one environment. Secret.
    Server,
    /// A browser: sees the flags that are marked for it, evaluated. A public identifier, not a secret.
    Client,
    /// A mobile application: as a browser, for the flags that are marked for mobile.
    Mobile,
    /// A person or a pipeline that administers. Secret.
    Admin,
}

/// The words for the kinds, as they appear in JSON.
pub const TOKEN_KINDS: &[(&str, TokenKind)] = &[
    ("server", TokenKind::Server),
    ("client", TokenKind::Client),
    ("mobile", TokenKind::Mobile),
    ("admin", TokenKind::Admin),
];

/// What the holder of an administration token may do within its scope; `auth` says which role may do what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// May read.
    Viewer,
    /// May also change, kill and restore flags, and change segments; in protected environments only turn flags off.
    Editor,
    /// May do so in protected environments, too.
    Releaser,
    /// May read, and decide on what others ask for.
    Approver,
    /// May do everything within its projects and environments, tokens of that scope included.
    ProjectAdmin,
    /// May do everything within its scope.
    Administrator,
    /// May read everything, tokens and the export of the audit log included, and do nothing else.
    Auditor,
}

/// The words for the roles, as they appear in JSON.
pub const ROLES: &[(&str, Role)] = &[
    ("viewer", Role::Viewer),
    ("editor", Role::Editor),
    ("releaser", Role::Releaser),
    ("approver", Role::Approver),
    ("projectAdmin", Role::ProjectAdmin),
    ("administrator", Role::Administrator),
    ("auditor", Role::Auditor),
];

impl Role {
    /// The word for it, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        ROLES.iter().find(|(_, each)| *each == self).map_or("", |(word, _)| word)
    }
}

/// Who holds an administration token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Holder {
    /// A program, for instance a pipeline.
    Service,
    /// A person; such a token expires.
    Personal,
}

/// The words for the holders, as they appear in JSON.
pub const HOLDERS: &[(&str, Holder)] =
    &[("service", Holder::Service), ("personal", Holder::Personal)];

impl Holder {
    /// The word for it, as it appears in JSON.
    pub fn as_str(self) -> &'static str {
        HOLDERS.iter().find(|(_, each)| *each == self).map_or("", |(word, _)| word)
    }
}

/// The part of the installation that a token reaches; fixed when the token is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Scope {
    /// Everything.
    All,
    /// One project with all its environments.
    Project(ProjectKey),
    /// One environment.
    Environment(ProjectKey, EnvKey),
}

impl Scope {
    /// Whether the whole project is within the scope.
    pub fn covers_project(&self, project: &ProjectKey) -> bool {
        match self {
            Self::All => true,
            Self::Project(own) => own == project,
            Self::Environment(..) => false,
        }
    }

    /// Whether the project is within the scope as a whole or in part.
    pub fn reaches_project(&self, project: &ProjectKey) -> bool {
        match self {
            Self::All => true,
            Self::Project(own) | Self::Environment(own, _) => own == project,
        }
    }

    /// Whether the environment is within the scope.
    pub fn covers_environment(&self, project: &ProjectKey, env: &EnvKey) -> bool {
        match self {
            Self::All => true,
            Self::Project(own) => own == project,
            Self::Environment(own_project, own_env) => own_project == project && own_env == env,
        }
    }
}

/// What is known about a token after its digest was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Identifies the token in the audit log and for revocation.
    pub id: String,
    /// For people.
    pub name: String,
    /// What kind of program holds it.
    pub kind: TokenKind,
    /// What it may administer; `None` for SDK tokens.
    pub role: Option<Role>,
    /// Where.
    pub scope: Scope,
    /// Who holds it; `None` for SDK tokens.
    #[serde(default)]
    pub holder: Option<Holder>,
    /// When it stops working; the secret before a rotation has a time of its own.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Proves what was signed with the token; `None` for all but server tokens, and for those of the time before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signing: Option<SigningState>,
}

/// What is kept of a server token to check what its holder has signed: the states of an HMAC after its key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningState(pub Vec<u8>);

impl std::fmt::Debug for SigningState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningState(…)")
    }
}
