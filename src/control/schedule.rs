//! Changes that are made later: planning them, listing them and taking them back.
//!
//! A change is planned by applying it behind those that are due before it: what cannot be made then is refused now. Making what is
//! due is in `schedule/run`.

mod run;

use crate::change::Instruction;
use crate::change::decode_instructions;
use crate::change::decode_segment_instructions;
use crate::control::Author;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Deed;
use crate::control::Part;
use crate::control::PartChanged;
use crate::control::Served;
use crate::control::read::find_environment;
use crate::control::safety;
use crate::control::world::PartError;
use crate::control::world::World;
use crate::model::decode::object;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::limit::SCHEDULE_AHEAD_DAYS_MAX;
use crate::model::limit::SCHEDULES_PENDING_MAX;
use crate::model::problem::Problems;
use crate::model::schedule::Plan;
use crate::model::schedule::PlannedChange;
use crate::model::schedule::ScheduleState;
use crate::model::window::Windows;
use crate::store::Decided;
use crate::store::ScheduleFilter;
use crate::store::ScheduleRecord;
use crate::store::within_timeout;
use jiff::SignedDuration;
use jiff::Timestamp;
pub use run::Claimed;
use serde_json::Map;
use serde_json::Value;

/// When something is to be done.
#[derive(Debug)]
pub enum When {
    /// Once.
    At {
        /// The time.
        time: Timestamp,
        /// As it was asked for.
        text: String,
        /// The time zone in which that was meant.
        time_zone: Option<String>,
    },
    /// Again and again.
    Windows(Windows),
}

/// What is to be planned.
#[derive(Debug)]
pub struct ScheduleRequest {
    /// What is to be changed, all in one environment.
    pub parts: Vec<Part>,
    /// The instructions of each part, as they were sent.
    pub instructions: Vec<Value>,
    /// Whether the changes were sent as a list.
    pub is_list: bool,
    /// When.
    pub when: When,
    /// Seconds by which it may be late.
    pub skip_if_late_by_secs: Option<i64>,
    /// When the author's token ends.
    pub author_expires_at: Option<Timestamp>,
}

/// What was planned, or would be.
#[derive(Debug)]
pub struct Planning {
    /// The entry.
    pub entry: ScheduleRecord,
    /// What each change would do, behind everything that is due before it.
    pub parts: Vec<PartChanged>,
}

impl Control {
    /// Plans a change.
    ///
    /// # Errors
    ///
    /// There is no such environment; the change cannot be made; its time is over or too far away; `too_many`; the author may not make
    /// it.
    pub async fn plan(
        &self,
        author: &Author,
        (project, env): (&ProjectKey, &EnvKey),
        request: ScheduleRequest,
    ) -> Result<Planning, ControlError> {
        within_timeout(self.plan_now(author, (project, env), request)).await
    }

    async fn plan_now(
        &self,
        author: &Author,
        (project, env): (&ProjectKey, &EnvKey),
        request: ScheduleRequest,
    ) -> Result<Planning, ControlError> {
        let now = self.clock.now();
        let due = check_time(&request, now)?;
        let mut tx = self.store.write().await?;
        let environment = find_environment(&mut tx, project, env).await?;
        let mut world = World::lock(self, tx, project, &request.parts).await?;
        // The entry is locked with the environment, so none is added meanwhile.
        let earlier = world.tx().scheduled_until(environment.id, due).await?;
        for entry in earlier.iter().filter(|entry| entry.plan.windows.is_none()) {
            for part in parts_of(&entry.plan, env).into_iter().flatten() {
                if request.parts.iter().any(|other| is_of_same(other, &part)) {
                    // What cannot be made then will be told then.
                    _ = world.apply(&part).await;
                }
            }
        }
        let parts = apply_all(&mut world, &request).await?;
        let bases: Vec<i64> = request.parts.iter().map(|part| world.version_of(part)).collect();
        let (mut tx, _, _) = world.into_tx();
        for part in &request.parts {
            if let Some((env, needs_version)) = part.touched() {
                safety::check_environment(&mut tx, author, project, env, needs_version).await?;
            }
        }
        if tx.count_scheduled(environment.id).await? >= SCHEDULES_PENDING_MAX {
            let detail = format!(
                "an environment can have at most {SCHEDULES_PENDING_MAX} entries that are still to come; cancel one"
            );
            return Err(ControlError::too_many(detail));
        }
        let names: Vec<&str> = request.parts.iter().map(Part::key).collect();
        let names = names.join(", ");
        let plan = plan_of(request, bases);
        let entry = ScheduleRecord {
            id: self.ids.next(),
            project: project.clone(),
            env: env.clone(),
            state: ScheduleState::Pending,
            due,
            fence: 0,
            plan,
            author: author.actor.clone(),
            comment: author.comment.clone(),
            created_at: now,
            outcome: None,
        };
        if !author.is_rehearsing() {
            tx.insert_scheduled(environment.id, &entry).await?;
            let deed = Deed {
                action: "schedule.create",
                subject: &names,
                project: Some(project),
                env: Some(env),
                version: None,
                instructions: Some(raw_of(&entry.plan)),
                changes: vec![format!("planned {} for {}", entry.id, entry.due)],
            };
            self.append(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Environments(Vec::new())).await?;
        }
        Ok(Planning { entry, parts })
    }

