//! Making what is due.
//!
//! Every replica looks for it. Whoever finds it holds the entry's row until the change, its audit entry and what became of the entry
//! are committed together: a change is made once, and a replica that dies on the way leaves nothing behind. Whatever could not
//! be made is written down in a transaction of its own, fenced by the entry's number.

use super::names_of;
use super::parts_of;
use super::raw_of;
use super::switch;
use crate::auth;
use crate::auth::Denied;
use crate::auth::Permission;
use crate::auth::Place;
use crate::control::Author;
use crate::control::ChangeSet;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Part;
use crate::control::Provenance;
use crate::control::Served;
use crate::control::change_set::EXECUTE;
use crate::control::world::PartError;
use crate::control::world::Planned;
use crate::model::change::Actor;
use crate::model::problem::Problems;
use crate::model::schedule::Outcome;
use crate::model::schedule::OutcomeError;
use crate::model::schedule::OutcomeProblem;
use crate::model::schedule::ScheduleState;
use crate::model::token::Grant;
use crate::model::window::Edge;
use crate::store::Decided;
use crate::store::ScheduleRecord;
use crate::store::StoreError;
use crate::store::Tx;
use crate::store::within_timeout;
use jiff::Timestamp;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::debug;
use tracing::error;

/// How often it is looked whether something is due, so that what others plan is found.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The shortest wait, as when another replica is at work on what is due.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// The id of the token that comes from the configuration.
const CONFIGURED: &str = "configured";

/// An entry that is due and locked.
#[derive(Debug)]
pub struct Claimed {
    entry: ScheduleRecord,
    /// When it is due next, if it comes again.
    next: Option<Timestamp>,
}

/// Why nothing was made.
struct Refusal {
    state: ScheduleState,
    problem: OutcomeProblem,
    /// Whether windows end with it.
    is_final: bool,
}

impl Refusal {
    fn failed(code: &str, detail: impl Into<String>) -> Self {
        let problem = problem(code, detail);
        Self { state: ScheduleState::Failed, problem, is_final: true }
    }
}

/// What came of making an entry.
enum Made {
    /// Everything is committed.
    Committed,
    /// Everything was so already.
    Unchanged,
}

impl Claimed {
    /// The state that a part was planned on.
    pub(in crate::control) fn planned(&self, index: usize) -> Planned {
        let base = self.entry.plan.changes.get(index).map_or(0, |change| change.base);
        Planned { base, is_repeated: self.is_repeated() }
    }

    /// Whether this is a start or an end of a window.
    pub(in crate::control) fn is_repeated(&self) -> bool {
        self.entry.plan.windows.is_some()
    }

    /// Writes that the entry was made, in the transaction of the change.
    pub(in crate::control) async fn finish(
        &self,
        tx: &mut Tx,
        version: Option<i64>,
        changes: &[String],
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let entry = &self.entry;
        let (state, changes) = (ScheduleState::Done, changes.to_vec());
        let outcome = Outcome { state, at: now, version, changes, problem: None };
        self.decide(tx, &outcome, false, now).await?;
        let Some(version) = version else { return Ok(()) };
        let segments = entry.plan.changes.iter().filter(|change| change.segment.is_some());
        let segments: Vec<_> = segments.collect();
        if segments.is_empty() {
            return Ok(());
        }
        // What was planned on the same state of a segment was planned on this change, too.
        let environments = tx.environments().await?;
        let is_own = |each: &&crate::store::EnvironmentRecord| {
            each.project == entry.project && each.key == entry.env
        };
        let Some(env) = environments.iter().find(is_own).map(|each| each.id) else { return Ok(()) };
        for mut other in tx.scheduled_until(env, Timestamp::MAX).await? {
            let mut is_moved = false;
            for change in &mut other.plan.changes {
                let is_same = |own: &&&crate::model::schedule::PlannedChange| {
                    own.segment == change.segment && own.base == change.base
                };
                if other.id != entry.id && segments.iter().any(|own| is_same(&own)) {
                    (change.base, is_moved) = (version, true);
                }
            }
            if is_moved {
                tx.replan(&other.id, &other.plan).await?;
            }
        }
        Ok(())
    }

    async fn decide(
        &self,
        tx: &mut Tx,
        outcome: &Outcome,
        is_final: bool,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let entry = &self.entry;
        let next = self.next.filter(|_| !is_final);
        let state = next.map_or(outcome.state, |_| ScheduleState::Pending);
        let due = next.unwrap_or(entry.due);
        let (id, fence, outcome) = (entry.id.as_str(), entry.fence, Some(outcome));
        let decided = Decided { id, fence, state, due, outcome, now };
        if tx.decide_scheduled(&decided).await? {
            return Ok(());
        }
        Err(ControlError::conflict("decided", "the entry was decided elsewhere"))
    }
}

