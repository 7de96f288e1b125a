//! Switches, and what holds for several instructions at once.

use crate::change::INSTRUCTION_KINDS;
use crate::change::references;
use crate::change::tests::assert_change;
use crate::change::tests::assert_refused;
use crate::change::tests::assert_unchanged;
use crate::change::tests::change;
use crate::change::tests::decode;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::limit::PROBLEMS_MAX;
use crate::model::rule::WEIGHT_TOTAL;
use serde_json::Value;
use serde_json::json;

fn fallthrough(serve: &Value) -> Value {
    let mut instruction = serve.clone();
    instruction["kind"] = json!("updateFallthroughVariationOrRollout");
    instruction
}

#[test]
fn switches_do_what_they_say_and_nothing_if_it_is_so_already() {
    for (before, instruction, after, words) in [
        (
            json!({"on": false}),
            json!({"kind": "turnFlagOn"}),
            json!({"on": true}),
            "turned the flag on",
        ),
        (
            json!({"on": true}),
            json!({"kind": "turnFlagOff"}),
            json!({"on": false}),
            "turned the flag off",
        ),
        (
            json!({"offVariation": 1}),
            json!({"kind": "updateOffVariation", "variation": "beta"}),
            json!({"offVariation": 2}),
            "set the off variation to `beta`",
        ),
        (
            json!({"offVariation": null}),
            json!({"kind": "updateOffVariation", "variation": "on"}),
            json!({"offVariation": 0}),
            "set the off variation to `on`",
        ),
        (
            json!({"fallthrough": {"variation": 0}}),
            fallthrough(&json!({"variation": "off"})),
            json!({"fallthrough": {"variation": 1}}),
            "set the fallthrough to `off`",
        ),
        (
            json!({"fallthrough": {}}),
            fallthrough(&json!({"variation": "on"})),
            json!({"fallthrough": {"variation": 0}}),
            "set the fallthrough to `on`",
        ),
        (
            json!({"fallthrough": {"rollout": {"variations": [
                {"variation": 0, "weight": WEIGHT_TOTAL},
            ]}}}),
            fallthrough(&json!({"variation": "on"})),
            json!({"fallthrough": {"variation": 0}}),
            "set the fallthrough to `on`",
        ),
    ] {
        assert_change(&before, &json!([instruction]), &after, &[words]);
        assert_unchanged(&after, &json!([instruction]));
        assert_unchanged(&after, &json!([instruction, instruction]));
    }
    assert_unchanged(&json!({}), &json!([]));
}

#[test]
fn instructions_are_applied_in_order() {
    assert_change(
        &json!({}),
        &json!([
            {"kind": "turnFlagOn"},
            {"kind": "updateOffVariation", "variation": "on"},
            {"kind": "updateOffVariation", "variation": "beta"},
            {"kind": "addRule", "clauses": [], "variation": "beta"},
            {"kind": "removeRule", "ruleId": "new-1"},
            {"kind": "addTargets", "variation": "on", "values": ["u"]},
            {"kind": "addTargets", "variation": "off", "values": ["u"]},
        ]),
        &json!({"on": true, "offVariation": 2, "targets": [{"values": ["u"], "variation": 1}]}),
        &[
            "turned the flag on",
            "set the off variation to `on`",
            "set the off variation to `beta`",
            "added rule new-1 at position 1",
            "removed rule new-1 from position 1",
            "targeted 1 user key(s) to `on`",
            "targeted 1 user key(s) to `off`",
        ],
    );
}

#[test]
fn one_bad_instruction_refuses_them_all() {
    for bad in [
        json!({"kind": "updateOffVariation", "variation": "none"}),
        json!({"kind": "updateOffVariation"}),
    ] {
        let instructions = json!([{"kind": "turnFlagOn"}, bad, {"kind": "turnFlagOff"}]);
        let problems = change(&json!({}), &instructions).unwrap_err();
        assert_eq!(problems.as_slice()[0].path, "instructions[1].variation", "{bad}");
    }
}

