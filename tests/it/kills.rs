//! Kills of many flags at once, and undoing exactly that.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use crate::harness::command;
use crate::lab::is_full;
use crate::lab::kept;
use crate::lab::size;
use futures_util::future::join_all;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// Flags that are killed at once: in tests, and as many as is promised.
const KILLED: [usize; 2] = [50, 500];
/// How long an emergency of so many flags may take. Only asserted at full size: a busy machine proves nothing.
const EMERGENCY_MAX: Duration = Duration::from_secs(1);
const AUDIT: &str = "/api/v1/projects/shop/environments/production/audit?limit=1";

/// Changes in one request.
const CHANGES_AT_ONCE: usize = 50;

/// Flags with the tag `experimental` that are on: `f0`, `f1`, ….
pub(crate) async fn tagged(server: &Server, n: usize) -> Client {
    let client = server.with_environment().await;
    for i in 0..n {
        let body = json!({"key": format!("f{i}"), "kind": "boolean", "tags": ["experimental"]});
        server.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }
    let on = |i: &usize| json!({"flag": format!("f{i}"), "environment": "production", "instructions": [{"kind": "turnFlagOn"}]});
    let all: Vec<usize> = (0..n).collect();
    for some in all.chunks(CHANGES_AT_ONCE) {
        let body = json!({"changes": some.iter().map(on).collect::<Vec<Value>>()});
        server.admin.post("/api/v1/projects/shop/changes", body).await.expect(200);
    }
    server.flag_on("other").await;
    client
}

#[tokio::test]
async fn a_tag_is_killed_and_restored_but_for_what_was_changed_in_between() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = tagged(&server, 12).await;
        let admin = &server.admin;
        let killed =
            admin.post("/kill?tag=experimental", json!({"comment": "stop"})).await.expect(200);
        assert_eq!(killed["flags"].as_array().unwrap().len(), 12);
        assert_eq!(killed["flags"][0], json!({"flag": "f0", "was": {"on": true}}));
        assert_eq!(client.value("f3", json!({})).await, false);
        assert_eq!(client.value("other", json!({})).await, true);
        let entry = admin.get(AUDIT).await.expect(200)["items"][0].clone();
        assert_eq!(
            (&entry["action"], &entry["version"]),
            (&json!("flag.kill"), &killed["version"])
        );
        let again = admin.post("/kill?tag=experimental", json!({})).await.expect(200);
        assert_eq!((&again["kill"], &again["version"]), (&Value::Null, &killed["version"]));
        assert_eq!(again["alreadyKilled"].as_array().unwrap().len(), 12);
        admin.change("f1", json!([{"kind": "turnFlagOn"}])).await.expect(200);
        admin.change("f2", json!([{"kind": "turnFlagOff"}])).await.expect(200);
        admin
            .change(
                "f3",
                json!([{"kind": "updateFallthroughVariationOrRollout", "variation": "off"}]),
            )
            .await
            .expect(200);
        let restored = admin.post("/restore?tag=experimental", json!({})).await.expect(200);
        let left: Vec<&str> = restored["leftAlone"]
            .as_array()
            .unwrap()
            .iter()
            .map(|left| left["flag"].as_str().unwrap())
            .collect();
        assert_eq!(left, ["f1", "f2", "f3"]);
        assert_eq!(restored["flags"].as_array().unwrap().len(), 9);
        assert_eq!(client.value("f4", json!({})).await, true);
        assert_eq!(client.value("f2", json!({})).await, false);
        let entry = admin.get(AUDIT).await.expect(200)["items"][0].clone();
        assert_eq!(
            (&entry["action"], &entry["version"]),
            (&json!("flag.restore"), &restored["version"])
        );
        assert_eq!(admin.post("/restore/f3", json!({})).await.expect(200)["on"], true);
        let nothing = admin.post("/restore?tag=experimental", json!({})).await.expect(409);
        assert_eq!(nothing["code"], "not_killed");
    }
}

