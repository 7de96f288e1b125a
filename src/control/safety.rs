//! What keeps an environment from being changed by mistake: protection, comments and versions that are required.
//!
//! Emergencies are never held up: kills, restores, and lists of instructions that only turn flags off.

use crate::auth::Denied;
use crate::control::Author;
use crate::control::ControlError;
use crate::control::Deed;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::problem::Problems;
use crate::model::token::Role;
use crate::store::Tx;
use serde_json::Value;

/// Actions that are about the environment itself, and not about what is in it.
const NOT_ABOUT_FLAGS: &[&str] = &[
    "environment.create",
    "environment.update",
    "environment.delete",
    "token.create",
    "token.rotate",
    "token.revoke",
];
/// The instruction that is never held up.
const TURN_OFF: &str = "turnFlagOff";

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
    let (Some(project), Some(env)) = (deed.project, deed.env) else { return Ok(()) };
    if NOT_ABOUT_FLAGS.contains(&deed.action) || is_emergency(deed) {
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
    let safety = tx.safety(project, env).await?;
    if safety.protected && author.provenance.is_unprivileged {
        return Err(ControlError::Denied(Denied::Role { needed: Role::Releaser }));
    }
    let has_comment = author.comment.as_ref().is_some_and(|comment| !comment.trim().is_empty());
    if safety.require_comment && !has_comment {
        let detail = format!(
            "the environment `{env}` requires a comment for every change: the field `comment`, or the header `Vexil-Comment`"
        );
        return Err(Problems::one("comment", "comment_required", detail).into());
    }
    if safety.require_if_match && needs_version && author.provenance.lacks_version {
        return Err(ControlError::VersionRequired);
    }
    Ok(())
}

fn is_emergency(deed: &Deed<'_>) -> bool {
    if deed.action.ends_with(".kill") || deed.action.ends_with(".restore") {
        return true;
    }
    let instructions = deed.instructions.as_deref().unwrap_or_default();
    deed.action.starts_with("flag") && only_turns_off(instructions)
}

/// Whether a list of instructions does nothing but turn flags off.
fn only_turns_off(instructions: &str) -> bool {
    let Ok(Value::Array(instructions)) = serde_json::from_str(instructions) else { return false };
    let turns_off = |each: &Value| each.get("kind").and_then(Value::as_str) == Some(TURN_OFF);
    !instructions.is_empty() && instructions.iter().all(turns_off)
}

#[cfg(test)]
mod tests {
    use super::only_turns_off;

    #[test]
    fn only_lists_that_do_nothing_else_are_emergencies() {
        assert!(only_turns_off(r#"[{"kind":"turnFlagOff"}]"#));
        assert!(only_turns_off(r#"[{"kind":"turnFlagOff"},{"kind":"turnFlagOff"}]"#));
        for other in ["", "[]", "{}", r#"[{"kind":"turnFlagOff"},{"kind":"turnFlagOn"}]"#] {
            assert!(!only_turns_off(other), "{other}");
        }
    }
}
