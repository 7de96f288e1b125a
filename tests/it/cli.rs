//! What the command line changes, asks, checks and says, against real servers.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use tokio::io::AsyncBufReadExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::BufReader;
use tokio::net::TcpListener;
use tokio::process::Command;

/// Runs a command; returns its status, its output and its complaint.
async fn run(client: &Client, args: &[&str]) -> (i32, String, String) {
    let output = command()
        .args(args)
        .env("VEXIL_URL", &client.url)
        .env("VEXIL_TOKEN", &client.token)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

async fn json_of(client: &Client, args: &[&str]) -> Value {
    let (status, output, complaint) = run(client, args).await;
    assert_eq!(status, 0, "{args:?}: {complaint}");
    serde_json::from_str(&output).unwrap()
}

async fn fails(client: &Client, args: &[&str], expected: &str) {
    let (status, output, complaint) = run(client, args).await;
    assert_eq!(status, 1, "{args:?}: {output}");
    assert!(complaint.contains(expected), "{args:?}: {complaint}");
}

/// The lines that the page tells people to type.
fn examples() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let page = std::fs::read_to_string(path).unwrap();
    let mut lines = page.lines();
    let mut script = String::new();
    while lines.any(|line| line == "```sh") {
        for line in lines.by_ref().take_while(|line| *line != "```") {
            script.push_str(line);
            script.push('\n');
        }
    }
    script
}

