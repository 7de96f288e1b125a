//! Imports: what is refused, what is noted, and what becomes of what is there.

use crate::change::Import;
use crate::change::ImportPlan;
use crate::change::ImportScene;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::key::VariationKey;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::PATTERN_BYTES_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::limit::SEGMENTS_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::limit::VALUE_BYTES_MAX;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::rule::FlagConfig;
use crate::model::rule::RolloutHash;
use crate::model::segment::Segment;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// An environment that files are imported into.
#[derive(Default)]
struct World {
    definitions: BTreeMap<FlagKey, (FlagDefinition, bool)>,
    configs: BTreeMap<FlagKey, (FlagConfig, bool)>,
    segments: BTreeMap<SegmentKey, Segment>,
    used_elsewhere: BTreeSet<FlagKey>,
    n_ids: usize,
}

impl World {
    fn plan(&mut self, file: &Value, is_replacing: bool) -> ImportPlan {
        let scene = ImportScene {
            initial_salt: "p.e",
            definitions: &self.definitions,
            configs: &self.configs,
            segments: &self.segments,
            used_elsewhere: &self.used_elsewhere,
            is_replacing,
        };
        Import::read(file.clone()).unwrap().plan(&scene, &mut || {
            self.n_ids += 1;
            format!("new-{}", self.n_ids)
        })
    }

    /// Plans, and does what was planned.
    fn import(&mut self, file: &Value, is_replacing: bool) -> ImportPlan {
        let plan = self.plan(file, is_replacing);
        for definition in plan.created.iter().chain(&plan.redefined) {
            self.definitions.insert(definition.key.clone(), (definition.clone(), false));
        }
        for (key, config) in &plan.configs {
            self.configs.insert(key.clone(), (config.clone(), false));
        }
        for segment in &plan.segments {
            self.segments.insert(segment.key.clone(), segment.clone());
        }
        plan
    }
}

/// A flag of LaunchDarkly with these fields; otherwise it is on and serves its first variation to everyone.
fn flag(key: &str, fields: &Value) -> Value {
    let mut whole = json!({"key": key, "version": 7, "on": true, "salt": "s", "variations": [true, false],
        "offVariation": 1, "fallthrough": {"variation": 0}});
    for (name, value) in fields.as_object().unwrap() {
        whole[name.as_str()] = value.clone();
    }
    whole
}

fn with_flag(fields: &Value) -> Value {
    json!({"flags": {"f": flag("f", fields)}, "segments": {}})
}

fn with_segment(fields: &Value) -> Value {
    let mut segment = json!({"key": "s", "salt": "x", "version": 1});
    for (name, value) in fields.as_object().unwrap() {
        segment[name.as_str()] = value.clone();
    }
    json!({"flags": {}, "segments": {"s": segment}})
}

fn clause(op: &str, values: &Value) -> Value {
    json!({"contextKind": "user", "attribute": "a", "op": op, "values": values})
}

fn rule(clause: &Value) -> Value {
    json!({"id": "r", "variation": 0, "clauses": [clause]})
}

/// The notes of a plan, as path and code.
fn notes(plan: &ImportPlan) -> Vec<(&str, &str)> {
    plan.report.notes.iter().map(|note| (note.path.as_str(), note.code)).collect()
}

