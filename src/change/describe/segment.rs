//! The instructions for a segment.

use super::*;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;

const KEYS: &[Field] = &[required(
    "values",
    Holds::Texts { items_max: SEGMENT_KEYS_MAX, chars_max: CONTEXT_KEY_CHARS_MAX },
    "The keys of the contexts.",
)];
const SHARE: &[Field] = &[
    optional(
        "weight",
        Holds::Weight,
        "The share of those who match that is in, in thousandths of a percent; everyone if it is left out.",
    ),
    optional(
        "bucketBy",
        NAME,
        "The attribute by which they are divided; if it is left out, as before or the key.",
    ),
    optional(
        "rolloutContextKind",
        KIND,
        "The kind of context that is divided; if it is left out, as before or `user`.",
    ),
    optional(
        "hash",
        HASHES,
        "If it is left out, as before or what the environment's SDKs hash with.",
    ),
];

/// The instructions for a segment, in the order of the documentation.
pub const SEGMENT_INSTRUCTIONS: &[Shape] = &[
    label::RENAME,
    label::DESCRIBE,
    label::ADD_TAGS,
    label::REMOVE_TAGS,
    plain("addIncludedTargets", "Adds keys to those that are in.", &[KEYS, CONTEXT_KIND]),
    plain("removeIncludedTargets", "Removes keys from those that are in.", &[KEYS, CONTEXT_KIND]),
    plain(
        "clearIncludedTargets",
        "Removes all keys of one kind from those that are in.",
        &[CONTEXT_KIND],
    ),
    plain("addExcludedTargets", "Adds keys to those that are out.", &[KEYS, CONTEXT_KIND]),
    plain("removeExcludedTargets", "Removes keys from those that are out.", &[KEYS, CONTEXT_KIND]),
    plain(
        "clearExcludedTargets",
        "Removes all keys of one kind from those that are out.",
        &[CONTEXT_KIND],
    ),
    plain("addIncludedUsers", "Adds users to those who are in.", &[KEYS]),
    plain("removeIncludedUsers", "Removes users from those who are in.", &[KEYS]),
    plain("addExcludedUsers", "Adds users to those who are out.", &[KEYS]),
    plain("removeExcludedUsers", "Removes users from those who are out.", &[KEYS]),
    plain(
        "addRule",
        "Adds a rule, last or before another.",
        &[OWN_ID, DESCRIPTION, CLAUSES, BEFORE, SHARE],
    ),
    rule::REMOVE,
    rule::REORDER,
    rule::DESCRIBE,
    plain(
        "updateRuleRolloutAndContextKind",
        "Sets which share of those who match a rule is in.",
        &[RULE_ID, SHARE],
    ),
    rule::ADD_CLAUSES,
    rule::REMOVE_CLAUSES,
    rule::UPDATE_CLAUSE,
    rule::ADD_VALUES,
    rule::REMOVE_VALUES,
];
