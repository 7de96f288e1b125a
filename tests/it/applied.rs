//! Changes that are acknowledged when every replica serves them, and reads that ask for a version.

use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::command;
use crate::harness::eventually;
use crate::harness::run_sql;
use crate::kept::kept;
use serde_json::json;
use sqlx::Connection;

#[tokio::test]
async fn a_kill_is_acknowledged_when_every_replica_serves_it() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = first.with_environment().await;
    let second =
        Server::start_on(folders[1].path(), Some(&database.url), &["--test-no-listen"]).await;
    let other = second.admin.with_token(&client.token);
    first.flag_on("f").await;
    for i in 0..20 {
        let verb = if i % 2 == 0 { "kill" } else { "restore" };
        let path = format!("/{verb}/f?wait=applied&timeout=10s");
        let answer = first.admin.post(&path, json!({})).await;
        assert_eq!(answer.header("vexil-replicas"), "2");
        answer.expect(200);
        for each in [&client, &other] {
            assert_eq!(each.value("f", json!({})).await, i % 2 == 1, "{verb} {i}");
        }
    }
    for path in ["/kill/f?wait=soon", "/kill/f?wait=applied&timeout=1h"] {
        assert_eq!(first.admin.post(path, json!({})).await.expect(400)["code"], "invalid_query");
    }
}

#[tokio::test]
async fn replicas_that_have_not_confirmed_are_named() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    first.with_environment().await;
    first.flag_on("f").await;
    let second = Server::start_on(folders[1].path(), Some(&database.url), &[]).await;
    first.admin.post("/restore/f?wait=applied", json!({})).await.expect(409);
    second.signal("STOP").await;
    let answer = first.admin.post("/kill/f?wait=applied&timeout=300ms", json!({})).await;
    let body = answer.expect(202);
    assert_eq!(body["flag"], "f", "it is done all the same");
    let port = second.url.rsplit(':').next().unwrap();
    let names = body["unconfirmed"].as_array().unwrap();
    assert!(names.len() == 1 && names[0].as_str().unwrap().ends_with(port), "{names:?}");
    let output = command()
        .args(["kill", "f", "--wait", "--timeout", "300ms", "--output", "json"])
        .env("VEXIL_URL", &first.url)
        .env("VEXIL_TOKEN", &first.admin.token)
        .output()
        .await
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && complaint.contains("have not confirmed"), "{complaint}");
    second.signal("CONT").await;
    first.admin.post("/kill/f?wait=applied&timeout=20s", json!({})).await.expect(200);
}

#[tokio::test]
async fn a_read_can_ask_for_what_was_written() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = first.with_environment().await;
    first.flag("f").await;
    let second =
        Server::start_on(folders[1].path(), Some(&database.url), &["--test-no-listen"]).await;
    let other = second.admin.with_token(&client.token);
    let ask = async |version: &str| {
        let request = other.request(reqwest::Method::POST, "/ofrep/v1/evaluate/flags/f");
        other.send(request.header("Vexil-Min-Version", version).body("{}")).await
    };
    for i in 0..10 {
        let kind = if i % 2 == 0 { "turnFlagOn" } else { "turnFlagOff" };
        let written = first.admin.change("f", json!([{"kind": kind}])).await;
        let version = written.header("vexil-version").to_owned();
        let answer = ask(&version).await;
        assert_eq!(answer.header("vexil-version"), version);
        assert_eq!(answer.expect(200)["value"], i % 2 == 0);
    }
    let behind = ask("1-999999").await;
    assert!(behind.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(behind.status, 503);
    assert_eq!(ask("soon").await.status, 400);
}

