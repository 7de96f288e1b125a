//! A database that has lost what replicas have served.

use crate::harness::Backend;
use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::command;
use crate::harness::eventually;
use crate::harness::run_sql;
use crate::kept::kept;
use crate::lab::proxy::Fault;
use crate::lab::proxy::Proxy;
use reqwest::Method;
use serde_json::json;

/// Takes the last change back, as if the database had been restored from before it.
const FORGET_LAST: &str = "
    delete from change_log where version =
        (select e.version from environment e where e.id = environment_id);
    update flag_config set body = replace(body, '\"on\":false', '\"on\":true'), killed = null,
        version = version - 1 where flag_key = 'f';
    update environment set version = version - 1";

#[tokio::test]
async fn what_was_acknowledged_is_served_on_until_the_loss_is_accepted() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let accept = "/api/v1/history/accept";
    assert_eq!(server.admin.post(accept, json!({})).await.expect(409)["code"], "history_intact");
    let local = server.token("admin", Some("administrator")).await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    database.run(FORGET_LAST).await;

    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(client.value("f", json!({})).await, false, "the kill is not undone");
    let refused = server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(409);
    assert_eq!(refused["code"], "history_regressed");
    assert!(refused["detail"].as_str().unwrap().contains("accept-history"), "{refused}");
    // A replica that has seen nothing of it refuses too.
    let other_folder = Folder::new();
    let other = Server::start_on(other_folder.path(), Some(&database.url), &[]).await;
    assert_eq!(
        other.admin.post("/kill/f", json!({})).await.expect(409)["code"],
        "history_regressed"
    );

    assert_eq!(local.post(accept, json!({})).await.status, 403);
    let mut events = Events::open(&client, None).await;
    let accepted = other.admin.post(accept, json!({"comment": "restored"})).await.expect(200);
    assert!(accepted["lost"].as_str().unwrap().contains("shop/production"), "{accepted}");
    let event = events.next().await.unwrap();
    assert_eq!(event["full"], true, "{event}");
    assert_eq!(client.value("f", json!({})).await, true, "as in the database");
    server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(client.value("f", json!({})).await, false);
    let audit = server.admin.get("/api/v1/audit?limit=10").await.expect(200);
    let actions: Vec<&str> =
        audit["items"].as_array().unwrap().iter().filter_map(|e| e["action"].as_str()).collect();
    assert!(actions.contains(&"history.accept"), "{actions:?}");
    crate::lab::happened(
        "P7, C13 the database lost the last change",
        "the last change taken back in the database under a running replica",
        "the kill stayed; changes 409 at every replica; another epoch once it was accepted",
    );
}

#[tokio::test]
async fn a_change_right_after_a_loss_was_accepted_is_served_when_it_is_acknowledged() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let client = server.with_environment().await;
        for key in ["f", "g"] {
            server.flag_on(key).await;
        }
        server.admin.post("/kill/f", json!({})).await.expect(200);
        server.run_sql(FORGET_LAST).await;
        server.admin.becomes("historyRegressed", true).await;
        let accept = "/api/v1/history/accept";
        server.admin.post(accept, json!({"comment": "restored"})).await.expect(200);
        let answer = client.evaluate("f", json!({})).await;
        assert!(answer.header("vexil-version").starts_with("2-"), "{backend:?}");
        assert_eq!(answer.expect(200)["value"], true, "{backend:?}: as in the database");
        let killed = server.admin.post("/kill/g", json!({})).await;
        assert!(killed.header("vexil-version").starts_with("2-"), "{backend:?}");
        killed.expect(200);
        assert_eq!(client.value("g", json!({})).await, false, "{backend:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_read_in_an_accepted_history_keeps_its_last_good_form() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    let segments = "/api/v1/projects/shop/environments/production/segments";
    let segment = json!({"key": "s", "included": ["u"]});
    server.admin.post(segments, segment).await.expect(201);
    server.flag_on("bad").await;
    server.flag_on("of-segment").await;
    let clause = json!({"attribute": "segmentMatch", "op": "segmentMatch", "values": ["s"]});
    let rule = json!([{"kind": "addRule", "clauses": [clause], "variation": "on"},
        {"kind": "updateFallthroughVariationOrRollout", "variation": "off"}]);
    server.admin.change("of-segment", rule).await.expect(200);
    server.flag_on("f").await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    let of_segment = async |who: &str| {
        client.value("of-segment", json!({"targetingKey": who})).await.as_bool().unwrap()
    };
    assert!(of_segment("u").await && !of_segment("x").await);
    let damaged = format!(
        "{FORGET_LAST};
        update flag_config set body = '{{' where flag_key = 'bad';
        update segment set body = '{{' where key = 's'"
    );
    database.run(&damaged).await;
    server.admin.becomes("historyRegressed", true).await;
    let accept = "/api/v1/history/accept";
    server.admin.post(accept, json!({"comment": "restored"})).await.expect(200);
    server.admin.becomes("quarantined", 1).await;
    assert_eq!(client.value("f", json!({})).await, true, "as in the database");
    assert_eq!(client.value("bad", json!({})).await, true, "as it was before");
    assert!(of_segment("u").await && !of_segment("x").await, "as it was before");
    eventually("the metric says so", || async {
        server.metric("vexil_environments_quarantined").await == 1
    })
    .await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(client.value("bad", json!({})).await, true, "also after the next change");
}

