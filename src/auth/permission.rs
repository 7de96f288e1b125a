//! What the holder of a token may do.

use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Grant;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::snapshot::Directory;
use crate::snapshot::Environment;
use std::sync::Arc;

/// Why something is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The token is of an SDK and administers nothing.
    NotAdmin,
    /// The token's role is too small.
    Role {
        /// The role that is needed.
        needed: Role,
    },
    /// The token reaches only a part of the installation, and this is about the whole.
    Scope,
    /// What is asked for is not there, or outside of the token's scope, which is the same to its holder.
    NotFound,
    /// The token reaches several environments, and none of them has the flag.
    NoSuchFlag,
    /// The token reaches several environments, and the request does not say which is meant.
    Ambiguous {
        /// Those that could be meant, as `project/environment`.
        candidates: Vec<String>,
    },
}

/// What may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Reading everything but tokens.
    Read,
    /// Reading which tokens there are.
    ReadTokens,
    /// Taking the whole audit log away.
    ExportAudit,
    /// Killing, restoring and turning off flags, wherever.
    TurnOff,
    /// Creating flags, which start off.
    CreateFlag,
    /// Changing flags and segments in environments that are not protected.
    Change,
    /// Changing flags and segments in protected environments.
    ChangeProtected,
    /// Renaming a project; creating, changing and deleting its environments.
    ManageProject,
    /// Making, rotating and revoking tokens.
    ManageTokens,
    /// Deleting a project.
    DeleteProject,
    /// Creating projects, and deciding what is about the whole installation.
    ManageInstallation,
}

const PERMISSIONS: &[Permission] = &[
    Permission::Read,
    Permission::ReadTokens,
    Permission::ExportAudit,
    Permission::TurnOff,
    Permission::CreateFlag,
    Permission::Change,
    Permission::ChangeProtected,
    Permission::ManageProject,
    Permission::ManageTokens,
    Permission::DeleteProject,
    Permission::ManageInstallation,
];

impl Permission {
    /// The least role that has it.
    pub fn needed(self) -> Role {
        match self {
            Self::Read => Role::Viewer,
            Self::ReadTokens | Self::ExportAudit => Role::Auditor,
            Self::TurnOff | Self::CreateFlag | Self::Change => Role::Editor,
            Self::ChangeProtected => Role::Releaser,
            Self::ManageProject | Self::ManageTokens => Role::ProjectAdmin,
            Self::DeleteProject | Self::ManageInstallation => Role::Administrator,
        }
    }

    /// Whether a role has it, within its scope.
    pub fn is_of(self, role: Role) -> bool {
        use Permission as P;
        match role {
            Role::Viewer | Role::Approver => self == P::Read,
            Role::Auditor => matches!(self, P::Read | P::ReadTokens | P::ExportAudit),
            Role::Editor => matches!(self, P::Read | P::TurnOff | P::CreateFlag | P::Change),
            Role::Releaser => matches!(self, P::ChangeProtected) || self.is_of(Role::Editor),
            Role::ProjectAdmin => {
                let own = matches!(self, P::ReadTokens | P::ManageProject | P::ManageTokens);
                own || self.is_of(Role::Releaser)
            }
            Role::Administrator => true,
        }
    }
}

/// Whether whoever has `role` may make a token with `other`: that may do nothing which it may not do itself.
pub fn includes(role: Role, other: Role) -> bool {
    PERMISSIONS.iter().all(|permission| !permission.is_of(other) || permission.is_of(role))
}

