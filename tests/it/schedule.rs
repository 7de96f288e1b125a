//! Changes that are made later, on one server.

use crate::harness::Answer;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
use jiff::Timestamp;
use jiff::ToSpan;
use serde_json::Value;
use serde_json::json;

const SCHEDULE: &str = "/api/v1/projects/shop/environments/production/schedule";
const FLAGS: &str = "/api/v1/projects/shop/environments/production/flags";

fn ahead_ms(ms: i64) -> String {
    (Timestamp::now() + ms.milliseconds()).to_string()
}

fn on() -> Value {
    json!([{"kind": "turnFlagOn"}])
}

fn off() -> Value {
    json!([{"kind": "turnFlagOff"}])
}

async fn plan(client: &Client, flag: &str, instructions: Value, at: &str) -> Answer {
    client.post(SCHEDULE, json!({"flag": flag, "instructions": instructions, "at": at})).await
}

fn id_of(entry: &Value) -> String {
    entry["id"].as_str().unwrap().to_owned()
}

/// Waits until an entry is decided, and returns it.
async fn decided(client: &Client, id: &str) -> Value {
    let path = format!("{SCHEDULE}/{id}");
    eventually("the entry is decided", || async {
        client.get(&path).await.expect(200)["state"] != "pending"
    })
    .await;
    client.get(&path).await.expect(200)
}

async fn entries(client: &Client, query: &str) -> Vec<Value> {
    let list = client.get(&format!("{SCHEDULE}{query}")).await.expect(200);
    list["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_change_is_made_once_at_its_time_and_in_the_name_of_its_author() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        let sdk = server.with_environment().await;
        server.flag("f").await;
        let editor = server.token("admin", Some("editor")).await;
        let at = ahead_ms(1_200);
        let body = json!({"flag": "f", "instructions": on(), "at": at, "comment": "launch"});
        let planned = editor.post(SCHEDULE, body).await.expect(201);
        assert_eq!((&planned["state"], &planned["at"]), (&json!("pending"), &json!(at)));
        assert_eq!(sdk.value("f", json!({})).await, false);
        let done = decided(&editor, &id_of(&planned)).await;
        assert_eq!(done["state"], "done", "{done}");
        assert_eq!(done["result"]["changes"], json!(["turned the flag on"]));
        let (due, made): (Timestamp, Timestamp) = (
            done["dueAt"].as_str().unwrap().parse().unwrap(),
            done["result"]["at"].as_str().unwrap().parse().unwrap(),
        );
        assert!(made >= due, "{done}");
        eventually("it is served", || async { sdk.value("f", json!({})).await == true }).await;
        let audit = "/api/v1/projects/shop/environments/production/audit?action=schedule.";
        let audit = server.admin.get(audit).await.expect(200);
        let (made, planned) = (&audit["items"][0], &audit["items"][1]);
        assert_eq!(made["action"], "schedule.execute");
        assert_eq!(made["requestId"], done["id"]);
        assert_eq!(made["actor"], planned["actor"]);
        assert_eq!(made["actor"]["id"], done["createdById"]);
        assert_eq!((&made["comment"], &made["subject"]), (&json!("launch"), &json!("f")));
        assert_eq!(made["instructions"], on());
        assert_eq!(made["version"], done["result"]["version"]);
        assert_eq!(planned["action"], "schedule.create");
        let history = server.admin.get(&format!("{FLAGS}/f/history")).await.expect(200);
        assert!(history.to_string().contains("schedule.execute"), "{history}");
    }
}

