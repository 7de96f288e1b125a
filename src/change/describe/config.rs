//! The instructions for a flag's configuration.

use super::*;
use crate::change::decode::TARGET_LISTS_MAX;
use crate::change::read::SEED_MAX;
use crate::model::limit::CONTEXT_KEY_CHARS_MAX;
use crate::model::limit::PREREQUISITES_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::TARGET_KEYS_MAX;

const SERVE: &[Field] = &[
    optional("variation", NAME, "The key of the variation that all get."),
    optional("rolloutWeights", Holds::Weights, ""),
    optional(
        "rolloutContextKind",
        KIND,
        "The kind of context that is divided; if it is left out, as before or `user`.",
    ),
    optional(
        "rolloutBucketBy",
        NAME,
        "The attribute by which it is divided; if it is left out, as before or the key.",
    ),
    optional(
        "rolloutHash",
        HASHES,
        "If it is left out, as before or what the environment's SDKs hash with.",
    ),
    optional(
        "rolloutSeed",
        Holds::Integer(-SEED_MAX, SEED_MAX),
        "Is hashed in place of the flag's key and salt; as before if it is left out.",
    ),
];
const SERVED: Choice = Choice::One(&["variation", "rolloutWeights"]);

const VARIATION: &[Field] = &[required("variation", NAME, "The key of the variation.")];
const KEYS: &[Field] = &[required(
    "values",
    Holds::Texts { items_max: TARGET_KEYS_MAX, chars_max: CONTEXT_KEY_CHARS_MAX },
    "The keys of the contexts.",
)];
const FLAG: &[Field] = &[required("key", Holds::Key, "The other flag.")];
const ONLY_OF: &[Field] = &[optional("variation", NAME, "Only those of this variation.")];

const TRACKED: &[Field] = &[required("trackEvents", Holds::Flag, "Whether they do.")];

const MAY_TRACK: &[Field] = &[optional(
    "trackEvents",
    Holds::Flag,
    "Whether SDKs report each evaluation that it decides; as before if it is left out.",
)];

const KIND_ONLY: &[Field] = &[optional("contextKind", KIND, "Only those of this kind.")];

const RULE: &Shape = &Shape {
    name: "NewRule",
    meaning: "A rule; with the id of one that is there, it goes on from that one.",
    fields: &[OWN_ID, DESCRIPTION, CLAUSES, SERVE, MAY_TRACK],
    choice: SERVED,
};
const TARGETS: &Shape = &Shape {
    name: "NewTargets",
    meaning: "Contexts that get a variation by their keys.",
    fields: &[VARIATION, KEYS, CONTEXT_KIND],
    choice: Choice::None,
};
const USER_TARGETS: &Shape = &Shape {
    name: "NewUserTargets",
    meaning: "Users who get a variation by their keys.",
    fields: &[VARIATION, KEYS],
    choice: Choice::None,
};
const PREREQUISITE: &Shape = &Shape {
    name: "NewPrerequisite",
    meaning: "A flag, and the variation that it must serve.",
    fields: &[FLAG, VARIATION],
    choice: Choice::None,
};

/// The instructions for a flag's configuration in one environment, in the order of the documentation.
pub const CONFIG_INSTRUCTIONS: &[Shape] = &[
    plain("turnFlagOn", "Lets prerequisites, targets, rules and fallthrough decide.", &[]),
    plain("turnFlagOff", "Gives everyone the off variation.", &[]),
    Shape {
        name: "updateFallthroughVariationOrRollout",
        meaning: "Sets what those get whom no target and no rule matches.",
        fields: &[SERVE],
        choice: SERVED,
    },
    plain("updateOffVariation", "Sets what everyone gets while the flag is off.", &[VARIATION]),
    Shape {
        name: "addRule",
        meaning: "Adds a rule, last or before another.",
        fields: &[DESCRIPTION, CLAUSES, BEFORE, OWN_ID, SERVE],
        choice: SERVED,
    },
    rule::REMOVE,
    rule::REORDER,
    plain(
        "replaceRules",
        "Puts other rules in the place of all that are there.",
        &[&[required("rules", Holds::Parts(RULE, RULES_MAX), "")]],
    ),
    rule::DESCRIBE,
    plain(
        "updateRuleTrackEvents",
        "Sets whether SDKs report each evaluation that a rule decides.",
        &[RULE_ID, TRACKED],
    ),
    plain("updateTrackEvents", "Sets whether SDKs report each evaluation of the flag.", &[TRACKED]),
    plain(
        "updateTrackEventsFallthrough",
        "Sets whether SDKs report each evaluation that no target and no rule decides.",
        &[TRACKED],
    ),
    Shape {
        name: "updateRuleVariationOrRollout",
        meaning: "Sets what a rule leads to.",
        fields: &[RULE_ID, SERVE],
        choice: SERVED,
    },
    rule::ADD_CLAUSES,
    rule::REMOVE_CLAUSES,
    rule::UPDATE_CLAUSE,
    rule::ADD_VALUES,
    rule::REMOVE_VALUES,
    plain(
        "addTargets",
        "Gives a variation to contexts by their keys, and takes them from the one that they had.",
        &[VARIATION, KEYS, CONTEXT_KIND],
    ),
    plain(
        "removeTargets",
        "Takes contexts from a variation's targets, as far as they are there.",
        &[VARIATION, KEYS, CONTEXT_KIND],
    ),
    plain(
        "replaceTargets",
        "Puts other targets in the place of all that are there.",
        &[&[required("targets", Holds::Parts(TARGETS, TARGET_LISTS_MAX), "")]],
    ),
    plain(
        "clearTargets",
        "Removes all targets, or those of one kind or variation.",
        &[KIND_ONLY, ONLY_OF],
    ),
    plain("addUserTargets", "Gives a variation to users by their keys.", &[VARIATION, KEYS]),
    plain("removeUserTargets", "Takes users from a variation's targets.", &[VARIATION, KEYS]),
    plain(
        "replaceUserTargets",
        "Puts other users in the place of all that are targets.",
        &[&[required("targets", Holds::Parts(USER_TARGETS, TARGET_LISTS_MAX), "")]],
    ),
    plain("clearUserTargets", "Removes all users from the targets.", &[ONLY_OF]),
    plain("addPrerequisite", "Makes another flag's variation a condition.", &[FLAG, VARIATION]),
    plain("removePrerequisite", "Removes a condition.", &[FLAG]),
    plain("updatePrerequisite", "Sets which variation a condition asks for.", &[FLAG, VARIATION]),
    plain(
        "replacePrerequisites",
        "Puts other conditions in the place of all that are there.",
        &[&[required("prerequisites", Holds::Parts(PREREQUISITE, PREREQUISITES_MAX), "")]],
    ),
];
