//! The whole language: any list of instructions leads to a valid flag or to problems, and whoever is not meant gets what they had.

use crate::change::SEGMENT_INSTRUCTION_KINDS;
use crate::change::Uses;
use crate::change::apply_to_definition;
use crate::change::apply_to_segment;
use crate::change::decode_definition_instructions;
use crate::change::decode_segment_instructions;
use crate::change::tests::Surroundings;
use crate::change::tests::change;
use crate::change::tests::config;
use crate::change::tests::definition;
use crate::change::tests::listed;
use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::eval::compile;
use crate::eval::evaluate;
use crate::model::context::Context;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::problem::Problems;
use crate::model::rule::FlagConfig;
use crate::model::rule::WEIGHT_TOTAL;
use crate::model::segment::Segment;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A flag with two rules, targets and a prerequisite, whose clauses have no ids, as old data.
fn before() -> Value {
    let clause = |value: &str| json!({"attribute": "plan", "op": "in", "values": [value, "x"]});
    json!({
        "on": true,
        "targets": [{"variation": 0, "values": ["u1"]}],
        "rules": [
            {"id": "r1", "clauses": [clause("gold"), clause("x")], "variation": 2},
            {"id": "r2", "clauses": [clause("iron")], "rollout": {"contextKind": "user",
                "variations": [{"variation": 0, "weight": 50_000}, {"variation": 1, "weight": 50_000}]}},
        ],
    })
}

fn served(config: &FlagConfig, context: &Value) -> Option<usize> {
    let compiled = Arc::new(compile(&definition(), config, 1));
    let change =
        RulesetChange { flags: vec![(definition().key, Some(compiled))], segments: Vec::new() };
    let ruleset = Ruleset::default().with(1, 1, &change);
    let context = Context::decode(context.clone()).unwrap();
    evaluate(&ruleset, ruleset.flag("f").unwrap(), &context).variation.map(|(index, _)| index)
}

#[test]
fn clauses_of_old_data_have_ids_by_their_places_and_keep_them() {
    let removed = change(
        &before(),
        &json!([
            {"kind": "removeClauses", "ruleId": "r1", "clauseIds": ["clause-1"]},
            {"kind": "addClauses", "ruleId": "r1", "clauses": [
                {"attribute": "a", "op": "in", "values": [1]}]},
        ]),
    )
    .unwrap();
    let rule = &removed.config.rules[0];
    let ids: Vec<&str> = rule.clauses.iter().map(|clause| clause.id.as_str()).collect();
    assert_eq!(ids, ["clause-2", "new-1"]);
    let nothing = change(&before(), &json!([
        {"kind": "addValuesToClause", "ruleId": "r2", "clauseId": "clause-1", "values": ["iron"]},
    ]))
    .unwrap();
    assert_eq!((nothing.config, nothing.changes), (config(&before()), Vec::new()));
}

#[test]
fn rules_and_clauses_that_make_no_sense_are_refused() {
    for (instruction, expected) in [
        (json!({"kind": "reorderRules", "ruleIds": ["r1"]}), ("ruleIds", "rules_incomplete")),
        (json!({"kind": "reorderRules", "ruleIds": ["r1", "r1"]}), ("ruleIds", "rules_incomplete")),
        (
            json!({"kind": "updateRuleDescription", "ruleId": "r3", "description": "d"}),
            ("ruleId", "unknown_rule"),
        ),
        (
            json!({"kind": "removeClauses", "ruleId": "r1", "clauseIds": ["c"]}),
            ("clauseIds[0]", "unknown_clause"),
        ),
        (
            json!({"kind": "removeValuesFromClause", "ruleId": "r1", "clauseId": "clause-1", "values": ["gold", "x"]}),
            ("values", "required"),
        ),
        (
            json!({"kind": "updateClause", "ruleId": "r1", "clauseId": "clause-1",
                "clause": {"op": "segmentMatch", "values": ["none"]}}),
            ("clause.values[0]", "unknown_segment"),
        ),
        (
            json!({"kind": "replaceRules", "rules": [
                {"id": "r", "clauses": [], "variation": "on"}, {"id": "r", "clauses": [], "variation": "on"}]}),
            ("rules[1].id", "duplicate_rule"),
        ),
        (
            json!({"kind": "replacePrerequisites", "prerequisites": [
                {"key": "b", "variation": "yes"}, {"key": "b", "variation": "no"}]}),
            ("prerequisites[1].key", "duplicate_prerequisite"),
        ),
        (
            json!({"kind": "updatePrerequisite", "key": "b", "variation": "yes"}),
            ("key", "unknown_prerequisite"),
        ),
        (
            json!({"kind": "replaceTargets", "targets": [{"variation": "none", "values": ["u"]}]}),
            ("targets[0].variation", "unknown_variation"),
        ),
    ] {
        let problems = change(&before(), &json!([instruction])).unwrap_err();
        let path = format!("instructions[0].{}", expected.0);
        assert_eq!(listed(&problems), [(path.as_str(), expected.1)], "{instruction}: {problems}");
    }
}

