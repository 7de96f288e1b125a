//! Writing what a plan for a whole project has.

use super::Loaded;
use super::OWNER_CHANGES;
use super::StateApplied;
use super::StateRequest;
use super::unmanaged;
use crate::change::ProjectPlan;
use crate::change::StatePlan;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Served;
use crate::control::flag_history::renumber_versions;
use crate::control::safety;
use crate::model::change::EnvId;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::rule::FlagConfig;
use crate::store::StoredFlag;
use crate::store::Tx;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

/// Changes that the audit entry tells; further ones are counted.
const WORDS_MAX: usize = 500;

impl Control {
    /// Writes everything that a plan has, and finishes.
    pub(super) async fn write_state(
        &self,
        mut tx: Tx,
        author: &Author,
        (project, now): (&ProjectKey, Timestamp),
        request: &StateRequest,
        (mut loaded, plan): (Loaded, StatePlan),
        directory: Option<i64>,
    ) -> Result<StateApplied, ControlError> {
        let touched = touched(&loaded, &plan);
        for env in &touched {
            let needs_version = !request.if_versions.contains_key(env);
            safety::check_environment(&mut tx, author, project, env, needs_version).await?;
        }
        write_directory(&mut tx, project, &plan, &mut loaded.ids, now).await?;
        tx.insert_definitions(project, &plan.created, now).await?;
        for definition in &plan.redefined {
            tx.update_definition(project, definition).await?;
        }
        let adopted = unmanaged(&loaded, request);
        let mut positions = Vec::new();
        let mut logs = Vec::new();
        let new = plan.environments.iter().filter(|(_, it)| it.is_new).map(|(env, _)| env);
        let bumped: BTreeSet<&EnvKey> = touched.iter().chain(new).collect();
        for (env, id) in &loaded.ids {
            if !bumped.contains(env) {
                continue;
            }
            let Some((_, version)) = tx.bump_environment(project, env, now).await? else {
                return Err(ControlError::not_found("environment", env));
            };
            let here = loaded.flags.get(env);
            let written = write_environment(&mut tx, (env, *id), version, here, &plan, now).await?;
            positions.push((*id, version));
            logs.push((*id, version, written));
            loaded.versions.insert(env.clone(), version);
        }
        for key in &adopted.flags {
            tx.put_managed_flag(project, key, &request.owner).await?;
        }
        for (env, key) in &adopted.segments {
            if let Some(id) = loaded.ids.get(env) {
                tx.put_managed_segment(*id, key, &request.owner).await?;
            }
        }
        let mut changes = words(&plan);
        if changes.is_empty() {
            let n = adopted.flags.len() + adopted.segments.len();
            changes.push(format!("`{}` looks after {n} more thing(s)", request.owner));
        }
        let taken = plan.notes.iter().filter(|note| note.code == OWNER_CHANGES);
        changes.extend(taken.map(|note| format!("{}: {}", note.path, note.detail)));
        let deed = Deed {
            action: "project.apply",
            subject: project.as_str(),
            project: Some(project),
            env: None,
            version: None,
            instructions: None,
            changes,
        };
        let audit_id = self.append(&mut tx, author, deed, now).await?;
        for (id, version, (flags, segments)) in &logs {
            let flags: Vec<&str> = flags.iter().map(FlagKey::as_str).collect();
            let segments: Vec<&str> = segments.iter().map(SegmentKey::as_str).collect();
            tx.log_change(*id, *version, &flags, &segments, &audit_id, now).await?;
        }
        self.finish(author, tx, Served::All(directory, positions)).await?;
        Ok(StateApplied { plan, versions: loaded.versions, origins: Vec::new() })
    }
}

/// The environments that are there and change; a change of a definition is seen in all of them.
fn touched(loaded: &Loaded, plan: &StatePlan) -> Vec<EnvKey> {
    let is_wide = !plan.created.is_empty() || !plan.redefined.is_empty();
    let is_touched = |env: &&EnvKey| {
        is_wide
            || plan.configs.contains_key(*env)
            || plan.segments.contains_key(*env)
            || plan.removed.contains_key(*env)
    };
    loaded.ids.keys().filter(is_touched).cloned().collect()
}