#[tokio::test]
async fn several_that_are_planned_together_build_on_each_other() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let admin = &server.admin;
    let rollout = |on: u32| {
        json!([{"kind": "updateFallthroughVariationOrRollout",
            "rolloutWeights": {"on": on, "off": 100_000 - on}}])
    };
    let mut ids = Vec::new();
    let at = ahead_ms(700);
    for instructions in [rollout(10_000), on(), rollout(50_000), off(), on()] {
        ids.push(id_of(&plan(admin, "f", instructions, &at).await.expect(201)));
    }
    for id in &ids {
        let entry = decided(admin, id).await;
        assert_eq!(entry["state"], "done", "{entry}");
    }
    let flag = admin.get(&format!("{FLAGS}/f")).await.expect(200);
    assert_eq!(flag["on"], true);
    let list = entries(admin, "?flag=f&state=done&limit=3").await;
    assert_eq!(list.len(), 3);
    assert_eq!(list[0]["id"], json!(ids[4]));
    assert_eq!(entries(admin, "?flag=g").await.len(), 0);
}

#[tokio::test]
async fn what_others_changed_since_is_a_conflict_only_if_it_is_touched() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    for flag in ["touched", "untouched", "gone", "off"] {
        server.flag(flag).await;
    }
    let admin = &server.admin;
    let fallthrough = |variation: &str| json!([{"kind": "updateFallthroughVariationOrRollout", "variation": variation}]);
    let at = ahead_ms(1_500);
    let touched = plan(admin, "touched", fallthrough("off"), &at).await.expect(201);
    let untouched = plan(admin, "untouched", on(), &at).await.expect(201);
    let gone = plan(admin, "gone", on(), &at).await.expect(201);
    let turned_off = plan(admin, "off", off(), &at).await.expect(201);
    let weights = json!([{"kind": "updateFallthroughVariationOrRollout",
        "rolloutWeights": {"on": 50_000, "off": 50_000}}]);
    admin.change("touched", weights).await.expect(200);
    admin.change("untouched", fallthrough("off")).await.expect(200);
    admin.change("off", on()).await.expect(200);
    admin.delete("/api/v1/projects/shop/flags/gone").await.expect(204);
    let entry = decided(admin, &id_of(&touched)).await;
    assert_eq!(entry["state"], "conflict", "{entry}");
    let problem = &entry["result"]["problem"];
    assert_eq!(problem["code"], "changed_since");
    assert_eq!(problem["differs"][0]["path"], "fallthrough");
    let flag = admin.get(&format!("{FLAGS}/touched")).await.expect(200);
    assert!(flag["fallthrough"]["rollout"].is_object(), "{flag}");
    assert_eq!(decided(admin, &id_of(&untouched)).await["state"], "done");
    let entry = decided(admin, &id_of(&gone)).await;
    assert_eq!(entry["state"], "conflict", "{entry}");
    assert_eq!(entry["result"]["problem"]["code"], "unknown_flag");
    // Turning a flag off is never held up.
    assert_eq!(decided(admin, &id_of(&turned_off)).await["state"], "done");
}

#[tokio::test]
async fn a_flag_that_was_killed_since_is_not_turned_on() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("killed").await;
        server.flag_on("before").await;
        let admin = &server.admin;
        admin.post("/kill/before", json!({})).await.expect(200);
        let at = ahead_ms(1_000);
        let killed = plan(admin, "killed", on(), &at).await.expect(201);
        let before = plan(admin, "before", on(), &at).await.expect(201);
        admin.post("/kill/killed", json!({})).await.expect(200);
        let entry = decided(admin, &id_of(&killed)).await;
        assert_eq!(entry["state"], "conflict", "{entry}");
        assert_eq!(entry["result"]["problem"]["code"], "killed");
        let flag = admin.get(&format!("{FLAGS}/killed")).await.expect(200);
        assert_eq!((&flag["on"], flag["killed"].is_object()), (&json!(false), true));
        // Whoever planned this one knew of the kill.
        assert_eq!(decided(admin, &id_of(&before)).await["state"], "done");
    }
}