#[test]
fn what_sdks_report_is_set_for_all_for_the_fallthrough_and_for_each_rule() {
    let rule_of = |id: &str| json!({"id": id, "clauses": [], "variation": "on"});
    let mut silent = rule_of("r1");
    silent["trackEvents"] = json!(false);
    let applied = change(
        &before(),
        &json!([
            {"kind": "updateTrackEvents", "trackEvents": true},
            {"kind": "updateTrackEventsFallthrough", "trackEvents": true},
            {"kind": "updateTrackEventsFallthrough", "trackEvents": true},
            {"kind": "updateRuleTrackEvents", "ruleId": "r1", "trackEvents": true},
            {"kind": "updateRuleTrackEvents", "ruleId": "r2", "trackEvents": true},
            {"kind": "replaceRules", "rules": [silent, rule_of("r2"), rule_of("r3")]},
            {"kind": "updateTrackEventsFallthrough", "trackEvents": false},
        ]),
    )
    .unwrap();
    assert_eq!(
        (applied.config.track_events, applied.config.track_events_fallthrough),
        (true, false)
    );
    let tracked: Vec<bool> = applied.config.rules.iter().map(|rule| rule.track_events).collect();
    assert_eq!(tracked, [false, true, false], "r1 says so, r2 goes on, r3 is new");
    assert_eq!(applied.changes.len(), 6);
    for (instruction, expected) in [
        (json!({"kind": "updateTrackEvents"}), ("trackEvents", "required")),
        (json!({"kind": "updateTrackEvents", "trackEvents": 1}), ("trackEvents", "wrong_type")),
        (
            json!({"kind": "updateRuleTrackEvents", "ruleId": "none", "trackEvents": true}),
            ("ruleId", "unknown_rule"),
        ),
    ] {
        let problems = change(&before(), &json!([instruction])).unwrap_err();
        let path = format!("instructions[0].{}", expected.0);
        assert_eq!(listed(&problems), [(path.as_str(), expected.1)], "{instruction}: {problems}");
    }
}

#[test]
fn a_rule_that_goes_on_keeps_whom_it_can() {
    let weights = json!({"on": 40_000, "off": 50_000, "beta": 10_000});
    for instruction in [
        json!({"kind": "updateRuleVariationOrRollout", "ruleId": "r2", "rolloutWeights": weights}),
        json!({"kind": "replaceRules", "rules": [{"id": "r2", "clauses": [], "rolloutWeights": weights}]}),
    ] {
        let applied = change(&before(), &json!([instruction])).unwrap();
        let [(id, moved)] = applied.rules_moved.as_slice() else { panic!("{applied:?}") };
        assert_eq!((id.as_str(), moved.moved_milli_pct), ("r2", 10_000));
        assert_eq!(moved.between, BTreeMap::from([((0, 2), 10_000)]));
        assert_eq!(applied.moved, None);
    }
}

/// Words that instructions of any kind may hold.
fn word() -> impl Strategy<Value = Value> {
    prop_oneof![
        proptest::sample::select(vec![
            "on", "off", "beta", "none", "r1", "r2", "clause-1", "clause-2", "u1", "user", "org",
            "b", "c", "yes", "gold", "x", "staff", "", "plan",
        ])
        .prop_map(Value::from),
        (0..=WEIGHT_TOTAL).prop_map(Value::from),
    ]
}

