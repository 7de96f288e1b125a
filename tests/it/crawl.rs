//! Nothing of one project is reached or seen with a token of another: every route with every id that a crawl of it finds.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

const SHOP: &str = "/api/v1/projects/shop/environments/production";
/// A word in everything of the first project that people write.
const MARK: &str = "hush";
/// Path parameters of things that the other project lacks, and where their ids are found.
const PARAMETERS: &[(&str, &str)] =
    &[("{flag}", "flag"), ("{segment}", "segment"), ("{token}", "token"), ("{id}", "id")];

/// Makes one of everything in `shop`, and a project `blog` with nothing; returns the administrators of `shop` and of `blog`.
async fn two_projects(server: &Server) -> (Client, Client) {
    let admin = &server.admin;
    server.with_environment().await;
    server.flag_on("hush-flag").await;
    admin.post(&format!("{SHOP}/segments"), json!({"key": "hush-segment"})).await.expect(201);
    let trigger = json!({"name": "hush", "action": "kill"});
    admin.post(&format!("{SHOP}/flags/hush-flag/triggers"), trigger).await.expect(201);
    let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24);
    let plan = json!({"flag": "hush-flag", "at": at.to_string(), "comment": "hush",
        "instructions": [{"kind": "turnFlagOff"}]});
    admin.post(&format!("{SHOP}/schedule"), plan).await.expect(201);
    let of_shop = json!({"name": "hush", "role": "administrator", "project": "shop"});
    let made = admin.post("/api/v1/tokens", of_shop).await.expect(201);
    let own = admin.with_token(made["token"].as_str().unwrap());
    let body = json!({"comment": "hush", "instructions": [{"kind": "turnFlagOff"}]});
    admin.patch(&format!("{SHOP}/flags/hush-flag"), body).await.expect(200);
    admin.post("/kill?flag=hush-flag", json!({"comment": "hush"})).await.expect(200);
    admin.post("/api/v1/projects", json!({"key": "blog"})).await.expect(201);
    let environment = json!({"key": "production"});
    admin.post("/api/v1/projects/blog/environments", environment).await.expect(201);
    let of_blog = json!({"name": "blog", "role": "administrator", "project": "blog"});
    let made = admin.post("/api/v1/tokens", of_blog).await.expect(201);
    (own, admin.with_token(made["token"].as_str().unwrap()))
}

/// The routes with a project, an id or a list in them, as method and path, by the API document.
fn routes() -> Vec<(Method, String)> {
    let text = vexil::http::openapi::yaml().unwrap();
    let (mut routes, mut path) = (Vec::new(), "");
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("  ").and_then(|rest| rest.strip_suffix(':'))
            && found.starts_with('/')
        {
            path = found;
        }
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            let is_native = ["/api/v1/", "/kill", "/restore"].iter().any(|it| path.starts_with(it));
            if line == format!("    {}:", method.as_str().to_lowercase()) && is_native {
                routes.push((method, path.to_owned()));
            }
        }
    }
    routes
}

/// Every text below a field with one of these names.
fn collect(value: &Value, names: &[&str], found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if names.contains(&name.as_str()) => {
                        _ = found.insert(text.clone())
                    }
                    _ => collect(value, names, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, names, found)),
        _ => {}
    }
}

/// Reads everything of `shop` that an administrator can, again and again until no new id is found.
async fn crawl(admin: &Client) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    loop {
        let n_before = ids.len();
        for (method, route) in routes() {
            let is_of_shop = route.contains("{project}") || route == "/api/v1/tokens";
            if method != Method::GET || !is_of_shop {
                continue;
            }
            let base = route.replace("{project}", "shop").replace("{environment}", "production");
            let tried: Vec<String> = match PARAMETERS.iter().any(|(name, _)| base.contains(name)) {
                false => vec![base],
                true => ids.iter().map(|id: &String| filled(&base, id)).collect(),
            };
            for path in tried {
                let answer = admin.get(&path).await;
                assert!([200, 404, 400].contains(&answer.status), "{path}: {}", answer.text);
                let names = ["id", "key", "flag", "segment", "kill", "subject", "auditId"];
                if answer.status == 200 {
                    collect(&answer.body, &names, &mut ids);
                }
            }
        }
        ids.retain(|id| !["production", "on", "off", "shop", "blog"].contains(&id.as_str()));
        if ids.len() == n_before {
            return ids;
        }
    }
}

