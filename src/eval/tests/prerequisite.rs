//! Prerequisites: other flags that must serve a given variation first.

use crate::eval::tests::Answer;
use crate::eval::tests::KEYLESS;
use crate::eval::tests::MALFORMED;
use crate::eval::tests::check_in;
use crate::eval::tests::flag_json;
use crate::eval::tests::nothing;
use crate::eval::tests::ruleset;
use crate::eval::tests::served;
use serde_json::Value;
use serde_json::json;

/// Evaluates the flag `f`, which has these fields, beside other flags, each with its key.
fn check_beside(others: &Value, fields: &Value) -> Answer {
    let mut flags = vec![flag_json(fields)];
    flags.extend(others.as_array().unwrap().iter().map(flag_json));
    check_in(&ruleset(&flags, &[]), "f", &json!({"key": "u"}))
}

/// The field `prerequisites` from pairs of key and variation.
fn wants(pairs: &[(&str, i64)]) -> Value {
    let each = |(key, variation): &(&str, i64)| json!({"key": key, "variation": variation});
    json!({"prerequisites": pairs.iter().map(each).collect::<Vec<_>>()})
}

#[test]
fn a_prerequisite_holds_if_the_other_flag_is_on_and_serves_the_variation() {
    for (other, wanted, is_fulfilled) in [
        (json!({"key": "p"}), 0, true),
        (json!({"key": "p"}), 1, false),
        (json!({"key": "p", "fallthrough": {"variation": 1}}), 1, true),
        (json!({"key": "p", "targets": [{"values": ["u"], "variation": 1}]}), 1, true),
        (json!({"key": "p", "rules": [{"id": "r", "variation": 2}]}), 2, true),
        (json!({"key": "p", "rules": [{"id": "r", "variation": 2}]}), 0, false),
        // Off, and its off variation is the one that is asked for.
        (json!({"key": "p", "on": false}), 2, false),
        (json!({"key": "p", "on": false}), 0, false),
        (json!({"key": "p", "on": false, "offVariation": null}), 0, false),
        (json!({"key": "another"}), 0, false),
        // On, but its own prerequisite fails, so that it serves its off variation.
        (json!({"key": "p", "prerequisites": [{"key": "x", "variation": 0}]}), 2, true),
        (json!({"key": "p", "prerequisites": [{"key": "x", "variation": 0}]}), 0, false),
        (
            json!({
                "key": "p", "prerequisites": [{"key": "x", "variation": 0}], "offVariation": null,
            }),
            0,
            false,
        ),
    ] {
        let expected = if is_fulfilled {
            served(0, "FALLTHROUGH")
        } else {
            served(2, "PREREQUISITE_FAILED p")
        };
        let found = check_beside(&json!([other]), &wants(&[("p", wanted)]));
        assert_eq!(found, expected, "{other} {wanted}");
    }
}

#[test]
fn the_first_prerequisite_that_fails_is_named() {
    let others = json!([{"key": "p"}, {"key": "q"}, {"key": "off", "on": false}]);
    for (pairs, expected) in [
        (vec![("p", 0), ("q", 0)], served(0, "FALLTHROUGH")),
        (vec![("p", 0), ("q", 1)], served(2, "PREREQUISITE_FAILED q")),
        (vec![("p", 1), ("q", 1)], served(2, "PREREQUISITE_FAILED p")),
        (vec![("off", 2), ("q", 1)], served(2, "PREREQUISITE_FAILED off")),
        (vec![("q", 0), ("unknown", 0), ("p", 1)], served(2, "PREREQUISITE_FAILED unknown")),
    ] {
        assert_eq!(check_beside(&others, &wants(&pairs)), expected, "{pairs:?}");
    }
}

#[test]
fn a_failed_prerequisite_serves_the_off_variation_before_targets_and_rules() {
    for (off_variation, expected) in [
        (json!(1), served(1, "PREREQUISITE_FAILED p")),
        (json!(null), nothing("PREREQUISITE_FAILED p")),
        (json!(7), nothing(MALFORMED)),
    ] {
        let mut fields = wants(&[("p", 0)]);
        fields["targets"] = json!([{"values": ["u"], "variation": 0}]);
        fields["rules"] = json!([{"id": "r", "variation": 0}]);
        fields["offVariation"] = off_variation;
        assert_eq!(check_beside(&json!([]), &fields), expected, "{fields}");
    }
}

