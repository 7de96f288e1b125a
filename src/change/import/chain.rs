//! Which of the new flags or segments would refer to each other in a circle, or in a chain that is too long.
//!
//! They are refused alone, because one circle in an environment would refuse every later change of a reference.

use crate::change::cycle::Refusal;
use crate::model::limit::DEPENDENCY_DEPTH_MAX;
use crate::model::limit::DEPENDENCY_NODES_MAX;
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// Rounds in which some are refused and the rest is looked at again, each of which visits everything a few times; after them,
/// the rest is refused. Hardly anything needs more than one for each place of the longest chain.
const ROUNDS_MAX: usize = 2 * DEPENDENCY_DEPTH_MAX;

/// Finds those that are refused, with what is wrong.
///
/// `old` maps what is there to what it refers to, `new` what is to be added or replaced. A refused one leaves what is there as
/// it is.
pub(super) fn refusals<K: Ord + Clone + Borrow<str>>(
    old: &BTreeMap<K, Vec<K>>,
    new: &BTreeMap<K, Vec<K>>,
) -> BTreeMap<K, Refusal> {
    settle(old, new).0
}

/// Returns also how many things and references were visited.
fn settle<K: Ord + Clone + Borrow<str>>(
    old: &BTreeMap<K, Vec<K>>,
    new: &BTreeMap<K, Vec<K>>,
) -> (BTreeMap<K, Refusal>, usize) {
    let mut graph = Graph::new(old, new);
    let mut refused = BTreeMap::new();
    for _ in 0..ROUNDS_MAX {
        let blamed = graph.blamed();
        if blamed.is_empty() {
            return (refused, graph.n_visits);
        }
        for (node, refusal) in blamed {
            refused.extend(graph.refuse(node, old).map(|key| (key, refusal)));
        }
    }
    let rest = new.keys().filter(|key| !refused.contains_key::<K>(key)).cloned();
    let rest: Vec<K> = rest.collect();
    refused.extend(rest.into_iter().map(|key| (key, Refusal::TooMany)));
    (refused, graph.n_visits)
}

/// Everything that refers or is referred to, by number.
struct Graph<'a, K> {
    keys: Vec<&'a K>,
    numbers: BTreeMap<&'a K, usize>,
    /// What each refers to.
    next: Vec<Vec<usize>>,
    /// Whether each is new and not refused.
    is_candidate: Vec<bool>,
    n_visits: usize,
}

/// What an evaluation goes through from somewhere on, without remembering what it has seen: a diamond counts twice.
#[derive(Clone, Copy)]
struct Extent {
    /// References in a row.
    depth: usize,
    /// Things visited.
    size: usize,
}

impl Extent {
    fn refusal(self) -> Option<Refusal> {
        if self.depth > DEPENDENCY_DEPTH_MAX {
            Some(Refusal::TooDeep)
        } else if self.size > DEPENDENCY_NODES_MAX {
            Some(Refusal::TooMany)
        } else {
            None
        }
    }
}

impl<'a, K: Ord + Clone + Borrow<str>> Graph<'a, K> {
    fn new(old: &'a BTreeMap<K, Vec<K>>, new: &'a BTreeMap<K, Vec<K>>) -> Self {
        let mut numbers: BTreeMap<&K, usize> = BTreeMap::new();
        for (key, others) in old.iter().chain(new) {
            for each in std::iter::once(key).chain(others) {
                numbers.insert(each, 0);
            }
        }
        numbers.values_mut().enumerate().for_each(|(i, number)| *number = i);
        let keys: Vec<&K> = numbers.keys().copied().collect();
        let numbered = |key: &&K| -> Vec<usize> {
            let others = new.get::<K>(key).or_else(|| old.get::<K>(key));
            others.into_iter().flatten().filter_map(|each| numbers.get(each).copied()).collect()
        };
        let next = keys.iter().map(numbered).collect();
        let is_candidate = keys.iter().map(|key| new.contains_key::<K>(key)).collect();
        Self { keys, numbers, next, is_candidate, n_visits: 0 }
    }

    fn next_of(&self, node: usize) -> &[usize] {
        self.next.get(node).map_or(&[], Vec::as_slice)
    }

    fn is_candidate(&self, node: usize) -> bool {
        self.is_candidate.get(node) == Some(&true)
    }