#[tokio::test]
async fn everything_that_is_lost_is_told() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    server.with_environment().await;
    for key in ["kept", "overtaken"] {
        let environments = "/api/v1/projects/shop/environments";
        server.admin.post(environments, json!({"key": key})).await.expect(201);
    }
    server.flag("f").await;
    for key in ["production", "overtaken"] {
        let path = format!("/api/v1/projects/shop/environments/{key}/flags/f");
        let on = json!({"instructions": [{"kind": "turnFlagOn"}]});
        server.admin.patch(&path, on).await.expect(200);
    }
    let served = |key: &'static str| {
        let admin = server.admin.clone();
        async move {
            let path = format!("/api/v1/projects/shop/environments/{key}/flags/f");
            let position = admin.get(&path).await.header("vexil-version").to_owned();
            position.strip_prefix("1-").unwrap().parse::<i64>().unwrap()
        }
    };
    let (production, overtaken) = (served("production").await, served("overtaken").await);
    let restored = "
        delete from change_log l using environment e where l.environment_id = e.id
            and l.version = e.version and e.key in ('production', 'overtaken');
        update environment set version = version - 1 where key = 'production';
        insert into change_log select id, version + n, '[]', '[]', 'another ' || n, now()
            from environment, generate_series(0, 1) n where key = 'overtaken';
        update environment set version = version + 1 where key = 'overtaken'";
    database.run(restored).await;
    server.admin.becomes("historyRegressed", true).await;
    let ids: String = database
        .ask("select string_agg(id::text, ',' order by key desc) from environment where key <> 'kept'")
        .await;
    let ids: Vec<i64> = ids.split(',').map(|id| id.parse().unwrap()).collect();
    let lost = json!([
        {"environment": ids[0], "served": format!("1-{production}"), "found": format!("1-{}", production - 1)},
        {"environment": ids[1], "served": format!("1-{overtaken}"), "found": format!("1-{}", overtaken + 1)},
    ]);
    server.admin.becomes("lost", lost).await;
    let lines = [
        format!(
            "shop/production: version {production} of epoch 1 was served, version {} of epoch 1 was found",
            production - 1
        ),
        format!(
            "shop/overtaken: version {overtaken} of epoch 1 was served, version {} of epoch 1 was found",
            overtaken + 1
        ),
    ];
    let names_them =
        |text: &str| lines.iter().all(|line| text.contains(line)) && !text.contains("shop/kept");
    let refused = server.admin.post("/kill/f?environment=kept", json!({})).await.expect(409);
    assert!(names_them(refused["detail"].as_str().unwrap()), "{refused}");
    let output = command()
        .args(["accept-history", "--comment", "restored"])
        .env("VEXIL_URL", &server.url)
        .env("VEXIL_TOKEN", &server.admin.token)
        .output()
        .await
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && names_them(&printed), "{output:?}");
    let audit = server.admin.get("/api/v1/audit?limit=1").await.expect(200);
    assert!(names_them(&audit["items"][0]["changes"].to_string()), "{audit}");
    server.admin.becomes("lost", json!(null)).await;
}