#[tokio::test]
async fn the_examples_of_the_page_work() {
    let folder = Folder::new();
    let mut process = command()
        .args(["demo", "--json", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path().join("demo"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line: Value = serde_json::from_str(&lines.next_line().await.unwrap().unwrap()).unwrap();
    let script = examples().replace("http://127.0.0.1:8080", line["url"].as_str().unwrap());
    assert!(script.lines().filter(|line| line.contains("vexil ")).count() > 70, "{script}");
    let program = Path::new(env!("CARGO_BIN_EXE_vexil")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-ec", &script])
        .current_dir(folder.path())
        .env("PATH", path)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{complaint}");
    process.kill().await.unwrap();
}

#[tokio::test]
async fn what_is_set_is_one_change_or_none() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    let admin = &server.admin;
    server.flag_on("f").await;
    let dry = ["flag", "set", "f", "--rollout", "on=25,off=75", "--dry-run"];
    let until = ["flag", "set", "f", "--temporary", "--temporary-until", "2027-01-31"];
    json_of(admin, &until).await;
    let set = json_of(admin, &["flag", "show", "f"]).await;
    assert_eq!(set["temporaryUntil"], "2027-01-31");
    json_of(admin, &["flag", "set", "f", "--temporary-until", ""]).await;
    let before = json_of(admin, &["flag", "show", "f"]).await;
    assert_eq!(before.get("temporaryUntil"), None);
    let told = json_of(admin, &dry).await;
    assert_eq!(told["moved"]["moved"], 75_000);
    assert_eq!(json_of(admin, &["flag", "show", "f"]).await, before, "a dry run changes nothing");
    let (_, table, _) = run(admin, &[&dry[..], &["--output", "table"]].concat()).await;
    let expected = "moves 75% of the contexts that reach it: 75% from on to off";
    assert!(table.contains(expected), "{table}");

    let both = ["flag", "set", "f", "--name", "N", "--tag", "+a", "--add-target", "ann=off"];
    let both = [&both[..], &["--rule", r#"user.plan in gold,"7" => off"#, "--comment", "why"]];
    let done = json_of(admin, &both.concat()).await;
    assert_eq!(done["changes"].as_array().unwrap().len(), 2, "{done}");
    let flag = json_of(admin, &["flag", "show", "f"]).await;
    let version = before["version"].as_u64().unwrap() + 1;
    assert_eq!((&flag["version"], &flag["name"]), (&json!(version), &json!("N")));
    assert_eq!(flag["rules"][0]["clauses"][0]["values"], json!(["gold", "7"]));
    assert_eq!(backend.value("f", json!({"targetingKey": "ann"})).await, false);
    let gone = ["flag", "set", "f", "--remove-target", "user:ann"];
    json_of(admin, &gone).await;
    assert_eq!(backend.value("f", json!({"targetingKey": "ann"})).await, true);
    fails(admin, &gone, "the user `ann` is no target").await;

    json_of(admin, &["flag", "set", "f", "--track-events", "--track-events-fallthrough"]).await;
    let tracked = json_of(admin, &["flag", "show", "f"]).await;
    let is_tracked = (&tracked["trackEvents"], &tracked["trackEventsFallthrough"]);
    assert_eq!(is_tracked, (&json!(true), &json!(true)), "{tracked}");
    json_of(admin, &["flag", "set", "f", "--track-events", "false"]).await;
    let tracked = json_of(admin, &["flag", "show", "f"]).await;
    let is_tracked = (tracked.get("trackEvents"), &tracked["trackEventsFallthrough"]);
    assert_eq!(is_tracked, (None, &json!(true)), "{tracked}");

    let old = version.to_string();
    fails(admin, &["flag", "set", "f", "--off", "--if-match", &old], "412 outdated").await;
    let both = ["flag", "set", "f", "--name", "M", "--off", "--if-match"];
    fails(admin, &[&both[..], &[&old]].concat(), "412 outdated").await;
    let now = json_of(admin, &["flag", "show", "f"]).await["version"].to_string();
    json_of(admin, &[&both[..], &[&now, "--dry-run"]].concat()).await;
    fails(admin, &["flag", "set", "f"], "say what is to be changed").await;
    let wrong = ["flag", "set", "f", "--name", "M", "--off-variation", "none"];
    fails(admin, &wrong, "unknown_variation").await;
    assert_eq!(json_of(admin, &["flag", "show", "f"]).await["name"], "N", "all or nothing");
}

#[tokio::test]
async fn what_reaches_far_is_not_done_unasked() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    let folder = Folder::new();
    let file = folder.path().join("changes.json");
    let mut changes = Vec::new();
    for i in 0..6 {
        server.flag(&format!("f{i}")).await;
        changes.push(json!({"flag": format!("f{i}"), "environment": "production",
            "instructions": [{"kind": "turnFlagOn"}]}));
    }
    std::fs::write(&file, json!({"changes": changes}).to_string()).unwrap();
    let file = file.to_str().unwrap();
    json_of(admin, &["segment", "create", "s"]).await;
    let wide = ["changes", "-f", file];
    for args in [
        &wide[..],
        &["flag", "archive", "f0"],
        &["flag", "delete", "f0"],
        &["segment", "delete", "s"],
        &["environment", "delete", "production"],
        &["project", "delete", "shop"],
    ] {
        fails(admin, args, "add --yes").await;
    }
    fails(admin, &wide, "6 flag(s) and segment(s) of shop in production").await;
    let all = json_of(admin, &["flag", "list", "--state", "off"]).await;
    assert_eq!(all["total"], 6);
    json_of(admin, &["changes", "-f", file, "--dry-run"]).await;
    json_of(admin, &["changes", "-f", file, "--yes"]).await;
    assert_eq!(json_of(admin, &["flag", "list", "--state", "on"]).await["total"], 6);
    json_of(admin, &["flag", "archive", "f0", "--dry-run"]).await;
    json_of(admin, &["flag", "archive", "f0", "-y"]).await;
    assert_eq!(json_of(admin, &["flag", "list", "--state", "archived"]).await["total"], 1);
    json_of(admin, &["flag", "unarchive", "f0"]).await;
    assert_eq!(json_of(admin, &["flag", "list"]).await["total"], 6);
    assert_eq!(json_of(admin, &["flag", "list", "--stale"]).await["total"], 0);
    assert_eq!(json_of(admin, &["flag", "list", "--stale", "false"]).await["total"], 6);
}

#[tokio::test]
async fn cases_that_are_not_as_expected_fail() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    server.flag_on("f").await;
    let folder = Folder::new();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = write("good.yaml", "- {flag: f, context: {key: u}, expect: {variation: on}}");
    assert_eq!(json_of(&backend, &["eval", "--test", &good]).await["failed"], 0);
    let bad = "cases:
- {flag: f, context: {targetingKey: u}, expect: {value: true}}
- {name: second, flag: f, expect: {value: false}}
- {flag: none, expect: {value: null, reason: ERROR}}";
    let bad = write("bad.yaml", bad);
    let (status, table, complaint) =
        run(&backend, &["eval", "--test", &bad, "--output", "table"]).await;
    assert_eq!((status, table.lines().count()), (1, 2), "{table}");
    assert!(complaint.contains("1 of 3 case(s)") && table.contains("second"), "{complaint}{table}");
    let flag = json!({"on": true, "variations": [false, true], "fallthrough": {"variation": 1}});
    let rules = write("rules.json", &json!({"flags": {"f": flag}}).to_string());
    let offline = write(
        "offline.json",
        r#"[{"flag":"f","context":{"key":"u"},"expect":{"variation":1,"value":true}}]"#,
    );
    let args = ["eval", "--ruleset", &rules, "--test", &offline];
    assert_eq!(json_of(&backend, &args).await["cases"], 1);
    for (text, expected) in [
        ("[]", "from 1 to 10000 cases"),
        ("- {flag: f, expect: {}}", "case 1"),
        ("- {flag: f, expect: {vlaue: 1}}", "vlaue"),
        ("7", "a list of cases"),
    ] {
        let path = write("wrong.yaml", text);
        fails(&backend, &["eval", "--test", &path], expected).await;
    }
}

/// Reads a request to the end of its head, and returns it.
async fn head_of(stream: &mut tokio::net::TcpStream) -> String {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_lowercase()
}

#[tokio::test]
async fn a_change_whose_connection_breaks_is_sent_again_with_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap()), "secret");
    let serve = async {
        let (mut first, _) = listener.accept().await.unwrap();
        let before = head_of(&mut first).await;
        drop(first);
        let (mut second, _) = listener.accept().await.unwrap();
        let after = head_of(&mut second).await;
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-length: 12\r\nconnection: close\r\n\r\n{\"flag\":\"f\"}";
        second.write_all(answer.as_bytes()).await.unwrap();
        (before, after, second)
    };
    let ((before, after, _), (status, output, complaint)) =
        tokio::join!(serve, run(&client, &["kill", "f"]));
    assert_eq!(status, 0, "{complaint}");
    assert!(output.contains("\"flag\":\"f\""), "{output}");
    let key = |head: &str| {
        let line = head.lines().find(|line| line.starts_with("idempotency-key:"));
        line.unwrap().to_owned()
    };
    assert_eq!(key(&before), key(&after));
}

#[tokio::test]
async fn an_answer_of_something_else_is_told_and_no_secret_is() {
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "is it a Vexil server?"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\nnope", "answered 502"),
        (
            "HTTP/1.1 301 Moved\r\nlocation: https://b.example/\r\ncontent-length: 0\r\n\r\n",
            "https://b.example/",
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::new(&url, "a-very-secret-token");
        let serve = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            head_of(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream
        };
        let (_stream, (status, _, complaint)) =
            tokio::join!(serve, run(&client, &["project", "list"]));
        assert_eq!(status, 1);
        assert!(complaint.contains(expected), "{complaint}");
        assert!(!complaint.contains("very-secret"), "{complaint}");
    }
    let nowhere = Client::new("http://127.0.0.1:1", "a-very-secret-token");
    let (_, _, complaint) = run(&nowhere, &["project", "list"]).await;
    assert!(complaint.contains("VEXIL_URL") && !complaint.contains("very-secret"), "{complaint}");
    for url in ["127.0.0.1:8080", "ftp://a.example", "http://ann:hunter2@a.example"] {
        let (_, _, complaint) = run(&Client::new(url, "t"), &["project", "list"]).await;
        assert!(
            complaint.contains("--url (VEXIL_URL)") && !complaint.contains("hunter2"),
            "{complaint}"
        );
    }
}

#[tokio::test]
async fn the_token_can_stand_in_a_file() {
    let server = Server::start(Backend::Sqlite).await;
    let folder = Folder::new();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{}\n", server.admin.token)).unwrap();
    let list = async |token: &str, file: &Path| {
        let mut command = command();
        command.args(["project", "list"]).env("VEXIL_URL", &server.url).env("VEXIL_TOKEN", token);
        command.env("VEXIL_TOKEN_FILE", file).output().await.unwrap()
    };
    assert!(list("", &file).await.status.success());
    let refused = list("nobody", &file).await;
    let complaint = String::from_utf8(refused.stderr).unwrap();
    assert!(complaint.contains("401 token_unknown") && complaint.contains("VEXIL_TOKEN_FILE"));
    assert!(!list("", &folder.path().join("none")).await.status.success());
    std::fs::write(&file, "\n").unwrap();
    assert!(!list("", &file).await.status.success());
}

#[tokio::test]
async fn settings_are_checked_beside_a_server_and_without_one() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let address = server.url.strip_prefix("http://").unwrap();
        let check = async |more: &[&str]| {
            let mut command = command();
            command.args(["check", "--listen", address, "--data-dir"]).arg(server.folder());
            command.args(more).env("VEXIL_ADMIN_TOKEN", &server.admin.token);
            if backend == Backend::Postgres {
                command.env("VEXIL_DATABASE_URL", server.database_url());
            }
            let output = command.output().await.unwrap();
            let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
            let status_of = |what: &str| -> String {
                let mut rows = rows.as_array().unwrap().iter();
                let row = rows.find(|row| row["check"] == what).unwrap();
                row["status"].as_str().unwrap().to_owned()
            };
            (output.status.success(), status_of("configuration"), rows.clone())
        };
        let (is_fine, _, rows) = check(&[]).await;
        let statuses: Vec<&Value> =
            rows.as_array().unwrap().iter().map(|row| &row["status"]).collect();
        assert!(is_fine, "{rows}");
        assert_eq!(statuses, ["ok", "ok", "ok", "ok", "warning"], "{rows}");
        let (is_fine, _, rows) = check(&["--tls-cert", "/none", "--tls-key", "/none"]).await;
        assert!(!is_fine && rows.to_string().contains("/none"), "{rows}");
        let (is_fine, status, rows) = check(&["--tls-cert", "/none"]).await;
        assert!(!is_fine && status == "failed", "{rows}");
        let (is_fine, _, rows) = check(&["--redis-url", "redis://127.0.0.1:1"]).await;
        assert!(is_fine && rows.to_string().contains("redis"), "a server needs no Redis: {rows}");
        let (is_fine, _, rows) = check(&["--database-url", "postgres://x@127.0.0.1:1/x"]).await;
        assert!(!is_fine && rows.to_string().contains("PostgreSQL"), "{rows}");
        assert_eq!(server.admin.get("/readyz").await.status, 200);
    }
    let folder = Folder::new();
    let new = folder.path().join("new");
    let output = command().args(["check", "--data-dir"]).arg(&new).output().await.unwrap();
    assert!(output.status.success() && !new.exists(), "nothing is made");
}

