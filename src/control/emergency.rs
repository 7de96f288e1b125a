//! Emergencies: killing flags by key and by tag.
//!
//! One version and one audit entry, however many flags; one flag is a list of one. What undoes a kill is in `emergency/restore`.

mod restore;

pub use restore::RestoredMany;

use crate::change::differences;
use crate::change::list_names;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Dependency;
use crate::control::Served;
use crate::control::rehearsal::dependants_of_flags;
use crate::model::change::EnvId;
use crate::model::change::Kill;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::limit::KILLED_FLAGS_MAX;
use crate::model::trigger::is_actor_name;
use crate::store::KillRecord;
use crate::store::StoreError;
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
/// Why a flag is not killed whose row is damaged.
const NOT_READ: &str = "cannot be read: what the database has of it is damaged";
/// The same, if nobody can know whether it is meant.
const TAGS_NOT_READ: &str =
    "cannot be read, and may have the tag: what the database has of it is damaged";

/// Which flags are meant.
#[derive(Debug, Default)]
pub struct Selection {
    /// These.
    pub flags: BTreeSet<FlagKey>,
    /// And those that have any of these tags.
    pub tags: BTreeSet<String>,
}

impl Selection {
    /// One flag.
    pub fn one(key: &FlagKey) -> Self {
        Self { flags: BTreeSet::from([key.clone()]), tags: BTreeSet::new() }
    }

    fn has(&self, tags: &[String]) -> bool {
        tags.iter().any(|tag| self.tags.contains(tag))
    }
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
    /// Those that were killed, and how they were; by key.
    pub killed: Vec<(FlagKey, Kill)>,
    /// Those that were killed already, with the first kill; by key.
    pub already: Vec<(FlagKey, Kill)>,
    /// Those that are meant, or may be, and were left alone, and why; by key.
    pub left: Vec<(FlagKey, String)>,
}

/// An environment that is locked, with flags of it.
pub(super) struct Scene<'a> {
    pub(super) tx: Tx,
    project: &'a ProjectKey,
    env_key: &'a EnvKey,
    env: EnvId,
    version: i64,
    now: Timestamp,
    pub(super) flags: BTreeMap<FlagKey, StoredFlag>,
    /// Flags that are there and cannot be read, among those that were read, with their tags, as far as those are known.
    unreadable: BTreeMap<FlagKey, Option<Vec<String>>>,
}

impl Control {
    /// Kills flags, all or none: they serve their off variations to everyone, and remember how they were.
    ///
    /// Those that are killed already stay as they are, but a person takes over a trigger's kill, which is then not undone because
    /// the alert is over. One that cannot be read is left alone, and the others are killed all the same.
    ///
    /// # Errors
    ///
    /// There is no such flag; no flag has the tag; `unreadable` if none of those that are meant can be read.
    pub async fn kill_many(
        &self,
        author: &Author,
        project: &ProjectKey,
        env_key: &EnvKey,
        selection: &Selection,
    ) -> Result<KilledMany, ControlError> {
        within_timeout(async {
            let scene = self.load(project, env_key, selection).await?;
            self.kill_in(scene, author, selection).await
        })
        .await
    }

