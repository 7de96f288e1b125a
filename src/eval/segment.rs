//! Segments, compiled: whether a context is in one.
// HOT: no allocation, no lock, no log.

use crate::eval::clause::CompiledClause;
use crate::eval::evaluate::Evaluation;
use crate::eval::evaluate::Visited;
use crate::eval::explain::ClausePlace;
use crate::eval::explain::Observer;
use crate::eval::explain::Step;
use crate::eval::key_set::KeySet;
use crate::eval::outcome::ErrorKind;
use crate::eval::rollout::Divider;
use crate::eval::rollout::Place;
use crate::eval::rollout::length_of;
use crate::model::context::Context;
use crate::model::context::KindRef;
use crate::model::key::SegmentKey;
use crate::model::rule::USER_KIND;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use crate::model::segment::SegmentTarget;

/// A segment of one environment, ready to be asked.
#[derive(Debug)]
pub struct CompiledSegment {
    /// Its key.
    pub key: SegmentKey,
    /// The environment's version at which it last changed.
    pub version: i64,
    lists: Lists,
    rules: Vec<CompiledSegmentRule>,
}

/// Who is in or out by key.
#[derive(Debug)]
enum Lists {
    Here {
        included: Vec<KindSet>,
        excluded: Vec<KindSet>,
    },
    /// LaunchDarkly keeps them elsewhere, where this server does not look.
    Elsewhere {
        kind: KindRef,
        has_generation: bool,
    },
}

#[derive(Debug)]
struct KindSet {
    kind: KindRef,
    keys: KeySet,
}

#[derive(Debug)]
struct CompiledSegmentRule {
    clauses: Vec<CompiledClause>,
    share: Option<Share>,
}

/// The share of the matching contexts that is in the segment.
#[derive(Debug)]
struct Share {
    /// `None` if it is not divided by a reference: reaching the rule is an error.
    divider: Option<Divider>,
    end: f32,
}

/// Why a context is in a segment or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Membership {
    Included,
    Excluded,
    Rule(usize),
    NoRule,
}

/// Compiles a segment.
pub fn compile_segment(segment: &Segment, version: i64) -> CompiledSegment {
    let lists = if segment.unbounded {
        Lists::Elsewhere {
            kind: KindRef::new(&segment.unbounded_context_kind),
            has_generation: segment.generation.is_some(),
        }
    } else {
        Lists::Here {
            included: kind_sets(&segment.included, &segment.included_contexts),
            excluded: kind_sets(&segment.excluded, &segment.excluded_contexts),
        }
    };
    CompiledSegment {
        key: segment.key.clone(),
        version,
        lists,
        rules: segment.rules.iter().map(|rule| compile_rule(rule, segment)).collect(),
    }
}

fn kind_sets(users: &[String], others: &[SegmentTarget]) -> Vec<KindSet> {
    let set = |kind: &str, keys: &[String]| KindSet {
        kind: KindRef::new(kind),
        keys: keys.iter().map(String::as_str).collect(),
    };
    let users = std::iter::once(set(USER_KIND, users));
    let others = others.iter().map(|other| set(&other.context_kind, &other.values));
    users.chain(others).filter(|set| !set.keys.is_empty()).collect()
}

fn compile_rule(rule: &SegmentRule, segment: &Segment) -> CompiledSegmentRule {
    let prefix = format!("{}.{}.", segment.key, segment.salt);
    let (kind, hash) = (&rule.rollout_context_kind, rule.hash.unwrap_or_default());
    CompiledSegmentRule {
        clauses: rule.clauses.iter().map(CompiledClause::new).collect(),
        share: rule.weight_milli_pct.map(|weight| Share {
            divider: Divider::new(kind, &rule.bucket_by, hash, &prefix),
            end: length_of(weight, hash),
        }),
    }
}

impl CompiledSegment {
    /// The clauses of all rules.
    pub(crate) fn clauses(&self) -> impl Iterator<Item = &CompiledClause> {
        self.rules.iter().flat_map(|rule| &rule.clauses)
    }

    /// Why the context is in the segment or not.
    ///
    /// # Errors
    ///
    /// A rule that was reached is malformed, or segments refer to each other in a circle.
    pub(crate) fn membership<O: Observer>(
        &self,
        evaluation: &Evaluation<'_, '_, O>,
        visited: &Visited<'_>,
    ) -> Result<Membership, ErrorKind> {
        let context = evaluation.context;
        match &self.lists {
            Lists::Here { included, excluded } => {
                if included.iter().any(|set| set.has(context)) {
                    return Ok(Membership::Included);
                }
                if excluded.iter().any(|set| set.has(context)) {
                    return Ok(Membership::Excluded);
                }
            }
            Lists::Elsewhere { has_generation: false, .. } => {
                evaluation.lacks_big_segments.set(true);
                return Ok(Membership::NoRule);
            }
            Lists::Elsewhere { kind, .. } => {
                if context.of_kind(kind).is_none() {
                    return Ok(Membership::NoRule);
                }
                evaluation.lacks_big_segments.set(true);
            }
        }
        for (i, rule) in self.rules.iter().enumerate() {
            if self.matches(i, rule, evaluation, visited)? {
                return Ok(Membership::Rule(i));
            }
        }
        Ok(Membership::NoRule)
    }

    fn matches<O: Observer>(
        &self,
        rule_index: usize,
        rule: &CompiledSegmentRule,
        evaluation: &Evaluation<'_, '_, O>,
        visited: &Visited<'_>,
    ) -> Result<bool, ErrorKind> {
        let place = |clause| ClausePlace::Segment {
            segment: self.key.to_string(),
            rule: rule_index,
            clause,
        };
        for (i, clause) in rule.clauses.iter().enumerate() {
            let is_match = clause.matches(evaluation, Some(visited));
            evaluation
                .observer
                .note(|| Step::clause(place(i), clause, evaluation.context, is_match.ok()));
            if !is_match? {
                return Ok(false);
            }
        }
        rule.share.as_ref().map_or(Ok(true), |share| {
            let is_in = share.has(evaluation.context);
            evaluation.observer.note(|| Step::Share {
                segment: self.key.to_string(),
                rule: rule_index,
                bucket: share.bucket(evaluation.context),
                to: share.end,
                is_in: is_in.ok(),
            });
            is_in
        })
    }
}

impl KindSet {
    fn has(&self, context: &Context) -> bool {
        let key = context.of_kind(&self.kind).and_then(|each| each.key.as_deref());
        key.is_some_and(|key| self.keys.contains(key))
    }
}

impl Share {
    /// Where the context lies, for people.
    fn bucket(&self, context: &Context) -> Option<f32> {
        match self.divider.as_ref()?.place(context) {
            Place::At(at) => Some(at),
            Place::NoKind | Place::NoKey => None,
        }
    }

    fn has(&self, context: &Context) -> Result<bool, ErrorKind> {
        let divider = self.divider.as_ref().ok_or(ErrorKind::MalformedFlag)?;
        Ok(match divider.place(context) {
            Place::At(at) => at < self.end,
            Place::NoKind => false,
            // It lies at the beginning, as one does whose attribute is absent.
            Place::NoKey => self.end > 0.0,
        })
    }
}