#[tokio::test]
async fn completions_are_there_for_every_shell() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = command().args(["completions", shell]).output().await.unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("accept-history"), "{shell}");
    }
}

#[tokio::test]
async fn where_comments_are_required_every_command_can_give_one() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let admin = &server.admin;
    server.flag("f").await;
    let sdk = ["environment", "create", "sdk", "--server-sdk", "launchdarkly"];
    json_of(admin, &sdk).await;
    for environment in ["production", "sdk"] {
        let strict = ["environment", "set", environment, "--require-comment", "true"];
        json_of(admin, &strict).await;
    }
    let folder = Folder::new();
    let file = folder.path().join("flags.json");
    std::fs::write(&file, r#"{"flags":{},"segments":{"l":{"key":"l","salt":"x","version":1}}}"#)
        .unwrap();
    let here = ["--environment", "production"];
    let why = ["--comment", "why"];
    let import = ["import", "launchdarkly", file.to_str().unwrap(), "--environment", "sdk"];
    fails(admin, &import, "say why with --comment").await;
    json_of(admin, &[&import[..], &why].concat()).await;
    let create = [&["trigger", "create", "f", "t"][..], &here].concat();
    fails(admin, &create, "say why with --comment").await;
    let id = json_of(admin, &[&create[..], &why].concat()).await["id"].clone();
    let revoke = [&["trigger", "revoke", "f", id.as_str().unwrap()][..], &here].concat();
    fails(admin, &revoke, "say why with --comment").await;
    assert_eq!(run(admin, &[&revoke[..], &why].concat()).await.0, 0);
    let segment = ["segment", "create", "s", "--environment", "production", "--comment", "why"];
    json_of(admin, &segment).await;
    let instructions = r#"[{"kind":"addIncludedTargets","values":["ann"]}]"#;
    let add = ["schedule", "add", "--segment", "s", "--instructions", instructions];
    let at = ["--at", "2027-11-01T00:00:00Z"];
    let planned = json_of(admin, &[&add[..], &at, &here, &why].concat()).await;
    assert_eq!((&planned["segment"], &planned["state"]), (&json!("s"), &json!("pending")));
    let add = ["schedule", "add", "f", "--on", "--at", "2027-11-01T00:00:00Z"];
    let id = json_of(admin, &[&add[..], &here, &why].concat()).await["id"].clone();
    let cancel = [&["schedule", "cancel", id.as_str().unwrap()][..], &here].concat();
    fails(admin, &cancel, "say why with --comment").await;
    let done = json_of(admin, &[&cancel[..], &why].concat()).await;
    assert_eq!(done["state"], "cancelled");
}

