//! Evaluation: which variation a context gets, and why.
//!
//! [`compile()`] turns a stored flag into a form in which everything that can fail, allocate or be slow has been done
//! (patterns built, references split, values put into sets, weights summed, values rendered). [`evaluate()`] walks that form.
//!
//! # Invariants
//!
//! * Evaluation is total: every flag and every context yield an [`Outcome`] with a reason. Malformed data, also of older
//!   versions, is an outcome and never stops another flag.
//! * Evaluation does no I/O, takes no lock, writes no log and builds no pattern.
//! * Errors are lazy: a malformed clause counts only when it is reached.
//!
//! The semantics (order, operators, segments, prerequisites, malformed data) are LaunchDarkly's.
//! Source: launchdarkly/go-server-sdk-evaluation v3.
//!
//! What may be *written* is decided in `change`, with the checks of [`check`].

mod affected;
mod bucket;
pub mod check;
mod clause;
mod compile;
mod date;
mod evaluate;
mod explain;
mod key_set;
mod operator;
mod outcome;
mod read;
mod rollout;
mod ruleset;
mod segment;
mod semver;
mod shards;
mod usage;
mod words;

pub use compile::CompiledFlag;
pub use compile::CompiledVariation;
pub use compile::compile;
pub use evaluate::evaluate;
pub use explain::ClausePlace;
pub use explain::Step;
pub use explain::explain;
pub use operator::OPERATORS;
pub use outcome::ErrorKind;
pub use outcome::Outcome;
pub use outcome::Reason;
pub use outcome::ReasonBody;
pub use read::ReadRuleset;
pub use read::read_ruleset;
pub(crate) use rollout::bucket_attribute;
pub(crate) use rollout::kind_or_user;
pub use ruleset::Ruleset;
pub use ruleset::RulesetChange;
pub use segment::CompiledSegment;
pub use segment::compile_segment;
pub use usage::Usage;
pub use words::Told;

#[cfg(test)]
mod tests;
