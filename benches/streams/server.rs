//! A server as a process of its own, and the requests of its administrator.

use crate::log::Made;
use crate::log::now;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Child;
use tokio::process::Command;
use tokio::time::Instant;
use vexil::clock::Ids;

const ADMIN_TOKEN: &str = "only-for-the-benchmark-which-ends-with-it";
const ENVIRONMENT: &str = "/api/v1/projects/bench/environments/production";
/// Streams that the server is told to allow: more than are opened.
const STREAMS_MAX: usize = 200_000;
/// How long a server may take to start or to stop.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Milliseconds of processor time in one tick of `/proc`. Source: `sysconf(_SC_CLK_TCK)`, which is 100 on Linux.
const TICK_MILLIS: u64 = 10;

/// A folder that is removed with everything in it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("vexil-bench-{}", Ids.next()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Debug)]
pub struct Server {
    pub address: SocketAddr,
    process: Child,
    folder: Folder,
    http: reqwest::Client,
}

/// Changes that a thread of its own makes, so that the clients do not hold it up.
#[derive(Debug)]
pub struct Changing(Option<std::thread::JoinHandle<Vec<Made>>>);

impl Changing {
    /// Waits for the last one, and returns all.
    pub fn take(&mut self) -> Vec<Made> {
        self.0.take().unwrap().join().unwrap()
    }
}

impl Server {
    /// Starts a server with nothing in it, or with a copy of another's data.
    pub async fn start(program: &Path, data: Option<&Path>) -> Self {
        let folder = Folder::new();
        for entry in data.into_iter().flat_map(|path| std::fs::read_dir(path).unwrap()) {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let process = Command::new(program)
            .args(["serve", "--listen", &address.to_string(), "--drain-secs", "0", "--log", "warn"])
            .args(["--streams-max", &STREAMS_MAX.to_string(), "--data-dir"])
            .arg(folder.path())
            .env("VEXIL_ADMIN_TOKEN", ADMIN_TOKEN)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the server's program starts");
        let server = Self { address, process, folder, http: reqwest::Client::new() };
        let deadline = Instant::now() + START_TIMEOUT;
        while !server.is_ready().await {
            assert!(Instant::now() < deadline, "the server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        server
    }

    async fn is_ready(&self) -> bool {
        let url = format!("http://{}/readyz", self.address);
        self.http.get(url).send().await.is_ok_and(|answer| answer.status() == 200)
    }

    /// Makes an environment with a flag, and tokens.
    pub async fn prepare(&self, n_tokens: usize) -> Vec<String> {
        self.post("/api/v1/projects", json!({"key": "bench"})).await;
        self.post("/api/v1/projects/bench/environments", json!({"key": "production"})).await;
        self.post("/api/v1/projects/bench/flags", json!({"key": "f", "kind": "boolean"})).await;
        let mut tokens = Vec::new();
        for i in 0..n_tokens {
            let body = json!({"name": format!("bench-{i}"), "kind": "server"});
            let made = self.post(&format!("{ENVIRONMENT}/tokens"), body).await;
            tokens.push(made["token"].as_str().unwrap().to_owned());
        }
        tokens
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let url = format!("http://{}{path}", self.address);
        let request = self.http.post(url).bearer_auth(ADMIN_TOKEN).json(&body);
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    /// Begins to switch the flag on and off.
    pub fn change_often(&self, n_changes: usize, interval_ms: u64) -> Changing {
        let url = format!("http://{}{ENVIRONMENT}/flags/f", self.address);
        let changing = async move {
            let http = reqwest::Client::new();
            let mut ticks = tokio::time::interval(Duration::from_millis(interval_ms));
            let mut made = Vec::new();
            for i in 0..n_changes {
                ticks.tick().await;
                let kind = if i % 2 == 0 { "turnFlagOn" } else { "turnFlagOff" };
                let body = json!({"instructions": [{"kind": kind}]});
                let sent_at = now();
                let answer = http.patch(&url).bearer_auth(ADMIN_TOKEN).json(&body).send().await;
                let answered_at = now();
                let answer: Value =
                    answer.unwrap().error_for_status().unwrap().json().await.unwrap();
                made.push(Made {
                    version: answer["version"].as_i64().unwrap(),
                    sent_at,
                    answered_at,
                });
            }
            made
        };
        Changing(Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(changing)
        })))
    }

    /// Memory that the server has resident, in KiB.
    pub fn resident_kib(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Processor time that the server has used.
    pub fn cpu_millis(&self) -> u64 {
        // Source: proc_pid_stat(5); the fields 14 and 15, counted behind the name in parentheses.
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11..13].iter().map(|field| field.parse::<u64>().unwrap() * TICK_MILLIS).sum()
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.process.id().unwrap())).unwrap()
    }

    /// Ends it at once, as a crash does.
    pub async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }

    /// Asks it to end, and returns its data.
    pub async fn stop(mut self) -> Folder {
        let pid = self.process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        tokio::time::timeout(START_TIMEOUT, self.process.wait()).await.unwrap().unwrap();
        self.folder
    }
}
