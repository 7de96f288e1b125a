//! `vexil demo`: everything that it prints works when pasted, in order.

use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::PATIENCE;
use crate::harness::Server;
use crate::harness::command;
use serde_json::Value;
use serde_json::json;
use std::process::Stdio;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::io::Lines;
use tokio::process::Child;
use tokio::process::ChildStdout;
use tokio::process::Command;

async fn start(folder: &Folder, args: &[&str]) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut process = command()
        .args(["demo", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(folder.path())
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    (process, lines)
}

async fn next_line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap();
    line.unwrap().expect("the demonstration has ended")
}

#[tokio::test]
async fn json_comes_first_and_the_sample_is_there_also_after_a_restart() {
    let folder = Folder::new();
    for _ in 0..2 {
        let (mut process, mut lines) = start(&folder, &["--json"]).await;
        let line: Value = serde_json::from_str(&next_line(&mut lines).await).unwrap();
        for name in ["url", "adminToken", "serverToken", "clientToken", "project", "environment"] {
            assert!(line[name].is_string(), "{name} in {line}");
        }
        let url = line["url"].as_str().unwrap();
        for token in ["serverToken", "clientToken", "adminToken"] {
            let client = Client::new(url, line[token].as_str().unwrap());
            let all =
                client.post("/ofrep/v1/evaluate/flags", json!({"context": {"targetingKey": "u"}}));
            let all = all.await.expect(200);
            let flags = all["flags"].as_array().unwrap();
            let keys: Vec<_> = flags.iter().map(|flag| flag["key"].as_str().unwrap()).collect();
            assert_eq!(keys, ["checkout-v2", "new-search", "pricing-page", "search-limits"]);
            assert!(flags.iter().all(|flag| flag.get("value").is_some()), "{all}");
        }
        process.kill().await.unwrap();
    }
}

#[tokio::test]
async fn every_line_to_paste_works_in_order() {
    let folder = Folder::new();
    let (mut process, mut lines) = start(&folder, &[]).await;
    let mut pasted = 0;
    let mut answers = Vec::new();
    loop {
        let line = next_line(&mut lines).await;
        // A line in parentheses goes on in the background for a while; here it need not.
        let is_background = line.starts_with('(');
        if !line.starts_with("curl ") && !is_background {
            continue;
        }
        let line = line.replace("--max-time 60", "--max-time 1");
        let output = Command::new("bash").arg("-c").arg(&line).output().await.unwrap();
        assert!(output.status.success(), "{line}");
        let text = String::from_utf8(output.stdout).unwrap();
        if !is_background {
            let answer: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(answer.get("code"), None, "{line}: {answer}");
            answers.push(answer);
        }
        pasted += 1;
        if line.ends_with("/audit") {
            break;
        }
    }
    assert_eq!(pasted, 8);
    let [one, all, killed, off, restored, moved, audit] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!((&one["value"], &off["value"]), (&json!(true), &json!(false)));
    assert_eq!(all["flags"].as_array().unwrap().len(), 4);
    assert_eq!((&killed["was"]["on"], &restored["on"]), (&json!(true), &json!(true)));
    assert_eq!(moved["moved"]["moved"], 25_000);
    assert_eq!(audit["items"][1]["action"], "flag.restore");
    process.kill().await.unwrap();
}

#[tokio::test]
async fn a_server_refuses_the_demonstrations_tokens() {
    let folder = Folder::new();
    let (mut process, mut lines) = start(&folder, &["--json"]).await;
    let line: Value = serde_json::from_str(&next_line(&mut lines).await).unwrap();
    process.kill().await.unwrap();
    let server = Server::start_on(folder.path(), None, &[]).await;
    for token in ["serverToken", "clientToken", "adminToken"] {
        let client = server.admin.with_token(line[token].as_str().unwrap());
        let answer = client.post("/ofrep/v1/evaluate/flags", json!({})).await;
        assert_eq!(answer.status, 401, "{token}");
    }
}

#[tokio::test]
async fn a_demonstration_stays_on_this_machine() {
    let output = command().args(["demo", "--listen", "0.0.0.0:0"]).output().await.unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("loopback only"));
}
