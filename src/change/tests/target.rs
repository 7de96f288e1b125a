//! Individual targets: a key is in one variation only, and both of LaunchDarkly's lists tell the same.

use crate::change::tests::assert_change;
use crate::change::tests::assert_refused;
use crate::change::tests::assert_unchanged;
use crate::change::tests::change;
use crate::model::limit::TARGET_KEYS_MAX;
use serde_json::Value;
use serde_json::json;

fn add(variation: &str, values: &[&str]) -> Value {
    json!({"kind": "addTargets", "variation": variation, "values": values})
}

fn remove(variation: &str, values: &[&str]) -> Value {
    json!({"kind": "removeTargets", "variation": variation, "values": values})
}

/// The same instruction for contexts of another kind.
fn of_kind(kind: &str, mut instruction: Value) -> Value {
    instruction["contextKind"] = json!(kind);
    instruction
}

/// An entry of `targets`.
fn users(values: &[&str], variation: i64) -> Value {
    json!({"values": values, "variation": variation})
}

/// An entry of `contextTargets`.
fn contexts(kind: &str, values: &[&str], variation: i64) -> Value {
    json!({"contextKind": kind, "values": values, "variation": variation})
}

#[test]
fn user_keys_are_added_and_removed() {
    let one = json!({"targets": [users(&["u1"], 0)]});
    let two = json!({"targets": [users(&["u1", "u2"], 0)]});
    let split = json!({"targets": [users(&["u1"], 0), users(&["u2"], 2)]});
    for (before, instruction, after, words) in [
        (&json!({}), add("on", &["u1"]), &one, "targeted 1 user key(s) to `on`"),
        (&one, add("on", &["u2"]), &two, "targeted 1 user key(s) to `on`"),
        (&one, add("on", &["u2", "u1"]), &two, "targeted 1 user key(s) to `on`"),
        (&json!({}), add("on", &["u2", "u1", "u2"]), &two, "targeted 2 user key(s) to `on`"),
        (&one, add("beta", &["u2"]), &split, "targeted 1 user key(s) to `beta`"),
        // From one variation to another: a key is in one only.
        (&two, add("beta", &["u2"]), &split, "targeted 1 user key(s) to `beta`"),
        (&split, add("on", &["u1", "u2"]), &two, "targeted 1 user key(s) to `on`"),
        (&two, remove("on", &["u2"]), &one, "removed 1 user key(s) from `on`"),
        (&two, remove("on", &["u3", "u2", "u2"]), &one, "removed 1 user key(s) from `on`"),
        (&two, remove("on", &["u1", "u2"]), &json!({}), "removed 2 user key(s) from `on`"),
        (
            &split,
            remove("on", &["u1"]),
            &json!({"targets": [users(&["u2"], 2)]}),
            "removed 1 user key(s) from `on`",
        ),
        (&one, of_kind("user", add("on", &["u2"])), &two, "targeted 1 user key(s) to `on`"),
    ] {
        assert_change(before, &json!([instruction]), after, &[words]);
    }
}

#[test]
fn instructions_for_users_leave_other_kinds_alone() {
    let before = json!({
        "targets": [users(&["u1"], 0), users(&["u2"], 1)],
        "contextTargets": [
            contexts("user", &[], 0), contexts("user", &[], 1), contexts("device", &["d1"], 0),
        ],
    });
    let devices = json!({"contextTargets": [contexts("device", &["d1"], 0)]});
    let one = json!({
        "targets": [users(&["u2"], 1)],
        "contextTargets": [contexts("user", &[], 1), contexts("device", &["d1"], 0)],
    });
    let other = json!({
        "targets": [users(&["u3"], 2)],
        "contextTargets": [contexts("user", &[], 2), contexts("device", &["d1"], 0)],
    });
    let u3 = json!([{"variation": "beta", "values": ["u3"]}]);
    let clear = |kind: &str| json!({"kind": kind});
    let clear_on = |kind: &str| json!({"kind": kind, "variation": "on"});
    for (instruction, after, words) in [
        (clear("clearUserTargets"), &devices, "removed 2 user key(s) from the targets"),
        (clear_on("clearUserTargets"), &one, "removed 1 user key(s) from the targets"),
        (
            json!({"kind": "replaceUserTargets", "targets": u3}),
            &other,
            "replaced all user targets by 1 key(s)",
        ),
        (
            json!({"kind": "replaceUserTargets", "targets": []}),
            &devices,
            "replaced all user targets by 0 key(s)",
        ),
        (
            clear("clearTargets"),
            &json!({}),
            "removed 1 device key(s), 2 user key(s) from the targets",
        ),
        (
            clear_on("clearTargets"),
            &json!({"targets": [users(&["u2"], 1)]}),
            "removed 1 device key(s), 1 user key(s) from the targets",
        ),
        (
            of_kind("device", clear("clearTargets")),
            &json!({"targets": [users(&["u1"], 0), users(&["u2"], 1)]}),
            "removed 1 device key(s) from the targets",
        ),
    ] {
        assert_change(&before, &json!([instruction]), after, &[words]);
    }
    assert_unchanged(&devices, &json!([clear("clearUserTargets")]));
}