#[tokio::test]
async fn a_replica_that_serves_from_disk_while_it_waits_to_migrate_is_waited_for() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = first.with_environment().await;
    first.flag_on("f").await;
    let second = Server::start_on(folders[1].path(), Some(&database.url), &[]).await;
    kept(folders[1].path(), r#"\"on\":true"#).await;
    kept(folders[1].path(), "\"tokens\":[[").await;
    second.kill().await;
    // As if it had been long ago: who was killed counts for a while as somebody who may still serve.
    database.run("delete from replica").await;
    // Somebody else is about to apply a migration that is missing.
    let mut holder = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let mut migrating = holder.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(8398764301)";
    sqlx::raw_sql(lock).execute(&mut *migrating).await.unwrap();
    let lacking = "create table put_aside as select * from schema_migration where number = 11;
        delete from schema_migration where number = 11";
    database.run(lacking).await;
    let second = Server::start_on(folders[1].path(), Some(&database.url), &[]).await;
    assert_eq!(second.admin.get("/readyz").await.expect(200)["source"], "disk");
    let waits = "select count(*) = 1 from pg_locks where locktype = 'advisory' and not granted
        and database = (select oid from pg_database where datname = current_database())";
    eventually("it waits to migrate", || database.ask::<bool>(waits)).await;
    let other = second.admin.with_token(&client.token);
    let lives = "select count(*) = 2 and bool_or(positions = '{}') from replica
        where seen_at > now() - interval '5 s'";
    eventually("it says that it lives, and has confirmed nothing", || database.ask::<bool>(lives))
        .await;
    let answer = first.admin.post("/kill/f?wait=applied&timeout=500ms", json!({})).await;
    assert_eq!(other.value("f", json!({})).await, true, "what was before");
    // On a busy machine the other one may not have confirmed yet either.
    let waiting = answer.expect(202)["unconfirmed"].clone();
    let port = second.url.rsplit(':').next().unwrap();
    let is_named = |name: &serde_json::Value| name.as_str().unwrap().ends_with(port);
    assert!(waiting.as_array().unwrap().iter().any(is_named), "{waiting}");
    database.run("insert into schema_migration select * from put_aside").await;
    migrating.commit().await.unwrap();
    first.admin.post("/restore/f?wait=applied&timeout=30s", json!({})).await.expect(200);
    assert_eq!(other.value("f", json!({})).await, true);
    first.admin.post("/kill/f?wait=applied&timeout=30s", json!({})).await.expect(200);
    assert_eq!(other.value("f", json!({})).await, false);
}

#[tokio::test]
async fn a_replica_that_is_still_loading_is_waited_for_before_it_serves() {
    let database = Database::create().await;
    let folders = [Folder::new(), Folder::new()];
    let first = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    let client = first.with_environment().await;
    first.flag_on("f").await;
    // Whoever starts reads all tokens; who follows already reads none for a kill.
    let mut holder = sqlx::PgConnection::connect(&database.url).await.unwrap();
    let mut holding = holder.begin().await.unwrap();
    sqlx::raw_sql("lock table token in access exclusive mode")
        .execute(&mut *holding)
        .await
        .unwrap();
    let second = Server::spawn(folders[1].path(), Some(&database.url), &[]).await;
    let announced = "select count(*) = 1 from replica
        where positions = '{}' and seen_at > now() - interval '1 s'";
    eventually("it says that it is about to serve", || database.ask::<bool>(announced)).await;
    let answer = first.admin.post("/kill/f?wait=applied&timeout=500ms", json!({})).await;
    assert_eq!(second.admin.get("/readyz").await.expect(503)["status"], "starting");
    let waiting = answer.expect(202)["unconfirmed"].clone();
    let port = second.url.rsplit(':').next().unwrap();
    let is_named = |name: &serde_json::Value| name.as_str().unwrap().ends_with(port);
    assert!(waiting.as_array().unwrap().iter().any(is_named), "{waiting}");
    holding.rollback().await.unwrap();
    first.admin.post("/kill/f?wait=applied&timeout=30s", json!({})).await.expect(200);
    let other = second.admin.with_token(&client.token);
    eventually("it serves, and never what was before", || async {
        let answer = other.evaluate("f", json!({})).await;
        assert!(answer.status == 503 || answer.body["value"] == false, "{answer:?}");
        answer.status == 200
    })
    .await;
}

#[tokio::test]
async fn what_a_replica_cannot_read_it_does_not_confirm() {
    let server = Server::start(Backend::Postgres).await;
    let client = server.with_environment().await;
    server.flag_on("good").await;
    server.flag_on("bad").await;
    server.admin.post("/kill/good?wait=applied", json!({})).await.expect(200);
    let sql = "update environment set version = version + 1;
        update flag_config set body = '{', version = (select version from environment)
            where flag_key = 'bad';
        insert into change_log select id, version, '[]', '[]', 'another', now() from environment";
    run_sql(server.database_url(), sql).await;
    server.admin.becomes("quarantined", 1).await;
    // The metric is set when everything was looked at, a moment later.
    eventually("the metric says so", || async {
        server.metric("vexil_environments_quarantined").await == 1
    })
    .await;
    let restore = "/restore/good?wait=applied&timeout=100ms";
    let answer = server.admin.post(restore, json!({})).await.expect(202);
    assert_eq!(answer["unconfirmed"].as_array().unwrap().len(), 1, "{answer}");
    assert_eq!(client.value("good", json!({})).await, true);
    assert_eq!(client.value("bad", json!({})).await, true, "as it was before");
}
