//! The events of LaunchDarkly's server-side stream: `put` for everything, then `patch` and `delete`.
//!
//! Never an event with another name: Rust's SDK takes one that it does not know for an error, and fails for good if it comes
//! before the first put. `path` stands before `data`, because some SDKs parse while they read.

use crate::http::stream::content::Content;
use crate::http::stream::content::Item;
use crate::http::stream::format::Format;
use crate::http::stream::frame;
use bytes::Bytes;

/// What stands before and behind everything, which by itself answers a poll.
pub(super) const PUT_PREFIX: &str = "event: put\ndata: {\"path\":\"/\",\"data\":";
/// See [`PUT_PREFIX`].
pub(super) const PUT_SUFFIX: &str = "}\n\n";
/// What stands before all flags in the stream that has only flags.
pub(super) const FLAGS_PUT_PREFIX: &str = "event: put\ndata: ";
/// See [`FLAGS_PUT_PREFIX`].
pub(super) const FLAGS_PUT_SUFFIX: &str = "\n\n";

/// Writes the block for what there is, or for what changed.
pub(super) fn render(format: Format, content: &Content) -> Bytes {
    let has_segments = format == Format::LaunchDarkly;
    let mut out = String::new();
    if content.is_full {
        if has_segments {
            out.push_str(PUT_PREFIX);
            out.push_str("{\"flags\":");
            write_map(&mut out, &content.flags);
            out.push_str(",\"segments\":");
            write_map(&mut out, &content.segments);
            out.push('}');
            out.push_str(PUT_SUFFIX);
        } else {
            out.push_str(FLAGS_PUT_PREFIX);
            write_map(&mut out, &content.flags);
            out.push_str(FLAGS_PUT_SUFFIX);
        }
        // It stays for long, so it should not keep the room that it grew into.
        out.shrink_to_fit();
        return Bytes::from(out);
    }
    if has_segments {
        content.segments.iter().for_each(|item| write_change(&mut out, "/segments/", item));
        content.flags.iter().for_each(|item| write_change(&mut out, "/flags/", item));
    } else {
        content.flags.iter().for_each(|item| write_change(&mut out, "/", item));
    }
    if out.is_empty() {
        // The version has moved, and nothing that these clients see.
        return Bytes::from_static(frame::HEARTBEAT);
    }
    Bytes::from(out)
}

fn write_map(out: &mut String, items: &[Item]) {
    out.push('{');
    let present = items.iter().filter_map(|item| Some((item, item.json.as_deref()?)));
    for (i, (item, json)) in present.enumerate() {
        if i > 0 {
            out.push(',');
        }
        out.push_str(&quoted(&item.key));
        out.push(':');
        out.push_str(json);
    }
    out.push('}');
}

fn write_change(out: &mut String, folder: &str, item: &Item) {
    let path = quoted(&format!("{folder}{}", item.key));
    out.push_str(&match &item.json {
        Some(json) => format!("event: patch\ndata: {{\"path\":{path},\"data\":{json}}}\n\n"),
        None => {
            let version = item.wire_version;
            format!("event: delete\ndata: {{\"path\":{path},\"version\":{version}}}\n\n")
        }
    });
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    // OK because a text always has a JSON form.
    serde_json::to_string(text).unwrap_or_default()
}
