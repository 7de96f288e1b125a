//! Talking to a server that runs.

use crate::auth;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use reqwest::Method;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use std::io::Write;
use std::time::Duration;

/// How long a command waits for the server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a download may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Which server, as whom.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// The server
    #[arg(long, env = "VEXIL_URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// A token that may do what is asked
    #[arg(long, env = "VEXIL_TOKEN", hide_env_values = true, global = true)]
    token: Option<SecretString>,
}

/// A client of one server.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    token: SecretString,
}

impl Connection {
    /// Prepares to talk to the server.
    pub(super) fn client(&self) -> anyhow::Result<Client> {
        let Some(token) = self.token.clone() else {
            bail!("give a token with --token or VEXIL_TOKEN");
        };
        if auth::is_mistyped(token.expose_secret()) {
            bail!("the token is mistyped or cut off: its checksum is wrong");
        }
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .user_agent(concat!("vexil/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("could not set up HTTP")?;
        Ok(Client { http, url: self.url.trim_end_matches('/').to_owned(), token })
    }
}

impl Client {
    /// Reads something.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, None).await
    }

    /// Sends something.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body)).await
    }

    /// Sends a file as it is.
    pub(super) async fn post_file(&self, path: &str, file: Vec<u8>) -> anyhow::Result<Value> {
        self.answer(self.request(Method::POST, path).body(file)).await
    }

    /// Changes something.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PATCH, path, Some(body)).await
    }

    /// Writes what is answered to `out`, piece by piece, however long it takes.
    pub(super) async fn download(&self, path: &str, out: &mut impl Write) -> anyhow::Result<()> {
        let request = self.request(Method::GET, path).timeout(DOWNLOAD_TIMEOUT);
        let mut response =
            request.send().await.with_context(|| format!("could not reach {}", self.url))?;
        let status = response.status();
        if !status.is_success() {
            let text = response.text().await.unwrap_or_default();
            let answer = serde_json::from_str(&text).unwrap_or_default();
            bail!("{}", explain(status.as_u16(), &answer));
        }
        while let Some(piece) = response.chunk().await.context("the answer did not arrive whole")? {
            out.write_all(&piece).context("could not write")?;
        }
        out.flush().context("could not write")
    }

    /// Removes something.
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::DELETE, path, None).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let request = self.request(method, path);
        self.answer(if let Some(body) = body { request.json(body) } else { request }).await
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.url);
        self.http.request(method, &url).bearer_auth(self.token.expose_secret())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let response =
            request.send().await.with_context(|| format!("could not reach {}", self.url))?;
        let status = response.status();
        let text = response.text().await.context("the answer did not arrive whole")?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        bail!("{}", explain(status.as_u16(), &answer))
    }
}

/// Puts a problem document, or an error of OFREP, into a sentence or several.
fn explain(status: u16, answer: &Value) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let detail = text("detail").or_else(|| text("errorDetails")).unwrap_or("no detail was given");
    let code = text("code").or_else(|| text("errorCode")).unwrap_or("error");
    let mut sentence = format!("the server answered {status} {code}: {detail}");
    for error in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        sentence.push_str(&format!("\n  {}: {}", part("path"), part("detail")));
    }
    sentence
}
