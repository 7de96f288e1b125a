//! The instructions for a flag's definition.

use super::*;
use crate::model::limit::CUSTOM_VALUES_MAX;

const VARIATION: &[Field] = &[required("variation", NAME, "The key of the variation.")];
const LABEL: &[Field] = &[optional("name", NAME, "For people.")];
const SIDE: &[Field] = &[required(
    "value",
    Holds::Word(&["usingEnvironmentId", "usingMobileKey"]),
    "Browsers, or mobile applications.",
)];
const PROPERTY: &[Field] =
    &[required("key", Holds::Name(NAME_CHARS_MAX), "The key of the property.")];
const VALUES: Holds = Holds::Texts { items_max: CUSTOM_VALUES_MAX, chars_max: NAME_CHARS_MAX };

/// The instructions for a flag's definition, which is the same in every environment, in the order of the documentation.
pub const DEFINITION_INSTRUCTIONS: &[Shape] = &[
    label::RENAME,
    label::DESCRIBE,
    label::ADD_TAGS,
    label::REMOVE_TAGS,
    plain("makeFlagTemporary", "Says that the flag is to be removed one day.", &[]),
    plain("makeFlagPermanent", "Says that the flag stays.", &[]),
    plain(
        "updateTemporaryUntil",
        "Says when a temporary flag is to be gone.",
        &[&[required("value", Holds::Day, "The end of a day, UTC, or a time.")]],
    ),
    plain("removeTemporaryUntil", "Leaves open when a temporary flag is to be gone.", &[]),
    plain(
        "updateMaintainerMember",
        "Says who looks after the flag.",
        &[&[required("value", Holds::Name(NAME_CHARS_MAX), "An address, a name, a team.")]],
    ),
    plain(
        "updateMaintainerTeam",
        "Says which team looks after the flag, in the place of whoever did.",
        &[&[required("value", Holds::Name(NAME_CHARS_MAX), "A team.")]],
    ),
    plain("removeMaintainer", "Says that nobody looks after the flag.", &[]),
    plain(
        "addCustomProperties",
        "Adds values to what another system knows about the flag.",
        &[PROPERTY, LABEL, &[optional("values", VALUES, "")]],
    ),
    plain(
        "removeCustomProperties",
        "Removes values, or without `values` the whole property.",
        &[PROPERTY, LABEL, &[optional("values", VALUES, "")]],
    ),
    plain(
        "replaceCustomProperties",
        "Puts these values in the place of all of the property.",
        &[PROPERTY, LABEL, &[required("values", VALUES, "")]],
    ),
    plain("turnOnClientSideAvailability", "Shows the flag to a kind of client-side SDK.", &[SIDE]),
    plain(
        "turnOffClientSideAvailability",
        "Hides the flag from a kind of client-side SDK.",
        &[SIDE],
    ),
    plain(
        "addVariation",
        "Adds a variation, last.",
        &[
            &[
                required("key", Holds::Key, "The key that it gets."),
                required("value", Holds::Value, "A value of the flag's kind."),
            ],
            LABEL,
        ],
    ),
    plain(
        "updateVariation",
        "Changes a variation's value or name; its key and place stay.",
        &[VARIATION, LABEL, &[optional("value", Holds::Value, "The new value, if it changes.")]],
    ),
    plain("removeVariation", "Removes a variation that nothing uses.", &[VARIATION]),
    Shape {
        name: "updateDefaultVariation",
        meaning: "Sets what the flag starts with in environments that are created later.",
        fields: &[&[
            optional("onVariation", NAME, "Served while it is on."),
            optional("offVariation", NAME, "Served while it is off."),
        ]],
        choice: Choice::Any(&["onVariation", "offVariation"]),
    },
    plain("deprecateFlag", "Says that nobody should use the flag any more.", &[]),
    plain("restoreDeprecatedFlag", "Says that the flag may be used again.", &[]),
    plain(
        "archiveFlag",
        "Puts the flag away: it is off for everyone and cannot be changed.",
        &[&[optional(
            "ignoreUsage",
            Holds::Flag,
            "Whether that is done to a flag that is still evaluated.",
        )]],
    ),
    plain("restoreFlag", "Takes the flag back from the archive.", &[]),
    plain("deleteFlag", "Deletes the flag for good; its key stays taken.", &[]),
];
