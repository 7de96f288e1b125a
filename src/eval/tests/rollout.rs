//! Percentage rollouts: which variation a slot of the ring belongs to, and which slot a context has.

use crate::eval::CompiledFlag;
use crate::eval::evaluate;
use crate::eval::tests::KEYLESS;
use crate::eval::tests::MALFORMED;
use crate::eval::tests::check;
use crate::eval::tests::check_in;
use crate::eval::tests::context;
use crate::eval::tests::flag_json;
use crate::eval::tests::naive::slot;
use crate::eval::tests::nothing;
use crate::eval::tests::ruleset;
use crate::eval::tests::served;
use crate::model::rule::WEIGHT_TOTAL;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;

/// The field `fallthrough` with a rollout of these weights, in order, to the variations 0, 1 and 2.
fn weights(weights: &[u32]) -> Value {
    let slices = weights.iter().enumerate();
    let slices = slices.map(|(i, weight)| json!({"variation": i, "weight": weight}));
    json!({"fallthrough": {"rollout": {"variations": slices.collect::<Vec<_>>()}}})
}

/// The same with further fields of the rollout.
fn weights_with(list: &[u32], fields: &Value) -> Value {
    let mut flag = weights(list);
    for (name, value) in fields.as_object().unwrap() {
        flag["fallthrough"]["rollout"][name.as_str()] = value.clone();
    }
    flag
}

/// Checks that a context lies in exactly this slot: the slice that ends before it has no part of it, the next one has.
#[track_caller]
fn assert_slot(fields: &Value, context: &Value, slot: u32) {
    for (first, index) in [(slot, 1), (slot + 1, 0)] {
        let flag = weights_with(&[first, WEIGHT_TOTAL - first], fields);
        assert_eq!(check(&flag, context), served(index, "FALLTHROUGH"), "{flag} {context}");
    }
}

#[test]
fn the_slot_of_a_context_is_fixed_by_flag_key_salt_and_value() {
    // The slots are those of the vectors in `bucket`.
    for (key, salt, fields, user, slot) in [
        ("checkout-redesign", "pepper1", json!({}), "user-42", 6_654),
        ("checkout-v2", "shop.production", json!({}), "user-42", 4_691),
        ("any", "any", json!({"seed": 61}), "user-42", 27_471),
        ("new-nav", "s", json!({}), "Zoë", 40_804),
        ("f", "s", json!({}), "98765", 9_959),
    ] {
        for (first, index) in [(slot, 1), (slot + 1, 0)] {
            let mut flag = weights_with(&[first, WEIGHT_TOTAL - first], &fields);
            flag["key"] = json!(key);
            flag["salt"] = json!(salt);
            let ruleset = ruleset(&[flag_json(&flag)], &[]);
            let found = check_in(&ruleset, key, &json!({"key": user}));
            assert_eq!(found, served(index, "FALLTHROUGH"), "{flag}");
        }
    }
}

#[test]
fn the_hash_is_of_the_attribute_and_kind_that_are_named() {
    let own = |value: &str| slot("f.s.", value);
    for (fields, context, slot) in [
        (json!({}), json!({"key": "k"}), own("k")),
        (json!({"contextKind": "", "bucketBy": ""}), json!({"key": "k"}), own("k")),
        (json!({"contextKind": "user", "bucketBy": "key"}), json!({"key": "k"}), own("k")),
        (json!({"contextKind": "user", "bucketBy": "/key"}), json!({"key": "k"}), own("k")),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": "gold"}), own("gold")),
        (json!({"bucketBy": "plan"}), json!({"plan": "gold"}), own("gold")),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": ""}), own("")),
        (json!({"bucketBy": "n"}), json!({"key": "k", "n": 98_765}), own("98765")),
        (json!({"bucketBy": "n"}), json!({"key": "k", "n": 98_765.0}), own("98765")),
        (json!({"bucketBy": "n"}), json!({"key": "k", "n": -5}), own("-5")),
        (json!({"bucketBy": "kind"}), json!({"key": "k"}), own("user")),
        (
            json!({"contextKind": "user", "bucketBy": "/a/b"}),
            json!({"key": "k", "a": {"b": "nested"}, "/a/b": "plain"}),
            own("nested"),
        ),
        // Without a kind the name is plain.
        (
            json!({"bucketBy": "/a/b"}),
            json!({"key": "k", "a": {"b": "nested"}, "/a/b": "plain"}),
            own("plain"),
        ),
        (json!({"contextKind": "org"}), json!({"kind": "org", "key": "o"}), own("o")),
        (
            json!({"contextKind": "org"}),
            json!({"kind": "multi", "user": {"key": "k"}, "org": {"key": "o"}}),
            own("o"),
        ),
        (json!({"seed": 0}), json!({"key": "k"}), slot("0.", "k")),
        (json!({"seed": -7, "bucketBy": "n"}), json!({"key": "k", "n": 1}), slot("-7.", "1")),
    ] {
        assert_slot(&fields, &context, slot);
    }
}

