//! Undoing kills, and leaving alone what was changed since or killed otherwise.

use super::NAMES_MAX;
use super::Scene;
use super::Selection;
use super::left_unread;
use super::told_alone;
use crate::change::list_names;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::store::KillRecord;
use crate::store::StoredFlag;
use crate::store::within_timeout;
use std::collections::BTreeMap;

/// Flags that are no longer killed.
#[derive(Debug)]
pub struct RestoredMany {
    /// The environment's version.
    pub version: i64,
    /// Those that were restored, and whether they are on now; by key.
    pub restored: Vec<(FlagKey, bool)>,
    /// Those that were left alone, and why; by key.
    pub left: Vec<(FlagKey, String)>,
}

/// Why a flag of a kill is left alone whose row is damaged.
const UNREADABLE: &str = "cannot be read; the kill stays open, so restore it again when it can be";
/// The same, if nobody can know whether it is killed.
const KILL_NOT_READ: &str =
    "cannot be read, and may be killed; if it is, restore it by its key when it can be read";

/// What becomes of each flag: it is restored, or left alone for a reason.
type Fates = BTreeMap<FlagKey, Result<(), String>>;

impl Control {
    /// Undoes the kills of flags by key, whatever was changed since then stays; and with tags the kills by these tags, but leaves
    /// alone what was changed since, and flags with such a tag that were killed otherwise.
    ///
    /// # Errors
    ///
    /// There is no such flag; `not_killed` if nothing of that is killed, `unreadable` if nobody knows as long as something of it
    /// cannot be read.
    pub async fn restore_many(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        selection: &Selection,
    ) -> Result<RestoredMany, ControlError> {
        within_timeout(async {
            let mut scene = self.load(project, env_key, selection).await?;
            let kills = scene.open_kills(selection).await?;
            self.restore_in(scene, author, selection, kills).await
        })
        .await
    }

    /// Undoes one kill, but leaves alone what was changed since.
    ///
    /// # Errors
    ///
    /// `not_killed` if there is no such kill, or it was undone already; `unreadable` as above.
    pub async fn restore_kill(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        id: &str,
    ) -> Result<RestoredMany, ControlError> {
        within_timeout(async {
            let nothing = Selection::default();
            let mut scene = self.load(project, env_key, &nothing).await?;
            let found = scene.tx.kill(scene.env, id).await?;
            let Some(kill) = found.filter(|kill| scene.is_open(kill)) else {
                let detail = format!("there is no kill `{id}` in `{env_key}` that is not undone");
                return Err(ControlError::conflict("not_killed", detail));
            };
            self.restore_in(scene, author, &nothing, vec![kill]).await
        })
        .await
    }

