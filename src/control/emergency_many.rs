//! Emergencies of many flags at once: killing by list and by tag, and undoing exactly that.
//!
//! One version and one audit entry, however many flags. A restore leaves alone what was changed since the kill, and names it.

use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Dependency;
use crate::control::Served;
use crate::control::emergency::takes_over;
use crate::control::rehearsal::dependants_of_flags;
use crate::model::change::EnvId;
use crate::model::change::Kill;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::limit::KILLED_FLAGS_MAX;
use crate::store::KillRecord;
use crate::store::StoredFlag;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Flags that the audit entry names; further ones are counted.
const NAMES_MAX: usize = 1_000;
/// Flags that are looked up one by one; for more, all are read at once.
const LOOKUPS_MAX: usize = 20;

/// Which flags are meant.
#[derive(Debug, Default)]
pub struct Selection {
    /// These.
    pub flags: BTreeSet<FlagKey>,
    /// And those that have any of these tags.
    pub tags: BTreeSet<String>,
}

/// Flags that are killed.
#[derive(Debug)]
pub struct KilledMany {
    /// The id of the kill, by which it can be undone; `None` if all were killed already.
    pub id: Option<String>,
    /// The environment's version.
    pub version: i64,
    /// When.
    pub at: Timestamp,
    /// Those that were killed, and whether they were on; by key.
    pub killed: Vec<(FlagKey, bool)>,
    /// Those that were killed already, by key.
    pub already: Vec<FlagKey>,
}

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

/// An environment that is locked, with flags of it.
struct Scene {
    tx: Tx,
    env: EnvId,
    version: i64,
    now: Timestamp,
    flags: BTreeMap<FlagKey, StoredFlag>,
}

