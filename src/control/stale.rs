//! Which flags may be removed from the code, and why.
//!
//! Every reason but the end of a temporary flag is about the last so many days and is given only where the flag is as old as that and, where it is about
//! usage, usage was counted all the while.

use crate::model::key::FlagKey;
use crate::model::rule::FlagConfig;
use crate::store::StoredFlag;
use jiff::SignedDuration;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Hours of a day.
const DAY_HOURS: i64 = 24;

/// Why a flag may be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleReason {
    /// All evaluations had the same variation, whose index this is.
    SingleVariation(i64),
    /// It was not evaluated.
    NotEvaluated,
    /// It is on, serves everyone the same, and was not changed.
    Unconditional,
    /// It is off and was not changed.
    Off,
    /// It is temporary, nobody has said until when, and it is older than that.
    TemporaryOverdue,
    /// It is temporary, and its end is past.
    TemporaryEnded,
    /// A flag that it depends on is archived or not there any more, so it serves its off variation to everyone.
    MissingPrerequisite,
}

impl StaleReason {
    /// The words for all reasons.
    pub const CODES: &[&str] = &[
        "single_variation",
        "not_evaluated",
        "unconditional",
        "off",
        "temporary_overdue",
        "temporary_ended",
        "missing_prerequisite",
    ];

    /// The stable word for it.
    pub fn code(self) -> &'static str {
        match self {
            Self::SingleVariation(_) => "single_variation",
            Self::NotEvaluated => "not_evaluated",
            Self::Unconditional => "unconditional",
            Self::Off => "off",
            Self::TemporaryOverdue => "temporary_overdue",
            Self::TemporaryEnded => "temporary_ended",
            Self::MissingPrerequisite => "missing_prerequisite",
        }
    }
}

/// What all flags of an environment are looked at with.
#[derive(Debug)]
pub(super) struct Watched<'f> {
    now: Timestamp,
    /// What was before is old.
    before: Timestamp,
    is_usage_known: bool,
    /// The flags there are, but for those that are archived.
    keys: BTreeSet<&'f FlagKey>,
    /// Flags on which others depend that are on: they are evaluated with those, which is not counted.
    needed: BTreeSet<&'f FlagKey>,
}

impl<'f> Watched<'f> {
    /// Looks at `flags` over the last `days` days, where usage is counted since `counted_since`.
    pub(super) fn new(
        flags: &'f [StoredFlag],
        now: Timestamp,
        days: u32,
        counted_since: Timestamp,
    ) -> Self {
        let time = SignedDuration::from_hours(i64::from(days) * DAY_HOURS);
        let before = now.checked_sub(time).unwrap_or(Timestamp::UNIX_EPOCH);
        let live = flags.iter().filter(|flag| !flag.definition.archived);
        let on = live.clone().filter(|flag| flag.config.on);
        Self {
            now,
            before,
            is_usage_known: counted_since <= before,
            keys: live.map(|flag| &flag.definition.key).collect(),
            needed: on.flat_map(|flag| &flag.config.prerequisites).map(|each| &each.key).collect(),
        }
    }
}

/// Why a flag that served each variation so often may be removed; empty if nothing speaks for it.
pub(super) fn reasons(
    flag: &StoredFlag,
    totals: &BTreeMap<Option<i64>, i64>,
    watched: &Watched<'_>,
) -> Vec<StaleReason> {
    let mut found = Vec::new();
    if flag.definition.archived {
        return found;
    }
    let is_old = flag.created_at <= watched.before;
    let is_unchanged = flag.changed_at <= watched.before;
    if is_old && watched.is_usage_known {
        let served: Vec<Option<i64>> =
            totals.iter().filter(|(_, n)| **n > 0).map(|(variation, _)| *variation).collect();
        match served.as_slice() {
            [Some(only)] => found.push(StaleReason::SingleVariation(*only)),
            [] if !watched.needed.contains(&flag.definition.key) => {
                found.push(StaleReason::NotEvaluated);
            }
            _ => {}
        }
    }
    if flag.config.on && is_unchanged && is_unconditional(&flag.config) {
        found.push(StaleReason::Unconditional);
    }
    if !flag.config.on && is_unchanged {
        found.push(StaleReason::Off);
    }
    match &flag.definition.temporary_until {
        _ if !flag.definition.temporary => {}
        Some(end) if end.at() <= watched.now => found.push(StaleReason::TemporaryEnded),
        None if is_old => found.push(StaleReason::TemporaryOverdue),
        _ => {}
    }
    let is_missing = |key: &FlagKey| !watched.keys.contains(key);
    if flag.config.prerequisites.iter().any(|each| is_missing(&each.key)) {
        found.push(StaleReason::MissingPrerequisite);
    }
    found
}

/// Whether everyone gets the same variation while the flag is on.
fn is_unconditional(config: &FlagConfig) -> bool {
    let mut targets = config.targets.iter().chain(&config.context_targets);
    let has_targets = targets.any(|target| !target.values.is_empty());
    let served: BTreeSet<i64> = match (config.fallthrough.variation, &config.fallthrough.rollout) {
        (Some(variation), _) => BTreeSet::from([variation]),
        (None, Some(rollout)) => {
            let slices = rollout.variations.iter().filter(|slice| slice.weight_milli_pct > 0);
            slices.map(|slice| slice.variation).collect()
        }
        (None, None) => BTreeSet::new(),
    };
    config.prerequisites.is_empty() && config.rules.is_empty() && !has_targets && served.len() == 1
}

#[cfg(test)]
mod tests;
