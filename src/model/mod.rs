//! The types of the domain and the rules that make a value valid.
//!
//! Everything that the other rooms talk about is named here: keys, flags, rules, rollouts, segments, contexts, tokens, and
//! the list of problems that refuses bad input.
//!
//! # Invariants
//!
//! * No I/O, no `async`, no clock, no log.
//! * Stored and exported types also derive their schema, because the admin API serves them as they are.
//! * Serde derives describe *our stored and exported format*, whose field names are LaunchDarkly's. What a route accepts is
//!   read through [`decode`], which reports every problem with its JSON path.
//! * Weights are integers in thousandths of a percent, `0..=100_000`, never floats.
//!
//! How a flag is evaluated is in `eval`; how it is edited is in `change`.

pub mod attribute;
pub mod audit;
pub mod change;
pub mod context;
pub mod decode;
pub mod environment;
pub mod event;
pub mod flag;
pub(crate) mod imprint;
pub mod key;
pub mod launchdarkly;
pub mod limit;
pub mod problem;
pub mod raw_context;
pub mod rule;
pub mod schedule;
pub mod segment;
pub mod strict_json;
pub mod token;
pub mod trigger;
pub mod window;