#[tokio::test]
async fn whoever_may_not_any_more_changes_nothing() {
    let server = Server::start(Backend::Postgres).await;
    server.with_environment().await;
    for flag in ["f", "g", "h"] {
        server.flag(flag).await;
    }
    let admin = &server.admin;
    let body = json!({"name": "e", "kind": "admin", "role": "editor"});
    let tokens = "/api/v1/projects/shop/environments/production/tokens";
    let made = admin.post(tokens, body).await.expect(201);
    let revoked = admin.with_token(made["token"].as_str().unwrap());
    let editor = server.token("admin", Some("editor")).await;
    let at = ahead_ms(1_500);
    let by_revoked = plan(&revoked, "f", on(), &at).await.expect(201);
    let by_editor = plan(&editor, "g", on(), &at).await.expect(201);
    let off_by_editor = plan(&editor, "h", off(), &at).await.expect(201);
    admin.delete(&format!("{tokens}/{}", made["id"].as_str().unwrap())).await.expect(204);
    let environment = "/api/v1/projects/shop/environments/production";
    admin.patch(environment, json!({"protected": true})).await.expect(200);
    for (entry, code) in [(&by_revoked, "author"), (&by_editor, "role")] {
        let entry = decided(admin, &id_of(entry)).await;
        assert_eq!(entry["state"], "failed", "{entry}");
        assert_eq!(entry["result"]["problem"]["code"], code, "{entry}");
    }
    assert_eq!(decided(admin, &id_of(&off_by_editor)).await["state"], "done");
    assert_eq!(plan(&editor, "g", on(), &ahead_ms(60_000)).await.expect(403)["code"], "role");
    assert_eq!(admin.get(&format!("{FLAGS}/f")).await.expect(200)["on"], false);
}

#[tokio::test]
async fn what_is_cancelled_is_not_made() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag("f").await;
        let admin = &server.admin;
        let at = ahead_ms(800);
        let first = id_of(&plan(admin, "f", on(), &at).await.expect(201));
        let last = id_of(&plan(admin, "f", off(), &at).await.expect(201));
        let cancelled = admin.delete(&format!("{SCHEDULE}/{first}")).await.expect(200);
        assert_eq!(cancelled["state"], "cancelled");
        let again = admin.delete(&format!("{SCHEDULE}/{first}")).await.expect(409);
        assert_eq!(again["code"], "not_pending");
        let entry = decided(admin, &last).await;
        // The flag was never on.
        assert_eq!((&entry["state"], &entry["result"]["changes"]), (&json!("done"), &json!([])));
        assert!(entry["result"].get("version").is_none(), "{entry}");
        assert_eq!(
            admin.get(&format!("{SCHEDULE}/{first}")).await.expect(200)["state"],
            "cancelled"
        );
        admin.delete(&format!("{SCHEDULE}/nothing")).await.expect(404);
    }
}

#[tokio::test]
async fn what_was_missed_is_made_at_once_unless_that_is_too_late() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    server.flag("late").await;
    let at = ahead_ms(1_000);
    let missed = id_of(&plan(&server.admin, "f", on(), &at).await.expect(201));
    let body = json!({"flag": "late", "instructions": on(), "at": at, "skipIfLateBy": "1s"});
    let skipped = id_of(&server.admin.post(SCHEDULE, body).await.expect(201));
    let (database, folder) = server.kill().await;
    let due: Timestamp = at.parse().unwrap();
    eventually("both are two seconds late", || async {
        Timestamp::now() > due + 2_100.milliseconds()
    })
    .await;
    let folder: Folder = folder.unwrap();
    let server = Server::start_on(folder.path(), None, &[]).await.owning(database, folder);
    assert_eq!(decided(&server.admin, &missed).await["state"], "done");
    let entry = decided(&server.admin, &skipped).await;
    assert_eq!(entry["state"], "skipped", "{entry}");
    assert_eq!(server.admin.get(&format!("{FLAGS}/late")).await.expect(200)["on"], false);
}

