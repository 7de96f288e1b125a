//! Every route of the control plane × every role × every scope, against the reviewed file `matrix.txt`.
//!
//! Each request has a parameter that no route knows, so that one which is allowed is answered 400 and does nothing.
//! `UPDATE_MATRIX=1` writes the file anew, to be reviewed.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use crate::harness::eventually;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::fmt::Write;

const ROLES: &[&str] =
    &["viewer", "editor", "releaser", "approver", "projectAdmin", "administrator", "auditor"];
/// What routes begin with that are not of the control plane; who may use them is tested where they are.
const DATA_PLANE: &[&str] = &[
    "/a/",
    "/all",
    "/api/v1/bootstrap",
    "/api/v1/evaluate",
    "/api/v1/stream",
    "/bulk",
    "/diagnostic",
    "/docs",
    "/eval/",
    "/events/",
    "/flags",
    "/health",
    "/livez",
    "/metrics",
    "/meval",
    "/mobile",
    "/mping",
    "/msdk/",
    "/ofrep/",
    "/openapi.yaml",
    "/ping/",
    "/readyz",
    "/sdk/",
    "/trigger/",
];
const HEAD: &str = "# Who may do what, route by route. A cell has a letter for each scope of the token: the installation, the project,
# the environment, another environment of the project, another project.
#   . allowed   r 403 role   s 403 scope   n 404   k 403 token_kind
# Rows that end in `protected` are those that differ when the environment is protected. That an editor may only turn
# flags off there depends on the body, and is tested with one.
";

/// Routes of the API document, as method and path.
fn routes() -> Vec<(Method, String)> {
    let text = vexil::http::openapi::yaml().unwrap();
    let mut routes = Vec::new();
    let mut path = "";
    for line in text.lines() {
        if let Some(found) = line.strip_prefix("  ").and_then(|rest| rest.strip_suffix(':'))
            && found.starts_with('/')
        {
            path = found;
        }
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE] {
            if line == format!("    {}:", method.as_str().to_lowercase())
                && !DATA_PLANE.iter().any(|start| path.starts_with(start))
            {
                routes.push((method, path.to_owned()));
            }
        }
    }
    assert!(routes.len() > 40, "{routes:?}");
    routes
}

fn filled(path: &str) -> String {
    let path = path.replace("{project}", "shop").replace("{environment}", "production");
    let path = path.replace("{flag}", "f").replace("{segment}", "s").replace("{token}", "t");
    let path = path.replace("{id}", "t");
    format!("{path}?matrix=1")
}

/// A token with a role for each scope, in the order of the letters.
async fn tokens(server: &Server, role: &str) -> Vec<Client> {
    let admin = &server.admin;
    let wide = json!({"name": "m", "role": role});
    let of_project = |project: &str| json!({"name": "m", "role": role, "project": project});
    let of_env = json!({"name": "m", "kind": "admin", "role": role});
    let mut tokens = Vec::new();
    for (path, body) in [
        ("/api/v1/tokens", wide),
        ("/api/v1/tokens", of_project("shop")),
        ("/api/v1/projects/shop/environments/production/tokens", of_env.clone()),
        ("/api/v1/projects/shop/environments/staging/tokens", of_env),
        ("/api/v1/tokens", of_project("blog")),
    ] {
        let made = admin.post(path, body).await.expect(201);
        tokens.push(admin.with_token(made["token"].as_str().unwrap()));
    }
    tokens
}

async fn letter(client: &Client, method: &Method, path: &str) -> char {
    let answer = client.raw(method.clone(), &filled(path), "").await;
    match (answer.status, answer.body["code"].as_str().unwrap_or_default()) {
        (400, "invalid_query") => '.',
        (403, "role") => 'r',
        (403, "scope") => 's',
        (403, "token_kind") => 'k',
        (404, "not_found") => 'n',
        other => panic!("{method} {path}: {other:?}"),
    }
}

async fn rows(server: &Server, columns: &[Vec<Client>]) -> Vec<(String, String)> {
    let mut rows = Vec::new();
    for (method, path) in routes() {
        let mut cells = Vec::new();
        for column in columns {
            let mut cell = String::new();
            for client in column {
                cell.push(letter(client, &method, &path).await);
            }
            cells.push(format!("{cell:<6}"));
        }
        rows.push((format!("{method} {path}"), cells.join(" ").trim_end().to_owned()));
    }
    assert!(server.admin.get("/api/v1/projects/shop").await.status == 200);
    rows
}

