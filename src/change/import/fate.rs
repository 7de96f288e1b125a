//! What becomes of each flag and segment of a file, beside what is there.

use crate::change::import::Candidate;
use crate::change::import::ImportReport;
use crate::change::import::ImportScene;
use crate::change::import::is_redefined;
use crate::change::import::note;
use crate::model::flag::FlagDefinition;
use crate::model::limit::FLAGS_MAX;
use crate::model::limit::SEGMENTS_MAX;
use crate::model::problem::Problem;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;

/// What becomes of a flag or segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is new.
    Created,
    /// The flag is there with the same values, and untouched in the environment.
    Configured,
    /// It is there, and is overwritten.
    Replaced,
    /// The flag is there with other values, which are overwritten too.
    Redefined,
    /// It is there, just like that.
    Unchanged,
}

/// What is told of something that differs and may not be overwritten.
const TAKEN: &str =
    "is there and differs, so it is kept as it is; import with `replace` to overwrite it";

/// Decides about each segment; those that are refused are told.
pub(super) fn of_segments(
    segments: Vec<Candidate<Segment>>,
    scene: &ImportScene<'_>,
    new_rule_id: &mut dyn FnMut() -> String,
    report: &mut ImportReport,
) -> Vec<(Candidate<Segment>, Fate)> {
    let mut n_segments = scene.segments.len();
    let mut decided = Vec::with_capacity(segments.len());
    for mut candidate in segments {
        let segment = &mut candidate.content;
        let here = scene.segments.get(&segment.key);
        if let Some(here) = here {
            // The file has no names; those that people gave stay.
            segment.name.clone_from(&here.name);
            segment.description.clone_from(&here.description);
        }
        let rules = here.map_or(&[][..], |here| &here.rules);
        settle_ids(&mut segment.rules, rules, |rule| &mut rule.id, new_rule_id);
        let is_full = i64::try_from(n_segments).map_or(true, |n| n >= SEGMENTS_MAX);
        let fate = match here {
            None if is_full => {
                let detail = format!("an environment can have at most {SEGMENTS_MAX} segments");
                Err(("too_many", detail))
            }
            None => Ok(Fate::Created),
            Some(here) if here == segment => Ok(Fate::Unchanged),
            Some(_) if scene.is_replacing => Ok(Fate::Replaced),
            Some(_) => Err(("taken", format!("the segment {TAKEN}"))),
        };
        match fate {
            Ok(fate) => {
                n_segments += usize::from(fate == Fate::Created);
                decided.push((candidate, fate));
            }
            Err((code, detail)) => {
                let key = segment.key.clone();
                let refusal = note(&format!("segments.{key}"), code, detail);
                report.refuse_segment(key.as_str(), refusal);
            }
        }
    }
    decided
}

/// Decides about each flag; those that are refused are told.
pub(super) fn of_flags(
    flags: Vec<Candidate<(FlagDefinition, FlagConfig)>>,
    scene: &ImportScene<'_>,
    new_rule_id: &mut dyn FnMut() -> String,
    report: &mut ImportReport,
) -> Vec<(Candidate<(FlagDefinition, FlagConfig)>, Fate)> {
    let mut n_flags = scene.definitions.len();
    let mut decided = Vec::with_capacity(flags.len());
    for mut candidate in flags {
        let (definition, config) = &mut candidate.content;
        let here = scene.configs.get(&definition.key);
        let rules = here.map_or(&[][..], |(here, _)| &here.rules);
        settle_ids(&mut config.rules, rules, |rule| &mut rule.id, new_rule_id);
        match of_flag(definition, config, n_flags, scene) {
            Ok(fate) => {
                n_flags += usize::from(fate == Fate::Created);
                if let (Fate::Redefined, Some((old, _))) =
                    (fate, scene.definitions.get(&definition.key))
                {
                    keep_words(definition, old);
                }
                decided.push((candidate, fate));
            }
            Err(refusal) => {
                let key = definition.key.clone();
                report.refuse_flag(key.as_str(), refusal);
            }
        }
    }
    decided
}

fn of_flag(
    definition: &FlagDefinition,
    config: &FlagConfig,
    n_flags: usize,
    scene: &ImportScene<'_>,
) -> Result<Fate, Problem> {
    let key = &definition.key;
    let refuse = |code, detail: String| Err(note(&format!("flags.{key}"), code, detail));
    let old = match scene.definitions.get(key) {
        None if i64::try_from(n_flags).map_or(true, |n| n >= FLAGS_MAX) => {
            return refuse("too_many", format!("a project can have at most {FLAGS_MAX} flags"));
        }
        None => return Ok(Fate::Created),
        Some((_, true)) => {
            let detail = "there was a flag of this key; the key of a deleted flag is never given to another, because old code may still ask for it";
            return refuse("key_taken", detail.to_owned());
        }
        Some((old, false)) => old,
    };
    if is_redefined(definition, scene.definitions) {
        if !scene.is_replacing {
            return refuse("taken", format!("the flag with other variations {TAKEN}"));
        }
        if scene.used_elsewhere.contains(key) {
            let detail = "the flag has other variations, and another environment of the project uses it; import into a project of its own";
            return refuse("used_elsewhere", detail.to_owned());
        }
        return Ok(Fate::Redefined);
    }
    let initial = || FlagConfig::initial(old, scene.initial_salt.to_owned());
    match scene.configs.get(key) {
        None => Ok(Fate::Configured),
        Some((here, _)) if here == config => Ok(Fate::Unchanged),
        Some((here, false)) if *here == initial() => Ok(Fate::Configured),
        Some(_) if scene.is_replacing => Ok(Fate::Replaced),
        Some(_) => refuse("taken", format!("the flag {TAKEN}")),
    }
}

/// The file has no words about a flag; those that people wrote stay.
fn keep_words(new: &mut FlagDefinition, old: &FlagDefinition) {
    new.name.clone_from(&old.name);
    new.description.clone_from(&old.description);
    new.tags.clone_from(&old.tags);
    new.temporary = old.temporary;
}

/// Gives ids to rules that have none, because later edits name a rule by its id: the one that the same rule has here, or a new
/// one.
fn settle_ids<R: Clone + PartialEq>(
    rules: &mut [R],
    here: &[R],
    id_of: fn(&mut R) -> &mut String,
    new_id: &mut dyn FnMut() -> String,
) {
    for (i, rule) in rules.iter_mut().enumerate() {
        if !id_of(rule).is_empty() {
            continue;
        }
        let same = here.get(i).cloned().and_then(|mut old| {
            let id = std::mem::take(id_of(&mut old));
            (old == *rule && !id.is_empty()).then_some(id)
        });
        *id_of(rule) = same.unwrap_or_else(&mut *new_id);
    }
}
