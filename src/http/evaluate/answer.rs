//! The answer about many contexts and flags, written result by result while it is sent.
// HOT: one buffer for each chunk; nothing else is allocated for an evaluation without details.

use crate::eval::CompiledFlag;
use crate::eval::ReasonBody;
use crate::eval::Ruleset;
use crate::eval::Told;
use crate::eval::evaluate;
use crate::eval::explain;
use crate::model::context::Context;
use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;
use std::sync::Arc;
use utoipa::ToSchema;

/// A chunk is sent when it has so many bytes,
const CHUNK_BYTES: usize = 64 * 1024;
/// or after so many evaluations, so that other requests get their turn.
const CHUNK_EVALUATIONS: usize = 10_000;

/// What is told about each evaluation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    /// The value.
    Values,
    /// Value, variation and reason.
    Reasons,
    /// And each step.
    Explained,
}

/// All results; for the API document, since the answer is written piece by piece.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what `Rows` writes")]
pub(super) struct EvaluateBody<'a> {
    /// The environment's key.
    environment: &'a str,
    /// The environment's version.
    version: i64,
    /// The keys of the flags, in the order of each row.
    flags: Vec<&'a str>,
    /// A row for each context, with a value for each flag; with `detail` or `explain`, an object for each.
    #[schema(value_type = Vec<Vec<Object>>)]
    results: Vec<Vec<ResultBody<'a>>>,
}

/// One result with details.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ResultBody<'a> {
    flag: &'a str,
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<&'a RawValue>,
    /// The key of the variation.
    variant: Option<&'a str>,
    variation_index: Option<usize>,
    reason: ReasonBody<'a>,
    /// Why, step by step.
    #[serde(skip_serializing_if = "Option::is_none")]
    steps: Option<Vec<Told>>,
}

/// The answer as a sequence of chunks; each evaluates what it tells.
#[derive(Debug)]
pub(super) struct Rows {
    ruleset: Arc<Ruleset>,
    flags: Vec<(String, Option<Arc<CompiledFlag>>)>,
    contexts: Vec<Context>,
    /// The context and the flag of the next result.
    next_context: usize,
    next_flag: usize,
    detail: Detail,
    /// What comes before the next row; `None` when everything was sent.
    before: Option<Vec<u8>>,
}

impl Rows {
    pub(super) fn new(
        environment: &str,
        ruleset: Arc<Ruleset>,
        flags: Vec<(String, Option<Arc<CompiledFlag>>)>,
        contexts: Vec<Context>,
        detail: Detail,
    ) -> Self {
        let keys: Vec<&str> = flags.iter().map(|(key, _)| key.as_str()).collect();
        let version = ruleset.version;
        let keys = serde_json::json!(keys);
        let before = format!(
            "{{\"environment\":\"{environment}\",\"version\":{version},\"flags\":{keys},\"results\":["
        );
        let before = Some(before.into_bytes());
        Self { ruleset, flags, contexts, next_context: 0, next_flag: 0, detail, before }
    }

    /// Writes the next result of the context, whose flag is the one at `next_flag`.
    fn write_result(&self, context: &Context, out: &mut Vec<u8>) {
        match (self.detail, self.flags.get(self.next_flag)) {
            (Detail::Values, Some((_, Some(flag)))) => {
                let outcome = evaluate(&self.ruleset, flag, context);
                flag.usage.count(&outcome);
                let value = outcome.value();
                out.extend_from_slice(value.map_or("null", RawValue::get).as_bytes());
            }
            (Detail::Values, _) | (_, None) => out.extend_from_slice(b"null"),
            (_, Some((key, flag))) => self.write_details(key, flag.as_deref(), context, out),
        }
    }

    fn write_details(
        &self,
        key: &str,
        flag: Option<&CompiledFlag>,
        context: &Context,
        out: &mut Vec<u8>,
    ) {
        let steps;
        let body = match flag {
            None => ResultBody {
                flag: key,
                value: None,
                variant: None,
                variation_index: None,
                reason: ReasonBody::FLAG_NOT_FOUND,
                steps: None,
            },
            Some(flag) => {
                let outcome = if self.detail == Detail::Explained {
                    let (outcome, all) = explain(&self.ruleset, flag, context);
                    steps = Some(all.into_iter().map(Told::from).collect());
                    outcome
                } else {
                    steps = None;
                    let outcome = evaluate(&self.ruleset, flag, context);
                    flag.usage.count(&outcome);
                    outcome
                };
                ResultBody {
                    flag: key,
                    value: outcome.value(),
                    variant: outcome.variation.map(|(_, variation)| variation.key.as_str()),
                    variation_index: outcome.variation.map(|(index, _)| index),
                    reason: outcome.reason_body(),
                    steps,
                }
            }
        };
        let n_before = out.len();
        if serde_json::to_writer(&mut *out, &body).is_err() {
            // Cannot happen, since every field is text or a number; the answer stays valid all the same.
            out.truncate(n_before);
            out.extend_from_slice(b"null");
        }
    }
}

impl Iterator for Rows {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut out = self.before.take()?;
        out.reserve(CHUNK_BYTES);
        let mut n_evaluations = 0;
        while let Some(context) = self.contexts.get(self.next_context) {
            if out.len() >= CHUNK_BYTES || n_evaluations >= CHUNK_EVALUATIONS {
                self.before = Some(Vec::new());
                return Some(Bytes::from(out));
            }
            if self.next_flag == 0 {
                out.extend_from_slice(if self.next_context > 0 { b",[" } else { b"[" });
            } else if self.next_flag < self.flags.len() {
                out.push(b',');
            }
            if self.next_flag < self.flags.len() {
                self.write_result(context, &mut out);
                n_evaluations += 1;
                self.next_flag += 1;
            }
            if self.next_flag == self.flags.len() {
                out.push(b']');
                (self.next_context, self.next_flag) = (self.next_context + 1, 0);
            }
        }
        out.extend_from_slice(b"]}");
        Some(Bytes::from(out))
    }
}
