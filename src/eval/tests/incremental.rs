//! A ruleset that was reached by changes is the one that would have been compiled at once.

use crate::eval::CompiledFlag;
use crate::eval::CompiledSegment;
use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::eval::tests::compiled_flag;
use crate::eval::tests::compiled_segment;
use crate::eval::tests::flag_json;
use crate::eval::tests::segment_json;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Keys that there can be: more than a ruleset keeps in one piece, which are 256.
const N_KEYS: usize = 400;

/// What happens to a stretch of neighbouring keys in one version.
#[derive(Debug, Clone)]
struct Edit {
    first: usize,
    n: usize,
    is_removal: bool,
}

fn edit() -> impl Strategy<Value = Edit> {
    let n = prop_oneof![3 => 1..4_usize, 1 => 1..=N_KEYS];
    (0..N_KEYS, n, proptest::bool::weighted(0.4)).prop_map(|(first, n, is_removal)| Edit {
        first,
        n,
        is_removal,
    })
}

/// What there should be, by key.
#[derive(Default)]
struct Expected {
    flags: BTreeMap<FlagKey, Arc<CompiledFlag>>,
    segments: BTreeMap<SegmentKey, Arc<CompiledSegment>>,
}

impl Expected {
    /// Makes the edits here, and returns them as a change.
    fn edited(&mut self, edits: &[Edit]) -> RulesetChange {
        let mut change = RulesetChange::default();
        for edit in edits {
            for i in edit.first..(edit.first + edit.n).min(N_KEYS) {
                let flag = compiled_flag(&flag_json(&json!({"key": format!("k{i}")})));
                let segment = compiled_segment(&segment_json(&json!({"key": format!("k{i}")})));
                let (flag_key, segment_key) = (flag.key.clone(), segment.key.clone());
                if edit.is_removal {
                    self.flags.remove(&flag_key);
                    self.segments.remove(&segment_key);
                    change.flags.push((flag_key, None));
                    change.segments.push((segment_key, None));
                } else {
                    self.flags.insert(flag_key.clone(), Arc::clone(&flag));
                    self.segments.insert(segment_key.clone(), Arc::clone(&segment));
                    change.flags.push((flag_key, Some(flag)));
                    change.segments.push((segment_key, Some(segment)));
                }
            }
        }
        change
    }

    /// Everything as one change of an empty ruleset.
    fn at_once(&self) -> RulesetChange {
        let flags = self.flags.iter().map(|(key, flag)| (key.clone(), Some(Arc::clone(flag))));
        let segments = self.segments.iter();
        let segments = segments.map(|(key, each)| (key.clone(), Some(Arc::clone(each))));
        RulesetChange { flags: flags.collect(), segments: segments.collect() }
    }

    fn assert_is(&self, ruleset: &Ruleset) -> Result<(), TestCaseError> {
        prop_assert_eq!(ruleset.n_flags(), self.flags.len());
        let keys = ruleset.flags().map(|flag| flag.key.as_str());
        prop_assert!(keys.eq(self.flags.keys().map(FlagKey::as_str)));
        prop_assert_eq!(ruleset.segments().count(), self.segments.len());
        for i in 0..N_KEYS {
            let key = format!("k{i}");
            let flag = ruleset.flag(&key).map(Arc::as_ptr);
            prop_assert_eq!(flag, self.flags.get(key.as_str()).map(Arc::as_ptr), "{}", key);
            let segment = ruleset.segment(&key).map(Arc::as_ptr);
            let expected = self.segments.get(key.as_str()).map(Arc::as_ptr);
            prop_assert_eq!(segment, expected, "{}", key);
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_to_what_compiling_at_once_leads_to(versions in vec(vec(edit(), 0..4), 1..8)) {
        let mut expected = Expected::default();
        let mut ruleset = Ruleset::default();
        for (i, edits) in versions.iter().enumerate() {
            let before = expected.at_once();
            let next = ruleset.with(1, i64::try_from(i).unwrap(), &expected.edited(edits));
            expected.assert_is(&next)?;
            expected.assert_is(&Ruleset::default().with(1, 1, &expected.at_once()))?;
            // The one before is as it was.
            prop_assert_eq!(ruleset.n_flags(), before.flags.len());
            ruleset = next;
        }
    }
}

#[test]
fn a_ruleset_may_grow_key_by_key_and_shrink_again() {
    let mut expected = Expected::default();
    let mut ruleset = Ruleset::default();
    let steps = (250..=260).map(|n| (n, false)).chain((250..=260).map(|n| (n, true)));
    for (i, is_removal) in std::iter::once((0, false)).chain(steps) {
        let edit = Edit { first: i, n: if i == 0 { 250 } else { 1 }, is_removal };
        ruleset = ruleset.with(1, 1, &expected.edited(&[edit]));
        expected.assert_is(&ruleset).unwrap();
    }
    assert_eq!(ruleset.n_flags(), 250);
}
