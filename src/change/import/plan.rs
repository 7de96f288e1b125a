//! What an import does to an environment: decided here, written by `control`.

use crate::change::import::Candidate;
use crate::change::import::Import;
use crate::change::import::ImportReport;
use crate::change::import::ImportedKeys;
use crate::change::import::chain;
use crate::change::import::fate;
use crate::change::import::fate::Fate;
use crate::change::import::note;
use crate::change::import::reference::Horizon;
use crate::change::segments_of;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::problem::Problem;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What is there, and what may be done to it.
#[derive(Debug)]
pub struct ImportScene<'a> {
    /// The salt that a flag starts with in the environment.
    pub initial_salt: &'a str,
    /// Every flag that the project has or ever had, and whether it was deleted.
    pub definitions: &'a BTreeMap<FlagKey, (FlagDefinition, bool)>,
    /// Each flag's configuration in the environment, and whether it is killed.
    pub configs: &'a BTreeMap<FlagKey, (FlagConfig, bool)>,
    /// The segments of the environment.
    pub segments: &'a BTreeMap<SegmentKey, Segment>,
    /// The flags that another environment of the project uses; needed only for those with other values, see
    /// [`Import::redefined`].
    pub used_elsewhere: &'a BTreeSet<FlagKey>,
    /// Whether what is there and differs is overwritten.
    pub is_replacing: bool,
}

/// What is to be written.
#[derive(Debug, Default)]
pub struct ImportPlan {
    /// Definitions that are new.
    pub created: Vec<FlagDefinition>,
    /// Definitions that get other values; no other environment uses them.
    pub redefined: Vec<FlagDefinition>,
    /// Configurations in the environment.
    pub configs: Vec<(FlagKey, FlagConfig)>,
    /// Segments of the environment.
    pub segments: Vec<Segment>,
    /// What is told about it.
    pub report: ImportReport,
}

impl ImportPlan {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        let Self { created, redefined, configs, segments, .. } = self;
        created.is_empty() && redefined.is_empty() && configs.is_empty() && segments.is_empty()
    }
}

impl Import {
    /// Decides what becomes of each flag and segment; `new_rule_id` makes the ids of rules that have none.
    pub fn plan(
        self,
        scene: &ImportScene<'_>,
        new_rule_id: &mut dyn FnMut() -> String,
    ) -> ImportPlan {
        let Self { flags, segments, mut report } = self;
        let segments = fate::of_segments(segments, scene, new_rule_id, &mut report);
        let segments = without_circles(
            segments,
            &scene.segments.values().map(|here| (here.key.clone(), asked_for(here))).collect(),
            |segment| (segment.key.clone(), asked_for(segment)),
            ("segments", ImportReport::refuse_segment),
            &mut report,
        );
        let flags = fate::of_flags(flags, scene, new_rule_id, &mut report);
        let wanted = |config: &FlagConfig| -> Vec<FlagKey> {
            config.prerequisites.iter().map(|each| each.key.clone()).collect()
        };
        let flags = without_circles(
            flags,
            &scene.configs.iter().map(|(key, (here, _))| (key.clone(), wanted(here))).collect(),
            |(definition, config)| (definition.key.clone(), wanted(config)),
            ("flags", ImportReport::refuse_flag),
            &mut report,
        );
        let horizon = horizon(&flags, &segments, scene, &report);
        let mut losses = Vec::new();
        let mut plan = ImportPlan { report, ..ImportPlan::default() };
        for (segment, fate) in segments {
            plan.add_segment(segment, fate, &horizon);
        }
        for (flag, fate) in flags {
            losses.extend(plan.add_flag(flag, fate, scene, &horizon));
        }
        losses.into_iter().for_each(|loss| plan.report.note(loss));
        plan
    }
}

impl ImportPlan {
    fn add_segment(&mut self, segment: Candidate<Segment>, fate: Fate, horizon: &Horizon) {
        let Candidate { content, mut warnings, .. } = segment;
        let path = format!("segments.{}", content.key);
        for (i, rule) in content.rules.iter().enumerate() {
            horizon.clauses(&format!("{path}.rules[{i}]"), &rule.clauses, &mut warnings);
        }
        warnings.into_iter().for_each(|warning| self.report.note(warning));
        tell(&mut self.report.segments, content.key.as_str(), &fate);
        if fate != Fate::Unchanged {
            self.segments.push(content);
        }
    }

