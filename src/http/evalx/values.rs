//! The first protocol: all values as one object, and events that replace, patch or delete them.

use crate::http::evalx::entry::Entry;
use crate::http::evalx::entry::write_json;
use crate::http::evalx::view::Difference;
use bytes::Bytes;

/// Bytes for which room is made for each flag; a usual size, and no limit.
const ENTRY_BYTES: usize = 128;
/// Tells a client to ask anew. Its data must not be empty: an event without data is not delivered.
pub(super) const PING: &[u8] = b"event: ping\ndata:  \n\n";

/// The object of all values, by key.
pub(super) fn body(entries: &[Entry<'_>], version: i64) -> Vec<u8> {
    let mut out = Vec::with_capacity((entries.len() + 1).saturating_mul(ENTRY_BYTES));
    write_object(&mut out, entries, version);
    out
}

/// The event that replaces everything which the client has.
pub(super) fn put(entries: &[Entry<'_>], version: i64) -> Bytes {
    let mut out = Vec::with_capacity((entries.len() + 1).saturating_mul(ENTRY_BYTES));
    out.extend_from_slice(b"event: put\ndata: ");
    write_object(&mut out, entries, version);
    out.extend_from_slice(b"\n\n");
    out.into()
}

/// One event for each flag that differs.
pub(super) fn patches(difference: &Difference<'_>, version: i64) -> Bytes {
    let mut out = Vec::new();
    for entry in &difference.entries {
        out.extend_from_slice(b"event: patch\ndata: ");
        entry.write_patch(&mut out, version);
        out.extend_from_slice(b"\n\n");
    }
    for key in &difference.gone {
        out.extend_from_slice(b"event: delete\ndata: {\"key\":");
        write_json(&mut out, key.as_str());
        out.extend_from_slice(b",\"version\":");
        write_json(&mut out, &version);
        out.extend_from_slice(b"}\n\n");
    }
    out.into()
}

fn write_object(out: &mut Vec<u8>, entries: &[Entry<'_>], version: i64) {
    out.push(b'{');
    for (i, entry) in entries.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_json(out, entry.flag.key.as_str());
        out.push(b':');
        entry.write(out, version);
    }
    out.push(b'}');
}
