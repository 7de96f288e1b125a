//! Contexts as LaunchDarkly's SDKs read them: three forms, and whatever violates one is refused.
//!
//! The forgiving forms are tested beside `Context::decode`.

use crate::model::attribute::Attribute;
use crate::model::attribute::AttributeRef;
use crate::model::context::Context;
use crate::model::context::KindRef;
use serde_json::Value;
use serde_json::json;

/// The value of an attribute; `None` if it is absent.
fn found(context: &Value, kind: &str, name: &str) -> Option<Value> {
    let context = Context::decode_launchdarkly(context.clone()).unwrap();
    context
        .of_kind(&KindRef::new(kind))?
        .attribute(&AttributeRef::literal(name))
        .map(Attribute::to_json)
}

#[test]
fn a_single_context_has_attributes_beside_kind_and_key() {
    let org = json!({
        "kind": "org", "key": "acme", "name": "Acme", "anonymous": true, "tier": 2, "none": null,
        "custom": {"x": 1}, "_meta": {"privateAttributes": ["tier"]}, "targetingKey": "t",
    });
    for (name, expected) in [
        ("key", Some(json!("acme"))),
        ("kind", Some(json!("org"))),
        ("name", Some(json!("Acme"))),
        ("anonymous", Some(json!(true))),
        ("tier", Some(json!(2))),
        ("custom", Some(json!({"x": 1}))),
        ("targetingKey", Some(json!("t"))),
        ("x", None),
        ("none", None),
        ("_meta", None),
    ] {
        assert_eq!(found(&org, "org", name), expected, "{name}");
    }
    assert_eq!(found(&org, "user", "key"), None);
    let user = json!({"kind": "user", "key": "u"});
    assert_eq!(found(&user, "user", "anonymous"), Some(json!(false)));
    assert_eq!(found(&user, "user", "name"), None);
}

#[test]
fn a_multi_context_with_one_kind_is_that_kind() {
    let multi = json!({"kind": "multi", "org": {"key": "acme", "tier": 2}});
    let single = json!({"kind": "org", "key": "acme", "tier": 2});
    let decoded = [multi, single].map(|form| Context::decode_launchdarkly(form).unwrap());
    assert_eq!(decoded[0], decoded[1]);
    let both = json!({"kind": "multi", "org": {"key": "o"}, "user": {"key": "u", "plan": "gold"}});
    assert_eq!(found(&both, "org", "key"), Some(json!("o")));
    assert_eq!(found(&both, "user", "plan"), Some(json!("gold")));
    assert_eq!(found(&both, "user", "kind"), Some(json!("user")));
}

#[test]
fn an_old_user_keeps_its_own_attributes_in_custom() {
    let user = json!({
        "key": "", "anonymous": null, "email": "a@b.c", "firstName": "Ann", "country": null,
        "secondary": "s", "unknown": 1, "privateAttributeNames": ["email"],
        "custom": {
            "plan": "gold", "email": "other", "key": "x", "kind": "org", "name": "x", "anonymous": true,
            "_meta": 1, "none": null,
        },
    });
    for (name, expected) in [
        ("key", Some(json!(""))),
        ("kind", Some(json!("user"))),
        ("anonymous", Some(json!(false))),
        ("email", Some(json!("a@b.c"))),
        ("firstName", Some(json!("Ann"))),
        ("plan", Some(json!("gold"))),
        ("name", None),
        ("country", None),
        ("secondary", None),
        ("unknown", None),
        ("custom", None),
        ("privateAttributeNames", None),
        ("none", None),
        ("_meta", None),
    ] {
        assert_eq!(found(&user, "user", name), expected, "{name}");
    }
}

#[test]
fn what_violates_its_form_is_refused() {
    for bad in [
        json!(null),
        json!("u"),
        json!([]),
        json!({}),
        json!({"kind": "user"}),
        json!({"kind": "user", "key": ""}),
        json!({"kind": "user", "key": null}),
        json!({"kind": "user", "key": 1}),
        json!({"kind": null, "key": "u"}),
        json!({"kind": 1, "key": "u"}),
        json!({"kind": "", "key": "u"}),
        json!({"kind": "kind", "key": "u"}),
        json!({"kind": "a b", "key": "u"}),
        json!({"kind": "ü", "key": "u"}),
        json!({"kind": "user", "key": "u", "name": 1}),
        json!({"kind": "user", "key": "u", "anonymous": "yes"}),
        json!({"kind": "user", "key": "u", "anonymous": null}),
        json!({"kind": "multi"}),
        json!({"kind": "multi", "key": "u"}),
        json!({"kind": "multi", "user": "u"}),
        json!({"kind": "multi", "user": {}}),
        json!({"kind": "multi", "user": {"key": ""}}),
        json!({"kind": "multi", "user": {"key": "u"}, "org": {"name": "keyless"}}),
        json!({"kind": "multi", "multi": {"key": "u"}}),
        json!({"kind": "multi", "a b": {"key": "u"}}),
        json!({"key": null}),
        json!({"key": 1}),
        json!({"name": "keyless"}),
        json!({"key": "u", "name": 1}),
        json!({"key": "u", "email": ["a"]}),
        json!({"key": "u", "anonymous": 1}),
        json!({"key": "u", "custom": []}),
    ] {
        assert!(Context::decode_launchdarkly(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn what_only_looks_odd_is_accepted() {
    for good in [
        json!({"key": ""}),
        json!({"key": "u", "custom": null, "name": null}),
        json!({"kind": "user", "key": "u", "name": null}),
        json!({"kind": "Org.2_x-y", "key": " "}),
        json!({"kind": "user", "key": "u", "": 1, "/": 2}),
        json!({"kind": "multi", "user": {"key": "u", "kind": "org"}}),
        // The form of an OFREP client is told by its `targetingKey`.
        json!({"targetingKey": "u", "plan": "gold"}),
    ] {
        assert!(Context::decode_launchdarkly(good.clone()).is_ok(), "{good}");
    }
}
