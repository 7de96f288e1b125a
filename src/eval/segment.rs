//! Segments, compiled: whether a context is in one.
// HOT: no allocation but for the digits of a number that is hashed, no lock, no log.

use crate::eval::bucket;
use crate::eval::clause::CompiledClause;
use crate::eval::compile::bucket_attribute;
use crate::eval::compile::kind_or_user;
use crate::eval::evaluate::Evaluation;
use crate::eval::evaluate::Visited;
use crate::eval::outcome::ErrorKind;
use crate::model::context::AttributeRef;
use crate::model::context::Context;
use crate::model::key::SegmentKey;
use crate::model::rule::USER_KIND;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use crate::model::segment::SegmentTarget;
use std::collections::HashSet;

/// A segment of one environment, ready to be asked.
#[derive(Debug)]
pub struct CompiledSegment {
    /// Its key.
    pub key: SegmentKey,
    /// The environment's version at which it last changed.
    pub version: i64,
    included: Vec<KeySet>,
    excluded: Vec<KeySet>,
    rules: Vec<CompiledSegmentRule>,
}

#[derive(Debug)]
struct KeySet {
    kind: String,
    keys: HashSet<String>,
}

#[derive(Debug)]
struct CompiledSegmentRule {
    clauses: Vec<CompiledClause>,
    share: Option<Share>,
}

/// The share of the matching contexts that is in the segment.
#[derive(Debug)]
struct Share {
    weight_milli_pct: u32,
    kind: String,
    /// `None` if it is not a reference: reaching the rule is an error.
    bucket_by: Option<AttributeRef>,
    prefix: String,
}

/// Compiles a segment.
pub fn compile_segment(segment: &Segment, version: i64) -> CompiledSegment {
    CompiledSegment {
        key: segment.key.clone(),
        version,
        included: key_sets(&segment.included, &segment.included_contexts),
        excluded: key_sets(&segment.excluded, &segment.excluded_contexts),
        rules: segment.rules.iter().map(|rule| compile_rule(rule, segment)).collect(),
    }
}

fn key_sets(users: &[String], others: &[SegmentTarget]) -> Vec<KeySet> {
    let users = (!users.is_empty())
        .then(|| KeySet { kind: USER_KIND.to_owned(), keys: users.iter().cloned().collect() });
    let others = others.iter().map(|target| KeySet {
        kind: kind_or_user(&target.context_kind).to_owned(),
        keys: target.values.iter().cloned().collect(),
    });
    users.into_iter().chain(others).collect()
}

fn compile_rule(rule: &SegmentRule, segment: &Segment) -> CompiledSegmentRule {
    CompiledSegmentRule {
        clauses: rule.clauses.iter().map(CompiledClause::new).collect(),
        share: rule.weight_milli_pct.map(|weight_milli_pct| Share {
            weight_milli_pct,
            kind: kind_or_user(&rule.rollout_context_kind).to_owned(),
            bucket_by: bucket_attribute(&rule.rollout_context_kind, &rule.bucket_by),
            prefix: format!("{}.{}.", segment.key, segment.salt),
        }),
    }
}

impl CompiledSegment {
    /// Whether the context is in the segment.
    ///
    /// # Errors
    ///
    /// A rule that was reached is malformed, or segments refer to each other in a circle.
    pub(crate) fn contains(
        &self,
        evaluation: &Evaluation<'_>,
        visited: &Visited<'_>,
    ) -> Result<bool, ErrorKind> {
        let context = evaluation.context;
        if self.included.iter().any(|set| set.has(context)) {
            return Ok(true);
        }
        if self.excluded.iter().any(|set| set.has(context)) {
            return Ok(false);
        }
        for rule in &self.rules {
            if rule.matches(evaluation, visited)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl KeySet {
    fn has(&self, context: &Context) -> bool {
        let key = context.kind(&self.kind).and_then(|each| each.key.as_deref());
        key.is_some_and(|key| self.keys.contains(key))
    }
}

impl CompiledSegmentRule {
    fn matches(
        &self,
        evaluation: &Evaluation<'_>,
        visited: &Visited<'_>,
    ) -> Result<bool, ErrorKind> {
        for clause in &self.clauses {
            if !clause.matches(evaluation, Some(visited))? {
                return Ok(false);
            }
        }
        self.share.as_ref().map_or(Ok(true), |share| share.has(evaluation.context))
    }
}

impl Share {
    fn has(&self, context: &Context) -> Result<bool, ErrorKind> {
        let bucket_by = self.bucket_by.as_ref().ok_or(ErrorKind::MalformedFlag)?;
        let Some(each) = context.kind(&self.kind) else {
            return Ok(false);
        };
        let attribute = each.attribute(bucket_by);
        let slot = attribute.and_then(|value| bucket::attribute_slot(&self.prefix, value));
        // A value that cannot be placed lies in slot 0, as in a rollout.
        Ok(slot.unwrap_or(0) < self.weight_milli_pct)
    }
}
