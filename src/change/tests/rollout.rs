//! Percentage rollouts: how the ring is divided, and how many contexts that moves.

use crate::change::Moved;
use crate::change::rebalance;
use crate::change::tests::assert_change;
use crate::change::tests::assert_unchanged;
use crate::change::tests::change;
use crate::change::tests::config;
use crate::model::rule::Slice;
use crate::model::rule::WEIGHT_TOTAL;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;

/// The instruction that divides everyone by these weights.
fn divide(weights: &Value) -> Value {
    json!({"kind": "updateFallthroughVariationOrRollout", "rolloutWeights": weights})
}

/// The field `fallthrough` with these slices of variation and weight, and further fields of the rollout.
fn ring_with(slices: &[(i64, u32)], fields: &Value) -> Value {
    let slice =
        |(variation, weight): &(i64, u32)| json!({"variation": variation, "weight": weight});
    let mut rollout = fields.clone();
    rollout["variations"] = slices.iter().map(slice).collect();
    json!({"fallthrough": {"rollout": rollout}})
}

/// The same as this server writes it if no kind and no attribute is named.
fn ring(slices: &[(i64, u32)]) -> Value {
    ring_with(slices, &json!({"contextKind": "user"}))
}

/// Checks that the pairs make up who moves, and leaves them out.
fn without_pairs(moved: Moved) -> Moved {
    assert_eq!(moved.between.values().sum::<u32>(), moved.moved_milli_pct);
    Moved { between: BTreeMap::new(), ..moved }
}

fn moved(moved_milli_pct: u32, from: &[(i64, u32)], to: &[(i64, u32)]) -> Moved {
    let shares = |shares: &[(i64, u32)]| shares.iter().copied().collect();
    Moved { moved_milli_pct, from: shares(from), to: shares(to), between: BTreeMap::new() }
}

#[test]
fn changing_weights_moves_as_few_as_possible_and_says_how_many() {
    let fixed = json!({"fallthrough": {"variation": 1}});
    let quarter = ring(&[(1, 75_000), (0, 25_000)]);
    let half = ring(&[(1, 50_000), (0, 50_000)]);
    let thirds = ring(&[(1, 25_000), (2, 25_000), (0, 50_000)]);
    let shares_fixed = [(1, WEIGHT_TOTAL)];
    let shares_quarter = [(0, 25_000), (1, 75_000)];
    let shares_half = [(0, 50_000), (1, 50_000)];
    let shares_thirds = [(0, 50_000), (1, 25_000), (2, 25_000)];
    for (before, weights, after, words, expected) in [
        (
            &fixed,
            json!({"on": 25_000, "off": 75_000}),
            &quarter,
            "set the fallthrough to 25% `on`, 75% `off`",
            moved(25_000, &shares_fixed, &shares_quarter),
        ),
        (
            &quarter,
            json!({"off": 50_000, "on": 50_000}),
            &half,
            "set the fallthrough to 50% `off`, 50% `on`",
            moved(25_000, &shares_quarter, &shares_half),
        ),
        (
            &half,
            json!({"on": 50_000, "off": 25_000, "beta": 25_000}),
            &thirds,
            "set the fallthrough to 50% `on`, 25% `off`, 25% `beta`",
            moved(25_000, &shares_half, &shares_thirds),
        ),
        (
            &thirds,
            json!({"on": 0, "off": WEIGHT_TOTAL}),
            &ring(&[(1, WEIGHT_TOTAL)]),
            "set the fallthrough to 0% `on`, 100% `off`",
            moved(75_000, &shares_thirds, &shares_fixed),
        ),
    ] {
        let applied = assert_change(before, &json!([divide(&weights)]), after, &[words]);
        assert_eq!(applied.moved.map(without_pairs), Some(expected), "{weights}");
    }
}