#[tokio::test]
async fn hundreds_of_flags_are_killed_at_once() {
    let n = size(KILLED[0], KILLED[1]);
    let (started, mut found) = (Instant::now(), Vec::new());
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = tagged(&server, n).await;
        let admin = &server.admin;
        let environment = "/api/v1/projects/shop/environments/production";
        let version =
            async || admin.get(environment).await.expect(200)["version"].as_i64().unwrap();
        let head =
            async || admin.get("/api/v1/audit/head").await.expect(200)["seq"].as_i64().unwrap();
        for by in ["curl", "vexil"] {
            let (version_before, head_before) = (version().await, head().await);
            let (killed, took) = emergency(&server, by, "kill").await;
            assert_eq!(killed, (n, Vec::new()));
            assert_eq!(version().await, version_before + 1);
            assert_eq!(head().await, head_before + 1);
            assert_eq!(client.value("f7", json!({})).await, false);
            for flag in ["f1", "f2", "f3"] {
                admin.change(flag, json!([{"kind": "turnFlagOn"}])).await.expect(200);
            }
            let (version_before, head_before) = (version().await, head().await);
            let (restored, back) = emergency(&server, by, "restore").await;
            assert_eq!(restored, (n - 3, ["f1", "f2", "f3"].map(str::to_owned).to_vec()));
            assert_eq!(version().await, version_before + 1);
            assert_eq!(head().await, head_before + 1);
            assert_eq!(client.value("f7", json!({})).await, true);
            let (took, back) = (took.as_millis(), back.as_millis());
            found.push(format!("{backend} by `{by}`: killed in {took} ms, restored in {back} ms"));
        }
    }
    let what = format!(
        "{n} flags with a tag, by one line each; one version and one audit entry, and of the restore too, which names the 3 that were changed in between"
    );
    kept("an emergency ends in a second", &what, started, &found.join("; "));
}

/// Kills or restores whatever has the tag by one line in a shell; returns of how many flags it told, which it left alone, and
/// how long it took.
async fn emergency(server: &Server, by: &str, action: &str) -> ((usize, Vec<String>), Duration) {
    let mut program = match by {
        "curl" => {
            let mut curl = tokio::process::Command::new("curl");
            let bearer = format!("Authorization: Bearer {}", server.admin.token);
            let url = format!("{}/{action}?tag=experimental", server.url);
            curl.args(["-fsS", "-X", "POST", "-H", &bearer, &url]);
            curl
        }
        _ => {
            let mut vexil = command();
            vexil.args([action, "--tag", "experimental", "--yes"]);
            vexil.env("VEXIL_URL", &server.url).env("VEXIL_TOKEN", &server.admin.token);
            vexil
        }
    };
    let began = Instant::now();
    let done = program.output().await.unwrap();
    let took = began.elapsed();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(!is_full() || took < EMERGENCY_MAX, "{action} by {by} took {took:?}");
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    let names = |list: &Value| -> Vec<String> {
        let all = list.as_array().into_iter().flatten();
        all.map(|each| each["flag"].as_str().unwrap().to_owned()).collect()
    };
    if by == "curl" {
        return ((names(&told["flags"]).len(), names(&told["leftAlone"])), took);
    }
    let words = String::from_utf8_lossy(&done.stderr);
    let left = words.lines().filter_map(|line| line.strip_prefix("left `")?.split('`').next());
    ((names(&told).len(), left.map(str::to_owned).collect()), took)
}

#[tokio::test]
async fn one_kill_is_undone_and_no_other() {
    let server = Server::start(Backend::Sqlite).await;
    let client = tagged(&server, 3).await;
    let admin = &server.admin;
    admin.post("/kill/f0", json!({})).await.expect(200);
    let killed = admin
        .post("/kill", json!({"flags": ["f1", "other"], "tags": ["experimental"]}))
        .await
        .expect(200);
    assert_eq!(killed["alreadyKilled"], json!(["f0"]));
    let restore = format!("/restore?kill={}", killed["kill"].as_str().unwrap());
    let restored = admin.post(&restore, json!({})).await.expect(200);
    assert_eq!(restored["flags"].as_array().unwrap().len(), 3);
    assert_eq!(restored["leftAlone"], json!([]));
    assert_eq!(client.value("f0", json!({})).await, false, "it was another kill");
    assert_eq!(admin.post(&restore, json!({})).await.expect(409)["code"], "not_killed");
}

#[tokio::test]
async fn a_restore_by_tag_undoes_kills_by_that_tag_and_names_what_was_killed_otherwise() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = tagged(&server, 3).await;
        let admin = &server.admin;
        admin.post("/kill/f0", json!({})).await.expect(200);
        let killed = admin.post("/kill?tag=experimental", json!({})).await.expect(200);
        assert_eq!(killed["alreadyKilled"], json!(["f0"]));
        let restored = admin.post("/restore?tag=experimental", json!({})).await.expect(200);
        let on = json!([{"flag": "f1", "on": true}, {"flag": "f2", "on": true}]);
        assert_eq!(restored["flags"], on);
        assert_eq!(restored["leftAlone"][0]["flag"], "f0", "{restored}");
        let reason = restored["leftAlone"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("restore it by its key"), "{reason}");
        assert_eq!(client.value("f0", json!({})).await, false);
        // It is still killed, and says so again.
        let again = admin.post("/restore?tag=experimental", json!({})).await.expect(200);
        assert_eq!((&again["flags"], &again["leftAlone"]), (&json!([]), &restored["leftAlone"]));
        assert_eq!(again["version"], restored["version"]);
        assert_eq!(
            admin.post("/restore?flag=f0", json!({})).await.expect(200)["leftAlone"],
            json!([])
        );
    }
}

