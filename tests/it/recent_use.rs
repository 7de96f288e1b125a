//! Flags that are still evaluated are not archived by mistake; who deletes one means it.

use crate::harness::Backend;
use crate::harness::Server;
use crate::harness::eventually;
use reqwest::Method;
use serde_json::json;

const FLAGS: &str = "/api/v1/projects/shop/flags";
const APPLY: &str = "/api/v1/projects/shop/apply";

async fn evaluated(server: &Server, flags: &[&str]) {
    let client = server.with_environment().await;
    for flag in flags {
        server.flag_on(flag).await;
        for _ in 0..3 {
            client.value(flag, json!({})).await;
        }
    }
    let usage = "/api/v1/projects/shop/environments/production/usage";
    eventually("the counts are written", || async {
        let usage = server.admin.get(usage).await.expect(200);
        usage["items"].as_array().unwrap().len() == flags.len()
    })
    .await;
}

#[tokio::test]
async fn what_was_evaluated_in_the_last_week_is_not_put_away_unless_it_is_said() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        evaluated(&server, &["f", "g", "h", "i"]).await;
        server.flag("idle").await;
        let admin = &server.admin;
        let path = format!("{FLAGS}/f");
        let archive = |ignore: bool| json!({"instructions": [{"kind": "archiveFlag", "ignoreUsage": ignore}]});
        let refused = admin.patch(&path, archive(false)).await.expect(409);
        assert_eq!(refused["code"], "recently_used", "{refused}");
        let detail = refused["detail"].as_str().unwrap();
        assert!(detail.contains("3 times in `production`, last at 20"), "{detail}");
        let many = json!({"changes": [{"flag": "f", "instructions": [{"kind": "archiveFlag"}]}]});
        admin.post("/api/v1/projects/shop/changes", many).await.expect(409);
        admin.patch(&format!("{path}?dryRun=true"), archive(false)).await.expect(409);
        assert_eq!(admin.get(&path).await.expect(200)["archived"], false, "nothing was done");
        admin.patch(&path, archive(true)).await.expect(200);
        // Whoever deletes a flag by its key means it.
        assert_eq!(admin.delete(&format!("{path}?ignoreUsage=true")).await.status, 400);
        admin.delete(&path).await.expect(204);
        let delete = json!({"instructions": [{"kind": "deleteFlag"}]});
        admin.patch(&format!("{FLAGS}/g"), delete).await.expect(200);
        let both = json!({"instructions": [{"kind": "archiveFlag"}, {"kind": "deleteFlag"}]});
        admin.patch(&format!("{FLAGS}/i"), both).await.expect(200);
        let idle = json!({"instructions": [{"kind": "archiveFlag"}, {"kind": "deleteFlag"}]});
        admin.patch(&format!("{FLAGS}/idle"), idle).await.expect(200);
        let wrong = json!({"instructions": [{"kind": "archiveFlag", "ignoreUsage": "yes"}]});
        admin
            .send(admin.request(Method::PATCH, &format!("{FLAGS}/h")).json(&wrong))
            .await
            .expect(422);
    }
}

#[tokio::test]
async fn a_file_archives_what_is_evaluated_only_by_force() {
    let server = Server::start(Backend::Sqlite).await;
    evaluated(&server, &["f"]).await;
    let admin = &server.admin;
    let body = |force: bool| {
        json!({"force": force, "state": {"format": "vexil/1",
        "project": {"key": "shop"}, "flags": {"f": {"archived": true}}}})
    };
    let plan = admin.post("/api/v1/projects/shop/plan", body(false)).await.expect(200);
    assert_eq!(plan["notes"][0]["code"], "recently_used", "{plan}");
    assert_eq!(admin.post(APPLY, body(false)).await.expect(409)["code"], "recently_used");
    admin.post(APPLY, body(true)).await.expect(200);
    assert_eq!(admin.get(&format!("{FLAGS}/f")).await.expect(200)["archived"], true);
}
