//! What a client has already and what it can read: `If-None-Match` and `Accept-Encoding`.

use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::header;

/// What a tag of a compressed answer ends with, because its bytes are others.
pub(crate) const GZIP_SUFFIX: &str = "-gzip";

/// Whether the client has what this tag, without quotes, is of; compressed or not is the same. Comparison is weak, because
/// proxies that compress make tags weak.
///
/// Source: RFC 9110, section 13.1.2.
pub(crate) fn has_seen(headers: &HeaderMap, tag: &str) -> bool {
    items(headers, header::IF_NONE_MATCH).any(|item| {
        let item = item.strip_prefix("W/").unwrap_or(item);
        let quoted = item.strip_prefix('"').and_then(|item| item.strip_suffix('"'));
        let seen = quoted.unwrap_or(item);
        item == "*" || seen.strip_suffix(GZIP_SUFFIX).unwrap_or(seen) == tag
    })
}

/// Whether the client reads gzip.
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    items(headers, header::ACCEPT_ENCODING).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let is_refused = |part: &str| {
            let quality = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
            quality.and_then(|quality| quality.parse::<f32>().ok()) == Some(0.0)
        };
        is_gzip && !parts.any(is_refused)
    })
}

fn items(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let values = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn tags_are_recognised_however_they_are_written() {
        for seen in ["\"a\"", "W/\"a\"", "\"x\", \"a\"", "\"a-gzip\"", "a", "*"] {
            assert!(has_seen(&with(header::IF_NONE_MATCH, seen), "a"), "{seen}");
        }
        for other in ["", "\"b\"", "\"ab\"", "\"a-zip\""] {
            assert!(!has_seen(&with(header::IF_NONE_MATCH, other), "a"), "{other}");
        }
        assert!(!has_seen(&HeaderMap::new(), "a"));
    }

    #[test]
    fn gzip_is_sent_to_those_who_read_it() {
        for yes in ["gzip", "deflate, gzip;q=0.5", "GZIP", "br , gzip; q=1"] {
            assert!(accepts_gzip(&with(header::ACCEPT_ENCODING, yes)), "{yes}");
        }
        for no in ["", "identity", "gzip;q=0", "gzip; q=0.000", "xgzip", "br"] {
            assert!(!accepts_gzip(&with(header::ACCEPT_ENCODING, no)), "{no}");
        }
    }
}
