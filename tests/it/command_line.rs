//! The command line against a running server.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;

/// Runs a command as `client`; returns whether it succeeded, its output and its complaint.
async fn run(client: &Client, args: &[&str]) -> (bool, String, String) {
    let output = command()
        .args(args)
        .env("VEXIL_URL", &client.url)
        .env("VEXIL_TOKEN", &client.token)
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

async fn json_of(client: &Client, args: &[&str]) -> Value {
    let (success, output, complaint) = run(client, args).await;
    assert!(success, "{args:?}: {complaint}");
    serde_json::from_str(&output).unwrap()
}

#[tokio::test]
async fn flags_are_created_switched_evaluated_killed_and_restored() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    let admin = &server.admin;
    let staging = json!({"key": "staging"});
    admin.post("/api/v1/projects/shop/environments", staging).await.expect(201);
    // A flag belongs to the project, so two environments are no question here.
    let created = json_of(admin, &["flag", "create", "f", "--name", "A flag", "--tag", "t"]).await;
    admin.delete("/api/v1/projects/shop/environments/staging").await.expect(204);
    assert_eq!((&created["name"], &created["tags"]), (&json!("A flag"), &json!(["t"])));
    let colour = [
        "flag",
        "create",
        "colour",
        "--kind",
        "string",
        "--variation",
        "red=\"#f00\"",
        "--variation",
        "blue=\"#00f\"",
    ];
    assert_eq!(json_of(admin, &colour).await["variations"][1]["key"], "blue");
    let on = json_of(admin, &["flag", "on", "f", "--comment", "go"]).await;
    assert_eq!(on["changes"], json!(["turned the flag on"]));
    let context = r#"{"targetingKey":"u"}"#;
    let value =
        async || json_of(&backend, &["eval", "f", "--context", context]).await["value"] == true;
    assert!(value().await);
    let killed = json_of(admin, &["kill", "f", "colour"]).await;
    assert_eq!(killed[0]["was"], json!({"on": true}));
    assert!(!value().await);
    json_of(admin, &["restore", "f"]).await;
    assert!(value().await);
    json_of(admin, &["flag", "off", "f"]).await;
    assert_eq!(json_of(admin, &["flag", "show", "f"]).await["on"], false);
    let (_, table, _) = run(admin, &["flag", "list", "--output", "table"]).await;
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].starts_with("FLAG    KIND     ON"), "{table}");
    assert!(lines[1].starts_with("colour  string   false"), "{table}");
}

#[tokio::test]
async fn tokens_are_made_listed_and_revoked() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let made = json_of(&server.admin, &["token", "create", "backend"]).await;
    let client = server.admin.with_token(made["token"].as_str().unwrap());
    assert_eq!(client.evaluate("f", json!({})).await.status, 200);
    let listed = json_of(&server.admin, &["token", "list"]).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    let (success, output, _) =
        run(&server.admin, &["token", "revoke", made["id"].as_str().unwrap()]).await;
    assert!(success && output.starts_with("revoked "));
    assert_eq!(client.evaluate("f", json!({})).await.status, 401);
}

#[tokio::test]
async fn what_goes_wrong_is_a_sentence_and_a_failure() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let stranger = server.admin.with_token("nobody");
    let nowhere = Client::new("http://127.0.0.1:1", "nobody");
    for (client, args, expected) in [
        (&server.admin, vec!["kill", "none"], "404 not_found"),
        (&server.admin, vec!["kill", "a b"], "must be 1 to 128 characters"),
        (&server.admin, vec!["kill", "f", "--project", "a&b"], "must be 1 to 128 characters"),
        (&server.admin, vec!["eval", "none"], "404 FLAG_NOT_FOUND"),
        (&server.admin, vec!["flag", "create", "x", "--kind", "date"], "kind: must be one of"),
        (&server.admin, vec!["flag", "create", "x", "--variation", "red"], "must be KEY=JSON"),
        (&stranger, vec!["flag", "list"], "401 token_unknown"),
        (&nowhere, vec!["flag", "list"], "could not reach http://127.0.0.1:1"),
    ] {
        let (success, output, complaint) = run(client, &args).await;
        assert!(!success && output.is_empty(), "{args:?}");
        assert!(complaint.contains(expected), "{args:?}: {complaint}");
    }
}

#[tokio::test]
async fn migrate_brings_the_schema_up_to_date_and_ends() {
    let folder = Folder::new();
    let migrate = async || {
        let output = command().arg("migrate").arg("--data-dir").arg(folder.path()).output().await;
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    let applied = migrate().await;
    assert!(applied.starts_with("applied migration 1 (spine)\n"), "{applied}");
    assert!(applied.lines().all(|line| line.starts_with("applied migration ")), "{applied}");
    assert_eq!(migrate().await, "the schema is up to date\n");
}

#[tokio::test]
async fn settings_come_from_flags_then_environment_then_file() {
    let folder = Folder::new();
    let file = folder.path().join("vexil.toml");
    let (own, other) = (folder.path().join("own"), folder.path().join("other"));
    std::fs::write(&file, format!("data-dir = {other:?}\nlog = \"warn\"\n")).unwrap();
    let migrate = async |args: &[&str], env: Option<&std::path::Path>| {
        let mut command = command();
        command.arg("migrate").args(args).env("VEXIL_CONFIG", &file);
        if let Some(path) = env {
            command.env("VEXIL_DATA_DIR", path);
        }
        command.output().await.unwrap()
    };
    migrate(&[], Some(&own)).await;
    assert!(own.exists() && !other.exists());
    migrate(&[], None).await;
    assert!(other.exists());
    let third = folder.path().join("third");
    let url = "postgres://x@127.0.0.1:1/x";
    let text = format!("data-dir = {third:?}\ndatabase-url = {url:?}\n");
    std::fs::write(&file, text).unwrap();
    let mut empty = command();
    empty.arg("migrate").env("VEXIL_CONFIG", &file).env("VEXIL_DATABASE_URL", "");
    let output = empty.output().await.unwrap();
    assert!(!output.status.success() && !third.exists(), "an empty variable is not given");
    std::fs::write(&file, "data_dir = 'x'\n").unwrap();
    let refused = migrate(&[], None).await;
    assert!(!refused.status.success());
    let short = command().arg("serve").env("VEXIL_ADMIN_TOKEN", "short").output().await.unwrap();
    assert!(String::from_utf8(short.stderr).unwrap().contains("at least 32 characters"));
}

#[tokio::test]
async fn changes_are_planned_listed_and_cancelled() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let admin = &server.admin;
    let add = ["schedule", "add", "f", "--on", "--at", "2027-01-04T09:00", "--time-zone", "UTC"];
    let planned = json_of(admin, &add).await;
    assert_eq!(planned["dueAt"], "2027-01-04T09:00:00Z");
    let windows = ["schedule", "add", "f", "--days", "mon,fri", "--from", "09:00", "--to", "17:00"];
    let windows = [&windows[..], &["--time-zone", "Europe/Berlin", "--comment", "office"]].concat();
    assert_eq!(json_of(admin, &windows).await["windows"]["days"], json!(["mon", "fri"]));
    let id = planned["id"].as_str().unwrap();
    assert_eq!(json_of(admin, &["schedule", "cancel", id]).await["state"], "cancelled");
    let list = json_of(admin, &["schedule", "list", "--flag", "f", "--state", "pending"]).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    let (success, _, complaint) = run(admin, &["schedule", "add", "f", "--at", "soon"]).await;
    assert!(!success && complaint.contains("--on"), "{complaint}");
}
