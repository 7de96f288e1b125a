//! The API document as a page to be read, at `/docs`.
//!
//! Written here and not by a script in the browser, so that it works without the internet, on a phone and in a text browser.
//! What the document says is in `openapi`.

use crate::http::error::ApiError;
use crate::http::openapi;
use axum::http::HeaderValue;
use axum::http::header;
use axum::response::IntoResponse;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::Digest;
use sha2::Sha256;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

const STYLE: &str = "body{font:1rem/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;overflow-wrap:anywhere;color:#1b1f24;background:#fff}\
h2{margin-top:3rem;border-bottom:2px solid #ccd}h3{margin:2rem 0 .5rem;overflow-wrap:anywhere}code,pre{font:.875rem/1.45 ui-monospace,monospace}\
pre{background:#f4f5f8;padding:.75rem;overflow-x:auto}h3 b{color:#0a5}table{border-collapse:collapse;display:block;overflow-x:auto}\
td,th{padding:.25rem .75rem .25rem 0;text-align:left;vertical-align:top;border-bottom:1px solid #dde}a{color:#0550ae}\
nav ul{columns:18rem;padding-left:1.2rem}@media(prefers-color-scheme:dark){body{background:#14171c;color:#e2e5ea}pre{background:#20252d}a{color:#79b8ff}h3 b{color:#5d9}}";

static PAGE: LazyLock<Result<String, String>> = LazyLock::new(|| {
    let document = openapi::value().map_err(|error| error.to_string())?;
    Ok(render(document).unwrap_or_default())
});
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(Sha256::digest(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Shows the description of this API as a page.
#[utoipa::path(get, path = "/docs", tag = "operations", security(()),
    responses((status = 200, description = "The page.", body = String, content_type = "text/html")))]
pub(crate) async fn show_docs() -> Response {
    let page = match &*PAGE {
        Ok(page) => page.as_str(),
        Err(error) => {
            tracing::error!(%error, "cannot write the page of the API document");
            return ApiError::internal().into_response();
        }
    };
    let mut response = page.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::try_from(POLICY.as_str()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// An operation and where it is.
struct Entry<'d> {
    id: &'d str,
    method: String,
    path: &'d str,
    operation: &'d Value,
}

fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'v>(value: &'v Value, field: &str) -> impl Iterator<Item = (&'v String, &'v Value)> {
    value.get(field).and_then(Value::as_object).into_iter().flatten()
}

fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

/// Prose, in which what stands between backticks is code.
fn prose(text: &str) -> String {
    let mut html = String::new();
    for (i, part) in text.split('`').enumerate() {
        let part = escape(part);
        html.push_str(&if i % 2 == 1 { format!("<code>{part}</code>") } else { part });
    }
    html
}

/// Entries by their tags.
fn grouped(document: &Value) -> BTreeMap<&str, Vec<Entry<'_>>> {
    let mut groups: BTreeMap<&str, Vec<Entry<'_>>> = BTreeMap::new();
    for (path, item) in items(document, "paths") {
        for (method, operation) in item.as_object().into_iter().flatten() {
            let tag = operation.pointer("/tags/0").and_then(Value::as_str).unwrap_or("other");
            let method = method.to_uppercase();
            let entry = Entry { id: text(operation, "operationId"), method, path, operation };
            groups.entry(tag).or_default().push(entry);
        }
    }
    groups
}

