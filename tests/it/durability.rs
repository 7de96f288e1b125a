//! What was acknowledged is there after a crash.

use crate::harness::Backend;
use crate::harness::Server;
use serde_json::json;

/// How often the process is killed; each time right after it acknowledged a change.
const CRASHES: usize = 20;

#[tokio::test]
async fn a_kill_survives_a_crash_on_sqlite() {
    crash_after_each_kill(Backend::Sqlite).await;
}

#[tokio::test]
async fn a_kill_survives_a_crash_on_postgres() {
    crash_after_each_kill(Backend::Postgres).await;
}

async fn crash_after_each_kill(backend: Backend) {
    let mut server = Server::start(backend).await;
    let token = server.with_environment().await.token;
    server.flag_on("f").await;
    for crash in 0..CRASHES {
        let url = if crash % 2 == 0 { "/kill/f" } else { "/restore/f" };
        server.admin.post(url, json!({})).await.expect(200);
        let (database, folder) = server.kill().await;
        let folder = folder.unwrap();
        let database_url = database.as_ref().map(|database| database.url.clone());
        let restarted = Server::start_on(folder.path(), database_url.as_deref(), &[]).await;
        server = restarted.owning(database, folder);
        let client = server.admin.with_token(&token);
        assert_eq!(client.value("f", json!({})).await, crash % 2 == 1, "crash {crash}");
    }
}

#[tokio::test]
async fn a_data_directory_belongs_to_one_process() {
    let server = Server::start(Backend::Sqlite).await;
    let output = crate::harness::command()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.folder())
        .output()
        .await
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("another process uses the data directory"), "{message}");
}
