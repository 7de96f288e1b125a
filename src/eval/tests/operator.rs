//! Each operator: what it matches, what it does not, and what it makes of other types.

use crate::eval::OPERATORS;
use crate::eval::tests::matches;
use serde_json::Value;
use serde_json::json;

/// Checks an operator on the attribute `x` of a user: plain, and negated, which must give the opposite.
#[track_caller]
fn assert_holds(op: &str, attribute: &Value, values: &Value, expected: bool) {
    let context = json!({"key": "u", "x": attribute});
    for negate in [false, true] {
        let clause = json!({
            "contextKind": "user", "attribute": "x", "op": op, "values": values, "negate": negate,
        });
        assert_eq!(matches(&clause, &context), Some(expected != negate), "{clause} {attribute}");
    }
}

/// Checks rows of an attribute's value, the clause's values and whether the operator holds.
#[track_caller]
fn assert_rows<const N: usize>(op: &str, rows: [(Value, Value, bool); N]) {
    for (attribute, values, expected) in rows {
        assert_holds(op, &attribute, &values, expected);
    }
}

#[test]
fn in_compares_whole_values_of_one_type() {
    assert_rows(
        "in",
        [
            (json!("a"), json!(["a"]), true),
            (json!("a"), json!(["b", "a"]), true),
            (json!("a"), json!(["A"]), false),
            (json!("a"), json!(["ab"]), false),
            (json!("a"), json!([]), false),
            (json!(""), json!([""]), true),
            (json!("Zoë"), json!(["Zoë"]), true),
            (json!(1), json!([1]), true),
            (json!(1), json!([1.0]), true),
            (json!(1.0), json!([2, 1]), true),
            (json!(1.5), json!([1]), false),
            (json!(-1), json!([1]), false),
            (json!(u64::MAX), json!([u64::MAX]), true),
            (json!(u64::MAX), json!([-1]), false),
            (json!(1), json!(["1"]), false),
            (json!("1"), json!([1]), false),
            (json!(true), json!([true]), true),
            (json!(true), json!([false]), false),
            (json!(true), json!([1]), false),
            (json!(1), json!([true]), false),
            (json!("true"), json!([true]), false),
            (json!({"a": 1, "b": [2]}), json!([{"b": [2.0], "a": 1}]), true),
            (json!({"a": 1}), json!([{"a": 1, "b": 2}]), false),
            (json!({"a": 1, "b": 2}), json!([{"a": 1}]), false),
            (json!({"a": null}), json!([{"b": null}]), false),
            (json!({}), json!([{}]), true),
            (json!({}), json!([[]]), false),
        ],
    );
}

#[test]
fn starts_with_ends_with_and_contains_compare_text_exactly() {
    for (attribute, value, starts, ends, contains) in [
        ("abc", "abc", true, true, true),
        ("abc", "ab", true, false, true),
        ("abc", "bc", false, true, true),
        ("abc", "b", false, false, true),
        ("abc", "AB", false, false, false),
        ("abc", "abcd", false, false, false),
        ("abc", "", true, true, true),
        ("", "", true, true, true),
        ("", "a", false, false, false),
        ("Zoë", "ë", false, true, true),
        // The same letter in two code points.
        ("Zoe\u{308}", "ë", false, false, false),
    ] {
        for (op, expected) in [("startsWith", starts), ("endsWith", ends), ("contains", contains)] {
            assert_holds(op, &json!(attribute), &json!([value]), expected);
        }
    }
    for op in ["startsWith", "endsWith", "contains"] {
        assert_rows(
            op,
            [
                (json!("abc"), json!(["x", "abc"]), true),
                (json!("abc"), json!([]), false),
                (json!("1"), json!([1]), false),
                (json!(1), json!(["1"]), false),
                (json!(1), json!([1]), false),
                (json!(true), json!([""]), false),
                (json!({"a": "a"}), json!(["a"]), false),
                // A value of another type does not spoil its neighbours.
                (json!("1"), json!([1, null, "1"]), true),
            ],
        );
    }
}