#[test]
fn what_is_so_already_stays_as_it_is_even_if_it_is_out_of_order() {
    // Not as this server would write it.
    let before = json!({"targets": [
        users(&["u9", "u1"], 2), users(&[], 1), users(&["u5", "u9"], 0),
    ]});
    for instruction in [
        add("beta", &["u1", "u9"]),
        add("on", &["u5"]),
        add("on", &[]),
        remove("on", &[]),
        remove("off", &["u1"]),
        remove("on", &["u1", "nobody"]),
        // The first entry decides, so that `u9` has `beta`.
        remove("on", &["u9"]),
        of_kind("org", remove("on", &["u5"])),
    ] {
        assert_unchanged(&before, &json!([instruction]));
    }
    let after = json!({"targets": [users(&["u5"], 0), users(&["u2"], 1), users(&["u1", "u9"], 2)]});
    let words = ["targeted 1 user key(s) to `off`"];
    assert_change(&before, &json!([add("off", &["u2"])]), &after, &words);
}

#[test]
fn other_kinds_come_with_placeholders_for_users() {
    let user_only = json!({"targets": [users(&["u1"], 0), users(&["u2"], 2)]});
    let with_org = json!({
        "targets": [users(&["u1"], 0), users(&["u2"], 2)],
        "contextTargets": [
            contexts("user", &[], 0), contexts("user", &[], 2), contexts("org", &["o1"], 1),
        ],
    });
    let org_only = json!({"contextTargets": [contexts("org", &["o1"], 1)]});
    let to_org = of_kind("org", add("off", &["o1"]));
    let words = ["targeted 1 org key(s) to `off`"];
    assert_change(&user_only, &json!([to_org]), &with_org, &words);
    assert_change(&json!({}), &json!([to_org]), &org_only, &words);
    assert_unchanged(&with_org, &json!([to_org]));
    assert_unchanged(&with_org, &json!([add("on", &["u1"])]));
    // The first user key of a variation brings its placeholder, the last one takes it away.
    let added = json!({
        "targets": [users(&["u1"], 0)],
        "contextTargets": [contexts("user", &[], 0), contexts("org", &["o1"], 1)],
    });
    let words = ["targeted 1 user key(s) to `on`"];
    assert_change(&org_only, &json!([add("on", &["u1"])]), &added, &words);
    let words = ["removed 1 user key(s) from `on`"];
    assert_change(&added, &json!([remove("on", &["u1"])]), &org_only, &words);
    // Without other kinds there is no need for placeholders.
    let from_org = of_kind("org", remove("off", &["o1"]));
    let words = ["removed 1 org key(s) from `off`"];
    assert_change(&with_org, &json!([from_org]), &user_only, &words);
}

#[test]
fn keys_of_other_kinds_move_between_variations_too() {
    let before = json!({"contextTargets": [
        contexts("org", &["o1", "o2"], 0), contexts("device", &["o1"], 0),
    ]});
    let after = json!({"contextTargets": [
        contexts("device", &["o1"], 0), contexts("org", &["o2"], 0), contexts("org", &["o1"], 1),
    ]});
    let words = ["targeted 1 org key(s) to `off`"];
    assert_change(&before, &json!([of_kind("org", add("off", &["o1"]))]), &after, &words);
}

#[test]
fn users_among_the_other_kinds_become_users() {
    // Both ways of naming a user are allowed in stored data.
    let before =
        json!({"contextTargets": [contexts("", &["u1"], 0), contexts("user", &["u2"], 1)]});
    let after = json!({"targets": [users(&["u1", "u3"], 0), users(&["u2"], 1)]});
    let words = ["targeted 1 user key(s) to `on`"];
    assert_change(&before, &json!([add("on", &["u3"])]), &after, &words);
}

#[test]
fn the_number_of_targets_is_bounded() {
    let keys: Vec<String> = (1..TARGET_KEYS_MAX).map(|i| format!("u{i}")).collect();
    let before = json!({"targets": [{"values": keys, "variation": 0}]});
    let applied = change(&before, &json!([add("off", &["x"])])).unwrap();
    assert_eq!(applied.config.targets.len(), 2);
    let expected = [("instructions[0].values", "too_many")];
    assert_refused(&before, &json!([add("off", &["x", "y"])]), &expected);
    let expected = [("instructions[1].values", "too_many")];
    let instructions = json!([add("off", &["x"]), of_kind("org", add("off", &["x"]))]);
    assert_refused(&before, &instructions, &expected);
    // A full flag can still move keys and lose them.
    let instructions =
        json!([add("off", &["x"]), add("beta", &["x", "u1"]), remove("on", &["u2"])]);
    assert_eq!(change(&before, &instructions).unwrap().config.targets.len(), 2);
}
