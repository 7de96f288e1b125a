//! A ruleset from a file of LaunchDarkly's, for evaluation without a server.

use crate::eval::CompiledFlag;
use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::eval::compile;
use crate::eval::compile_segment;
use crate::model::launchdarkly;
use crate::model::problem::Problems;
use serde_json::Value;
use std::sync::Arc;

/// A ruleset that was read from a file.
#[derive(Debug)]
pub struct ReadRuleset {
    /// All flags and segments; a flag that cannot be read is malformed for everyone.
    pub ruleset: Ruleset,
    /// What cannot be read, with paths from the root of the file.
    pub unreadable: Problems,
}

/// Compiles a file of the shape `{"flags": {…}, "segments": {…}}`.
///
/// A segment that cannot be read has nobody in it.
///
/// # Errors
///
/// It is not such a file at all.
pub fn read_ruleset(file: Value) -> Result<ReadRuleset, Problems> {
    let data = launchdarkly::read(file)?;
    let mut unreadable = Problems::default();
    let mut change = RulesetChange::default();
    for flag in data.flags {
        let compiled = match flag.content {
            Ok((definition, config)) => compile(&definition, &config, 0),
            Err(detail) => {
                unreadable.add(format!("flags.{}", flag.key), "unreadable", detail);
                CompiledFlag::malformed(flag.key.clone())
            }
        };
        change.flags.push((flag.key, Some(Arc::new(compiled))));
    }
    for segment in data.segments {
        match segment.content {
            Ok(content) => {
                let compiled = Arc::new(compile_segment(&content, 0));
                change.segments.push((segment.key, Some(compiled)));
            }
            Err(detail) => {
                unreadable.add(format!("segments.{}", segment.key), "unreadable", detail);
            }
        }
    }
    Ok(ReadRuleset { ruleset: Ruleset::default().with(0, 0, &change), unreadable })
}
