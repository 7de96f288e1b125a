//! What holds for every flag and every context.

use crate::eval::CompiledFlag;
use crate::eval::OPERATORS;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::eval::Step;
use crate::eval::evaluate;
use crate::eval::explain;
use crate::eval::read_ruleset;
use crate::eval::tests::Answer;
use crate::eval::tests::LACKING;
use crate::eval::tests::answer;
use crate::eval::tests::context;
use crate::eval::tests::experiment;
use crate::eval::tests::naive;
use crate::eval::tests::random;
use crate::eval::tests::random::Leaves;
use crate::eval::tests::random::World;
use crate::eval::tests::ruleset;
use crate::model::context::Context;
use crate::model::flag::FlagDefinition;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// Contexts that each world is evaluated for.
const N_CONTEXTS: usize = 6;

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, ..ProptestConfig::default() }
}

/// Compiles a world and evaluates all its flags for all contexts.
fn answers(world: &World, contexts: &[Value]) -> Vec<Answer> {
    let ruleset = ruleset(&world.flags, &world.segments);
    let contexts: Vec<_> = contexts.iter().map(context).collect();
    let of_context = |context| ruleset.flags().map(move |flag| (flag, context));
    let pairs = contexts.iter().flat_map(of_context);
    pairs.map(|(flag, context)| answer(&evaluate(&ruleset, flag, context))).collect()
}

fn naive_answers(world: &World, contexts: &[Value]) -> Vec<Answer> {
    // The keys of the flags are in order, as those of a ruleset are.
    let of_context = |context| world.flags.iter().map(move |flag| (flag, context));
    let pairs = contexts.iter().flat_map(of_context);
    pairs.map(|(flag, context)| naive::evaluate(world, flag, context)).collect()
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn whatever_is_stored_evaluates_always_and_always_alike(
        world in random::world(Leaves::Any),
        contexts in vec(random::context(Leaves::Any), N_CONTEXTS),
    ) {
        let first = answers(&world, &contexts);
        let second = answers(&world, &contexts);
        prop_assert_eq!(first.len(), world.flags.len() * contexts.len());
        for (value, index, reason) in &first {
            let is_error = reason.starts_with("ERROR ");
            prop_assert!(!is_error || (value.is_null() && index.is_none()));
            prop_assert!(index.is_none_or(|index| index < 3));
        }
        prop_assert_eq!(first, second);
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn explaining_changes_nothing_and_ends_with_the_result(
        world in random::world(Leaves::Few),
        contexts in vec(random::context(Leaves::Few), N_CONTEXTS),
    ) {
        let ruleset = ruleset(&world.flags, &world.segments);
        for context in contexts.iter().map(context) {
            for flag in ruleset.flags() {
                let plain = evaluate(&ruleset, flag, &context);
                let (explained, steps) = explain(&ruleset, flag, &context);
                prop_assert_eq!(answer(&plain), answer(&explained));
                prop_assert_eq!(plain.is_split, explained.is_split);
                assert_tells(&explained, flag, &steps)?;
            }
        }
    }
}

/// Checks that the steps of a flag are about what decided.
fn assert_tells(
    outcome: &Outcome<'_>,
    flag: &CompiledFlag,
    steps: &[Step],
) -> Result<(), TestCaseError> {
    let key = flag.key.to_string();
    let (index, reason) = (outcome.variation.map(|(index, _)| index), outcome.reason.kind());
    let last = Step::Result { flag: key.clone(), variation: index, reason };
    prop_assert_eq!(steps.last(), Some(&last));
    let rules = steps.iter().filter_map(|step| match step {
        Step::Rule { flag, rule, is_match, .. } if *flag == key => Some((*rule, *is_match)),
        _ => None,
    });
    let matched: Vec<usize> =
        rules.filter(|(_, is_match)| *is_match).map(|(rule, _)| rule).collect();
    if let Reason::RuleMatch { rule_index, .. } = outcome.reason {
        prop_assert_eq!(matched, vec![rule_index]);
    }
    let rollouts = steps.iter().filter_map(|step| match step {
        Step::Rollout { flag, variation, .. } if *flag == key => usize::try_from(*variation).ok(),
        _ => None,
    });
    if outcome.is_split && index.is_some() {
        prop_assert_eq!(rollouts.collect::<Vec<_>>(), Vec::from_iter(index));
    }
    let failed = steps.iter().find_map(|step| match step {
        Step::Prerequisite { flag, key: other, is_fulfilled: false, .. } if *flag == key => {
            Some(other)
        }
        _ => None,
    });
    if let Reason::PrerequisiteFailed { key } = outcome.reason {
        prop_assert_eq!(failed.map(String::as_str), Some(key));
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(400))]

    /// Fields are replaced by anything; what still has the type of its field is stored, and so must be evaluated.
    #[test]
    fn whatever_has_the_right_types_evaluates(
        world in random::world(Leaves::Few),
        replacements in vec((any::<Index>(), any::<Index>(), random::anything()), 1..12),
        context in random::context(Leaves::Any),
    ) {
        let mut world = world;
        let n_flags = world.flags.len();
        for (which, place, value) in replacements {
            let which = which.index(n_flags + world.segments.len());
            let whole = match which.checked_sub(n_flags) {
                None => &mut world.flags[which],
                Some(segment) => &mut world.segments[segment],
            };
            let mut changed = whole.clone();
            replace(&mut changed, place, value);
            let fits = match which < n_flags {
                true => {
                    let has_definition = serde_json::from_value::<FlagDefinition>(changed.clone()).is_ok();
                    has_definition && serde_json::from_value::<FlagConfig>(changed.clone()).is_ok()
                }
                false => serde_json::from_value::<Segment>(changed.clone()).is_ok(),
            };
            if fits {
                *whole = changed;
            }
        }
        let contexts = [context];
        prop_assert_eq!(answers(&world, &contexts), answers(&world, &contexts));
    }

    /// The same for files of LaunchDarkly's, of which everything is read that can be.
    #[test]
    fn whatever_is_in_a_file_evaluates(
        world in random::world(Leaves::Few),
        replacements in vec((any::<Index>(), random::anything()), 0..6),
        context in random::context(Leaves::Any),
    ) {
        let by_key = |all: &[Value]| -> Map<String, Value> {
            all.iter().map(|each| (each["key"].as_str().unwrap().to_owned(), each.clone())).collect()
        };
        let mut file = json!({"flags": by_key(&world.flags), "segments": by_key(&world.segments)});
        for (place, value) in replacements {
            replace(&mut file, place, value);
        }
        if let (Ok(read), Ok(context)) = (read_ruleset(file.clone()), Context::decode(context)) {
            let again = read_ruleset(file).unwrap().ruleset;
            for flag in read.ruleset.flags() {
                let first = answer(&evaluate(&read.ruleset, flag, &context));
                let second = answer(&evaluate(&again, again.flag(flag.key.as_str()).unwrap_or(flag), &context));
                prop_assert_eq!(first, second);
            }
        }
    }
}