    /// Puts a thing back to what is there, and returns its key.
    fn refuse(&mut self, node: usize, old: &BTreeMap<K, Vec<K>>) -> Option<K> {
        let key = *self.keys.get(node)?;
        *self.is_candidate.get_mut(node)? = false;
        let kept = old.get::<K>(key).into_iter().flatten();
        let kept = kept.filter_map(|each| self.numbers.get(each).copied()).collect();
        *self.next.get_mut(node)? = kept;
        Some(key.clone())
    }

    /// The candidates to blame for what is wrong. First all on a circle, since what only leads into one is fine as soon as it is
    /// gone; then those where a chain begins that is too long; then those that make one too long that begins at what was there.
    fn blamed(&mut self) -> BTreeMap<usize, Refusal> {
        let order = self.ends_first();
        let on_circle = self.on_circles(&order);
        let is_there = |node: &usize| on_circle.get(*node) == Some(&true);
        let candidates = (0..self.keys.len()).filter(|node| self.is_candidate(*node));
        let candidates: Vec<usize> = candidates.collect();
        let circles = candidates.iter().filter(|node| is_there(node));
        let blamed: BTreeMap<usize, Refusal> =
            circles.map(|node| (*node, self.circle_from(*node, &on_circle))).collect();
        if !blamed.is_empty() {
            return blamed;
        }
        let extents = self.extents(&order);
        let refusal = |node: usize| extents.get(node).and_then(|extent| extent.refusal());
        let begins = |node: &usize| Some((*node, refusal(*node)?));
        let blamed: BTreeMap<usize, Refusal> = candidates.iter().filter_map(begins).collect();
        if !blamed.is_empty() {
            return blamed;
        }
        self.blamed_below((0..self.keys.len()).filter_map(|node| Some((node, refusal(node)?))))
    }

    /// The first candidates that are reached from `starts`; not those that refer to nothing, which make no chain longer.
    fn blamed_below(
        &self,
        starts: impl Iterator<Item = (usize, Refusal)>,
    ) -> BTreeMap<usize, Refusal> {
        let mut waiting: Vec<(usize, Refusal)> = starts.collect();
        let mut seen: Vec<bool> = vec![false; self.keys.len()];
        let mut blamed = BTreeMap::new();
        while let Some((node, refusal)) = waiting.pop() {
            let Some(was_seen) = seen.get_mut(node).filter(|was_seen| !**was_seen) else {
                continue;
            };
            *was_seen = true;
            if !self.is_candidate(node) {
                waiting.extend(self.next_of(node).iter().map(|next| (*next, refusal.clone())));
            } else if !self.next_of(node).is_empty() {
                blamed.insert(node, refusal);
            }
        }
        blamed
    }

    /// All that lead into no circle, each after those that it refers to.
    fn ends_first(&mut self) -> Vec<usize> {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.keys.len()];
        for (node, others) in self.next.iter().enumerate() {
            for each in others {
                if let Some(before) = before.get_mut(*each) {
                    before.push(node);
                }
            }
        }
        peel(self.next.iter().map(Vec::len).collect(), &before, &mut self.n_visits)
    }

    /// Whether each is on a circle, or between two; `order` are those that lead into none.
    fn on_circles(&mut self, order: &[usize]) -> Vec<bool> {
        let mut leads_in = vec![true; self.keys.len()];
        clear(&mut leads_in, order);
        let mut degrees = vec![0; self.keys.len()];
        for (others, _) in self.next.iter().zip(&leads_in).filter(|(_, leads_in)| **leads_in) {
            for each in others {
                if let Some(degree) = degrees.get_mut(*each) {
                    *degree += 1;
                }
            }
        }
        // They are not looked at again.
        for node in order {
            degrees.get_mut(*node).into_iter().for_each(|degree| *degree = usize::MAX);
        }
        let only_leading_in = peel(degrees, &self.next, &mut self.n_visits);
        clear(&mut leads_in, &only_leading_in);
        leads_in
    }

    /// The circle that is met from a thing on one; one that is longer than any chain may be is not spelt out.
    fn circle_from(&self, start: usize, on_circle: &[bool]) -> Refusal {
        let mut path = vec![start];
        let mut node = start;
        for _ in 0..=DEPENDENCY_DEPTH_MAX {
            let mut others = self.next_of(node).iter().copied();
            let Some(next) = others.find(|next| on_circle.get(*next) == Some(&true)) else {
                break;
            };
            if let Some(position) = path.iter().position(|visited| *visited == next) {
                let circle = path.iter().skip(position).chain([&next]);
                let keys = circle.filter_map(|node| self.keys.get(*node));
                let name = |key: &&K| Borrow::<str>::borrow(*key).to_owned();
                return Refusal::Circle(keys.map(name).collect());
            }
            path.push(next);
            node = next;
        }
        Refusal::TooDeep
    }

    /// How far an evaluation goes from each; without an end where a circle is.
    fn extents(&self, order: &[usize]) -> Vec<Extent> {
        let endless = Extent { depth: 0, size: usize::MAX };
        let mut extents = vec![endless; self.keys.len()];
        for node in order {
            let mut whole = Extent { depth: 0, size: 1 };
            for each in self.next_of(*node).iter().filter_map(|next| extents.get(*next)) {
                whole.depth = whole.depth.max(each.depth.saturating_add(1));
                whole.size = whole.size.saturating_add(each.size);
            }
            extents.get_mut(*node).into_iter().for_each(|extent| *extent = whole);
        }
        extents
    }
}

