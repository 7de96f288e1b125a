//! What has to change so that a project is as a file says.

mod reference;

use super::DesiredEnvironment;
use super::DesiredState;
use super::project::Actual;
use super::project::EnvironmentPlan;
use super::project::Managed;
use super::project::PlannedChange;
use super::project::PlannedDetail;
use super::project::ProjectPlan;
use super::project::StatePlan;
use super::readable::Definitions;
use super::readable::readable_config;
use super::readable::readable_definition;
use super::readable::readable_segment;
use super::slots::keep_slots;
use super::target;
use super::words::describe;
use crate::change::renumber::Renumbering;
use crate::model::environment::Safety;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::problem::Problem;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use serde_json::Map;
use serde_json::Value;
use std::collections::BTreeMap;

/// Plans what has to change; `salt` is what a new thing starts with in an environment.
///
/// # Errors
///
/// Everything that is wrong with the file, with paths from its root.
pub fn plan_state(
    key: &str,
    actual: &Actual,
    desired: &DesiredState,
    salt: &dyn Fn(&EnvKey) -> String,
    pruned: Option<&Managed>,
) -> Result<StatePlan, Problems> {
    let live = actual.definitions.iter().filter(|(_, (_, is_deleted))| !is_deleted);
    let mut planner = Planner {
        actual,
        desired,
        salt,
        settings: BTreeMap::new(),
        before: live.map(|(key, (definition, _))| (key.clone(), definition.clone())).collect(),
        after: BTreeMap::new(),
        plan: StatePlan::default(),
        problems: Problems::default(),
    };
    planner.project(key);
    planner.environments();
    planner.definitions(pruned);
    if planner.problems.is_empty() {
        planner.configs();
        planner.segments(pruned);
    }
    if planner.problems.is_empty() {
        planner.check_references();
    }
    let Planner { mut plan, problems, .. } = planner;
    let rank = |kind: &str| match kind {
        "project" => 0,
        "environment" => 1,
        "segment" => 2,
        _ => 3,
    };
    plan.changes.sort_by(|a, b| {
        let order = |it: &PlannedChange| (rank(it.kind), it.key.clone(), it.environment.clone());
        order(a).cmp(&order(b))
    });
    problems.into_result(plan)
}

struct Planner<'a> {
    actual: &'a Actual,
    desired: &'a DesiredState,
    salt: &'a dyn Fn(&EnvKey) -> String,
    /// What the environments will be like.
    settings: BTreeMap<EnvKey, EnvironmentPlan>,
    /// The definitions that there are.
    before: BTreeMap<FlagKey, FlagDefinition>,
    /// The definitions that there will be.
    after: BTreeMap<FlagKey, FlagDefinition>,
    plan: StatePlan,
    problems: Problems,
}

