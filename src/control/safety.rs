//! What keeps an environment from being changed by mistake: protection, comments and versions that are required.
//!
//! Emergencies are never held up: kills, restores, and lists of instructions that only turn flags off; nor is what is only tried
//! out.

use crate::auth::Denied;
use crate::control::Author;
use crate::control::ControlError;
use crate::control::Deed;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::problem::Problems;
use crate::model::token::Role;
use crate::store::EnvironmentRecord;
use crate::store::Tx;

/// Actions that are about the environment itself, and not about what is in it.
const NOT_ABOUT_FLAGS: &[&str] = &[
    "environment.create",
    "environment.update",
    "environment.delete",
    "token.create",
    "token.rotate",
    "token.revoke",
];

/// Checks that a change may be made as it is asked for.
///
/// # Errors
///
/// The author may not change a protected environment, or the environment requires a comment or a version.
pub(super) async fn check(
    tx: &mut Tx,
    author: &Author,
    deed: &Deed<'_>,
) -> Result<(), ControlError> {
    let Some(project) = deed.project else { return Ok(()) };
    let Some(env) = deed.env else {
        let is_definition = deed.action.starts_with("flag.");
        return if is_definition { check_definition(tx, author, project).await } else { Ok(()) };
    };
    let is_emergency = deed.action.ends_with(".kill") || deed.action.ends_with(".restore");
    if is_emergency || NOT_ABOUT_FLAGS.contains(&deed.action) {
        return Ok(());
    }
    let needs_version = deed.action.starts_with("flag");
    check_environment(tx, author, project, env, needs_version).await
}

/// Checks that an environment's flags or segments may be changed, and not only turned off.
///
/// # Errors
///
/// As [`check`].
pub(super) async fn check_environment(
    tx: &mut Tx,
    author: &Author,
    project: &ProjectKey,
    env: &EnvKey,
    needs_version: bool,
) -> Result<(), ControlError> {
    if author.is_rehearsing() {
        return Ok(());
    }
    let safety = tx.safety(project, env).await?;
    if safety.protected && author.provenance.is_unprivileged {
        return Err(ControlError::Denied(Denied::Role { needed: Role::Releaser }));
    }
    if safety.require_comment && !has_comment(author) {
        return Err(comment_required(env));
    }
    if safety.require_if_match && needs_version && author.provenance.lacks_version {
        return Err(ControlError::VersionRequired);
    }
    Ok(())
}

/// Checks that a definition may be changed, which is seen in every environment of the project.
///
/// # Errors
///
/// One of the environments requires a comment.
pub(super) async fn check_definition(
    tx: &mut Tx,
    author: &Author,
    project: &ProjectKey,
) -> Result<(), ControlError> {
    if author.is_rehearsing() || has_comment(author) {
        return Ok(());
    }
    let environments = tx.environments().await?;
    let requires =
        |each: &&EnvironmentRecord| each.project == *project && each.safety.require_comment;
    match environments.iter().find(requires) {
        Some(strict) => Err(comment_required(&strict.key)),
        None => Ok(()),
    }
}

fn has_comment(author: &Author) -> bool {
    author.comment.as_ref().is_some_and(|comment| !comment.trim().is_empty())
}

fn comment_required(env: &EnvKey) -> ControlError {
    let detail = format!(
        "the environment `{env}` requires a comment for every change: the field `comment`, or the header `Vexil-Comment`"
    );
    Problems::one("comment", "comment_required", detail).into()
}
