//! Whether everything that a planned project refers to will be there, and nothing refers to itself in a circle.

use super::Planner;
use crate::change::cycle;
use crate::change::segment_apply::asked_for;
use crate::change::segments_of;
use crate::model::environment::ServerSdk;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::problem::Problem;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use std::collections::BTreeMap;

impl Planner<'_> {
    pub(super) fn check_references(&mut self) {
        for (env, settings) in self.settings.clone() {
            let is_forgiving = settings.server_sdk == ServerSdk::LaunchDarkly;
            self.check_environment(&env, is_forgiving);
        }
    }

    fn check_environment(&mut self, env: &EnvKey, is_forgiving: bool) {
        let here = self.actual.environments.get(env);
        let mut configs: BTreeMap<&FlagKey, &FlagConfig> = here
            .iter()
            .flat_map(|here| &here.flags)
            .map(|(key, (config, _))| (key, config))
            .collect();
        let written = self.plan.configs.get(env);
        configs.extend(written.into_iter().flatten().map(|(key, config)| (key, config)));
        let mut segments: BTreeMap<&SegmentKey, &Segment> =
            here.iter().flat_map(|here| &here.segments).collect();
        let new = self.plan.segments.get(env).into_iter().flatten();
        segments.extend(new.map(|segment| (&segment.key, segment)));
        for key in self.plan.removed.get(env).into_iter().flatten() {
            segments.remove(key);
        }
        let mut found = Vec::new();
        let mut note = |path: String, code, detail: String| {
            found.push(Problem { path, code, detail });
        };
        let is_archived =
            |key: &FlagKey| self.after.get(key).is_some_and(|definition| definition.archived);
        for (key, config) in &configs {
            let path = format!("flags.{key}.environments.{env}");
            for asked in segments_of(config.rules.iter().flat_map(|rule| &rule.clauses)) {
                if !segments.contains_key(&asked) {
                    let detail = format!("there is no segment `{asked}` in `{env}`");
                    note(format!("{path}.rules"), "unknown_segment", detail);
                }
            }
            for other in &config.prerequisites {
                let path = format!("{path}.prerequisites");
                if !configs.contains_key(&other.key) {
                    note(path, "unknown_flag", format!("there is no flag `{}`", other.key));
                } else if is_archived(&other.key) && !is_archived(key) {
                    let detail = format!("`{}` is archived", other.key);
                    note(path, "archived", detail);
                }
            }
        }
        for (key, segment) in &segments {
            for asked in asked_for(segment) {
                if !segments.contains_key(&asked) {
                    let detail = format!("there is no segment `{asked}` in `{env}`");
                    note(format!("segments.{env}.{key}.rules"), "unknown_segment", detail);
                }
            }
        }
        found.extend(circles(env, &configs, &segments));
        // What came from elsewhere may refer to what was never there, and means the same there.
        for Problem { path, code, detail } in found {
            let may_be = is_forgiving && matches!(code, "unknown_segment" | "unknown_flag");
            match may_be {
                true => self.plan.notes.push(Problem { path, code, detail }),
                false => self.problems.add(path, code, detail),
            }
        }
    }
}

/// The flags and segments that refer to each other in a circle.
fn circles(
    env: &EnvKey,
    configs: &BTreeMap<&FlagKey, &FlagConfig>,
    segments: &BTreeMap<&SegmentKey, &Segment>,
) -> Vec<Problem> {
    let wanted = |config: &FlagConfig| {
        config.prerequisites.iter().map(|each| each.key.clone()).collect::<Vec<_>>()
    };
    let flag_edges: BTreeMap<FlagKey, Vec<FlagKey>> = configs
        .iter()
        .map(|(key, config)| ((*key).clone(), wanted(config)))
        .filter(|(_, others)| !others.is_empty())
        .collect();
    let segment_edges: BTreeMap<SegmentKey, Vec<SegmentKey>> =
        segments.iter().map(|(key, segment)| ((*key).clone(), asked_for(segment))).collect();
    let mut found = Vec::new();
    if let Err(refusal) = cycle::check(&flag_edges) {
        let (code, detail) = refusal.describe("prerequisites");
        found.push(Problem { path: "flags".to_owned(), code, detail });
    }
    if let Err(refusal) = cycle::check(&segment_edges) {
        let (code, detail) = refusal.describe("segments");
        found.push(Problem { path: format!("segments.{env}"), code, detail });
    }
    found
}