#[tokio::test]
async fn everything_can_be_tried_out_from_a_shell() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    let admin = &server.admin;
    server.flag_on("f").await;
    server.flag_on("g").await;
    json_of(admin, &["segment", "create", "s"]).await;
    json_of(admin, &["kill", "g"]).await;
    let trigger = json_of(admin, &["trigger", "create", "f", "t"]).await["id"].clone();
    let token = json_of(admin, &["token", "create", "t"]).await["id"].clone();
    let (trigger, token) = (trigger.as_str().unwrap(), token.as_str().unwrap());
    let audit = ["audit", "list", "--limit", "1"];
    let before = json_of(admin, &audit).await;
    for args in [
        &["kill", "f"][..],
        &["kill", "f", "g"],
        &["restore", "g"],
        &["flag", "create", "h"],
        &["segment", "create", "t"],
        &["segment", "delete", "s"],
        &["trigger", "create", "f", "u"],
        &["trigger", "revoke", "f", trigger],
        &["token", "create", "u"],
        &["token", "rotate", token],
        &["token", "revoke", token],
        &["project", "create", "p"],
        &["project", "set", "shop", "--name", "Other"],
        &["project", "delete", "shop"],
        &["environment", "create", "e"],
        &["environment", "set", "production", "--name", "Other"],
        &["environment", "delete", "production"],
    ] {
        let dry = [args, &["--dry-run"]].concat();
        let told = json_of(admin, &dry).await;
        let told = if told.is_array() { told[0].clone() } else { told };
        assert_eq!(told["dryRun"], true, "{args:?}: {told}");
        let (status, table, complaint) =
            run(admin, &[&dry[..], &["--output", "table"]].concat()).await;
        assert!(status == 0 && !table.is_empty(), "{args:?}: {complaint}");
    }
    let (_, table, _) = run(admin, &["kill", "f", "--dry-run", "--output", "table"]).await;
    assert!(table.contains("killed the flag") && table.contains("~ on: true -> false"), "{table}");
    assert_eq!(json_of(admin, &audit).await, before);
    assert_eq!(backend.value("f", json!({})).await, true);
}

#[tokio::test]
async fn a_misspelt_option_of_a_plan_does_not_look_like_changes() {
    for command_name in ["plan", "drift"] {
        let output = command().args([command_name, "--fiel", "x"]).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{command_name}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("--fiel"), "{command_name}");
        let help = command().args([command_name, "--help"]).output().await.unwrap();
        assert_eq!(help.status.code(), Some(0), "{command_name}");
    }
    let other = command().args(["apply", "--fiel", "x"]).output().await.unwrap();
    assert_eq!(other.status.code(), Some(2));
}
