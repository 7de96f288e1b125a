//! All flags and segments of one environment at one version.
//!
//! A ruleset never changes; a new version is a new ruleset that shares every flag that did not change.

use crate::eval::CompiledFlag;
use crate::eval::CompiledSegment;
use crate::eval::shards::Shards;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use imbl::OrdMap;
use std::sync::Arc;

/// All flags and segments of one environment at one version.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Grows when the database's history was replaced; compared before `version`.
    pub epoch: i64,
    /// Grows by one with every change of the environment.
    pub version: i64,
    flags: Shards<FlagKey, CompiledFlag>,
    segments: Shards<SegmentKey, CompiledSegment>,
    /// The flags by key, so that answers about all of them have one order.
    sorted: OrdMap<FlagKey, Arc<CompiledFlag>>,
}

/// What differs between two rulesets; `None` stands for deleted.
#[derive(Debug, Default)]
pub struct RulesetChange {
    /// Flags that are new, changed or gone.
    pub flags: Vec<(FlagKey, Option<Arc<CompiledFlag>>)>,
    /// Segments that are new, changed or gone.
    pub segments: Vec<(SegmentKey, Option<Arc<CompiledSegment>>)>,
}

impl Ruleset {
    /// The flag with this key.
    pub fn flag(&self, key: &str) -> Option<&Arc<CompiledFlag>> {
        self.flags.get(key)
    }

    /// All flags, by key.
    pub fn flags(&self) -> impl Iterator<Item = &Arc<CompiledFlag>> {
        self.sorted.values()
    }

    /// How many flags there are.
    pub fn n_flags(&self) -> usize {
        self.flags.len()
    }

    /// All segments, in no order.
    pub fn segments(&self) -> impl Iterator<Item = &Arc<CompiledSegment>> {
        self.segments.values()
    }

    pub(crate) fn segment(&self, key: &str) -> Option<&Arc<CompiledSegment>> {
        self.segments.get(key)
    }

    /// Returns the ruleset that this one becomes by a change.
    ///
    /// # Cost
    ///
    /// Grows with the change, and hardly with the ruleset: whatever did not change is shared.
    pub fn with(&self, epoch: i64, version: i64, change: &RulesetChange) -> Self {
        let mut sorted = self.sorted.clone();
        for (key, flag) in &change.flags {
            match flag {
                Some(flag) => sorted.insert(key.clone(), Arc::clone(flag)),
                None => sorted.remove(key),
            };
        }
        Self {
            epoch,
            version,
            flags: self.flags.with(change.flags.iter().map(|(key, flag)| (key, flag.as_ref()))),
            segments: self
                .segments
                .with(change.segments.iter().map(|(key, segment)| (key, segment.as_ref()))),
            sorted,
        }
    }
}