/// What something is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// Whatever is within the token's scope.
    Anywhere,
    /// The whole installation.
    Installation,
    /// A whole project.
    Project(&'a ProjectKey),
    /// A project as far as the token reaches it.
    PartOf(&'a ProjectKey),
    /// An environment.
    Environment(&'a ProjectKey, &'a EnvKey),
}

/// Checks that a token may do something.
///
/// # Errors
///
/// It may not. What it does not reach does not exist for it.
pub fn require(grant: &Grant, permission: Permission, place: Place<'_>) -> Result<(), Denied> {
    let Some(role) = grant.role else { return Err(Denied::NotAdmin) };
    let scope = &grant.scope;
    let reaches = match place {
        Place::Anywhere | Place::Installation => true,
        Place::Project(project) => scope.covers_project(project),
        Place::PartOf(project) => scope.reaches_project(project),
        Place::Environment(project, env) => scope.covers_environment(project, env),
    };
    if !reaches {
        return Err(Denied::NotFound);
    }
    if !permission.is_of(role) {
        return Err(Denied::Role { needed: permission.needed() });
    }
    if place == Place::Installation && *scope != Scope::All {
        return Err(Denied::Scope);
    }
    Ok(())
}

/// Finds the environment that a request means which names none in its path.
///
/// It is the token's own, if the token is of one. Otherwise it must be the only one within the token's scope that is named
/// by `project` and `env` as far as they are given and, if `flag` is given, has that flag.
///
/// # Errors
///
/// [`Denied::NotFound`] or [`Denied::NoSuchFlag`] if there is none, [`Denied::Ambiguous`] if there are several.
pub fn environment_for(
    grant: &Grant,
    directory: &Directory,
    project: Option<&str>,
    env: Option<&str>,
    flag: Option<&str>,
) -> Result<Arc<Environment>, Denied> {
    let is_meant = |each: &&Arc<Environment>| {
        grant.scope.covers_environment(&each.project, &each.key)
            && project.is_none_or(|project| each.project.as_str() == project)
            && env.is_none_or(|env| each.key.as_str() == env)
    };
    let mut found: Vec<&Arc<Environment>> =
        directory.environments().iter().filter(is_meant).collect();
    if found.len() > 1
        && let Some(flag) = flag
    {
        found.retain(|each| each.ruleset().flag(flag).is_some());
        if found.is_empty() {
            return Err(Denied::NoSuchFlag);
        }
    }
    match found.as_slice() {
        [] => Err(Denied::NotFound),
        [only] => Ok(Arc::clone(only)),
        several => {
            let name = |each: &&Arc<Environment>| format!("{}/{}", each.project, each.key);
            Err(Denied::Ambiguous { candidates: several.iter().map(name).collect() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::change::Position;
    use crate::model::token::TokenKind;

    fn grant(role: Option<Role>, scope: Scope) -> Grant {
        let kind = if role.is_some() { TokenKind::Admin } else { TokenKind::Server };
        let (id, name) = ("t".to_owned(), "t".to_owned());
        Grant { id, name, kind, role, scope, holder: None, expires_at: None, signing: None }
    }

    fn directory(keys: &[(&str, &str)]) -> Directory {
        let environment = |(i, (project, env)): (usize, &(&str, &str))| {
            let (project, env) = (ProjectKey::stored(project), EnvKey::stored(env));
            Arc::new(Environment::new(i64::try_from(i).unwrap(), project, env))
        };
        Directory::new(Position::default(), keys.iter().enumerate().map(environment).collect(), [])
    }

    #[test]
    fn roles_count_within_their_scope_only() {
        let (shop, blog) = (ProjectKey::stored("shop"), ProjectKey::stored("blog"));
        let (live, test) = (EnvKey::stored("live"), EnvKey::stored("test"));
        let own = Scope::Environment(shop.clone(), live.clone());
        let editor = grant(Some(Role::Editor), own.clone());
        let may = |permission, project, env| {
            require(&editor, permission, Place::Environment(project, env))
        };
        assert_eq!(may(Permission::Read, &shop, &live), Ok(()));
        assert_eq!(may(Permission::Change, &shop, &live), Ok(()));
        let needed = Role::Releaser;
        assert_eq!(may(Permission::ChangeProtected, &shop, &live), Err(Denied::Role { needed }));
        assert_eq!(may(Permission::Read, &shop, &test), Err(Denied::NotFound));
        assert_eq!(may(Permission::Read, &blog, &live), Err(Denied::NotFound));
        let place = Place::Project(&shop);
        assert_eq!(require(&editor, Permission::Read, place), Err(Denied::NotFound));
        assert_eq!(require(&editor, Permission::Read, Place::PartOf(&shop)), Ok(()));
        let server = grant(None, own);
        let denied = require(&server, Permission::Read, Place::Environment(&shop, &live));
        assert_eq!(denied, Err(Denied::NotAdmin));
        let administrator = grant(Some(Role::Administrator), Scope::Project(shop));
        let denied = require(&administrator, Permission::ManageInstallation, Place::Installation);
        assert_eq!(denied, Err(Denied::Scope));
    }

    #[test]
    fn the_needed_role_has_the_permission_and_nobody_grants_more_than_their_own() {
        for permission in PERMISSIONS {
            assert!(permission.is_of(permission.needed()), "{permission:?}");
            assert!(permission.is_of(Role::Administrator));
        }
        for (_, role) in crate::model::token::ROLES {
            assert!(includes(*role, *role) && includes(*role, Role::Viewer));
            assert!(includes(Role::Administrator, *role));
        }
        assert!(includes(Role::ProjectAdmin, Role::Releaser));
        assert!(!includes(Role::ProjectAdmin, Role::Administrator));
        assert!(!includes(Role::ProjectAdmin, Role::Auditor));
    }

    #[test]
    fn the_environment_must_be_clear() {
        let directory = directory(&[("shop", "live"), ("shop", "test"), ("blog", "live")]);
        let admin = grant(Some(Role::Administrator), Scope::All);
        let find = |project, env| {
            environment_for(&admin, &directory, project, env, None)
                .map(|each| format!("{}/{}", each.project, each.key))
        };
        assert_eq!(find(Some("shop"), Some("test")).unwrap(), "shop/test");
        assert_eq!(find(None, Some("test")).unwrap(), "shop/test");
        assert_eq!(find(Some("blog"), None).unwrap(), "blog/live");
        assert_eq!(find(Some("none"), None), Err(Denied::NotFound));
        assert!(
            matches!(find(None, Some("live")), Err(Denied::Ambiguous { candidates }) if candidates.len() == 2)
        );
        assert!(matches!(find(None, None), Err(Denied::Ambiguous { .. })));
    }
}
