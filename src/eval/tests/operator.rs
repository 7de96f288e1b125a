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