#[tokio::test]
async fn every_role_may_do_what_the_matrix_says_and_nothing_else() {
    let server = Server::start(Backend::Sqlite).await;
    let backend = server.with_environment().await;
    let admin = &server.admin;
    admin.post("/api/v1/projects/shop/environments", json!({"key": "staging"})).await.expect(201);
    admin.post("/api/v1/projects", json!({"key": "blog"})).await.expect(201);
    let mut columns = Vec::new();
    for role in ROLES {
        columns.push(tokens(&server, role).await);
    }
    columns.push(vec![backend]);
    let open = rows(&server, &columns).await;
    let environment = "/api/v1/projects/shop/environments/production";
    admin.patch(environment, json!({"protected": true})).await.expect(200);
    let protected = rows(&server, &columns).await;
    let heading: Vec<String> = ROLES.iter().map(|role| format!("{:<6}", &role[..4])).collect();
    let mut text = HEAD.to_owned();
    writeln!(text, "{:<96}{} server", "", heading.join(" ")).unwrap();
    for ((route, cells), (_, when_protected)) in open.iter().zip(&protected) {
        writeln!(text, "{route:<96}{cells}").unwrap();
        if cells != when_protected {
            writeln!(text, "{:<96}{when_protected}", format!("{route} protected")).unwrap();
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/matrix.txt");
    if std::env::var("UPDATE_MATRIX").is_ok() {
        std::fs::write(file, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(file).unwrap();
    for (is, should) in text.lines().zip(reviewed.lines()) {
        assert_eq!(is, should);
    }
    assert_eq!(text.lines().count(), reviewed.lines().count());
}

#[tokio::test]
async fn editors_only_turn_flags_off_in_protected_environments() {
    let server = Server::start(Backend::Postgres).await;
    server.with_environment().await;
    server.flag_on("f").await;
    let editor = server.token("admin", Some("editor")).await;
    let releaser = server.token("admin", Some("releaser")).await;
    let viewer = server.token("admin", Some("viewer")).await;
    let environment = "/api/v1/projects/shop/environments/production";
    server.admin.patch(environment, json!({"protected": true})).await.expect(200);
    let (on, off) = (json!([{"kind": "turnFlagOn"}]), json!([{"kind": "turnFlagOff"}]));
    assert_eq!(viewer.change("f", off.clone()).await.expect(403)["code"], "role");
    editor.change("f", off.clone()).await.expect(200);
    let refused = editor.change("f", on.clone()).await.expect(403);
    assert!(refused["detail"].as_str().unwrap().contains("releaser"), "{refused}");
    let both = json!([{"kind": "turnFlagOn"}, {"kind": "turnFlagOff"},
        {"kind": "updateOffVariation", "variation": "on"}]);
    editor.change("f", both).await.expect(403);
    releaser.change("f", on).await.expect(200);
    editor.post("/kill/f", json!({})).await.expect(200);
    editor.post("/restore/f", json!({})).await.expect(200);
    let segment = json!({"key": "s"});
    let segments = format!("{environment}/segments");
    editor.post(&segments, segment.clone()).await.expect(403);
    releaser.post(&segments, segment).await.expect(201);
    let editor_of_project = json!({"name": "e", "role": "editor", "project": "shop"});
    let made = server.admin.post("/api/v1/tokens", editor_of_project).await.expect(201);
    let editor = server.admin.with_token(made["token"].as_str().unwrap());
    // A definition is the same everywhere, in protected environments too.
    let flags = "/api/v1/projects/shop/flags";
    editor.post(flags, json!({"key": "new", "kind": "boolean"})).await.expect(201);
    assert_eq!(editor.delete(&format!("{flags}/f")).await.expect(403)["code"], "role");
    server.admin.patch(environment, json!({"protected": false})).await.expect(200);
    eventually("the protection ends", || async {
        editor.delete(&format!("{flags}/f")).await.status == 204
    })
    .await;
}

#[tokio::test]
async fn nobody_hands_out_more_than_their_own_rights() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    let project_admin = server.token("admin", Some("projectAdmin")).await;
    let tokens = "/api/v1/projects/shop/environments/production/tokens";
    let of = |role: &str| json!({"name": "t", "kind": "admin", "role": role});
    for role in ["viewer", "editor", "releaser", "approver", "projectAdmin"] {
        project_admin.post(tokens, of(role)).await.expect(201);
    }
    for role in ["administrator", "auditor"] {
        assert_eq!(project_admin.post(tokens, of(role)).await.expect(403)["code"], "role");
    }
    let made = server.admin.post(tokens, of("administrator")).await.expect(201);
    let own = format!("{tokens}/{}", made["id"].as_str().unwrap());
    project_admin.post(&format!("{own}/rotate"), json!({})).await.expect(403);
    project_admin.delete(&own).await.expect(403);
    let auditor = server.token("admin", Some("auditor")).await;
    assert_eq!(auditor.get(tokens).await.status, 200);
    assert_eq!(auditor.get("/api/v1/audit/export").await.expect(403)["code"], "scope");
}

/// Each path that an administrator of `shop` can see, with every id in it.
fn paths_of(ids: &[Value]) -> Vec<String> {
    let environment = "/api/v1/projects/shop/environments/production";
    let mut paths = vec![
        "/api/v1/projects/shop".to_owned(),
        "/api/v1/projects/shop/flags".to_owned(),
        "/api/v1/projects/shop/flags/f".to_owned(),
        "/api/v1/projects/shop/audit".to_owned(),
        "/api/v1/projects/shop/environments".to_owned(),
        environment.to_owned(),
    ];
    for below in
        ["flags", "flags/f", "flags/f/history", "segments", "segments/s", "tokens", "audit"]
    {
        paths.push(format!("{environment}/{below}"));
    }
    for id in ids {
        paths.push(format!("{environment}/tokens/{}", id.as_str().unwrap()));
        paths.push(format!("/api/v1/tokens/{}", id.as_str().unwrap()));
    }
    paths
}

#[tokio::test]
async fn nothing_of_another_project_exists() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag_on("f").await;
    let admin = &server.admin;
    let environment = "/api/v1/projects/shop/environments/production";
    admin.post(&format!("{environment}/segments"), json!({"key": "s"})).await.expect(201);
    let of_shop = json!({"name": "shop", "role": "administrator", "project": "shop"});
    let own_id = admin.post("/api/v1/tokens", of_shop).await.expect(201)["id"].clone();
    admin.post("/api/v1/projects", json!({"key": "blog"})).await.expect(201);
    let environments = "/api/v1/projects/blog/environments";
    admin.post(environments, json!({"key": "production"})).await.expect(201);
    let of_blog = json!({"name": "blog", "role": "administrator", "project": "blog"});
    let made = admin.post("/api/v1/tokens", of_blog).await.expect(201);
    let foreign = admin.with_token(made["token"].as_str().unwrap());
    let mut ids = vec![own_id.clone()];
    for token in
        admin.get(&format!("{environment}/tokens")).await.expect(200)["items"].as_array().unwrap()
    {
        ids.push(token["id"].clone());
    }
    for path in paths_of(&ids) {
        for method in [Method::GET, Method::PATCH, Method::PUT, Method::DELETE, Method::POST] {
            let status = foreign.raw(method.clone(), &path, "{}").await.status;
            assert!(status == 404 || status == 405, "{method} {path}: {status}");
        }
    }
    for path in ["/kill/f", "/restore/f", "/kill/f?project=shop&environment=production"] {
        foreign.post(path, json!({})).await.expect(404);
    }
    for id in &ids {
        let own = format!(
            "/api/v1/projects/blog/environments/production/tokens/{}",
            id.as_str().unwrap()
        );
        foreign.delete(&own).await.expect(404);
        foreign.post(&format!("{own}/rotate"), json!({})).await.expect(404);
        let wide = format!("/api/v1/tokens/{}/rotate", id.as_str().unwrap());
        foreign.post(&wide, json!({})).await.expect(404);
    }
    for list in ["/api/v1/projects", "/api/v1/tokens"] {
        let text = foreign.get(list).await.text;
        assert!(!text.contains("shop"), "{text}");
    }
    assert_eq!(admin.get(&format!("{environment}/flags/f")).await.expect(200)["on"], true);
}
