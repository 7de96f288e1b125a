//! The shapes of OFREP's answers.

use crate::eval::CompiledFlag;
use crate::eval::ErrorKind;
use crate::eval::Outcome;
use crate::eval::Reason;
use crate::http::error::ApiError;
use crate::http::ofrep::answer::Target;
use crate::http::ofrep::answer::target;
use crate::http::ofrep::events::EventStream;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::response::Response;
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use utoipa::ToSchema;

/// The body of an evaluation request, for the API document; it is read field by field.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "describes what `read_context` reads")]
pub(crate) struct RequestBody {
    /// Whom the flag is evaluated for: `targetingKey` and attributes, or LaunchDarkly's single or multi form. Nobody in
    /// particular if it is left out.
    #[schema(value_type = Option<Object>)]
    context: Option<serde_json::Value>,
}

/// A flag that was evaluated.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EvaluationBody<'a> {
    key: &'a str,
    /// Of any JSON type; left out if the caller is to use the default in its own code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    value: Option<&'a RawValue>,
    /// `STATIC`, `DEFAULT`, `SPLIT`, `TARGETING_MATCH` or `DISABLED`.
    reason: &'static str,
    /// The key of the variation.
    variant: &'a str,
    metadata: FlagMetadata<'a>,
}

/// The exact reason, which OFREP has no words for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FlagMetadata<'a> {
    /// `OFF`, `FALLTHROUGH`, `TARGET_MATCH`, `RULE_MATCH` or `PREREQUISITE_FAILED`.
    reason: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prerequisite_key: Option<&'a str>,
    /// The environment's version at which the flag last changed.
    version: i64,
    /// Present if the store has not confirmed for a while that this is current.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// A flag that could not be evaluated.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FailureBody<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    key: &'a str,
    /// `PARSE_ERROR`, `TARGETING_KEY_MISSING`, `INVALID_CONTEXT`, `FLAG_NOT_FOUND` or `GENERAL`.
    error_code: &'static str,
    error_details: &'a str,
}

/// One flag of an answer about all of them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Item<'a> {
    /// It has a value.
    Evaluation(EvaluationBody<'a>),
    /// It has none.
    Failure(FailureBody<'a>),
}

/// All flags; for the API document, since the answer is put together from parts that are written already.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `evaluate_all_flags` writes")]
pub(crate) struct BulkBody<'a> {
    /// Sorted by key.
    pub(crate) flags: Vec<Item<'a>>,
    pub(crate) metadata: BulkMetadata<'a>,
    pub(crate) event_streams: Vec<EventStream>,
}

/// Where the flags come from.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BulkMetadata<'a> {
    /// The environment's key.
    pub(crate) flag_set_id: &'a str,
    /// The environment's version.
    pub(crate) version: &'a str,
    /// Present if the store has not confirmed for a while that this is current.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stale: bool,
}

impl BulkMetadata<'_> {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_json(out, self);
    }
}

impl<'a> EvaluationBody<'a> {
    /// Puts an outcome into OFREP's words.
    ///
    /// A flag that is off and serves its off variation is `DEFAULT` and not `DISABLED`: for the latter, several providers
    /// throw the value away.
    pub(crate) fn new(
        flag: &'a CompiledFlag,
        outcome: &Outcome<'a>,
        stale: bool,
    ) -> Result<Self, FailureBody<'a>> {
        let key = flag.key.as_str();
        // A value of `null`, which only imported flags have, is one that no provider takes: it means that there is none.
        let value = outcome.value().filter(|value| value.get() != "null");
        let reason = match outcome.reason {
            Reason::Error(kind) => return Err(failure(key, kind)),
            _ if value.is_none() => "DISABLED",
            Reason::Off | Reason::PrerequisiteFailed { .. } => "DEFAULT",
            Reason::Fallthrough { .. } | Reason::RuleMatch { .. } if outcome.is_split => "SPLIT",
            Reason::Fallthrough { .. } if flag.is_static => "STATIC",
            Reason::Fallthrough { .. } => "DEFAULT",
            Reason::TargetMatch | Reason::RuleMatch { .. } => "TARGETING_MATCH",
        };
        let (rule_index, rule_id) = match outcome.reason {
            Reason::RuleMatch { rule_index, rule_id, .. } => {
                (Some(rule_index), Some(rule_id).filter(|id| !id.is_empty()))
            }
            _ => (None, None),
        };
        let prerequisite_key = match outcome.reason {
            Reason::PrerequisiteFailed { key } => Some(key),
            _ => None,
        };
        let metadata = FlagMetadata {
            reason: outcome.reason.kind(),
            rule_index,
            rule_id,
            prerequisite_key,
            version: flag.version,
            stale,
        };
        let variant = outcome.variation.map_or("", |(_, variation)| variation.key.as_str());
        Ok(Self { key, value, reason, variant, metadata })
    }
}

