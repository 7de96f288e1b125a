//! What each instruction is made of, for whoever writes one: its fields, what these may hold, and which must be there.
//!
//! The API document is made of this. What is read is decided where it is read, in `decode`, `definition` and
//! `segment_instruction`; a test holds the two together, kind by kind and field by field.

mod config;
mod definition;
mod segment;

use crate::eval::OPERATORS;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::NAME_CHARS_MAX;
pub use config::CONFIG_INSTRUCTIONS;
pub use definition::DEFINITION_INSTRUCTIONS;
pub use segment::SEGMENT_INSTRUCTIONS;

/// An instruction, or a part of one: an object with certain fields and no others.
#[derive(Debug)]
pub struct Shape {
    /// The kind of the instruction, or what the part is called.
    pub name: &'static str,
    /// What it does or is, in a sentence.
    pub meaning: &'static str,
    /// Its fields, in groups.
    pub fields: &'static [&'static [Field]],
    /// What must be there besides what is required.
    pub choice: Choice,
}

impl Shape {
    /// All fields, in order.
    pub fn fields(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().copied().flatten()
    }
}

/// Which of several fields must be there.
#[derive(Debug, Clone, Copy)]
pub enum Choice {
    /// There is no choice.
    None,
    /// Exactly one of them.
    One(&'static [&'static str]),
    /// At least one of them.
    Any(&'static [&'static str]),
}

/// One field of an object.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Whether it must be there; one that need not may also be `null`.
    pub is_required: bool,
    /// What it may hold.
    pub holds: Holds,
    /// What that means, in a sentence; empty if the name says it.
    pub meaning: &'static str,
}

