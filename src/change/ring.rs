//! What a fallthrough or a rule leads to as a ring of slots: how a new one takes over from the one before, and who moves.
//!
//! How slots are divided anew is in `rebalance`.

use crate::change::read::RolloutSpec;
use crate::change::rebalance::Moved;
use crate::change::rebalance::moved_between;
use crate::eval::bucket_attribute;
use crate::eval::kind_or_user;
use crate::model::attribute::AttributeRef;
use crate::model::rule::Rollout;
use crate::model::rule::RolloutHash;
use crate::model::rule::RolloutKind;
use crate::model::rule::Slice;
use crate::model::rule::USER_KIND;
use crate::model::rule::VariationOrRollout;
use crate::model::rule::WEIGHT_TOTAL;

/// A plain rollout: an experiment whose weights are set ends, because nothing says who is to be measured from then on.
///
/// What is not said stays as before, so that setting weights alone moves nobody who need not move.
pub(super) fn rollout(spec: &RolloutSpec, hash: RolloutHash, before: Option<&Rollout>) -> Rollout {
    let kind = || before.map(|before| kind_or_user(&before.context_kind).to_owned());
    let bucket_by = || {
        let divided = before.filter(|before| before.kind == RolloutKind::Rollout)?;
        // Old data has a plain name beside no kind; as a reference it means the same beside one.
        let attribute = bucket_attribute(&divided.context_kind, &divided.bucket_by)?;
        (attribute != AttributeRef::KEY).then(|| attribute.to_string())
    };
    Rollout {
        kind: RolloutKind::Rollout,
        hash,
        context_kind: spec
            .context_kind
            .clone()
            .or_else(kind)
            .unwrap_or_else(|| USER_KIND.to_owned()),
        bucket_by: spec.bucket_by.clone().or_else(bucket_by).unwrap_or_default(),
        seed: spec.seed.or(before.and_then(|before| before.seed)),
        variations: Vec::new(),
    }
}

pub(super) fn served_by(rollout: Rollout) -> VariationOrRollout {
    VariationOrRollout { variation: None, rollout: Some(rollout) }
}

/// Whether a context lies in the same slot of both; a fixed variation is a ring with one owner, whatever is hashed.
pub(super) fn is_same_ring(old: &VariationOrRollout, new: &VariationOrRollout) -> bool {
    let hashed = |serve: &VariationOrRollout| {
        let rollout = serve.rollout.as_ref().filter(|_| serve.variation.is_none())?;
        let (kind, bucket_by) = (rollout.context_kind.as_str(), rollout.bucket_by.as_str());
        let bucket_by = if rollout.kind == RolloutKind::Experiment { "" } else { bucket_by };
        // As an evaluation reads them, so that two ways to write the same are the same.
        let attribute = bucket_attribute(kind, bucket_by);
        Some((kind_or_user(kind).to_owned(), attribute, rollout.hash, rollout.seed))
    };
    match (hashed(old), hashed(new)) {
        (Some(old), Some(new)) => old == new,
        _ => true,
    }
}

/// Who owns which slots.
pub(super) fn ring_of(serve: &VariationOrRollout) -> Vec<Slice> {
    match (serve.variation, &serve.rollout) {
        (Some(variation), _) => {
            vec![Slice { variation, weight_milli_pct: WEIGHT_TOTAL, untracked: false }]
        }
        (None, Some(rollout)) => {
            // As in an evaluation: nobody lies beyond the ring, and what no slice covers belongs to the last one.
            let mut rest = WEIGHT_TOTAL;
            let mut slices = rollout.variations.clone();
            for slice in &mut slices {
                slice.weight_milli_pct = slice.weight_milli_pct.min(rest);
                rest -= slice.weight_milli_pct;
            }
            if let Some(last) = slices.last_mut() {
                last.weight_milli_pct += rest;
            }
            slices
        }
        (None, None) => Vec::new(),
    }
}

pub(super) fn moved_by(old: &VariationOrRollout, new: &VariationOrRollout) -> Option<Moved> {
    is_same_ring(old, new).then(|| moved_between(&ring_of(old), &ring_of(new)))
}