#[test]
fn matches_finds_a_pattern_anywhere_in_a_text() {
    assert_rows(
        "matches",
        [
            (json!("hello"), json!(["ell"]), true),
            (json!("hello"), json!(["^ell"]), false),
            (json!("hello"), json!(["^h.*o$"]), true),
            (json!("hello"), json!(["HELLO"]), false),
            (json!("hello"), json!(["(?i)HELLO"]), true),
            (json!("hello"), json!(["x", "l{2}"]), true),
            (json!("hello"), json!([""]), true),
            (json!("hello"), json!([]), false),
            (json!("Zoë"), json!(["^Zo.$"]), true),
            (json!("a+b"), json!(["a\\+b"]), true),
            (json!("1"), json!([1]), false),
            (json!(1), json!(["1"]), false),
            (json!(true), json!(["true"]), false),
        ],
    );
}

#[test]
fn a_pattern_that_cannot_be_built_matches_nothing() {
    let huge = "[[:alpha:]]{1000}".repeat(100);
    let nested = format!("{}a{}", "(".repeat(500), ")".repeat(500));
    for bad in ["(", "[a", "a(?=b)", "(a)\\1", "*", huge.as_str(), nested.as_str()] {
        assert_holds("matches", &json!("ab"), &json!([bad]), false);
        assert_holds("matches", &json!("ab"), &json!([bad, "b"]), true);
    }
}

#[test]
fn comparisons_are_of_numbers() {
    for (left, right, less, equal) in [
        (json!(1), json!(2), true, false),
        (json!(2), json!(1), false, false),
        (json!(2), json!(2), false, true),
        (json!(2), json!(2.0), false, true),
        (json!(-1.5), json!(-1), true, false),
        (json!(0.1), json!(0.2), true, false),
        (json!(1e300), json!(1), false, false),
        (json!(i64::MIN), json!(u64::MAX), true, false),
    ] {
        for (op, expected) in [
            ("lessThan", less),
            ("lessThanOrEqual", less || equal),
            ("greaterThan", !less && !equal),
            ("greaterThanOrEqual", !less),
        ] {
            assert_holds(op, &left, &json!([right]), expected);
        }
    }
    for op in ["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"] {
        assert_rows(
            op,
            [
                (json!(1), json!([1, 0, 2]), true),
                (json!(1), json!([]), false),
                (json!("1"), json!([1, 0, 2]), false),
                (json!(1), json!(["1", "0", "2"]), false),
                (json!("1"), json!(["1", "0", "2"]), false),
                (json!(true), json!([0, 1, 2]), false),
                (json!({}), json!([0, 1, 2]), false),
                (json!(1), json!([null, "x", 0, 1, 2]), true),
            ],
        );
    }
}

#[test]
fn before_and_after_compare_points_in_time() {
    let noon = "2024-02-29T12:00:00Z";
    for (left, right, is_before, is_after) in [
        (json!("2024-02-29T11:59:59Z"), json!(noon), true, false),
        (json!(noon), json!(noon), false, false),
        (json!("2024-02-29T12:00:00.000000001Z"), json!(noon), false, true),
        // The same moment, said otherwise.
        (json!("2024-02-29T13:30:00+01:30"), json!(noon), false, false),
        (json!("2024-02-29t12:00:00.0z"), json!(noon), false, false),
        (json!("2024-02-29T11:59:60Z"), json!(noon), false, false),
        (json!("2024-02-30T12:00:00Z"), json!("2024-03-01T12:00:00Z"), false, false),
        (json!("2024-02-29T9:00:00Z"), json!(noon), true, false),
        // Numbers are milliseconds, whose fraction is cut off.
        (json!(1_709_208_000_000_i64), json!(noon), false, false),
        (json!(1_709_208_000_000.9), json!(noon), false, false),
        (json!(1_709_208_000_001_i64), json!(noon), false, true),
        (json!(noon), json!(1_709_208_000_001_i64), true, false),
        (json!(0), json!("1970-01-01T00:00:00Z"), false, false),
        (json!(-1), json!(0), true, false),
        // These are no points in time.
        (json!("2024-02-29"), json!("2030-01-01T00:00:00Z"), false, false),
        (json!("2024-02-29T12:00:00"), json!("2030-01-01T00:00:00Z"), false, false),
        (json!("2024-02-29 12:00:00Z"), json!("2030-01-01T00:00:00Z"), false, false),
        (json!("1709208000000"), json!("2030-01-01T00:00:00Z"), false, false),
        (json!(noon), json!("2030-01-01"), false, false),
        (json!(true), json!("2030-01-01T00:00:00Z"), false, false),
        (json!({}), json!(0), false, false),
    ] {
        assert_holds("before", &left, &json!([right]), is_before);
        assert_holds("after", &left, &json!([right]), is_after);
    }
    for op in ["before", "after"] {
        // Any value may be the one; others do not spoil it.
        let values = json!([null, "never", 0, "2030-01-01T00:00:00Z"]);
        assert_holds(op, &json!(noon), &values, true);
        assert_holds(op, &json!(noon), &json!([]), false);
        assert_holds(op, &json!([1, "x", noon]), &values, true);
    }
}

