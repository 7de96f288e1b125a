//! Flags and segments as LaunchDarkly's server-side SDKs read them, each as one JSON object.
//!
//! Every field is written, also where it says nothing, because a parser that misses one drops all flags, not one. What
//! LaunchDarkly does not have (names, tags, keys of variations, hashes) is left out. Reading is in the module above.
//!
//! Source: LaunchDarkly's Go SDK, `ldmodel/model_serialization.go`.

use crate::model::change::Position;
use crate::model::flag::FlagDefinition;
use crate::model::rule::Clause;
use crate::model::rule::FlagConfig;
use crate::model::rule::Prerequisite;
use crate::model::rule::Rollout;
use crate::model::rule::RolloutKind;
use crate::model::rule::Rule;
use crate::model::rule::Slice;
use crate::model::rule::Target;
use crate::model::rule::VariationOrRollout;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use crate::model::segment::SegmentTarget;
use serde::Serialize;
use serde_json::Value;
use std::borrow::Cow;

/// By how much versions grow with an epoch: the most changes of one environment that a restored database may lack.
const EPOCH_STRIDE: i64 = 1 << 20;
/// Epochs with which versions grow; with more, versions would not be 32-bit integers, which some SDKs read.
const EPOCHS_MAX: i64 = 1_023;

/// The version by which SDKs tell what is newer, of something that last changed at `version`.
///
/// SDKs know no epochs, so each epoch begins above whatever was sent in the one before it: in the first, versions are those of
/// the environment; in the second, they are higher by 2^20; and so on.
pub fn wire_version(epoch: i64, version: i64) -> i64 {
    version.saturating_add(epoch.saturating_sub(1).clamp(0, EPOCHS_MAX) * EPOCH_STRIDE)
}

/// The version of an environment that a [`wire_version`] stands for, told by an SDK while the environment is at `epoch`; `None`
/// if it stands for none.
///
/// What was sent in an earlier epoch is told by being too low for a later one.
pub fn stored_version(epoch: i64, wire_version: i64) -> Option<i64> {
    let n_epochs = epoch.saturating_sub(1).clamp(0, EPOCHS_MAX);
    let n_below = wire_version.saturating_sub(1).div_euclid(EPOCH_STRIDE).clamp(0, n_epochs);
    (wire_version > 0).then(|| wire_version - n_below * EPOCH_STRIDE)
}

/// The version by which SDKs know everything that is there at a position.
pub fn wire_position(at: Position) -> i64 {
    wire_version(at.epoch, at.version)
}

/// Writes a flag.
pub fn write_flag(definition: &FlagDefinition, config: &FlagConfig, wire_version: i64) -> String {
    let availability = definition.client_side_availability;
    json(&WireFlag {
        key: definition.key.as_str(),
        version: wire_version,
        // What is archived is off, which those who evaluate by themselves cannot know otherwise.
        on: config.on && !definition.archived,
        deleted: false,
        prerequisites: &config.prerequisites,
        targets: config.targets.iter().map(WireTarget::of_users).collect(),
        context_targets: config.context_targets.iter().map(WireTarget::new).collect(),
        rules: config.rules.iter().map(WireRule::new).collect(),
        fallthrough: WireServe::new(&config.fallthrough),
        off_variation: config.off_variation,
        variations: definition.variations.iter().map(|variation| &variation.value).collect(),
        salt: &config.salt,
        client_side: availability.using_environment_id,
        client_side_availability: WireAvailability {
            using_mobile_key: availability.using_mobile_key,
            using_environment_id: availability.using_environment_id,
        },
        track_events: config.track_events,
        track_events_fallthrough: config.track_events_fallthrough,
        debug_events_until_date: None,
    })
}

/// Writes a segment; one whose keys LaunchDarkly keeps elsewhere as an ordinary one with the rules by which it is evaluated here.
///
/// SDKs would look for its keys in a database of their own, and Rust's does not know of such segments at all.
pub fn write_segment(segment: &Segment, wire_version: i64) -> String {
    if segment.unbounded {
        return write_segment(&ordinary(segment), wire_version);
    }
    json(&WireSegment {
        key: segment.key.as_str(),
        version: wire_version,
        deleted: false,
        included: &segment.included,
        excluded: &segment.excluded,
        included_contexts: segment.included_contexts.iter().map(WireKeys::new).collect(),
        excluded_contexts: segment.excluded_contexts.iter().map(WireKeys::new).collect(),
        rules: segment.rules.iter().map(WireSegmentRule::new).collect(),
        salt: &segment.salt,
        unbounded: false,
        generation: None,
    })
}