#[tokio::test]
async fn a_dry_run_says_what_would_happen_and_plans_nothing() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let admin = &server.admin;
    admin
        .post("/api/v1/projects/shop/environments/production/segments", json!({"key": "s"}))
        .await
        .expect(201);
    let body = json!({"at": "2027-03-28T02:30:00", "timeZone": "Europe/Berlin", "changes": [
        {"flag": "f", "instructions": on()},
        {"segment": "s", "instructions": [{"kind": "addIncludedTargets", "values": ["u"]}]}]});
    let dry = admin.post(&format!("{SCHEDULE}?dryRun=true"), body.clone()).await.expect(200);
    assert_eq!(dry["changes"][0]["diff"], json!([{"path": "on", "before": false, "after": true}]));
    assert_eq!(dry["changes"][1]["segment"], "s");
    // At half past two the clocks have just gone forward.
    assert_eq!(dry["dueAt"], "2027-03-28T01:30:00Z");
    assert_eq!(entries(admin, "").await.len(), 0);
    let planned = admin.post(SCHEDULE, body).await.expect(201);
    assert_eq!(planned["changes"][1]["segment"], "s");
    assert_eq!(planned["dueAt"], "2027-03-28T01:30:00Z");
    let windows = json!({"flag": "f", "windows": {"timeZone": "America/New_York",
        "days": ["mon", "fri"], "from": "22:00", "to": "06:00"}});
    let planned = admin.post(SCHEDULE, windows.clone()).await.expect(201);
    assert_eq!(planned["windows"], windows["windows"]);
    let list = entries(admin, "?state=pending").await;
    assert_eq!(list.len(), 2);
}

#[tokio::test]
async fn windows_turn_a_flag_on_and_off_and_go_on() {
    let (database, folder) = (Database::create().await, Folder::new());
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    server.with_environment().await;
    server.flag("f").await;
    let admin = &server.admin;
    // A window that began a while ago: the next thing to be done is its end.
    let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
    let text = |time: jiff::Zoned| time.strftime("%H:%M").to_string();
    let (from, to) = (text(&now - 10.minutes()), text(&now + 10.minutes()));
    let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let windows = json!({"timeZone": "UTC", "days": days, "from": from, "to": to});
    let planned = admin.post(SCHEDULE, json!({"flag": "f", "windows": windows})).await.expect(201);
    assert_eq!(planned["state"], "pending");
    assert!(planned["dueAt"].as_str().unwrap().contains(&to), "{planned}");
    // As if the start had been missed.
    let miss = "update schedule set due_us = 1 where state = 'pending'";
    database.run(miss).await;
    let path = format!("{SCHEDULE}/{}", id_of(&planned));
    eventually("the flag is turned on", || async {
        admin.get(&path).await.expect(200)["result"]["state"] == "done"
    })
    .await;
    let entry = admin.get(&path).await.expect(200);
    assert_eq!((&entry["state"], &entry["dueAt"]), (&json!("pending"), &planned["dueAt"]));
    assert_eq!(entry["result"]["changes"], json!(["turned the flag on"]));
    // What is killed stays off, and the windows go on.
    admin.post("/kill/f", json!({})).await.expect(200);
    database.run(miss).await;
    eventually("the kill is a conflict", || async {
        admin.get(&path).await.expect(200)["result"]["state"] == "conflict"
    })
    .await;
    let entry = admin.get(&path).await.expect(200);
    assert_eq!((&entry["state"], &entry["dueAt"]), (&json!("pending"), &planned["dueAt"]));
    assert_eq!(admin.get(&format!("{FLAGS}/f")).await.expect(200)["on"], false);
    let cancelled = admin.delete(&path).await.expect(200);
    assert_eq!(cancelled["state"], "cancelled");
}

