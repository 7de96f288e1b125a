//! What administrators read: stale flags, pages of counts, the command line, and who may.

use super::ENVIRONMENT;
use super::counted;
use super::send;
use super::summary;
use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;

/// The reasons of each stale flag.
fn reasons(list: &Value) -> Value {
    let mut found = json!({});
    for item in list["items"].as_array().unwrap() {
        let codes = item["reasons"].as_array().unwrap().iter().map(|each| each["code"].clone());
        found[item["flag"].as_str().unwrap()] = codes.collect();
    }
    found
}

#[tokio::test]
async fn flags_that_may_be_removed_are_told_with_the_reasons() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    for flag in ["same", "silent", "temporary", "new"] {
        server.flag_on(flag).await;
    }
    let events = json!([summary(&[
        ("same", Some(0), 5),
        ("temporary", Some(0), 1),
        ("temporary", Some(1), 1)
    ])]);
    assert_eq!(send(&client, "/bulk", None, &events).await, 202);
    counted(&server, "same", json!({"on": 5})).await;
    let stale = server.admin.get(&format!("{ENVIRONMENT}/stale")).await.expect(200);
    assert_eq!(reasons(&stale), json!({}), "everything is new");
    assert_eq!(stale["days"], 30);

    // Forty days later.
    database
        .run(
            "update event_setting set since = since - interval '40 days';
            update flag set created_at = created_at - interval '40 days' where key <> 'new';
            update flag_config set changed_at = changed_at - interval '40 days'
                where flag_key = 'same'",
        )
        .await;
    let stale = server.admin.get(&format!("{ENVIRONMENT}/stale")).await.expect(200);
    assert_eq!(
        reasons(&stale),
        json!({"same": ["single_variation", "unconditional"], "silent": ["not_evaluated"]})
    );
    assert_eq!(stale["items"][0]["reasons"][0]["variation"], "on");
    assert!(stale["items"][0]["lastEvaluatedAt"].is_string());
    let stale = server.admin.get(&format!("{ENVIRONMENT}/stale?days=41")).await.expect(200);
    assert_eq!(reasons(&stale), json!({}));

    for (args, expected) in [
        (&["flag", "stale"][..], "single_variation,unconditional"),
        (&["flag", "stale", "--days", "39"], "not_evaluated"),
        (&["flag", "usage", "temporary"], "off"),
    ] {
        let output = command()
            .args(args)
            .args(["--output", "table", "--url", &server.url, "--token", &server.admin.token])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains(expected), "{args:?}: {text}");
    }
}

#[tokio::test]
async fn counts_are_told_page_by_page() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        let flags = ["B", "a", "b-2", "b.1", "c_3"];
        for flag in flags {
            server.flag(flag).await;
        }
        let counters: Vec<_> = flags.iter().map(|flag| (*flag, Some(0), 1)).collect();
        assert_eq!(send(&client, "/bulk", None, &json!([summary(&counters)])).await, 202);
        counted(&server, "c_3", json!({"on": 1})).await;
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("{ENVIRONMENT}/usage?limit=2&days=0&after={after}");
            let page = server.admin.get(&path).await.expect(200);
            for item in page["items"].as_array().unwrap() {
                seen.push(item["flag"].as_str().unwrap().to_owned());
                assert_eq!(item["variations"][0]["days"].as_array().unwrap().len(), 1);
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => break,
            }
        }
        assert_eq!(seen, flags);
    }
}

#[tokio::test]
async fn reports_are_for_viewers_and_their_parameters_are_checked() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag("f").await;
    let viewer = server.token("admin", Some("viewer")).await;
    for path in ["usage", "stale", "unknown-flags", "flags/f/usage", "usage?flag=f"] {
        let path = format!("{ENVIRONMENT}/{path}");
        viewer.get(&path).await.expect(200);
        client.get(&path).await.expect(403);
        client.with_token("x").get(&path).await.expect(401);
        viewer.get(&path.replace("production", "other")).await.expect(404);
    }
    viewer.get(&format!("{ENVIRONMENT}/flags/none/usage")).await.expect(404);
    viewer.get(&format!("{ENVIRONMENT}/usage?flag=none")).await.expect(404);
    for query in [
        "usage?days=-1",
        "usage?days=9999",
        "usage?limit=0",
        "usage?limit=501",
        "usage?x=1",
        "usage?after=%00",
        "usage?flag=a%20b",
        "stale?days=x",
        "unknown-flags?limit=0",
        "flags/f/usage?limit=1",
    ] {
        viewer.get(&format!("{ENVIRONMENT}/{query}")).await.expect(400);
    }
}
