//! Imports: what becomes of what is in the file and of what is there.
//!
//! What is refused or makes no sense, place by place, is in `import_refused`.

use crate::change::Import;
use crate::change::ImportPlan;
use crate::change::ImportScene;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::key::VariationKey;
use crate::model::limit::SEGMENTS_MAX;
use crate::model::rule::FlagConfig;
use crate::model::rule::RolloutHash;
use crate::model::segment::Segment;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// An environment that files are imported into.
#[derive(Default)]
pub(super) struct World {
    definitions: BTreeMap<FlagKey, (FlagDefinition, bool)>,
    configs: BTreeMap<FlagKey, (FlagConfig, bool)>,
    segments: BTreeMap<SegmentKey, Segment>,
    used_elsewhere: BTreeSet<FlagKey>,
    n_ids: usize,
}

impl World {
    pub(super) fn plan(&mut self, file: &Value, is_replacing: bool) -> ImportPlan {
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
pub(super) fn flag(key: &str, fields: &Value) -> Value {
    let mut whole = json!({"key": key, "version": 7, "on": true, "salt": "s", "variations": [true, false],
        "offVariation": 1, "fallthrough": {"variation": 0}});
    for (name, value) in fields.as_object().unwrap() {
        whole[name.as_str()] = value.clone();
    }
    whole
}

pub(super) fn with_flag(fields: &Value) -> Value {
    json!({"flags": {"f": flag("f", fields)}, "segments": {}})
}

pub(super) fn with_segment(fields: &Value) -> Value {
    let mut segment = json!({"key": "s", "salt": "x", "version": 1});
    for (name, value) in fields.as_object().unwrap() {
        segment[name.as_str()] = value.clone();
    }
    json!({"flags": {}, "segments": {"s": segment}})
}

pub(super) fn clause(op: &str, values: &Value) -> Value {
    json!({"contextKind": "user", "attribute": "a", "op": op, "values": values})
}

pub(super) fn rule(clause: &Value) -> Value {
    json!({"id": "r", "variation": 0, "clauses": [clause]})
}

/// The notes of a plan, as path and code.
pub(super) fn notes(plan: &ImportPlan) -> Vec<(&str, &str)> {
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
        "prerequisites": [{"key": "g", "variation": 0}], "salt": "abc", "trackEvents": true,
        "trackEventsFallthrough": true, "debugEventsUntilDate": 1})),
        "g": flag("g", &json!({}))},
        "segments": {"s": {"key": "s", "included": ["u"], "rules": [{"weight": 5}]}}});
    let plan = World::default().plan(&file, false);
    assert_eq!(plan.report.flags.created, ["f", "g"]);
    assert_eq!(plan.report.segments.created, ["s"]);
    assert_eq!(notes(&plan), [("flags.f.debugEventsUntilDate", "not_kept")]);
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
    assert!(plan.configs[0].1.rules[0].track_events);
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