#[tokio::test]
async fn windows_neither_end_a_kill_nor_turn_on_what_was_killed_before_they_were_planned() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("f").await;
        let admin = &server.admin;
        admin.post("/kill/f", json!({})).await.expect(200);
        let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC);
        let days = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let windows = |from: i32, to: i32| {
            let text = |minutes: i32| (&now + minutes.minutes()).strftime("%H:%M").to_string();
            json!({"flag": "f", "windows":
                {"timeZone": "UTC", "days": days, "from": text(from), "to": text(to)}})
        };
        // What was missed last is an end of the first, and a start of the second.
        for (from, to, state) in [(-20, -10, "done"), (-10, 10, "conflict")] {
            let planned = admin.post(SCHEDULE, windows(from, to)).await.expect(201);
            server.run_sql("update schedule set due_us = 1 where state = 'pending'").await;
            let path = format!("{SCHEDULE}/{}", id_of(&planned));
            eventually("an edge is made", || async {
                admin.get(&path).await.expect(200)["result"].is_object()
            })
            .await;
            let entry = admin.get(&path).await.expect(200);
            assert_eq!(entry["result"]["state"], state, "{entry}");
            let flag = admin.get(&format!("{FLAGS}/f")).await.expect(200);
            assert_eq!((&flag["on"], flag["killed"].is_object()), (&json!(false), true), "{flag}");
            admin.delete(&path).await.expect(200);
        }
        let restored = admin.post("/restore/f", json!({})).await.expect(200);
        assert_eq!(restored["on"], true);
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_its_field() {
    let server = Server::start(Backend::Sqlite).await;
    server.with_environment().await;
    server.flag("f").await;
    let at = "2027-01-01T09:00:00Z";
    let windows = |from: &str, to: &str, zone: &str| {
        json!({"flag": "f", "windows":
            {"timeZone": zone, "days": ["mon"], "from": from, "to": to}})
    };
    for (body, path, code) in [
        (json!({"flag": "f", "instructions": on()}), "at", "required"),
        (
            json!({"flag": "f", "instructions": on(), "at": "2027-01-01T09:00:00"}),
            "timeZone",
            "required",
        ),
        (
            json!({"flag": "f", "instructions": on(), "at": at, "timeZone": "UTC"}),
            "timeZone",
            "conflicting_fields",
        ),
        (
            json!({"flag": "f", "instructions": on(), "at": "2027-01-01T09:00:00", "timeZone": "Mars"}),
            "timeZone",
            "unknown_time_zone",
        ),
        (json!({"flag": "f", "instructions": on(), "at": "soon"}), "at", "invalid_time"),
        (
            json!({"flag": "f", "instructions": on(), "at": "2020-01-01T09:00:00Z"}),
            "at",
            "in_the_past",
        ),
        (
            json!({"flag": "f", "instructions": on(), "at": "2999-01-01T09:00:00Z"}),
            "at",
            "too_far_ahead",
        ),
        (
            json!({"flag": "f", "instructions": on(), "at": at, "skipIfLateBy": "later"}),
            "skipIfLateBy",
            "invalid_duration",
        ),
        (
            json!({"flag": "f", "instructions": [{"kind": "fly"}], "at": at}),
            "instructions[0].kind",
            "unknown_instruction",
        ),
        (
            json!({"flag": "f", "instructions": [{"kind": "updateOffVariation", "variation": "x"}], "at": at}),
            "instructions[0].variation",
            "unknown_variation",
        ),
        (json!({"at": at}), "flag", "required"),
        (json!({"changes": [], "at": at}), "changes", "required"),
        (
            json!({"changes": [{"flag": "g", "instructions": on()}], "at": at}),
            "changes[0].flag",
            "unknown_flag",
        ),
        (json!({"flag": "f", "instructions": on(), "at": at, "when": 1}), "when", "unknown_field"),
        (windows("09:00", "09:00", "UTC"), "windows.to", "empty_window"),
        (windows("9", "10:00", "UTC"), "windows.from", "invalid_time"),
        (windows("09:00", "10:00", "Mars"), "windows.timeZone", "unknown_time_zone"),
    ] {
        let refused = server.admin.post(SCHEDULE, body.clone()).await;
        let refused = refused.expect(422);
        assert_eq!(refused["errors"][0]["path"], path, "{body}: {refused}");
        assert_eq!(refused["errors"][0]["code"], code, "{body}: {refused}");
    }
    plan(&server.admin, "g", on(), at).await.expect(404);
    assert_eq!(entries(&server.admin, "").await.len(), 0);
    let asks = json!({"requireComment": true});
    server.admin.patch("/api/v1/projects/shop/environments/production", asks).await.expect(200);
    assert_eq!(plan(&server.admin, "f", on(), at).await.expect(422)["code"], "comment_required");
}