#[test]
fn zero_is_hashed_alike_whether_it_is_negative_or_not() {
    for zero in [json!(0), json!(0.0), json!(-0.0)] {
        let user = json!({"key": "k", "n": zero});
        assert_slot(&json!({"bucketBy": "n"}), &user, slot("f.s.", "0"));
    }
}

#[test]
fn what_cannot_be_placed_lies_in_the_first_slot() {
    for (fields, context) in [
        (json!({"bucketBy": "plan"}), json!({"key": "k"})),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": null})),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": true})),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": 1.5})),
        (json!({"bucketBy": "plan"}), json!({"key": "k", "plan": ["x"]})),
        (json!({"bucketBy": "plan"}), json!({"name": "keyless"})),
        (json!({"contextKind": "org"}), json!({"key": "k"})),
        (json!({"contextKind": "org", "bucketBy": "plan"}), json!({"key": "k", "plan": "x"})),
        (json!({}), json!({"kind": "org", "key": "o"})),
    ] {
        // A slice without weight has no slot, not even the first.
        for (list, index) in [
            (&[1, 99_999][..], 0),
            (&[0, 1, 99_999], 1),
            (&[0, 0, 100_000], 2),
            (&[0, 0, 0], 2),
            (&[0], 0),
        ] {
            let flag = weights_with(list, &fields);
            assert_eq!(check(&flag, &context), served(index, "FALLTHROUGH"), "{flag} {context}");
        }
    }
}

#[test]
fn without_a_key_to_divide_by_there_is_no_value() {
    for (fields, context) in [
        (json!({}), json!({})),
        (json!({}), json!(null)),
        (json!({}), json!({"name": "keyless"})),
        (json!({}), json!({"key": ""})),
        (json!({"bucketBy": "key"}), json!({"name": "keyless"})),
        (json!({"bucketBy": "plan"}), json!(null)),
        (json!({"contextKind": "org"}), json!(null)),
        (json!({"contextKind": "org"}), json!({"kind": "org", "name": "keyless"})),
        (
            json!({"contextKind": "org"}),
            json!({"kind": "multi", "user": {"key": "k"}, "org": {"name": "keyless"}}),
        ),
    ] {
        let flag = weights_with(&[50_000, 50_000], &fields);
        assert_eq!(check(&flag, &context), nothing(KEYLESS), "{flag} {context}");
    }
    // What does not divide needs no key.
    assert_eq!(check(&json!({}), &json!(null)), served(0, "FALLTHROUGH"));
    assert_eq!(check(&json!({"on": false}), &json!({})), served(2, "OFF"));
}

#[test]
fn weights_that_do_not_sum_to_the_whole_still_cover_the_ring() {
    let own = slot("f.s.", "k");
    for (list, index) in [
        // Less than the whole: the rest belongs to the last.
        (vec![0, 0, 0], 2),
        (vec![own, 0], 1),
        (vec![own, 0, 0], 2),
        (vec![own + 1, 0, 0], 0),
        (vec![own - 1, 1, 0], 2),
        (vec![own - 1, 2, 0], 1),
        // More than the whole: what comes later is out of reach, and nothing overflows.
        (vec![100_000, 100_000, 100_000], 0),
        (vec![0, u32::MAX, u32::MAX], 1),
        (vec![own, u32::MAX, u32::MAX], 1),
    ] {
        let found = check(&weights(&list), &json!({"key": "k"}));
        assert_eq!(found, served(index, "FALLTHROUGH"), "{list:?}");
    }
}

