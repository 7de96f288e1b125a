//! Which flags may answer otherwise after some flags and segments have changed.
//!
//! What has changed is decided in `snapshot`; what they answer then, by evaluating them.

use crate::eval::CompiledFlag;
use crate::eval::Ruleset;
use crate::eval::clause::CompiledClause;
use crate::eval::clause::Subject;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use std::collections::BTreeSet;

impl Ruleset {
    /// Returns the flags whose answers depend on any of these flags and segments: they themselves, those that have one as a
    /// prerequisite, those whose rules ask for one, and so on. Flags that are gone are among them.
    ///
    /// # Cost
    ///
    /// Linear in all clauses, for each step of the longest chain of references.
    pub fn affected(
        &self,
        flags: &BTreeSet<FlagKey>,
        segments: &BTreeSet<SegmentKey>,
    ) -> BTreeSet<FlagKey> {
        let mut found = flags.clone();
        if !segments.is_empty() {
            let segments = self.segments_around(segments);
            let asks = |flag: &CompiledFlag| {
                let mut clauses = flag.rules.iter().flat_map(|rule| &rule.clauses);
                clauses.any(|clause| asks_for(clause, &segments))
            };
            found.extend(self.flags().filter(|flag| asks(flag)).map(|flag| flag.key.clone()));
        }
        loop {
            let depends = |flag: &CompiledFlag| {
                !found.contains(&flag.key)
                    && flag.prerequisites.iter().any(|other| found.contains(&other.key))
            };
            let more: Vec<FlagKey> =
                self.flags().filter(|flag| depends(flag)).map(|flag| flag.key.clone()).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }

    /// These segments and those that ask for them.
    fn segments_around(&self, segments: &BTreeSet<SegmentKey>) -> BTreeSet<SegmentKey> {
        let mut found = segments.clone();
        loop {
            let around = self.segments().filter(|segment| !found.contains(&segment.key));
            let around =
                around.filter(|segment| segment.clauses().any(|clause| asks_for(clause, &found)));
            let more: Vec<SegmentKey> = around.map(|segment| segment.key.clone()).collect();
            if more.is_empty() {
                return found;
            }
            found.extend(more);
        }
    }
}

fn asks_for(clause: &CompiledClause, segments: &BTreeSet<SegmentKey>) -> bool {
    match &clause.subject {
        Subject::Segments(keys) => keys.iter().any(|key| segments.contains(key)),
        Subject::Kinds(_) | Subject::Attribute { .. } | Subject::Malformed => false,
    }
}