#[tokio::test]
async fn another_history_of_the_same_length_is_noticed() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    let overtaken = format!(
        "{FORGET_LAST};
        update environment set version = version + 2;
        insert into change_log select id, version - 1, '[]', '[]', 'another', now() from environment;
        insert into change_log select id, version, '[]', '[]', 'yet another', now() from environment"
    );
    database.run(&overtaken).await;
    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(client.value("f", json!({})).await, false);
}

#[tokio::test]
async fn a_promoted_standby_that_lost_nothing_begins_an_epoch() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let version = client.evaluate("f", json!({})).await.header("vexil-version").to_owned();
    assert!(version.starts_with("1-"), "{version}");
    postgres.stop().await;
    postgres.promote().await;
    server.admin.kills_again("f").await;
    assert_eq!(client.value("f", json!({})).await, false);
    let version = client.evaluate("f", json!({})).await.header("vexil-version").to_owned();
    assert!(version.starts_with("2-"), "{version}");
    assert!(server.admin.get("/readyz").await.expect(200).get("historyRegressed").is_none());
    crate::lab::happened(
        "P6 failover that lost nothing",
        "promoted under a running replica",
        "another epoch, and changes went on",
    );
}

#[tokio::test]
async fn a_standby_is_not_written_to() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    postgres.stop().await;
    postgres.resume_as_standby().await;
    let admin = server.admin.clone();
    eventually("the standby answers", || {
        let admin = admin.clone();
        async move { admin.post("/kill/f", json!({})).await.expect(503)["code"] == "store_unavailable" }
    })
    .await;
    assert_eq!(client.value("f", json!({})).await, true);
    server.admin.becomes("stale", true).await;
    crate::lab::happened(
        "P8 connected to a standby",
        "the server came back as a standby",
        "changes 503, what was there was served on as stale",
    );
}

#[tokio::test]
async fn an_empty_database_in_the_place_of_the_former_one_counts_as_a_loss() {
    let [first, fresh] = [Database::create().await, Database::create().await];
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&first.url), &[]).await;
    let token = server.with_environment().await.token;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    kept(folder.path(), "\"tokens\":[[").await;
    server.kill().await;
    for _ in 0..2 {
        let server = Server::start_on(folder.path(), Some(&fresh.url), &[]).await;
        server.admin.becomes("historyRegressed", true).await;
        let client = server.admin.with_token(&token);
        assert_eq!(client.value("f", json!({})).await, true, "what was kept is served");
        let refused =
            server.admin.post("/api/v1/projects", json!({"key": "new"})).await.expect(409);
        assert_eq!(refused["code"], "history_regressed");
        server.kill().await;
    }
    let server = Server::start_on(folder.path(), Some(&fresh.url), &[]).await;
    // A key cannot be claimed while nothing can be written, and does not hold it up.
    let accept = server.admin.request(Method::POST, "/api/v1/history/accept");
    let accept = accept.header("Idempotency-Key", "k").json(&json!({"comment": "lost"}));
    server.admin.send(accept).await.expect(200);
    let client = server.admin.with_token(&token);
    eventually("what is there is served", || async {
        client.evaluate("f", json!({})).await.status == 401
    })
    .await;
    server.with_environment().await;
}

#[tokio::test]
async fn a_database_that_is_lost_and_made_anew_under_a_running_replica_counts_as_a_loss() {
    let database = Database::create().await;
    let [folder, other_folder] = [Folder::new(), Folder::new()];
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    // Dropping it would wait for who reads just then, who may wait for it.
    database.run("alter schema public rename to former; create schema public").await;
    let _other = Server::start_on(other_folder.path(), Some(&database.url), &[]).await;
    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(client.value("f", json!({})).await, true);
    let refused = server.admin.post("/api/v1/projects", json!({"key": "new"})).await.expect(409);
    assert_eq!(refused["code"], "history_regressed");
    let accept = ("/api/v1/history/accept", json!({"comment": "lost"}));
    server.admin.post(accept.0, accept.1).await.expect(200);
    client.evaluates_with("f", 401).await;
    server.with_environment().await;
}

