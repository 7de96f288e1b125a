//! What the holder of a token may do.

use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::token::Grant;
use crate::model::token::Role;
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

/// Checks that the token administers at least with `needed`, wherever that may be.
///
/// # Errors
///
/// It does not.
pub fn require_role(grant: &Grant, needed: Role) -> Result<(), Denied> {
    match grant.role {
        None => Err(Denied::NotAdmin),
        Some(role) if role < needed => Err(Denied::Role { needed }),
        Some(_) => Ok(()),
    }
}

/// Checks that the token administers a whole project at least with `needed`.
///
/// # Errors
///
/// It does not.
pub fn require_role_in_project(
    grant: &Grant,
    needed: Role,
    project: &ProjectKey,
) -> Result<(), Denied> {
    if grant.role.is_some() && !grant.scope.covers_project(project) {
        return Err(Denied::NotFound);
    }
    require_role(grant, needed)
}

/// Checks that the token administers an environment at least with `needed`.
///
/// # Errors
///
/// It does not.
pub fn require_role_in_environment(
    grant: &Grant,
    needed: Role,
    project: &ProjectKey,
    env: &EnvKey,
) -> Result<(), Denied> {
    if grant.role.is_some() && !grant.scope.covers_environment(project, env) {
        return Err(Denied::NotFound);
    }
    require_role(grant, needed)
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
    use crate::model::token::Scope;
    use crate::model::token::TokenKind;

    fn grant(role: Option<Role>, scope: Scope) -> Grant {
        let kind = if role.is_some() { TokenKind::Admin } else { TokenKind::Server };
        Grant { id: "t".to_owned(), name: "t".to_owned(), kind, role, scope }
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
        let may = |role, project, env| require_role_in_environment(&editor, role, project, env);
        assert_eq!(may(Role::Viewer, &shop, &live), Ok(()));
        assert_eq!(may(Role::Editor, &shop, &live), Ok(()));
        let needed = Role::Administrator;
        assert_eq!(may(needed, &shop, &live), Err(Denied::Role { needed }));
        assert_eq!(may(Role::Viewer, &shop, &test), Err(Denied::NotFound));
        assert_eq!(may(Role::Viewer, &blog, &live), Err(Denied::NotFound));
        let project_wide = require_role_in_project(&editor, Role::Viewer, &shop);
        assert_eq!(project_wide, Err(Denied::NotFound));
        let server = grant(None, own);
        let denied = require_role_in_environment(&server, Role::Viewer, &shop, &live);
        assert_eq!(denied, Err(Denied::NotAdmin));
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
