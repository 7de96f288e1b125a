//! A whole project as a file: reading it out, and bringing it to what a file says, in one transaction.
//!
//! What has to change is decided in `change`; writing it is in `state/write`, and who changed what differs in `state/origin`.

mod origin;
mod write;

use crate::auth::Denied;
use crate::auth::Permission;
use crate::change::Actual;
use crate::change::ActualEnvironment;
use crate::change::DesiredState;
use crate::change::EnvironmentPlan;
use crate::change::Managed;
use crate::change::StatePlan;
use crate::change::plan_state;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::project::initial_salt;
use crate::control::recent_use;
use crate::model::change::EnvId;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::ProjectKey;
use crate::model::key::SegmentKey;
use crate::model::limit::ENVIRONMENTS_MAX;
use crate::model::limit::FLAGS_MAX;
use crate::model::limit::SEGMENTS_MAX;
use crate::model::problem::Problem;
use crate::store::Made;
use crate::store::StoredFlag;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;
use origin::origins;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Percent of what an owner looks after that one file may archive and delete without being forced.
const PRUNED_PERCENT_MAX: usize = 10;
/// Things that one file may archive and delete without being forced, however few there are.
const PRUNED_MIN: usize = 5;

/// The note on something that another owner looked after.
const OWNER_CHANGES: &str = "owner_changes";
/// Things that change their owner and are named; further ones are counted.
const TAKEN_NOTES_MAX: usize = 100;

/// Flags that are archived and looked at whether they are still evaluated.
const USES_MAX: usize = 1_000;

/// A project that is to be as a file says.
#[derive(Debug)]
pub struct StateRequest {
    /// What the file says.
    pub desired: DesiredState,
    /// Who looks after what is in it.
    pub owner: String,
    /// Whether what the owner applied before and the file has no more is archived and deleted.
    pub is_pruning: bool,
    /// Whether more than a small part of it may be.
    pub is_forced: bool,
    /// The versions of environments that the plan was made at.
    pub if_versions: BTreeMap<EnvKey, i64>,
    /// Whether the author may create and change environments.
    pub may_manage: bool,
    /// Whether the author may create projects.
    pub may_create: bool,
}

/// What was done, or would be.
#[derive(Debug)]
pub struct StateApplied {
    /// What changes.
    pub plan: StatePlan,
    /// The versions of the environments that are there, after it.
    pub versions: BTreeMap<EnvKey, i64>,
    /// Who last changed what changes, in the order of the plan's changes; told of a dry run only.
    pub origins: Vec<Option<Made>>,
}

/// What a file is compared with.
struct Loaded {
    actual: Actual,
    managed: Managed,
    ids: BTreeMap<EnvKey, EnvId>,
    versions: BTreeMap<EnvKey, i64>,
    flags: BTreeMap<EnvKey, BTreeMap<FlagKey, StoredFlag>>,
    segment_versions: BTreeMap<(EnvKey, SegmentKey), i64>,
}

impl Control {
    /// Reads everything of a project that a file has.
    ///
    /// # Errors
    ///
    /// There is no such project.
    pub async fn state(&self, project: &ProjectKey) -> Result<Actual, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let loaded = load(&mut tx, project, "").await?;
            match loaded.actual.name {
                None => Err(ControlError::not_found("project", project)),
                Some(_) => Ok(loaded.actual),
            }
        })
        .await
    }

    /// Makes a project what a file says: one version for each environment that changes, and one audit entry.
    ///
    /// # Errors
    ///
    /// Something is wrong with the file; an environment is not at the version that was asked for; the author may not do it.
    pub async fn apply_state(
        &self,
        author: &Author,
        project: &ProjectKey,
        request: &StateRequest,
    ) -> Result<StateApplied, ControlError> {
        within_timeout(async {
            // First without any lock, so that nobody waits for what writes nothing.
            let mut tx = self.store.read().await?;
            let loaded = load(&mut tx, project, &request.owner).await?;
            let mut plan = plan_for(project, &loaded, request)?;
            let unmanaged = unmanaged(&loaded, request);
            let is_adopting = !unmanaged.flags.is_empty() || !unmanaged.segments.is_empty();
            if author.is_rehearsing() || plan.is_empty() && !is_adopting {
                for (path, detail) in uses(&mut tx, project, &plan, self.clock.now()).await? {
                    plan.notes.push(Problem { path, code: "recently_used", detail });
                }
                plan.notes.extend(taken_over(&mut tx, project, &loaded, request).await?);
                let origins = origins(&mut tx, &loaded, &plan).await?;
                return Ok(StateApplied { plan, versions: loaded.versions, origins });
            }
            drop(tx);
            let needs_directory = plan.project.is_some() || !plan.environments.is_empty();
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let directory = match needs_directory {
                true => Some(tx.bump_directory().await?),
                false => None,
            };
            tx.lock_project(project).await?;
            for environment in tx.environments().await? {
                if environment.project == *project {
                    tx.lock_environment(environment.id).await?;
                }
            }
            let loaded = load(&mut tx, project, &request.owner).await?;
            let mut plan = plan_for(project, &loaded, request)?;
            plan.notes.extend(taken_over(&mut tx, project, &loaded, request).await?);
            if !request.is_forced
                && let Some((_, detail)) =
                    uses(&mut tx, project, &plan, now).await?.into_iter().next()
            {
                let detail = format!("{detail}; if that does not matter, say so by `force`");
                return Err(ControlError::conflict("recently_used", detail));
            }
            if directory.is_none() && (plan.project.is_some() || !plan.environments.is_empty()) {
                let detail = "an environment was changed in between; try again";
                return Err(ControlError::conflict("plan_outdated", detail));
            }
            self.write_state(tx, author, (project, now), request, (loaded, plan), directory).await
        })
        .await
    }
}

