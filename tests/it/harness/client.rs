//! A client of one server with one token.

use crate::harness::eventually;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

#[derive(Debug, Clone)]
pub struct Client {
    pub http: reqwest::Client,
    pub url: String,
    pub token: String,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    /// The body as JSON; `null` if it is none.
    pub body: Value,
}

impl Answer {
    /// The body of an answer that must have this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// The text of an answer that must be 200.
    #[track_caller]
    pub fn expect_text(self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.text
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Client {
    pub fn new(url: &str, token: &str) -> Self {
        let http = reqwest::Client::builder().build().unwrap();
        Self { http, url: url.to_owned(), token: token.to_owned() }
    }

    /// The same server, with another token.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: token.to_owned(), ..self.clone() }
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or_default();
        Answer { status, headers, text, body }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::POST, path).json(&body)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(Method::PATCH, path).json(&body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// Sends a body as it is.
    pub async fn raw(&self, method: Method, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        self.send(self.request(method, path).body(body)).await
    }

    /// Evaluates one flag.
    pub async fn evaluate(&self, flag: &str, context: Value) -> Answer {
        let path = format!("/ofrep/v1/evaluate/flags/{flag}");
        self.post(&path, json!({"context": context})).await
    }

    /// The value of one flag.
    pub async fn value(&self, flag: &str, context: Value) -> Value {
        self.evaluate(flag, context).await.expect(200)["value"].clone()
    }

    /// Applies instructions to a flag of the standard environment.
    pub async fn change(&self, flag: &str, instructions: Value) -> Answer {
        let path = format!("/api/v1/projects/shop/environments/production/flags/{flag}");
        self.patch(&path, json!({"instructions": instructions})).await
    }

    /// Waits until `/readyz` says so; it must be 200 all the while.
    pub async fn becomes(&self, field: &str, value: impl Into<Value>) {
        let value = value.into();
        eventually(&format!("{field} is {value}"), || async {
            self.get("/readyz").await.expect(200)[field] == value
        })
        .await;
    }

    /// Waits until an evaluation of the flag is answered so.
    pub async fn evaluates_with(&self, flag: &str, status: u16) {
        eventually(&format!("an evaluation is answered {status}"), || async {
            self.evaluate(flag, json!({})).await.status == status
        })
        .await;
    }

    /// Kills a flag as soon as the server writes again.
    pub async fn kills_again(&self, flag: &str) {
        eventually("a write works again", || async {
            self.post(&format!("/kill/{flag}"), json!({})).await.status == 200
        })
        .await;
    }
}