    /// Restores flags of an environment that is locked: those that are named, and those of kills.
    pub(in crate::control) async fn restore_in(
        &self,
        mut scene: Scene<'_>,
        author: &Author,
        selection: &Selection,
        kills: Vec<KillRecord>,
    ) -> Result<RestoredMany, ControlError> {
        let fates = fates(&scene, selection, &kills)?;
        let is_killed =
            |key| scene.flags.get(key).is_some_and(|flag: &StoredFlag| flag.killed.is_some());
        if !fates.keys().any(is_killed) {
            return Err(not_killed(&scene, selection, &fates));
        }
        let (mut restored, mut left) = (Vec::new(), Vec::new());
        for (key, fate) in fates {
            let flag = scene.flags.get_mut(&key);
            let kill = flag.and_then(|flag| Some((flag.killed.take_if(|_| fate.is_ok())?, flag)));
            match (fate, kill) {
                (Ok(()), Some((kill, flag))) => {
                    flag.config.on = kill.was_on;
                    restored.push((key, kill.was_on));
                }
                (Err(reason), _) => left.push((key, reason)),
                (Ok(()), None) => left.push((key, "is not killed".to_owned())),
            }
        }
        let version = scene.version;
        if restored.is_empty() {
            return Ok(RestoredMany { version: version - 1, restored, left });
        }
        // What could not be restored is restored by the same kill when it can be read again.
        for kill in &kills {
            if !scene.has_unreadable(kill) {
                scene.tx.close_kill(&kill.id, scene.now).await?;
            }
        }
        let keys: Vec<FlagKey> = restored.iter().map(|(key, _)| key.clone()).collect();
        let mut words = match restored.as_slice() {
            [(_, on)] if kills.is_empty() => {
                let state = if *on { "on" } else { "off" };
                vec![format!("restored the flag: it is {state}, as before the kill")]
            }
            _ => vec![format!(
                "restored {} flag(s): {}",
                keys.len(),
                list_names(keys.iter(), NAMES_MAX)
            )],
        };
        words.extend(told_alone(&left));
        let is_on = restored.iter().all(|(_, on)| *on);
        let instructions = is_on.then(|| r#"[{"kind":"turnFlagOn"}]"#.to_owned());
        self.store_many(scene, author, &keys, ("flag.restore", instructions, words)).await?;
        Ok(RestoredMany { version, restored, left })
    }
}

/// Nothing of what is meant is killed, as far as it can be read.
fn not_killed(scene: &Scene<'_>, selection: &Selection, fates: &Fates) -> ControlError {
    let what = match selection.flags.first() {
        Some(key) if fates.len() == 1 => format!("`{key}` is not killed"),
        _ => "nothing of that is killed".to_owned(),
    };
    let is_unreadable = |key: &&FlagKey| scene.unreadable.contains_key(*key);
    let unreadable: Vec<&FlagKey> = fates.keys().filter(is_unreadable).collect();
    if unreadable.is_empty() {
        let detail = format!("{what}, so there is nothing to restore");
        return ControlError::conflict("not_killed", detail);
    }
    let names = list_names(unreadable.iter(), NAMES_MAX);
    let detail = format!(
        "nothing was restored: {names} cannot be read, and nothing else of that is killed; ask again when it can be read"
    );
    ControlError::conflict("unreadable", detail)
}

/// What becomes of each flag that is named, that a kill has killed, or that is killed and has a tag.
fn fates(
    scene: &Scene<'_>,
    selection: &Selection,
    kills: &[KillRecord],
) -> Result<Fates, ControlError> {
    let flags = &scene.flags;
    let mut fates = Fates::new();
    for key in &selection.flags {
        if flags.contains_key(key) {
            fates.insert(key.clone(), Ok(()));
        } else if !scene.unreadable.contains_key(key) {
            return Err(ControlError::not_found("flag", key));
        }
    }
    for kill in kills {
        for key in &kill.flags {
            // The newest kill of a flag counts.
            fates.entry(key.clone()).or_insert_with(|| match flags.get(key) {
                Some(flag) => unchanged(flag, &kill.id),
                None if scene.unreadable.contains_key(key) => Err(UNREADABLE.to_owned()),
                None => Err("was deleted since".to_owned()),
            });
        }
    }
    for (key, reason) in left_unread(scene, selection, KILL_NOT_READ, KILL_NOT_READ) {
        fates.entry(key).or_insert(Err(reason));
    }
    for (key, flag) in flags.iter().filter(|(_, flag)| selection.has(&flag.definition.tags)) {
        if let Some(kill) = &flag.killed {
            let otherwise = format!(
                "is killed by {} since version {}, by no kill of that tag that is still open; restore it by its key",
                kill.by, kill.version
            );
            fates.entry(key.clone()).or_insert(Err(otherwise));
        }
    }
    Ok(fates)
}

/// Whether a flag is as the kill with this id left it.
fn unchanged(flag: &StoredFlag, id: &str) -> Result<(), String> {
    match &flag.killed {
        Some(kill) if kill.id != id => Err("was restored and killed again since".to_owned()),
        Some(kill) if kill.version != flag.version => {
            Err(format!("was changed since, at version {}", flag.version))
        }
        Some(_) => Ok(()),
        None => Err("was restored, or turned on or off since".to_owned()),
    }
}
