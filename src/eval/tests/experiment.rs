//! Experiments, and rollouts that are hashed as LaunchDarkly's SDKs do it.
//!
//! Rollouts in general are tested in `rollout`, the hash itself in `bucket`.

use crate::eval::tests::MALFORMED;
use crate::eval::tests::check;
use crate::eval::tests::check_in;
use crate::eval::tests::flag_json;
use crate::eval::tests::matches_with;
use crate::eval::tests::naive::share;
use crate::eval::tests::nothing;
use crate::eval::tests::ruleset;
use crate::eval::tests::segment_json;
use crate::eval::tests::served;
use serde_json::Value;
use serde_json::json;

/// The field `fallthrough` with a rollout of these weights to the variations 0, 1 and 2, and further fields of the rollout.
fn sha1(weights: &[u32], fields: &Value) -> Value {
    let slices = weights.iter().enumerate();
    let slices = slices.map(|(i, weight)| json!({"variation": i, "weight": weight}));
    let mut rollout = json!({"hash": "sha1", "variations": slices.collect::<Vec<_>>()});
    for (name, value) in fields.as_object().unwrap() {
        rollout[name.as_str()] = value.clone();
    }
    json!({"fallthrough": {"rollout": rollout}})
}

/// The numbers were computed with Python, and with LaunchDarkly's SDK for it.
#[test]
fn worked_examples_of_launchdarkly_come_out() {
    for (weights, fields, context, index) in [
        ([60_000, 40_000], json!({}), json!({"key": "user-42"}), 1),
        ([60_390, 39_610], json!({}), json!({"key": "user-42"}), 0),
        ([60_389, 39_611], json!({}), json!({"key": "user-42"}), 1),
        ([18_749, 81_251], json!({"seed": 61}), json!({"key": "user-42"}), 1),
        ([18_750, 81_250], json!({"seed": 61}), json!({"key": "user-42"}), 0),
        ([7_837, 92_163], json!({"bucketBy": "n"}), json!({"key": "u", "n": 98_765}), 1),
        ([7_838, 92_162], json!({"bucketBy": "n"}), json!({"key": "u", "n": 98_765}), 0),
        ([7_838, 92_162], json!({"bucketBy": "n"}), json!({"key": "u", "n": 98_765.0}), 0),
        ([84_002, 15_998], json!({}), json!({"key": "Zoë"}), 1),
        ([84_003, 15_997], json!({}), json!({"key": "Zoë"}), 0),
    ] {
        let mut flag = sha1(&weights, &fields);
        flag["key"] = json!("checkout-redesign");
        flag["salt"] = json!("pepper1");
        let ruleset = ruleset(&[flag_json(&flag)], &[]);
        let found = check_in(&ruleset, "checkout-redesign", &context);
        assert_eq!(found, served(index, "FALLTHROUGH"), "{flag} {context}");
    }
}

#[test]
fn the_share_of_a_segment_is_hashed_alike() {
    for (weight, is_in) in [(50_000, true), (47_652, true), (47_651, false), (47_000, false)] {
        let rule = json!({"id": "r", "clauses": [], "weight": weight, "hash": "sha1"});
        let fields = json!({"key": "beta-testers", "salt": "seg-salt", "rules": [rule]});
        let clause = json!({"op": "segmentMatch", "values": ["beta-testers"]});
        let user = json!({"key": "user-42"});
        let found = matches_with(&[segment_json(&fields)], &clause, &user);
        assert_eq!(found, Some(is_in), "{weight}");
    }
}

/// Old data names no kind, and its attributes are plain names.
#[test]
fn without_a_kind_what_is_hashed_is_a_plain_name() {
    let context = json!({"key": "u", "/a/b": "plain", "a": {"b": "nested"}});
    for (fields, value) in [
        (json!({"bucketBy": "/a/b"}), "plain"),
        (json!({"bucketBy": "/a/b", "contextKind": ""}), "plain"),
        (json!({"bucketBy": "/a/b", "contextKind": "user"}), "nested"),
    ] {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "within 0 to 1"
        )]
        let edge = (f64::from(share("f.s.", value)) * 100_000.0) as u32;
        for (weight, index) in [(edge, 1), (edge + 1, 0)] {
            let flag = sha1(&[weight, 100_000 - weight], &fields);
            assert_eq!(check(&flag, &context), served(index, "FALLTHROUGH"), "{flag}");
        }
    }
}