/// What an unbounded segment is without its keys: its rules, for contexts that have the kind whose keys are elsewhere.
fn ordinary(segment: &Segment) -> Segment {
    let has_kind = Clause {
        context_kind: kind_or_user(&segment.unbounded_context_kind).to_owned(),
        attribute: "key".to_owned(),
        // Every key does.
        op: "startsWith".to_owned(),
        values: vec![Value::from("")],
        ..Clause::default()
    };
    let rule = |rule: &SegmentRule| {
        let clauses = std::iter::once(&has_kind).chain(&rule.clauses).cloned().collect();
        SegmentRule { clauses, ..rule.clone() }
    };
    // Without a generation nobody could know its keys, and nobody is in it.
    let rules = segment.rules.iter().filter(|_| segment.generation.is_some());
    Segment {
        unbounded: false,
        included: Vec::new(),
        excluded: Vec::new(),
        included_contexts: Vec::new(),
        excluded_contexts: Vec::new(),
        rules: rules.map(rule).collect(),
        ..segment.clone()
    }
}

fn json(body: &impl Serialize) -> String {
    // OK because texts, numbers and lists of them always have a JSON form.
    serde_json::to_string(body).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireFlag<'a> {
    key: &'a str,
    version: i64,
    on: bool,
    deleted: bool,
    prerequisites: &'a [Prerequisite],
    targets: Vec<WireTarget<'a>>,
    context_targets: Vec<WireTarget<'a>>,
    rules: Vec<WireRule<'a>>,
    fallthrough: WireServe<'a>,
    off_variation: Option<i64>,
    variations: Vec<&'a Value>,
    salt: &'a str,
    client_side: bool,
    client_side_availability: WireAvailability,
    track_events: bool,
    track_events_fallthrough: bool,
    debug_events_until_date: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireAvailability {
    using_mobile_key: bool,
    using_environment_id: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireTarget<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    context_kind: Option<&'a str>,
    values: &'a [String],
    variation: i64,
}

impl<'a> WireTarget<'a> {
    fn new(target: &'a Target) -> Self {
        Self { context_kind: Some(kind_or_user(&target.context_kind)), ..Self::of_users(target) }
    }

    fn of_users(target: &'a Target) -> Self {
        Self { context_kind: None, values: &target.values, variation: target.variation }
    }
}

/// The variation wins over the rollout where both are there; where neither is, the flag is malformed there as here.
#[derive(Serialize)]
struct WireServe<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    variation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rollout: Option<WireRollout<'a>>,
}

impl<'a> WireServe<'a> {
    fn new(serve: &'a VariationOrRollout) -> Self {
        let rollout = serve.rollout.as_ref().filter(|_| serve.variation.is_none());
        Self { variation: serve.variation, rollout: rollout.map(WireRollout::new) }
    }
}

/// An empty kind is left out, because it makes `bucketBy` a plain name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireRollout<'a> {
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    context_kind: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    bucket_by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    variations: Vec<WireSlice>,
}

#[derive(Serialize)]
struct WireSlice {
    variation: i64,
    weight: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    untracked: bool,
}

impl<'a> WireRollout<'a> {
    fn new(rollout: &'a Rollout) -> Self {
        let slice = |slice: &Slice| WireSlice {
            variation: slice.variation,
            weight: slice.weight_milli_pct,
            untracked: slice.untracked,
        };
        Self {
            kind: match rollout.kind {
                RolloutKind::Rollout => "rollout",
                RolloutKind::Experiment => "experiment",
            },
            context_kind: &rollout.context_kind,
            bucket_by: &rollout.bucket_by,
            seed: rollout.seed,
            variations: slices_to_send(&rollout.variations).map(slice).collect(),
        }
    }
}

/// The slices without those in which nobody is; the last one gets whoever is left, so it stays.
///
/// Python's and Java's SDKs put who lacks the kind of context that is divided into the first slice, be it empty.
fn slices_to_send(slices: &[Slice]) -> impl Iterator<Item = &Slice> {
    let i_last = slices.len().saturating_sub(1);
    let is_sent = move |(i, slice): &(usize, &Slice)| slice.weight_milli_pct > 0 || *i == i_last;
    slices.iter().enumerate().filter(is_sent).map(|(_, slice)| slice)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireRule<'a> {
    id: &'a str,
    clauses: &'a [Clause],
    #[serde(flatten)]
    serve: WireServe<'a>,
    track_events: bool,
}

