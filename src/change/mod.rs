//! The one change language: every edit of a flag is a list of instructions, applied all or nothing.
//!
//! The same list is what an operator sends, what is previewed and what stands in the audit log, wherever it comes from. There
//! is no other way to edit a flag.
//!
//! # Invariants
//!
//! * Pure: values in, values out. No I/O, no clock; ids are handed in.
//! * What [`apply()`] returns is valid: every variation exists, weights sum to the whole, patterns build, nothing is circular.
//! * Every problem is reported at once, with its path in the body that was sent.
//!
//! Loading what a change refers to, and storing the result in one transaction, is in `control`.

mod apply;
mod cycle;
mod definition;
mod import;
mod instruction;
mod read;
mod rebalance;
mod revert;
mod ring;
mod segment;

pub use apply::Applied;
pub use apply::Scene;
pub use apply::apply;
pub use definition::DefinitionInstruction;
pub use definition::apply_to_definition;
pub use definition::decode_definition_instructions;
pub use import::Import;
pub use import::ImportPlan;
pub use import::ImportReport;
pub use import::ImportScene;
pub use import::ImportedKeys;
pub use instruction::INSTRUCTION_KINDS;
pub use instruction::Instruction;
pub use instruction::References;
pub use instruction::decode_instructions;
pub use instruction::references;
pub use instruction::segments_of;
pub use rebalance::Moved;
pub use rebalance::rebalance;
pub use revert::revert;
pub use segment::check_segment_references;
pub use segment::decode_segment;
pub use segment::settle_hashes;

#[cfg(test)]
mod tests;
