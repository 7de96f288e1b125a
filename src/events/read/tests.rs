//! Payloads as SDKs send them, and as they do not.

use super::*;
use serde_json::Value;
use serde_json::json;

fn now() -> Timestamp {
    "2026-11-23T12:00:00Z".parse().unwrap()
}

fn report(body: &Value) -> Report {
    read(body.to_string().as_bytes(), Counting::InSummaries, now()).unwrap()
}

/// The units of a single event.
fn units(event: &Value) -> Vec<(String, String)> {
    let report = report(&json!([event]));
    report.events.into_iter().next().map(|event| event.units).unwrap_or_default()
}

fn unit(kind: &str, key: &str) -> (String, String) {
    (kind.to_owned(), key.to_owned())
}

#[test]
fn summaries_are_read_counter_by_counter() {
    let report = report(&json!([{
    "kind": "summary", "startDate": 1, "endDate": now().as_millisecond() - 5_000,
    "features": {
        "a": {"default": 1, "contextKinds": ["user"], "counters": [
            {"value": true, "variation": 0, "version": 41, "count": 12},
            {"value": false, "variation": 1, "version": 41.0, "count": 3},
            {"count": 2, "value": null}, {"count": 0}, {"count": -1}, {"count": 1.5}]},
        "b": {"counters": [{"unknown": true, "count": 7}]},
    }}]));
    let counter = |flag: &str, variation, version, n| Counter {
        flag: flag.to_owned(),
        variation,
        version,
        is_unknown: false,
        n,
    };
    assert_eq!(
        report.counters,
        [
            counter("a", Some(0), Some(41), 12),
            counter("a", Some(1), Some(41), 3),
            counter("a", None, None, 2),
            Counter { is_unknown: true, ..counter("b", None, None, 7) },
        ]
    );
    assert_eq!(report.n_invalid, 3);
    assert_eq!(report.ended_at.unwrap(), now() - SignedDuration::from_secs(5));
}

#[test]
fn of_a_context_only_kinds_and_keys_are_read() {
    for (fields, expected) in [
        (
            json!({"context": {"kind": "org", "key": "acme", "name": "x"}}),
            vec![unit("org", "acme")],
        ),
        (
            json!({"context": {"kind": "multi", "user": {"key": "u", "email": "e"}, "org": {"key": "o"}}}),
            vec![unit("user", "u"), unit("org", "o")],
        ),
        (json!({"context": {"key": "u", "custom": {"key": "no"}}}), vec![unit("user", "u")]),
        (
            json!({"contextKeys": {"user": "u", "org": "o"}}),
            vec![unit("user", "u"), unit("org", "o")],
        ),
        (json!({"user": {"key": "u", "email": "e@x"}}), vec![unit("user", "u")]),
        (json!({"userKey": "u"}), vec![unit("user", "u")]),
        (json!({"userKey": 7}), vec![unit("user", "7")]),
        (json!({"context": {"kind": "user"}}), vec![]),
        (json!({"context": [1]}), vec![]),
        (json!({"context": {"kind": "user", "key": "a\0b"}}), vec![]),
        (json!({}), vec![]),
    ] {
        let mut event = fields.clone();
        event["kind"] = json!("custom");
        event["key"] = json!("checkout");
        event["creationDate"] = json!(1);
        assert_eq!(units(&event), expected, "{fields}");
    }
}