#[test]
fn the_problems_of_all_instructions_are_reported_at_once() {
    assert_refused(
        &json!({}),
        &json!([
            {"kind": "updateOffVariation", "variation": "x"},
            {"kind": "turnFlagOn"},
            fallthrough(&json!({"variation": "y"})),
            fallthrough(&json!({"rolloutWeights": {"on": 50_000, "z": 20_000, "w": 30_000}})),
            {"kind": "addRule", "variation": "on", "beforeRuleId": "r9", "clauses": [
                {"op": "segmentMatch", "values": ["staff", "nobody"]},
                {"attribute": "x", "op": "in", "values": [1]},
                {"op": "segmentMatch", "values": ["no-one"]},
            ]},
            {"kind": "removeRule", "ruleId": "r9"},
            {"kind": "addTargets", "variation": "x", "values": ["u"]},
            {"kind": "removeTargets", "variation": "x", "values": ["u"]},
            {"kind": "addPrerequisite", "key": "none", "variation": "yes"},
            {"kind": "addPrerequisite", "key": "b", "variation": "maybe"},
            {"kind": "removePrerequisite", "key": "b"},
        ]),
        &[
            ("instructions[0].variation", "unknown_variation"),
            ("instructions[2].variation", "unknown_variation"),
            ("instructions[3].rolloutWeights.z", "unknown_variation"),
            ("instructions[3].rolloutWeights.w", "unknown_variation"),
            ("instructions[4].clauses[0].values[1]", "unknown_segment"),
            ("instructions[4].clauses[2].values[0]", "unknown_segment"),
            ("instructions[4].beforeRuleId", "unknown_rule"),
            ("instructions[5].ruleId", "unknown_rule"),
            ("instructions[6].variation", "unknown_variation"),
            ("instructions[7].variation", "unknown_variation"),
            ("instructions[8].key", "unknown_flag"),
            ("instructions[9].variation", "unknown_variation"),
            ("instructions[10].key", "unknown_prerequisite"),
        ],
    );
}

#[test]
fn the_list_of_problems_is_bounded() {
    let bad = json!({"kind": "updateOffVariation", "variation": "x"});
    let problems = change(&json!({}), &json!(vec![bad; PROBLEMS_MAX + 1])).unwrap_err();
    assert_eq!(problems.as_slice().len(), PROBLEMS_MAX);
}

#[test]
fn steps_that_undo_each_other_change_nothing() {
    for instructions in [
        json!([{"kind": "turnFlagOn"}, {"kind": "turnFlagOff"}]),
        json!([
            {"kind": "addRule", "variation": "on"},
            {"kind": "updateOffVariation", "variation": "beta"},
            {"kind": "removeRule", "ruleId": "new-1"},
            {"kind": "updateOffVariation", "variation": "off"},
        ]),
        json!([
            {"kind": "addTargets", "variation": "on", "values": ["u"]},
            {"kind": "removeTargets", "variation": "on", "values": ["u"]},
            {"kind": "addPrerequisite", "key": "b", "variation": "yes"},
            {"kind": "removePrerequisite", "key": "b"},
        ]),
    ] {
        assert_unchanged(&json!({}), &instructions);
    }
}

#[test]
fn what_moved_compares_before_all_instructions_with_after_them() {
    let half = fallthrough(&json!({"rolloutWeights": {"on": 50_000, "off": 50_000}}));
    let all = fallthrough(&json!({"rolloutWeights": {"on": WEIGHT_TOTAL}}));
    let slices = json!([{"variation": 0, "weight": WEIGHT_TOTAL}]);
    let rollout = json!({"contextKind": "user", "variations": slices});
    let before = json!({"fallthrough": {"rollout": rollout}});
    // There and back again.
    let applied = change(&before, &json!([half, all])).unwrap();
    assert_eq!(applied.moved.map_or(0, |moved| moved.moved_milli_pct), 0);
    // The rollout in between is nobody's.
    let fixed = fallthrough(&json!({"variation": "beta"}));
    let moved = change(&before, &json!([half, fixed])).unwrap().moved.unwrap();
    assert_eq!(moved.moved_milli_pct, WEIGHT_TOTAL);
    assert_eq!(moved.from, [(0, WEIGHT_TOTAL)].into());
    assert_eq!(moved.to, [(2, WEIGHT_TOTAL)].into());
}

#[test]
fn what_a_change_refers_to_is_known_before_it_is_applied() {
    let instructions = json!([
        {"kind": "turnFlagOn"},
        {"kind": "addPrerequisite", "key": "b", "variation": "yes"},
        {"kind": "removePrerequisite", "key": "c"},
        {"kind": "addRule", "variation": "on", "clauses": [
            {"op": "segmentMatch", "values": ["staff", "testers"]},
            {"attribute": "x", "op": "in", "values": ["no-segment"]},
            {"op": "segmentMatch", "values": ["staff"]},
        ]},
    ]);
    let references = references(&decode(&instructions).unwrap());
    assert_eq!(references.flags, [FlagKey::stored("b")].into());
    assert_eq!(references.segments, ["staff", "testers"].map(SegmentKey::stored).into());
}

#[test]
fn every_kind_of_instruction_can_be_read() {
    for kind in INSTRUCTION_KINDS {
        let instruction = json!({
            "kind": kind, "variation": "on", "values": ["u"], "ruleId": "r", "key": "b",
            "clauses": [], "ruleIds": [], "rules": [], "description": "d", "clauseIds": [],
            "clauseId": "c", "clause": {"attribute": "a", "op": "in", "values": [1]},
            "targets": [], "prerequisites": [], "trackEvents": true,
        });
        let problems = decode(&json!([instruction])).err().unwrap_or_default();
        // Nothing is missing, though some of the fields belong to other kinds.
        let mut codes = problems.as_slice().iter().map(|problem| problem.code);
        assert!(codes.all(|code| code == "unknown_field"), "{kind}: {problems}");
    }
}
