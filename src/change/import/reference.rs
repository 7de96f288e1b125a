//! What imported flags and segments refer to, and what an evaluation will do where that is not there, or is not the file's.

use crate::change::import::note;
use crate::model::problem::Problem;
use crate::model::rule::Clause;
use crate::model::rule::Prerequisite;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// What will be in the environment, and what of the file will not.
#[derive(Debug, Default)]
pub(super) struct Horizon {
    /// How many variations each flag will have.
    pub(super) flags: BTreeMap<String, usize>,
    /// The segments that will be there.
    pub(super) segments: BTreeSet<String>,
    /// The flags of the file that are refused.
    pub(super) refused_flags: BTreeSet<String>,
    /// The segments of the file that are refused.
    pub(super) refused_segments: BTreeSet<String>,
}

impl Horizon {
    /// What is wrong with the prerequisites of the flag at `path`.
    pub(super) fn prerequisites(
        &self,
        path: &str,
        prerequisites: &[Prerequisite],
        notes: &mut Vec<Problem>,
    ) {
        const NEVER: &str =
            "the prerequisite is never fulfilled, so the flag serves its off variation";
        for (i, Prerequisite { key, variation }) in prerequisites.iter().enumerate() {
            let path = format!("{path}.prerequisites[{i}]");
            let Some(&n_variations) = self.flags.get(key.as_str()) else {
                let detail = format!("there is no flag `{key}` here; {NEVER}");
                notes.push(note(&format!("{path}.key"), "unknown_flag", detail));
                continue;
            };
            if self.refused_flags.contains(key.as_str()) {
                let detail = format!(
                    "`{key}` was not brought over: the flag of this name that is here is asked"
                );
                notes.push(note(&format!("{path}.key"), "other_flag", detail));
            }
            if usize::try_from(*variation).map_or(true, |index| index >= n_variations) {
                let detail =
                    format!("is {variation}, and `{key}` has {n_variations} variation(s); {NEVER}");
                notes.push(note(&format!("{path}.variation"), "unknown_variation", detail));
            }
        }
    }

    /// What is wrong with the segments that the clauses of the rule at `path` ask for.
    pub(super) fn clauses(&self, path: &str, clauses: &[Clause], notes: &mut Vec<Problem>) {
        let asking = clauses.iter().enumerate().filter(|(_, clause)| clause.op == "segmentMatch");
        for (i, clause) in asking {
            let keys = clause.values.iter().map(|value| value.as_str().unwrap_or_default());
            // A value that is no text has its note already.
            for (j, key) in keys.enumerate().filter(|(_, key)| !key.is_empty()) {
                let path = format!("{path}.clauses[{i}].values[{j}]");
                if !self.segments.contains(key) {
                    let detail = format!("there is no segment `{key}` here, so nobody is in it");
                    notes.push(note(&path, "unknown_segment", detail));
                } else if self.refused_segments.contains(key) {
                    let detail = format!(
                        "`{key}` was not brought over: the segment of this name that is here is asked"
                    );
                    notes.push(note(&path, "other_segment", detail));
                }
            }
        }
    }
}
