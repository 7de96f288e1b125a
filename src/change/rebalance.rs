//! Changing the weights of a rollout while moving as few contexts as possible.

use crate::model::rule::Slice;
use crate::model::rule::WEIGHT_TOTAL;
use std::collections::BTreeMap;

/// What a change of weights does to contexts, in thousandths of a percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The share of all contexts that gets another variation.
    pub moved_milli_pct: u32,
    /// The share of each variation before, by index.
    pub from: BTreeMap<i64, u32>,
    /// The share of each variation after, by index.
    pub to: BTreeMap<i64, u32>,
    /// The share that goes from one variation to another, for each pair between which anybody moves.
    pub between: BTreeMap<(i64, i64), u32>,
}

/// Divides the ring anew so that every slot that may keep its owner keeps it.
///
/// `old` are the slices of the ring so far, in order; `weights` the new weight of each variation, which must sum to
/// [`WEIGHT_TOTAL`]. Exactly `Σ max(0, old_v − new_v)` slots change their owner, the fewest possible: a variation that grows
/// takes slots only from those that shrink, so growing a rollout takes nobody out of it.
///
/// If `old` does not cover the ring, it cannot be kept and the slices are laid out in the order of `weights`.
pub fn rebalance(old: &[Slice], weights: &[(i64, u32)]) -> (Vec<Slice>, Moved) {
    let to: BTreeMap<i64, u32> = weights.iter().copied().filter(|(_, w)| *w > 0).collect();
    let from = shares(old);
    if from.values().map(|share| u64::from(*share)).sum::<u64>() != u64::from(WEIGHT_TOTAL) {
        let slices = weights.iter().map(|(variation, weight)| slice(*variation, *weight));
        let between = BTreeMap::new();
        let moved = Moved { moved_milli_pct: WEIGHT_TOTAL, from, to, between };
        return (merged(slices), moved);
    }
    let (pieces, moved_milli_pct) = release(old, &from, &to);
    let missing = to.iter().map(|(variation, weight)| {
        let kept = from.get(variation).copied().unwrap_or(0).min(*weight);
        (*variation, weight - kept)
    });
    let slices = hand_out(&pieces, missing.collect());
    let Moved { between, .. } = moved_between(old, &slices);
    (slices, Moved { moved_milli_pct, from, to, between })
}

/// Compares two rings, slot by slot.
pub(crate) fn moved_between(old: &[Slice], new: &[Slice]) -> Moved {
    let mut moved_milli_pct = 0;
    let mut between = BTreeMap::new();
    let mut rest_of_new = new.iter().copied().filter(|slice| slice.weight_milli_pct > 0);
    let mut current = rest_of_new.next();
    for slice in old {
        let mut n_left = slice.weight_milli_pct;
        while let Some(other) = current.as_mut().filter(|_| n_left > 0) {
            let n_shared = n_left.min(other.weight_milli_pct);
            if other.variation != slice.variation {
                moved_milli_pct += n_shared;
                let pair: &mut u32 = between.entry((slice.variation, other.variation)).or_default();
                *pair = pair.saturating_add(n_shared);
            }
            n_left -= n_shared;
            other.weight_milli_pct -= n_shared;
            if other.weight_milli_pct == 0 {
                current = rest_of_new.next();
            }
        }
    }
    Moved { moved_milli_pct, from: shares(old), to: shares(new), between }
}

/// A stretch of the ring, with its owner unless it was given up.
struct Piece {
    owner: Option<i64>,
    n_slots: u32,
}

/// Lets each variation keep its slots up to its new weight; returns the pieces and how many slots were given up.
///
/// A slice gives up the end at which a neighbour grows, so that the neighbour can have it and slices stay few.
fn release(old: &[Slice], from: &BTreeMap<i64, u32>, to: &BTreeMap<i64, u32>) -> (Vec<Piece>, u32) {
    let grows = |slice: &Slice| to.get(&slice.variation) > from.get(&slice.variation);
    let mut allowance = to.clone();
    let mut pieces = Vec::new();
    let mut n_released = 0;
    for (i, slice) in old.iter().enumerate() {
        let allowed = allowance.entry(slice.variation).or_insert(0);
        let kept = slice.weight_milli_pct.min(*allowed);
        *allowed -= kept;
        let released = slice.weight_milli_pct - kept;
        n_released += released;
        let kept = Piece { owner: Some(slice.variation), n_slots: kept };
        let released = Piece { owner: None, n_slots: released };
        let before = i.checked_sub(1).and_then(|before| old.get(before));
        if before.is_some_and(grows) && !old.get(i + 1).is_some_and(grows) {
            pieces.extend([released, kept]);
        } else {
            pieces.extend([kept, released]);
        }
    }
    pieces.retain(|piece| piece.n_slots > 0);
    (pieces, n_released)
}