    /// Kills flags of an environment that is locked.
    pub(super) async fn kill_in(
        &self,
        scene: Scene<'_>,
        author: &Author,
        selection: &Selection,
    ) -> Result<KilledMany, ControlError> {
        let mut scene = scene;
        let (keys, left) = select(&scene, selection)?;
        let (id, by) = (self.ids.next(), &author.actor.name);
        let (version, at) = (scene.version, scene.now);
        let (mut killed, mut already, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for key in keys {
            let Some(flag) = scene.flags.get_mut(&key) else { continue };
            let (was_on, word) = match flag.killed.as_ref().filter(|_| !flag.config.on) {
                Some(kill) if !takes_over(by, kill) => {
                    already.push((key, kill.clone()));
                    continue;
                }
                Some(kill) => (kill.was_on, format!("took over the kill of the {}", kill.by)),
                None => (flag.config.on, "killed the flag".to_owned()),
            };
            let kill = Kill { id: id.clone(), at, by: by.clone(), version, was_on };
            flag.config.on = false;
            flag.killed = Some(kill.clone());
            killed.push((key, kill));
            words.push(word);
        }
        if killed.is_empty() {
            return Ok(KilledMany { id: None, version: version - 1, at, killed, already, left });
        }
        let tags: Vec<String> = selection.tags.iter().cloned().collect();
        let keys: Vec<FlagKey> = killed.iter().map(|(key, _)| key.clone()).collect();
        if words.len() > 1 || !tags.is_empty() {
            let by_tag = if tags.is_empty() { String::new() } else { by_tags(&tags) };
            words = vec![format!(
                "killed {} flag(s){by_tag}: {}",
                keys.len(),
                list_names(keys.iter(), NAMES_MAX)
            )];
        }
        words.extend(told_alone(&left));
        let record = KillRecord { id: id.clone(), version, flags: keys.clone(), tags, at };
        scene.tx.insert_kill(scene.env, &record).await?;
        let instructions = Some(r#"[{"kind":"turnFlagOff"}]"#.to_owned());
        self.store_many(scene, author, &keys, ("flag.kill", instructions, words)).await?;
        Ok(KilledMany { id: Some(id), version, at, killed, already, left })
    }

    /// Locks an environment and reads the flags that are meant, or all that can be read.
    pub(super) async fn load<'a>(
        &self,
        project: &'a ProjectKey,
        env_key: &'a EnvKey,
        selection: &Selection,
    ) -> Result<Scene<'a>, ControlError> {
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        let Some((env, version)) = tx.bump_environment(project, env_key, now).await? else {
            return Err(ControlError::not_found("environment", env_key));
        };
        // One that cannot be read must not keep the others from being killed.
        let (mut flags, mut unreadable) = (BTreeMap::new(), BTreeMap::new());
        let n_keys = selection.flags.len();
        if n_keys == 0 || n_keys > LOOKUPS_MAX || !selection.tags.is_empty() {
            let (readable, others) = tx.readable_flags(project, env).await?;
            let named = |flag: StoredFlag| (flag.definition.key.clone(), flag);
            flags.extend(readable.into_iter().map(named));
            unreadable = others;
        } else {
            for key in &selection.flags {
                match tx.flag(project, env, key).await {
                    Ok(found) => flags.extend(found.map(|flag| (key.clone(), flag))),
                    Err(StoreError::Corrupt { .. }) => _ = unreadable.insert(key.clone(), None),
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(Scene { tx, project, env_key, env, version, now, flags, unreadable })
    }

    /// Writes flags with everything that belongs to a change, and finishes.
    async fn store_many(
        &self,
        scene: Scene<'_>,
        author: &Author,
        keys: &[FlagKey],
        (action, instructions, changes): (&'static str, Option<String>, Vec<String>),
    ) -> Result<(), ControlError> {
        let Scene { mut tx, project, env_key, env, version, now, flags, .. } = scene;
        // Whoever has the secret of a trigger may know of its flag and of no other.
        let by_trigger = is_actor_name(&author.actor.name);
        if let Some(rehearsal) = author.provenance.rehearsal.as_ref().filter(|_| !by_trigger) {
            let all: BTreeSet<FlagKey> = keys.iter().cloned().collect();
            let mut dependants = dependants_of_flags(&mut tx, (env, env_key), &all).await?;
            dependants.retain(|it| !matches!(it, Dependency::Flag(_, key) if all.contains(key)));
            let differs = match keys {
                [key] => tx.flag(project, env, key).await?.zip(flags.get(key)),
                _ => None,
            };
            let differs =
                differs.map(|(old, new)| differences(&old.definition, &old.config, &new.config));
            rehearsal.tell(differs.unwrap_or_default(), dependants);
        }
        let deed = Deed {
            action,
            subject: &subject_of(keys),
            project: Some(project),
            env: Some(env_key),
            version: Some(version),
            instructions,
            changes,
        };
        let changed: Vec<&StoredFlag> = keys.iter().filter_map(|key| flags.get(key)).collect();
        tx.put_flags(env, &changed, version, now).await?;
        let audit_id = self.record(&mut tx, author, deed, now).await?;
        let names: Vec<&str> = keys.iter().map(FlagKey::as_str).collect();
        tx.log_change(env, version, &names, &[], &audit_id, now).await?;
        self.finish(author, tx, Served::Environments(vec![(env, version)])).await
    }
}

impl Scene<'_> {
    /// The kills by a tag that is meant of which a flag is still killed, newest first; the others by such a tag are closed.
    async fn open_kills(&mut self, selection: &Selection) -> Result<Vec<KillRecord>, ControlError> {
        if selection.tags.is_empty() {
            return Ok(Vec::new());
        }
        let mut open = Vec::new();
        for kill in self.tx.open_kills(self.env).await? {
            if !selection.has(&kill.tags) {
                continue;
            }
            if self.is_open(&kill) {
                open.push(kill);
            } else {
                self.tx.close_kill(&kill.id, self.now).await?;
            }
        }
        Ok(open)
    }

    /// Whether any flag is still killed by a kill, or may be, since it cannot be read.
    fn is_open(&self, kill: &KillRecord) -> bool {
        let killed = |key| self.flags.get(key).and_then(|flag| flag.killed.as_ref());
        let is_killed = kill.flags.iter().filter_map(killed).any(|own| own.id == kill.id);
        is_killed || self.has_unreadable(kill)
    }

    /// Finds the flag of a trigger.
    ///
    /// # Errors
    ///
    /// There is no such flag; or it cannot be read, which is no fault of the caller's: alert managers try again.
    pub(super) fn find(&self, key: &FlagKey) -> Result<&StoredFlag, ControlError> {
        self.flags.get(key).ok_or_else(|| match self.unreadable.contains_key(key) {
            true => {
                let (key, cause) = (key.to_string(), NOT_READ.to_owned());
                StoreError::Corrupt { table: "flag_config", key, cause }.into()
            }
            false => ControlError::not_found("flag", key),
        })
    }

    /// Whether a flag cannot be read that a kill has killed: only that kill knows that it is to be restored.
    fn has_unreadable(&self, kill: &KillRecord) -> bool {
        kill.flags.iter().any(|key| self.unreadable.contains_key(key))
    }
}

/// Whether somebody who kills a killed flag is from then on the one who has killed it.
fn takes_over(by: &str, kill: &Kill) -> bool {
    is_actor_name(&kill.by) && !is_actor_name(by)
}

/// Flags that are left alone, and why; by key.
type Left = Vec<(FlagKey, String)>;

/// The keys of the flags that are meant and can be read, and those that cannot.
fn select(
    scene: &Scene<'_>,
    selection: &Selection,
) -> Result<(BTreeSet<FlagKey>, Left), ControlError> {
    let Scene { flags, unreadable, .. } = scene;
    let unknown: Vec<&str> = selection
        .flags
        .iter()
        .filter(|key| !flags.contains_key(*key) && !unreadable.contains_key(*key))
        .map(FlagKey::as_str)
        .collect();
    if !unknown.is_empty() {
        return Err(ControlError::not_found("flag", &unknown.join("`, `")));
    }
    let may_have =
        |own: &Option<Vec<String>>, tag: &String| own.as_ref().is_none_or(|own| own.contains(tag));
    for tag in &selection.tags {
        let mut tagged = flags.values().filter(|flag| flag.definition.tags.contains(tag));
        if tagged.next().is_none() && !unreadable.values().any(|own| may_have(own, tag)) {
            return Err(ControlError::not_found("flag with the tag", tag));
        }
    }
    let is_meant = |(key, flag): &(&FlagKey, &StoredFlag)| {
        selection.flags.contains(*key) || selection.has(&flag.definition.tags)
    };
    let keys: BTreeSet<_> = flags.iter().filter(is_meant).map(|(key, _)| key.clone()).collect();
    let left = left_unread(scene, selection, NOT_READ, TAGS_NOT_READ);
    if keys.is_empty() {
        let names = list_names(left.iter().map(|(key, _)| key), NAMES_MAX);
        let detail = format!("nothing was killed: {names} {NOT_READ}");
        return Err(ControlError::conflict("unreadable", detail));
    }
    if keys.len() > KILLED_FLAGS_MAX {
        let detail = format!(
            "{} flags are meant, and {KILLED_FLAGS_MAX} can be killed at once; name fewer",
            keys.len()
        );
        return Err(ControlError::too_many(detail));
    }
    Ok((keys, left))
}

/// The flags that are meant, or may be, and cannot be read.
fn left_unread(scene: &Scene<'_>, selection: &Selection, meant: &str, maybe: &str) -> Left {
    let reason = |(key, tags): (&FlagKey, &Option<Vec<String>>)| {
        let reason = match tags {
            _ if selection.flags.contains(key) => meant,
            Some(tags) if selection.has(tags) => meant,
            None if !selection.tags.is_empty() => maybe,
            _ => return None,
        };
        Some((key.clone(), reason.to_owned()))
    };
    scene.unreadable.iter().filter_map(reason).collect()
}

/// Which flags were left alone, in words.
fn told_alone(left: &[(FlagKey, String)]) -> impl Iterator<Item = String> {
    left.iter().take(NAMES_MAX).map(|(key, reason)| format!("left `{key}` alone: it {reason}"))
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