async fn write_directory(
    tx: &mut Tx,
    project: &ProjectKey,
    plan: &StatePlan,
    ids: &mut BTreeMap<EnvKey, EnvId>,
    now: Timestamp,
) -> Result<(), ControlError> {
    match &plan.project {
        Some(ProjectPlan::Create(name)) => _ = tx.insert_project(project, name, now).await?,
        Some(ProjectPlan::Rename(name)) => _ = tx.rename_project(project, name).await?,
        None => {}
    }
    for (env, settings) in &plan.environments {
        if settings.is_new {
            let (name, sdk) = (&settings.name, settings.server_sdk);
            let id = tx.insert_environment(project, env, name, sdk, now).await?;
            ids.extend(id.map(|id| (env.clone(), id)));
        }
        if let Some(id) = ids.get(env) {
            let after = settings.fail_closed_after_secs.map(Duration::from_secs);
            tx.update_environment(*id, &settings.name, after, settings.safety).await?;
        }
    }
    Ok(())
}

/// Writes what changes in one environment; returns the keys of it.
async fn write_environment(
    tx: &mut Tx,
    (env, id): (&EnvKey, EnvId),
    version: i64,
    here: Option<&BTreeMap<FlagKey, StoredFlag>>,
    plan: &StatePlan,
    now: Timestamp,
) -> Result<(BTreeSet<FlagKey>, BTreeSet<SegmentKey>), ControlError> {
    let mut flags = BTreeSet::new();
    let mut changed: Vec<StoredFlag> = Vec::new();
    let mut new: Vec<(FlagKey, FlagConfig)> = Vec::new();
    for (key, config) in plan.configs.get(env).into_iter().flatten() {
        flags.insert(key.clone());
        match here.and_then(|here| here.get(key)) {
            Some(stored) => changed.push(StoredFlag { config: config.clone(), ..stored.clone() }),
            None => new.push((key.clone(), config.clone())),
        }
    }
    for definition in &plan.redefined {
        let FlagDefinition { key, .. } = definition;
        if flags.insert(key.clone()) {
            tx.touch_config(id, key, version, now).await?;
        }
    }
    for (key, renumbering) in &plan.renumbered {
        renumber_versions(tx, id, key, renumbering).await?;
    }
    tx.put_configs(id, &new, version, now).await?;
    tx.put_flags(id, &changed.iter().collect::<Vec<_>>(), version, now).await?;
    let written = plan.segments.get(env).cloned().unwrap_or_default();
    tx.put_segments(id, &written, version, now).await?;
    let mut segments: BTreeSet<SegmentKey> = written.into_iter().map(|each| each.key).collect();
    for key in plan.removed.get(env).into_iter().flatten() {
        tx.delete_segment(id, key, version, now).await?;
        tx.forget_managed_segment(id, key).await?;
        segments.insert(key.clone());
    }
    Ok((flags, segments))
}

/// What was done, in words.
fn words(plan: &StatePlan) -> Vec<String> {
    let word = |change: &crate::change::PlannedChange| {
        let place = change.environment.as_ref().map(|env| format!(" in `{env}`"));
        let texts: Vec<&str> = change.details.iter().map(|detail| detail.text.as_str()).collect();
        let texts =
            if texts.is_empty() { String::new() } else { format!(": {}", texts.join("; ")) };
        let (op, kind, key) = (change.op, change.kind, &change.key);
        format!("{op} {kind} `{key}`{}{texts}", place.unwrap_or_default())
    };
    let mut words: Vec<String> = plan.changes.iter().take(WORDS_MAX).map(word).collect();
    let n_more = plan.changes.len().saturating_sub(WORDS_MAX);
    if n_more > 0 {
        words.push(format!("and {n_more} more"));
    }
    words
}
