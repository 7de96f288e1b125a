//! What holds for every flag and every context.

use crate::eval::OPERATORS;
use crate::eval::evaluate;
use crate::eval::tests::Answer;
use crate::eval::tests::answer;
use crate::eval::tests::context;
use crate::eval::tests::naive;
use crate::eval::tests::random;
use crate::eval::tests::random::Leaves;
use crate::eval::tests::random::World;
use crate::eval::tests::ruleset;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::Value;
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
        }
        text.push_str(&format!("{world:?}"));
    }
    let expected = [
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