#[tokio::test]
async fn a_kill_by_tag_is_over_when_each_of_its_flags_was_restored() {
    let server = Server::start(Backend::Sqlite).await;
    tagged(&server, 2).await;
    let admin = &server.admin;
    let killed = admin.post("/kill?tag=experimental", json!({})).await.expect(200);
    for flag in ["f0", "f1"] {
        admin.post(&format!("/restore/{flag}"), json!({})).await.expect(200);
    }
    let by_id = format!("/restore?kill={}", killed["kill"].as_str().unwrap());
    for path in
        [&*by_id, "/restore?tag=experimental", "/restore?flag=f0", "/restore?flag=f0&flag=f1"]
    {
        let nothing = admin.post(path, json!({})).await.expect(409);
        assert_eq!(nothing["code"], "not_killed", "{path}");
    }
    // What was not killed is named beside what is restored.
    admin.post("/kill/f0", json!({})).await.expect(200);
    let both = admin.post("/restore?flag=f0&flag=f1", json!({})).await.expect(200);
    assert_eq!(both["leftAlone"], json!([{"flag": "f1", "reason": "is not killed"}]));
    // The kill that is over is not told of a second time.
    admin.post("/kill?tag=experimental", json!({})).await.expect(200);
    let restored = admin.post("/restore?tag=experimental", json!({})).await.expect(200);
    assert_eq!(
        (restored["flags"].as_array().unwrap().len(), &restored["leftAlone"]),
        (2, &json!([]))
    );
}

#[tokio::test]
async fn a_name_that_means_nothing_kills_nothing() {
    let server = Server::start(Backend::Sqlite).await;
    let client = tagged(&server, 2).await;
    let admin = &server.admin;
    for (path, body, status) in [
        ("/kill?tag=no-such", json!({}), 404),
        ("/kill?flag=f0&flag=none", json!({}), 404),
        ("/kill", json!({}), 400),
        ("/kill?tag=", json!({}), 400),
        ("/kill?tga=experimental", json!({}), 400),
        ("/kill?kill=x", json!({}), 400),
        ("/kill?flag=!", json!({}), 400),
        ("/kill", json!({"flags": ["!"]}), 422),
        ("/restore", json!({"flags": ["f0", "none"]}), 404),
    ] {
        assert_eq!(admin.post(path, body).await.status, status, "{path}");
    }
    assert_eq!(client.value("f0", json!({})).await, true);
    let viewer = server.token("admin", Some("viewer")).await;
    assert_eq!(viewer.post("/kill?tag=experimental", json!({})).await.status, 403);
}

#[tokio::test]
async fn the_command_line_kills_and_restores_by_tag() {
    let server = Server::start(Backend::Sqlite).await;
    let client = tagged(&server, 3).await;
    let run = async |args: &[&str]| {
        let output = command()
            .args(args)
            .env("VEXIL_URL", &server.url)
            .env("VEXIL_TOKEN", &server.admin.token)
            .output()
            .await
            .unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {complaint}");
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), complaint)
    };
    let (killed, _) = run(&["kill", "--tag", "experimental", "--yes"]).await;
    assert_eq!(killed.as_array().unwrap().len(), 3);
    assert_eq!(killed[0]["environment"], "production");
    assert_eq!(client.value("f2", json!({})).await, false);
    server.admin.change("f1", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    let (restored, complaint) = run(&["restore", "--tag", "experimental"]).await;
    assert_eq!(restored.as_array().unwrap().len(), 2);
    assert!(complaint.contains("left `f1` alone"), "{complaint}");
}

#[tokio::test]
async fn a_trigger_kills_without_a_token_and_undoes_its_own_kill_only() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        server.flag_on("f").await;
        let triggers = "/api/v1/projects/shop/environments/production/flags/f/triggers";
        let body = json!({"name": "errors", "action": "kill", "restoreWhenResolved": true});
        let made = server.admin.post(triggers, body).await.expect(201);
        let url = made["url"].as_str().unwrap().to_owned();
        let nobody = server.admin.with_token("");
        let call = async |status: &str| {
            // At most two calls in a second are answered.
            loop {
                let body = json!({"version": "4", "status": status, "alerts": []});
                let answer = nobody.post(&url, body).await;
                if answer.status != 429 {
                    return answer.expect(200);
                }
            }
        };
        let fired = call("firing").await;
        assert_eq!(fired, json!({"flag": "f", "environment": "production", "done": "kill"}));
        assert_eq!(client.value("f", json!({})).await, false);
        assert_eq!(call("firing").await["done"], Value::Null);
        let entry = server.admin.get(AUDIT).await.expect(200)["items"][0].clone();
        assert_eq!((&entry["action"], &entry["actor"]["id"]), (&json!("flag.kill"), &made["id"]));
        assert_eq!(call("resolved").await["done"], "restore");
        assert_eq!(client.value("f", json!({})).await, true);
        server.admin.post("/kill/f", json!({})).await.expect(200);
        assert_eq!(call("resolved").await["done"], Value::Null, "people have killed it");
        let listed = server.admin.get(triggers).await;
        assert!(!listed.text.contains(url.trim_start_matches("/trigger/")), "{}", listed.text);
        let id = listed.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
        server.admin.delete(&format!("{triggers}/{id}")).await.expect(204);
        for path in [url.as_str(), "/trigger/vxt_guessed"] {
            let refused = nobody.post(path, json!({})).await.status;
            assert!([404, 429].contains(&refused), "{path}: {refused}");
        }
        let wrong = server.admin.post(triggers, json!({"name": "x", "action": "explode"})).await;
        assert_eq!(wrong.expect(422)["code"], "unknown_value");
    }
}

