//! Each reason, and what keeps it from being given.

use super::*;
use crate::model::flag::FlagDefinition;
use crate::model::flag::FlagEnd;
use crate::model::rule::Prerequisite;
use crate::model::rule::Rollout;
use crate::model::rule::Slice;
use crate::model::rule::VariationOrRollout;
use serde_json::json;

const DAYS: u32 = 30;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn days_ago(days: i64) -> Timestamp {
    now() - SignedDuration::from_hours(days * DAY_HOURS)
}

/// A flag that is on since it was created, so many days ago.
fn flag(key: &str, age_days: i64) -> StoredFlag {
    let definition = FlagDefinition::decode(json!({"key": key, "kind": "boolean"})).unwrap();
    let config = FlagConfig { on: true, ..FlagConfig::initial(&definition, "s".to_owned()) };
    let at = days_ago(age_days);
    StoredFlag { definition, config, killed: None, version: 1, created_at: at, changed_at: at }
}

/// The reasons against the first of some flags, which served the variations of `totals`.
fn codes(
    flags: &[StoredFlag],
    totals: &[(Option<i64>, i64)],
    since: Timestamp,
) -> Vec<&'static str> {
    let watched = Watched::new(flags, now(), DAYS, since);
    let totals = totals.iter().copied().collect();
    reasons(&flags[0], &totals, &watched).into_iter().map(StaleReason::code).collect()
}

const BOTH: &[(Option<i64>, i64)] = &[(Some(0), 5), (Some(1), 1)];

#[test]
fn usage_speaks_against_flags_that_are_old_enough() {
    let split = |age| {
        let mut flag = flag("f", age);
        let slice =
            |variation, weight_milli_pct| Slice { variation, weight_milli_pct, untracked: false };
        let variations = vec![slice(0, 50_000), slice(1, 50_000)];
        let rollout = Some(Rollout { variations, ..Rollout::default() });
        flag.config.fallthrough = VariationOrRollout { variation: None, rollout };
        [flag]
    };
    let long_ago = days_ago(400);
    assert_eq!(codes(&split(31), BOTH, long_ago), [""; 0]);
    assert_eq!(codes(&split(31), &[(Some(1), 9)], long_ago), ["single_variation"]);
    assert_eq!(codes(&split(31), &[(Some(1), 9), (None, 1)], long_ago), [""; 0]);
    assert_eq!(codes(&split(31), &[], long_ago), ["not_evaluated"]);
    assert_eq!(codes(&split(29), &[], long_ago), [""; 0], "the flag is new");
    assert_eq!(codes(&split(31), &[], days_ago(29)), [""; 0], "nobody counted all the while");
}

#[test]
fn what_serves_everyone_the_same_for_long_is_told() {
    let long_ago = days_ago(400);
    assert_eq!(codes(&[flag("f", 31)], BOTH, long_ago), ["unconditional"]);
    let mut changed = flag("f", 31);
    changed.changed_at = days_ago(1);
    assert_eq!(codes(&[changed], BOTH, long_ago), [""; 0]);
    let mut off = flag("f", 31);
    off.config.on = false;
    assert_eq!(codes(&[off], BOTH, long_ago), ["off"]);
    let mut targeted = flag("f", 31);
    targeted
        .config
        .targets
        .push(crate::model::rule::Target { values: vec!["u".to_owned()], ..Default::default() });
    assert_eq!(codes(&[targeted], BOTH, long_ago), [""; 0]);
    let mut temporary = flag("f", 31);
    temporary.definition.temporary = true;
    temporary.changed_at = days_ago(1);
    assert_eq!(codes(&[temporary.clone()], BOTH, long_ago), ["temporary_overdue"]);
    for (end, expected) in [
        ("2026-11-22", &["temporary_ended"][..]),
        ("2026-11-23T12:00:00Z", &["temporary_ended"]),
        ("2026-11-23", &[]),
        ("2027-01-01", &[]),
    ] {
        temporary.definition.temporary_until = FlagEnd::parse(end);
        assert_eq!(codes(&[temporary.clone()], BOTH, long_ago), expected, "{end}");
    }
    let mut new = flag("f", 1);
    new.definition.temporary = true;
    new.definition.temporary_until = FlagEnd::parse("2026-11-01");
    assert_eq!(codes(&[new], BOTH, long_ago), ["temporary_ended"], "however new it is");
}

#[test]
fn prerequisites_are_looked_at_from_both_ends() {
    let long_ago = days_ago(400);
    let mut dependent = flag("f", 31);
    let key = FlagKey::stored("p");
    dependent.config.prerequisites.push(Prerequisite { key, variation: 0 });
    let (dependent, needed) = (dependent, flag("p", 31));
    assert_eq!(codes(std::slice::from_ref(&dependent), BOTH, long_ago), ["missing_prerequisite"]);
    assert_eq!(codes(&[dependent.clone(), needed.clone()], BOTH, long_ago), [""; 0]);
    let told = codes(&[needed, dependent], &[], long_ago);
    assert_eq!(told, ["unconditional"], "it is evaluated with the flag that needs it");
}