/// Takes away what has degree zero, and with each one off the degrees of those in `back`; returns them in this order.
fn peel(mut degrees: Vec<usize>, back: &[Vec<usize>], n_visits: &mut usize) -> Vec<usize> {
    let ends = degrees.iter().enumerate().filter(|(_, degree)| **degree == 0);
    let mut order: Vec<usize> = ends.map(|(node, _)| node).collect();
    let mut n_done = 0;
    while let Some(&node) = order.get(n_done) {
        n_done += 1;
        *n_visits += 1;
        for each in back.get(node).into_iter().flatten() {
            *n_visits += 1;
            if let Some(degree) = degrees.get_mut(*each) {
                *degree = degree.saturating_sub(1);
                if *degree == 0 {
                    order.push(*each);
                }
            }
        }
    }
    order
}

fn clear(flags: &mut [bool], nodes: &[usize]) {
    for node in nodes {
        flags.get_mut(*node).into_iter().for_each(|flag| *flag = false);
    }
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
        refusals(&edges(old), &edges(new)).into_keys().collect()
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
        assert!(refusals(&BTreeMap::new(), &chain(0, n)).is_empty());
        let found: Vec<_> = refusals(&BTreeMap::new(), &chain(0, n + 2)).into_iter().collect();
        let too_deep = |key: &str| (key.to_owned(), Refusal::TooDeep);
        assert_eq!(found, [too_deep("k000"), too_deep("k001")]);
        // It begins at what was there: the new one that makes it too long is refused.
        let found: Vec<_> = refusals(&chain(0, 1), &chain(1, n + 1)).into_iter().collect();
        assert_eq!(found, [too_deep("k001")]);
        let found: Vec<_> = refusals(&chain(0, 2), &chain(2, n + 1)).into_iter().collect();
        assert_eq!(found, [too_deep("k002")]);
    }

    #[test]
    fn wide_and_deep_references_are_settled_in_few_visits() {
        const FLAGS: usize = 2_000;
        let key = |i: usize| format!("f{i:04}");
        let others = |i: usize| (i + 1..=i + 32).map(key).collect();
        let new: BTreeMap<String, Vec<String>> = (0..FLAGS).map(|i| (key(i), others(i))).collect();
        let (refused, n_visits) = settle(&BTreeMap::new(), &new);
        let last = refused.keys().last().unwrap();
        assert_eq!(refused.len(), FLAGS - 5, "{last} is the last that visits too many");
        assert!(n_visits < 4 * FLAGS * 33, "{n_visits}");
    }

    #[test]
    fn what_needs_too_many_rounds_is_refused_as_a_whole() {
        // Refusing a flag puts it back to what it refers to now, and with that closes the next circle.
        let key = |i: usize| format!("k{i:03}");
        let n = 2 * ROUNDS_MAX;
        let old = (0..n).map(|i| (key(i), vec![key(i + 1)])).collect();
        let mut new: BTreeMap<_, _> = (1..n).map(|i| (key(i), vec![key(i - 1)])).collect();
        new.insert(key(0), vec![key(0)]);
        let refused = refusals(&old, &new);
        assert_eq!(refused.len(), n);
        assert_eq!(refused.get(&key(n - 1)), Some(&Refusal::TooMany));
    }
}