impl<'a> WireRule<'a> {
    fn new(rule: &'a Rule) -> Self {
        Self {
            id: &rule.id,
            clauses: &rule.clauses,
            serve: WireServe::new(&rule.serve),
            track_events: rule.track_events,
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSegment<'a> {
    key: &'a str,
    version: i64,
    deleted: bool,
    included: &'a [String],
    excluded: &'a [String],
    included_contexts: Vec<WireKeys<'a>>,
    excluded_contexts: Vec<WireKeys<'a>>,
    rules: Vec<WireSegmentRule<'a>>,
    salt: &'a str,
    unbounded: bool,
    generation: Option<i64>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireKeys<'a> {
    context_kind: &'a str,
    values: &'a [String],
}

impl<'a> WireKeys<'a> {
    fn new(target: &'a SegmentTarget) -> Self {
        Self { context_kind: kind_or_user(&target.context_kind), values: &target.values }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSegmentRule<'a> {
    id: &'a str,
    clauses: Cow<'a, [Clause]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weight: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    bucket_by: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    rollout_context_kind: &'a str,
}

impl<'a> WireSegmentRule<'a> {
    fn new(rule: &'a SegmentRule) -> Self {
        Self {
            id: &rule.id,
            clauses: clauses_to_send(rule),
            weight: rule.weight_milli_pct,
            bucket_by: &rule.bucket_by,
            rollout_context_kind: &rule.rollout_context_kind,
        }
    }
}

/// The clauses of a rule, and if it takes a share of contexts, one more, which those without such a context do not match.
///
/// Python's, Java's, Node.js's and Rust's SDKs take them into the share. Go's refuses them, as the server does.
/// A negated clause matches whoever has the attribute, if nothing matches it.
fn clauses_to_send(rule: &SegmentRule) -> Cow<'_, [Clause]> {
    if rule.weight_milli_pct.is_none() {
        return Cow::Borrowed(&rule.clauses);
    }
    let has_kind = Clause {
        context_kind: kind_or_user(&rule.rollout_context_kind).to_owned(),
        attribute: "key".to_owned(),
        op: "in".to_owned(),
        negate: true,
        ..Clause::default()
    };
    Cow::Owned(rule.clauses.iter().cloned().chain([has_kind]).collect())
}

/// Rust's SDK refuses an empty kind here, and means `user` where none is named.
fn kind_or_user(kind: &str) -> &str {
    if kind.is_empty() { crate::model::rule::USER_KIND } else { kind }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::key::SegmentKey;
    use serde_json::json;

    fn sorted_keys(value: &Value) -> Vec<&str> {
        let mut keys: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        keys
    }

    #[test]
    fn a_flag_has_every_field_that_any_parser_needs() {
        let definition: FlagDefinition =
            serde_json::from_value(json!({"key": "f", "name": "F", "kind": "number",
            "variations": [{"key": "a", "value": 10.0}, {"key": "b", "value": 10}],
            "defaults": {"onVariation": "a", "offVariation": "b"}}))
            .unwrap();
        let written = write_flag(&definition, &FlagConfig::default(), 7);
        let expected = [
            "clientSide",
            "clientSideAvailability",
            "contextTargets",
            "debugEventsUntilDate",
            "deleted",
            "fallthrough",
            "key",
            "offVariation",
            "on",
            "prerequisites",
            "rules",
            "salt",
            "targets",
            "trackEvents",
            "trackEventsFallthrough",
            "variations",
            "version",
        ];
        let read: Value = serde_json::from_str(&written).unwrap();
        assert_eq!(sorted_keys(&read), expected);
        assert!(written.contains(r#""variations":[10.0,10]"#), "{written}");
        assert!(written.contains(r#""version":7,"#), "{written}");

        let config: FlagConfig = serde_json::from_value(json!({
            "trackEvents": true, "trackEventsFallthrough": true,
            "rules": [{"id": "r", "description": "for people", "trackEvents": true, "clauses": [{"attribute": "", "op": "segmentMatch", "values": ["s"]}],
                "rollout": {"hash": "sha1", "contextKind": "user", "bucketBy": "/a/b", "seed": 61,
                    "variations": [{"variation": 0, "weight": 40000}, {"variation": 1, "weight": 60000, "untracked": true}]}}],
            "contextTargets": [{"values": [], "variation": 1}]}))
        .unwrap();
        let read: Value = serde_json::from_str(&write_flag(&definition, &config, 7)).unwrap();
        assert_eq!(
            read["rules"],
            json!([{"id": "r", "clauses": [{"attribute": "", "op": "segmentMatch", "values": ["s"], "negate": false}],
                "rollout": {"kind": "rollout", "contextKind": "user", "bucketBy": "/a/b", "seed": 61,
                    "variations": [{"variation": 0, "weight": 40000}, {"variation": 1, "weight": 60000, "untracked": true}]},
                "trackEvents": true}])
        );
        assert_eq!(read["trackEvents"], true);
        assert_eq!(read["trackEventsFallthrough"], true);
        assert_eq!(read["contextTargets"][0]["contextKind"], "user");
    }

    #[test]
    fn a_segment_has_every_field_that_any_parser_needs() {
        let key = SegmentKey::stored("s");
        let segment: Segment = serde_json::from_value(json!({"key": key, "name": "S",
            "rules": [{"clauses": [], "weight": 10_000, "hash": "sha1"}]}))
        .unwrap();
        let read: Value = serde_json::from_str(&write_segment(&segment, 3)).unwrap();
        let expected = [
            "deleted",
            "excluded",
            "excludedContexts",
            "generation",
            "included",
            "includedContexts",
            "key",
            "rules",
            "salt",
            "unbounded",
            "version",
        ];
        assert_eq!(sorted_keys(&read), expected);
        let rule = &read["rules"][0];
        assert_eq!((&rule["id"], &rule["weight"]), (&json!(""), &json!(10_000)));
    }

    #[test]
    fn who_lacks_the_kind_that_is_divided_is_in_no_share_for_any_sdk() {
        let segment: Segment = serde_json::from_value(json!({"key": "s", "name": "S", "rules": [
            {"clauses": [], "weight": 10_000, "rolloutContextKind": "org"},
            {"clauses": [{"attribute": "a", "op": "in", "values": [1]}], "weight": 0},
            {"clauses": []}]}))
        .unwrap();
        let read: Value = serde_json::from_str(&write_segment(&segment, 3)).unwrap();
        let has = |kind: &str| json!({"contextKind": kind, "attribute": "key", "op": "in", "values": [], "negate": true});
        assert_eq!(read["rules"][0]["clauses"], json!([has("org")]));
        let own = json!({"attribute": "a", "op": "in", "values": [1], "negate": false});
        assert_eq!(read["rules"][1]["clauses"], json!([own, has("user")]));
        assert_eq!(read["rules"][2]["clauses"], json!([]));
    }

    #[test]
    fn slices_without_anybody_are_not_sent_unless_they_get_who_is_left() {
        let sent = |weights: &[u32]| -> Vec<i64> {
            let slice = |(i, weight)| Slice {
                variation: i64::try_from(i).unwrap(),
                weight_milli_pct: weight,
                untracked: false,
            };
            let slices: Vec<_> = weights.iter().copied().enumerate().map(slice).collect();
            slices_to_send(&slices).map(|slice| slice.variation).collect()
        };
        assert_eq!(sent(&[0, 30_000, 0, 70_000]), [1, 3]);
        assert_eq!(sent(&[0, 30_000, 0]), [1, 2]);
        assert_eq!(sent(&[0, 0]), [1]);
        assert_eq!(sent(&[]), [] as [i64; 0]);
    }

    #[test]
    fn versions_grow_over_epochs_and_stay_32_bit_integers() {
        assert_eq!(wire_version(0, 5), 5);
        assert_eq!(wire_version(1, 5), 5);
        // A database that was restored to version 1 after a million changes still sends higher ones.
        assert!(wire_version(2, 1) > wire_version(1, 1_000_000));
        assert!(wire_version(i64::MAX, 1_000_000_000) <= i64::from(i32::MAX));
    }

    #[test]
    fn a_version_that_was_sent_is_known_again() {
        for epoch in [0, 1, 2, 7, 1_024, 2_000, i64::MAX] {
            for version in [1, 2, 1_000, EPOCH_STRIDE, EPOCH_STRIDE + 5] {
                let sent = wire_version(epoch, version);
                assert_eq!(stored_version(epoch, sent), Some(version), "{epoch} {version}");
            }
        }
        // By an SDK that has not heard of the epoch yet.
        assert_eq!(stored_version(3, wire_version(2, 9)), Some(9));
        assert_eq!(stored_version(3, wire_version(1, 9)), Some(9));
        for none in [0, -1, i64::MIN] {
            assert_eq!(stored_version(2, none), None);
        }
    }
}
