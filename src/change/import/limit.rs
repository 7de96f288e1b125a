//! What a flag or segment may have at most to be stored; beyond it, that flag or segment is refused alone.

use crate::change::read::hash_not_served;
use crate::change::read::too_many_patterns;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::CONTEXT_KINDS_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::PATTERN_BYTES_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::limit::TARGET_KEYS_MAX;
use crate::model::limit::VALUE_BYTES_MAX;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use crate::model::rule::FlagConfig;
use crate::model::rule::RolloutHash;
use crate::model::rule::VariationOrRollout;
use crate::model::segment::Segment;

/// Checks that a flag can be stored.
///
/// # Errors
///
/// Every limit that it breaks, with paths from the flag.
pub(in crate::change) fn check_flag(
    definition: &FlagDefinition,
    config: &FlagConfig,
    server_sdk: ServerSdk,
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    let variations = &definition.variations;
    if variations.is_empty() {
        problems.add("variations", "required", "must have at least one variation");
    }
    at_most(&mut problems, "variations", variations.len(), VARIATIONS_MAX);
    for (i, variation) in variations.iter().enumerate() {
        let path = format!("variations[{i}]");
        bytes_at_most(&mut problems, &path, variation.value.to_string().len(), VALUE_BYTES_MAX);
    }
    at_most(&mut problems, "prerequisites", config.prerequisites.len(), PREREQUISITES_MAX);
    let targets = config.targets.iter().chain(&config.context_targets);
    let n_keys = targets.map(|target| target.values.len()).sum();
    at_most(&mut problems, "targets", n_keys, TARGET_KEYS_MAX);
    check_hash(&mut problems, "fallthrough", &config.fallthrough, server_sdk);
    for (i, rule) in config.rules.iter().enumerate() {
        check_hash(&mut problems, &format!("rules[{i}]"), &rule.serve, server_sdk);
    }
    let rules = config.rules.iter().map(|rule| (rule.id.as_str(), rule.clauses.as_slice()));
    check_rules(&mut problems, rules.collect());
    for (what, problem) in
        [("definition", definition.size_problem()), ("configuration", config.size_problem())]
    {
        if let Some(detail) = problem {
            problems.add("", "too_large", format!("its {what} {detail}"));
        }
    }
    problems.into_result(())
}

/// Checks that a segment can be stored.
///
/// # Errors
///
/// Every limit that it breaks, with paths from the segment.
pub(in crate::change) fn check_segment(
    segment: &Segment,
    server_sdk: ServerSdk,
) -> Result<(), Problems> {
    let mut problems = Problems::default();
    for (name, keys) in [("included", &segment.included), ("excluded", &segment.excluded)] {
        at_most(&mut problems, name, keys.len(), SEGMENT_KEYS_MAX);
    }
    for (name, lists) in [
        ("includedContexts", &segment.included_contexts),
        ("excludedContexts", &segment.excluded_contexts),
    ] {
        at_most(&mut problems, name, lists.len(), CONTEXT_KINDS_MAX);
        for (i, list) in lists.iter().enumerate() {
            let path = format!("{name}[{i}].values");
            at_most(&mut problems, &path, list.values.len(), SEGMENT_KEYS_MAX);
        }
    }
    for (i, rule) in segment.rules.iter().enumerate() {
        let hash = rule.hash.unwrap_or_default();
        if rule.weight_milli_pct.is_some() && !server_sdk.admits(hash) {
            problems.add(format!("rules[{i}].hash"), "hash_not_served", hash_not_served());
        }
    }
    let rules = segment.rules.iter().map(|rule| (rule.id.as_str(), rule.clauses.as_slice()));
    check_rules(&mut problems, rules.collect());
    problems.into_result(())
}

/// Checks rules, each with its id and its clauses.
fn check_rules(problems: &mut Problems, rules: Vec<(&str, &[Clause])>) {
    at_most(problems, "rules", rules.len(), RULES_MAX);
    let mut n_patterns = 0;
    for (i, (id, clauses)) in rules.into_iter().enumerate() {
        if id.chars().count() > NAME_CHARS_MAX {
            let detail = format!("must be at most {NAME_CHARS_MAX} characters");
            problems.add(format!("rules[{i}].id"), "too_long", detail);
        }
        at_most(problems, &format!("rules[{i}].clauses"), clauses.len(), CLAUSES_MAX);
        for (j, clause) in clauses.iter().enumerate() {
            let path = format!("rules[{i}].clauses[{j}].values");
            at_most(problems, &path, clause.values.len(), CLAUSE_VALUES_MAX);
            if clause.op != "matches" {
                continue;
            }
            n_patterns += clause.values.len();
            for (k, pattern) in clause.values.iter().enumerate() {
                let n_bytes = pattern.as_str().map_or(0, str::len);
                bytes_at_most(problems, &format!("{path}[{k}]"), n_bytes, PATTERN_BYTES_MAX);
            }
        }
    }
    if n_patterns > PATTERNS_MAX {
        problems.add("rules", "too_many", too_many_patterns());
    }
}

/// A rollout that says itself that it hashes otherwise comes from elsewhere.
fn check_hash(
    problems: &mut Problems,
    path: &str,
    serve: &VariationOrRollout,
    server_sdk: ServerSdk,
) {
    let hash: Option<RolloutHash> = serve.rollout.as_ref().map(|rollout| rollout.hash);
    if hash.is_some_and(|hash| !server_sdk.admits(hash)) {
        problems.add(format!("{path}.rollout.hash"), "hash_not_served", hash_not_served());
    }
}

fn at_most(problems: &mut Problems, path: &str, n_items: usize, items_max: usize) {
    if n_items > items_max {
        let detail = format!("must have at most {items_max} items, got {n_items}");
        problems.add(path, "too_many", detail);
    }
}

fn bytes_at_most(problems: &mut Problems, path: &str, n_bytes: usize, bytes_max: usize) {
    if n_bytes > bytes_max {
        let detail = format!("must be at most {bytes_max} bytes, got {n_bytes}");
        problems.add(path, "too_long", detail);
    }
}
