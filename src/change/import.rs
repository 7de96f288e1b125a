//! Bringing over an environment of LaunchDarkly: what of a file is stored, and what is told about it.
//!
//! First [`Import::read`] looks at each flag and segment alone: what cannot be stored here is refused alone, and what makes no
//! sense in places is kept as it is with a note, because evaluation gives it the meaning that LaunchDarkly's SDKs give it.
//! Then [`Import::plan`] compares what is left with what the environment has. Nobody may change the bucket: salts, seeds,
//! hashes, ids and the order of everything stay as they are in the file.
//!
//! Reading the file's own shape is in `model::launchdarkly`; loading and writing, in `control`.

mod chain;
mod fate;
pub(in crate::change) mod limit;
mod plan;
mod reference;
pub(in crate::change) mod sense;

use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::KEY_RULE;
use crate::model::key::is_key;
use crate::model::launchdarkly;
use crate::model::launchdarkly::LaunchDarklyFlag;
use crate::model::launchdarkly::LaunchDarklySegment;
use crate::model::problem::Problem;
use crate::model::problem::Problems;
use crate::model::problem::join;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
pub use plan::ImportPlan;
pub use plan::ImportScene;
use serde_json::Value;
use std::collections::BTreeMap;

/// Notes of one import; further ones are counted only.
const NOTES_MAX: usize = 1_000;

/// The environments that files are imported into.
const SERVER_SDK: ServerSdk = ServerSdk::LaunchDarkly;

/// A file that was read, flag by flag and segment by segment.
#[derive(Debug, Clone, Default)]
pub struct Import {
    flags: Vec<Candidate<(FlagDefinition, FlagConfig)>>,
    segments: Vec<Candidate<Segment>>,
    report: ImportReport,
}

/// A flag or segment that can be stored.
#[derive(Debug, Clone)]
struct Candidate<T> {
    content: T,
    /// What is wrong in places, with paths from the root of the file.
    warnings: Vec<Problem>,
    /// What is not brought over, with paths from the root of the file.
    losses: Vec<Problem>,
}

/// What an import did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportReport {
    /// What became of each flag.
    pub flags: ImportedKeys,
    /// What became of each segment.
    pub segments: ImportedKeys,
    /// Why something was refused, what the file says that makes no sense, and what was not brought over, in this order.
    pub notes: Vec<Problem>,
    /// How many notes there are beyond those.
    pub n_more_notes: usize,
}

/// What became of each flag or segment of a file, by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImportedKeys {
    /// They are new.
    pub created: Vec<String>,
    /// They were there and untouched in this environment; flags only.
    pub configured: Vec<String>,
    /// They were there and were overwritten.
    pub replaced: Vec<String>,
    /// They were there, just like that.
    pub unchanged: Vec<String>,
    /// They were not brought over; a note says why.
    pub refused: Vec<String>,
}

impl ImportReport {
    fn note(&mut self, note: Problem) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        } else {
            self.n_more_notes += 1;
        }
    }

    fn refuse_flag(&mut self, key: &str, note: Problem) {
        self.flags.refused.push(key.to_owned());
        self.note(note);
    }

    fn refuse_segment(&mut self, key: &str, note: Problem) {
        self.segments.refused.push(key.to_owned());
        self.note(note);
    }
}

impl Import {
    /// Reads a file of the shape `{"flags": {…}, "segments": {…}}` and looks at each part of it alone.
    ///
    /// # Errors
    ///
    /// It is not such a file at all.
    pub fn read(file: Value) -> Result<Self, Problems> {
        let data = launchdarkly::read(file)?;
        let mut import = Self::default();
        for segment in data.segments {
            import.add_segment(segment);
        }
        for flag in data.flags {
            import.add_flag(flag);
        }
        Ok(import)
    }