    /// Returns what is not brought over of it.
    fn add_flag(
        &mut self,
        flag: Candidate<(FlagDefinition, FlagConfig)>,
        fate: Fate,
        scene: &ImportScene<'_>,
        horizon: &Horizon,
    ) -> Vec<Problem> {
        let Candidate { content: (definition, config), mut warnings, losses } = flag;
        let key = definition.key.clone();
        let path = format!("flags.{key}");
        horizon.prerequisites(&path, &config.prerequisites, &mut warnings);
        for (i, rule) in config.rules.iter().enumerate() {
            horizon.clauses(&format!("{path}.rules[{i}]"), &rule.clauses, &mut warnings);
        }
        let here = scene.definitions.get(&key).map(|(definition, _)| definition);
        let differs = |here: &FlagDefinition| {
            here.client_side_availability != definition.client_side_availability
        };
        if fate != Fate::Redefined && here.is_some_and(differs) {
            let detail = "the flag is there with another availability to client-side SDKs, which stays as it is";
            warnings.push(note(
                &format!("{path}.clientSideAvailability"),
                "definition_kept",
                detail,
            ));
        }
        let is_killed = scene.configs.get(&key).is_some_and(|(_, is_killed)| *is_killed);
        if is_killed && fate != Fate::Unchanged {
            let detail =
                "the flag is killed; being replaced ends that, and there is nothing to restore";
            warnings.push(note(&path, "kill_ended", detail));
        }
        warnings.into_iter().for_each(|warning| self.report.note(warning));
        tell(&mut self.report.flags, key.as_str(), &fate);
        match fate {
            Fate::Created => self.created.push(definition),
            Fate::Redefined => self.redefined.push(definition),
            Fate::Configured | Fate::Replaced | Fate::Unchanged => {}
        }
        if fate != Fate::Unchanged {
            self.configs.push((key, config));
        }
        losses
    }
}

fn tell(keys: &mut ImportedKeys, key: &str, fate: &Fate) {
    let list = match fate {
        Fate::Created => &mut keys.created,
        Fate::Configured => &mut keys.configured,
        Fate::Replaced | Fate::Redefined => &mut keys.replaced,
        Fate::Unchanged => &mut keys.unchanged,
    };
    list.push(key.to_owned());
}

/// The segments that a segment asks for.
fn asked_for(segment: &Segment) -> Vec<SegmentKey> {
    segments_of(segment.rules.iter().flat_map(|rule| &rule.clauses)).collect()
}

/// What the environment will have, and what of the file not.
fn horizon(
    flags: &[(Candidate<(FlagDefinition, FlagConfig)>, Fate)],
    segments: &[(Candidate<Segment>, Fate)],
    scene: &ImportScene<'_>,
    report: &ImportReport,
) -> Horizon {
    let here = scene.definitions.values().filter(|(_, is_deleted)| !is_deleted);
    let here = here.map(|(definition, _)| definition);
    let new = flags.iter().map(|(flag, _)| &flag.content.0);
    let n_variations = |flag: &FlagDefinition| (flag.key.to_string(), flag.variations.len());
    let own = scene.segments.keys().map(SegmentKey::to_string);
    Horizon {
        flags: here.chain(new).map(n_variations).collect(),
        segments: own.chain(segments.iter().map(|(new, _)| new.content.key.to_string())).collect(),
        refused_flags: report.flags.refused.iter().cloned().collect(),
        refused_segments: report.segments.refused.iter().cloned().collect(),
    }
}

/// Refuses what would refer to each other in a circle, or in a chain that is too long.
fn without_circles<T, K: Ord + Clone + Borrow<str>>(
    decided: Vec<(Candidate<T>, Fate)>,
    here: &BTreeMap<K, Vec<K>>,
    edge: impl Fn(&T) -> (K, Vec<K>),
    (what, refuse): (&str, fn(&mut ImportReport, &str, Problem)),
    report: &mut ImportReport,
) -> Vec<(Candidate<T>, Fate)> {
    let changing = decided.iter().filter(|(_, fate)| *fate != Fate::Unchanged);
    let refused = chain::refusals(here, &changing.map(|(each, _)| edge(&each.content)).collect());
    let mut kept = Vec::with_capacity(decided.len());
    for (candidate, fate) in decided {
        let (key, _) = edge(&candidate.content);
        match refused.get::<K>(&key) {
            Some(refusal) => {
                let (code, detail) = refusal.describe(what);
                let key: &str = key.borrow();
                refuse(report, key, note(&format!("{what}.{key}"), code, detail));
            }
            None => kept.push((candidate, fate)),
        }
    }
    kept
}