/// Replaces a value somewhere inside another.
fn replace(whole: &mut Value, place: Index, by: Value) {
    fn nth<'v>(value: &'v mut Value, n: &mut usize) -> Option<&'v mut Value> {
        let Some(next) = n.checked_sub(1) else {
            return Some(value);
        };
        *n = next;
        match value {
            Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
            Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, n)),
            _ => None,
        }
    }
    fn count(value: &Value) -> usize {
        1 + match value {
            Value::Array(items) => items.iter().map(count).sum(),
            Value::Object(fields) => fields.values().map(count).sum(),
            _ => 0_usize,
        }
    }
    let mut n = place.index(count(whole));
    if let Some(found) = nth(whole, &mut n) {
        *found = by;
    }
}

/// Checks that the naive interpreter comes to the same answers.
fn assert_agrees(world: &World, contexts: &[Value]) -> Result<(), TestCaseError> {
    let compiled = answers(world, contexts);
    let naive = naive_answers(world, contexts);
    let flags = world.flags.iter().cycle();
    for ((compiled, naive), flag) in compiled.iter().zip(&naive).zip(flags) {
        prop_assert_eq!(compiled, naive, "{} for {:?}", flag, contexts);
    }
    Ok(())
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn the_naive_way_leads_to_the_same_answers(
        world in random::world(Leaves::Few),
        contexts in vec(random::context(Leaves::Few), N_CONTEXTS),
    ) {
        assert_agrees(&world, &contexts)?;
    }

    #[test]
    fn the_naive_way_matches_the_same_clauses(
        world in random::world_of_clauses(),
        contexts in vec(random::context(Leaves::Few), N_CONTEXTS),
    ) {
        assert_agrees(&world, &contexts)?;
    }
}

#[test]
fn random_worlds_reach_every_reason_and_every_operator() {
    let mut runner = TestRunner::deterministic();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut text = String::new();
    for _ in 0..100 {
        let world = random::world(Leaves::Few).new_tree(&mut runner).unwrap().current();
        let contexts = vec(random::context(Leaves::Few), N_CONTEXTS);
        let contexts = contexts.new_tree(&mut runner).unwrap().current();
        for (_, _, reason) in answers(&world, &contexts) {
            let words: Vec<&str> = reason.split(' ').collect();
            let n_words = if words[0] == "ERROR" { 2 } else { 1 };
            *reasons.entry(words[..n_words].join(" ")).or_default() += 1;
            for detail in [experiment(true), LACKING] {
                *reasons.entry(detail.to_owned()).or_default() +=
                    usize::from(reason.ends_with(detail));
            }
        }
        text.push_str(&format!("{world:?}"));
    }
    let expected = [
        experiment(true),
        LACKING,
        "ERROR MALFORMED_FLAG",
        "ERROR TARGETING_KEY_MISSING",
        "FALLTHROUGH",
        "OFF",
        "PREREQUISITE_FAILED",
        "RULE_MATCH",
        "TARGET_MATCH",
    ];
    assert_eq!(reasons.keys().map(String::as_str).collect::<Vec<_>>(), expected);
    assert!(reasons.values().all(|n| *n >= 20), "{reasons:?}");
    assert!(OPERATORS.iter().all(|op| text.contains(&format!("{op:?}"))));
}