    /// The flags of the file that have other values than a definition of the project.
    pub fn redefined<'a>(
        &'a self,
        definitions: &'a BTreeMap<FlagKey, (FlagDefinition, bool)>,
    ) -> impl Iterator<Item = &'a FlagKey> {
        let flags = self.flags.iter().map(|flag| &flag.content.0);
        flags.filter(|flag| is_redefined(flag, definitions)).map(|flag| &flag.key)
    }

    fn add_flag(&mut self, flag: LaunchDarklyFlag) {
        let key = flag.key.as_str();
        let path = format!("flags.{key}");
        let loss = |name: &&'static str| {
            let detail = format!(
                "`{name}` is in use there and is not kept: it tells SDKs what to report, and changes nobody's value"
            );
            note(&join(&path, name), "not_kept", detail)
        };
        let losses = flag.unknown.iter().map(loss).collect();
        let checked = flag.content.map_err(|error| unreadable(&error)).and_then(|content| {
            check_key(key, content.0.key.as_str())?;
            limit::check_flag(&content.0, &content.1, SERVER_SDK)?;
            Ok(content)
        });
        match checked {
            Ok(content) => {
                let warnings = below(&path, &sense::flag(&content.0, &content.1));
                self.flags.push(Candidate { content, warnings, losses });
            }
            Err(problems) => self.report.refuse_flag(key, summary(&path, &problems)),
        }
    }

    fn add_segment(&mut self, segment: LaunchDarklySegment) {
        let key = segment.key.as_str();
        let path = format!("segments.{key}");
        let checked = segment.content.map_err(|error| unreadable(&error)).and_then(|content| {
            check_key(key, content.key.as_str())?;
            limit::check_segment(&content, SERVER_SDK)?;
            Ok(content)
        });
        match checked {
            Ok(content) => {
                let warnings = below(&path, &sense::segment(&content));
                self.segments.push(Candidate { content, warnings, losses: Vec::new() });
            }
            Err(problems) => self.report.refuse_segment(key, summary(&path, &problems)),
        }
    }
}

/// Whether the flag is there with other values.
fn is_redefined(
    new: &FlagDefinition,
    definitions: &BTreeMap<FlagKey, (FlagDefinition, bool)>,
) -> bool {
    let values = |flag: &FlagDefinition| -> Vec<Value> {
        flag.variations.iter().map(|variation| variation.value.clone()).collect()
    };
    let old = definitions.get(&new.key).filter(|(_, is_deleted)| !is_deleted);
    old.is_some_and(|(old, _)| values(old) != values(new))
}

/// The key by which a thing is looked up must be one here, and the one that is hashed.
fn check_key(key: &str, own: &str) -> Result<(), Problems> {
    if !is_key(key) {
        return Err(Problems::one("", "invalid_key", KEY_RULE));
    }
    if key != own {
        let detail = format!("has the key `{own}` inside; the two must be the same");
        return Err(Problems::one("key", "key_differs", detail));
    }
    Ok(())
}

fn unreadable(error: &str) -> Problems {
    Problems::one("", "unreadable", format!("cannot be read: {error}"))
}

fn note(path: &str, code: &'static str, detail: impl Into<String>) -> Problem {
    Problem { path: path.to_owned(), code, detail: detail.into() }
}

/// The problems of one flag or segment, with paths from the root of the file.
fn below(path: &str, problems: &[Problem]) -> Vec<Problem> {
    let at = |problem: &Problem| Problem { path: join(path, &problem.path), ..problem.clone() };
    problems.iter().map(at).collect()
}

/// The one note that says why a flag or segment is refused: its first problem, and how many more there are.
fn summary(path: &str, problems: &Problems) -> Problem {
    let all = below(path, problems.as_slice());
    let n_more = all.len().saturating_sub(1);
    let first = all.into_iter().next();
    let first = first.unwrap_or_else(|| note(path, "unreadable", "cannot be read"));
    if n_more == 0 {
        return first;
    }
    Problem { detail: format!("{}; and {n_more} more", first.detail), ..first }
}
