//! Why a flag has its value for a context, step by step.
//!
//! There is one evaluator. What it passes on its way is told to an [`Observer`]; the silent one costs nothing, because each step
//! is made by a closure that it never calls.

use crate::eval::CompiledFlag;
use crate::eval::Outcome;
use crate::eval::Ruleset;
use crate::eval::clause::CompiledClause;
use crate::eval::clause::Subject;
use crate::eval::evaluate::Evaluation;
use crate::eval::outcome::ErrorKind;
use crate::eval::rollout::CompiledRollout;
use crate::eval::rollout::Place;
use crate::model::attribute::Attribute;
use crate::model::context::Context;
use crate::model::rule::RolloutHash;
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use utoipa::ToSchema;

/// Steps that one explanation has at most; further ones are left out, but for the result.
const EXPLAIN_STEPS_MAX: usize = 1_000;

/// Bytes of a context's value that a step shows; of a longer one it says how long it is.
const SHOWN_BYTES_MAX: usize = 256;
/// Segments of one clause that a step names.
const SHOWN_SEGMENTS_MAX: usize = 20;

/// Evaluates a flag and tells each step on the way; the last one is its result.
pub fn explain<'r>(
    ruleset: &'r Ruleset,
    flag: &'r CompiledFlag,
    context: &Context,
) -> (Outcome<'r>, Vec<Step>) {
    let evaluation = Evaluation::new(ruleset, context, Recorder::default());
    let outcome = evaluation.outcome(flag);
    let mut steps = evaluation.observer.steps.into_inner();
    let result = Step::result(flag, &Ok(outcome));
    if steps.last() != Some(&result) {
        steps.push(result);
    }
    (outcome, steps)
}

/// Is told each step of an evaluation.
pub(crate) trait Observer {
    /// Takes note of a step, if there is one to tell.
    fn note_if_any(&self, make: impl FnOnce() -> Option<Step>);

    /// Takes note of a step.
    #[inline]
    fn note(&self, make: impl FnOnce() -> Step) {
        self.note_if_any(|| Some(make()));
    }
}

/// Takes note of nothing.
#[derive(Debug)]
pub(crate) struct Silent;

impl Observer for Silent {
    #[inline]
    fn note_if_any(&self, _: impl FnOnce() -> Option<Step>) {}
}

/// Takes note of everything.
#[derive(Debug, Default)]
struct Recorder {
    steps: RefCell<Vec<Step>>,
}

impl Observer for Recorder {
    fn note_if_any(&self, make: impl FnOnce() -> Option<Step>) {
        let mut steps = self.steps.borrow_mut();
        if steps.len() < EXPLAIN_STEPS_MAX {
            steps.extend(make());
        }
    }
}

/// One step of an evaluation, in the order in which they were taken.
///
/// The steps of a prerequisite stand between `flag` with its key and the `prerequisite` that they lead to.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(tag = "step", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Step {
    /// The evaluation of a flag began.
    Flag {
        /// Its key.
        flag: String,
        /// Whether it is on; if not, its off variation is served.
        on: bool,
    },
    /// A prerequisite was judged.
    Prerequisite {
        /// The flag that has it.
        flag: String,
        /// The other flag.
        key: String,
        /// The variation that the other flag must serve.
        wanted: u32,
        /// The variation that it serves; `null` if it serves none, or does not exist.
        served: Option<usize>,
        /// Whether it is fulfilled; a flag that is off fulfils nothing.
        is_fulfilled: bool,
    },
    /// A list of individual targets was looked at.
    Target {
        /// The flag that has it.
        flag: String,
        /// The kind of the keys in it.
        context_kind: String,
        /// The context's key of this kind.
        key: Option<String>,
        /// What those in it get.
        variation: u32,
        /// Whether the key is in it.
        is_match: bool,
    },
    /// A clause was tested.
    Clause {
        /// Where it stands.
        #[serde(flatten)]
        place: ClausePlace,
        /// The kind of the context that has the attribute; absent for `segmentMatch` and for the attribute `kind`.
        #[serde(skip_serializing_if = "Option::is_none")]
        context_kind: Option<String>,
        /// Which attribute.
        #[serde(skip_serializing_if = "Option::is_none")]
        attribute: Option<String>,
        /// What the context has there; `null` if it has nothing, which matches nothing.
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<Value>,
        /// The segments that were asked for, of which the first that matches decides.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        segments: Vec<String>,
        /// The operator; empty if it is not known.
        op: &'static str,
        /// Whether the result is inverted.
        negate: bool,
        /// The result; `null` if the clause makes no sense, which makes the flag malformed.
        is_match: Option<bool>,
    },
    /// A segment was asked.
    Segment {
        /// Its key.
        segment: String,
        /// Whether the context is in it; `null` if that could not be told.
        is_in: Option<bool>,
        /// What decided.
        because: String,
    },
    /// The share of a segment's rule was looked at.
    Share {
        /// The segment.
        segment: String,
        /// Its rule, from 0.
        rule: usize,
        /// Where the context lies, in the unit of the hash; `null` if it cannot be placed.
        bucket: Option<f32>,
        /// Where the share ends, which begins at 0.
        to: f32,
        /// Whether the context is in the share; `null` if that could not be told.
        is_in: Option<bool>,
    },
    /// All clauses of a rule were tested, as far as it takes.
    Rule {
        /// The flag that has it.
        flag: String,
        /// Its position, from 0.
        rule: usize,
        /// Its id.
        id: String,
        /// Whether all matched.
        is_match: bool,
    },
    /// A percentage rollout was reached.
    Rollout {
        /// The flag that has it.
        flag: String,
        /// The kind of the context that is divided.
        context_kind: String,
        /// The attribute that is hashed.
        attribute: String,
        /// What the context has there; `null` if it has nothing, which places it at the beginning.
        value: Option<Value>,
        /// How it is hashed.
        hash: RolloutHash,
        /// Where the context lies: a slot of 100,000 for `murmur3`, a share from 0 to 1 for `sha1`.
        bucket: f32,
        /// The slice that it fell into, from 0.
        slice: usize,
        /// Where the slice begins.
        from: f32,
        /// Where it ends; the last one goes on to the end of the ring.
        to: f32,
        /// The variation that owns it.
        variation: u32,
    },
    /// The flag was found to have this result.
    Result {
        /// The flag.
        flag: String,
        /// The variation; `null` if there is none.
        variation: Option<usize>,
        /// Why.
        reason: &'static str,
    },
}