#[test]
fn events_of_every_kind_are_read() {
    let at = now().as_millisecond();
    let report = report(&json!([
        {"kind": "index", "creationDate": at, "context": {"kind": "user", "key": "u"}},
        {"kind": "identify", "creationDate": at, "key": "u", "user": {"key": "u"}},
        {"kind": "feature", "creationDate": at, "key": "f", "value": true, "default": false, "variation": 1,
         "version": 5, "reason": {"kind": "FALLTHROUGH", "inExperiment": true}, "contextKeys": {"user": "u"}},
        {"kind": "debug", "creationDate": at, "key": "f", "value": true, "variation": null, "context": {"kind": "user", "key": "u"}},
        {"kind": "custom", "creationDate": at, "key": "bought", "data": {"x": 1}, "metricValue": 9.5, "contextKeys": {"user": "u"}, "samplingRatio": 3},
        {"kind": "click", "creationDate": at, "key": "goal", "url": "u", "selector": "s", "contextKeys": {"user": "u"}},
        {"kind": "pageview", "creationDate": at, "key": "goal", "url": "u", "contextKeys": {"user": "u"}},
        {"kind": "migration_op", "creationDate": at, "operation": "read", "contextKeys": {"user": "u"},
         "evaluation": {"key": "m", "value": "live", "variation": 2, "version": 8}},
    ]));
    assert_eq!(report.n_invalid, 0);
    let told: Vec<(&str, &str)> =
        report.events.iter().map(|event| (event.kind.as_str(), event.key.as_str())).collect();
    assert_eq!(
        told,
        [
            ("index", ""),
            ("identify", ""),
            ("feature", "f"),
            ("debug", "f"),
            ("custom", "bought"),
            ("click", "goal"),
            ("pageview", "goal"),
            ("migration_op", "m"),
        ]
    );
    let feature = &report.events[2];
    assert_eq!((feature.variation, feature.version), (Some(1), Some(5)));
    assert_eq!((feature.reason, feature.in_experiment), (Some("FALLTHROUGH"), true));
    assert_eq!((report.events[4].value, report.events[4].sampling_ratio), (Some(9.5), 3));
    assert_eq!(report.events[7].variation, Some(2));
}

#[test]
fn what_makes_no_sense_spoils_nothing_else() {
    let report = report(&json!([
        7, null, "x", [], {}, {"kind": "alias"}, {"kind": "custom", "contextKeys": {"user": "u"}},
        {"kind": "custom", "key": "x".repeat(300), "contextKeys": {"user": "u"}},
        {"kind": "custom", "key": "good", "contextKeys": {"user": "u"}},
    ]));
    assert_eq!((report.events.len(), report.n_invalid), (1, 8));
    assert!(read(b"{\"kind\":\"custom\"}", Counting::InSummaries, now()).is_err());
    assert!(read(b"[] []", Counting::InSummaries, now()).is_err());
    assert!(read(b"[{", Counting::InSummaries, now()).is_err());
    assert!(read(b"", Counting::InSummaries, now()).is_err());
}

#[test]
fn clocks_of_clients_are_believed_within_a_day() {
    let told = |millis: i64| {
        let event = json!({"kind": "custom", "key": "k", "creationDate": millis, "userKey": "u"});
        report(&json!([event])).events[0].at
    };
    let day = 24 * 3_600_000;
    let at = now().as_millisecond();
    assert_eq!(told(at - 1_000), now() - SignedDuration::from_secs(1));
    for (wrong, expected) in [(at + day, at), (at - 3 * day, at), (i64::MAX, at)] {
        assert_eq!(told(wrong).as_millisecond(), expected, "{wrong}");
    }
}

#[test]
fn evaluations_that_are_told_one_by_one_are_counted() {
    let at = now().as_millisecond();
    let body = json!([
        {"kind": "feature", "creationDate": at, "key": "f", "variation": 1, "version": 5, "userKey": "u"},
        {"kind": "feature", "creationDate": at, "key": "f", "variation": 0, "version": 5, "userKey": "u", "trackEvents": true},
        {"kind": "feature", "creationDate": at, "key": "f", "variation": 0, "userKey": "u", "excludeFromSummaries": true},
        {"kind": "feature", "creationDate": at, "userKey": "u"},
        {"kind": "custom", "creationDate": at, "key": "bought", "userKey": "u"},
    ]);
    let report = read(body.to_string().as_bytes(), Counting::OneByOne, now()).unwrap();
    let counted: Vec<_> = report.counters.iter().map(|c| (&*c.flag, c.variation, c.n)).collect();
    assert_eq!(counted, [("f", Some(1), 1), ("f", Some(0), 1)]);
    let kept: Vec<_> = report.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!((kept, report.n_invalid), (vec!["feature", "custom"], 1));
    let usual = read(body.to_string().as_bytes(), Counting::InSummaries, now()).unwrap();
    assert!(usual.counters.is_empty());
}
