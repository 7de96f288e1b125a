//! The database goes away and comes back.

use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::eventually;
use crate::harness::free_port;
use crate::kept::kept;
use serde_json::json;
use sqlx::Connection;

#[tokio::test]
async fn evaluations_go_on_while_the_database_is_away() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let mut events = Events::open(&client, None).await;
    postgres.stop().await;

    let write = server.admin.post("/kill/f", json!({})).await;
    assert!(write.header("retry-after").parse::<u32>().is_ok());
    let problem = write.expect(503);
    assert_eq!(problem["code"], "store_unavailable");
    assert_eq!(server.admin.get("/api/v1/projects").await.status, 503);
    for _ in 0..100 {
        assert_eq!(client.value("f", json!({"targetingKey": "u"})).await, true);
    }
    server.admin.becomes("stale", true).await;

    postgres.resume().await;
    server.admin.kills_again("f").await;
    assert_eq!(events.next().await.unwrap()["flags"], json!(["f"]), "the stream stayed open");
    assert_eq!(client.value("f", json!({})).await, false);
    server.admin.becomes("stale", false).await;
}

#[tokio::test]
async fn rows_that_cannot_be_read_spoil_nothing_else() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("good").await;
    server.flag_on("bad").await;
    // As a newer version might leave them: a kind of token and a body that this one does not know.
    database
        .run(
            "insert into token (id, digest, kind, name, hint, created_at, created_by)
                values ('t', '\\x00', 'relay', '', '', now(), '');
            update cluster set directory_version = directory_version + 1;
            update flag_config set body = '{', version = version + 1 where flag_key = 'bad';
            update environment set version = version + 1",
        )
        .await;
    server.admin.post("/kill/good", json!({})).await.expect(200);
    assert_eq!(client.value("good", json!({})).await, false);
    assert_eq!(client.value("bad", json!({})).await, true, "as it was before");
    let token = server.token("server", None).await;
    assert_eq!(token.value("good", json!({})).await, false, "new tokens are accepted");
    assert_eq!(server.admin.get("/readyz").await.expect(200)["stale"], false);
    let metrics = server.admin.get("/metrics").await.text;
    assert!(!metrics.contains("vexil_corrupt_rows_total 0"), "{metrics}");
}

#[tokio::test]
async fn a_flag_that_cannot_be_read_keeps_its_last_good_form_through_a_restart() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("bad").await;
    kept(folder.path(), "\"tokens\":[[").await;
    database
        .run(
            "update flag_config set body = '{', version = version + 1 where flag_key = 'bad';
            update environment set version = version + 1",
        )
        .await;
    server.admin.becomes("quarantined", 1).await;
    kept(folder.path(), r#""config":"{""#).await;
    server.kill().await;
    let nowhere = format!("postgres://vexil@127.0.0.1:{}/nothing", free_port());
    for url in [&nowhere, &database.url] {
        let server = Server::start_on(folder.path(), Some(url), &[]).await;
        let client = server.admin.with_token(&client.token);
        assert_eq!(client.value("bad", json!({})).await, true, "as it was before");
        assert_eq!(server.admin.get("/readyz").await.expect(200)["quarantined"], 1);
        server.kill().await;
    }
}

#[tokio::test]
async fn a_server_that_starts_without_its_database_waits_for_it() {
    let mut postgres = Postgres::start().await;
    postgres.stop().await;
    let folder = Folder::new();
    let server = Server::spawn(folder.path(), Some(&postgres.url), &[]).await;
    assert_eq!(server.admin.get("/livez").await.status, 200);
    assert_eq!(server.admin.get("/readyz").await.expect(503)["status"], "starting");
    let early = server.admin.evaluate("f", json!({})).await;
    assert!(early.header("retry-after").parse::<u32>().is_ok());
    early.expect(503);
    postgres.resume().await;
    let admin = server.admin.clone();
    eventually("the server is ready", || {
        let admin = admin.clone();
        async move { admin.get("/readyz").await.status == 200 }
    })
    .await;
    server.with_environment().await;
    crate::lab::happened(
        "P2 PostgreSQL is down at the start, without files",
        "started with PostgreSQL stopped, which came back later",
        "alive, not ready, 503 with Retry-After; ready when it came",
    );
}

#[tokio::test]
async fn connections_that_die_without_a_word_are_replaced() {
    let postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    server.with_environment().await;
    server.flag_on("f").await;
    // As many questions as there are connections wait for an answer, which then never comes.
    let mut holder = sqlx::PgConnection::connect(&postgres.url).await.unwrap();
    let mut held = holder.begin().await.unwrap();
    sqlx::raw_sql("lock table audit in access exclusive mode").execute(&mut *held).await.unwrap();
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let admin = server.admin.clone();
            tokio::spawn(async move { admin.get("/api/v1/audit").await.status })
        })
        .collect();
    let question = "select count(*) >= 6 from pg_stat_activity
        where application_name = 'vexil' and wait_event_type = 'Lock'";
    eventually("they wait", || postgres.says(question)).await;
    let pids = "select coalesce(string_agg(pid::text, ' '), '') from pg_stat_activity
        where application_name = 'vexil'";
    let mut connection = sqlx::PgConnection::connect(&postgres.url).await.unwrap();
    let (pids,): (String,) = sqlx::query_as(pids).fetch_one(&mut connection).await.unwrap();
    let send = async |signal: &str| {
        let mut kill = tokio::process::Command::new("kill");
        kill.arg(signal).args(pids.split(' ')).stderr(std::process::Stdio::null());
        kill.status().await.unwrap();
    };
    send("-STOP").await;
    held.commit().await.unwrap();
    for asked in asking {
        assert_eq!(asked.await.unwrap(), 503);
    }
    server.admin.kills_again("f").await;
    server.admin.becomes("stale", false).await;
    send("-CONT").await;
}