/// Where a clause stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum ClausePlace {
    /// In a rule of a flag.
    Flag {
        /// The flag.
        flag: String,
        /// The rule, from 0.
        rule: usize,
        /// The clause, from 0.
        clause: usize,
    },
    /// In a rule of a segment.
    Segment {
        /// The segment.
        segment: String,
        /// The rule, from 0.
        rule: usize,
        /// The clause, from 0.
        clause: usize,
    },
}

/// The value as JSON, if it is not too long to be shown many times.
fn shown(attribute: Attribute<'_>) -> Value {
    let value = attribute.to_json();
    let n_bytes = value.to_string().len();
    if n_bytes > SHOWN_BYTES_MAX { Value::from(format!("({n_bytes} bytes)")) } else { value }
}

impl Step {
    pub(crate) fn clause(
        place: ClausePlace,
        clause: &CompiledClause,
        context: &Context,
        is_match: Option<bool>,
    ) -> Self {
        let (context_kind, attribute, segments) = match &clause.subject {
            Subject::Attribute { kind, attribute, .. } => {
                (Some(kind.to_string()), Some(attribute.to_string()), Vec::new())
            }
            Subject::Kinds(_) => (None, Some("kind".to_owned()), Vec::new()),
            Subject::Segments(keys) => {
                let shown = keys.iter().take(SHOWN_SEGMENTS_MAX).map(ToString::to_string);
                (None, None, shown.collect())
            }
            Subject::Malformed => (None, None, Vec::new()),
        };
        let found = match &clause.subject {
            Subject::Attribute { .. } => Some(clause.found(context).map_or(Value::Null, shown)),
            Subject::Kinds(_) => {
                Some(context.kinds().iter().map(|each| each.kind.as_str()).collect())
            }
            _ => None,
        };
        let (op, negate) = (clause.op, clause.negate);
        Self::Clause { place, context_kind, attribute, found, segments, op, negate, is_match }
    }

    /// `None` if the context could not be placed.
    pub(crate) fn rollout(
        flag: &CompiledFlag,
        rollout: &CompiledRollout,
        context: &Context,
    ) -> Option<Self> {
        let divider = &rollout.divider;
        let bucket = match divider.place(context) {
            Place::At(at) => at,
            Place::NoKind => 0.0,
            Place::NoKey => return None,
        };
        let slices = rollout.slices();
        let last = slices.len().checked_sub(1)?;
        let slice = slices.iter().position(|slice| bucket < slice.end).unwrap_or(last);
        let from = slice.checked_sub(1).and_then(|before| slices.get(before));
        let own = slices.get(slice)?;
        let value =
            context.of_kind(&divider.kind).and_then(|each| each.attribute(&divider.bucket_by));
        Some(Self::Rollout {
            flag: flag.key.to_string(),
            context_kind: divider.kind.to_string(),
            attribute: divider.bucket_by.to_string(),
            value: value.map(shown),
            hash: divider.hash(),
            bucket,
            slice,
            from: from.map_or(0.0, |before| before.end),
            to: own.end,
            variation: own.variation,
        })
    }

    pub(crate) fn result(flag: &CompiledFlag, result: &Result<Outcome<'_>, ErrorKind>) -> Self {
        let outcome = result.unwrap_or_else(Outcome::error);
        Self::Result {
            flag: flag.key.to_string(),
            variation: outcome.variation.map(|(index, _)| index),
            reason: outcome.reason.kind(),
        }
    }
}
