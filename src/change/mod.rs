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
mod decode;
mod define;
mod definition;
mod describe;
mod desired;
mod impact;
mod import;
mod instruction;
mod names;
mod read;
mod rebalance;
mod renumber;
mod revert;
mod ring;
mod segment;
mod segment_apply;
mod segment_encode;
mod segment_instruction;
mod segment_lists;
mod segment_plain;
mod segment_replace;

pub use apply::Applied;
pub use apply::Scene;
pub use apply::apply;
pub use decode::INSTRUCTION_KINDS;
pub use decode::decode_instructions;
pub use define::Defined;
pub use define::Uses;
pub use define::apply_to_definition;
pub use definition::DEFINITION_INSTRUCTION_KINDS;
pub use definition::DefinitionInstruction;
pub use definition::decode_definition_instructions;
pub use describe::CONFIG_INSTRUCTIONS;
pub use describe::Choice;
pub use describe::DEFINITION_INSTRUCTIONS;
pub use describe::Field;
pub use describe::Holds;
pub use describe::SEGMENT_INSTRUCTIONS;
pub use describe::Shape;
pub use desired::Actual;
pub use desired::ActualEnvironment;
pub use desired::DesiredState;
pub use desired::EnvironmentPlan;
pub use desired::Managed;
pub use desired::PlannedChange;
pub use desired::PlannedDetail;
pub use desired::ProjectPlan;
pub use desired::STATE_FORMAT;
pub use desired::StatePlan;
pub use desired::plan_state;
pub use desired::readable_config;
pub use desired::readable_definition;
pub use desired::readable_segment;
pub use desired::readable_settings;
pub use impact::Difference;
pub use impact::asks_for;
pub use impact::definition_differences;
pub use impact::differences;
pub use impact::segment_differences;
pub use impact::warnings;
pub use import::Import;
pub use import::ImportPlan;
pub use import::ImportReport;
pub use import::ImportScene;
pub use import::ImportedKeys;
pub use instruction::Instruction;
pub use instruction::References;
pub use instruction::references;
pub use instruction::segments_of;
pub use names::list_names;
pub use read::has_too_many_patterns;
pub use rebalance::Moved;
pub use rebalance::rebalance;
pub use renumber::Renumbering;
pub use renumber::variations_used;
pub use revert::revert;
pub use segment::check_segment_references;
pub use segment::decode_segment;
pub use segment::settle_hashes;
pub use segment_apply::apply_to_segment;
pub use segment_apply::asked_for;
pub use segment_instruction::SEGMENT_INSTRUCTION_KINDS;
pub use segment_instruction::SegmentInstruction;
pub use segment_instruction::decode_segment_instructions;
pub use segment_plain::full_segment;
pub use segment_replace::replacement;

#[cfg(test)]
mod tests;
