//! All flags and segments of one environment at one version.
//!
//! A ruleset never changes; a new version is a new ruleset that shares every flag that did not change.

use crate::eval::CompiledFlag;
use crate::eval::CompiledSegment;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use std::collections::HashMap;
use std::sync::Arc;

/// All flags and segments of one environment at one version.
#[derive(Debug, Default)]
pub struct Ruleset {
    /// Grows when the database's history was replaced; compared before `version`.
    pub epoch: i64,
    /// Grows by one with every change of the environment.
    pub version: i64,
    flags: HashMap<FlagKey, Arc<CompiledFlag>>,
    segments: HashMap<SegmentKey, Arc<CompiledSegment>>,
    /// The flags by key, so that answers about all of them have one order.
    sorted: Vec<Arc<CompiledFlag>>,
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
    pub fn flag(&self, key: &str) -> Option<&CompiledFlag> {
        self.flags.get(key).map(Arc::as_ref)
    }

    /// All flags, by key.
    pub fn flags(&self) -> impl Iterator<Item = &CompiledFlag> {
        self.sorted.iter().map(Arc::as_ref)
    }

    /// All segments, in no order.
    pub fn segments(&self) -> impl Iterator<Item = &CompiledSegment> {
        self.segments.values().map(Arc::as_ref)
    }

    pub(crate) fn segment(&self, key: &SegmentKey) -> Option<&CompiledSegment> {
        self.segments.get(key).map(Arc::as_ref)
    }

    /// Returns the ruleset that this one becomes by a change.
    pub fn with(&self, epoch: i64, version: i64, change: RulesetChange) -> Self {
        let mut flags = self.flags.clone();
        let mut sorted = self.sorted.clone();
        let is_many = change.flags.len() > sorted.len() / 8;
        for (key, flag) in change.flags {
            if !is_many {
                replace(&mut sorted, &key, flag.as_ref());
            }
            match flag {
                Some(flag) => flags.insert(key, flag),
                None => flags.remove(&key),
            };
        }
        if is_many {
            sorted = flags.values().cloned().collect();
            sorted.sort_by(|left, right| left.key.cmp(&right.key));
        }
        let mut segments = self.segments.clone();
        for (key, segment) in change.segments {
            match segment {
                Some(segment) => segments.insert(key, segment),
                None => segments.remove(&key),
            };
        }
        Self { epoch, version, flags, segments, sorted }
    }
}

/// Puts a flag in its place in a sorted list, or takes it out.
fn replace(sorted: &mut Vec<Arc<CompiledFlag>>, key: &FlagKey, flag: Option<&Arc<CompiledFlag>>) {
    let found = sorted.binary_search_by(|each| each.key.cmp(key));
    match (found, flag) {
        (Ok(i), Some(flag)) => {
            sorted.splice(i..=i, [Arc::clone(flag)]);
        }
        (Ok(i), None) => {
            sorted.remove(i);
        }
        (Err(i), Some(flag)) => sorted.insert(i, Arc::clone(flag)),
        (Err(_), None) => {}
    }
}
