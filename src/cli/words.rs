//! What is short to type and long as JSON: percentages, targets, and rules like `user.plan in gold,silver => on`.
//!
//! The server decides whether what is read here makes sense; only the form is checked.

use anyhow::Context;
use anyhow::bail;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Digits of a percentage behind the point.
const DIGITS_MAX: usize = 3;
/// Thousandths of a percent in all.
const WHOLE: u32 = 100_000;

/// Reads a percentage like `12.5` or `12.5%` as thousandths of a percent.
pub(super) fn weight(text: &str) -> anyhow::Result<u32> {
    let number = text.trim().trim_end_matches('%');
    let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    let has_digits = !whole.is_empty() || !rest.is_empty();
    if !has_digits || !is_number(whole) || !is_number(rest) || rest.len() > DIGITS_MAX {
        bail!("`{text}` is not a percentage with at most {DIGITS_MAX} digits behind the point");
    }
    let whole_digits = if whole.is_empty() { "0" } else { whole };
    let milli = format!("{whole_digits}{rest:0<DIGITS_MAX$}").parse::<u32>();
    match milli {
        Ok(milli) if milli <= WHOLE => Ok(milli),
        _ => bail!("`{text}` is more than 100 %"),
    }
}

/// Reads `on=25,off=75` as weights, which must be all of 100 %.
pub(super) fn weights(text: &str) -> anyhow::Result<Value> {
    let mut weights = Map::new();
    let mut sum = 0_u32;
    for part in text.split(',') {
        let (variation, share) = part
            .rsplit_once('=')
            .with_context(|| format!("a rollout must be like on=25,off=75, got `{text}`"))?;
        let milli = weight(share)?;
        sum = sum.saturating_add(milli);
        if weights.insert(variation.trim().to_owned(), json!(milli)).is_some() {
            bail!("`{}` is there twice in `{text}`", variation.trim());
        }
    }
    if sum != WHOLE {
        let told = super::change::percent(u64::from(sum));
        bail!("the percentages of `{text}` are {told} together and must be 100%");
    }
    Ok(Value::Object(weights))
}

/// Reads `KIND.ATTRIBUTE`, like `user.key` or `organization./address/city`.
pub(super) fn attribute(text: &str) -> anyhow::Result<(&str, &str)> {
    match text.split_once('.') {
        Some((kind, attribute)) if !kind.is_empty() && !attribute.is_empty() => {
            Ok((kind, attribute))
        }
        _ => bail!("`{text}` must be KIND.ATTRIBUTE, like user.key"),
    }
}

/// Reads `KIND:KEY`, or `KEY` alone for the kind `user`.
pub(super) fn context_key(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or(("user", text))
}

/// What is served: `on`, or `on=25,off=75`, which may be followed by `by user.key`.
pub(super) fn serve(text: &str) -> anyhow::Result<Map<String, Value>> {
    let mut fields = Map::new();
    let (what, by) = match text.trim().split_once(" by ") {
        Some((what, by)) => (what.trim(), Some(by.trim())),
        None => (text.trim(), None),
    };
    if what.contains('=') {
        fields.insert("rolloutWeights".to_owned(), weights(what)?);
        if let Some(by) = by {
            divide_by(&mut fields, by)?;
        }
    } else if by.is_some() {
        bail!("only percentages can be divided by something, and `{what}` is one variation");
    } else {
        fields.insert("variation".to_owned(), json!(what));
    }
    Ok(fields)
}

/// Says by which attribute of which kind a rollout divides.
pub(super) fn divide_by(fields: &mut Map<String, Value>, by: &str) -> anyhow::Result<()> {
    let (kind, attribute) = attribute(by)?;
    fields.insert("rolloutContextKind".to_owned(), json!(kind));
    fields.insert("rolloutBucketBy".to_owned(), json!(attribute));
    Ok(())
}

/// Splits a rule into its clauses and what stands behind `=>`, if anything does.
pub(super) fn rule(text: &str) -> anyhow::Result<(Vec<Value>, Option<&str>)> {
    let places = unquoted(text, "=>");
    let (conditions, result) = match places.first().and_then(|at| text.split_at_checked(*at)) {
        Some((conditions, rest)) => {
            (conditions, Some(rest.trim_start_matches("=>").trim()).filter(|rest| !rest.is_empty()))
        }
        None => (text, None),
    };
    let mut clauses = Vec::new();
    let mut rest = conditions;
    loop {
        let at = unquoted(rest, " and ").first().copied();
        let (clause_text, behind) = match at.and_then(|at| rest.split_at_checked(at)) {
            Some((clause_text, behind)) => (clause_text, behind.strip_prefix(" and ")),
            None => (rest, None),
        };
        clauses.push(clause(clause_text.trim())?);
        match behind {
            Some(behind) => rest = behind,
            None => return Ok((clauses, result)),
        }
    }
}