impl Planner<'_> {
    fn change(
        &mut self,
        (op, kind): (&'static str, &'static str),
        key: &str,
        environment: Option<&EnvKey>,
        details: Vec<PlannedDetail>,
    ) {
        let (key, environment) = (key.to_owned(), environment.cloned());
        self.plan.changes.push(PlannedChange { op, kind, key, environment, details });
    }

    fn project(&mut self, key: &str) {
        let wanted = self.desired.name.clone();
        match (&self.actual.name, wanted) {
            (None, wanted) => {
                self.plan.project = Some(ProjectPlan::Create(wanted.unwrap_or(key.to_owned())));
                self.change(("create", "project"), key, None, Vec::new());
            }
            (Some(name), Some(wanted)) if *name != wanted => {
                let details = vec![detail(
                    "name",
                    Some(&Value::from(name.as_str())),
                    Some(&Value::from(wanted.as_str())),
                )];
                self.plan.project = Some(ProjectPlan::Rename(wanted));
                self.change(("update", "project"), key, None, details);
            }
            _ => {}
        }
    }

    fn environments(&mut self) {
        for (key, here) in &self.actual.environments {
            self.settings.insert(key.clone(), here.settings.clone());
        }
        for (key, wanted) in &self.desired.environments {
            let here = self.actual.environments.get(key).map(|here| &here.settings);
            let new = settings(key, here, wanted);
            if here.is_some_and(|here| here.server_sdk != new.server_sdk) {
                let detail = "cannot be changed once the environment is there";
                let path = format!("environments.{key}.serverSdk");
                self.problems.add(path, "immutable", detail);
            }
            if here != Some(&new) {
                let before = here.map(readable_settings).unwrap_or_default();
                let details = match here {
                    None => Vec::new(),
                    Some(_) => differences(&before, &readable_settings(&new)),
                };
                let op = if new.is_new { "create" } else { "update" };
                self.change((op, "environment"), key.as_str(), None, details);
                self.plan.environments.insert(key.clone(), new.clone());
            }
            self.settings.insert(key.clone(), new);
        }
    }

    fn definitions(&mut self, pruned: Option<&Managed>) {
        self.after = self.before.clone();
        for (key, wanted) in &self.desired.flags {
            let path = format!("flags.{key}");
            if self.actual.definitions.get(key).is_some_and(|(_, is_deleted)| *is_deleted) {
                let detail = "there was a flag with this key, which was deleted; the key of a deleted flag is never given to another";
                self.problems.add(path, "key_taken", detail);
                continue;
            }
            let here = self.before.get(key);
            let given = &wanted.definition;
            let new = target::definition(key, here, given, &path, &mut self.problems);
            let Some(new) = new else { continue };
            match here.cloned() {
                None => {
                    self.plan.created.push(new.clone());
                    self.change(("create", "flag"), key.as_str(), None, Vec::new());
                }
                Some(here) if here != new => self.redefine(&here, &new, "update"),
                Some(_) => {}
            }
            self.after.insert(key.clone(), new);
        }
        let pruned = pruned.into_iter().flat_map(|managed| &managed.flags);
        for key in pruned.filter(|key| !self.desired.flags.contains_key(*key)) {
            let Some(here) = self.before.get(key).filter(|here| !here.archived).cloned() else {
                continue;
            };
            let new = FlagDefinition { archived: true, ..here.clone() };
            self.redefine(&here, &new, "archive");
            self.after.insert(key.clone(), new);
            self.plan.n_pruned += 1;
        }
    }

    fn redefine(&mut self, here: &FlagDefinition, new: &FlagDefinition, op: &'static str) {
        let details = differences(&readable_definition(here), &readable_definition(new));
        self.change((op, "flag"), new.key.as_str(), None, details);
        let renumbering = Renumbering::between(here, new);
        self.plan.renumbered.extend(renumbering.map(|it| (new.key.clone(), it)));
        if new.archived && !here.archived {
            self.plan.archived.insert(new.key.clone());
        }
        self.plan.redefined.push(new.clone());
    }

    fn configs(&mut self) {
        let (before, after) = (self.before.clone(), self.after.clone());
        let before: Definitions<'_> = before.iter().collect();
        let after: Definitions<'_> = after.iter().collect();
        for (env, settings) in self.settings.clone() {
            let here = self.actual.environments.get(&env);
            let mut configs = Vec::new();
            for (key, definition) in &after {
                let killed = here.and_then(|here| here.flags.get(*key));
                let is_given = self.desired.flags.contains_key(*key);
                let asks = |(config, _): &(FlagConfig, bool)| {
                    let mut asked = config.prerequisites.iter();
                    asked.any(|it| self.plan.renumbered.contains_key(&it.key))
                };
                let is_touched = is_given
                    || killed.is_none()
                    || self.plan.renumbered.contains_key(*key)
                    || killed.is_some_and(asks);
                if is_touched {
                    let ground = target::Ground {
                        definition,
                        definitions: &after,
                        server_sdk: settings.server_sdk,
                    };
                    let config = self.config(&env, key, killed, &before, &ground);
                    configs.extend(config.map(|config| ((*key).clone(), config)));
                }
            }
            if !configs.is_empty() {
                self.plan.configs.insert(env, configs);
            }
        }
        for (key, wanted) in &self.desired.flags {
            for env in wanted.environments.keys() {
                if !self.settings.contains_key(env) {
                    let path = format!("flags.{key}.environments.{env}");
                    self.problems.add(
                        path,
                        "unknown_environment",
                        format!("there is no environment `{env}`"),
                    );
                }
            }
        }
    }

    /// The configuration of a flag, if it has to be written.
    fn config(
        &mut self,
        env: &EnvKey,
        key: &FlagKey,
        here: Option<&(FlagConfig, bool)>,
        before: &Definitions<'_>,
        ground: &target::Ground<'_>,
    ) -> Option<FlagConfig> {
        let initial = || FlagConfig::initial(ground.definition, (self.salt)(env));
        let (old, is_killed) = here.cloned().unwrap_or_else(|| (initial(), false));
        let defined = before.get(key).copied().filter(|_| here.is_some());
        let others = if here.is_some() { before } else { ground.definitions };
        let old_fields = readable_config(&old, defined.unwrap_or(ground.definition), others);
        let given = self.desired.flags.get(key).and_then(|flag| flag.environments.get(env));
        let mut fields = old_fields.clone();
        fields.extend(given.cloned().unwrap_or_default());
        let path = format!("flags.{key}.environments.{env}");
        if is_killed && fields.get("on") == Some(&Value::Bool(true)) {
            fields.insert("on".to_owned(), Value::Bool(false));
            let detail = "is killed, and stays off until it is restored";
            let (path, detail) = (format!("{path}.on"), detail.to_owned());
            self.plan.notes.push(Problem { path, code: "killed", detail });
        }
        if here.is_some() && fields == old_fields && !self.is_renumbering(&old, key) {
            return None;
        }
        let (problems, notes) = (&mut self.problems, &mut self.plan.notes);
        let mut new = target::config(fields, ground, &path, problems, notes)?;
        if here.is_some() {
            keep_slots(&old, &mut new, |old| match self.plan.renumbered.contains_key(key) {
                false => Some(old.clone()),
                // In the numbers that the variations will have; if one of them goes, nothing is kept.
                true => target::config(
                    old_fields.clone(),
                    ground,
                    &path,
                    &mut Problems::default(),
                    &mut Vec::new(),
                ),
            });
        }
        let new_fields = readable_config(&new, ground.definition, ground.definitions);
        let details = differences(&old_fields, &new_fields);
        if !details.is_empty() {
            let was_archived = defined.is_some_and(|definition| definition.archived);
            if was_archived && ground.definition.archived {
                let detail = "the flag is archived; add `archived: false` to it to change it";
                self.problems.add(path, "archived", detail);
                return None;
            }
            self.change(("update", "configuration"), key.as_str(), Some(env), details);
        }
        (here.is_none() || new != old).then_some(new)
    }

    fn is_renumbering(&self, config: &FlagConfig, key: &FlagKey) -> bool {
        let renumbered = &self.plan.renumbered;
        let mut asked = config.prerequisites.iter();
        renumbered.contains_key(key) || asked.any(|it| renumbered.contains_key(&it.key))
    }

    fn segments(&mut self, pruned: Option<&Managed>) {
        for (env, wanted) in &self.desired.segments {
            let Some(settings) = self.settings.get(env).cloned() else {
                let path = format!("segments.{env}");
                let detail = format!("there is no environment `{env}`");
                self.problems.add(path, "unknown_environment", detail);
                continue;
            };
            for (key, given) in wanted {
                let environment = self.actual.environments.get(env);
                let here = environment.and_then(|here| here.segments.get(key));
                let path = format!("segments.{env}.{key}");
                let salt = (self.salt)(env);
                let (problems, notes) = (&mut self.problems, &mut self.plan.notes);
                let place = (path.as_str(), settings.server_sdk);
                let named = (key, salt.as_str());
                let new = target::segment(named, here, given, place, problems, notes);
                let Some(new) = new.filter(|new| here != Some(new)) else { continue };
                let details =
                    here.map(|here| differences(&readable_segment(here), &readable_segment(&new)));
                let op = if here.is_some() { "update" } else { "create" };
                self.change((op, "segment"), key.as_str(), Some(env), details.unwrap_or_default());
                self.plan.segments.entry(env.clone()).or_default().push(new);
            }
        }
        for (env, key) in pruned.into_iter().flat_map(|managed| &managed.segments) {
            let is_wanted = self.desired.segments.get(env).is_some_and(|it| it.contains_key(key));
            let environment = self.actual.environments.get(env);
            let is_here = environment.is_some_and(|here| here.segments.contains_key(key));
            if is_here && !is_wanted {
                self.change(("delete", "segment"), key.as_str(), Some(env), Vec::new());
                self.plan.removed.entry(env.clone()).or_default().push(key.clone());
                self.plan.n_pruned += 1;
            }
        }
    }
}