    /// Returns entries of an environment's schedule, the latest that were planned first.
    ///
    /// # Errors
    ///
    /// There is no such environment.
    pub async fn schedule(
        &self,
        (project, env): (&ProjectKey, &EnvKey),
        filter: &ScheduleFilter,
    ) -> Result<Vec<ScheduleRecord>, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            Ok(tx.schedule(environment.id, filter).await?)
        })
        .await
    }

    /// Returns an entry of an environment's schedule.
    ///
    /// # Errors
    ///
    /// There is no such environment or entry.
    pub async fn scheduled(
        &self,
        (project, env): (&ProjectKey, &EnvKey),
        id: &str,
    ) -> Result<ScheduleRecord, ControlError> {
        within_timeout(async {
            let mut tx = self.store.read().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            let found = tx.scheduled(environment.id, id).await?;
            found.ok_or_else(|| ControlError::not_found("schedule", id))
        })
        .await
    }

    /// Takes an entry back that is still to come.
    ///
    /// # Errors
    ///
    /// There is no such environment or entry; `not_pending`; the author may not change the environment.
    pub async fn cancel_scheduled(
        &self,
        author: &Author,
        (project, env): (&ProjectKey, &EnvKey),
        id: &str,
    ) -> Result<ScheduleRecord, ControlError> {
        within_timeout(async {
            let now = self.clock.now();
            let mut tx = self.store.write().await?;
            let environment = find_environment(&mut tx, project, env).await?;
            if !tx.lock_environment(environment.id).await? {
                return Err(ControlError::not_found("environment", env));
            }
            let found = tx.scheduled(environment.id, id).await?;
            let mut entry = found.ok_or_else(|| ControlError::not_found("schedule", id))?;
            let state = ScheduleState::Cancelled;
            let outcome = entry.outcome.as_ref();
            let (fence, due) = (entry.fence, entry.due);
            let decided = Decided { id, fence, state, due, outcome, now };
            if entry.state != ScheduleState::Pending || !tx.decide_scheduled(&decided).await? {
                let detail = format!("the entry {id} is not to come any more; look at its state");
                return Err(ControlError::conflict("not_pending", detail));
            }
            let names = names_of(&entry.plan);
            let deed = Deed {
                action: "schedule.cancel",
                subject: &names,
                project: Some(project),
                env: Some(env),
                version: None,
                instructions: Some(raw_of(&entry.plan)),
                changes: vec![format!("cancelled {id}, which was due {due}")],
            };
            self.record(&mut tx, author, deed, now).await?;
            self.finish(author, tx, Served::Environments(Vec::new())).await?;
            entry.state = state;
            Ok(entry)
        })
        .await
    }
}

