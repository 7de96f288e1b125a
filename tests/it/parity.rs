//! `vexil parity`: whether a server answers what a file of LaunchDarkly's evaluates to.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write as _;

const IMPORTED: &str = "/api/v1/projects/shop/environments/imported";
const CONTEXTS: usize = 2_500;

/// Runs a comparison; returns the status, what was printed and the complaint.
async fn parity(client: &Client, folder: &Folder, more: &[&str]) -> (i32, Value, String) {
    let output = command()
        .args(["parity", "--ruleset", "flags.json", "--contexts", "contexts.jsonl"])
        .args(more)
        .current_dir(folder.path())
        .env("VEXIL_URL", &client.url)
        .env("VEXIL_TOKEN", &client.token)
        .output()
        .await
        .unwrap();
    let answer = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), answer, String::from_utf8(output.stderr).unwrap())
}

fn file() -> Value {
    let split = json!({"variations": [{"variation": 0, "weight": 30_000}, {"variation": 1, "weight": 70_000}]});
    let clause =
        json!({"contextKind": "user", "attribute": "plan", "op": "in", "values": ["gold"]});
    let flag = |key: &str, variations: Value, rules: Value| {
        json!({"key": key, "version": 3, "on": true, "salt": format!("salt-of-{key}"), "variations": variations,
            "offVariation": 1, "fallthrough": {"rollout": split}, "rules": rules})
    };
    let rule = json!([{"id": "r", "clauses": [clause], "variation": 0}]);
    json!({"flags": {
        "ruled": flag("ruled", json!([true, false]), rule),
        "split": flag("split", json!([1, 2.5]), json!([])),
        "off": {"key": "off", "version": 1, "on": false, "salt": "s", "variations": ["a"], "fallthrough": {"variation": 0}},
    }, "segments": {}})
}

fn write_contexts(folder: &Folder, n: usize) {
    let mut text = String::new();
    for i in 0..n {
        let plan = ["gold", "free"][i % 2];
        let user = json!({"key": format!("u-{i}"), "plan": plan});
        let context = match i % 3 {
            0 => json!({"kind": "multi", "user": user, "org": {"key": "o"}}),
            1 => json!({"kind": "org", "key": format!("o-{i}")}),
            // Old users, whose other fields are no attributes.
            _ if i % 4 == 0 => json!({"key": format!("u-{i}"), "plan": plan}),
            _ if i % 5 == 0 => json!({"key": format!("u-{i}"), "plan": plan, "custom": null}),
            _ => json!({"kind": "user", "key": format!("u-{i}"), "plan": plan}),
        };
        writeln!(text, "{context}\n").unwrap();
    }
    std::fs::write(folder.path().join("contexts.jsonl"), text).unwrap();
}

/// A server that has the file imported, and a folder with the file and the contexts.
async fn imported() -> (Server, Client, Folder) {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let environment = json!({"key": "imported", "serverSdk": "launchdarkly"});
    server.admin.post("/api/v1/projects/shop/environments", environment).await.expect(201);
    server.admin.post(&format!("{IMPORTED}/import/launchdarkly"), file()).await.expect(200);
    let token = json!({"name": "backend", "kind": "server"});
    let made = server.admin.post(&format!("{IMPORTED}/tokens"), token).await.expect(201);
    let client = server.admin.with_token(made["token"].as_str().unwrap());
    let folder = Folder::new();
    std::fs::write(folder.path().join("flags.json"), file().to_string()).unwrap();
    write_contexts(&folder, CONTEXTS);
    (server, client, folder)
}

