//! Which of the new flags or segments would refer to each other in a circle, or in a chain that is too long.
//!
//! They are refused alone, because one circle in an environment would refuse every later change of a reference.

use crate::change::cycle;
use crate::change::cycle::Refusal;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Rounds in which circles are taken apart one by one; after them, whatever still leads into one is refused.
const ROUNDS_MAX: usize = 10;

/// Finds those that are refused, with what is wrong.
///
/// `old` maps what is there to what it refers to, `new` what is to be added or replaced. A refused one leaves what is there as
/// it is.
pub(super) fn refusals<K: Ord + Clone + Borrow<str>>(
    old: &BTreeMap<K, Vec<K>>,
    new: BTreeMap<K, Vec<K>>,
) -> BTreeMap<K, Refusal> {
    let mut edges = old.clone();
    let mut candidates: Vec<K> = new.keys().cloned().collect();
    edges.extend(new);
    let mut refused = BTreeMap::new();
    // Circles first: what only leads into one is fine as soon as it is gone.
    for is_about_circles in [true, false] {
        for round in 0.. {
            let is_strict = round >= ROUNDS_MAX;
            let found = failing(&edges, &candidates, is_about_circles && !is_strict);
            if found.is_empty() {
                break;
            }
            candidates.retain(|key| !found.contains_key::<K>(key));
            for key in found.keys() {
                match old.get::<K>(key) {
                    Some(kept) => edges.insert(key.clone(), kept.clone()),
                    None => edges.remove::<K>(key),
                };
            }
            refused.extend(found);
        }
    }
    refused
}

/// The candidates to blame for what is wrong: all on a circle, and otherwise the one where a chain begins, or those next to it
/// if it begins at something that was there.
fn failing<K: Ord + Clone + Borrow<str>>(
    edges: &BTreeMap<K, Vec<K>>,
    candidates: &[K],
    is_about_circles: bool,
) -> BTreeMap<K, Refusal> {
    // Sorted, because they come from a map.
    let is_candidate = |key: &K| candidates.binary_search(key).is_ok();
    let mut found = BTreeMap::new();
    for (start, next) in edges {
        match cycle::check_from(edges, start) {
            Ok(()) => {}
            Err(Refusal::Circle(circle)) if is_about_circles => {
                let on_it = circle.iter().filter_map(|name| edges.get_key_value(name.as_str()));
                for (key, _) in on_it.filter(|(key, _)| is_candidate(key)) {
                    found.insert(key.clone(), Refusal::Circle(circle.clone()));
                }
            }
            Err(_) if is_about_circles => {}
            Err(refusal) if is_candidate(start) => {
                found.insert(start.clone(), refusal);
            }
            Err(refusal) => {
                let blamed = next.iter().filter(|key| is_candidate(key));
                found.extend(blamed.map(|key| (key.clone(), refusal.clone())));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::limit::DEPENDENCY_DEPTH_MAX;

    fn edges(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        list.iter().map(|(key, to)| ((*key).to_owned(), owned(to))).collect()
    }

    fn refused(old: &[(&str, &[&str])], new: &[(&str, &[&str])]) -> Vec<String> {
        refusals(&edges(old), edges(new)).into_keys().collect()
    }

    #[test]
    fn only_what_is_on_a_circle_is_refused() {
        let new: &[(&str, &[&str])] =
            &[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &["d"]), ("e", &["a", "d"])];
        assert_eq!(refused(&[], new), ["b", "c", "d"]);
        assert_eq!(refused(&[("a", &["b"])], &[("b", &["a"]), ("c", &["b"])]), ["b"]);
        // What is there counts as it will be.
        assert_eq!(refused(&[("a", &["b"]), ("b", &[])], &[("a", &[]), ("b", &["a"])]), [""; 0]);
    }

    #[test]
    fn a_chain_is_refused_where_it_is_too_long() {
        let chain = |from: usize, to: usize| -> BTreeMap<String, Vec<String>> {
            (from..to).map(|i| (format!("k{i:03}"), vec![format!("k{:03}", i + 1)])).collect()
        };
        let n = DEPENDENCY_DEPTH_MAX;
        assert!(refusals(&BTreeMap::new(), chain(0, n)).is_empty());
        let found: Vec<_> = refusals(&BTreeMap::new(), chain(0, n + 2)).into_iter().collect();
        let too_deep = |key: &str| (key.to_owned(), Refusal::TooDeep);
        assert_eq!(found, [too_deep("k000"), too_deep("k001")]);
        // It begins at what was there: the new one that makes it too long is refused.
        let found: Vec<_> = refusals(&chain(0, 1), chain(1, n + 1)).into_iter().collect();
        assert_eq!(found, [too_deep("k001")]);
    }
}
