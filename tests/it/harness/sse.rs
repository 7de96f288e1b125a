//! A reader of server-sent events.

use super::Client;
use super::PATIENCE;
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// How long a stream may be silent: longer than from one heartbeat to the next.
const SILENCE_MAX: Duration = PATIENCE.saturating_add(Duration::from_secs(10));

/// How often a position is asked for.
const TRIES_MAX: u32 = 5;

#[derive(Debug)]
pub struct Events {
    response: reqwest::Response,
    buffer: String,
    pub headers: reqwest::header::HeaderMap,
    /// The last `id:` that arrived, with an event or without.
    pub last_id: String,
    /// What the greeting said about connecting again.
    pub retry_ms: u32,
}

impl Events {
    /// Opens a stream; `last_event_id` continues an earlier one.
    pub async fn open(client: &Client, last_event_id: Option<&str>) -> Self {
        Self::open_at(client, "/api/v1/stream", last_event_id).await
    }

    /// Opens a stream at a path with a query.
    pub async fn open_at(client: &Client, path: &str, last_event_id: Option<&str>) -> Self {
        let ask = || {
            let request = client.request(Method::GET, path);
            let id = last_event_id.into_iter();
            id.fold(request, |request, id| request.header("Last-Event-ID", id)).send()
        };
        let mut response = ask().await.unwrap();
        for _ in 1..TRIES_MAX {
            // A replica on a busy machine may not be sure of a position within its second, and asks to be asked again.
            if last_event_id.is_some() && response.status().as_u16() == 503 {
                response = ask().await.unwrap();
            }
        }
        let mut events = Self::of_response(response);
        // The greeting, which has an id and no data.
        let greeting = events.block().await.expect("a greeting");
        let retry = greeting.lines().find_map(|line| line.strip_prefix("retry: "));
        events.retry_ms = retry.unwrap().parse().unwrap();
        events.note_id(&greeting);
        events
    }

    /// Opens a stream that begins without a greeting, as LaunchDarkly's SDKs want it.
    pub async fn open_bare(client: &Client, path: &str) -> Self {
        Self::of(client.request(Method::GET, path)).await
    }

    /// Opens a stream that begins without a greeting.
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        Self::of_response(request.send().await.unwrap())
    }

    fn of_response(response: reqwest::Response) -> Self {
        assert_eq!(response.status().as_u16(), 200);
        let headers = response.headers().clone();
        Self { response, buffer: String::new(), headers, last_id: String::new(), retry_ms: 0 }
    }

    /// The next change's data; `None` when the stream has ended or said goodbye.
    pub async fn next(&mut self) -> Option<Value> {
        let (name, data) = self.event().await?;
        (name == "change").then_some(data)
    }

    /// The name and the data (`null` if it is no JSON) of the next event of any name; `None` when the stream has ended.
    pub async fn event(&mut self) -> Option<(String, Value)> {
        loop {
            let block = self.block().await?;
            self.note_id(&block);
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                return Some((name.to_owned(), serde_json::from_str(data).unwrap_or_default()));
            }
        }
    }

    fn note_id(&mut self, block: &str) {
        if let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) {
            id.clone_into(&mut self.last_id);
        }
    }

    /// The next block as it stands on the wire, be it an event, a comment or the greeting.
    pub async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.buffer = rest;
                return Some(block);
            }
            let chunk = tokio::time::timeout(SILENCE_MAX, self.response.chunk()).await.unwrap();
            let chunk = chunk.ok()??;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }
}
