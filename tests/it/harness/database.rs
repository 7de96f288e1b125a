//! Databases: one of its own for each test on the shared PostgreSQL, and private servers that a test may stop.

use super::Folder;
use super::eventually;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::net::TcpStream;
use tokio::process::Child;
use tokio::process::Command;
use vexil::clock::Ids;

/// A variable that `scripts/test` sets.
fn setting(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: run the tests with scripts/test"))
}

/// The URL of the shared Redis.
pub fn redis_url() -> String {
    setting("VEXIL_TEST_REDIS_URL")
}

/// A database on the shared PostgreSQL; removed with the whole server.
#[derive(Debug)]
pub struct Database {
    pub url: String,
}

impl Database {
    pub async fn create() -> Self {
        Self::create_on(&setting("VEXIL_TEST_POSTGRES_URL")).await
    }

    async fn create_on(server: &str) -> Self {
        let name = format!("t{}", Ids.next().replace('-', ""));
        run_sql(server, &format!("create database {name}")).await;
        let (start, _) = server.rsplit_once('/').unwrap();
        Self { url: format!("{start}/{name}") }
    }

    /// Runs SQL behind the server's back.
    pub async fn run(&self, sql: &str) {
        run_sql(&self.url, sql).await;
    }

    /// Asks for one value behind the server's back.
    pub async fn ask<T>(&self, sql: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.url).await.unwrap();
        let (value,): (T,) = sqlx::query_as(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        value
    }

    /// The port and the name of the database, for PgBouncer.
    fn port_and_name(&self) -> (&str, &str) {
        let (start, name) = self.url.rsplit_once('/').unwrap();
        (start.rsplit_once(':').unwrap().1, name)
    }
}

async fn run_sql(url: &str, sql: &str) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Runs what must fail, and returns why it did.
pub async fn run_sql_fails(url: &str, sql: &str) -> String {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    let result = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await;
    result.unwrap_err().to_string()
}

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that may not run as root: it runs as the user that `scripts/test` has chosen.
fn as_servant(program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
    let user = std::env::var("VEXIL_TEST_POSTGRES_USER").unwrap_or_default();
    let mut command = if user.is_empty() {
        Command::new(program)
    } else {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups", "--"]).arg(program);
        command
    };
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Makes a folder that belongs to the user that servers run as.
async fn servant_folder() -> Folder {
    let folder = Folder::new();
    let user = std::env::var("VEXIL_TEST_POSTGRES_USER").unwrap_or_default();
    if !user.is_empty() {
        let owned = Command::new("chown").arg(&user).arg(folder.path()).status().await.unwrap();
        assert!(owned.success());
    }
    folder
}

async fn wait_for_port(port: u16) {
    eventually("the port answers", || async move {
        TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
}

/// A PostgreSQL of the test's own, with all its durability, that can be stopped and started.
#[derive(Debug)]
pub struct Postgres {
    pub url: String,
    folder: Folder,
    bin: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Postgres {
    pub async fn start() -> Self {
        let bin = PathBuf::from(setting("VEXIL_TEST_POSTGRES_BIN"));
        let folder = servant_folder().await;
        let data = folder.path().join("data");
        let made = as_servant(bin.join("initdb"), folder.path())
            .args(["-U", "vexil", "-A", "trust", "-E", "UTF8", "--locale=C", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .await
            .unwrap();
        assert!(made.success());
        let port = free_port();
        let url = format!("postgres://vexil@127.0.0.1:{port}/postgres");
        let mut postgres = Self { url, folder, bin, port, process: None };
        postgres.resume().await;
        postgres
    }

    /// Starts it again on the same port.
    pub async fn resume(&mut self) {
        let process = as_servant(self.bin.join("postgres"), self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(process);
        wait_for_port(self.port).await;
    }

    /// Starts it on the same port as a standby, which can be read and not written.
    pub async fn resume_as_standby(&mut self) {
        let data = self.folder.path().join("data");
        let made = as_servant("touch", self.folder.path())
            .arg(data.join("standby.signal"))
            .status()
            .await
            .unwrap();
        assert!(made.success());
        self.resume().await;
    }

    /// Starts it as a standby and promotes it, which begins another timeline.
    pub async fn promote(&mut self) {
        self.resume_as_standby().await;
        eventually("the standby is promoted", || {
            let mut promote = as_servant(self.bin.join("pg_ctl"), self.folder.path());
            promote.args(["promote", "-w", "-D"]).arg(self.folder.path().join("data"));
            promote.stdout(Stdio::null()).stderr(Stdio::null());
            async move { promote.status().await.unwrap().success() }
        })
        .await;
    }

    /// Ends it at once, as a crash does.
    pub async fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = process.id().unwrap().to_string();
        // SIGQUIT is PostgreSQL's immediate shutdown; it takes its own processes with it.
        Command::new("kill").args(["-QUIT", &pid]).status().await.unwrap();
        process.wait().await.unwrap();
    }
}

/// A PgBouncer in transaction mode before a database.
#[derive(Debug)]
pub struct PgBouncer {
    pub url: String,
    _folder: Folder,
    _process: Child,
}

impl PgBouncer {
    pub async fn start(database: &Database) -> Self {
        let (postgres_port, name) = database.port_and_name();
        let folder = servant_folder().await;
        let port = free_port();
        let users = folder.path().join("users.txt");
        std::fs::write(&users, "\"vexil\" \"\"\n").unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={postgres_port} dbname={name}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\n\
             auth_file = {}\npool_mode = transaction\ndefault_pool_size = 4\nunix_socket_dir =\n",
            users.display()
        );
        std::fs::write(&config, text).unwrap();
        let process = as_servant(setting("VEXIL_TEST_PGBOUNCER"), folder.path())
            .arg("-q")
            .arg(&config)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_port(port).await;
        let url = format!("postgres://vexil@127.0.0.1:{port}/{name}");
        Self { url, _folder: folder, _process: process }
    }
}
