//! Talking to a server that runs.

use crate::auth;
use crate::clock::Ids;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use reqwest::Method;
use reqwest::Response;
use reqwest::Url;
use reqwest::header;
use reqwest::header::HeaderValue;
use reqwest::redirect::Policy;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// How long a command waits for the server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a command waits for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a download may take.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How long a command waits before it asks once more, if the connection failed.
const RETRY_DELAY: Duration = Duration::from_millis(200);

/// Characters of an answer that is no JSON which are shown.
const EXCERPT_CHARS: usize = 200;

/// Which server, as whom.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// The server
    #[arg(long, env = "VEXIL_URL", default_value = "http://127.0.0.1:8080", global = true)]
    url: String,
    /// A token that may do what is asked; rather by variable or file, because others can read command lines
    #[arg(long, env = "VEXIL_TOKEN", hide_env_values = true, global = true)]
    token: Option<SecretString>,
    /// A file with the token, if --token is not given
    #[arg(long, env = "VEXIL_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// What a change is sent with besides its body.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    /// Why, where the body has no place for it.
    pub(super) comment: Option<String>,
    /// The version at which the flag must be.
    pub(super) if_match: Option<u64>,
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
        let url = match Url::parse(&self.url) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.host().is_some() => url,
            _ => bail!("--url (VEXIL_URL) must be like https://flags.example.com"),
        };
        if !url.username().is_empty() || url.password().is_some() {
            bail!("--url (VEXIL_URL) must hold no name and password; the token says who asks");
        }
        let token = self.read_token()?;
        if auth::is_mistyped(token.expose_secret()) {
            bail!("the token is mistyped or cut off: its checksum is wrong");
        }
        let http = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            // A redirected POST becomes a GET, and then a kill would look as if it had been done.
            .redirect(Policy::none())
            .user_agent(concat!("vexil/", env!("CARGO_PKG_VERSION")))
            .build()
            .context("could not set up HTTP")?;
        Ok(Client { http, url: self.url.trim_end_matches('/').to_owned(), token })
    }

    fn read_token(&self) -> anyhow::Result<SecretString> {
        if let Some(token) = &self.token
            && !token.expose_secret().trim().is_empty()
        {
            return Ok(SecretString::from(token.expose_secret().trim()));
        }
        let Some(path) = self.token_file.as_ref().filter(|path| !path.as_os_str().is_empty())
        else {
            bail!("there is no token: set VEXIL_TOKEN or VEXIL_TOKEN_FILE, or give --token");
        };
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read the token in {}", path.display()))?;
        match text.trim() {
            "" => bail!("there is no token in {}", path.display()),
            token => Ok(SecretString::from(token)),
        }
    }
}