#[test]
fn what_cannot_be_placed_lies_at_the_beginning() {
    for value in [json!(null), json!(1.5), json!(true), json!(["x"]), json!({"x": "x"})] {
        for (weights, index) in [([1, 99_999, 0], 0), ([0, 1, 99_999], 1), ([0, 0, 0], 2)] {
            let flag = sha1(&weights, &json!({"bucketBy": "x"}));
            let found = check(&flag, &json!({"key": "u", "x": value}));
            assert_eq!(found, served(index, "FALLTHROUGH"), "{flag} {value}");
        }
    }
}

#[test]
fn who_takes_part_in_an_experiment_is_said_in_the_reason() {
    let slice = |variation: u32, weight: u32, untracked: bool| json!({"variation": variation, "weight": weight, "untracked": untracked});
    let all = |untracked: bool| json!([slice(1, 100_000, untracked)]);
    let user = json!({"key": "u"});
    let org = json!({"kind": "org", "key": "o"});
    for (kind, slices, context, expected) in [
        ("experiment", all(false), &user, " in the experiment"),
        ("experiment", all(true), &user, ""),
        ("rollout", all(false), &user, ""),
        ("unheard-of", all(false), &user, ""),
        // Of a kind that the context lacks nobody takes part, but the variation is served.
        ("experiment", all(false), &org, ""),
        (
            "experiment",
            json!([slice(2, 0, false), slice(1, 0, false)]),
            &user,
            " in the experiment",
        ),
        ("experiment", json!([slice(2, 0, false), slice(1, 0, true)]), &user, ""),
        ("experiment", json!([slice(2, 0, false), slice(1, 0, false)]), &org, ""),
    ] {
        for hash in ["sha1", "murmur3"] {
            let rollout = json!({"kind": kind, "hash": hash, "variations": slices});
            let rule = json!([{"id": "r", "rollout": rollout}]);
            for (fields, reason) in [
                (json!({"fallthrough": {"rollout": rollout}}), "FALLTHROUGH"),
                (json!({"rules": rule}), "RULE_MATCH 0 r"),
            ] {
                let expected = served(1, &format!("{reason}{expected}"));
                assert_eq!(check(&fields, context), expected, "{fields} {context}");
            }
        }
    }
}

#[test]
fn experiments_divide_by_the_key_whatever_they_name() {
    let weights = [50_000, 50_000];
    for i in 0..50 {
        let context = json!({"key": format!("u{i}"), "plan": "gold"});
        for hash in ["sha1", "murmur3"] {
            let by_key = sha1(&weights, &json!({"kind": "experiment", "hash": hash}));
            let expected = check(&by_key, &context);
            for fields in [
                json!({"bucketBy": "plan"}),
                json!({"bucketBy": "/", "contextKind": "user"}),
                json!({"bucketBy": "nope"}),
            ] {
                let mut fields = fields.clone();
                fields["kind"] = json!("experiment");
                fields["hash"] = json!(hash);
                let found = check(&sha1(&weights, &fields), &context);
                assert_eq!(found, expected, "{fields} {context}");
            }
        }
    }
    // A rollout by what is no reference is malformed.
    let rollout = sha1(&weights, &json!({"bucketBy": "/", "contextKind": "user"}));
    assert_eq!(check(&rollout, &json!({"key": "u"})), nothing(MALFORMED));
}

#[test]
fn an_experiment_with_a_bad_variation_is_malformed() {
    let slices = json!([{"variation": 3, "weight": 100_000}]);
    let flag = json!({"fallthrough": {"rollout": {"kind": "experiment", "variations": slices}}});
    assert_eq!(check(&flag, &json!({"key": "u"})), nothing(MALFORMED));
}
