//! Percentage rollouts, compiled: how contexts are divided, and who owns which part of the ring.
// HOT: no allocation, no lock, no log.

use crate::eval::bucket;
use crate::eval::bucket::MurmurPrefix;
use crate::eval::outcome::ErrorKind;
use crate::model::attribute::AttributeRef;
use crate::model::context::Context;
use crate::model::context::KindRef;
use crate::model::rule::Rollout;
use crate::model::rule::RolloutHash;
use crate::model::rule::RolloutKind;
use crate::model::rule::USER_KIND;
use crate::model::rule::WEIGHT_TOTAL;

/// How contexts are placed on a ring.
///
/// A place is a number in single precision, in the unit that the hash has: slots for MurmurHash3 (`0..100_000`, all of which are
/// exact), a share from 0 to 1 for SHA-1.
#[derive(Debug)]
pub(crate) struct Divider {
    pub(crate) kind: KindRef,
    pub(crate) bucket_by: AttributeRef,
    placing: Placing,
}

#[derive(Debug)]
enum Placing {
    Murmur3(MurmurPrefix),
    Sha1(Box<str>),
}

/// Where a context lies on a ring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Place {
    At(f32),
    /// The context has no part of the kind that is divided.
    NoKind,
    /// It has one without a key, and the key is what is hashed.
    NoKey,
}

impl Divider {
    /// Returns `None` if `bucket_by` is not a reference.
    ///
    /// `prefix` is what is hashed before the value: `"{flagKey}.{salt}."`, or `"{seed}."`.
    pub(crate) fn new(
        kind: &str,
        bucket_by: &str,
        hash: RolloutHash,
        prefix: &str,
    ) -> Option<Self> {
        let placing = match hash {
            RolloutHash::Murmur3 => Placing::Murmur3(MurmurPrefix::new(prefix)),
            RolloutHash::Sha1 => Placing::Sha1(Box::from(prefix)),
        };
        let bucket_by = bucket_attribute(kind, bucket_by)?;
        Some(Self { kind: KindRef::new(kind), bucket_by, placing })
    }

    /// A context whose attribute is absent, or is of a type that cannot be placed, lies at the beginning.
    pub(crate) fn place(&self, context: &Context) -> Place {
        let Some(each) = context.of_kind(&self.kind) else {
            return Place::NoKind;
        };
        match each.attribute(&self.bucket_by) {
            Some(value) => {
                let at = bucket::with_hashed_text(value, |text| match &self.placing {
                    // OK because every slot is far below 2^24, up to which single precision is exact.
                    Placing::Murmur3(prefix) => prefix.slot(text) as f32,
                    Placing::Sha1(prefix) => bucket::sha1_share(prefix, text),
                });
                Place::At(at.unwrap_or(0.0))
            }
            None if self.bucket_by == AttributeRef::KEY => Place::NoKey,
            None => Place::At(0.0),
        }
    }

    pub(crate) fn hash(&self) -> RolloutHash {
        match self.placing {
            Placing::Murmur3(_) => RolloutHash::Murmur3,
            Placing::Sha1(_) => RolloutHash::Sha1,
        }
    }
}

/// Where the part of a ring ends that is `weight_milli_pct` long, in the unit of its hash.
///
/// Source for SHA-1: LaunchDarkly's Go SDK, which computes in single precision.
pub(crate) fn length_of(weight_milli_pct: u32, hash: RolloutHash) -> f32 {
    match hash {
        RolloutHash::Murmur3 => weight_milli_pct as f32,
        RolloutHash::Sha1 => weight_milli_pct as f32 / WEIGHT_TOTAL as f32,
    }
}

#[derive(Debug)]
pub(crate) struct CompiledRollout {
    pub(crate) divider: Divider,
    is_experiment: bool,
    slices: Box<[CompiledSlice]>,
    last: CompiledSlice,
}

/// A stretch of a ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompiledSlice {
    /// Where it ends; it begins where the one before it ends.
    pub(crate) end: f32,
    pub(crate) variation: u32,
    untracked: bool,
}

/// The slice that a context got, and what follows from that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    pub(crate) variation: u32,
    pub(crate) in_experiment: bool,
}

impl CompiledRollout {
    /// Returns `None` if the rollout makes no sense: it has no slices, or divides by what is not a reference.
    ///
    /// `own_prefix` is hashed before the value unless the rollout has a seed.
    pub(crate) fn new(rollout: &Rollout, own_prefix: &str) -> Option<Self> {
        let is_experiment = rollout.kind == RolloutKind::Experiment;
        // Experiments divide by the key, whatever the data says.
        let bucket_by = if is_experiment { "" } else { &rollout.bucket_by };
        let seed = rollout.seed.map(|seed| format!("{seed}."));
        let prefix = seed.as_deref().unwrap_or(own_prefix);
        let divider = Divider::new(&rollout.context_kind, bucket_by, rollout.hash, prefix)?;
        let mut end = 0.0;
        let mut slices = Vec::with_capacity(rollout.variations.len());
        for slice in &rollout.variations {
            end += length_of(slice.weight_milli_pct, rollout.hash);
            let variation = index_or_none(slice.variation);
            slices.push(CompiledSlice { end, variation, untracked: slice.untracked });
        }
        let last = *slices.last()?;
        Some(Self { divider, is_experiment, slices: slices.into(), last })
    }

    /// The slice that a context gets. What no slice covers belongs to the last one.
    ///
    /// # Errors
    ///
    /// The context has no key, and the key is what is hashed.
    pub(crate) fn share(&self, context: &Context) -> Result<Share, ErrorKind> {
        let (at, has_kind) = match self.divider.place(context) {
            Place::At(at) => (at, true),
            Place::NoKey => return Err(ErrorKind::TargetingKeyMissing),
            Place::NoKind if context.kinds().is_empty() => {
                return Err(ErrorKind::TargetingKeyMissing);
            }
            Place::NoKind => (0.0, false),
        };
        let slice = self.slices.iter().find(|slice| at < slice.end).unwrap_or(&self.last);
        let in_experiment = self.is_experiment && has_kind && !slice.untracked;
        Ok(Share { variation: slice.variation, in_experiment })
    }

    /// All slices, in order.
    pub(crate) fn slices(&self) -> &[CompiledSlice] {
        &self.slices
    }
}

/// The index of a variation; what cannot be one becomes an index that no flag has.
pub(crate) fn index_or_none(variation: i64) -> u32 {
    u32::try_from(variation).unwrap_or(u32::MAX)
}

/// The kind of context that is meant; none named means `user`.
pub(crate) fn kind_or_user(kind: &str) -> &str {
    if kind.is_empty() { USER_KIND } else { kind }
}

/// The attribute that is hashed; none named means the key, and without a kind (old data) the name is plain.
pub(crate) fn bucket_attribute(kind: &str, bucket_by: &str) -> Option<AttributeRef> {
    match (bucket_by.is_empty(), kind.is_empty()) {
        (true, _) => Some(AttributeRef::KEY),
        (false, true) => Some(AttributeRef::literal(bucket_by)),
        (false, false) => AttributeRef::parse(bucket_by),
    }
}
