//! What the random flags have reached: a comparison of things that never happen proves nothing.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use vexil::eval::OPERATORS;
use vexil::eval::Step;

/// How often each thing must have happened at least.
const N_EACH: usize = 15;

#[derive(Default)]
pub(crate) struct Coverage {
    pub(crate) n_pairs: usize,
    reasons: BTreeMap<String, usize>,
    /// Clauses that were tested, by operator and result.
    clauses: BTreeMap<(&'static str, bool), usize>,
    rollouts: BTreeMap<&'static str, usize>,
    contexts: BTreeMap<&'static str, usize>,
}

impl Coverage {
    /// Takes note of an answer for a context of this form, and of the steps that lead to it.
    pub(crate) fn note(&mut self, form: &'static str, answer: &Value, steps: &[Step]) {
        self.n_pairs += 1;
        *self.contexts.entry(form).or_default() += 1;
        steps.iter().for_each(|step| self.note_step(step));
        let reason = &answer["reason"];
        let mut count = |name: &str| *self.reasons.entry(name.to_owned()).or_default() += 1;
        let words = [&reason["kind"], &reason["errorKind"]].map(|word| word.as_str().unwrap_or(""));
        count(words.join(" ").trim_end());
        for detail in ["inExperiment", "bigSegmentsStatus"] {
            if reason.get(detail).is_some() {
                count(detail);
            }
        }
    }

    fn note_step(&mut self, step: &Step) {
        match step {
            // What is absent decides nothing about the operator.
            Step::Clause { op, negate, is_match: Some(is_match), found, .. }
                if found.as_ref().is_none_or(|found| !found.is_null()) =>
            {
                *self.clauses.entry((op, is_match != negate)).or_default() += 1;
            }
            Step::Rollout { .. } => *self.rollouts.entry("rollout").or_default() += 1,
            Step::Share { .. } => *self.rollouts.entry("share of a segment").or_default() += 1,
            _ => {}
        }
    }

    /// Checks that nothing is missing.
    pub(crate) fn assert_is_good(&self) {
        for reason in [
            "OFF",
            "FALLTHROUGH",
            "TARGET_MATCH",
            "RULE_MATCH",
            "PREREQUISITE_FAILED",
            "ERROR MALFORMED_FLAG",
            "ERROR USER_NOT_SPECIFIED",
            "inExperiment",
            "bigSegmentsStatus",
        ] {
            let n = self.reasons.get(reason).copied().unwrap_or_default();
            assert!(n >= N_EACH, "{reason}: {n}");
        }
        for op in OPERATORS {
            for holds in [false, true] {
                let n = self.clauses.get(&(op, holds)).copied().unwrap_or_default();
                assert!(n >= N_EACH, "{op} {holds}: {n}");
            }
        }
        let rest = self.rollouts.iter().chain(&self.contexts);
        assert_eq!(rest.filter(|(_, n)| **n >= N_EACH).count(), 5, "{self}");
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, n) in &self.reasons {
            writeln!(f, "{n:>8} {name}")?;
        }
        for (name, n) in self.contexts.iter().chain(&self.rollouts) {
            writeln!(f, "{n:>8} {name}")?;
        }
        for ((op, holds), n) in &self.clauses {
            writeln!(f, "{n:>8} {op} {}", if *holds { "holds" } else { "does not hold" })?;
        }
        Ok(())
    }
}