impl Client {
    /// The server's URL.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Reads something.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.answer(self.request(Method::GET, path)).await
    }

    /// Asks for something that takes a body and changes nothing.
    pub(super) async fn ask(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    /// Sends something.
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, Some(body), &Conditions::default()).await
    }

    /// Sends a file as it is.
    pub(super) async fn post_file(
        &self,
        path: &str,
        file: Vec<u8>,
        comment: Option<&str>,
    ) -> anyhow::Result<Value> {
        self.answer(with_comment(self.once(Method::POST, path).body(file), comment)?).await
    }

    /// Changes something.
    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::PATCH, path, Some(body), &Conditions::default()).await
    }

    /// Sends a change with its conditions.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        conditions: &Conditions,
    ) -> anyhow::Result<Value> {
        let mut request = with_comment(self.once(method, path), conditions.comment.as_deref())?;
        if let Some(version) = conditions.if_match {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        self.answer(if let Some(body) = body { request.json(body) } else { request }).await
    }

    /// Writes what is answered to `out`, piece by piece, however long it takes.
    pub(super) async fn download(&self, path: &str, out: &mut impl Write) -> anyhow::Result<()> {
        let request = self.request(Method::GET, path).timeout(DOWNLOAD_TIMEOUT);
        let mut response = self.reach(request).await?;
        if !response.status().is_success() {
            return read_answer(response, &self.url).await.map(drop);
        }
        while let Some(piece) = response.chunk().await.context("the answer did not arrive whole")? {
            out.write_all(&piece).context("could not write")?;
        }
        out.flush().context("could not write")
    }

    /// A request that is done once, however often it arrives. What only says what would happen is not kept by the server.
    fn once(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.request(method, path);
        if path.contains("dryRun=true") {
            return request;
        }
        request.header("Idempotency-Key", Ids.next().to_string())
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let url = format!("{}{path}", self.url);
        self.http.request(method, &url).bearer_auth(self.token.expose_secret())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        read_answer(self.reach(request).await?, &self.url).await
    }

    /// Sends a request, and once more if the connection failed: it reads, or has a key by which the server knows it again.
    async fn reach(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Response> {
        let again = request.try_clone();
        let error = match (request.send().await, again) {
            (Ok(response), _) => return Ok(response),
            (Err(error), Some(again)) if !error.is_timeout() && !error.is_builder() => {
                tokio::time::sleep(RETRY_DELAY).await;
                match again.send().await {
                    Ok(response) => return Ok(response),
                    Err(_) => error,
                }
            }
            (Err(error), _) => error,
        };
        let url = &self.url;
        if error.is_timeout() && !error.is_connect() {
            let secs = REQUEST_TIMEOUT.as_secs();
            bail!(
                "{url} did not answer within {secs} seconds; look whether it was done all the same"
            );
        }
        let mut cause: &dyn std::error::Error = &error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        bail!(
            "could not reach {url}: {cause}; is the server running, and is --url (VEXIL_URL) right?"
        )
    }
}

/// Says why, where the body has no place for it.
fn with_comment(
    request: reqwest::RequestBuilder,
    comment: Option<&str>,
) -> anyhow::Result<reqwest::RequestBuilder> {
    let Some(comment) = comment else { return Ok(request) };
    let value = HeaderValue::from_bytes(comment.as_bytes())
        .context("the comment has a line break or another character that cannot be sent")?;
    Ok(request.header("Vexil-Comment", value))
}

/// The body of an answer, or what is wrong.
async fn read_answer(response: Response, url: &str) -> anyhow::Result<Value> {
    let status = response.status();
    let header = |name| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let (location, retry_after) = (header(header::LOCATION), header(header::RETRY_AFTER));
    if status.is_redirection() {
        let elsewhere = location.unwrap_or_else(|| "elsewhere".to_owned());
        bail!(
            "{url} answered {} and points to {elsewhere}; give that server with --url",
            status.as_u16()
        );
    }
    let text = response.text().await.context("the answer did not arrive whole")?;
    let answer = match text.trim() {
        "" => Some(Value::Null),
        text => serde_json::from_str::<Value>(text).ok(),
    };
    match (answer, status.is_success()) {
        (Some(answer), true) => Ok(answer),
        (Some(answer @ Value::Object(_)), false) => {
            bail!("{}", explain(status.as_u16(), &answer, retry_after.as_deref()))
        }
        (answer, _) => {
            let excerpt: String = text.trim().chars().take(EXCERPT_CHARS).collect();
            let what = if answer.is_some() { "without a reason" } else { "with what is no JSON" };
            bail!("{url} answered {} {what}; is it a Vexil server? {excerpt}", status.as_u16())
        }
    }
}

/// Puts a problem document, or an error of OFREP, into a sentence or several.
fn explain(status: u16, answer: &Value, retry_after: Option<&str>) -> String {
    let text = |name: &str| answer.get(name).and_then(Value::as_str);
    let detail = text("detail").or_else(|| text("errorDetails")).unwrap_or("no detail was given");
    let code = text("code").or_else(|| text("errorCode")).unwrap_or("error");
    let mut sentence = format!("the server answered {status} {code}: {detail}");
    for error in answer.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        sentence.push_str(&format!("\n  {}: {}", part("path"), part("detail")));
    }
    let advice = match (status, code) {
        (401, _) => {
            Some("the token is that of --token, VEXIL_TOKEN or VEXIL_TOKEN_FILE".to_owned())
        }
        (400 | 403, "environment_required") => {
            Some("name it with --project and --environment".to_owned())
        }
        (412, _) => Some("read the flag again, and send the version that it has now".to_owned()),
        (422, "comment_required") => Some("say why with --comment".to_owned()),
        (428, _) => Some("give the flag's version with --if-match".to_owned()),
        (_, "history_regressed") => {
            Some("mend the database, or accept the loss with `vexil accept-history`".to_owned())
        }
        _ => retry_after.map(|secs| format!("try again in {secs} s")),
    };
    if let Some(advice) = advice {
        sentence.push_str(&format!("\n  {advice}"));
    }
    sentence
}
