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

    /// The port of its server.
    pub fn port(&self) -> u16 {
        port_and_name(&self.url).0.parse().unwrap()
    }

    /// The URL by which it is reached through another port.
    pub fn url_through(&self, port: u16) -> String {
        self.url.replace(&format!(":{}/", self.port()), &format!(":{port}/"))
    }

    /// Another database on the same server with everything that is in this one, which nobody may use meanwhile.
    pub async fn copy(&self) -> Self {
        let (start, name) = self.url.rsplit_once('/').unwrap();
        let copy = format!("t{}", Ids.next().replace('-', ""));
        let sql = format!("create database {copy} template {name}");
        run_sql(&setting("VEXIL_TEST_POSTGRES_URL"), &sql).await;
        Self { url: format!("{start}/{copy}") }
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
}

/// The port and the name of a database, for PgBouncer.
fn port_and_name(url: &str) -> (&str, &str) {
    let (start, name) = url.rsplit_once('/').unwrap();
    (start.rsplit_once(':').unwrap().1, name)
}

/// Runs SQL behind a server's back.
pub async fn run_sql(url: &str, sql: &str) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Runs SQL on the database of a server that runs on SQLite, for which it waits.
pub async fn run_sqlite(file: &Path, sql: &str) {
    use sqlx::Connection;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
    let options = options.busy_timeout(super::PATIENCE).foreign_keys(false);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
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

/// Ports that are given to servers: below every system's range for outgoing connections, so that a port stays free while its
/// server is down. Those of `scripts/test` lie above.
const PORTS: std::ops::Range<u16> = 10_240..19_990;

/// A port that nobody uses now.
pub fn free_port() -> u16 {
    let span = f64::from(PORTS.end - PORTS.start);
    let any = || {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "below span")]
        let offset = (Ids.jitter() * span) as u16;
        PORTS.start + offset
    };
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(any).take(1_000).find(is_free).expect("a free port")
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

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL by which it is reached through another port.
    pub fn url_through(&self, port: u16) -> String {
        self.url.replace(&format!(":{}/", self.port), &format!(":{port}/"))
    }

    /// Starts it again on the same port.
    pub async fn resume(&mut self) {
        self.process = Some(self.spawn());
        eventually("PostgreSQL listens", || {
            // What a crash has left may be in its way for a moment.
            if self.process.as_mut().unwrap().try_wait().unwrap().is_some() {
                self.process = Some(self.spawn());
            }
            let port = self.port;
            async move { TcpStream::connect(("127.0.0.1", port)).await.is_ok() }
        })
        .await;
    }

    fn spawn(&self) -> Child {
        as_servant(self.bin.join("postgres"), self.folder.path())
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args(["-p", &self.port.to_string(), "-h", "127.0.0.1", "-k", ""])
            // Twenty replicas that start at once need more than the usual hundred.
            .args(["-c", "max_connections=300"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
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

    /// Takes a copy of all of it while it runs: a standby that follows it, or a backup that nobody has started yet.
    pub async fn copy(&self, follows: bool) -> Self {
        let folder = servant_folder().await;
        let mut copying = as_servant(self.bin.join("pg_basebackup"), folder.path());
        copying.args(["-U", "vexil", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        copying.args(["-c", "fast", "-X", "stream", "-D"]).arg(folder.path().join("data"));
        if follows {
            copying.arg("-R");
        }
        assert!(copying.status().await.unwrap().success());
        let port = free_port();
        let url = format!("postgres://vexil@127.0.0.1:{port}/postgres");
        let mut copy = Self { url, folder, bin: self.bin.clone(), port, process: None };
        if follows {
            copy.resume().await;
        }
        copy
    }

    /// Takes the address of another one, which has been stopped.
    pub fn succeed(&mut self, other: &Self) {
        assert!(self.process.is_none() && other.process.is_none());
        (self.port, self.url) = (other.port, other.url.clone());
    }

    /// Writes down all that is in it with `pg_dump`, and reads it into another one.
    pub async fn dump_into(&self, other: &Self) {
        let file = self.folder.path().join("dump.sql");
        let mut dump = as_servant(self.bin.join("pg_dump"), self.folder.path());
        dump.args(["-d", &self.url, "-f"]).arg(&file);
        assert!(dump.status().await.unwrap().success());
        let mut read = as_servant(self.bin.join("psql"), self.folder.path());
        read.args(["-q", "-v", "ON_ERROR_STOP=1", "-d", &other.url, "-f"]).arg(&file);
        assert!(read.stdout(Stdio::null()).status().await.unwrap().success());
    }

    /// Whether a question is answered with yes.
    pub async fn says(&self, question: &'static str) -> bool {
        use sqlx::Connection;
        let Ok(mut connection) = sqlx::PgConnection::connect(&self.url).await else { return false };
        let answer = sqlx::query_as::<_, (bool,)>(question).fetch_one(&mut connection).await;
        answer.is_ok_and(|(yes,)| yes)
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

    /// Kills every one of its processes with SIGKILL, so that none can finish anything.
    #[cfg(target_os = "linux")]
    pub async fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        let pid = process.id().unwrap();
        let signal = async |name: &str, pids: &[u32]| {
            let pids = pids.iter().map(u32::to_string);
            Command::new("kill").arg(name).args(pids).stderr(Stdio::null()).status().await.unwrap();
        };
        // While it is stopped it starts no others.
        signal("-STOP", &[pid]).await;
        let mut all = children(pid);
        all.push(pid);
        signal("-KILL", &all).await;
        process.wait().await.unwrap();
        // Its shared memory is free again when the last of them is gone.
        eventually("all of its processes are gone", || {
            let lives = all.iter().any(|pid| is_alive(*pid));
            async move { !lives }
        })
        .await;
    }

    /// Stops or continues every one of its processes, by the name of a signal.
    #[cfg(target_os = "linux")]
    pub async fn signal(&self, name: &str) {
        let pid = self.process.as_ref().unwrap().id().unwrap();
        let mut all = children(pid);
        all.insert(0, pid);
        let pids = all.iter().map(u32::to_string);
        Command::new("kill").arg(format!("-{name}")).args(pids).status().await.unwrap();
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

/// The state and the parent of a process, as Linux tells.
#[cfg(target_os = "linux")]
fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

#[cfg(target_os = "linux")]
fn children(of: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| state_and_parent(*pid).is_some_and(|(_, parent)| parent == of)).collect()
}

/// Whether a process is there and has not ended.
#[cfg(target_os = "linux")]
fn is_alive(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
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
        Self::start_to(&database.url).await
    }

    /// Before the database of this URL.
    pub async fn start_to(url: &str) -> Self {
        let (postgres_port, name) = port_and_name(url);
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