impl Control {
    /// Makes what is due, whenever it is, until it is told to stop.
    pub async fn run_schedule(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.make_due(&stop).await {
                Ok(Some(due)) => {
                    let ahead = due.duration_since(self.clock.now());
                    let ahead = Duration::try_from(ahead).unwrap_or_default();
                    ahead.clamp(WAIT_MIN, POLL_INTERVAL)
                }
                Ok(None) => POLL_INTERVAL,
                Err(error) => {
                    debug!(%error, "could not look for what is due");
                    POLL_INTERVAL
                }
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Makes everything that is due and not held by another replica; returns when something is due next.
    async fn make_due(&self, stop: &CancellationToken) -> Result<Option<Timestamp>, ControlError> {
        if !self.snapshots.freshness().is_ready {
            // Who has the token that comes from the configuration is not known yet.
            return Ok(Some(self.clock.now()));
        }
        loop {
            let next: Result<_, ControlError> =
                within_timeout(async { Ok(self.store.read().await?.next_scheduled().await?) })
                    .await;
            let next = next?;
            let is_due = next.is_some_and(|due| due <= self.clock.now());
            if !is_due || stop.is_cancelled() || !within_timeout(Box::pin(self.make_next())).await?
            {
                return Ok(next);
            }
        }
    }

    /// Makes the first entry that is due; returns `false` if there is none that is not held by another replica.
    async fn make_next(&self) -> Result<bool, ControlError> {
        let now = self.clock.now();
        let mut tx = self.store.write().await?;
        let entry = match tx.claim_scheduled(now).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(false),
            Err(StoreError::Corrupt { table: "schedule", key, cause }) => {
                error!(schedule = key, cause, "an entry of the schedule cannot be read");
                tx.give_up_scheduled(&key, now).await?;
                tx.commit().await?;
                return Ok(true);
            }
            Err(error) => return Err(error.into()),
        };
        let windows = entry.plan.windows.as_ref();
        // Of several starts and ends that were missed, only the last counts.
        let edge = windows.and_then(|windows| windows.last_until(now));
        let next = windows.and_then(|windows| windows.next_after(now)).map(|edge| edge.at);
        let claimed = Claimed { entry: entry.clone(), next };
        let mut refusal = None;
        match self.make(tx, claimed, edge, now).await {
            Ok(Made::Committed) => return Ok(true),
            Ok(Made::Unchanged) => {}
            Err(ControlError::Store(
                error @ (StoreError::Unavailable(_) | StoreError::Regressed(_)),
            )) => return Err(error.into()),
            Err(error) => refusal = Some(refusal_of(error)),
        }
        let claimed = Claimed { entry, next };
        match self.write_down(&claimed, refusal, now).await {
            // Another replica was faster.
            Ok(()) | Err(ControlError::Conflict { code: "decided", .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Makes an entry in the transaction that has locked it.
    async fn make(
        &self,
        mut tx: Tx,
        claimed: Claimed,
        edge: Option<Edge>,
        now: Timestamp,
    ) -> Result<Made, ControlError> {
        let entry = &claimed.entry;
        let due = edge.map_or(entry.due, |edge| edge.at);
        let late = now.duration_since(due).as_secs();
        if let Some(max) = entry.plan.skip_if_late_by_secs.filter(|max| late > *max) {
            let detail = format!("it was {late} seconds late, and may be {max}");
            return Err(ControlError::conflict(LATE, detail));
        }
        let grant = self.grant_of(&mut tx, &entry.author, now).await?;
        let place = Place::Environment(&entry.project, &entry.env);
        auth::require(&grant, Permission::Change, place).map_err(ControlError::Denied)?;
        let is_unprivileged =
            grant.role.is_none_or(|role| !Permission::ChangeProtected.is_of(role));
        let comment = entry.comment.clone();
        let author = Author {
            actor: Actor { id: grant.id, name: grant.name, holder: grant.holder },
            request_id: entry.id.clone(),
            // What the environment asks for now was not asked for when this was planned.
            comment: comment.or_else(|| Some(format!("planned at {}", entry.created_at))),
            provenance: Provenance { is_unprivileged, ..Provenance::default() },
        };
        let mut parts = parts_of(&entry.plan, &entry.env)?;
        let mut raw = raw_of(&entry.plan);
        if let Some(edge) = edge {
            let (instruction, sent) = switch(edge.is_start);
            for part in &mut parts {
                if let Part::Config { instructions, .. } = part {
                    *instructions = vec![instruction.clone()];
                }
            }
            raw = sent.to_string();
        }
        let (project, is_list) = (entry.project.clone(), entry.plan.is_list);
        let failed = |failures: Vec<(usize, PartError)>| {
            let mut problems = Problems::default();
            for (i, failure) in failures {
                let prefix = if is_list { format!("changes[{i}]") } else { String::new() };
                problems.add_below(&prefix, failure.into_problems()?);
            }
            Ok(ControlError::Invalid(problems))
        };
        let claimed = Some(claimed);
        let set = ChangeSet { parts, raw, claimed };
        let changed = self.change_set(tx, &author, &project, &set, EXECUTE, failed).await?;
        let is_unchanged = changed.parts.iter().all(|part| part.changes.is_empty());
        Ok(if is_unchanged { Made::Unchanged } else { Made::Committed })
    }

    /// What the author may do now.
    async fn grant_of(
        &self,
        tx: &mut Tx,
        author: &Actor,
        now: Timestamp,
    ) -> Result<Grant, ControlError> {
        let grant = if author.id == CONFIGURED {
            let directory = self.snapshots.directory();
            let mut grants = directory.grants();
            grants.find(|(_, grant)| grant.id == CONFIGURED).map(|(_, grant)| grant.clone())
        } else {
            tx.token(&author.id).await?.map(|token| token.grant)
        };
        let name = &author.name;
        let gone = |what: &str| {
            let detail = format!("the token `{name}` that planned it {what}");
            ControlError::conflict(AUTHOR, detail)
        };
        let grant = grant.ok_or_else(|| gone("was revoked"))?;
        match grant.expires_at {
            Some(end) if end <= now => Err(gone("has ended")),
            _ => Ok(grant),
        }
    }

    /// Writes down that nothing was made, or that everything was so already.
    async fn write_down(
        &self,
        claimed: &Claimed,
        refusal: Option<Refusal>,
        now: Timestamp,
    ) -> Result<(), ControlError> {
        let entry = &claimed.entry;
        let state = refusal.as_ref().map_or(ScheduleState::Done, |refusal| refusal.state);
        let is_final = refusal.as_ref().is_some_and(|refusal| refusal.is_final);
        let problem = refusal.map(|refusal| refusal.problem);
        let word = match &problem {
            Some(problem) => format!("{}: {}", state.as_str(), problem.detail),
            None => "everything was so already".to_owned(),
        };
        let outcome = Outcome { state, at: now, version: None, changes: Vec::new(), problem };
        let mut tx = self.store.write().await?;
        claimed.decide(&mut tx, &outcome, is_final, now).await?;
        let author = Author {
            actor: entry.author.clone(),
            request_id: entry.id.clone(),
            comment: entry.comment.clone(),
            provenance: Provenance::default(),
        };
        let names = names_of(&entry.plan);
        let deed = Deed {
            action: if state == ScheduleState::Done { EXECUTE } else { "schedule.refuse" },
            subject: &names,
            project: Some(&entry.project),
            env: Some(&entry.env),
            version: None,
            instructions: Some(raw_of(&entry.plan)),
            changes: vec![word],
        };
        self.append(&mut tx, &author, deed, now).await?;
        self.finish(&author, tx, Served::Environments(Vec::new())).await
    }
}

/// Codes of what is told apart in [`refusal_of`].
const LATE: &str = "late";
const AUTHOR: &str = "author";

fn problem(code: &str, detail: impl Into<String>) -> OutcomeProblem {
    OutcomeProblem { code: code.to_owned(), detail: detail.into(), ..OutcomeProblem::default() }
}

fn refusal_of(error: ControlError) -> Refusal {
    match error {
        ControlError::Conflict { code: LATE, detail } => {
            let problem = problem(LATE, detail);
            Refusal { state: ScheduleState::Skipped, problem, is_final: false }
        }
        ControlError::Conflict { code, detail } => Refusal::failed(code, detail),
        ControlError::ChangedSince { code, detail, differs } => {
            let differs = differs.iter().filter_map(|each| serde_json::to_value(each).ok());
            let problem = OutcomeProblem { differs: differs.collect(), ..problem(code, detail) };
            Refusal { state: ScheduleState::Conflict, problem, is_final: false }
        }
        // It could be made when it was planned.
        ControlError::Invalid(problems) => {
            let errors = problems.as_slice().iter().map(|each| OutcomeError {
                path: each.path.clone(),
                code: each.code.to_owned(),
                detail: each.detail.clone(),
            });
            let first = problems.as_slice().first();
            let code = first.map_or("invalid", |first| first.code);
            let problem =
                OutcomeProblem { errors: errors.collect(), ..problem(code, problems.to_string()) };
            Refusal { state: ScheduleState::Conflict, problem, is_final: true }
        }
        ControlError::Denied(Denied::Role { needed }) => {
            let needed = needed.as_str();
            let detail = format!("whoever planned it does not have the role {needed}");
            Refusal::failed("role", detail)
        }
        ControlError::Denied(_) => {
            Refusal::failed("scope", "whoever planned it does not reach the environment")
        }
        ControlError::Store(cause) => {
            error!(%cause, "an entry of the schedule could not be made");
            Refusal::failed("internal", "the server failed; its log has the cause")
        }
        other => Refusal::failed("failed", other.to_string()),
    }
}