/// What the file has and others look after until it is applied: a note on each, as far as they are few.
async fn taken_over(
    tx: &mut Tx,
    project: &ProjectKey,
    loaded: &Loaded,
    request: &StateRequest,
) -> Result<Vec<Problem>, ControlError> {
    let wanted = unmanaged(loaded, request);
    let mut taken = Vec::new();
    for (key, other) in tx.flags_of_others(project, &request.owner).await? {
        if wanted.flags.contains(&key) {
            taken.push((format!("flags.{key}"), other));
        }
    }
    for (id, key, other) in tx.segments_of_others(project, &request.owner).await? {
        let env = loaded.ids.iter().find(|(_, each)| **each == id).map(|(env, _)| env.clone());
        if let Some(place) = env.map(|env| (env, key))
            && wanted.segments.contains(&place)
        {
            taken.push((format!("segments.{}.{}", place.0, place.1), other));
        }
    }
    taken.sort();
    let n_more = taken.len().saturating_sub(TAKEN_NOTES_MAX);
    taken.truncate(TAKEN_NOTES_MAX);
    let note = |(path, other): (String, String)| {
        let own = &request.owner;
        let detail =
            format!("`{other}` looks after it until now, and `{own}` once this is applied");
        Problem { path, code: OWNER_CHANGES, detail }
    };
    let mut notes: Vec<Problem> = taken.into_iter().map(note).collect();
    if n_more > 0 {
        let detail = format!("{n_more} more thing(s) of others come to `{}`", request.owner);
        notes.push(Problem { path: "owner".to_owned(), code: OWNER_CHANGES, detail });
    }
    Ok(notes)
}

/// What a plan archives though it was evaluated recently: each with its path and where, when and how often.
async fn uses(
    tx: &mut Tx,
    project: &ProjectKey,
    plan: &StatePlan,
    now: Timestamp,
) -> Result<Vec<(String, String)>, ControlError> {
    let mut uses = Vec::new();
    for definition in plan.archived.iter().take(USES_MAX) {
        let found = recent_use::describe(tx, project, definition, now).await?;
        uses.extend(found.map(|detail| (format!("flags.{definition}.archived"), detail)));
    }
    Ok(uses)
}

/// Reads what a file is compared with; a project that is not there has no name.
async fn load(tx: &mut Tx, project: &ProjectKey, owner: &str) -> Result<Loaded, ControlError> {
    let projects = tx.projects().await?;
    let name = projects.into_iter().find(|each| each.key == *project).map(|each| each.name);
    let mut loaded = Loaded {
        actual: Actual { name, ..Actual::default() },
        managed: Managed::default(),
        ids: BTreeMap::new(),
        versions: BTreeMap::new(),
        flags: BTreeMap::new(),
        segment_versions: BTreeMap::new(),
    };
    loaded.actual.definitions = tx.all_definitions(project).await?;
    for record in tx.environments().await? {
        if record.project != *project {
            continue;
        }
        let settings = EnvironmentPlan {
            is_new: false,
            name: record.name,
            server_sdk: record.server_sdk,
            fail_closed_after_secs: record.fail_closed_after.map(|after| after.as_secs()),
            safety: record.safety,
        };
        let stored = tx.flags(project, record.id).await?;
        let flags = stored.iter().map(|flag| {
            (flag.definition.key.clone(), (flag.config.clone(), flag.killed.is_some()))
        });
        let flags = flags.collect();
        let segments = tx.segments(record.id).await?;
        loaded.segment_versions.extend(
            segments.iter().map(|it| ((record.key.clone(), it.segment.key.clone()), it.version)),
        );
        let segments =
            segments.into_iter().map(|each| (each.segment.key.clone(), each.segment)).collect();
        let environment = ActualEnvironment { settings, flags, segments };
        loaded.actual.environments.insert(record.key.clone(), environment);
        loaded.ids.insert(record.key.clone(), record.id);
        loaded.versions.insert(record.key.clone(), record.version);
        let stored = stored.into_iter().map(|flag| (flag.definition.key.clone(), flag)).collect();
        loaded.flags.insert(record.key, stored);
    }
    loaded.managed.flags = tx.managed_flags(project, owner).await?.into_iter().collect();
    // What is archived or gone already is none of what may be pruned, nor does it make more of it.
    let definitions = &loaded.actual.definitions;
    let is_live = |key: &FlagKey| {
        definitions
            .get(key)
            .is_some_and(|(definition, is_deleted)| !is_deleted && !definition.archived)
    };
    loaded.managed.n_live = loaded.managed.flags.iter().filter(|key| is_live(key)).count();
    for (id, key) in tx.managed_segments(project, owner).await? {
        let env = loaded.ids.iter().find(|(_, each)| **each == id).map(|(env, _)| env.clone());
        loaded.managed.segments.extend(env.map(|env| (env, key)));
    }
    loaded.managed.n_live += loaded.managed.segments.len();
    Ok(loaded)
}