/// An instruction of any kind with any fields, some of which may be its own.
fn instruction() -> impl Strategy<Value = Value> {
    let kinds: Vec<&str> = crate::change::INSTRUCTION_KINDS.to_vec();
    let fields = (vec(word(), 8), vec(word(), 0..3), any::<u16>(), 0..=WEIGHT_TOTAL);
    (proptest::sample::select(kinds), fields).prop_map(|(kind, (words, values, mask, weight))| {
        let clause = json!({"attribute": words[4], "op": "in", "values": values});
        let serve = match mask % 2 {
            0 => ("variation", words[0].clone()),
            _ => ("rolloutWeights", json!({"on": weight, "beta": WEIGHT_TOTAL - weight})),
        };
        let rule = json!({"id": words[1], "clauses": [clause], (serve.0): serve.1});
        let target = json!({"variation": words[0], "values": values});
        let prerequisite = json!({"key": words[5], "variation": words[6]});
        let all = json!({
            (serve.0): serve.1, "ruleId": words[1], "clauseId": words[2], "values": values,
            "clauses": [clause], "clause": clause, "clauseIds": [words[2]], "key": words[5],
            "ruleIds": ["r2", "r1"], "rules": [rule], "targets": [target],
            "prerequisites": [prerequisite], "description": "d", "contextKind": "user",
            "trackEvents": mask % 3 == 0,
        });
        let own: &[&str] = match kind {
            "turnFlagOn" | "turnFlagOff" => &[],
            "updateFallthroughVariationOrRollout" => &[serve.0],
            "updateOffVariation" => &["variation"],
            "addRule" => &["clauses", serve.0],
            "removeRule" => &["ruleId"],
            "reorderRules" => &["ruleIds"],
            "replaceRules" => &["rules"],
            "updateRuleDescription" => &["ruleId", "description"],
            "updateRuleVariationOrRollout" => &["ruleId", serve.0],
            "updateRuleTrackEvents" => &["ruleId", "trackEvents"],
            "updateTrackEvents" | "updateTrackEventsFallthrough" => &["trackEvents"],
            "addClauses" => &["ruleId", "clauses"],
            "removeClauses" => &["ruleId", "clauseIds"],
            "updateClause" => &["ruleId", "clauseId", "clause"],
            "addValuesToClause" | "removeValuesFromClause" => &["ruleId", "clauseId", "values"],
            "replaceTargets" | "replaceUserTargets" => &["targets"],
            "clearTargets" => &["contextKind"],
            "clearUserTargets" => &["variation"],
            "addPrerequisite" | "updatePrerequisite" => &["key", "variation"],
            "removePrerequisite" => &["key"],
            "replacePrerequisites" => &["prerequisites"],
            _ => &["variation", "values"],
        };
        let mut instruction = json!({"kind": kind});
        for name in own {
            if let Some(value) = all.get(name) {
                instruction[*name] = value.clone();
            }
        }
        instruction
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_instructions_lead_to_a_valid_flag_or_to_problems(list in vec(instruction(), 0..6)) {
        let config = config(&before());
        match Surroundings::new().change(&config, &json!(list)) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(applied) => {
                crate::change::tests::property::assert_is_valid(&applied.config);
                prop_assert_eq!(applied.changes.is_empty(), applied.config == config);
                for rule in &applied.config.rules {
                    prop_assert!(rule.clauses.iter().all(|clause| !clause.values.is_empty()));
                }
                // The same again changes nothing that a rule is not added or removed by.
                let stored = serde_json::to_string(&applied.config).unwrap();
                prop_assert_eq!(serde_json::from_str::<FlagConfig>(&stored).unwrap(), applied.config);
            }
        }
    }

    #[test]
    fn who_reaches_no_rule_that_changes_gets_what_they_had(list in vec(instruction(), 0..6)) {
        let touches_rules = |each: &Value| {
            let kind = each["kind"].as_str().unwrap();
            kind.contains("Clause") || kind.starts_with("updateRule")
        };
        let list: Vec<Value> = list.into_iter().filter(touches_rules).collect();
        let config = config(&before());
        if let Ok(applied) = Surroundings::new().change(&config, &json!(list)) {
            // A target is served before any rule.
            let context = json!({"key": "u1", "plan": "gold"});
            prop_assert_eq!(served(&applied.config, &context), served(&config, &context));
        }
    }
}

#[test]
fn the_life_of_a_flag_has_its_order() {
    let apply = |instructions: Value, uses: &Uses| {
        let mut problems = Problems::default();
        let body = json!({"instructions": instructions});
        let list = object(body, "", &mut problems, decode_definition_instructions).unwrap();
        apply_to_definition(&definition(), uses, &problems.into_result(list)?)
    };
    let free = Uses::default();
    let archived =
        apply(json!([{"kind": "archiveFlag"}, {"kind": "updateName", "value": "n"}]), &free);
    assert_eq!(listed(&archived.unwrap_err()), [("instructions[1].kind", "archived")]);
    let back = apply(json!([{"kind": "archiveFlag"}, {"kind": "restoreFlag"}]), &free).unwrap();
    assert_eq!((back.definition, back.changes), (definition(), Vec::new()));
    let deleted = apply(json!([{"kind": "deleteFlag"}, {"kind": "makeFlagTemporary"}]), &free);
    assert_eq!(listed(&deleted.unwrap_err()), [("instructions[1]", "deleted")]);
    let needed =
        Uses { live_dependants: vec!["`b` in `production`".to_owned()], ..Uses::default() };
    for kind in ["archiveFlag", "deleteFlag"] {
        let refused = apply(json!([{"kind": kind}]), &needed).unwrap_err();
        assert_eq!(listed(&refused), [("instructions[0].kind", "in_use")]);
    }
    let many = Uses {
        live_dependants: (1..=15).map(|i| format!("`live-{i}`")).collect(),
        archived_dependants: (1..=7).map(|i| format!("`archived-{i}`")).collect(),
        ..Uses::default()
    };
    let detail = |kind: &str| {
        let refused = apply(json!([{"kind": kind}]), &many).unwrap_err();
        refused.as_slice()[0].detail.clone()
    };
    let all = detail("archiveFlag");
    assert!(all.contains("`live-1`, `live-2`, ") && all.contains("`live-15`; remove"), "{all}");
    let some = detail("deleteFlag");
    assert!(some.contains("`live-15`, `archived-1`, "), "{some}");
    assert!(some.contains("`archived-5` and 2 more; remove that first"), "{some}");
    let used = Uses { variations: [(2, "targets".to_owned())].into(), ..Uses::default() };
    let refused = apply(json!([{"kind": "removeVariation", "variation": "beta"}]), &used);
    assert_eq!(listed(&refused.unwrap_err()), [("instructions[0].variation", "in_use")]);
    let swapped = apply(
        json!([{"kind": "updateDefaultVariation", "onVariation": "off"},
            {"kind": "updateDefaultVariation", "offVariation": "off"},
            {"kind": "removeVariation", "variation": "on"}]),
        &used,
    )
    .unwrap();
    let mut config = config(&json!({"fallthrough": {"variation": 2}}));
    swapped.renumbering.unwrap().apply(&mut config);
    assert_eq!((config.fallthrough.variation, config.off_variation), (Some(1), Some(0)));
}

#[test]
fn every_kind_of_instruction_for_a_segment_can_be_read() {
    for kind in SEGMENT_INSTRUCTION_KINDS {
        let instruction = json!({
            "kind": kind, "value": "v", "values": ["u"], "ruleId": "r", "ruleIds": [],
            "clauses": [], "clauseIds": [], "clauseId": "c", "description": "d",
            "clause": {"attribute": "a", "op": "in", "values": [1]},
        });
        let mut problems = Problems::default();
        let body = json!({"instructions": [instruction]});
        object(body, "", &mut problems, decode_segment_instructions);
        let mut codes = problems.as_slice().iter().map(|problem| problem.code);
        assert!(codes.all(|code| code == "unknown_field"), "{kind}: {problems}");
    }
}

#[test]
fn a_segment_is_changed_step_by_step() {
    let stored = json!({"key": "s", "name": "s", "included": ["a"],
        "rules": [{"id": "r", "clauses": [{"attribute": "p", "op": "in", "values": [1]}]}]});
    let segment: Segment = serde_json::from_value(stored).unwrap();
    let apply = |instructions: Value| {
        let mut problems = Problems::default();
        let body = json!({"instructions": instructions});
        let list = object(body, "", &mut problems, decode_segment_instructions).unwrap();
        let exists = |key: &str| key == "staff";
        let mut new_id = || "new".to_owned();
        let list = problems.into_result(list)?;
        apply_to_segment(&segment, &exists, ServerSdk::None, &list, &mut new_id)
    };
    let (new, changes) = apply(json!([
        {"kind": "addIncludedTargets", "values": ["a", "b", "b"]},
        {"kind": "addIncludedTargets", "contextKind": "org", "values": ["o"]},
        {"kind": "addRule", "clauses": [{"op": "segmentMatch", "values": ["staff"]}], "weight": 5_000},
        {"kind": "reorderRules", "ruleIds": ["new", "r"]},
        {"kind": "addValuesToClause", "ruleId": "r", "clauseId": "clause-1", "values": [2]},
    ]))
    .unwrap();
    assert_eq!(new.included, ["a", "b"]);
    assert_eq!(new.included_contexts[0].values, ["o"]);
    assert_eq!(
        (new.rules[0].weight_milli_pct, new.rules[1].clauses[0].values.len()),
        (Some(5_000), 2)
    );
    assert_eq!(changes.len(), 5);
    let (same, changes) = apply(json!([{"kind": "addIncludedTargets", "values": ["a"]}])).unwrap();
    assert_eq!((same, changes), (segment.clone(), Vec::new()));
    for (instruction, code) in [
        (json!({"kind": "removeRule", "ruleId": "x"}), "unknown_rule"),
        (json!({"kind": "addRule", "id": "r", "clauses": []}), "duplicate_rule"),
        (json!({"kind": "reorderRules", "ruleIds": []}), "rules_incomplete"),
        (
            json!({"kind": "addRule", "clauses": [{"op": "segmentMatch", "values": ["x"]}]}),
            "unknown_segment",
        ),
    ] {
        let problems = apply(json!([instruction])).unwrap_err();
        assert_eq!(listed(&problems)[0].1, code, "{problems}");
    }
}