#[test]
fn everything_stays_as_it_is_in_the_file() {
    let rollout = json!({"kind": "experiment", "contextKind": "org", "seed": 61,
        "variations": [{"variation": 1, "weight": 30_000, "untracked": true}, {"variation": 0, "weight": 70_000}]});
    let file = json!({"flags": {"f": flag("f", &json!({
        "targets": [{"values": ["b", "a"], "variation": 1}],
        "contextTargets": [{"contextKind": "org", "values": ["z", "y"], "variation": 0}],
        "rules": [{"clauses": [clause("in", &json!([1, 1.5, null]))], "rollout": rollout}],
        "prerequisites": [{"key": "g", "variation": 0}], "salt": "abc", "trackEvents": true})),
        "g": flag("g", &json!({}))},
        "segments": {"s": {"key": "s", "included": ["u"], "rules": [{"weight": 5}]}}});
    let plan = World::default().plan(&file, false);
    assert_eq!(plan.report.flags.created, ["f", "g"]);
    assert_eq!(plan.report.segments.created, ["s"]);
    assert_eq!(notes(&plan), [("flags.f.trackEvents", "not_kept")]);
    let config = serde_json::to_value(&plan.configs[0].1).unwrap();
    let mut expected = rollout;
    expected["hash"] = json!("sha1");
    assert_eq!(config["rules"][0]["rollout"], expected);
    assert_eq!(config["rules"][0]["id"], "new-2", "rules without an id get one");
    assert_eq!(config["salt"], "abc");
    assert_eq!(config["targets"][0]["values"], json!(["b", "a"]));
    assert_eq!(config["contextTargets"][0]["values"], json!(["z", "y"]));
    let share = &plan.segments[0].rules[0];
    assert_eq!(
        (share.id.as_str(), serde_json::to_value(share.hash).unwrap()),
        ("new-1", json!("sha1"))
    );
    assert_eq!(plan.created[0].variation_name(0), "on");
}

#[test]
fn importing_twice_changes_nothing() {
    let rules = json!([{"clauses": [], "variation": 1}, {"id": "own", "variation": 0}]);
    let mut file = with_flag(&json!({"rules": rules}));
    file["segments"] = with_segment(&json!({"rules": [{"clauses": []}]}))["segments"].clone();
    let mut world = World::default();
    assert!(!world.import(&file, false).is_empty());
    // Names of people's own, which the file does not have, are no difference.
    let own = world.segments.values_mut().next().unwrap();
    own.name = "Beta testers".to_owned();
    world.definitions.values_mut().next().unwrap().0.name = "The flag".to_owned();
    for is_replacing in [false, true] {
        let again = world.import(&file, is_replacing);
        assert!(again.is_empty(), "{again:?}");
        assert_eq!(again.report.flags.unchanged, ["f"]);
        assert_eq!(again.report.segments.unchanged, ["s"]);
    }
    // A rule that is put before them leaves the others their ids as far as they can be told apart.
    file["flags"]["f"]["rules"][0]["variation"] = json!(0);
    let changed = world.import(&file, true);
    assert_eq!(changed.configs[0].1.rules[1].id, "own");
}

#[test]
fn what_differs_is_kept_unless_it_is_replaced() {
    let mut world = World::default();
    world.import(&with_flag(&json!({})), false);
    world.import(&with_segment(&json!({"included": ["u"]})), false);
    let file = json!({"flags": {"f": flag("f", &json!({"on": false}))},
        "segments": {"s": {"key": "s", "salt": "x", "excluded": ["u"]}}});
    let kept = world.plan(&file, false);
    assert!(kept.is_empty());
    assert_eq!(notes(&kept), [("segments.s", "taken"), ("flags.f", "taken")]);
    assert_eq!(
        (&kept.report.flags.refused, &kept.report.segments.refused),
        (&vec!["f".to_owned()], &vec!["s".to_owned()])
    );
    world.configs.values_mut().next().unwrap().1 = true;
    let replaced = world.import(&file, true);
    assert_eq!(notes(&replaced), [("flags.f", "kill_ended")]);
    assert_eq!(
        (replaced.report.flags.replaced.len(), replaced.report.segments.replaced.len()),
        (1, 1)
    );
    assert!(world.import(&file, true).is_empty());
}