/// Applies what is to be planned; returns what each part would do.
async fn apply_all(
    world: &mut World<'_>,
    request: &ScheduleRequest,
) -> Result<Vec<PartChanged>, ControlError> {
    let mut results = Vec::new();
    let mut problems = Problems::default();
    for (i, part) in request.parts.iter().enumerate() {
        match world.apply(part).await {
            Ok(result) => results.push(result),
            Err(PartError::Control(error)) => return Err(error),
            Err(failure) if !request.is_list => return Err(failure.into()),
            Err(failure) => {
                problems.add_below(&format!("changes[{i}]"), failure.into_problems()?);
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    for (part, result) in request.parts.iter().zip(&mut results) {
        world.conclude(part, false, result);
        world.tell_dependencies(part, result).await?;
    }
    Ok(results)
}

/// The time at which it is due first.
fn check_time(request: &ScheduleRequest, now: Timestamp) -> Result<Timestamp, ControlError> {
    let refuse = |path: &str, code, detail: String| Err(Problems::one(path, code, detail).into());
    match &request.when {
        When::At { time, .. } => {
            let ahead = SignedDuration::from_hours(24 * SCHEDULE_AHEAD_DAYS_MAX);
            if *time <= now {
                let detail = format!("must be in the future; it is {now}");
                return refuse("at", "in_the_past", detail);
            }
            if time.duration_since(now) > ahead {
                let detail = format!("must be at most {SCHEDULE_AHEAD_DAYS_MAX} days ahead");
                return refuse("at", "too_far_ahead", detail);
            }
            if let Some(end) = request.author_expires_at.filter(|end| end <= time) {
                let detail = format!(
                    "the token ends at {end}, and what is planned with it is not done after that"
                );
                return refuse("at", "token_ends_before", detail);
            }
            Ok(*time)
        }
        When::Windows(windows) => match windows.next_after(now) {
            Some(edge) => Ok(edge.at),
            None => refuse("windows", "no_window", "no window ever begins or ends".to_owned()),
        },
    }
}

fn plan_of(request: ScheduleRequest, bases: Vec<i64>) -> Plan {
    let one = |((part, instructions), base): ((Part, Value), i64)| {
        let (flag, segment) = match part {
            Part::Config { flag, .. } | Part::Definition { flag, .. } => (Some(flag), None),
            Part::Segment { segment, .. } => (None, Some(segment)),
        };
        PlannedChange { flag, segment, instructions, base }
    };
    let (at, time_zone, windows) = match request.when {
        When::At { text, time_zone, .. } => (Some(text), time_zone, None),
        When::Windows(windows) => (None, None, Some(windows)),
    };
    Plan {
        changes: request.parts.into_iter().zip(request.instructions).zip(bases).map(one).collect(),
        is_list: request.is_list,
        at,
        time_zone,
        windows,
        skip_if_late_by_secs: request.skip_if_late_by_secs,
    }
}

/// Reads what is planned; it was read so before.
fn parts_of(plan: &Plan, env: &EnvKey) -> Result<Vec<Part>, Problems> {
    let mut problems = Problems::default();
    let mut parts = Vec::new();
    for change in &plan.changes {
        let mut body = Map::new();
        body.insert("instructions".to_owned(), change.instructions.clone());
        let env = env.clone();
        let part = object(Value::Object(body), "", &mut problems, |fields| match change {
            PlannedChange { flag: Some(flag), .. } => {
                let instructions = decode_instructions(fields);
                Some(Part::Config { env, flag: flag.clone(), if_version: None, instructions })
            }
            PlannedChange { segment: Some(segment), .. } => {
                let instructions = decode_segment_instructions(fields);
                Some(Part::Segment {
                    env,
                    segment: segment.clone(),
                    if_version: None,
                    instructions,
                })
            }
            PlannedChange { .. } => None,
        });
        parts.extend(part.flatten());
    }
    problems.into_result(parts)
}

fn is_of_same(part: &Part, other: &Part) -> bool {
    match (part, other) {
        (Part::Config { flag, .. }, Part::Config { flag: other, .. }) => flag == other,
        (Part::Segment { segment, .. }, Part::Segment { segment: other, .. }) => segment == other,
        _ => false,
    }
}

fn names_of(plan: &Plan) -> String {
    let keys = plan.changes.iter().map(|change| {
        let flag = change.flag.as_ref().map(|key| key.as_str());
        flag.or(change.segment.as_ref().map(|key| key.as_str())).unwrap_or_default()
    });
    keys.collect::<Vec<_>>().join(", ")
}

/// What is planned, as the audit log keeps it: instructions, or a list of changes.
fn raw_of(plan: &Plan) -> String {
    match plan.changes.as_slice() {
        [only] if !plan.is_list => only.instructions.to_string(),
        changes => serde_json::to_string(changes).unwrap_or_default(),
    }
}

/// The instructions of the start or the end of a window.
fn switch(is_start: bool) -> (Instruction, Value) {
    let (instruction, kind) = match is_start {
        true => (Instruction::TurnFlagOn, "turnFlagOn"),
        false => (Instruction::TurnFlagOff, "turnFlagOff"),
    };
    (instruction, serde_json::json!([{"kind": kind}]))
}