#[test]
fn what_lies_between_two_slices_of_a_growing_variation_is_given_away_in_full() {
    for (weights, to) in [
        (json!({"on": 10_000, "off": 90_000}), vec![(0, 10_000), (1, 90_000)]),
        (json!({"on": 30_000, "off": 70_000}), vec![(0, 30_000), (1, 70_000)]),
        (json!({"off": 80_000, "beta": 20_000}), vec![(1, 80_000), (2, 20_000)]),
        (
            json!({"on": 5_000, "off": 80_000, "beta": 15_000}),
            vec![(0, 5_000), (1, 80_000), (2, 15_000)],
        ),
    ] {
        let before = ring(&[(1, 40_000), (2, 50_000), (1, 10_000)]);
        let applied = change(&before, &json!([divide(&weights)])).unwrap();
        let slices = applied.config.fallthrough.rollout.unwrap().variations;
        let mut shares: BTreeMap<i64, u32> = BTreeMap::new();
        for slice in &slices {
            *shares.entry(slice.variation).or_default() += slice.weight_milli_pct;
        }
        assert_eq!(shares, to.into_iter().collect(), "{weights}: {slices:?}");
    }
}

#[test]
fn a_fixed_variation_is_a_rollout_to_everyone() {
    let quarter = ring(&[(1, 75_000), (0, 25_000)]);
    let shares_quarter = [(0, 25_000), (1, 75_000)];
    for (before, key, index, expected) in [
        (&quarter, "on", 0, moved(75_000, &shares_quarter, &[(0, WEIGHT_TOTAL)])),
        (&quarter, "off", 1, moved(25_000, &shares_quarter, &[(1, WEIGHT_TOTAL)])),
        (&quarter, "beta", 2, moved(WEIGHT_TOTAL, &shares_quarter, &[(2, WEIGHT_TOTAL)])),
        (&json!({}), "beta", 2, moved(WEIGHT_TOTAL, &[(0, WEIGHT_TOTAL)], &[(2, WEIGHT_TOTAL)])),
    ] {
        let instruction = json!({"kind": "updateFallthroughVariationOrRollout", "variation": key});
        let after = json!({"fallthrough": {"variation": index}});
        let words = format!("set the fallthrough to `{key}`");
        let applied = assert_change(before, &json!([instruction]), &after, &[&words]);
        assert_eq!(applied.moved.map(without_pairs), Some(expected), "{key}");
    }
}

#[test]
fn the_same_weights_in_any_order_change_nothing_and_move_nobody() {
    let before = ring(&[(1, 75_000), (0, 25_000)]);
    for weights in [
        json!({"on": 25_000, "off": 75_000}),
        json!({"off": 75_000, "on": 25_000}),
        json!({"beta": 0, "off": 75_000, "on": 25_000}),
    ] {
        assert_unchanged(&before, &json!([divide(&weights)]));
        let moved = change(&before, &json!([divide(&weights)])).unwrap().moved;
        assert_eq!(moved.map_or(0, |moved| moved.moved_milli_pct), 0);
    }
}

#[test]
fn another_kind_or_attribute_divides_anew() {
    let before = ring(&[(1, 75_000), (0, 25_000)]);
    let weights = json!({"on": 25_000, "off": 75_000});
    for (companions, fields) in [
        (json!({"rolloutContextKind": "org"}), json!({"contextKind": "org"})),
        (json!({"rolloutBucketBy": "plan"}), json!({"contextKind": "user", "bucketBy": "plan"})),
        (
            json!({"rolloutContextKind": "org", "rolloutBucketBy": "/a/b"}),
            json!({"contextKind": "org", "bucketBy": "/a/b"}),
        ),
    ] {
        let mut instruction = divide(&weights);
        for (name, value) in companions.as_object().unwrap() {
            instruction[name.as_str()] = value.clone();
        }
        // In the order of the variations: no slot keeps its meaning, so there is nothing to keep.
        let after = ring_with(&[(0, 25_000), (1, 75_000)], &fields);
        let words = "set the fallthrough to 25% `on`, 75% `off`";
        let applied = assert_change(&before, &json!([instruction]), &after, &[words]);
        assert_eq!(applied.moved, None, "{companions}");
        assert_unchanged(&after, &json!([instruction]));
    }
    let mut by_key = divide(&weights);
    by_key["rolloutBucketBy"] = json!("key");
    by_key["rolloutContextKind"] = json!("user");
    assert_unchanged(&before, &json!([by_key]));
}

