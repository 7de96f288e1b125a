//! Starting without the database, from what an earlier run kept.

use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::ShiftedClock;
use crate::harness::command;
use crate::harness::eventually;
use crate::harness::run_sql;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;

/// The newest files of the folder, without older generations.
fn images(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder.join("snapshot")) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "image")).collect()
}

/// Waits until everything is on disk that `wanted` looks for in the files.
pub async fn kept(folder: &Path, wanted: &str) {
    eventually("it is kept", || {
        // While one is replaced it is not there for a moment.
        let texts =
            images(folder).into_iter().filter_map(|path| std::fs::read_to_string(path).ok());
        let is_kept = texts.into_iter().any(|text| text.contains(wanted));
        async move { is_kept }
    })
    .await;
}

#[tokio::test]
async fn a_process_starts_from_what_an_earlier_one_kept() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    server.flag("last").await;
    kept(folder.path(), "\"key\":\"last\"").await;
    kept(folder.path(), "\"tokens\":[[").await;
    let before = client.evaluate("f", json!({"targetingKey": "u"})).await;
    server.kill().await;
    postgres.stop().await;

    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let ready = server.admin.get("/readyz").await.expect(200);
    assert_eq!((&ready["source"], &ready["stale"]), (&json!("disk"), &json!(true)));
    let client = server.admin.with_token(&client.token);
    let after = client.evaluate("f", json!({"targetingKey": "u"})).await;
    assert_eq!(after.header("vexil-version"), before.header("vexil-version"));
    let (after, before) = (after.expect(200), before.expect(200));
    for what in ["value", "reason", "variant"] {
        assert_eq!(after[what], before[what]);
    }
    let write = server.admin.post("/kill/f", json!({})).await;
    assert_eq!(write.expect(503)["code"], "store_unavailable");
    // It may have been made since, and whoever hears 401 gives up.
    let nobody = server.admin.with_token("nobody's token");
    assert_eq!(nobody.evaluate("f", json!({})).await.status, 503);

    postgres.resume().await;
    server.admin.becomes("source", "store").await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(client.value("f", json!({})).await, false);
    nobody.evaluates_with("f", 401).await;
    crate::lab::happened(
        "P1 PostgreSQL is down at the start, and files are there",
        "killed, started with PostgreSQL stopped, which came back later",
        "ready from disk and stale with the same answers and tokens; changes 503; fresh again by itself",
    );
}

#[tokio::test]
async fn what_is_damaged_is_set_aside_and_the_generation_before_is_used() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    kept(folder.path(), r#"\"on\":false"#).await;
    server.kill().await;
    postgres.stop().await;
    let find = |part: &str| {
        images(folder.path())
            .into_iter()
            .find(|path| path.to_string_lossy().contains(part))
            .unwrap()
    };
    let environment = find("environment-");
    let mut bytes = std::fs::read(&environment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&environment, bytes).unwrap();

    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.admin.with_token(&client.token);
    assert_eq!(client.value("f", json!({})).await, true, "as before the kill");
    assert!(environment.with_extension("image.bad").exists());
    server.kill().await;

    // Without either generation the environment has nothing to serve, and says so.
    std::fs::remove_file(environment.with_extension("image.old")).unwrap();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.admin.with_token(&client.token);
    assert_eq!(client.evaluate("f", json!({})).await.status, 503);
    let stream = client.get("/api/v1/stream").await;
    assert!(stream.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(stream.expect(503)["code"], "not_ready", "no stream says that all flags are gone");
    crate::lab::happened(
        "C3 a file is damaged",
        "one bit of the file of an environment turned, then the generation before removed too",
        "set aside and the generation before served; without it 503, never an empty answer",
    );
}

#[tokio::test]
async fn an_environment_can_refuse_what_nobody_has_confirmed() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let environment = "/api/v1/projects/shop/environments/production";
    let bad = server.admin.patch(environment, json!({"failClosedAfterSecs": 1})).await;
    assert_eq!(bad.expect(422)["errors"][0]["path"], "failClosedAfterSecs");
    let changed = server.admin.patch(environment, json!({"failClosedAfterSecs": 11})).await;
    assert_eq!(changed.expect(200)["failClosedAfterSecs"], 11);
    postgres.stop().await;
    let stale = || {
        let client = client.clone();
        async move {
            let answer = client.evaluate("f", json!({})).await;
            let is_told = answer.header("vexil-stale").parse::<u64>().is_ok_and(|ms| ms > 10_000);
            is_told && answer.status == 200 && answer.body["metadata"]["stale"] == true
        }
    };
    eventually("the answer says that it is not confirmed", stale).await;
    client.evaluates_with("f", 503).await;
    assert_eq!(client.get("/api/v1/stream").await.expect(503)["code"], "unconfirmed");
    postgres.resume().await;
    client.evaluates_with("f", 200).await;
    let open = server.admin.patch(environment, json!({"failClosedAfterSecs": null})).await;
    assert_eq!(open.expect(200)["failClosedAfterSecs"], json!(null));
}