const TRIGGERS: &str = "/api/v1/projects/shop/environments/production/flags/f/triggers";

/// Makes a trigger of the flag `f` and returns its path.
async fn trigger(server: &Server, action: &str) -> String {
    let body = json!({"name": "errors", "action": action, "restoreWhenResolved": action == "kill"});
    server.admin.post(TRIGGERS, body).await.expect(201)["url"].as_str().unwrap().to_owned()
}

/// Calls a trigger, of whose calls at most two in a second are answered.
async fn call(server: &Server, url: &str, status: &str) -> Value {
    let nobody = server.admin.with_token("");
    loop {
        let answer = nobody.post(url, json!({"version": "4", "status": status})).await;
        if answer.status != 429 {
            return answer.expect(200);
        }
    }
}

#[tokio::test]
async fn a_person_takes_over_what_a_trigger_has_killed() {
    for (backend, kill) in [
        (Backend::Sqlite, "/kill/f"),
        (Backend::Sqlite, "/kill?flag=f"),
        (Backend::Postgres, "/kill/f"),
        (Backend::Postgres, "/kill?flag=f"),
    ] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        server.flag_on("f").await;
        let url = trigger(&server, "kill").await;
        assert_eq!(call(&server, &url, "firing").await["done"], "kill");
        let first = server.admin.post(kill, json!({})).await.expect(200);
        let again = server.admin.post(kill, json!({})).await.expect(200);
        assert_eq!(first["version"], again["version"], "only the first one changes something");
        let entry = server.admin.get(AUDIT).await.expect(200)["items"][0].clone();
        assert_eq!(entry["actor"]["name"], "VEXIL_ADMIN_TOKEN", "{entry}");
        assert_eq!(call(&server, &url, "resolved").await["done"], Value::Null, "{kill}");
        assert_eq!(client.value("f", json!({})).await, false);
        assert_eq!(call(&server, &url, "firing").await["done"], Value::Null);
        assert_eq!(server.admin.post("/restore/f", json!({})).await.expect(200)["on"], true);
        assert_eq!(client.value("f", json!({})).await, true);
    }
}

#[tokio::test]
async fn triggers_that_are_called_at_once_do_what_is_left_to_do() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("f").await;
        let mut urls = Vec::new();
        for _ in 0..8 {
            urls.push(trigger(&server, "restore").await);
        }
        server.admin.post("/kill/f", json!({})).await.expect(200);
        let calls = urls.iter().map(|url| call(&server, url, "resolved"));
        let done = join_all(calls).await;
        let n_done = done.iter().filter(|answer| answer["done"] == "restore").count();
        assert_eq!(n_done, 1, "{done:?}");
    }
}

#[tokio::test]
async fn flags_that_have_all_their_versions_are_killed_and_keep_the_latest() {
    use sqlx::Connection;
    use sqlx::Executor;
    let n = KILLED[0];
    let server = Server::start(Backend::Postgres).await;
    tagged(&server, n).await;
    let mut behind = sqlx::PgConnection::connect(server.database_url()).await.unwrap();
    let earlier = "insert into flag_version (environment_id, flag_key, version, body)
        select environment_id, flag_key, -v, body from flag_config, generate_series(1, 250) v";
    behind.execute(earlier).await.unwrap();
    let began = std::time::Instant::now();
    let killed = server.admin.post("/kill?tag=experimental", json!({})).await.expect(200);
    println!("{n} flags of 250 versions killed in {:?}", began.elapsed());
    assert_eq!(killed["flags"].as_array().unwrap().len(), n);
    let kept = "select count(*) from flag_version where flag_key = 'f7'";
    let kept: i64 = sqlx::query_scalar(kept).fetch_one(&mut behind).await.unwrap();
    assert_eq!(kept, 200);
}