#[test]
fn a_rollout_without_a_kind_is_one_of_users() {
    // As it stands in data that other servers have written; the slots mean the same.
    for fields in
        [json!({}), json!({"bucketBy": "key"}), json!({"contextKind": "user", "bucketBy": "key"})]
    {
        let before = ring_with(&[(1, 75_000), (0, 25_000)], &fields);
        let grown = divide(&json!({"on": 50_000, "off": 50_000}));
        let applied = change(&before, &json!([grown])).unwrap();
        let slices = applied.config.fallthrough.rollout.map(|rollout| rollout.variations);
        let slice =
            |variation, weight_milli_pct| Slice { variation, weight_milli_pct, untracked: false };
        assert_eq!(slices, Some(vec![slice(1, 50_000), slice(0, 50_000)]), "{fields}");
        assert_eq!(applied.moved.map(|moved| moved.moved_milli_pct), Some(25_000), "{fields}");
    }
}

#[test]
fn setting_weights_keeps_who_is_divided() {
    for (before, after) in [
        (
            json!({"contextKind": "org", "bucketBy": "tier"}),
            json!({"contextKind": "org", "bucketBy": "tier"}),
        ),
        (json!({"bucketBy": "/a"}), json!({"contextKind": "user", "bucketBy": "/~1a"})),
        (json!({}), json!({"contextKind": "user"})),
    ] {
        let before = ring_with(&[(1, 75_000), (0, 25_000)], &before);
        let after = ring_with(&[(1, 70_000), (0, 30_000)], &after);
        let weights = divide(&json!({"on": 30_000, "off": 70_000}));
        let applied = change(&before, &json!([weights])).unwrap();
        assert_eq!(applied.config, config(&after));
        assert_eq!(applied.moved.map(|moved| moved.moved_milli_pct), Some(5_000));
    }
}

#[test]
fn what_lies_beyond_the_ring_is_nobodys() {
    let before = ring(&[(0, 60_000), (1, 60_000)]);
    let applied = change(&before, &json!([divide(&json!({"on": 50_000, "off": 50_000}))])).unwrap();
    assert_eq!(applied.moved.map(|moved| moved.moved_milli_pct), Some(10_000));
}

#[test]
fn setting_weights_keeps_hash_and_seed() {
    let fields = json!({"contextKind": "user", "seed": 7, "hash": "sha1"});
    let before = ring_with(&[(1, 75_000), (0, 25_000)], &fields);
    let weights = json!({"on": 30_000, "off": 70_000});
    let applied = assert_change(
        &before,
        &json!([divide(&weights)]),
        &ring_with(&[(1, 70_000), (0, 30_000)], &fields),
        &["set the fallthrough to 30% `on`, 70% `off`"],
    );
    assert_eq!(applied.moved.map(|moved| moved.moved_milli_pct), Some(5_000));
    for other in [json!({"rolloutSeed": 8}), json!({"rolloutHash": "murmur3"})] {
        let mut instruction = divide(&weights);
        instruction.as_object_mut().unwrap().extend(other.as_object().unwrap().clone());
        let applied = change(&before, &json!([instruction])).unwrap();
        let slices = applied.config.fallthrough.rollout.map(|rollout| rollout.variations);
        // Nobody can keep a place on another ring.
        assert_eq!(slices.map(|slices| slices[0].variation), Some(0), "{other}");
        assert_eq!(applied.moved, None, "{other}");
    }
}