#[tokio::test]
async fn a_process_that_the_database_does_not_let_in_serves_what_was_kept_until_it_does() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    kept(folder.path(), "\"tokens\":[[").await;
    server.kill().await;
    let (start, name) = database.url.rsplit_once('/').unwrap();
    let (_, host) = start.rsplit_once('@').unwrap();
    let (other_user, other_name) = (format!("u{name}"), format!("o{name}"));
    run_sql(&database.url, &format!("create role {other_user} superuser nologin")).await;
    let admin_url = format!("{start}/postgres");
    for (url, refuse, mend) in [
        (
            database.url.clone(),
            "insert into schema_migration values (9999, 'of a newer version', '')".to_owned(),
            "delete from schema_migration where number = 9999".to_owned(),
        ),
        (
            format!("postgres://{other_user}@{host}/{name}"),
            "select 1".to_owned(),
            format!("alter role {other_user} login"),
        ),
        (
            format!("{start}/{other_name}"),
            "select 1".to_owned(),
            format!("create database {other_name} template {name}"),
        ),
    ] {
        database.run(&refuse).await;
        let server = Server::start_on(folder.path(), Some(&url), &[]).await;
        let empty = Folder::new();
        let nothing = Server::spawn(empty.path(), Some(&url), &[]).await;
        eventually("it says why", || async {
            let ready = server.admin.get("/readyz").await.expect(200);
            let starting = nothing.admin.get("/readyz").await.expect(503);
            let is_told = |body: &serde_json::Value| body["problem"].is_string();
            ready["source"] == "disk" && is_told(&ready) && is_told(&starting)
        })
        .await;
        let client = server.admin.with_token(&client.token);
        assert_eq!(client.value("f", json!({})).await, true);
        assert_eq!(nothing.admin.get("/livez").await.status, 200);
        let on = if mend.starts_with("delete") { &database.url } else { &admin_url };
        run_sql(on, &mend).await;
        server.admin.becomes("source", "store").await;
        eventually("it is ready", || async { nothing.admin.get("/readyz").await.status == 200 })
            .await;
        let ready = server.admin.get("/readyz").await.expect(200);
        assert!(ready.get("problem").is_none(), "{ready}");
        server.kill().await;
        nothing.kill().await;
    }
}

#[tokio::test]
async fn two_processes_do_not_share_a_data_directory() {
    let database = Database::create().await;
    let folder = Folder::new();
    let mut first = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let serve = || {
        let mut second = command();
        second.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder.path());
        second.env("VEXIL_DATABASE_URL", &database.url);
        second
    };
    let output = serve().output().await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{complaint}");
    assert!(complaint.contains("another process uses the data directory"), "{complaint}");
    assert!(first.stop().await);
    Server::start_on(folder.path(), Some(&database.url), &[]).await;
}

#[tokio::test]
async fn what_comes_from_disk_is_as_old_as_its_last_confirmation() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    kept(folder.path(), "\"tokens\":[[").await;
    assert!(folder.path().join("snapshot/confirmed.image").exists());
    server.kill().await;
    postgres.stop().await;
    // A day later, by the clock of the machine.
    let clock = ShiftedClock::new().await;
    clock.shift(86_400, 0);
    let later = clock.rules(command());
    let server = Server::spawn_by(later, folder.path(), Some(&postgres.url), &[]).await;
    let is_ready = || async { server.admin.get("/readyz").await.status == 200 };
    eventually("it is ready", is_ready).await;
    let client = server.admin.with_token(&client.token);
    let stale = client.evaluate("f", json!({})).await.header("vexil-stale").to_owned();
    assert!(stale.parse::<u64>().is_ok_and(|ms| ms > 86_000_000), "{stale}");
}
