//! Many who edit one flag at once, each from the version that they have read; and the log of what they did, altered in every way.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Server;
use crate::lab::kept;
use crate::lab::size;
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use vexil::model::audit::SignedHead;
use vexil::model::audit::Verifier;

const FLAG: &str = "/api/v1/projects/shop/environments/production/flags/f";
const EDITORS: usize = 32;
/// Edits that are acknowledged in the end: in tests, and as many as is promised.
const EDITS: [usize; 2] = [96, 2_000];

/// Pairs of edits that contradict each other.
const ROUNDS: usize = 10;

/// An edit that was acknowledged.
struct Edit {
    version: i64,
    key: String,
    variation: &'static str,
}

/// Adds a key of its own to the targets, and sets what everyone else gets, until enough was done.
async fn edit(client: Client, editor: usize, left: Arc<AtomicUsize>) -> (Vec<Edit>, usize) {
    let (mut edits, mut n_refused) = (Vec::new(), 0);
    let take = || left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    while take().is_ok() {
        let key = format!("editor-{editor}-{}", edits.len());
        let variation = if (editor + edits.len()).is_multiple_of(2) { "on" } else { "off" };
        let body = json!({"instructions": [
            {"kind": "addTargets", "variation": variation, "values": [key]},
            {"kind": "updateFallthroughVariationOrRollout", "variation": variation}]});
        loop {
            let etag = client.get(FLAG).await.header("etag").to_owned();
            let request = client.request(Method::PATCH, FLAG).header("If-Match", etag);
            let answer = client.send(request.json(&body)).await;
            if answer.status == 412 {
                n_refused += 1;
                continue;
            }
            let version = answer.expect(200)["version"].as_i64().unwrap();
            edits.push(Edit { version, key, variation });
            break;
        }
    }
    (edits, n_refused)
}

#[tokio::test]
async fn no_edit_is_lost_and_the_last_one_counts() {
    let n_edits = size(EDITS[0], EDITS[1]);
    let (started, mut found) = (tokio::time::Instant::now(), Vec::new());
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        server.flag_on("f").await;
        let start = server.admin.get(FLAG).await.expect(200)["version"].as_i64().unwrap();
        let left = Arc::new(AtomicUsize::new(n_edits));
        let began = tokio::time::Instant::now();
        let editors = (0..EDITORS).map(|i| edit(server.admin.clone(), i, left.clone()));
        let done = join_all(editors).await;
        let n_refused: usize = done.iter().map(|(_, n)| n).sum();
        let mut edits: Vec<Edit> = done.into_iter().flat_map(|(edits, _)| edits).collect();
        edits.sort_by_key(|edit| edit.version);
        let seconds = began.elapsed().as_secs();
        let versions: Vec<i64> = edits.iter().map(|edit| edit.version).collect();
        let n = i64::try_from(n_edits).unwrap();
        assert_eq!(versions, (start + 1..=start + n).collect::<Vec<_>>(), "dense and in order");
        let flag = server.admin.get(FLAG).await.expect(200);
        assert_eq!(flag["version"], start + n);
        let last = if edits.last().unwrap().variation == "on" { 0 } else { 1 };
        assert_eq!(flag["fallthrough"]["variation"], last);
        for (variation, index) in [("on", 0), ("off", 1)] {
            let wanted = edits.iter().filter(|edit| edit.variation == variation);
            let wanted: BTreeSet<&str> = wanted.map(|edit| edit.key.as_str()).collect();
            let targets = flag["targets"].as_array().unwrap().iter();
            let stored = targets.filter(|target| target["variation"] == index);
            let stored = stored.flat_map(|target| target["values"].as_array().unwrap());
            assert_eq!(stored.map(|key| key.as_str().unwrap()).collect::<BTreeSet<_>>(), wanted);
        }
        let (n_entries, n_alterations) = every_alteration_is_found(&server).await;
        found.push(format!("{backend}: {n_edits} acknowledged in {seconds} s, {n_refused} answered 412 and sent anew, 0 lost; {n_alterations} alterations of {n_entries} entries found"));
    }
    let what = format!(
        "{EDITORS} editors with `If-Match` on one flag, {n_edits} edits, both stores; then every entry of the audit log altered field by field, swapped, doubled, deleted"
    );
    kept(
        "no edit is lost, and no altered audit entry overlooked",
        &what,
        started,
        &found.join("; "),
    );
}