#[test]
fn a_ring_that_is_not_covered_is_divided_anew() {
    for old in [&[(0, 10_000), (1, 20_000)][..], &[], &[(0, WEIGHT_TOTAL), (1, WEIGHT_TOTAL)]] {
        let instruction = divide(&json!({"off": 30_000, "on": 70_000}));
        let applied = change(&ring(old), &json!([instruction])).unwrap();
        let slices = applied.config.fallthrough.rollout.map(|rollout| rollout.variations);
        let slice =
            |variation, weight_milli_pct| Slice { variation, weight_milli_pct, untracked: false };
        assert_eq!(slices, Some(vec![slice(0, 70_000), slice(1, 30_000)]), "{old:?}");
    }
}

#[test]
fn weights_are_said_in_percent() {
    for (weights, words) in [
        (json!({"on": 333, "off": 99_667}), "0.333% `on`, 99.667% `off`"),
        (json!({"on": 12_500, "off": 87_500}), "12.5% `on`, 87.5% `off`"),
        (json!({"on": 10, "off": 99_990}), "0.01% `on`, 99.99% `off`"),
        (json!({"beta": 10_000, "on": 90_000}), "10% `beta`, 90% `on`"),
        (json!({"on": WEIGHT_TOTAL}), "100% `on`"),
    ] {
        let applied = change(&json!({}), &json!([divide(&weights)])).unwrap();
        assert_eq!(applied.changes, [format!("set the fallthrough to {words}")]);
    }
}

#[test]
fn a_change_that_leaves_the_fallthrough_alone_counts_nobody() {
    for instruction in [
        json!({"kind": "turnFlagOn"}),
        json!({"kind": "addTargets", "variation": "on", "values": ["u"]}),
        json!({"kind": "addRule", "rolloutWeights": {"on": 50_000, "off": 50_000}}),
    ] {
        let before = ring(&[(1, 75_000), (0, 25_000)]);
        assert_eq!(change(&before, &json!([instruction])).unwrap().moved, None, "{instruction}");
    }
}

#[test]
fn a_new_rule_is_divided_in_the_order_of_the_variations() {
    let instruction = json!({
        "kind": "addRule", "rolloutContextKind": "org", "rolloutBucketBy": "plan",
        "rolloutWeights": {"beta": 20_000, "off": 0, "on": 80_000},
    });
    let rollout = json!({
        "contextKind": "org", "bucketBy": "plan",
        "variations": [{"variation": 0, "weight": 80_000}, {"variation": 2, "weight": 20_000}],
    });
    assert_change(
        &json!({}),
        &json!([instruction]),
        &json!({"rules": [{"id": "new-1", "rollout": rollout}]}),
        &["added rule new-1 at position 1"],
    );
}

#[test]
fn an_old_ring_without_any_slices_takes_the_weights_as_they_come() {
    let (slices, moved_all) = rebalance(&[], &[(2, 40_000), (0, 0), (1, 60_000)]);
    let slice =
        |variation, weight_milli_pct| Slice { variation, weight_milli_pct, untracked: false };
    assert_eq!(slices, [slice(2, 40_000), slice(1, 60_000)]);
    assert_eq!(moved_all, moved(WEIGHT_TOTAL, &[], &[(1, 60_000), (2, 40_000)]));
}

#[test]
fn a_third_variation_takes_from_both_and_nobody_moves_between_them() {
    let halves = ring(&[(0, 50_000), (1, 50_000)]);
    let weights = json!({"on": 33_000, "off": 33_000, "beta": 34_000});
    let moved = change(&halves, &json!([divide(&weights)])).unwrap().moved.unwrap();
    assert_eq!(moved.moved_milli_pct, 34_000);
    assert_eq!(moved.between, BTreeMap::from([((0, 2), 17_000), ((1, 2), 17_000)]));
}
