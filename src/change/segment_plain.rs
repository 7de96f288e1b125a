//! A segment in forms in which what means the same is the same.

use crate::change::segment_lists::add_keys;
use crate::change::segment_lists::merge_lists;
use crate::model::rule::Clause;
use crate::model::rule::USER_KIND;
use crate::model::rule::is_default;
use crate::model::rule::name_clauses;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;

/// Writes a segment with all that is understood where nothing is said, as a whole segment that is sent is read.
///
/// A segment that was imported or applied, was got and is put back as it was got has the same form as before.
pub fn full_segment(mut segment: Segment) -> Segment {
    for (users, others) in [
        (&mut segment.included, &mut segment.included_contexts),
        (&mut segment.excluded, &mut segment.excluded_contexts),
    ] {
        merge_lists(users, others);
        for keys in others.iter_mut().map(|list| &mut list.values).chain([users]) {
            let all = std::mem::take(keys);
            add_keys(keys, &all);
        }
        others.retain(|list| !list.values.is_empty());
    }
    segment.rules = segment.rules.into_iter().map(full_rule).collect();
    if !segment.unbounded {
        segment.unbounded_context_kind.clear();
        segment.generation = None;
    }
    segment
}

/// Writes a segment in full and in order: that of keys, lists and clauses means nothing.
pub(super) fn plain(segment: Segment) -> Segment {
    let mut segment = full_segment(segment);
    segment.included.sort_unstable();
    segment.excluded.sort_unstable();
    for lists in [&mut segment.included_contexts, &mut segment.excluded_contexts] {
        lists.sort_by(|a, b| a.context_kind.cmp(&b.context_kind));
        lists.iter_mut().for_each(|list| list.values.sort_unstable());
    }
    for rule in &mut segment.rules {
        rule.clauses.sort_by(|a, b| a.id.cmp(&b.id));
    }
    segment
}

/// Writes a rule with all that is understood where nothing is said.
pub(super) fn full_rule(mut rule: SegmentRule) -> SegmentRule {
    name_clauses(&mut rule.clauses);
    rule.clauses.iter_mut().for_each(fill_kind);
    if rule.bucket_by == "key" {
        rule.bucket_by.clear();
    }
    // Without a kind (old data) a name is a name, where it would be a path with one. Nobody is hashed if there is no share.
    let is_name = rule.weight_milli_pct.is_some() && rule.bucket_by.starts_with('/');
    if rule.rollout_context_kind.is_empty() && !is_name {
        USER_KIND.clone_into(&mut rule.rollout_context_kind);
    }
    rule.hash = rule.hash.filter(|hash| rule.weight_milli_pct.is_some() && !is_default(hash));
    rule
}

fn fill_kind(clause: &mut Clause) {
    let is_name = clause.op != "segmentMatch" && clause.attribute.starts_with('/');
    if clause.context_kind.is_empty() && !is_name {
        USER_KIND.clone_into(&mut clause.context_kind);
    }
}