#[tokio::test]
async fn a_database_that_was_lost_while_a_replica_served_from_disk_can_be_accepted() {
    let [own, fresh] = [Postgres::start().await, Postgres::start().await];
    let (proxy, folder, token) = killed_replica(&own).await;
    let url = own.url_through(proxy.port);
    proxy.set(Fault::Reset);
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    assert_eq!(server.admin.get("/readyz").await.expect(200)["source"], "disk");
    proxy.lead_to(fresh.port());
    proxy.set(Fault::Pass);
    server.admin.becomes("historyRegressed", true).await;
    let client = server.admin.with_token(&token);
    assert_eq!(client.value("f", json!({})).await, true);
    let accept = ("/api/v1/history/accept", json!({"comment": "lost"}));
    server.admin.post(accept.0, accept.1).await.expect(200);
    client.evaluates_with("f", 401).await;
    server.with_environment().await;
}

/// A replica through a proxy that has kept an environment with the flag `f`, and was killed; with its token.
async fn killed_replica(own: &Postgres) -> (Proxy, Folder, String) {
    let folder = Folder::new();
    let proxy = Proxy::start(own.port()).await;
    let url = own.url_through(proxy.port);
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    let token = server.with_environment().await.token;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    kept(folder.path(), "\"tokens\":[[").await;
    server.kill().await;
    (proxy, folder, token)
}

/// Leads whoever goes through a proxy to another database, and ends what leads to the former one.
async fn lead(proxy: &Proxy, from: &Postgres, to: &Postgres) {
    proxy.lead_to(to.port());
    let others =
        "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()
        and backend_type = 'client backend'";
    run_sql(&from.url, others).await;
}

#[tokio::test]
async fn the_own_database_may_come_back_after_a_start_on_an_empty_one() {
    let [own, fresh] = [Postgres::start().await, Postgres::start().await];
    let (proxy, folder, token) = killed_replica(&own).await;
    let url = own.url_through(proxy.port);
    lead(&proxy, &own, &fresh).await;
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    let client = server.admin.with_token(&token);
    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(client.value("f", json!({})).await, true);
    let asked = server.admin.get("/api/v1/projects").await.expect(200);
    assert_eq!(asked["items"], json!([]), "whoever is to accept it may look");
    let empty = Folder::new();
    let blank = Server::start_on(empty.path(), Some(&url), &[]).await;

    lead(&proxy, &fresh, &own).await;
    blank.admin.with_token(&token).evaluates_with("f", 200).await;
    blank.kill().await;
    server.admin.becomes("historyRegressed", json!(null)).await;
    server.admin.kills_again("f").await;
    assert_eq!(client.value("f", json!({})).await, false);

    // Others have accepted it meanwhile: not this replica's loss, and nothing to be marked once more.
    let accepted =
        "update cluster set epoch = epoch + 1, accepted_epoch = epoch + 1, regression = null";
    run_sql(&fresh.url, accepted).await;
    lead(&proxy, &own, &fresh).await;
    server.admin.becomes("historyRegressed", true).await;
    let refused = server.admin.post("/restore/f", json!({})).await.expect(409);
    assert!(refused["detail"].as_str().unwrap().contains("another installation"), "{refused}");
    let unmarked = "select 1 / count(*) from cluster where regression is null";
    run_sql(&fresh.url, unmarked).await;
    server.kill().await;
    // Whoever starts there follows it.
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    server.admin.with_token(&token).evaluates_with("f", 401).await;
}

#[tokio::test]
async fn a_replica_without_environments_stays_with_its_installation_too() {
    let [own, other] = [Postgres::start().await, Postgres::start().await];
    let [folder, other_folder] = [Folder::new(), Folder::new()];
    let stranger = Server::start_on(other_folder.path(), Some(&other.url), &[]).await;
    stranger.with_environment().await;
    stranger.kill().await;
    let proxy = Proxy::start(own.port()).await;
    let url = own.url_through(proxy.port);
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    server.admin.post("/api/v1/projects", json!({"key": "new"})).await.expect(201);
    lead(&proxy, &own, &other).await;
    server.admin.becomes("historyRegressed", true).await;
    server.admin.get("/api/v1/projects").await.expect(409);
    lead(&proxy, &other, &own).await;
    server.admin.becomes("historyRegressed", json!(null)).await;
    let projects = server.admin.get("/api/v1/projects").await.expect(200);
    assert_eq!(projects["items"][0]["key"], "new");
}

