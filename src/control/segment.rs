//! Segments.

use crate::change::asked_for;
use crate::change::check_segment_references;
use crate::change::full_segment;
use crate::change::list_names;
use crate::change::replacement;
use crate::change::segment_differences;
use crate::change::segments_of;
use crate::change::settle_hashes;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Dependency;
use crate::control::Served;
use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::limit::SEGMENTS_MAX;
use crate::model::segment::Segment;
use crate::store::Damaged;
use crate::store::StoredSegment;
use crate::store::Tx;
use crate::store::within_timeout;
use serde_json::Value;
use std::collections::BTreeMap;

/// Things that keep a segment from being deleted and are named; further ones are counted.
const NAMES_MAX: usize = 20;

/// How a whole segment is written.
#[derive(Debug, Clone, Copy)]
pub enum PutSegment {
    /// There must be none.
    Create,
    /// There must be one.
    Replace {
        /// Refuse if it is not at this version.
        if_version: Option<i64>,
    },
}

impl Control {
    /// Creates a segment, or replaces it; returns it as it is stored.
    ///
    /// # Errors
    ///
    /// There is no such environment or segment; `key_taken`; a rule asks for a segment that is not there, or in a circle.
    pub async fn put_segment(
        &self,
        author: &Author,
        (project, env_key): (&ProjectKey, &EnvKey),
        mut segment: Segment,
        how: PutSegment,
    ) -> Result<StoredSegment, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let key = segment.key.clone();
            let mut tx = self.store.write().await?;
            let Some((env, version)) = tx.bump_environment(project, env_key, now).await? else {
                return Err(ControlError::not_found("environment", env_key));
            };
            settle_hashes(&mut segment, tx.server_sdk(env).await?)?;
            let others = tx.segments(env).await?;
            let old = others.iter().find(|other| other.segment.key == key);
            check_put(old, how, &key, others.len())?;
            let created_at = old.map_or(now, |old| old.created_at);
            if let Some(old) = old {
                // The salt decides who is in a share; replacing a segment must not move anybody.
                segment.salt.clone_from(&old.segment.salt);
            }
            // Also if it was written in another form than that in which it comes back.
            let form = |segment: &Segment| full_segment(segment.clone());
            if let Some(old) = old.filter(|old| form(&old.segment) == form(&segment)) {
                return Ok(old.clone());
            }
            let edges: BTreeMap<_, _> = others
                .iter()
                .map(|other| (other.segment.key.clone(), asked_for(&other.segment)))
                .collect();
            check_segment_references(&segment, &edges)?;
            if let Some(rehearsal) = &author.provenance.rehearsal {
                let differences = old.map(|old| segment_differences(&old.segment, &segment));
                let place = (env, env_key);
                let damaged = Damaged::LeftOut;
                let dependants =
                    dependants_of_segment(&mut tx, place, &others, &key, damaged).await?;
                rehearsal.tell(differences.unwrap_or_default(), dependants);
            }
            tx.put_segment(env, &segment, version, now).await?;
            let (action, instructions, changes) = described(old, &segment);
            let deed = Deed {
                action,
                subject: key.as_str(),
                project: Some(project),
                env: Some(env_key),
                version: Some(version),
                instructions,
                changes,
            };
            let audit_id = self.record(&mut tx, author, deed, now).await?;
            tx.log_change(env, version, &[], &[key.as_str()], &audit_id, now).await?;
            self.finish(author, tx, Served::Environments(vec![(env, version)])).await?;
            // What was only tried out has no version yet: it would be wrong in an `If-Match`.
            let (version, changed_at) = match old {
                Some(old) if author.is_rehearsing() => (old.version, old.changed_at),
                _ => (version, now),
            };
            Ok(StoredSegment { segment, version, created_at, changed_at })
        })
        .await
    }

    /// Deletes a segment.
    ///
    /// # Errors
    ///
    /// There is no such environment or segment; `in_use` if a flag or another segment asks for it.
    pub async fn delete_segment(
        &self,
        author: &Author,
        (project, env_key): (&ProjectKey, &EnvKey),
        key: &SegmentKey,
        if_version: Option<i64>,
    ) -> Result<(), ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let Some((env, version)) = tx.bump_environment(project, env_key, now).await? else {
                return Err(ControlError::not_found("environment", env_key));
            };
            let found = tx.segment(env, key).await?;
            let found = found.ok_or_else(|| ControlError::not_found("segment", key))?;
            ControlError::check_version(("segment", key), found.version, if_version)?;
            tx.delete_segment(env, key, version, now).await?;
            let others = tx.segments(env).await?;
            let (place, damaged) = ((env, env_key), Damaged::Refused);
            let dependants = dependants_of_segment(&mut tx, place, &others, key, damaged).await?;
            if !dependants.is_empty() {
                let detail =
                    format!("{} ask(s) for `{key}`; change that first", names(&dependants));
                if let Some(rehearsal) = &author.provenance.rehearsal {
                    rehearsal.tell(Vec::new(), dependants);
                }
                return Err(ControlError::conflict("in_use", detail));
            }
            tx.forget_managed_segment(env, key).await?;
            let deed = Deed {
                action: "segment.delete",
                subject: key.as_str(),
                project: Some(project),
                env: Some(env_key),
                version: Some(version),
                instructions: None,
                changes: vec![format!("deleted the segment `{key}`")],
            };
            let audit_id = self.record(&mut tx, author, deed, now).await?;
            tx.log_change(env, version, &[], &[key.as_str()], &audit_id, now).await?;
            self.finish(author, tx, Served::Environments(vec![(env, version)])).await
        })
        .await
    }
}

