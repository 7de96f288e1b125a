//! The walk over a compiled flag.
// HOT: no allocation, no lock, no log.

use crate::eval::CompiledFlag;
use crate::eval::ErrorKind;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::eval::Ruleset;
use crate::eval::compile::CompiledPrerequisite;
use crate::eval::compile::CompiledRule;
use crate::eval::compile::Serve;
use crate::eval::explain::ClausePlace;
use crate::eval::explain::Observer;
use crate::eval::explain::Silent;
use crate::eval::explain::Step;
use crate::eval::segment::Membership;
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
/// Linear in the clauses that are reached; no allocation but what a pattern of `matches` may need when it is first used.
pub fn evaluate<'r>(
    ruleset: &'r Ruleset,
    flag: &'r CompiledFlag,
    context: &Context,
) -> Outcome<'r> {
    Evaluation::new(ruleset, context, Silent).outcome(flag)
}

/// What stays the same while one flag is evaluated.
pub(crate) struct Evaluation<'r, 'c, O> {
    ruleset: &'r Ruleset,
    pub(crate) context: &'c Context,
    pub(crate) observer: O,
    /// Whether a segment was reached whose keys are kept elsewhere.
    pub(crate) lacks_big_segments: Cell<bool>,
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

impl<'r, 'c, O: Observer> Evaluation<'r, 'c, O> {
    pub(crate) fn new(ruleset: &'r Ruleset, context: &'c Context, observer: O) -> Self {
        let (lacks_big_segments, n_visits) = (Cell::new(false), Cell::new(0));
        Self { ruleset, context, observer, lacks_big_segments, n_visits }
    }

    /// Evaluates the flag that is asked for.
    #[inline]
    pub(crate) fn outcome(&self, flag: &'r CompiledFlag) -> Outcome<'r> {
        let outcome = self.evaluate(flag, None).unwrap_or_else(Outcome::error);
        Outcome { lacks_big_segments: self.lacks_big_segments.get(), ..outcome }
    }

    /// An error ends the evaluation as a whole, also of the flags that have this one as a prerequisite; an outcome that is one
    /// does not.
    #[inline]
    fn evaluate(
        &self,
        flag: &'r CompiledFlag,
        outer: Option<&Visited<'_>>,
    ) -> Result<Outcome<'r>, ErrorKind> {
        self.observer.note(|| Step::Flag { flag: flag.key.to_string(), on: flag.is_on });
        let result =
            if flag.is_on { self.evaluate_on(flag, outer) } else { Ok(off(flag, Reason::Off)) };
        self.observer.note(|| Step::result(flag, &result));
        result
    }

    #[inline]
    fn evaluate_on(
        &self,
        flag: &'r CompiledFlag,
        outer: Option<&Visited<'_>>,
    ) -> Result<Outcome<'r>, ErrorKind> {
        if !flag.prerequisites.is_empty()
            && let Some(failed) = self.failed_prerequisite(flag, outer)?
        {
            return Ok(off(flag, Reason::PrerequisiteFailed { key: failed.key.as_str() }));
        }
        for target in &flag.targets {
            let key = self.context.of_kind(&target.kind).and_then(|each| each.key.as_deref());
            let is_match = key.is_some_and(|key| target.keys.contains(key));
            self.observer.note(|| Step::Target {
                flag: flag.key.to_string(),
                context_kind: target.kind.to_string(),
                key: key.map(str::to_owned),
                variation: target.variation,
                is_match,
            });
            if is_match {
                return Ok(chosen(flag, target.variation, Reason::TargetMatch));
            }
        }
        for (rule_index, rule) in flag.rules.iter().enumerate() {
            if self.is_rule_match(flag, rule_index, rule)? {
                let reason =
                    Reason::RuleMatch { rule_index, rule_id: &rule.id, in_experiment: false };
                return self.serve(flag, &rule.serve, reason);
            }
        }
        self.serve(flag, &flag.fallthrough, Reason::Fallthrough { in_experiment: false })
    }

    #[inline]
    fn is_rule_match(
        &self,
        flag: &CompiledFlag,
        rule_index: usize,
        rule: &CompiledRule,
    ) -> Result<bool, ErrorKind> {
        let mut all_match = true;
        for (i, clause) in rule.clauses.iter().enumerate() {
            let is_match = clause.matches(self, None);
            self.observer.note(|| {
                let flag = flag.key.to_string();
                let place = ClausePlace::Flag { flag, rule: rule_index, clause: i };
                Step::clause(place, clause, self.context, is_match.ok())
            });
            if !is_match? {
                all_match = false;
                break;
            }
        }
        self.observer.note(|| Step::Rule {
            flag: flag.key.to_string(),
            rule: rule_index,
            id: rule.id.to_string(),
            is_match: all_match,
        });
        Ok(all_match)
    }