#[tokio::test]
async fn another_installation_in_the_place_of_the_database_counts_as_a_loss() {
    let [own, other] = [Postgres::start().await, Postgres::start().await];
    let [folder, other_folder] = [Folder::new(), Folder::new()];
    let proxy = Proxy::start(own.port()).await;
    let url = own.url_through(proxy.port);
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    // The other one has no environment with this number any more, and has come further.
    let stranger = Server::start_on(other_folder.path(), Some(&other.url), &[]).await;
    let former = stranger.with_environment().await;
    stranger.admin.delete("/api/v1/projects/shop").await.expect(204);
    former.evaluates_with("f", 401).await;
    let theirs = stranger.with_environment().await;
    for i in 0..5 {
        stranger.flag(&format!("f{i}")).await;
    }
    stranger.flag("f").await;
    stranger.kill().await;

    // As connections end one by one, some lead here and some there.
    proxy.lead_to(other.port());
    for _ in 0..20 {
        let oldest = "select pg_terminate_backend(pid) from pg_stat_activity
            where pid <> pg_backend_pid() and backend_type = 'client backend' order by pid limit 1";
        run_sql(&own.url, oldest).await;
        let read = server.admin.get("/api/v1/projects/shop/flags").await;
        assert!(!read.text.contains("\"f0\""), "nothing is read there: {}", read.text);
        assert_eq!(client.value("f", json!({})).await, true, "it is not gone");
    }
    lead(&proxy, &own, &other).await;
    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(client.value("f", json!({})).await, true, "it is not gone");
    // Divides by zero if it was marked.
    for each in [&own, &other] {
        let unmarked = "select 1 / count(*) from cluster where regression is null";
        run_sql(&each.url, unmarked).await;
    }
    assert_eq!(server.metric("vexil_history_regressed").await, 1);
    let refused = server.admin.post("/kill/f", json!({})).await.expect(409);
    assert_eq!(refused["code"], "history_regressed");
    assert!(refused["detail"].as_str().unwrap().contains("another installation"), "{refused}");

    lead(&proxy, &other, &own).await;
    server.admin.becomes("historyRegressed", json!(null)).await;
    server.admin.kills_again("f").await;
    server.admin.post("/restore/f", json!({})).await.expect(200);
    server.flag("last").await;
    kept(folder.path(), r#"\"key\":\"last\""#).await;

    // What the other one has accepted says nothing about this replica.
    let accepted = "update cluster set epoch = 7, accepted_epoch = 7";
    run_sql(&other.url, accepted).await;
    lead(&proxy, &own, &other).await;
    server.admin.becomes("historyRegressed", true).await;
    let accept = ("/api/v1/history/accept", json!({"comment": "moved"}));
    let refused = server.admin.post(accept.0, accept.1).await.expect(409);
    assert_eq!(refused["code"], "history_regressed");
    server.admin.get("/api/v1/projects").await.expect(409);
    assert_eq!(client.value("f", json!({})).await, true);

    // Nothing was written there, so its own replicas go on.
    let own_replica = Server::start_on(other_folder.path(), Some(&other.url), &[]).await;
    let there = own_replica.admin.with_token(&theirs.token);
    assert!(own_replica.admin.get("/readyz").await.expect(200).get("historyRegressed").is_none());
    own_replica.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    assert_eq!(there.value("f", json!({})).await, true);

    // What is served from disk is not given up for it either.
    server.kill().await;
    proxy.set(Fault::Reset);
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    assert_eq!(server.admin.get("/readyz").await.expect(200)["source"], "disk");
    proxy.set(Fault::Pass);
    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(server.admin.with_token(&client.token).value("f", json!({})).await, true);

    // Whoever starts there follows it.
    server.kill().await;
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    assert_eq!(server.admin.with_token(&theirs.token).value("f", json!({})).await, true);
    server.admin.with_token(&client.token).evaluates_with("f", 401).await;
}
