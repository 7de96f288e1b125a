//! Whether things that refer to each other do so in a circle, or in a chain that is too long.

use crate::model::limit::DEPENDENCY_DEPTH_MAX;
use crate::model::limit::DEPENDENCY_NODES_MAX;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Why a new reference is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The circle, its first key at both ends.
    Circle(Vec<String>),
    /// A chain of references is longer than [`DEPENDENCY_DEPTH_MAX`].
    TooDeep,
    /// One evaluation would visit more than [`DEPENDENCY_NODES_MAX`] things.
    TooMany,
}

impl Refusal {
    /// The stable code and the sentence for people; `what` are the things, in the plural.
    pub(crate) fn describe(&self, what: &str) -> (&'static str, String) {
        match self {
            Self::Circle(keys) => (
                "cycle",
                format!("{what} would refer to each other in a circle: {}", keys.join(" → ")),
            ),
            Self::TooDeep => (
                "too_deep",
                format!("{what} would be chained more than {DEPENDENCY_DEPTH_MAX} deep"),
            ),
            Self::TooMany => (
                "too_many",
                format!("one evaluation would visit more than {DEPENDENCY_NODES_MAX} {what}"),
            ),
        }
    }
}

/// Checks every chain of references; `edges` maps each thing to those that it refers to.
pub(crate) fn check<K: Ord + Borrow<str>>(edges: &BTreeMap<K, Vec<K>>) -> Result<(), Refusal> {
    edges.keys().try_for_each(|start| check_from(edges, start))
}

/// Checks the chains of references that begin at `start`.
fn check_from<K: Ord + Borrow<str>>(edges: &BTreeMap<K, Vec<K>>, start: &K) -> Result<(), Refusal> {
    let mut n_visited = 0;
    walk(edges, start, &mut Vec::new(), &mut n_visited)
}

/// Walks as an evaluation does, without remembering what it has seen: a diamond counts twice, as it costs twice.
fn walk<'e, K: Ord + Borrow<str>>(
    edges: &'e BTreeMap<K, Vec<K>>,
    key: &'e K,
    path: &mut Vec<&'e str>,
    n_visited: &mut usize,
) -> Result<(), Refusal> {
    *n_visited += 1;
    if *n_visited > DEPENDENCY_NODES_MAX {
        return Err(Refusal::TooMany);
    }
    let name: &str = key.borrow();
    if let Some(position) = path.iter().position(|visited| *visited == name) {
        let circle = path.iter().skip(position).copied().chain([name]);
        return Err(Refusal::Circle(circle.map(str::to_owned).collect()));
    }
    if path.len() > DEPENDENCY_DEPTH_MAX {
        return Err(Refusal::TooDeep);
    }
    path.push(name);
    for next in edges.get(name).into_iter().flatten() {
        walk(edges, next, path, n_visited)?;
    }
    path.pop();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let owned = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        list.iter().map(|(key, to)| ((*key).to_owned(), owned(to))).collect()
    }

    #[test]
    fn circles_are_named() {
        let circle = check(&edges(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])]));
        let keys = ["b", "c", "b"].map(str::to_owned).to_vec();
        assert_eq!(circle, Err(Refusal::Circle(keys)));
        assert!(check(&edges(&[("a", &["a"])])).is_err());
        assert_eq!(check(&edges(&[("a", &["b", "c"]), ("b", &["c"])])), Ok(()));
    }

    #[test]
    fn chains_and_branching_are_bounded() {
        let chain = |n: usize| -> BTreeMap<String, Vec<String>> {
            (0..n).map(|i| (format!("k{i:03}"), vec![format!("k{:03}", i + 1)])).collect()
        };
        assert_eq!(check(&chain(DEPENDENCY_DEPTH_MAX)), Ok(()));
        assert_eq!(check(&chain(DEPENDENCY_DEPTH_MAX + 1)), Err(Refusal::TooDeep));
        let doubling: BTreeMap<String, Vec<String>> =
            (0..10).map(|i| (format!("k{i}"), vec![format!("k{}", i + 1); 2])).collect();
        assert_eq!(check(&doubling), Err(Refusal::TooMany));
    }
}
