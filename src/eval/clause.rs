//! Clauses: one test of one attribute, compiled once and matched many times.
//!
//! What the operators do with a value is in `operator`.
// HOT: matching allocates nothing, builds no pattern, writes no log.

use crate::eval::evaluate::Evaluation;
use crate::eval::evaluate::Visited;
use crate::eval::explain::Observer;
use crate::eval::operator::Test;
use crate::eval::outcome::ErrorKind;
use crate::model::attribute::Attribute;
use crate::model::attribute::AttributeRef;
use crate::model::context::Context;
use crate::model::context::KindRef;
use crate::model::key::SegmentKey;
use crate::model::rule::Clause;
use serde_json::Value;

/// A clause that is ready to be matched.
#[derive(Debug)]
pub(crate) struct CompiledClause {
    pub(crate) subject: Subject,
    /// The operator's name, for people; empty if nobody knows it.
    pub(crate) op: &'static str,
    /// Inverts the result, except where the attribute is absent.
    pub(crate) negate: bool,
}

/// What is tested.
#[derive(Debug)]
pub(crate) enum Subject {
    /// Whether the context is in any of the segments.
    Segments(Box<[SegmentKey]>),
    /// Any kind of the context.
    Kinds(Test),
    /// An attribute, or any element of it if it is an array.
    Attribute { kind: KindRef, attribute: AttributeRef, test: Test },
    /// The attribute is not a reference: reaching the clause makes the flag malformed.
    Malformed,
}

impl CompiledClause {
    pub(crate) fn new(clause: &Clause) -> Self {
        let known = crate::eval::OPERATORS.iter().find(|op| **op == clause.op);
        let op = known.copied().unwrap_or_default();
        Self { subject: Subject::new(clause), op, negate: clause.negate }
    }

    /// Whether the clause matches.
    ///
    /// # Errors
    ///
    /// The clause, or a segment that it refers to, is malformed.
    #[inline]
    pub(crate) fn matches<O: Observer>(
        &self,
        evaluation: &Evaluation<'_, '_, O>,
        visited: Option<&Visited<'_>>,
    ) -> Result<bool, ErrorKind> {
        let holds = match &self.subject {
            Subject::Attribute { kind, attribute, test } => {
                match evaluation.context.of_kind(kind).and_then(|each| each.attribute(attribute)) {
                    Some(value) => test.holds_for_any(value),
                    // An absent attribute matches nothing, not even when negated.
                    None => return Ok(false),
                }
            }
            Subject::Segments(keys) => is_in_any(keys, evaluation, visited)?,
            Subject::Kinds(test) => {
                let mut kinds = evaluation.context.kinds().iter();
                kinds.any(|each| test.holds(Attribute::Text(&each.kind)))
            }
            Subject::Malformed => return Err(ErrorKind::MalformedFlag),
        };
        Ok(holds != self.negate)
    }

    /// The value that is tested, for people.
    pub(crate) fn found<'c>(&self, context: &'c Context) -> Option<Attribute<'c>> {
        match &self.subject {
            Subject::Attribute { kind, attribute, .. } => {
                context.of_kind(kind)?.attribute(attribute)
            }
            _ => None,
        }
    }
}

/// Kept apart, so that clauses about attributes do not pay for the room that this one needs on the stack.
#[inline(never)]
fn is_in_any<O: Observer>(
    segments: &[SegmentKey],
    evaluation: &Evaluation<'_, '_, O>,
    visited: Option<&Visited<'_>>,
) -> Result<bool, ErrorKind> {
    for segment in segments {
        if evaluation.is_in_segment(segment, visited)? {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Subject {
    fn new(clause: &Clause) -> Self {
        if clause.op == "segmentMatch" {
            let keys = clause.values.iter().filter_map(Value::as_str);
            return Self::Segments(keys.map(SegmentKey::stored).collect());
        }
        let attribute = match (clause.attribute.is_empty(), clause.context_kind.is_empty()) {
            (true, _) => None,
            // Old data, in which a name is a name.
            (false, true) => Some(AttributeRef::literal(&clause.attribute)),
            (false, false) => AttributeRef::parse(&clause.attribute),
        };
        let Some(attribute) = attribute else {
            return Self::Malformed;
        };
        let test = Test::new(clause);
        if attribute == AttributeRef::literal("kind") {
            return Self::Kinds(test);
        }
        Self::Attribute { kind: KindRef::new(&clause.context_kind), attribute, test }
    }
}