    fn failed_prerequisite(
        &self,
        flag: &'r CompiledFlag,
        outer: Option<&Visited<'_>>,
    ) -> Result<Option<&'r CompiledPrerequisite>, ErrorKind> {
        let visited = Visited::enter(flag.key.as_str(), outer)?;
        for prerequisite in &flag.prerequisites {
            self.count_visit()?;
            let other = self.ruleset.flag(prerequisite.key.as_str());
            let served = match other {
                Some(other) => self.evaluate(other, Some(&visited))?.variation,
                None => None,
            };
            let served = served.map(|(index, _)| index);
            // A flag that is off fulfils nothing, even if its off variation is the one asked for.
            let is_fulfilled = other.is_some_and(|other| other.is_on)
                && served.is_some_and(|served| u32::try_from(served) == Ok(prerequisite.variation));
            self.observer.note(|| Step::Prerequisite {
                flag: flag.key.to_string(),
                key: prerequisite.key.to_string(),
                wanted: prerequisite.variation,
                served,
                is_fulfilled,
            });
            if !is_fulfilled {
                return Ok(Some(prerequisite));
            }
        }
        Ok(None)
    }

    #[inline]
    fn serve(
        &self,
        flag: &'r CompiledFlag,
        serve: &Serve,
        reason: Reason<'r>,
    ) -> Result<Outcome<'r>, ErrorKind> {
        match serve {
            Serve::Variation(variation) => Ok(chosen(flag, *variation, reason)),
            Serve::Rollout(rollout) => {
                self.observer.note_if_any(|| Step::rollout(flag, rollout, self.context));
                let share = rollout.share(self.context)?;
                let reason = if share.in_experiment { reason.in_experiment() } else { reason };
                Ok(Outcome { is_split: true, ..chosen(flag, share.variation, reason) })
            }
            Serve::Malformed => Ok(Outcome::error(ErrorKind::MalformedFlag)),
        }
    }

    /// Whether the context is in the segment; an unknown segment has nobody in it.
    pub(crate) fn is_in_segment(
        &self,
        key: &SegmentKey,
        outer: Option<&Visited<'_>>,
    ) -> Result<bool, ErrorKind> {
        self.count_visit()?;
        let found = self.ruleset.segment(key.as_str());
        let membership = match found {
            Some(segment) => Visited::enter(segment.key.as_str(), outer)
                .and_then(|visited| segment.membership(self, &visited)),
            None => Ok(Membership::NoRule),
        };
        let is_in = membership
            .map(|membership| matches!(membership, Membership::Included | Membership::Rule(_)));
        self.observer.note(|| Step::Segment {
            segment: key.to_string(),
            is_in: is_in.ok(),
            because: match membership {
                _ if found.is_none() => "there is no such segment".to_owned(),
                Ok(Membership::Included) => "its key is included".to_owned(),
                Ok(Membership::Excluded) => "its key is excluded".to_owned(),
                Ok(Membership::Rule(i)) => format!("rule {i} matches"),
                Ok(Membership::NoRule) => "no rule matches".to_owned(),
                Err(_) => "the segment makes no sense where this context leads".to_owned(),
            },
        });
        is_in
    }

    fn count_visit(&self) -> Result<(), ErrorKind> {
        let n_visits = self.n_visits.get() + 1;
        self.n_visits.set(n_visits);
        if n_visits > VISITS_MAX { Err(ErrorKind::MalformedFlag) } else { Ok(()) }
    }
}

#[inline]
fn off<'r>(flag: &'r CompiledFlag, reason: Reason<'r>) -> Outcome<'r> {
    match flag.off_variation {
        Some(variation) => chosen(flag, variation, reason),
        None => Outcome { variation: None, reason, is_split: false, lacks_big_segments: false },
    }
}

#[inline]
fn chosen<'r>(flag: &'r CompiledFlag, variation: u32, reason: Reason<'r>) -> Outcome<'r> {
    let found = usize::try_from(variation)
        .ok()
        .and_then(|index| Some((index, flag.variations.get(index)?)));
    match found {
        Some(found) => {
            Outcome { variation: Some(found), reason, is_split: false, lacks_big_segments: false }
        }
        None => Outcome::error(ErrorKind::MalformedFlag),
    }
}
