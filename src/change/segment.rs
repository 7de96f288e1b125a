//! Reading and checking a segment that is to be stored.

use crate::change::cycle;
use crate::change::instruction::check_segments;
use crate::change::instruction::segments_of;
use crate::change::read;
use crate::change::segment_lists::add_list;
use crate::change::segment_lists::too_many_keys;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::flag::sorted_tags;
use crate::model::key::SegmentKey;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::CONTEXT_KINDS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::TEXT_CHARS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::ROLLOUT_HASHES;
use crate::model::rule::USER_KIND;
use crate::model::rule::WEIGHT_TOTAL;
use crate::model::rule::is_default;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use crate::model::segment::SegmentTarget;
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads the body that creates a segment, or (with `key` given by the path) replaces one.
///
/// `salt` is the segment's salt; `new_rule_id` makes the ids of rules that come without one.
///
/// # Errors
///
/// Every problem with the body, with paths from its root.
pub fn decode_segment(
    body: Value,
    key: Option<&SegmentKey>,
    salt: &str,
    new_rule_id: &mut dyn FnMut() -> String,
) -> Result<Segment, Problems> {
    let mut problems = Problems::default();
    let segment = object(body, "", &mut problems, |fields| {
        let key = match key {
            Some(key) => same_key(fields, key),
            None => fields.required_key("key", SegmentKey::parse),
        };
        let name = fields.name("name");
        let segment = Segment {
            key: key.clone().unwrap_or_else(|| SegmentKey::stored("")),
            name: name.or_else(|| key.as_ref().map(SegmentKey::to_string)).unwrap_or_default(),
            description: fields.text("description", TEXT_CHARS_MAX).unwrap_or_default(),
            tags: sorted_tags(fields.texts("tags", TAGS_MAX, NAME_CHARS_MAX)),
            included: fields.texts("included", SEGMENT_KEYS_MAX, CONTEXT_KEY_CHARS_MAX),
            excluded: fields.texts("excluded", SEGMENT_KEYS_MAX, CONTEXT_KEY_CHARS_MAX),
            included_contexts: context_lists(fields, "includedContexts"),
            excluded_contexts: context_lists(fields, "excludedContexts"),
            rules: read_rules(fields, new_rule_id),
            salt: salt.to_owned(),
            unbounded: false,
            unbounded_context_kind: String::new(),
            generation: None,
        };
        key.map(|_| segment)
    });
    let segment = segment.flatten();
    let rules = || segment.iter().flat_map(|segment| &segment.rules);
    for (i, rule) in rules().enumerate() {
        if rules().take(i).any(|earlier| earlier.id == rule.id) {
            let detail = format!("`{}` is the id of an earlier rule", rule.id);
            problems.add(format!("rules[{i}].id"), "duplicate_rule", detail);
        }
    }
    match segment {
        Some(segment) if problems.is_empty() => Ok(segment),
        _ => Err(problems),
    }
}

/// A body that replaces a segment may repeat its key, but not change it.
fn same_key(fields: &mut Fields<'_>, key: &SegmentKey) -> Option<SegmentKey> {
    match fields.text("key", NAME_CHARS_MAX) {
        Some(other) if other != key.as_str() => {
            fields.refuse("key", "immutable", "the key of a segment cannot be changed");
        }
        _ => {}
    }
    Some(key.clone())
}

/// Lists of the same kind are read as one, as those of a flag are.
fn context_lists(fields: &mut Fields<'_>, name: &'static str) -> Vec<SegmentTarget> {
    let mut lists = Vec::new();
    fields.list(name, CONTEXT_KINDS_MAX, |item, path, problems| {
        object(item, path, problems, |fields| {
            let context_kind = read::context_kind(fields, "contextKind");
            if context_kind == USER_KIND {
                // SDKs that evaluate themselves look for users there only.
                let detail = "name another kind; keys of users stand in `included` and `excluded`";
                fields.refuse("contextKind", "invalid_kind", detail);
            }
            let values = fields.texts("values", SEGMENT_KEYS_MAX, CONTEXT_KEY_CHARS_MAX);
            if add_list(&mut lists, SegmentTarget { context_kind, values }) > SEGMENT_KEYS_MAX {
                fields.refuse("values", "too_many", too_many_keys());
            }
        })
    });
    lists
}

fn read_rules(
    fields: &mut Fields<'_>,
    new_rule_id: &mut dyn FnMut() -> String,
) -> Vec<SegmentRule> {
    if read::has_too_many_patterns(fields, "rules") {
        fields.take("rules");
        return Vec::new();
    }
    fields.list("rules", RULES_MAX, |item, path, problems| {
        object(item, path, problems, |fields| read_rule(fields, new_rule_id))
    })
}

fn read_rule(fields: &mut Fields<'_>, new_rule_id: &mut dyn FnMut() -> String) -> SegmentRule {
    let id = fields.text("id", NAME_CHARS_MAX).filter(|id| !id.is_empty());
    let description = fields.text("description", NAME_CHARS_MAX).unwrap_or_default();
    let clauses = read::clauses(fields);
    let weight = fields.integer("weight", 0..=i64::from(WEIGHT_TOTAL));
    let bucket_by = read::bucket_by(fields, "bucketBy");
    let hash = fields.word("hash", ROLLOUT_HASHES);
    SegmentRule {
        id: id.unwrap_or_else(new_rule_id),
        description,
        clauses,
        weight_milli_pct: weight.and_then(|weight| u32::try_from(weight).ok()),
        bucket_by,
        rollout_context_kind: read::context_kind(fields, "rolloutContextKind"),
        hash,
    }
}

/// Gives each share of a segment the hash that its environment must have.
///
/// # Errors
///
/// One was asked for that the environment cannot have.
pub fn settle_hashes(segment: &mut Segment, server_sdk: ServerSdk) -> Result<(), Problems> {
    let mut problems = Problems::default();
    for (i, rule) in segment.rules.iter_mut().enumerate() {
        if !settle_hash(rule, server_sdk) {
            let path = format!("rules[{i}].hash");
            problems.add(path, "hash_not_served", read::hash_not_served());
        }
    }
    problems.into_result(())
}

/// Gives a rule's share the hash that its environment must have; returns whether the environment can have it.
pub(super) fn settle_hash(rule: &mut SegmentRule, server_sdk: ServerSdk) -> bool {
    let wanted = rule.hash.unwrap_or(server_sdk.default_hash());
    // A rule for everyone hashes nobody; the usual hash is not written.
    let is_told = rule.weight_milli_pct.is_some() && !is_default(&wanted);
    rule.hash = is_told.then_some(wanted);
    server_sdk.admits(wanted)
}

/// Checks that the segments which `segment` asks for exist, and that none asks for itself in a circle.
///
/// `others` maps each segment of the environment to those that it asks for.
///
/// # Errors
///
/// Every problem, with paths from the root of the segment.
pub fn check_segment_references(
    segment: &Segment,
    others: &BTreeMap<SegmentKey, Vec<SegmentKey>>,
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let mut edges = others.clone();
    let own = segments_of(segment.rules.iter().flat_map(|rule| &rule.clauses)).collect();
    edges.insert(segment.key.clone(), own);
    for (i, rule) in segment.rules.iter().enumerate() {
        let exists = |key: &str| edges.contains_key(key);
        check_segments(&rule.clauses, &format!("rules[{i}]"), exists, &mut problems);
    }
    if let Err(refusal) = cycle::check(&edges) {
        let (code, detail) = refusal.describe("segments");
        problems.add("rules", code, detail);
    }
    problems.into_result(())
}
