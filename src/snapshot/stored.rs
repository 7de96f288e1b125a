//! What is stored of each flag and segment that is served, and compiling it row by row.
//!
//! A row that cannot be read, or whose compilation panics, costs itself only: what was served of it before stays, and is kept
//! beside the newer form, which another version of the program may read.

use crate::eval::CompiledFlag;
use crate::eval::CompiledSegment;
use crate::eval::RulesetChange;
use crate::eval::compile;
use crate::eval::compile_segment;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::snapshot::Update;
use crate::store::ChangedFlag;
use crate::store::ChangedSegment;
use crate::store::StoreError;
use imbl::OrdMap;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::sync::Arc;

/// What is stored of each flag and segment; cheap to clone.
#[derive(Debug, Default, Clone)]
pub(super) struct Stored {
    /// What is served.
    pub(super) flags: OrdMap<FlagKey, Arc<ChangedFlag>>,
    pub(super) segments: OrdMap<SegmentKey, Arc<ChangedSegment>>,
    /// Newer forms that cannot be read.
    pub(super) unreadable_flags: OrdMap<FlagKey, Arc<ChangedFlag>>,
    pub(super) unreadable_segments: OrdMap<SegmentKey, Arc<ChangedSegment>>,
}

/// What an update becomes when it is compiled.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    /// Whatever can be read.
    pub(super) change: RulesetChange,
    /// Why the rest cannot.
    pub(super) errors: Vec<StoreError>,
    /// The rest, in the order of the update.
    flags: Vec<Arc<ChangedFlag>>,
    segments: Vec<Arc<ChangedSegment>>,
}

impl Stored {
    /// How many rows there are of which something older is served, or nothing.
    pub(super) fn n_unreadable(&self) -> usize {
        self.unreadable_flags.len() + self.unreadable_segments.len()
    }

    /// Goes on with what was served of rows that cannot be read, after everything was read anew and nothing older of them came
    /// with it.
    ///
    /// Its version is none that what comes next could have: the history may be another one, with lower versions.
    pub(super) fn go_on_with(&mut self, before: &Self, change: &mut RulesetChange) {
        for (key, bad) in &self.unreadable_flags {
            let Some(row) = before.flags.get(key) else { continue };
            let version = row.version.min(bad.version);
            let row = Arc::new(ChangedFlag { key: key.clone(), version, text: row.text.clone() });
            if !self.flags.contains_key(key)
                && let Ok(Some(flag)) = compile_flag_row(&row)
            {
                change.flags.push((key.clone(), Some(flag)));
                self.flags.insert(key.clone(), row);
            }
        }
        for (key, bad) in &self.unreadable_segments {
            let Some(row) = before.segments.get(key) else { continue };
            let version = row.version.min(bad.version);
            let row =
                Arc::new(ChangedSegment { key: key.clone(), version, text: row.text.clone() });
            if !self.segments.contains_key(key)
                && let Ok(Some(segment)) = compile_segment_row(&row)
            {
                change.segments.push((key.clone(), Some(segment)));
                self.segments.insert(key.clone(), row);
            }
        }
    }

    /// Keeps what is stored of each row.
    pub(super) fn keep(&mut self, update: &Update, compiled: &Compiled) {
        // They are in the order of the update.
        let mut unreadable = compiled.flags.iter().peekable();
        for flag in &update.flags {
            if unreadable.next_if(|each| Arc::ptr_eq(each, flag)).is_some() {
                self.unreadable_flags.insert(flag.key.clone(), Arc::clone(flag));
                continue;
            }
            self.unreadable_flags.remove(&flag.key);
            match flag.text {
                Some(_) => _ = self.flags.insert(flag.key.clone(), Arc::clone(flag)),
                None => _ = self.flags.remove(&flag.key),
            }
        }
        let mut unreadable = compiled.segments.iter().peekable();
        for segment in &update.segments {
            if unreadable.next_if(|each| Arc::ptr_eq(each, segment)).is_some() {
                self.unreadable_segments.insert(segment.key.clone(), Arc::clone(segment));
                continue;
            }
            self.unreadable_segments.remove(&segment.key);
            match segment.text {
                Some(_) => _ = self.segments.insert(segment.key.clone(), Arc::clone(segment)),
                None => _ = self.segments.remove(&segment.key),
            }
        }
    }
}

/// Compiles each row that can be read, in their order.
pub(super) fn compile_all(update: &Update) -> Compiled {
    let mut compiled = Compiled::default();
    for flag in &update.flags {
        match compile_flag_row(flag) {
            Ok(body) => compiled.change.flags.push((flag.key.clone(), body)),
            Err(error) => {
                compiled.errors.push(error);
                compiled.flags.push(Arc::clone(flag));
            }
        }
    }
    for segment in &update.segments {
        match compile_segment_row(segment) {
            Ok(body) => compiled.change.segments.push((segment.key.clone(), body)),
            Err(error) => {
                compiled.errors.push(error);
                compiled.segments.push(Arc::clone(segment));
            }
        }
    }
    compiled
}

fn compile_flag_row(flag: &ChangedFlag) -> Result<Option<Arc<CompiledFlag>>, StoreError> {
    guarded("flag_config", flag.key.as_str(), || {
        let compile = |(definition, config)| compile(&definition, &config, flag.version);
        Ok(flag.read()?.map(compile).map(Arc::new))
    })
}

fn compile_segment_row(
    segment: &ChangedSegment,
) -> Result<Option<Arc<CompiledSegment>>, StoreError> {
    guarded("segment", segment.key.as_str(), || {
        let compile = |body| compile_segment(&body, segment.version);
        Ok(segment.read()?.map(compile).map(Arc::new))
    })
}

/// Reads a row; a panic says that it cannot be read.
fn guarded<T>(
    table: &'static str,
    key: &str,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    // Nothing outlives the closure that it could have left half-done.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let cause = "compiling it panicked".to_owned();
        Err(StoreError::Corrupt { table, key: key.to_owned(), cause })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FlagText;

    #[test]
    fn a_row_that_panics_cannot_be_read_and_does_no_other_harm() {
        let refused = guarded::<()>("flag_config", "f", || panic!("on purpose"));
        assert!(matches!(refused, Err(StoreError::Corrupt { key, .. }) if key == "f"));
        assert_eq!(guarded("flag_config", "f", || Ok(7)).unwrap(), 7);
    }

    #[test]
    fn rows_that_cannot_be_read_are_kept_beside_those_that_can() {
        let text = || Some(FlagText { definition: "{".into(), config: "{}".into() });
        let rows = [("a", text()), ("b", None), ("c", text()), ("d", None), ("e", text())];
        let flag =
            |(key, text)| Arc::new(ChangedFlag { key: FlagKey::stored(key), version: 2, text });
        let flags: Vec<_> = rows.into_iter().map(flag).collect();
        let mut stored = Stored::default();
        stored.flags.extend(flags.iter().map(|flag| (flag.key.clone(), Arc::clone(flag))));
        let update = Update { flags, ..Update::default() };
        stored.keep(&update, &compile_all(&update));
        let keys = |rows: &OrdMap<FlagKey, Arc<ChangedFlag>>| {
            rows.keys().map(ToString::to_string).collect::<String>()
        };
        assert_eq!(keys(&stored.unreadable_flags), "ace");
        assert_eq!(
            keys(&stored.flags),
            "ace",
            "what was served before stays, and b and d are gone"
        );
    }
}