/// Gives what was given up to those that grow, to a neighbour first, so that slices stay few.
fn hand_out(pieces: &[Piece], mut missing: BTreeMap<i64, u32>) -> Vec<Slice> {
    let mut slices: Vec<Slice> = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        if let Some(owner) = piece.owner {
            slices.push(slice(owner, piece.n_slots));
            continue;
        }
        let before = slices.last().map(|slice| slice.variation);
        let after = pieces.iter().skip(i + 1).find_map(|next| next.owner);
        let after = after.filter(|after| Some(*after) != before);
        let others: Vec<i64> = missing.keys().copied().filter(|v| Some(*v) != after).collect();
        // The right neighbour comes last, so that its part touches it.
        let order = before.into_iter().chain(others).chain(after);
        let mut n_left = piece.n_slots;
        let reserved = after.and_then(|variation| missing.get(&variation)).copied().unwrap_or(0);
        let mut n_for_others = n_left - reserved.min(n_left);
        for variation in order {
            let Some(wanted) = missing.get_mut(&variation) else { continue };
            let available = if Some(variation) == after { n_left } else { n_for_others };
            let given = available.min(*wanted);
            *wanted -= given;
            n_left -= given;
            n_for_others = n_for_others.saturating_sub(given);
            slices.push(slice(variation, given));
        }
    }
    merged(slices.into_iter())
}

fn slice(variation: i64, weight_milli_pct: u32) -> Slice {
    Slice { variation, weight_milli_pct, untracked: false }
}

/// Joins neighbours of one variation and drops empty slices.
fn merged(slices: impl Iterator<Item = Slice>) -> Vec<Slice> {
    let mut list: Vec<Slice> = Vec::new();
    for slice in slices.filter(|slice| slice.weight_milli_pct > 0) {
        match list.last_mut() {
            Some(last) if last.variation == slice.variation => {
                last.weight_milli_pct += slice.weight_milli_pct;
            }
            _ => list.push(slice),
        }
    }
    list
}

/// The share of each variation.
fn shares(slices: &[Slice]) -> BTreeMap<i64, u32> {
    let mut shares = BTreeMap::new();
    for slice in slices.iter().filter(|slice| slice.weight_milli_pct > 0) {
        let share: &mut u32 = shares.entry(slice.variation).or_insert(0);
        *share = share.saturating_add(slice.weight_milli_pct);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn owners(slices: &[Slice]) -> Vec<i64> {
        let stretch = |s: &Slice| {
            std::iter::repeat_n(s.variation, usize::try_from(s.weight_milli_pct).unwrap())
        };
        slices.iter().flat_map(stretch).collect()
    }

    /// Weights of up to five variations that sum to the whole.
    fn weights() -> impl Strategy<Value = Vec<(i64, u32)>> {
        proptest::collection::vec(0..=WEIGHT_TOTAL, 1..5).prop_map(|mut cuts| {
            cuts.sort_unstable();
            cuts.push(WEIGHT_TOTAL);
            let starts = std::iter::once(0).chain(cuts.clone());
            (0_i64..).zip(starts.zip(&cuts).map(|(start, end)| end - start)).collect()
        })
    }

    proptest! {
        #[test]
        fn exactly_the_fewest_slots_change_their_owner(steps in proptest::collection::vec(weights(), 2..8)) {
            let mut old: Vec<Slice> = Vec::new();
            for weights in steps {
                let (new, moved) = rebalance(&old, &weights);
                let share = |of: &BTreeMap<i64, u32>, v| of.get(&v).copied().unwrap_or(0);
                for (variation, weight) in &weights {
                    prop_assert_eq!(share(&shares(&new), *variation), *weight);
                }
                if !old.is_empty() {
                    let before = owners(&old);
                    let after = owners(&new);
                    let n_changed = before.iter().zip(&after).filter(|(b, a)| b != a).count();
                    let fewest: u32 = shares(&old).iter()
                        .map(|(v, w)| w.saturating_sub(share(&moved.to, *v))).sum();
                    prop_assert_eq!(u32::try_from(n_changed).unwrap(), fewest);
                    prop_assert_eq!(moved.moved_milli_pct, fewest);
                    prop_assert_eq!(moved_between(&old, &new), moved);
                    // However often weights change: neighbours of one variation are merged.
                    prop_assert!(new.len() <= 8 * weights.len(), "{:?}", new);
                }
                old = new;
            }
        }
    }

    #[test]
    fn growing_and_shrinking_two_variations_keeps_two_slices() {
        let mut slices = vec![slice(1, WEIGHT_TOTAL)];
        for percent in [1, 5, 25, 50, 25, 90, 100, 40] {
            let weights = [(0, percent * 1_000), (1, WEIGHT_TOTAL - percent * 1_000)];
            slices = rebalance(&slices, &weights).0;
            assert!(slices.len() <= 2, "{slices:?}");
        }
    }
}