#[tokio::test]
async fn an_import_agrees_and_every_change_is_a_mismatch() {
    let (server, client, folder) = imported().await;
    let (status, same, complaint) = parity(&client, &folder, &[]).await;
    assert_eq!((status, complaint.as_str()), (0, ""));
    let counts = |answer: &Value| {
        ["flags", "contexts", "evaluations", "mismatchCount"]
            .map(|name| answer[name].as_u64().unwrap())
    };
    assert_eq!(counts(&same), [3, 2_500, 7_500, 0]);
    // A token that reaches several environments has to be told which is meant.
    let place = ["--project", "shop", "--environment", "imported"];
    assert_eq!(parity(&server.admin, &folder, &place).await.0, 0);
    let off = json!({"instructions": [{"kind": "turnFlagOff"}]});
    server.admin.patch(&format!("{IMPORTED}/flags/ruled"), off).await.expect(200);
    let (status, answer, complaint) = parity(&client, &folder, &["--limit", "7"]).await;
    assert_eq!((status, complaint.as_str()), (1, "vexil: 2500 mismatch(es)\n"));
    assert_eq!(answer["mismatchCountByFlag"], json!({"ruled": 2_500}));
    assert_eq!(answer["mismatches"].as_array().unwrap().len(), 7);
    let first = &answer["mismatches"][0];
    assert_eq!(
        (&first["flag"], &first["context"], &first["line"]),
        (&json!("ruled"), &json!("org:o:user:u-0"), &json!(1))
    );
    assert_eq!(first["file"]["reason"]["ruleIndex"], 0);
    assert_eq!(first["server"], json!({"value": false, "reason": {"kind": "OFF"}}));
    // Whoever got `false` before still does.
    let (status, values, _) = parity(&client, &folder, &["--values-only"]).await;
    let n = values["mismatchCount"].as_u64().unwrap();
    assert!(status == 1 && (1_000..2_000).contains(&n), "{n}");
    let (_, table, _) = {
        let args = [
            "parity",
            "--ruleset",
            "flags.json",
            "--contexts",
            "contexts.jsonl",
            "--output",
            "table",
            "--limit",
            "1",
        ];
        let output = command()
            .args(args)
            .current_dir(folder.path())
            .env("VEXIL_URL", &client.url)
            .env("VEXIL_TOKEN", &client.token)
            .output()
            .await
            .unwrap();
        (0, String::from_utf8(output.stdout).unwrap(), 0)
    };
    assert!(table.starts_with("FLAG   CONTEXT         FILE  REASON"), "{table}");
    assert!(
        table.contains("and 2499 more mismatch(es)\n7500 evaluation(s) of 3 flag(s)"),
        "{table}"
    );
    // One that the server has lost.
    server.admin.delete("/api/v1/projects/shop/flags/split").await.expect(204);
    let (_, lost, _) = parity(&client, &folder, &[]).await;
    assert_eq!(lost["mismatchCountByFlag"]["split"], 2_500);
}

#[tokio::test]
async fn what_an_sdk_answered_is_compared_too() {
    let (_server, client, folder) = imported().await;
    write_contexts(&folder, 2);
    let write = |text: &str| std::fs::write(folder.path().join("expected.jsonl"), text).unwrap();
    let state = json!({"ruled": true, "off": null, "$valid": true,
        "$flagsState": {"ruled": {"variation": 0, "reason": {"kind": "RULE_MATCH", "ruleIndex": 0}}, "off": {}}});
    write(&format!("{state}\n{{\"off\":null}}\n"));
    let expected = ["--expected", "expected.jsonl"];
    let (status, _, complaint) = parity(&client, &folder, &expected).await;
    assert_eq!((status, complaint.as_str()), (0, ""));
    write("{\"ruled\":false}\n{\"off\":\"a\"}\n");
    let (status, answer, _) = parity(&client, &folder, &expected).await;
    assert_eq!((status, &answer["mismatchCount"]), (1, &json!(2)));
    assert_eq!(answer["mismatches"][0]["expected"], json!({"value": false}));
    for (text, complaint) in [
        ("{}\n", "no line for the context of line 3"),
        ("{}\n{}\n{}\n", "line 3 of --expected has no context"),
        ("{}\n[]\n", "what is expected for line 3"),
    ] {
        write(text);
        let (status, answer, told) = parity(&client, &folder, &expected).await;
        assert!(status == 2 && answer.is_null() && told.contains(complaint), "{status} {told}");
    }
}

#[tokio::test]
async fn what_cannot_be_compared_is_an_error_and_no_mismatch() {
    let (_server, client, folder) = imported().await;
    let bad = "{\"key\":\"u\"}\n{\"plan\":\"gold\"}\nnonsense\n{\"kind\":\"user\",\"key\":\"\"}\n";
    std::fs::write(folder.path().join("contexts.jsonl"), bad).unwrap();
    let (status, answer, complaint) = parity(&client, &folder, &[]).await;
    assert_eq!(
        (status, &answer["contexts"], &answer["unusableContexts"]),
        (2, &json!(1), &json!(3))
    );
    assert!(
        complaint.contains("line 3 is not JSON") && complaint.contains("3 line(s)"),
        "{complaint}"
    );
    let nowhere = Client::new("http://127.0.0.1:1", &client.token);
    let (status, _, complaint) = parity(&nowhere, &folder, &[]).await;
    assert!(status == 2 && complaint.contains("could not reach"), "{status} {complaint}");
    std::fs::write(folder.path().join("contexts.jsonl"), "\n").unwrap();
    let (status, _, complaint) = parity(&client, &folder, &[]).await;
    assert!(status == 2 && complaint.contains("no context to compare"), "{status} {complaint}");
    std::fs::write(folder.path().join("flags.json"), "[]").unwrap();
    assert_eq!(parity(&client, &folder, &[]).await.0, 2);
    std::fs::remove_file(folder.path().join("flags.json")).unwrap();
    assert_eq!(parity(&client, &folder, &[]).await.0, 2);
}