/// What a field may hold.
#[derive(Debug)]
pub enum Holds {
    /// A text of at most so many characters.
    Text(usize),
    /// A text that is not empty and has at most so many characters.
    Name(usize),
    /// The key of a flag or a variation.
    Key,
    /// A kind of context.
    ContextKind,
    /// A truth value.
    Flag,
    /// A day, or a time with its offset.
    Day,
    /// A whole number, from and up to.
    Integer(i64, i64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A list of at most `items_max` texts of 1 to `chars_max` characters.
    Texts {
        /// Texts in the list.
        items_max: usize,
        /// Characters in each.
        chars_max: usize,
    },
    /// Any JSON, `null` included.
    Value,
    /// A list of JSON of any kind, with so many items at least and at most.
    Values(usize, usize),
    /// A share in thousandths of a percent.
    Weight,
    /// Shares by the key of the variation; they sum to the whole.
    Weights,
    /// An object of this shape.
    Part(&'static Shape),
    /// A list of at most so many objects of this shape.
    Parts(&'static Shape, usize),
}

const fn required(name: &'static str, holds: Holds, meaning: &'static str) -> Field {
    Field { name, is_required: true, holds, meaning }
}

const fn optional(name: &'static str, holds: Holds, meaning: &'static str) -> Field {
    Field { name, is_required: false, holds, meaning }
}

/// An instruction without a choice between fields.
const fn plain(
    name: &'static str,
    meaning: &'static str,
    fields: &'static [&'static [Field]],
) -> Shape {
    Shape { name, meaning, fields, choice: Choice::None }
}

const NAME: Holds = Holds::Text(NAME_CHARS_MAX);
const KIND: Holds = Holds::ContextKind;
const HASHES: Holds = Holds::Word(&["murmur3", "sha1"]);

const RULE_ID: &[Field] = &[required("ruleId", NAME, "The id of the rule.")];
const CLAUSE_ID: &[Field] = &[required("clauseId", NAME, "The id of the clause in the rule.")];
const CONTEXT_KIND: &[Field] =
    &[optional("contextKind", KIND, "The kind of the contexts; `user` if it is left out.")];
const CLAUSES: &[Field] = &[optional(
    "clauses",
    Holds::Parts(CLAUSE, CLAUSES_MAX),
    "All must match; without any, everyone matches.",
)];
const OWN_ID: &[Field] =
    &[optional("id", NAME, "The id that it gets; the server makes one if it is left out.")];
const DESCRIPTION: &[Field] = &[optional("description", NAME, "For people.")];
const BEFORE: &[Field] =
    &[optional("beforeRuleId", NAME, "The rule before which it is put; last if it is left out.")];

/// A clause, as it is sent.
const CLAUSE: &Shape = &Shape {
    name: "NewClause",
    meaning: "A test of one attribute of one kind of context.",
    fields: &[
        &[
            required("op", Holds::Word(OPERATORS), "The operator."),
            required(
                "values",
                Holds::Values(1, CLAUSE_VALUES_MAX),
                "The clause matches if the operator holds for any of these.",
            ),
            optional(
                "attribute",
                NAME,
                "A name, or a path like `/address/city`; all operators but `segmentMatch` need it.",
            ),
            optional("negate", Holds::Flag, "Inverts the result."),
        ],
        CONTEXT_KIND,
        OWN_ID,
    ],
    choice: Choice::None,
};

/// What flags and segments have in common about their rules.
mod rule {
    use super::*;
    use crate::model::limit::RULES_MAX;

    pub(super) const REMOVE: Shape = plain("removeRule", "Removes a rule.", &[RULE_ID]);
    pub(super) const REORDER: Shape = plain(
        "reorderRules",
        "Puts the rules into another order.",
        &[&[required(
            "ruleIds",
            Holds::Texts { items_max: RULES_MAX, chars_max: NAME_CHARS_MAX },
            "The ids of all rules, each once.",
        )]],
    );
    pub(super) const DESCRIBE: Shape = plain(
        "updateRuleDescription",
        "Sets what people call a rule.",
        &[RULE_ID, &[required("description", NAME, "May be empty.")]],
    );
    pub(super) const ADD_CLAUSES: Shape = plain(
        "addClauses",
        "Adds clauses to a rule, last.",
        &[RULE_ID, &[required("clauses", Holds::Parts(CLAUSE, CLAUSES_MAX), "")]],
    );
    pub(super) const REMOVE_CLAUSES: Shape = plain(
        "removeClauses",
        "Removes clauses from a rule.",
        &[
            RULE_ID,
            &[required(
                "clauseIds",
                Holds::Texts { items_max: CLAUSES_MAX, chars_max: NAME_CHARS_MAX },
                "",
            )],
        ],
    );
    pub(super) const UPDATE_CLAUSE: Shape = plain(
        "updateClause",
        "Replaces a clause, which keeps its id and its place.",
        &[RULE_ID, CLAUSE_ID, &[required("clause", Holds::Part(CLAUSE), "")]],
    );
    const VALUES: &[Field] = &[required("values", Holds::Values(0, CLAUSE_VALUES_MAX), "")];
    pub(super) const ADD_VALUES: Shape = plain(
        "addValuesToClause",
        "Adds values to a clause; those that are there stay.",
        &[RULE_ID, CLAUSE_ID, VALUES],
    );
    pub(super) const REMOVE_VALUES: Shape = plain(
        "removeValuesFromClause",
        "Removes values from a clause, as far as they are there.",
        &[RULE_ID, CLAUSE_ID, VALUES],
    );
}

/// What flags and segments have in common about how they are called.
mod label {
    use super::*;
    use crate::model::limit::TAGS_MAX;
    use crate::model::limit::TEXT_CHARS_MAX;

    pub(super) const RENAME: Shape = plain(
        "updateName",
        "Sets the name.",
        &[&[required("value", Holds::Name(NAME_CHARS_MAX), "The new name.")]],
    );
    pub(super) const DESCRIBE: Shape = plain(
        "updateDescription",
        "Sets the description.",
        &[&[required("value", Holds::Text(TEXT_CHARS_MAX), "The new description; may be empty.")]],
    );
    const TAGS: &[Field] = &[required(
        "values",
        Holds::Texts { items_max: TAGS_MAX, chars_max: NAME_CHARS_MAX },
        "The tags.",
    )];
    pub(super) const ADD_TAGS: Shape =
        plain("addTags", "Adds tags; those that are there stay.", &[TAGS]);
    pub(super) const REMOVE_TAGS: Shape =
        plain("removeTags", "Removes tags, as far as they are there.", &[TAGS]);
}