#[test]
fn nested_prerequisites_are_evaluated_in_full() {
    let chain = json!([
        {"key": "p", "prerequisites": [{"key": "q", "variation": 0}]},
        {"key": "q", "prerequisites": [{"key": "r", "variation": 1}]},
        {"key": "r", "fallthrough": {"variation": 1}},
    ]);
    assert_eq!(check_beside(&chain, &wants(&[("p", 0)])), served(0, "FALLTHROUGH"));
    let mut broken = chain.clone();
    broken[2]["on"] = json!(false);
    // `q` serves its off variation now, so `p` does too.
    let failed = served(2, "PREREQUISITE_FAILED p");
    assert_eq!(check_beside(&broken, &wants(&[("p", 0)])), failed);
    // Two ways to the same flag are no circle.
    let diamond = wants(&[("p", 0), ("q", 0), ("r", 1), ("r", 1)]);
    assert_eq!(check_beside(&chain, &diamond), served(0, "FALLTHROUGH"));
}

#[test]
fn a_circle_of_prerequisites_is_malformed_when_it_is_reached() {
    let back =
        |key: &str, to: &str| json!({"key": key, "prerequisites": [{"key": to, "variation": 0}]});
    let off = |mut flag: Value| {
        flag["on"] = json!(false);
        flag
    };
    for (others, pairs, expected) in [
        (json!([]), vec![("f", 0)], nothing(MALFORMED)),
        (json!([]), vec![("f", 2)], nothing(MALFORMED)),
        (json!([back("p", "f")]), vec![("p", 0)], nothing(MALFORMED)),
        (json!([back("p", "q"), back("q", "f")]), vec![("p", 0)], nothing(MALFORMED)),
        // A circle among the others.
        (json!([back("p", "q"), back("q", "p")]), vec![("p", 0)], nothing(MALFORMED)),
        (json!([back("p", "p")]), vec![("p", 0)], nothing(MALFORMED)),
        // An earlier prerequisite fails first, or the circle is cut by a flag that is off.
        (json!([]), vec![("none", 0), ("f", 0)], served(2, "PREREQUISITE_FAILED none")),
        (json!([off(back("p", "f"))]), vec![("p", 0)], served(2, "PREREQUISITE_FAILED p")),
        (json!([back("p", "q"), off(back("q", "p"))]), vec![("p", 2)], served(0, "FALLTHROUGH")),
    ] {
        assert_eq!(check_beside(&others, &wants(&pairs)), expected, "{others} {pairs:?}");
    }
}

#[test]
fn an_error_in_a_prerequisite_is_the_error_of_the_flag() {
    let rollout = |weight: i64| json!({"variations": [{"variation": 0, "weight": weight}]});
    let bad = json!({"contextKind": "user", "attribute": "/", "op": "in", "values": [1]});
    let one = wants(&[("p", 0)]);
    let through_q = json!([
        {"key": "p", "prerequisites": [{"key": "q", "variation": 0}]},
        {"key": "q", "rules": [{"id": "r", "clauses": [bad]}]},
    ]);
    for others in [json!([{"key": "p", "rules": [{"id": "r", "clauses": [bad]}]}]), through_q] {
        assert_eq!(check_beside(&others, &one), nothing(MALFORMED), "{others}");
    }
    // Here the rules led somewhere, where there is nothing. Go's SDK says this; Rust's and JavaScript's say malformed.
    for others in [
        json!([{"key": "p", "fallthrough": {"variation": 3}}]),
        json!([{"key": "p", "fallthrough": {}}]),
        json!([{"key": "p", "on": false, "offVariation": 3}]),
    ] {
        assert_eq!(check_beside(&others, &one), served(2, "PREREQUISITE_FAILED p"), "{others}");
    }
    let flags = [
        flag_json(&one),
        flag_json(&json!({"key": "p", "fallthrough": {"rollout": rollout(100_000)}})),
    ];
    assert_eq!(check_in(&ruleset(&flags, &[]), "f", &json!({})), nothing(KEYLESS));
}