impl Control {
    /// Kills flags, all or none; those that are killed already stay as they are, but a trigger's kills are taken over.
    ///
    /// # Errors
    ///
    /// There is no such flag; no flag has the tag.
    pub async fn kill_many(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        selection: &Selection,
    ) -> Result<KilledMany, ControlError> {
        within_timeout(async {
            let has_tags = !selection.tags.is_empty();
            let scene = self.load(project, env_key, &selection.flags, has_tags).await?;
            let Scene { mut tx, env, version, now, mut flags } = scene;
            let keys = select(&flags, selection)?;
            let (mut killed, mut already) = (Vec::new(), Vec::new());
            let id = self.ids.next();
            for key in keys {
                let Some(flag) = flags.get_mut(&key) else { continue };
                let by = author.actor.name.clone();
                let was_on = match &flag.killed {
                    Some(kill) if !flag.config.on && !takes_over(&by, kill) => {
                        already.push(key);
                        continue;
                    }
                    Some(kill) if !flag.config.on => kill.was_on,
                    _ => flag.config.on,
                };
                flag.config.on = false;
                flag.killed = Some(Kill { id: id.clone(), at: now, by, version, was_on });
                killed.push((key, was_on));
            }
            if killed.is_empty() {
                let version = version - 1;
                return Ok(KilledMany { id: None, version, at: now, killed, already });
            }
            let tags: Vec<String> = selection.tags.iter().cloned().collect();
            let keys: Vec<FlagKey> = killed.iter().map(|(key, _)| key.clone()).collect();
            let by_tag = if tags.is_empty() { String::new() } else { by_tags(&tags) };
            let changes = vec![format!("killed {} flag(s){by_tag}: {}", keys.len(), some(&keys))];
            let record = KillRecord { id: id.clone(), version, flags: keys.clone(), tags, at: now };
            tx.insert_kill(env, &record).await?;
            let deed = Deed {
                action: "flag.kill",
                subject: &subject_of(&keys),
                project: Some(project),
                env: Some(env_key),
                version: Some(version),
                instructions: Some(r#"[{"kind":"turnFlagOff"}]"#.to_owned()),
                changes,
            };
            let scene = Scene { tx, env, version, now, flags };
            self.store_many(scene, author, &keys, deed).await?;
            Ok(KilledMany { id: Some(id), version, at: now, killed, already })
        })
        .await
    }

    /// Undoes the kills of flags by key, as a restore of each would: what was changed since then stays.
    ///
    /// With tags, undoes the kills by these tags, and those of flags that have one, but leaves alone what was changed since.
    ///
    /// # Errors
    ///
    /// There is no such flag; `not_killed` if there is nothing to undo.
    pub async fn restore_many(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        selection: &Selection,
    ) -> Result<RestoredMany, ControlError> {
        within_timeout(async {
            let has_tags = !selection.tags.is_empty();
            let mut scene = self.load(project, env_key, &selection.flags, has_tags).await?;
            let mut kills = Vec::new();
            if has_tags {
                kills = scene.tx.open_kills(scene.env).await?;
                let is_meant =
                    |kill: &KillRecord| kill.tags.iter().any(|tag| selection.tags.contains(tag));
                kills.retain(is_meant);
            }
            let mut wanted = BTreeMap::new();
            for key in &selection.flags {
                let Some(flag) = scene.flags.get(key) else {
                    return Err(ControlError::not_found("flag", key));
                };
                let fate =
                    if flag.killed.is_some() { Ok(()) } else { Err("is not killed".to_owned()) };
                wanted.insert(key.clone(), fate);
            }
            let has_tag = |flag: &&StoredFlag| {
                flag.definition.tags.iter().any(|tag| selection.tags.contains(tag))
            };
            for flag in scene.flags.values().filter(has_tag).filter(|it| it.killed.is_some()) {
                wanted.entry(flag.definition.key.clone()).or_insert_with(|| unchanged(flag, None));
            }
            self.undo(author, project, env_key, scene, kills, wanted).await
        })
        .await
    }

    /// Undoes one kill, but leaves alone what was changed since.
    ///
    /// # Errors
    ///
    /// `not_killed` if there is no such kill, or it was undone already.
    pub async fn restore_kill(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        id: &str,
    ) -> Result<RestoredMany, ControlError> {
        within_timeout(async {
            let mut scene = self.load(project, env_key, &BTreeSet::new(), true).await?;
            let Some(kill) = scene.tx.kill(scene.env, id).await? else {
                let detail = format!("there is no kill `{id}` in `{env_key}` that is not undone");
                return Err(ControlError::conflict("not_killed", detail));
            };
            self.undo(author, project, env_key, scene, vec![kill], BTreeMap::new()).await
        })
        .await
    }

    /// Undoes kills, and the kills of single flags that are `wanted`, unless something speaks against it.
    async fn undo(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        scene: Scene,
        kills: Vec<KillRecord>,
        mut wanted: BTreeMap<FlagKey, Result<(), String>>,
    ) -> Result<RestoredMany, ControlError> {
        let Scene { mut tx, env, version, now, mut flags } = scene;
        for (kill, key) in
            kills.iter().flat_map(|kill| kill.flags.iter().map(move |key| (kill, key)))
        {
            // The newest kill of a flag counts.
            wanted.entry(key.clone()).or_insert_with(|| match flags.get(key) {
                Some(flag) => unchanged(flag, Some(&kill.id)),
                None => Err("was deleted since".to_owned()),
            });
        }
        if wanted.is_empty() {
            let detail = "nothing of that is killed, so there is nothing to restore";
            return Err(ControlError::conflict("not_killed", detail));
        }
        let (mut restored, mut left) = (Vec::new(), Vec::new());
        for (key, fate) in wanted {
            let flag = flags.get_mut(&key);
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
        if restored.is_empty() {
            return Ok(RestoredMany { version: version - 1, restored, left });
        }
        for kill in &kills {
            tx.close_kill(&kill.id, now).await?;
        }
        let keys: Vec<FlagKey> = restored.iter().map(|(key, _)| key.clone()).collect();
        let mut changes = vec![format!("restored {} flag(s): {}", keys.len(), some(&keys))];
        let alone = left.iter().take(NAMES_MAX);
        changes.extend(alone.map(|(key, reason)| format!("left `{key}` alone: it {reason}")));
        let deed = Deed {
            action: "flag.restore",
            subject: &subject_of(&keys),
            project: Some(project),
            env: Some(env_key),
            version: Some(version),
            instructions: None,
            changes,
        };
        let scene = Scene { tx, env, version, now, flags };
        self.store_many(scene, author, &keys, deed).await?;
        Ok(RestoredMany { version, restored, left })
    }

    /// Locks an environment and reads the flags with these keys, or all that can be read.
    async fn load(
        &self,
        project: &ProjectKey,
        env_key: &EnvKey,
        keys: &BTreeSet<FlagKey>,
        needs_all: bool,
    ) -> Result<Scene, ControlError> {
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        let Some((env, version)) = tx.bump_environment(project, env_key, now).await? else {
            return Err(ControlError::not_found("environment", env_key));
        };
        let mut flags = BTreeMap::new();
        if needs_all || keys.len() > LOOKUPS_MAX {
            // One that cannot be read must not keep the others from being killed.
            let readable = tx.readable_flags(project, env).await?.into_iter();
            flags.extend(readable.map(|flag| (flag.definition.key.clone(), flag)));
        } else {
            for key in keys {
                let found = tx.flag(project, env, key).await?;
                flags.extend(found.map(|flag| (key.clone(), flag)));
            }
        }
        Ok(Scene { tx, env, version, now, flags })
    }

    /// Writes flags with everything that belongs to a change, and finishes.
    async fn store_many(
        &self,
        scene: Scene,
        author: &Author,
        keys: &[FlagKey],
        deed: Deed<'_>,
    ) -> Result<(), ControlError> {
        let Scene { mut tx, env, version, now, flags } = scene;
        if let (Some(rehearsal), Some(env_key)) = (&author.provenance.rehearsal, deed.env) {
            let all = keys.iter().cloned().collect();
            let mut dependants = dependants_of_flags(&mut tx, (env, env_key), &all).await?;
            let is_other =
                |it: &Dependency| !matches!(it, Dependency::Flag(_, key) if all.contains(key));
            dependants.retain(is_other);
            rehearsal.tell(Vec::new(), dependants);
        }
        let changed: Vec<&StoredFlag> = keys.iter().filter_map(|key| flags.get(key)).collect();
        tx.put_flags(env, &changed, version, now).await?;
        let audit_id = self.record(&mut tx, author, deed, now).await?;
        let names: Vec<&str> = keys.iter().map(FlagKey::as_str).collect();
        tx.log_change(env, version, &names, &[], &audit_id, now).await?;
        self.finish(author, tx, Served::Environments(vec![(env, version)])).await
    }
}

/// The keys of the flags that are meant.
fn select(
    flags: &BTreeMap<FlagKey, StoredFlag>,
    selection: &Selection,
) -> Result<BTreeSet<FlagKey>, ControlError> {
    let unknown: Vec<&str> = selection
        .flags
        .iter()
        .filter(|key| !flags.contains_key(*key))
        .map(FlagKey::as_str)
        .collect();
    if !unknown.is_empty() {
        return Err(ControlError::not_found("flag", &unknown.join("`, `")));
    }
    let mut keys = selection.flags.clone();
    for tag in &selection.tags {
        let tagged = flags.values().filter(|flag| flag.definition.tags.contains(tag));
        let n_before = keys.len();
        let mut n_tagged = 0;
        for flag in tagged {
            n_tagged += 1;
            keys.insert(flag.definition.key.clone());
        }
        if n_tagged == 0 && keys.len() == n_before {
            return Err(ControlError::not_found("flag with the tag", tag));
        }
    }
    if keys.len() > KILLED_FLAGS_MAX {
        let detail = format!(
            "{} flags are meant, and {KILLED_FLAGS_MAX} can be killed at once; name fewer",
            keys.len()
        );
        return Err(ControlError::too_many(detail));
    }
    Ok(keys)
}

/// Whether a flag is as a kill left it: the one with this id, or any.
fn unchanged(flag: &StoredFlag, id: Option<&str>) -> Result<(), String> {
    match &flag.killed {
        Some(kill) if id.is_some_and(|id| id != kill.id) => {
            Err("was restored and killed again since".to_owned())
        }
        Some(kill) if kill.version != flag.version => {
            Err(format!("was changed since, at version {}", flag.version))
        }
        Some(_) => Ok(()),
        None => Err("was restored, or turned on or off since".to_owned()),
    }
}

fn by_tags(tags: &[String]) -> String {
    let tags: Vec<String> = tags.iter().map(|tag| format!("`{tag}`")).collect();
    format!(" by the tag(s) {}", tags.join(", "))
}

fn subject_of(keys: &[FlagKey]) -> String {
    match keys {
        [only] => only.to_string(),
        _ => format!("{} flags", keys.len()),
    }
}

fn some(keys: &[FlagKey]) -> String {
    let named: Vec<&str> = keys.iter().take(NAMES_MAX).map(FlagKey::as_str).collect();
    let n_more = keys.len().saturating_sub(NAMES_MAX);
    let rest = if n_more == 0 { String::new() } else { format!(" and {n_more} more") };
    format!("{}{rest}", named.join(", "))
}
