//! The contract of the store: one suite, run on each database.

mod contract;
