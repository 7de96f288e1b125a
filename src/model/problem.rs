//! What is wrong with an input: a list of problems, each with its JSON path, a stable code and how to mend it.
//!
//! The HTTP status that a code leads to is chosen in `http`.

use crate::model::limit::PROBLEMS_MAX;
use std::fmt;

/// One thing that is wrong with an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, as a JSON path from the root of the body: `instructions[2].rolloutWeights`. Empty for the whole body.
    pub path: String,
    /// A stable, machine-readable name: `weights_sum`.
    pub code: &'static str,
    /// One sentence for people: what is wrong and how to mend it.
    pub detail: String,
}

/// Everything that is wrong with one input, in the order in which it was found.
///
/// At most [`PROBLEMS_MAX`] are kept, so that a hostile body cannot make the answer larger than itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
}

impl Problems {
    /// Returns a list that holds just one problem.
    pub fn one(path: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        let mut problems = Self::default();
        problems.add(path, code, detail);
        problems
    }

    /// Adds a problem.
    pub fn add(&mut self, path: impl Into<String>, code: &'static str, detail: impl Into<String>) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(Problem { path: path.into(), code, detail: detail.into() });
        }
    }

    /// Adds the problems of a part of the input, whose paths are relative to `prefix`.
    pub fn add_below(&mut self, prefix: &str, others: Problems) {
        for problem in others.list {
            self.add(join(prefix, &problem.path), problem.code, problem.detail);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The problems found so far.
    pub fn as_slice(&self) -> &[Problem] {
        &self.list
    }

    /// Returns `value` if nothing is wrong.
    ///
    /// # Errors
    ///
    /// The problems themselves, if there are any.
    pub fn into_result<T>(self, value: T) -> Result<T, Problems> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.list.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            if !problem.path.is_empty() {
                write!(f, "{}: ", problem.path)?;
            }
            f.write_str(&problem.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Joins two JSON paths: `join("rules[0]", "op")` is `rules[0].op`, `join("rules", "[0]")` is `rules[0]`.
pub fn join(prefix: &str, path: &str) -> String {
    match (prefix.is_empty(), path.is_empty()) {
        (true, _) => path.to_owned(),
        (_, true) => prefix.to_owned(),
        _ if path.starts_with('[') => format!("{prefix}{path}"),
        _ => format!("{prefix}.{path}"),
    }
}