#[test]
fn versions_are_compared_by_precedence() {
    for (left, right, less, equal) in [
        ("2.0.0", "2.0.1", true, false),
        ("2.9.0", "2.10.0", true, false),
        ("2.0.0-rc.1", "2.0.0", true, false),
        ("2.0.0-rc.2", "2.0.0-rc.10", true, false),
        ("2.0.0-9", "2.0.0-a", true, false),
        ("2.0.0-rc", "2.0.0-rc.1", true, false),
        // Minor and patch may be missing, and build metadata does not count.
        ("2", "2.0.0", false, true),
        ("2.0", "2", false, true),
        ("2-rc.1", "2.0.0-rc.1", false, true),
        ("2.0+a", "2.0.0+b", false, true),
    ] {
        for (op, expected, mirrored) in [
            ("semVerEqual", equal, equal),
            ("semVerLessThan", less, false),
            ("semVerGreaterThan", !less && !equal, less),
        ] {
            assert_holds(op, &json!(left), &json!([right]), expected);
            assert_holds(op, &json!(right), &json!([left]), mirrored);
        }
    }
    for op in ["semVerEqual", "semVerLessThan", "semVerGreaterThan"] {
        for bad in ["", "v2", "02", "2.", "2.0.0.0", " 2", "2.0.0-01", "2-", "2.x"] {
            assert_holds(op, &json!(bad), &json!(["0", bad, "3"]), false);
        }
        assert_holds(op, &json!("2"), &json!([2, null, "v2", "02"]), false);
        assert_holds(op, &json!(2), &json!(["1", "2", "3"]), false);
        assert_holds(op, &json!("2"), &json!([null, "x", "1", "2", "3"]), true);
        assert_holds(op, &json!(["x", "2"]), &json!(["1", "2", "3"]), true);
    }
}

#[test]
fn an_operator_that_nobody_knows_never_holds() {
    for op in ["", "IN", "equals", "semVerLessThanOrEqual", "exists"] {
        assert!(!OPERATORS.contains(&op));
        assert_holds(op, &json!("a"), &json!(["a"]), false);
    }
}

#[test]
fn of_an_array_any_element_may_match() {
    assert_rows(
        "in",
        [
            (json!(["a", "b"]), json!(["b"]), true),
            (json!(["a", "b"]), json!(["c", "a"]), true),
            (json!(["a", "b"]), json!(["c"]), false),
            (json!([]), json!(["a"]), false),
            (json!([1, "a"]), json!([1.0]), true),
            (json!([null]), json!([null]), true),
            // One level only: elements are compared, not the array.
            (json!(["a"]), json!([["a"]]), false),
            (json!([["a"]]), json!(["a"]), false),
            (json!([["a"]]), json!([["a"]]), true),
            (json!([{"x": 1}]), json!([{"x": 1}]), true),
        ],
    );
    assert_holds("startsWith", &json!(["xa", "ab"]), &json!(["a"]), true);
    assert_holds("endsWith", &json!([1, "ab"]), &json!(["b"]), true);
    assert_holds("contains", &json!([["ab"]]), &json!(["a"]), false);
    assert_holds("matches", &json!(["x", "ab"]), &json!(["^a"]), true);
    assert_holds("greaterThan", &json!([1, 5]), &json!([4]), true);
    assert_holds("greaterThan", &json!([1, "5"]), &json!([4]), false);
}