fn settings(
    key: &EnvKey,
    here: Option<&EnvironmentPlan>,
    wanted: &DesiredEnvironment,
) -> EnvironmentPlan {
    let new = EnvironmentPlan { is_new: true, name: key.to_string(), ..EnvironmentPlan::default() };
    let old = here.cloned().unwrap_or(new);
    let safety = old.safety;
    EnvironmentPlan {
        is_new: old.is_new,
        name: wanted.name.clone().unwrap_or(old.name),
        server_sdk: wanted.server_sdk.unwrap_or(old.server_sdk),
        fail_closed_after_secs: wanted.fail_closed_after_secs.unwrap_or(old.fail_closed_after_secs),
        safety: Safety {
            protected: wanted.protected.unwrap_or(safety.protected),
            require_comment: wanted.require_comment.unwrap_or(safety.require_comment),
            require_if_match: wanted.require_if_match.unwrap_or(safety.require_if_match),
            secure_mode: wanted.secure_mode.unwrap_or(safety.secure_mode),
        },
    }
}

/// What a file says about an environment, in the order of its fields.
pub fn readable_settings(settings: &EnvironmentPlan) -> Map<String, Value> {
    let EnvironmentPlan { name, server_sdk, fail_closed_after_secs, safety, .. } = settings;
    let fields = [
        ("name", Value::from(name.as_str())),
        ("serverSdk", Value::from(server_sdk.as_str())),
        ("failClosedAfterSecs", Value::from(*fail_closed_after_secs)),
        ("protected", Value::from(safety.protected)),
        ("requireComment", Value::from(safety.require_comment)),
        ("requireIfMatch", Value::from(safety.require_if_match)),
        ("secureMode", Value::from(safety.secure_mode)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn detail(field: &str, before: Option<&Value>, after: Option<&Value>) -> PlannedDetail {
    let text = describe(field, before, after);
    let (before, after) = (before.cloned(), after.cloned());
    PlannedDetail { field: field.to_owned(), before, after, text }
}

fn differences(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<PlannedDetail> {
    let gone = before.keys().filter(|name| !after.contains_key(*name));
    let names = after.keys().chain(gone);
    let pairs = names.map(|name| (name, before.get(name), after.get(name)));
    let differing = pairs.filter(|(_, before, after)| before != after);
    differing.map(|(name, before, after)| detail(name, before, after)).collect()
}
