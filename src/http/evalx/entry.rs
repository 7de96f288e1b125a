//! One evaluated flag, as LaunchDarkly's client-side SDKs read it.
//!
//! Source: LaunchDarkly's JavaScript SDKs; ld-relay, `relay/evaluate.go`.

use crate::eval::CompiledFlag;
use crate::eval::ErrorKind;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::model::key::FlagKey;
use foldhash::fast::FixedState;
use serde::Serialize;
use std::hash::BuildHasher;

/// Tells whether two results are the same, also from replica to replica; wrong once in 2^64.
pub(super) type Fingerprint = u64;

/// The part of an entry that says what the result is: everything but the versions.
#[derive(Debug)]
pub(super) struct Entry<'r> {
    pub(super) flag: &'r CompiledFlag,
    /// Without the brace at its start.
    rest: Vec<u8>,
}

impl<'r> Entry<'r> {
    /// Renders an outcome; `with_reason` also where the evaluation is not measured.
    pub(super) fn new(flag: &'r CompiledFlag, outcome: &Outcome<'r>, with_reason: bool) -> Self {
        let mut rest = Vec::with_capacity(64);
        rest.extend_from_slice(b"\"value\":");
        let value = outcome.value().map_or("null", |value| value.get());
        rest.extend_from_slice(value.as_bytes());
        rest.extend_from_slice(b",\"variation\":");
        write_json(&mut rest, &outcome.variation.map(|(index, _)| index));
        let is_measured = flag.is_measured(&outcome.reason);
        if is_measured || flag.track_events {
            rest.extend_from_slice(b",\"trackEvents\":true");
        }
        if is_measured {
            rest.extend_from_slice(b",\"trackReason\":true");
        }
        if with_reason || is_measured {
            rest.extend_from_slice(b",\"reason\":");
            write_json(&mut rest, &outcome.reason_body());
        }
        let asked = prerequisites(flag, &outcome.reason);
        if !asked.is_empty() {
            rest.extend_from_slice(b",\"prerequisites\":");
            write_json(&mut rest, &asked);
        }
        rest.push(b'}');
        Self { flag, rest }
    }

    /// What the result is, in short.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        FixedState::default().hash_one(&self.rest)
    }

    /// Writes `{"version":…,"flagVersion":…,…}`.
    pub(super) fn write(&self, out: &mut Vec<u8>, version: i64) {
        out.extend_from_slice(b"{\"version\":");
        write_json(out, &version);
        out.push(b',');
        self.write_unversioned(out);
    }

    /// Writes `{"key":…,"version":…,"flagVersion":…,…}`.
    pub(super) fn write_patch(&self, out: &mut Vec<u8>, version: i64) {
        out.extend_from_slice(b"{\"key\":");
        write_json(out, self.flag.key.as_str());
        out.extend_from_slice(b",\"version\":");
        write_json(out, &version);
        out.push(b',');
        self.write_unversioned(out);
    }

    /// Writes `{"flagVersion":…,…}`, for where the version stands outside.
    pub(super) fn write_object(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_unversioned(out);
    }

    fn write_unversioned(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"flagVersion\":");
        write_json(out, &self.flag.version);
        out.push(b',');
        out.extend_from_slice(&self.rest);
    }
}

/// The prerequisites that were asked, up to the first that failed: SDKs report that they were evaluated.
pub(super) fn prerequisites<'r>(flag: &'r CompiledFlag, reason: &Reason<'_>) -> Vec<&'r str> {
    let keys = flag.prerequisite_keys().map(FlagKey::as_str);
    match reason {
        Reason::Off | Reason::Error(ErrorKind::MalformedFlag) => Vec::new(),
        Reason::PrerequisiteFailed { key: failed } => {
            let mut has_failed = false;
            let until = |key: &&str| !std::mem::replace(&mut has_failed, key == failed);
            keys.take_while(until).collect()
        }
        _ => keys.collect(),
    }
}

pub(super) fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // OK because keys, numbers and reasons can be written as JSON, and memory takes all bytes.
    let _ = serde_json::to_writer(out, value);
}
