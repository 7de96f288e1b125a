//! What makes no sense in places and is kept as it is, with what an evaluation will do with it.
//!
//! The meaning is that of LaunchDarkly's Go and Rust SDKs; `eval` gives it. What refers to other flags and segments is in
//! `reference`.

use crate::change::import::note;
use crate::eval::check;
use crate::model::attribute::AttributeRef;
use crate::model::flag::FlagDefinition;
use crate::model::problem::Problem;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use crate::model::rule::FlagConfig;
use crate::model::rule::RolloutKind;
use crate::model::rule::VariationOrRollout;
use crate::model::rule::WEIGHT_TOTAL;
use crate::model::segment::Segment;

/// What happens to whoever gets to a place that makes no sense.
const IS_ERROR: &str = "whoever gets here gets an error (MALFORMED_FLAG)";

/// What makes no sense in a flag, with paths from the flag.
pub(in crate::change) fn flag(definition: &FlagDefinition, config: &FlagConfig) -> Vec<Problem> {
    let mut sense = Sense { definition, problems: Vec::new() };
    for (i, variation) in definition.variations.iter().enumerate() {
        if !definition.kind.admits(&variation.value) {
            let detail = "is neither an object nor an array among values of several types; it is served as it is";
            sense.problems.push(note(&format!("variations[{i}]"), "variation_kind", detail));
        }
    }
    if let Some(off) = config.off_variation {
        let result = "while the flag is off, everyone gets an error (MALFORMED_FLAG)";
        sense.variation("offVariation", off, result);
    }
    for (name, targets) in
        [("targets", &config.targets), ("contextTargets", &config.context_targets)]
    {
        for (i, target) in targets.iter().enumerate() {
            sense.variation(&format!("{name}[{i}].variation"), target.variation, IS_ERROR);
        }
    }
    for (i, rule) in config.rules.iter().enumerate() {
        let path = format!("rules[{i}]");
        clauses(&mut sense.problems, &path, &rule.clauses);
        sense.serve(&path, &rule.serve);
    }
    duplicates(&mut sense.problems, config.rules.iter().map(|rule| rule.id.as_str()));
    sense.serve("fallthrough", &config.fallthrough);
    sense.problems
}

/// What makes no sense in a segment, with paths from the segment.
pub(in crate::change) fn segment(segment: &Segment) -> Vec<Problem> {
    let mut problems = Vec::new();
    if segment.unbounded {
        let detail = "LaunchDarkly keeps the keys of this segment elsewhere, and they are not in the file: only its rules can have somebody in it";
        problems.push(note("unbounded", "unbounded_segment", detail));
    }
    for (i, rule) in segment.rules.iter().enumerate() {
        let path = format!("rules[{i}]");
        clauses(&mut problems, &path, &rule.clauses);
        if rule.weight_milli_pct.is_some() {
            bucket_by(&mut problems, &path, &rule.rollout_context_kind, &rule.bucket_by);
        }
    }
    duplicates(&mut problems, segment.rules.iter().map(|rule| rule.id.as_str()));
    problems
}

struct Sense<'a> {
    definition: &'a FlagDefinition,
    problems: Vec<Problem>,
}

impl Sense<'_> {
    fn variation(&mut self, path: &str, index: i64, result: &str) {
        let n_variations = self.definition.variations.len();
        if usize::try_from(index).is_ok_and(|index| index < n_variations) {
            return;
        }
        let detail = format!("is {index}, and the flag has {n_variations} variation(s); {result}");
        self.problems.push(note(path, "unknown_variation", detail));
    }

    fn serve(&mut self, path: &str, serve: &VariationOrRollout) {
        let rollout = match (serve.variation, &serve.rollout) {
            (Some(variation), _) => {
                return self.variation(&format!("{path}.variation"), variation, IS_ERROR);
            }
            (None, Some(rollout)) => rollout,
            (None, None) => {
                let detail = format!("has neither a variation nor a rollout; {IS_ERROR}");
                return self.problems.push(note(path, "required", detail));
            }
        };
        let path = format!("{path}.rollout");
        if rollout.kind != RolloutKind::Experiment {
            bucket_by(&mut self.problems, &path, &rollout.context_kind, &rollout.bucket_by);
        }
        if rollout.variations.is_empty() {
            let detail = format!("has no variations; {IS_ERROR}");
            return self.problems.push(note(&format!("{path}.variations"), "required", detail));
        }
        for (i, slice) in rollout.variations.iter().enumerate() {
            self.variation(&format!("{path}.variations[{i}].variation"), slice.variation, IS_ERROR);
        }
        let weights = rollout.variations.iter().map(|slice| u64::from(slice.weight_milli_pct));
        let sum: u64 = weights.sum();
        if sum != u64::from(WEIGHT_TOTAL) {
            let detail = format!(
                "the weights sum to {sum} and not to {WEIGHT_TOTAL}; the last variation gets what is missing, and what is too much gets nobody"
            );
            self.problems.push(note(&format!("{path}.variations"), "weights_sum", detail));
        }
    }
}

fn clauses(problems: &mut Vec<Problem>, path: &str, clauses: &[Clause]) {
    for (i, each) in clauses.iter().enumerate() {
        let path = format!("{path}.clauses[{i}]");
        if each.op != "segmentMatch" && is_attribute_malformed(each) {
            let detail = format!("`{}` cannot name an attribute; {IS_ERROR}", each.attribute);
            problems.push(note(&format!("{path}.attribute"), "invalid_attribute", detail));
            continue;
        }
        let mut found = Problems::default();
        check::clause(each, &mut found, &path);
        // Old data, in which a name is a name, has been looked at.
        let found = found.as_slice().iter().filter(|problem| problem.code != "invalid_attribute");
        for Problem { path, code, detail } in found {
            let result = match *code {
                "value_type" | "invalid_pattern" => "the value is passed over",
                "pattern_too_large" => "it matches all the same",
                _ if each.negate => "the negated clause matches everyone who has the attribute",
                _ => "the clause matches nobody",
            };
            // The list of those that are known helps whoever writes a clause, not here.
            let detail = detail.split("; known are").next().unwrap_or_default();
            problems.push(note(path, code, format!("{detail}; {result}")));
        }
    }
}

/// As an evaluation reads it: without a kind (old data) a name is a name.
fn is_attribute_malformed(clause: &Clause) -> bool {
    let is_old = clause.context_kind.is_empty();
    clause.attribute.is_empty() || !is_old && AttributeRef::parse(&clause.attribute).is_none()
}

fn bucket_by(problems: &mut Vec<Problem>, path: &str, kind: &str, bucket_by: &str) {
    if crate::eval::bucket_attribute(kind, bucket_by).is_none() {
        let detail = format!("`{bucket_by}` cannot name an attribute; {IS_ERROR}");
        problems.push(note(&format!("{path}.bucketBy"), "invalid_attribute", detail));
    }
}

fn duplicates<'a>(problems: &mut Vec<Problem>, ids: impl Iterator<Item = &'a str>) {
    let mut seen = std::collections::BTreeSet::new();
    for (i, id) in ids.enumerate() {
        if !id.is_empty() && !seen.insert(id) {
            let detail = format!(
                "`{id}` is the id of an earlier rule; later edits by id reach that one only"
            );
            problems.push(note(&format!("rules[{i}].id"), "duplicate_rule", detail));
        }
    }
}
