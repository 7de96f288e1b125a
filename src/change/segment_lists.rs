//! The lists of keys of a segment: one for each kind of context, those of users apart.
//!
//! What edits them is in `segment_apply`.

use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::rule::USER_KIND;
use crate::model::segment::SegmentTarget;
use std::collections::BTreeSet;

/// Makes one list of all that have the same kind; those of no kind, or of users, go to the users.
///
/// Evaluation counts them all, so whoever edits one must not leave a key in another.
pub(super) fn merge_lists(users: &mut Vec<String>, others: &mut Vec<SegmentTarget>) {
    let kinds: BTreeSet<&str> = others.iter().map(|list| list.context_kind.as_str()).collect();
    if kinds.len() == others.len() && !others.iter().any(is_of_users) {
        return;
    }
    let mut merged = Vec::with_capacity(others.len());
    for list in std::mem::take(others) {
        if is_of_users(&list) {
            add_keys(users, &list.values);
        } else {
            add_list(&mut merged, list);
        }
    }
    *others = merged;
}

/// Adds a list to the one that there is of its kind; returns how many keys of that kind there are then.
pub(super) fn add_list(lists: &mut Vec<SegmentTarget>, list: SegmentTarget) -> usize {
    match lists.iter_mut().find(|other| other.context_kind == list.context_kind) {
        Some(other) => {
            add_keys(&mut other.values, &list.values);
            other.values.len()
        }
        None => {
            let n_keys = list.values.len();
            lists.push(list);
            n_keys
        }
    }
}

/// Adds keys, as far as they are not there.
pub(super) fn add_keys(keys: &mut Vec<String>, more: &[String]) {
    let mut known: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    let fresh = more.iter().filter(|key| known.insert(key.as_str()));
    let fresh: Vec<String> = fresh.cloned().collect();
    keys.extend(fresh);
}

/// The sentence for too many keys.
pub(super) fn too_many_keys() -> String {
    format!("a list can have at most {SEGMENT_KEYS_MAX} keys of one kind")
}

/// The kind of the contexts in a list; none named means `user`.
pub(super) fn kind_of(list: &SegmentTarget) -> &str {
    if list.context_kind.is_empty() { USER_KIND } else { &list.context_kind }
}

fn is_of_users(list: &SegmentTarget) -> bool {
    kind_of(list) == USER_KIND
}