#[test]
fn an_untouched_flag_is_configured_and_keeps_its_definition() {
    let body = json!({"key": "f", "name": "Mine", "kind": "boolean", "variations": [
        {"key": "yes", "value": true}, {"key": "no", "value": false}]});
    let own = FlagDefinition::decode(body).unwrap();
    let initial = FlagConfig::initial(&own, "p.e".to_owned());
    let mut world = World::default();
    world.definitions.insert(own.key.clone(), (own.clone(), false));
    world.configs.insert(own.key.clone(), (initial, false));
    let plan = world.plan(&with_flag(&json!({})), false);
    assert_eq!(plan.report.flags.configured, ["f"]);
    assert!(plan.created.is_empty() && plan.redefined.is_empty());
    assert_eq!(notes(&plan), [("flags.f.clientSideAvailability", "definition_kept")]);
    // Killed is not untouched.
    world.configs.values_mut().next().unwrap().1 = true;
    assert_eq!(world.plan(&with_flag(&json!({})), false).report.flags.refused, ["f"]);
    // Nor are other values.
    let other = with_flag(&json!({"variations": [1, 2]}));
    assert_eq!(notes(&world.plan(&other, false)), [("flags.f", "taken")]);
    let plan = world.plan(&other, true);
    assert_eq!((plan.redefined[0].name.as_str(), plan.report.flags.replaced.len()), ("Mine", 1));
    assert!(Import::read(other.clone()).unwrap().redefined(&world.definitions).eq([&own.key]));
    world.used_elsewhere.insert(own.key.clone());
    assert_eq!(notes(&world.plan(&other, true)), [("flags.f", "used_elsewhere")]);
    world.definitions.values_mut().next().unwrap().1 = true;
    assert_eq!(notes(&world.plan(&other, true)), [("flags.f", "key_taken")]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_stored_is_refused_alone() {
    let many = |n: usize, item: Value| Value::Array(vec![item; n]);
    let texts = |n: usize| Value::Array((0..n).map(|i| json!(i.to_string())).collect());
    let of_rule = |clause: Value| json!({"rules": [rule(&clause)]});
    for (fields, path, code) in [
        (json!({"variations": []}), "variations", "required"),
        (json!({"variations": 7}), "", "unreadable"),
        (json!({"salt": 7}), "", "unreadable"),
        (json!({"key": "g"}), "key", "key_differs"),
        (json!({"variations": many(VARIATIONS_MAX + 1, json!(1))}), "variations", "too_many"),
        (json!({"variations": ["x".repeat(VALUE_BYTES_MAX)]}), "variations[0]", "too_long"),
        (json!({"rules": many(RULES_MAX + 1, json!({"variation": 0}))}), "rules", "too_many"),
        (
            json!({"rules": [{"variation": 0, "clauses": many(CLAUSES_MAX + 1, clause("in", &json!([1])))}]}),
            "rules[0].clauses",
            "too_many",
        ),
        (
            of_rule(clause("in", &texts(CLAUSE_VALUES_MAX + 1))),
            "rules[0].clauses[0].values",
            "too_many",
        ),
        (of_rule(clause("matches", &texts(PATTERNS_MAX + 1))), "rules", "too_many"),
        (
            of_rule(clause("matches", &json!(["x".repeat(PATTERN_BYTES_MAX + 1)]))),
            "rules[0].clauses[0].values[0]",
            "too_long",
        ),
        (
            json!({"prerequisites": many(PREREQUISITES_MAX + 1, json!({"key": "g", "variation": 0}))}),
            "prerequisites",
            "too_many",
        ),
        (
            json!({"targets": [{"variation": 0, "values": texts(TARGET_KEYS_MAX + 1)}]}),
            "targets",
            "too_many",
        ),
        (
            json!({"targets": [{"variation": 0, "values": many(9_000, json!("x".repeat(30)))}]}),
            "",
            "too_large",
        ),
        (
            json!({"fallthrough": {"rollout": {"hash": "murmur3", "variations": [{"weight": 100_000}]}}}),
            "fallthrough.rollout.hash",
            "hash_not_served",
        ),
        (json!({"prerequisites": [{"key": "f", "variation": 0}]}), "", "cycle"),
    ] {
        let mut file = with_flag(&fields);
        file["flags"]["good"] = flag("good", &json!({}));
        let plan = World::default().plan(&file, false);
        let path = if path.is_empty() { "flags.f".to_owned() } else { format!("flags.f.{path}") };
        assert_eq!(notes(&plan), [(path.as_str(), code)], "{fields:.200}");
        assert_eq!(
            (&plan.report.flags.refused, &plan.report.flags.created),
            (&vec!["f".to_owned()], &vec!["good".to_owned()])
        );
    }
    for (fields, path, code) in [
        (json!({"included": texts(SEGMENT_KEYS_MAX + 1)}), "segments.s.included", "too_many"),
        (
            json!({"excludedContexts": [{"contextKind": "org", "values": texts(SEGMENT_KEYS_MAX + 1)}]}),
            "segments.s.excludedContexts[0].values",
            "too_many",
        ),
        (
            json!({"rules": many(RULES_MAX + 1, json!({"clauses": []}))}),
            "segments.s.rules",
            "too_many",
        ),
        (
            json!({"rules": [{"clauses": [], "weight": 1, "hash": "murmur3"}]}),
            "segments.s.rules[0].hash",
            "hash_not_served",
        ),
        (json!({"rules": 1}), "segments.s", "unreadable"),
        (
            json!({"rules": [{"clauses": [clause("segmentMatch", &json!(["s"]))]}]}),
            "segments.s",
            "cycle",
        ),
    ] {
        let plan = World::default().plan(&with_segment(&fields), false);
        assert_eq!(notes(&plan), [(path, code)]);
        assert_eq!(plan.report.segments.refused, ["s"]);
    }
    let plan = World::default().plan(&json!({"flags": {"a b": flag("a b", &json!({}))}}), false);
    assert_eq!(notes(&plan), [("flags.a b", "invalid_key")]);
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_makes_no_sense_in_places_is_kept_with_a_note() {
    let of_rule = |clause: Value| json!({"rules": [rule(&clause)]});
    let at = "rules[0].clauses[0]";
    let rollout = |rollout: Value| json!({"fallthrough": {"rollout": rollout}});
    for (fields, path, code, words) in [
        (
            of_rule(clause("isNear", &json!([1]))),
            format!("{at}.op"),
            "unknown_operator",
            "matches nobody",
        ),
        (
            of_rule(clause("matches", &json!(["ok", "(?!x)"]))),
            format!("{at}.values[1]"),
            "invalid_pattern",
            "passed over",
        ),
        (
            of_rule(clause("before", &json!(["yesterday"]))),
            format!("{at}.values[0]"),
            "value_type",
            "passed over",
        ),
        (
            of_rule(clause("semVerEqual", &json!(["x"]))),
            format!("{at}.values[0]"),
            "value_type",
            "passed over",
        ),
        (of_rule(clause("in", &json!([]))), format!("{at}.values"), "required", "matches nobody"),
        (
            of_rule(json!({"attribute": "", "op": "in", "values": [1]})),
            format!("{at}.attribute"),
            "invalid_attribute",
            "MALFORMED_FLAG",
        ),
        (
            of_rule(
                json!({"contextKind": "user", "attribute": "/a//b", "op": "in", "values": [1]}),
            ),
            format!("{at}.attribute"),
            "invalid_attribute",
            "MALFORMED_FLAG",
        ),
        (
            of_rule(clause("segmentMatch", &json!(["none"]))),
            format!("{at}.values[0]"),
            "unknown_segment",
            "nobody is in it",
        ),
        (
            json!({"prerequisites": [{"key": "none", "variation": 0}]}),
            "prerequisites[0].key".to_owned(),
            "unknown_flag",
            "never fulfilled",
        ),
        (
            json!({"prerequisites": [{"key": "g", "variation": 2}]}),
            "prerequisites[0].variation".to_owned(),
            "unknown_variation",
            "never fulfilled",
        ),
        (
            json!({"offVariation": 2}),
            "offVariation".to_owned(),
            "unknown_variation",
            "while the flag is off",
        ),
        (
            json!({"fallthrough": {"variation": -1}}),
            "fallthrough.variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (json!({"fallthrough": {}}), "fallthrough".to_owned(), "required", "MALFORMED_FLAG"),
        (
            json!({"targets": [{"values": ["u"], "variation": 9}]}),
            "targets[0].variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (
            json!({"rules": [{"id": "r", "variation": 9}]}),
            "rules[0].variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (
            rollout(json!({"variations": []})),
            "fallthrough.rollout.variations".to_owned(),
            "required",
            "MALFORMED_FLAG",
        ),
        (
            rollout(json!({"variations": [{"variation": 3, "weight": 100_000}]})),
            "fallthrough.rollout.variations[0].variation".to_owned(),
            "unknown_variation",
            "MALFORMED_FLAG",
        ),
        (
            rollout(json!({"variations": [{"variation": 0, "weight": 99_000}]})),
            "fallthrough.rollout.variations".to_owned(),
            "weights_sum",
            "what is missing",
        ),
        (
            rollout(
                json!({"contextKind": "user", "bucketBy": "//", "variations": [{"variation": 0, "weight": 100_000}]}),
            ),
            "fallthrough.rollout.bucketBy".to_owned(),
            "invalid_attribute",
            "MALFORMED_FLAG",
        ),
        (
            json!({"rules": [{"id": "r", "variation": 0}, {"id": "r", "variation": 0}]}),
            "rules[1].id".to_owned(),
            "duplicate_rule",
            "earlier rule",
        ),
        (
            json!({"variations": [{"a": 1}, null]}),
            "variations[1]".to_owned(),
            "variation_kind",
            "as it is",
        ),
    ] {
        let mut file = with_flag(&fields);
        file["flags"]["g"] = flag("g", &json!({}));
        let plan = World::default().plan(&file, false);
        assert_eq!(notes(&plan), [(format!("flags.f.{path}").as_str(), code)], "{fields}");
        assert!(plan.report.notes[0].detail.contains(words), "{}", plan.report.notes[0].detail);
        assert_eq!(plan.report.flags.created, ["f", "g"]);
    }
    // Old data, in which a name is a name.
    let plan = World::default().plan(
        &with_flag(&of_rule(json!({"attribute": "/a//b", "op": "in", "values": [1]}))),
        false,
    );
    assert_eq!(notes(&plan), []);
    let unbounded = json!({"unbounded": true, "generation": 1, "rules": [{"clauses": [clause("segmentMatch", &json!(["t"]))]}]});
    let plan = World::default().plan(&with_segment(&unbounded), false);
    let found = [
        ("segments.s.unbounded", "unbounded_segment"),
        ("segments.s.rules[0].clauses[0].values[0]", "unknown_segment"),
    ];
    assert_eq!(notes(&plan), found);
}

#[test]
fn what_asks_for_something_refused_says_so() {
    let asking = json!({"rules": [rule(&clause("segmentMatch", &json!(["s"])))], "prerequisites": [{"key": "g", "variation": 0}]});
    let mut file = with_flag(&asking);
    file["flags"]["g"] = flag("g", &json!({"variations": []}));
    file["segments"]["s"] = json!({"key": "s", "rules": 1});
    let refused = [("segments.s", "unreadable"), ("flags.g.variations", "required")];
    let plan = World::default().plan(&file, false);
    let missing = [
        ("flags.f.prerequisites[0].key", "unknown_flag"),
        ("flags.f.rules[0].clauses[0].values[0]", "unknown_segment"),
    ];
    assert_eq!(notes(&plan), [refused, missing].concat());
    let mut world = World::default();
    world.import(&with_segment(&json!({})), false);
    world.import(&json!({"flags": {"g": flag("g", &json!({}))}}), false);
    let plan = world.plan(&file, false);
    let other = [
        ("flags.f.prerequisites[0].key", "other_flag"),
        ("flags.f.rules[0].clauses[0].values[0]", "other_segment"),
    ];
    assert_eq!(notes(&plan), [refused, other].concat());
}

#[test]
fn segments_and_notes_are_bounded() {
    let segments: serde_json::Map<String, Value> = (0..=SEGMENTS_MAX)
        .map(|i| (format!("s{i}"), json!({"key": format!("s{i}"), "unbounded": true})))
        .collect();
    let plan = World::default().plan(&json!({"segments": segments}), false);
    assert_eq!(plan.report.segments.refused, [format!("s{SEGMENTS_MAX}")]);
    let (n_notes, n_more) = (plan.report.notes.len(), plan.report.n_more_notes);
    assert_eq!(plan.report.notes[0].code, "too_many", "what is refused comes first");
    assert_eq!((n_notes, i64::try_from(n_notes + n_more).unwrap()), (1_000, SEGMENTS_MAX + 1));
}

#[test]
fn what_the_go_sdk_reads_is_read() {
    let slices =
        json!([{"variation": 0, "weight": -5}, {"variation": 1, "weight": 5_000_000_000_u64}]);
    let rollout = json!({"hash": null, "seed": null, "variations": slices});
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    let rules = json!([{"id": "r", "variation": 0, "trackEvents": true}]);
    let mut file = with_flag(&json!({"fallthrough": {"rollout": rollout}, "rules": rules}));
    file["flags"]["deep"] = flag("deep", &json!({"variations": [deep, []]}));
    file["segments"]["s"] = json!({"key": "s", "rules": [{"weight": -1}]});
    let plan = World::default().plan(&file, false);
    assert_eq!(plan.report.flags.created, ["f", "deep"]);
    let read = &plan.configs[0].1.fallthrough.rollout.as_ref().unwrap();
    assert_eq!(read.hash, RolloutHash::Sha1);
    let weights: Vec<u32> = read.variations.iter().map(|slice| slice.weight_milli_pct).collect();
    assert_eq!(weights, [0, u32::MAX]);
    assert_eq!(plan.segments[0].rules[0].weight_milli_pct, Some(0));
    assert!(notes(&plan).contains(&("flags.f.rules[].trackEvents", "not_kept")));
}

#[test]
fn replacing_values_keeps_the_keys_of_those_that_stay() {
    let mut world = World::default();
    let texts = |values: &Value| with_flag(&json!({"variations": values}));
    world.import(&texts(&json!(["a", "b", "c"])), false);
    let (definition, _) = world.definitions.get_mut("f").unwrap();
    for (variation, key) in definition.variations.iter_mut().zip(["z", "own", "c"]) {
        variation.key = VariationKey::stored(key);
        variation.name = key.to_uppercase();
    }
    definition.defaults.on_variation = VariationKey::stored("own");
    definition.defaults.off_variation = VariationKey::stored("z");
    let plan = world.plan(&texts(&json!(["own", "b", "d", "c"])), true);
    assert_eq!(plan.report.flags.replaced, ["f"]);
    let variations = plan.redefined[0].variations.iter();
    let words: Vec<_> = variations.map(|each| (each.key.as_str(), each.name.as_str())).collect();
    assert_eq!(words, [("variation-0", ""), ("own", "OWN"), ("d", ""), ("c", "")]);
    let defaults = &plan.redefined[0].defaults;
    assert_eq!((defaults.on_variation.as_str(), defaults.off_variation.as_str()), ("own", "own"));
    assert_eq!(notes(&plan), [("flags.f.variations", "renamed_variations")]);
}

#[test]
fn values_that_another_flag_needs_are_not_replaced() {
    let mut world = World::default();
    let mut file = with_flag(&json!({}));
    file["flags"]["asking"] =
        flag("asking", &json!({"prerequisites": [{"key": "f", "variation": 0}]}));
    world.import(&file, false);
    let plan = world.plan(&with_flag(&json!({"variations": ["a", "b"]})), true);
    assert_eq!(notes(&plan), [("flags.f", "used_here")]);
    file["flags"]["f"] = flag("f", &json!({"variations": ["a", "b"]}));
    assert_eq!(world.plan(&file, true).report.flags.replaced, ["f"]);
}

#[test]
fn every_place_that_makes_no_sense_is_told() {
    let rules: Vec<Value> =
        (0..80).map(|i| json!({"id": format!("r-{i}"), "variation": 9})).collect();
    let plan = World::default().plan(&with_flag(&json!({"rules": rules})), false);
    assert_eq!(plan.report.notes.len(), 80);
}