fn filled(route: &str, id: &str) -> String {
    let id = id.replace([' ', ',', '?', '#', '%', '`', '/'], "-");
    PARAMETERS.iter().fold(route.to_owned(), |path, (name, _)| path.replace(name, &id))
}

/// A body that the route takes, so that what is refused is not refused for its body.
fn body_of(method: &Method, route: &str) -> Value {
    let off = json!({"instructions": [{"kind": "turnFlagOff"}]});
    match (method.as_str(), route.rsplit('/').next().unwrap_or_default()) {
        ("PATCH", "{flag}") if route.contains("{environment}") => off,
        ("PATCH", "{flag}") => json!({"instructions": [{"kind": "updateName", "value": "x"}]}),
        ("PATCH", "{segment}") => json!({"instructions": [{"kind": "updateName", "value": "x"}]}),
        ("POST", "revert") => json!({"version": 1}),
        ("POST", "triggers") => json!({"name": "x", "action": "kill"}),
        _ => json!({}),
    }
}

#[tokio::test]
async fn every_id_of_a_project_is_unknown_to_the_others() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let (own, foreign) = two_projects(&server).await;
        let ids = crawl(&own).await;
        let count = |what: &str| ids.iter().filter(|id| id.contains(what)).count();
        assert!(ids.len() > 10 && count(MARK) >= 2, "{ids:?}");
        let before = server.admin.get("/api/v1/audit/head").await.expect(200)["seq"].clone();
        let mut tried: BTreeMap<u16, usize> = BTreeMap::new();
        for (method, route) in routes() {
            let has_id = PARAMETERS.iter().any(|(name, _)| route.contains(name));
            if !has_id && !route.contains("{project}") {
                continue;
            }
            for id in &ids {
                for project in ["shop", "blog"] {
                    if project == "blog" && !has_id {
                        continue;
                    }
                    let path = route.replace("{project}", project);
                    let path = filled(&path.replace("{environment}", "production"), id);
                    let body = body_of(&method, &route);
                    let answer =
                        foreign.send(foreign.request(method.clone(), &path).json(&body)).await;
                    let is_unknown = answer.status == 404
                        // What is no key at all is refused as that.
                        || answer.status == 400 && answer.body["code"] != "invalid_query"
                        || answer.status == 422 && project == "blog" && route.ends_with("{segment}");
                    assert!(is_unknown, "{method} {path}: {} {}", answer.status, answer.text);
                    assert!(
                        !answer.text.contains(MARK) || path.contains(MARK),
                        "{path}: {}",
                        answer.text
                    );
                    *tried.entry(answer.status).or_default() += 1;
                }
                if !has_id {
                    break;
                }
            }
        }
        assert!(tried[&404] > 100, "{tried:?}");
        for id in &ids {
            let restore =
                foreign.post(&format!("/restore?kill={}", filled("{id}", id)), json!({})).await;
            assert!([404, 409].contains(&restore.status), "{id}: {}", restore.text);
        }
        for (method, route) in routes() {
            let path = route.replace("{project}", "blog").replace("{environment}", "production");
            if method == Method::GET && !path.contains('{') && path != "/api/v1/stream" {
                let answer = foreign.get(&path).await;
                assert!(!answer.text.contains(MARK), "{path}: {}", answer.text);
                assert!(!answer.text.contains("\"shop\""), "{path}: {}", answer.text);
            }
        }
        let after = server.admin.get("/api/v1/audit/head").await.expect(200)["seq"].clone();
        assert_eq!(before, after, "nothing was done");
        let flag = server.admin.get(&format!("{SHOP}/flags/hush-flag")).await.expect(200);
        assert!(flag["killed"].is_object(), "{flag}");
    }
}
