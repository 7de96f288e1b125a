//! The bounds on depth and branching, which keep one bad flag from stopping the others.

use crate::eval::tests::MALFORMED;
use crate::eval::tests::check_in;
use crate::eval::tests::flag_json;
use crate::eval::tests::nothing;
use crate::eval::tests::ruleset;
use crate::eval::tests::segment_json;
use crate::eval::tests::served;
use crate::model::limit::DEPENDENCY_DEPTH_MAX;
use serde_json::Value;
use serde_json::json;

/// Flags `f0`, `f1`, …, of which each has `n_times` the next one as a prerequisite, which is fulfilled.
fn flags_in_a_row(n: usize, n_times: usize) -> Vec<Value> {
    let flag = |i: usize| {
        let next = json!({"key": format!("f{}", i + 1), "variation": 0});
        let next = if i + 1 < n { vec![next; n_times] } else { Vec::new() };
        flag_json(&json!({"key": format!("f{i}"), "prerequisites": next}))
    };
    (0..n).map(flag).collect()
}

/// Segments `s0`, `s1`, …, of which each lets in whom `n_times` the next one lets in; the last one lets in everyone.
fn segments_in_a_row(n: usize, n_times: usize) -> Vec<Value> {
    let segment = |i: usize| {
        let next = json!({"op": "segmentMatch", "values": [format!("s{}", i + 1)]});
        let next = if i + 1 < n { vec![next; n_times] } else { Vec::new() };
        let rules = json!([{"id": "r", "clauses": next}]);
        segment_json(&json!({"key": format!("s{i}"), "rules": rules}))
    };
    (0..n).map(segment).collect()
}

/// A flag `f` whose only rule asks for the segment `s0`.
fn flag_asking() -> Value {
    let clause = json!({"op": "segmentMatch", "values": ["s0"]});
    flag_json(&json!({"rules": [{"id": "r", "clauses": [clause], "variation": 1}]}))
}

#[test]
fn chains_as_long_as_may_be_written_are_evaluated() {
    let user = json!({"key": "u"});
    let flags = ruleset(&flags_in_a_row(DEPENDENCY_DEPTH_MAX + 1, 1), &[]);
    assert_eq!(check_in(&flags, "f0", &user), served(0, "FALLTHROUGH"));
    let segments = segments_in_a_row(DEPENDENCY_DEPTH_MAX + 1, 1);
    let segments = ruleset(&[flag_asking()], &segments);
    assert_eq!(check_in(&segments, "f", &user), served(1, "RULE_MATCH 0 r"));
}

#[test]
fn a_chain_of_a_thousand_is_an_error_and_ends_no_thread() {
    let user = json!({"key": "u"});
    let flags = ruleset(&flags_in_a_row(1_000, 1), &[]);
    assert_eq!(check_in(&flags, "f0", &user), nothing(MALFORMED));
    // Its end is as good as ever.
    assert_eq!(check_in(&flags, "f990", &user), served(0, "FALLTHROUGH"));
    let segments = ruleset(&[flag_asking()], &segments_in_a_row(1_000, 1));
    assert_eq!(check_in(&segments, "f", &user), nothing(MALFORMED));
}

#[test]
fn branching_that_doubles_with_every_step_ends_as_an_error() {
    let user = json!({"key": "u"});
    let flags = ruleset(&flags_in_a_row(50, 2), &[]);
    assert_eq!(check_in(&flags, "f0", &user), nothing(MALFORMED));
    assert_eq!(check_in(&flags, "f45", &user), served(0, "FALLTHROUGH"));
    let segments = ruleset(&[flag_asking()], &segments_in_a_row(50, 2));
    assert_eq!(check_in(&segments, "f", &user), nothing(MALFORMED));
    let segments = ruleset(&[flag_asking()], &segments_in_a_row(5, 2));
    assert_eq!(check_in(&segments, "f", &user), served(1, "RULE_MATCH 0 r"));
}
