//! The walk over a compiled flag.
// HOT: no allocation but for the digits of a number that is hashed, no lock, no log.

use crate::eval::CompiledFlag;
use crate::eval::CompiledVariation;
use crate::eval::ErrorKind;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::eval::Ruleset;
use crate::eval::bucket;
use crate::eval::compile::CompiledRollout;
use crate::eval::compile::Serve;
use crate::model::context::AttributeRef;
use crate::model::context::Context;
use crate::model::key::SegmentKey;
use std::cell::Cell;

/// Prerequisites and nested segments that one evaluation may visit before the flag counts as malformed.
///
/// Far beyond what anybody needs; bounds the time where references branch again and again.
const VISITS_MAX: u32 = 100_000;
/// How deep prerequisites and segments may be nested before the flag counts as malformed; bounds the stack.
const DEPTH_MAX: u32 = 64;

/// Evaluates a flag for a context.
///
/// # Cost
///
/// Linear in the clauses that are reached; no allocation on the common path.
pub fn evaluate<'r>(
    ruleset: &'r Ruleset,
    flag: &'r CompiledFlag,
    context: &'r Context,
) -> Outcome<'r> {
    let evaluation = Evaluation { ruleset, context, n_visits: Cell::new(0) };
    evaluation.evaluate(flag, None).unwrap_or_else(Outcome::error)
}

/// What stays the same while one flag is evaluated.
pub(crate) struct Evaluation<'r> {
    ruleset: &'r Ruleset,
    pub(crate) context: &'r Context,
    n_visits: Cell<u32>,
}

/// The flags or segments that are being evaluated, innermost first; finds circles without allocating.
pub(crate) struct Visited<'v> {
    key: &'v str,
    depth: u32,
    outer: Option<&'v Visited<'v>>,
}

impl<'v> Visited<'v> {
    /// Goes one step deeper.
    ///
    /// # Errors
    ///
    /// `key` is being evaluated already, or the nesting is too deep.
    fn enter(key: &'v str, outer: Option<&'v Visited<'v>>) -> Result<Self, ErrorKind> {
        let mut each = outer;
        while let Some(visited) = each {
            if visited.key == key {
                return Err(ErrorKind::MalformedFlag);
            }
            each = visited.outer;
        }
        let depth = outer.map_or(0, |visited| visited.depth + 1);
        if depth > DEPTH_MAX {
            return Err(ErrorKind::MalformedFlag);
        }
        Ok(Self { key, depth, outer })
    }
}

impl<'r> Evaluation<'r> {
    fn evaluate(
        &self,
        flag: &'r CompiledFlag,
        outer: Option<&Visited<'_>>,
    ) -> Result<Outcome<'r>, ErrorKind> {
        if !flag.is_on {
            return off(flag, Reason::Off);
        }
        if !flag.prerequisites.is_empty() {
            let visited = Visited::enter(flag.key.as_str(), outer)?;
            for (key, variation) in &flag.prerequisites {
                if !self.is_fulfilled(key.as_str(), *variation, &visited)? {
                    return off(flag, Reason::PrerequisiteFailed { key: key.as_str() });
                }
            }
        }
        for target in &flag.targets {
            let key = self.context.kind(&target.kind).and_then(|each| each.key.as_deref());
            if key.is_some_and(|key| target.keys.contains(key)) {
                return chosen(flag, target.variation, Reason::TargetMatch, false);
            }
        }
        for (rule_index, rule) in flag.rules.iter().enumerate() {
            let mut is_match = true;
            for clause in &rule.clauses {
                if !clause.matches(self, None)? {
                    is_match = false;
                    break;
                }
            }
            if is_match {
                let reason = Reason::RuleMatch { rule_index, rule_id: &rule.id };
                return self.serve(flag, &rule.serve, reason);
            }
        }
        self.serve(flag, &flag.fallthrough, Reason::Fallthrough)
    }

    fn is_fulfilled(
        &self,
        key: &str,
        variation: i64,
        visited: &Visited<'_>,
    ) -> Result<bool, ErrorKind> {
        self.count_visit()?;
        let Some(other) = self.ruleset.flag(key) else {
            return Ok(false);
        };
        let outcome = self.evaluate(other, Some(visited))?;
        let index = outcome.variation.and_then(|(index, _)| i64::try_from(index).ok());
        // A flag that is off fulfils nothing, even if its off variation is the one asked for.
        Ok(other.is_on && index == Some(variation))
    }

    fn serve(
        &self,
        flag: &'r CompiledFlag,
        serve: &'r Serve,
        reason: Reason<'r>,
    ) -> Result<Outcome<'r>, ErrorKind> {
        match serve {
            Serve::Variation(variation) => chosen(flag, *variation, reason, false),
            Serve::Rollout(rollout) => {
                let slot = self.slot(rollout)?;
                chosen(flag, rollout.variation_at(slot), reason, true)
            }
            Serve::Malformed => Err(ErrorKind::MalformedFlag),
        }
    }

    fn slot(&self, rollout: &CompiledRollout) -> Result<u32, ErrorKind> {
        // A context that has no such kind, or no such attribute, lies in slot 0.
        let Some(each) = self.context.kind(&rollout.kind) else {
            return if self.context.kinds().is_empty() {
                Err(ErrorKind::TargetingKeyMissing)
            } else {
                Ok(0)
            };
        };
        match each.attribute(&rollout.bucket_by) {
            Some(value) => Ok(bucket::attribute_slot(&rollout.prefix, value).unwrap_or(0)),
            None if rollout.bucket_by == AttributeRef::key() => Err(ErrorKind::TargetingKeyMissing),
            None => Ok(0),
        }
    }

    /// Whether the context is in the segment; an unknown segment has nobody in it.
    pub(crate) fn is_in_segment(
        &self,
        key: &SegmentKey,
        outer: Option<&Visited<'_>>,
    ) -> Result<bool, ErrorKind> {
        if outer.is_some() {
            self.count_visit()?;
        }
        let Some(segment) = self.ruleset.segment(key) else {
            return Ok(false);
        };
        let visited = Visited::enter(key.as_str(), outer)?;
        segment.contains(self, &visited)
    }

    fn count_visit(&self) -> Result<(), ErrorKind> {
        let n_visits = self.n_visits.get() + 1;
        self.n_visits.set(n_visits);
        if n_visits > VISITS_MAX { Err(ErrorKind::MalformedFlag) } else { Ok(()) }
    }
}

fn off<'r>(flag: &'r CompiledFlag, reason: Reason<'r>) -> Result<Outcome<'r>, ErrorKind> {
    match flag.off_variation {
        Some(variation) => chosen(flag, variation, reason, false),
        None => Ok(Outcome { variation: None, reason, is_split: false }),
    }
}

fn chosen<'r>(
    flag: &'r CompiledFlag,
    variation: i64,
    reason: Reason<'r>,
    is_split: bool,
) -> Result<Outcome<'r>, ErrorKind> {
    let index = usize::try_from(variation).map_err(|_| ErrorKind::MalformedFlag)?;
    let found: Option<&CompiledVariation> = flag.variations.get(index);
    let found = found.ok_or(ErrorKind::MalformedFlag)?;
    Ok(Outcome { variation: Some((index, found)), reason, is_split })
}
