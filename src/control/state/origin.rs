//! Who last changed what a plan would change, so that whoever looks at drift knows whom to ask.

use super::Loaded;
use crate::change::PlannedChange;
use crate::change::StatePlan;
use crate::control::ControlError;
use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::store::Made;
use crate::store::Tx;

/// Changes of a plan whose origin is looked up.
const LOOKUPS_MAX: usize = 200;
/// Environments in which it is looked who changed a definition.
const ENVIRONMENTS_MAX: usize = 5;
/// Actions that are only about a flag in one environment begin so.
const OF_CONFIG: &[&str] =
    &["flag.change", "flag.kill", "flag.restore", "flag.revert", "schedule."];

/// Finds who last changed what is to be changed; in the order of the plan's changes, `None` where it is not known.
pub(super) async fn origins(
    tx: &mut Tx,
    loaded: &Loaded,
    plan: &StatePlan,
) -> Result<Vec<Option<Made>>, ControlError> {
    let mut origins = Vec::with_capacity(plan.changes.len());
    for (i, change) in plan.changes.iter().enumerate() {
        let is_known = i < LOOKUPS_MAX && change.op != "create";
        origins.push(if is_known { origin(tx, loaded, change).await? } else { None });
    }
    Ok(origins)
}

async fn origin(
    tx: &mut Tx,
    loaded: &Loaded,
    change: &PlannedChange,
) -> Result<Option<Made>, ControlError> {
    let key = change.key.as_str();
    match (change.kind, &change.environment) {
        ("configuration", Some(env)) => {
            let Some(id) = loaded.ids.get(env) else { return Ok(None) };
            // The flag's own version may be that of a change of its definition.
            let latest = tx.flag_versions(*id, &FlagKey::stored(key), 0, 1).await?;
            Ok(latest.into_iter().next().and_then(|version| version.made))
        }
        ("segment", Some(env)) => {
            let place = (env.clone(), SegmentKey::stored(key));
            let version = loaded.segment_versions.get(&place);
            let Some((id, version)) = loaded.ids.get(env).zip(version) else { return Ok(None) };
            Ok(tx.maker(*id, *version).await?)
        }
        ("flag", _) => {
            for env in loaded.ids.keys().take(ENVIRONMENTS_MAX) {
                let Some((id, version)) = flag_version(loaded, env, key) else { continue };
                let made = tx.maker(id, version).await?;
                let is_of_all =
                    |made: &Made| !OF_CONFIG.iter().any(|start| made.action.starts_with(start));
                if let Some(made) = made.filter(is_of_all) {
                    return Ok(Some(made));
                }
            }
            Ok(None)
        }
        _ => Ok(None),
    }
}

fn flag_version(loaded: &Loaded, env: &EnvKey, key: &str) -> Option<(EnvId, i64)> {
    let flag = loaded.flags.get(env)?.get(&FlagKey::stored(key))?;
    Some((*loaded.ids.get(env)?, flag.version))
}