fn plan_for(
    project: &ProjectKey,
    loaded: &Loaded,
    request: &StateRequest,
) -> Result<StatePlan, ControlError> {
    let Loaded { actual, managed, versions, .. } = loaded;
    if actual.name.is_none() && !request.may_create {
        return Err(ControlError::not_found("project", project));
    }
    for (env, wanted) in &request.if_versions {
        let current = versions.get(env).copied().unwrap_or_default();
        if current != *wanted {
            let detail = format!(
                "the environment `{env}` was changed since the plan was made: it is at version {current} and not at {wanted}"
            );
            return Err(ControlError::conflict("plan_outdated", detail));
        }
    }
    let salt = |env: &EnvKey| initial_salt(project, env);
    let pruned = request.is_pruning.then_some(managed);
    let plan = plan_state(project.as_str(), actual, &request.desired, &salt, pruned)?;
    let n_managed = managed.n_live;
    let n_pruned_max = PRUNED_MIN.max(n_managed * PRUNED_PERCENT_MAX / 100);
    if plan.n_pruned > n_pruned_max && !request.is_forced {
        let detail = format!(
            "would archive or delete {} of the {n_managed} things of `{}`, and without `force` {n_pruned_max} are the most",
            plan.n_pruned, request.owner
        );
        return Err(ControlError::conflict("too_many_pruned", detail));
    }
    if !plan.environments.is_empty() && !request.may_manage {
        let denied = Denied::Role { needed: Permission::ManageProject.needed() };
        return Err(ControlError::Denied(denied));
    }
    check_counts(actual, &plan)?;
    Ok(plan)
}

fn check_counts(actual: &Actual, plan: &StatePlan) -> Result<(), ControlError> {
    let is_over = |n: usize, max: i64| i64::try_from(n).is_ok_and(|n| n > max);
    let live = actual.definitions.values().filter(|(_, is_deleted)| !is_deleted).count();
    if is_over(live + plan.created.len(), FLAGS_MAX) {
        return Err(ControlError::too_many(format!(
            "a project can have at most {FLAGS_MAX} flags"
        )));
    }
    let new = plan.environments.values().filter(|it| it.is_new).count();
    if is_over(actual.environments.len() + new, ENVIRONMENTS_MAX) {
        let detail = format!("a project can have at most {ENVIRONMENTS_MAX} environments");
        return Err(ControlError::too_many(detail));
    }
    for (env, segments) in &plan.segments {
        let here = actual.environments.get(env).map_or(0, |here| here.segments.len());
        if is_over(here + segments.len(), SEGMENTS_MAX) {
            let detail = format!("an environment can have at most {SEGMENTS_MAX} segments");
            return Err(ControlError::too_many(detail));
        }
    }
    Ok(())
}

/// What the file has and its owner does not look after yet.
fn unmanaged(loaded: &Loaded, request: &StateRequest) -> Managed {
    let flags: BTreeSet<FlagKey> = request.desired.flags.keys().cloned().collect();
    let segments = request.desired.segments.iter().flat_map(|(env, segments)| {
        segments.keys().map(|key: &SegmentKey| (env.clone(), key.clone()))
    });
    let segments: BTreeSet<_> = segments.collect();
    Managed {
        flags: flags.difference(&loaded.managed.flags).cloned().collect(),
        segments: segments.difference(&loaded.managed.segments).cloned().collect(),
        n_live: 0,
    }
}