/// How the audit log calls what is written, with which instructions the same could have been done, and in words.
fn described(
    old: Option<&StoredSegment>,
    new: &Segment,
) -> (&'static str, Option<String>, Vec<String>) {
    let key = &new.key;
    let Some(old) = old else {
        return ("segment.create", None, vec![format!("created the segment `{key}`")]);
    };
    let (instructions, mut changes) = replacement(&old.segment, new);
    changes.insert(0, format!("replaced the segment `{key}`"));
    let raw = (!instructions.is_empty()).then(|| Value::from(instructions).to_string());
    ("segment.update", raw, changes)
}

/// Checks that a segment may be written so.
fn check_put(
    old: Option<&StoredSegment>,
    how: PutSegment,
    key: &SegmentKey,
    n_segments: usize,
) -> Result<(), ControlError> {
    match (old, how) {
        (None, PutSegment::Replace { .. }) => Err(ControlError::not_found("segment", key)),
        (Some(_), PutSegment::Create) => {
            let detail = format!("there is a segment `{key}` already");
            Err(ControlError::conflict("key_taken", detail))
        }
        (None, PutSegment::Create)
            if i64::try_from(n_segments).is_ok_and(|n| n >= SEGMENTS_MAX) =>
        {
            let detail = format!("an environment can have at most {SEGMENTS_MAX} segments");
            Err(ControlError::too_many(detail))
        }
        (Some(old), PutSegment::Replace { if_version }) => {
            ControlError::check_version(("segment", key), old.version, if_version).map(|_| ())
        }
        (None, PutSegment::Create) => Ok(()),
    }
}

/// The flags and segments that ask for a segment.
async fn dependants_of_segment(
    tx: &mut Tx,
    (env, env_key): (EnvId, &EnvKey),
    segments: &[StoredSegment],
    key: &SegmentKey,
    damaged: Damaged,
) -> Result<Vec<Dependency>, ControlError> {
    let mut dependants = Vec::new();
    for (flag, config) in tx.configs_asking_for_segments(env, damaged).await? {
        let clauses = config.rules.iter().flat_map(|rule| &rule.clauses);
        if segments_of(clauses).any(|asked| asked == *key) {
            dependants.push(Dependency::Flag(env_key.clone(), flag));
        }
    }
    let asking = segments.iter().filter(|other| asked_for(&other.segment).contains(key));
    let segment = |other: &StoredSegment| other.segment.key.clone();
    dependants.extend(asking.map(|it| Dependency::Segment(env_key.clone(), segment(it))));
    Ok(dependants)
}

/// What things are called in a sentence.
fn names(dependants: &[Dependency]) -> String {
    let name = |dependant: &Dependency| match dependant {
        Dependency::Flag(_, key) => format!("the flag `{key}`"),
        Dependency::Segment(_, key) => format!("the segment `{key}`"),
    };
    list_names(dependants.iter().map(name), NAMES_MAX)
}