/// Reads `KIND.ATTRIBUTE [not] OPERATOR VALUE,VALUE`, or `[not] segment KEY,KEY`.
fn clause(text: &str) -> anyhow::Result<Value> {
    let wrong = || {
        format!(
            "`{text}` must be like `user.plan in gold,silver`, `user.email not endsWith @example.com` or `segment beta`"
        )
    };
    let (first, rest) = text.split_once(char::is_whitespace).with_context(wrong)?;
    let (is_negated, first, rest) = match first {
        "not" => {
            let (first, rest) = rest.trim().split_once(char::is_whitespace).with_context(wrong)?;
            (true, first, rest.trim())
        }
        _ => (false, first, rest.trim()),
    };
    if first == "segment" {
        let values = values("segmentMatch", rest)?;
        return Ok(json!({"op": "segmentMatch", "values": values, "negate": is_negated}));
    }
    let (kind, attribute) = attribute(first)?;
    let (is_negated, rest) = match rest.strip_prefix("not ") {
        Some(rest) => (true, rest.trim()),
        None => (is_negated, rest),
    };
    let (op, list) = rest.split_once(char::is_whitespace).with_context(wrong)?;
    Ok(json!({
        "contextKind": kind, "attribute": attribute, "op": op,
        "values": values(op, list.trim())?, "negate": is_negated,
    }))
}

/// Reads values with commas between. What is quoted is a text; what looks like a number or a truth is one where the operator
/// takes such.
fn values(op: &str, list: &str) -> anyhow::Result<Vec<Value>> {
    let takes_others = matches!(
        op,
        "in" | "lessThan"
            | "lessThanOrEqual"
            | "greaterThan"
            | "greaterThanOrEqual"
            | "before"
            | "after"
    );
    let mut values = Vec::new();
    let mut rest = list;
    loop {
        let at = unquoted(rest, ",").first().copied();
        let (item, behind) = match at.and_then(|at| rest.split_at_checked(at)) {
            Some((item, behind)) => (item.trim(), behind.strip_prefix(',')),
            None => (rest.trim(), None),
        };
        let read = serde_json::from_str::<Value>(item).ok();
        values.push(match read {
            _ if item.is_empty() => {
                bail!("a value is empty in `{list}`; write \"\" for an empty text")
            }
            Some(text @ Value::String(_)) => text,
            Some(value @ (Value::Number(_) | Value::Bool(_))) if takes_others => value,
            _ if item.starts_with('"') => bail!("`{item}` is not a quoted text"),
            _ => json!(item),
        });
        match behind {
            Some(behind) => rest = behind,
            None => return Ok(values),
        }
    }
}

/// Where `needle` stands in `text` outside of quotes, in bytes.
fn unquoted(text: &str, needle: &str) -> Vec<usize> {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let mut found = Vec::new();
    for (at, c) in text.char_indices() {
        let begins = |rest: &str| rest.starts_with(needle);
        if !is_quoted && text.get(at..).is_some_and(begins) {
            found.push(at);
        }
        match c {
            '\\' if is_quoted && !is_escaped => is_escaped = true,
            '"' if !is_escaped => is_quoted = !is_quoted,
            _ => is_escaped = false,
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_read_exactly() {
        for (text, milli) in [
            ("0", 0),
            ("25", 25_000),
            ("12.5%", 12_500),
            ("0.001", 1),
            (".5", 500),
            ("100", 100_000),
        ] {
            assert_eq!(weight(text).unwrap(), milli, "{text}");
        }
        for text in ["", "-1", "1.0001", "101", "1e1", "a", ".", "99999999999999999999"] {
            assert!(weight(text).is_err(), "{text}");
        }
    }

    #[test]
    fn weights_must_be_all() {
        assert_eq!(
            weights("on=33.333,off=33.333,b=33.334").unwrap(),
            json!({"on": 33_333, "off": 33_333, "b": 33_334})
        );
        for (text, complaint) in [
            ("on=25,off=70", "95%"),
            ("on", "must be like"),
            ("on=50,on=50", "twice"),
            ("on=50,off=50.0001", "percentage"),
        ] {
            let error = weights(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
    }

    #[test]
    fn rules_are_read() {
        let (clauses, result) = rule(
            r#"user.plan in gold,"a, b => c",7 and not segment beta and device./os/version not semVerLessThan 2.0 => on=25,off=75 by user.key"#,
        )
        .unwrap();
        let expected = json!([
            {"contextKind": "user", "attribute": "plan", "op": "in",
                "values": ["gold", "a, b => c", 7], "negate": false},
            {"op": "segmentMatch", "values": ["beta"], "negate": true},
            {"contextKind": "device", "attribute": "/os/version", "op": "semVerLessThan",
                "values": ["2.0"], "negate": true},
        ]);
        assert_eq!(Value::Array(clauses), expected);
        let served = serve(result.unwrap()).unwrap();
        let expected = json!({"rolloutWeights": {"on": 25_000, "off": 75_000},
            "rolloutContextKind": "user", "rolloutBucketBy": "key"});
        assert_eq!(Value::Object(served), expected);
        assert_eq!(Value::Object(serve("on").unwrap()), json!({"variation": "on"}));
    }

    #[test]
    fn what_is_no_rule_is_told() {
        for text in [
            "",
            "user.plan",
            "user.plan in",
            "plan in gold => on",
            "user.plan in gold, => on",
            "user.plan in \"gold => on",
            "segment",
            "not",
        ] {
            assert!(rule(text).is_err(), "{text}");
        }
        assert!(serve("on by user.key").is_err());
    }

    #[test]
    fn keys_have_kinds() {
        assert_eq!(context_key("ann"), ("user", "ann"));
        assert_eq!(context_key("organization:acme:1"), ("organization", "acme:1"));
    }
}