fn render(document: &Value) -> Result<String, std::fmt::Error> {
    let info = document.get("info").unwrap_or(&Value::Null);
    let mut html = String::from("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    write!(
        html,
        "<meta name=\"viewport\" content=\"width=device-width\"><title>Vexil: API</title>"
    )?;
    write!(html, "<style>{STYLE}</style></head><body><h1>Vexil: API</h1>")?;
    write!(html, "<p>{}</p>", prose(text(info, "description")))?;
    write!(html, "<p>The same for programs: <a href=\"openapi.yaml\">openapi.yaml</a>.</p><nav>")?;
    let groups = grouped(document);
    for (tag, entries) in &groups {
        write!(html, "<h4><a href=\"#tag-{0}\">{0}</a></h4><ul>", escape(tag))?;
        for Entry { id, .. } in entries {
            write!(html, "<li><a href=\"#{0}\">{0}</a></li>", escape(id))?;
        }
        write!(html, "</ul>")?;
    }
    write!(html, "</nav>")?;
    for (tag, entries) in &groups {
        write!(html, "<section><h2 id=\"tag-{0}\">{0}</h2>", escape(tag))?;
        for entry in entries {
            write_operation(&mut html, entry)?;
        }
        write!(html, "</section>")?;
    }
    write!(html, "<h2 id=\"schemas\">Schemas</h2>")?;
    let schemas = document.pointer("/components/schemas").and_then(Value::as_object);
    for (name, schema) in schemas.into_iter().flatten() {
        let name = escape(name);
        write!(
            html,
            "<h3 id=\"schema-{name}\">{name}</h3><p>{}</p>",
            prose(text(schema, "description"))
        )?;
        write!(html, "<pre>{}</pre>", escape(&pretty(schema)))?;
    }
    html.push_str("</body></html>\n");
    Ok(html)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn write_operation(html: &mut String, entry: &Entry<'_>) -> std::fmt::Result {
    let Entry { id, method, path, operation } = entry;
    let (id, path_html) = (escape(id), escape(path));
    write!(html, "<h3 id=\"{id}\"><b>{method}</b> <code>{path_html}</code></h3>")?;
    write!(html, "<p>{} <a href=\"#{id}\">{id}</a></p>", prose(text(operation, "summary")))?;
    let description = text(operation, "description");
    if !description.is_empty() {
        write!(html, "<p>{}</p>", prose(description))?;
    }
    let parameters = operation.get("parameters").and_then(Value::as_array);
    if let Some(parameters) = parameters.filter(|all| !all.is_empty()) {
        write!(html, "<table><tr><th>Parameter</th><th>In</th><th></th></tr>")?;
        for each in parameters {
            let (name, place) = (escape(text(each, "name")), escape(text(each, "in")));
            let description = prose(text(each, "description"));
            write!(
                html,
                "<tr><td><code>{name}</code></td><td>{place}</td><td>{description}</td></tr>"
            )?;
        }
        write!(html, "</table>")?;
    }
    let body = operation.get("requestBody").unwrap_or(&Value::Null);
    let example = items(body, "content").find_map(|(_, content)| content.get("example"));
    for (content_type, content) in items(body, "content") {
        write!(html, "<p>Body: <code>{}</code> {}</p>", escape(content_type), link(content))?;
    }
    write!(html, "<pre>{}</pre>", escape(&command(entry, example)))?;
    write!(html, "<table><tr><th>Answer</th><th></th><th></th></tr>")?;
    for (code, answer) in items(operation, "responses") {
        let reference = text(answer, "$ref");
        let name = reference.rsplit('/').next().unwrap_or_default();
        let answer = openapi::value()
            .ok()
            .and_then(|all| all.pointer(&format!("/components/responses/{name}")))
            .unwrap_or(answer);
        let bodies: Vec<String> = items(answer, "content")
            .map(|(content_type, content)| {
                format!("<code>{}</code> {}", escape(content_type), link(content))
            })
            .collect();
        let description = prose(text(answer, "description"));
        write!(
            html,
            "<tr><td>{}</td><td>{description}</td><td>{}</td></tr>",
            escape(code),
            bodies.join("<br>")
        )?;
    }
    write!(html, "</table>")?;
    for (code, answer) in items(operation, "responses") {
        for example in items(answer, "content").filter_map(|(_, content)| content.get("example")) {
            write!(html, "<p>{}, for example:</p>", escape(code))?;
            write!(html, "<pre>{}</pre>", escape(&pretty(example)))?;
        }
    }
    Ok(())
}

/// Links to the schema of a body, or to those that it has together.
fn link(content: &Value) -> String {
    let schema = content.get("schema");
    let together = schema.and_then(|schema| schema.get("allOf")?.as_array()).into_iter().flatten();
    let references = schema.into_iter().chain(together).map(|schema| text(schema, "$ref"));
    let names = references.filter_map(|reference| reference.rsplit('/').next());
    let link = |name: &str| format!("<a href=\"#schema-{0}\">{0}</a>", escape(name));
    let links: Vec<String> = names.filter(|name| !name.is_empty()).map(link).collect();
    links.join(", ")
}

/// The request as it can be pasted into a shell.
fn command(entry: &Entry<'_>, example: Option<&Value>) -> String {
    let Entry { method, path, operation, .. } = entry;
    let path = path.replace("{project}", "shop").replace("{environment}", "production");
    let path = path.replace("{flag}", "checkout-v2").replace("{key}", "checkout-v2");
    let path = path.replace("{segment}", "beta");
    let mut line = format!("curl -X {method} \"$VEXIL_URL{path}\"");
    if !operation.get("security").is_some_and(Value::is_array) {
        line.push_str(" \\\n  -H \"Authorization: Bearer $VEXIL_TOKEN\"");
    }
    if operation.get("requestBody").is_some() {
        line.push_str(" \\\n  -H 'Content-Type: application/json'");
        let body = example.map_or("{}".to_owned(), Value::to_string);
        line.push_str(" \\\n  -d '");
        // A quotation mark in a quoted text ends the text, is escaped, and begins another one.
        line.push_str(&body.replace('\'', "'\\''"));
        line.push('\'');
    }
    line
}
