//! A `vexil` process.

use super::Backend;
use super::Client;
use super::Database;
use super::Folder;
use super::PATIENCE;
use super::database::run_sqlite;
use super::eventually;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use tokio::io::AsyncBufReadExt;
use tokio::io::BufReader;
use tokio::process::Child;
use tokio::process::Command;

/// The administrator's token of every server that the tests start.
pub const ADMIN_TOKEN: &str = "an administrator's token for tests only";

#[derive(Debug)]
pub struct Server {
    pub url: String,
    pub admin: Client,
    process: Child,
    /// The lines of its log so far, after the one that says where it listens.
    log: Arc<Mutex<Vec<String>>>,
    database: Option<Database>,
    folder: Option<Folder>,
}

/// The program, with an environment that holds nothing of the tests' own.
pub fn command() -> Command {
    clean(Command::new(env!("CARGO_BIN_EXE_vexil")))
}

/// The program with at most so many open files.
pub fn command_with_files(n: u32) -> Command {
    command_after(&format!("ulimit -n {n}"))
}

/// The program, whose files end at so many KiB, as on a disk that is full.
pub fn command_with_file_kib(n: u32) -> Command {
    // The unit is 512 bytes. Source: POSIX, `ulimit`.
    command_after(&format!("trap '' XFSZ && ulimit -f {}", n * 2))
}

/// The program, after a shell has done something that the program inherits.
fn command_after(script: &str) -> Command {
    let mut command = Command::new("sh");
    let script = format!("{script} && exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_vexil")]);
    clean(command)
}

fn clean(mut command: Command) -> Command {
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VEXIL_")) {
        command.env_remove(name);
    }
    command.kill_on_drop(true);
    command
}

impl Server {
    /// Starts a server with a database of its own.
    pub async fn start(backend: Backend) -> Self {
        let folder = Folder::new();
        let database = match backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Database::create().await),
        };
        let url = database.as_ref().map(|database| database.url.clone());
        let mut server = Self::start_on(folder.path(), url.as_deref(), &[]).await;
        (server.database, server.folder) = (database, Some(folder));
        server
    }

    /// Starts a server on a given folder or database.
    pub async fn start_on(folder: &Path, database_url: Option<&str>, args: &[&str]) -> Self {
        let mut server = Self::spawn(folder, database_url, args).await;
        let client = server.admin.clone();
        eventually("the server is ready", || {
            let client = client.clone();
            async move { client.get("/readyz").await.status == 200 }
        })
        .await;
        assert!(server.process.try_wait().unwrap().is_none(), "the server has ended");
        server
    }

    /// Starts a server and waits only until it listens.
    pub async fn spawn(folder: &Path, database_url: Option<&str>, args: &[&str]) -> Self {
        Self::spawn_by(command(), folder, database_url, args).await
    }

    /// As [`Server::spawn`], by a program that in the end becomes the server.
    pub async fn spawn_by(
        mut command: Command,
        folder: &Path,
        database_url: Option<&str>,
        args: &[&str],
    ) -> Self {
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .arg("--data-dir")
            .arg(folder)
            .args(args)
            .env("VEXIL_ADMIN_TOKEN", ADMIN_TOKEN)
            .env("VEXIL_DRAIN_SECS", "0")
            .stderr(Stdio::piped());
        if let Some(url) = database_url {
            command.env("VEXIL_DATABASE_URL", url);
        }
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = async {
            let mut seen = String::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                let entry: Value = serde_json::from_str(&line).unwrap_or_default();
                if entry["message"] == "listening" {
                    return entry["address"].as_str().unwrap().to_owned();
                }
                seen.push_str(&line);
            }
            panic!("the server ended: {seen}");
        };
        let address = tokio::time::timeout(PATIENCE, listening).await.unwrap();
        let show = std::env::var("VEXIL_TEST_LOG").is_ok();
        let log = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&log);
        // Lets the process write its log to the end.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if show {
                    eprintln!("{line}");
                }
                seen.lock().unwrap().push(line);
            }
        });
        let url = format!("http://{address}");
        let admin = Client::new(&url, ADMIN_TOKEN);
        Self { url, admin, process, log, database: None, folder: None }
    }

    /// The database of a server that was started with one of its own.
    pub fn database_url(&self) -> &str {
        &self.database.as_ref().unwrap().url
    }

    /// The folder of a server that was started with one of its own.
    pub fn folder(&self) -> &Path {
        self.folder.as_ref().unwrap().path()
    }

    /// Runs SQL behind the back of a server that was started with a database of its own, whichever it is.
    pub async fn run_sql(&self, sql: &str) {
        match &self.database {
            Some(database) => database.run(sql).await,
            None => run_sqlite(&self.folder().join("vexil.db"), sql).await,
        }
    }

    /// Ends the process at once, as a crash does; keeps its database.
    pub async fn kill(mut self) -> (Option<Database>, Option<Folder>) {
        self.process.kill().await.unwrap();
        (self.database.take(), self.folder.take())
    }

    /// Takes over what another server was started with.
    pub fn owning(mut self, database: Option<Database>, folder: Folder) -> Self {
        (self.database, self.folder) = (database, Some(folder));
        self
    }

    /// What it has logged so far.
    pub fn logged(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.process.id().unwrap()
    }

    /// Sends the process a signal, by its name.
    pub async fn signal(&self, name: &str) {
        let args = [format!("-{name}"), self.pid().to_string()];
        let sent = Command::new("kill").args(args).status().await.unwrap();
        assert!(sent.success());
    }

    /// Asks the process to end and waits until it has; returns whether it ended well.
    pub async fn stop(&mut self) -> bool {
        self.signal("TERM").await;
        self.ended().await
    }

    /// Waits until the process has ended; returns whether it ended well.
    pub async fn ended(&mut self) -> bool {
        tokio::time::timeout(PATIENCE, self.process.wait()).await.unwrap().unwrap().success()
    }

    /// The memory that the process has resident, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.process.id().unwrap());
        let status = std::fs::read_to_string(path).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The value of a metric, with its labels as they are written; zero if it is not there yet.
    pub async fn metric(&self, name: &str) -> u64 {
        let text = self.admin.get("/metrics").await.text;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().map_or(0, |value| value.parse().unwrap())
    }

    /// Creates the project `shop` with the environment `production`, and returns a backend's client of it.
    pub async fn with_environment(&self) -> Client {
        let admin = &self.admin;
        admin.post("/api/v1/projects", json!({"key": "shop"})).await.expect(201);
        let environments = "/api/v1/projects/shop/environments";
        admin.post(environments, json!({"key": "production"})).await.expect(201);
        self.token("server", None).await
    }

    /// Makes a token of the environment `production` and returns a client with it.
    pub async fn token(&self, kind: &str, role: Option<&str>) -> Client {
        let mut body = json!({"name": "test", "kind": kind});
        if let Some(role) = role {
            body["role"] = json!(role);
        }
        let tokens = "/api/v1/projects/shop/environments/production/tokens";
        let made = self.admin.post(tokens, body).await.expect(201);
        self.admin.with_token(made["token"].as_str().unwrap())
    }

    /// Creates a boolean flag in `shop`; it is off.
    pub async fn flag(&self, key: &str) {
        let body = json!({"key": key, "kind": "boolean"});
        self.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }

    /// Creates a boolean flag in `shop` and turns it on.
    pub async fn flag_on(&self, key: &str) {
        self.flag(key).await;
        self.admin.change(key, json!([{"kind": "turnFlagOn"}])).await.expect(200);
    }
}