#[test]
fn a_variation_may_own_several_slices() {
    let own = slot("f.s.", "k");
    let slice = |variation: i64, weight: u32| json!({"variation": variation, "weight": weight});
    for (slices, index) in [
        (json!([slice(0, own), slice(1, 1), slice(0, WEIGHT_TOTAL - own - 1)]), 1),
        (json!([slice(1, own), slice(0, 1), slice(1, WEIGHT_TOTAL - own - 1)]), 0),
        (json!([slice(2, 1), slice(0, own - 1), slice(2, WEIGHT_TOTAL - own)]), 2),
    ] {
        let flag = json!({"fallthrough": {"rollout": {"variations": slices}}});
        assert_eq!(check(&flag, &json!({"key": "k"})), served(index, "FALLTHROUGH"), "{flag}");
    }
}

#[test]
fn a_rollout_without_slices_or_with_a_bad_attribute_is_malformed() {
    for flag in [
        weights(&[]),
        weights_with(&[100_000], &json!({"contextKind": "user", "bucketBy": "/"})),
        weights_with(&[100_000], &json!({"contextKind": "org", "bucketBy": "/~2"})),
    ] {
        for context in [json!({"key": "k"}), json!(null)] {
            assert_eq!(check(&flag, &context), nothing(MALFORMED), "{flag} {context}");
        }
    }
}

#[test]
fn a_rule_may_lead_to_a_rollout() {
    let own = slot("f.s.", "k");
    let slices = json!([{"variation": 1, "weight": own}, {"variation": 2, "weight": 1}]);
    let rules = json!([{"id": "r", "rollout": {"variations": slices}}]);
    let found = check(&json!({"rules": rules}), &json!({"key": "k"}));
    assert_eq!(found, served(2, "RULE_MATCH 0 r"));
}

#[test]
fn only_what_a_rollout_chose_is_a_split() {
    let rollout = json!({"variations": [{"variation": 1, "weight": 100_000}]});
    let rule = json!([{"id": "r", "rollout": rollout}]);
    for (fields, is_split) in [
        (json!({"fallthrough": {"rollout": rollout}}), true),
        (json!({"rules": rule}), true),
        (json!({"rules": rule, "on": false}), false),
        (json!({"rules": rule, "targets": [{"values": ["u"], "variation": 0}]}), false),
        (json!({"fallthrough": {"rollout": {}}}), false),
        (json!({}), false),
    ] {
        let ruleset = ruleset(&[flag_json(&fields)], &[]);
        let user = context(&json!({"key": "u"}));
        let outcome = evaluate(&ruleset, ruleset.flag("f").unwrap(), &user);
        assert_eq!(outcome.is_split, is_split, "{fields}");
    }
}

#[test]
fn a_quarter_of_the_keys_is_a_quarter_of_the_users() {
    let ruleset = ruleset(&[flag_json(&weights(&[25_000, 75_000]))], &[]);
    let flag = ruleset.flag("f").unwrap();
    let is_in = |i: &u32| {
        let user = context(&json!({"key": format!("user-{i}")}));
        evaluate(&ruleset, flag, &user).variation.map(|(index, _)| index) == Some(0)
    };
    let n_in = (0..100_000).filter(is_in).count();
    assert!((24_500..=25_500).contains(&n_in), "{n_in}");
}

#[test]
fn flags_divide_independently_unless_they_share_a_seed() {
    let half = |key: &str, seed: Value| {
        let mut flag = weights_with(&[50_000, 50_000], &json!({"seed": seed}));
        flag["key"] = json!(key);
        flag_json(&flag)
    };
    for (seed, expected) in [(json!(null), 4_700..=5_300), (json!(9), 10_000..=10_000)] {
        let ruleset = ruleset(&[half("one", seed.clone()), half("two", seed.clone())], &[]);
        let agrees = |i: &u32| {
            let user = context(&json!({"key": format!("user-{i}")}));
            let index = |flag: &Arc<CompiledFlag>| {
                evaluate(&ruleset, flag, &user).variation.map(|(index, _)| index)
            };
            ruleset.flag("one").map(index) == ruleset.flag("two").map(index)
        };
        let n_agreeing = (0..10_000).filter(agrees).count();
        assert!(expected.contains(&n_agreeing), "{n_agreeing} with seed {seed}");
    }
}
