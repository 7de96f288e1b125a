//! What becomes of each flag and segment of a file, beside what is there.

use crate::change::import::Candidate;
use crate::change::import::ImportReport;
use crate::change::import::ImportScene;
use crate::change::import::is_redefined;
use crate::change::import::note;
use crate::model::flag::FlagDefinition;
use crate::model::flag::Variation;
use crate::model::key::FlagKey;
use crate::model::key::VariationKey;
use crate::model::limit::FLAGS_MAX;
use crate::model::limit::SEGMENTS_MAX;
use crate::model::problem::Problem;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use std::collections::BTreeSet;

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
            segment.tags.clone_from(&here.tags);
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
    let used_here = used_by_the_rest(&flags, scene);
    let mut decided = Vec::with_capacity(flags.len());
    for mut candidate in flags {
        let (definition, config) = &mut candidate.content;
        let here = scene.configs.get(&definition.key);
        let rules = here.map_or(&[][..], |(here, _)| &here.rules);
        settle_ids(&mut config.rules, rules, |rule| &mut rule.id, new_rule_id);
        match of_flag(definition, config, n_flags, scene, &used_here) {
            Ok(fate) => {
                n_flags += usize::from(fate == Fate::Created);
                if let (Fate::Redefined, Some((old, _))) =
                    (fate, scene.definitions.get(&definition.key))
                {
                    let renamed = keep_words(definition, old);
                    if !renamed.is_empty() {
                        let detail = format!(
                            "the flag was there with other values, and these variations have new keys: {}",
                            renamed.join(", ")
                        );
                        let path = format!("flags.{}.variations", definition.key);
                        candidate.warnings.push(note(&path, "renamed_variations", detail));
                    }
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

/// The prerequisites of the flags of the environment that the file leaves as they are.
fn used_by_the_rest(
    flags: &[Candidate<(FlagDefinition, FlagConfig)>],
    scene: &ImportScene<'_>,
) -> BTreeSet<FlagKey> {
    let in_file: BTreeSet<&FlagKey> = flags.iter().map(|flag| &flag.content.0.key).collect();
    let rest = scene.configs.iter().filter(|(key, _)| !in_file.contains(key));
    rest.flat_map(|(_, (config, _))| &config.prerequisites).map(|each| each.key.clone()).collect()
}

fn of_flag(
    definition: &FlagDefinition,
    config: &FlagConfig,
    n_flags: usize,
    scene: &ImportScene<'_>,
    used_here: &BTreeSet<FlagKey>,
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
        if used_here.contains(key) {
            let detail = "the flag has other variations, and a flag of this environment that is not replaced has it as a prerequisite";
            return refuse("used_here", detail.to_owned());
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

/// The file has no words about a flag; those that people wrote stay, also the keys and names of variations whose values do.
/// Returns the keys that are new where there was another.
fn keep_words(new: &mut FlagDefinition, old: &FlagDefinition) -> Vec<String> {
    let before: Vec<VariationKey> = new.variations.iter().map(|each| each.key.clone()).collect();
    new.name.clone_from(&old.name);
    new.description.clone_from(&old.description);
    new.tags.clone_from(&old.tags);
    new.temporary = old.temporary;
    new.temporary_until.clone_from(&old.temporary_until);
    new.maintainer.clone_from(&old.maintainer);
    new.custom_properties.clone_from(&old.custom_properties);
    (new.deprecated, new.archived) = (old.deprecated, old.archived);
    let stays = |(new, old): &(&Variation, &Variation)| new.value == old.value;
    let pairs = new.variations.iter().zip(&old.variations).enumerate();
    let kept: Vec<usize> = pairs.filter(|(_, pair)| stays(pair)).map(|(i, _)| i).collect();
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for (i, variation) in new.variations.iter_mut().enumerate() {
        if let Some(old) = old.variations.get(i).filter(|_| kept.binary_search(&i).is_ok()) {
            *variation = old.clone();
            taken.insert(variation.key.to_string());
        }
    }
    let is_new = |i: &usize| kept.binary_search(i).is_err();
    let mut renamed = Vec::new();
    for (i, variation) in new.variations.iter_mut().enumerate().filter(|(i, _)| is_new(i)) {
        let mut key = variation.key.to_string();
        // There are fewer variations than keys to try.
        for n in 0..=taken.len() {
            if !taken.contains(&key) {
                break;
            }
            key = format!("variation-{}", i + n);
        }
        variation.key = VariationKey::stored(&key);
        taken.insert(key);
        if old.variations.get(i).is_some_and(|old| old.key != variation.key) {
            renamed.push(variation.key.to_string());
        }
    }
    for (given, old) in [
        (&mut new.defaults.on_variation, &old.defaults.on_variation),
        (&mut new.defaults.off_variation, &old.defaults.off_variation),
    ] {
        // By now it may be the key of another one, or of none.
        let index = before.iter().position(|key| key == given);
        if taken.contains(old.as_str()) {
            given.clone_from(old);
        } else if let Some(variation) = index.and_then(|index| new.variations.get(index)) {
            given.clone_from(&variation.key);
        }
    }
    renamed
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