impl<'a> Item<'a> {
    /// Puts an outcome into OFREP's words.
    pub(crate) fn new(flag: &'a CompiledFlag, outcome: &Outcome<'a>, stale: bool) -> Self {
        EvaluationBody::new(flag, outcome, stale).map_or_else(Self::Failure, Self::Evaluation)
    }

    /// Writes it as JSON; the same bytes as serde's, in less than half the time.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Evaluation(body) => body.write(out),
            Self::Failure(body) => write_json(out, body),
        }
    }
}

impl EvaluationBody<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"key\":");
        write_text(out, self.key);
        if let Some(value) = self.value {
            out.extend_from_slice(b",\"value\":");
            out.extend_from_slice(value.get().as_bytes());
        }
        out.extend_from_slice(b",\"reason\":");
        write_text(out, self.reason);
        out.extend_from_slice(b",\"variant\":");
        write_text(out, self.variant);
        out.extend_from_slice(b",\"metadata\":{\"reason\":");
        let metadata = &self.metadata;
        write_text(out, metadata.reason);
        if let Some(index) = metadata.rule_index {
            out.extend_from_slice(b",\"ruleIndex\":");
            out.extend_from_slice(itoa::Buffer::new().format(index).as_bytes());
        }
        if let Some(id) = metadata.rule_id {
            out.extend_from_slice(b",\"ruleId\":");
            write_text(out, id);
        }
        if let Some(key) = metadata.prerequisite_key {
            out.extend_from_slice(b",\"prerequisiteKey\":");
            write_text(out, key);
        }
        out.extend_from_slice(b",\"version\":");
        out.extend_from_slice(itoa::Buffer::new().format(metadata.version).as_bytes());
        if metadata.stale {
            out.extend_from_slice(b",\"stale\":true");
        }
        out.extend_from_slice(b"}}");
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    let is_special = |byte: u8| byte < b' ' || byte == b'"' || byte == b'\\';
    // Looks at every byte, because that is faster than to stop at the first.
    if text.bytes().fold(false, |found, byte| found | is_special(byte)) {
        return write_json(out, text);
    }
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

pub(super) fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // OK because texts can be written as JSON, and memory takes all bytes.
    let _ = serde_json::to_writer(out, value);
}

fn failure(key: &str, kind: ErrorKind) -> FailureBody<'_> {
    let (error_code, error_details) = match kind {
        ErrorKind::MalformedFlag => {
            ("PARSE_ERROR", "the flag's configuration makes no sense where this context leads")
        }
        ErrorKind::TargetingKeyMissing => (
            "TARGETING_KEY_MISSING",
            "the flag divides contexts by their key, and this one has no targetingKey",
        ),
    };
    FailureBody { key, error_code, error_details }
}

/// Writes an error of these routes in OFREP's shape, with the flag's key where the path has one.
pub(crate) fn write_error(error: &ApiError, uri: &Uri, _: &str) -> Response {
    let key = match target(uri.path()) {
        Some(Target::Flag { encoded_key }) => percent_decode_str(encoded_key).decode_utf8_lossy(),
        _ => Cow::default(),
    };
    let error_code = match error.code {
        "flag_not_found" => "FLAG_NOT_FOUND",
        "invalid_context" => "INVALID_CONTEXT",
        _ if error.status == StatusCode::BAD_REQUEST => "PARSE_ERROR",
        _ => "GENERAL",
    };
    let body = FailureBody { key: &key, error_code, error_details: &error.detail };
    error.respond("application/json", serde_json::to_vec(&body).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_directly_is_what_serde_writes() {
        let value = RawValue::from_string(r#"{"a":[1.0]}"#.to_owned()).unwrap();
        for (value, rule, prerequisite_key, text) in [
            (None, None, None, "plain"),
            (Some(&*value), Some((3, "id")), None, "quote\" and \\ and \n"),
            (Some(&*value), None, Some("other\u{1}"), "Zoë"),
            (None, Some((0, "\"")), Some("x"), ""),
        ] {
            let metadata = FlagMetadata {
                reason: "FALLTHROUGH",
                rule_index: rule.map(|(index, _)| index),
                rule_id: rule.map(|(_, id)| id),
                prerequisite_key,
                version: -7,
                stale: rule.is_some(),
            };
            let body =
                EvaluationBody { key: text, value, reason: "STATIC", variant: text, metadata };
            for item in
                [Item::Evaluation(body), Item::Failure(failure(text, ErrorKind::MalformedFlag))]
            {
                let mut written = Vec::new();
                item.write(&mut written);
                let expected = serde_json::to_vec(&item).unwrap();
                assert_eq!(String::from_utf8(written), String::from_utf8(expected));
            }
        }
    }
}