/// P16: each edit is right by itself, and both together are not.
#[tokio::test]
async fn of_two_edits_that_make_a_circle_together_one_is_refused() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let server = Server::start(backend).await;
        server.with_environment().await;
        for round in 0..ROUNDS {
            let [one, other] = ["a", "b"].map(|name| format!("{name}{round}"));
            server.flag(&one).await;
            server.flag(&other).await;
            let needs =
                |key: &str| json!([{"kind": "addPrerequisite", "key": key, "variation": "on"}]);
            let edits = [(&one, needs(&other)), (&other, needs(&one))];
            let answers = join_all(edits.map(|(flag, edit)| server.admin.change(flag, edit))).await;
            let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 422], "{backend:?}");
            let refused = answers.into_iter().find(|answer| answer.status == 422).unwrap();
            assert_eq!(refused.expect(422)["errors"][0]["code"], "cycle");
        }
    }
    crate::lab::happened(
        "P16 two edits that make a circle together",
        &format!("{ROUNDS} pairs of prerequisites at the same moment, on SQLite and on PostgreSQL"),
        "exactly one of each pair was refused",
    );
}

/// What differs when one field of an entry is altered, for each field.
fn alterations(line: &str) -> Vec<String> {
    let entry: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
    let names: Vec<String> = entry.keys().cloned().collect();
    let altered = names.iter().map(|name| {
        let mut entry = entry.clone();
        let value = match &entry[name] {
            Value::Number(number) => json!(number.as_i64().unwrap() + 1),
            Value::String(text) if name == "hash" => {
                let last = if text.ends_with('0') { '1' } else { '0' };
                json!(format!("{}{last}", &text[..text.len() - 1]))
            }
            Value::String(text) => json!(format!("{text}x")),
            Value::Array(items) => json!(items.iter().skip(1).collect::<Vec<_>>()),
            _ => Value::Null,
        };
        entry.insert(name.clone(), value);
        Value::Object(entry).to_string()
    });
    altered.chain([line.replacen('{', "{\"added\":1,", 1)]).collect()
}

/// Alters, swaps and deletes every entry of the log, one at a time; returns how many entries and how many alterations there are.
async fn every_alteration_is_found(server: &Server) -> (usize, usize) {
    let head = server.admin.get("/api/v1/audit/head").await.expect(200);
    let head: SignedHead = serde_json::from_value(head).unwrap();
    let export = server.admin.get("/api/v1/audit/export").await.text;
    let lines: Vec<&str> = export.lines().collect();
    let mut intact = Verifier::new(Some(head.seq));
    let mut n_altered = 0;
    for (i, line) in lines.iter().enumerate() {
        let rest = &lines[i + 1..];
        // Findings are never taken back, so the next entries are enough; the last ones are compared with the signed end.
        let is_found = |start: &[&str], rest: &[&str]| {
            let mut verifier = intact.clone();
            let n_next = if rest.len() > 2 { 2 } else { rest.len() };
            start.iter().chain(&rest[..n_next]).for_each(|line| verifier.read(line));
            let is_all = n_next == rest.len();
            !verifier.finish(is_all.then_some(&head)).findings.is_empty()
        };
        for altered in alterations(line) {
            assert!(is_found(&[&altered], rest), "{altered}");
            n_altered += 1;
        }
        assert!(is_found(&[], rest), "without {line}");
        n_altered += 2;
        if let [next, rest @ ..] = rest {
            assert!(is_found(&[next, line], rest), "{line} and the next one swapped");
            n_altered += 1;
        }
        assert!(is_found(&[line, line], rest), "{line} twice");
        assert!(!is_found(&[line], rest), "{line} is as it was");
        intact.read(line);
    }
    let verdict = intact.finish(Some(&head));
    assert_eq!(verdict.findings, [""; 0]);
    (lines.len(), n_altered)
}
