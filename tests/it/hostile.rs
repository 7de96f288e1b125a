//! Clients that mean harm: connections without end, bodies without end, nesting without end. The server answers them
//! shortly and the others as ever. What a connection may do is in `sockets`; this looks into `/proc`, so it runs on Linux.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::PATIENCE;
use crate::harness::Server;
use crate::harness::command_with_files;
use crate::harness::eventually;
use crate::sockets::read_to_close;
use reqwest::Method;
use rustix::process::Pid;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::process::getrlimit;
use rustix::process::prlimit;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio::time::timeout;

/// Ticks of the processor's clock in a second, as `/proc` counts them. Source: `man 5 proc`, `man 3 sysconf`.
const TICKS_PER_SEC: u64 = 100;

fn address_of(server: &Server) -> &str {
    server.url.strip_prefix("http://").unwrap()
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(address_of(server)).await.unwrap()
}

/// How long a process has worked.
fn worked(server: &Server) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let fields: Vec<&str> = fields.split(' ').collect();
    let ticks: u64 = fields[11..=12].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SEC)
}

/// The most memory that a process has had, in KiB.
fn memory_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Sends a piece again and again until the server has answered or closed; returns the answer and the bytes sent.
async fn flood(socket: TcpStream, head: &str, piece: &[u8]) -> (String, usize) {
    let (mut reading, mut writing) = socket.into_split();
    let sending = async {
        let mut n_bytes = 0;
        writing.write_all(head.as_bytes()).await.unwrap();
        while writing.write_all(piece).await.is_ok() {
            n_bytes += piece.len();
        }
        n_bytes
    };
    let answering = async {
        let mut answer = Vec::new();
        let _ = reading.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    let both = futures_util::future::join(answering, sending);
    timeout(PATIENCE, both).await.expect("the server goes on reading")
}

#[tokio::test]
async fn silent_connections_keep_nobody_out() {
    let folder = Folder::new();
    // Half of them are for connections.
    let server = Server::spawn_by(command_with_files(300), folder.path(), None, &[]).await;
    let ready = || async { server.admin.get("/readyz").await.status == 200 };
    eventually("the server is ready", ready).await;
    let mut silent = Vec::new();
    for _ in 0..250 {
        silent.push(connect(&server).await);
    }
    let before = worked(&server);
    // A new connection, which stands behind all of these.
    let admin = Client::new(&server.url, &server.admin.token);
    let answer = timeout(PATIENCE, admin.get("/api/v1/projects")).await;
    answer.expect("others are not served").expect(200);
    assert!(worked(&server) - before < Duration::from_secs(1), "the server is busy with nothing");
    for socket in &mut silent {
        assert_eq!(read_to_close(socket).await, b"");
    }
    crate::lab::happened(
        "N4 connections that send nothing",
        "250 silent connections where 150 may be",
        "closed in time, and others were served",
    );
}

#[tokio::test]
async fn running_out_of_descriptors_ends_nothing() {
    let server = Server::start(Backend::Sqlite).await;
    let files = std::fs::read_dir(format!("/proc/{}/fd", server.pid())).unwrap();
    let n_files = u64::try_from(files.count()).unwrap();
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap());
    let inherited = getrlimit(Resource::Nofile);
    let limit = |n: u64| Rlimit { current: Some(n), maximum: inherited.maximum };
    let before = prlimit(pid, Resource::Nofile, limit(n_files + 4)).unwrap();
    let started = Instant::now();
    let worked_before = worked(&server);
    let mut silent = Vec::new();
    for _ in 0..10 {
        silent.push(connect(&server).await);
    }
    // The connections that have a descriptor are closed for their silence, and others get theirs.
    for socket in &mut silent {
        assert_eq!(read_to_close(socket).await, b"");
    }
    assert!(started.elapsed() > Duration::from_secs(9), "there were descriptors for all");
    let share = (worked(&server) - worked_before).as_secs_f64() / started.elapsed().as_secs_f64();
    assert!(share < 0.25, "the server is busy with nothing: {share}");
    prlimit(pid, Resource::Nofile, before).unwrap();
    server.admin.get("/api/v1/projects").await.expect(200);
    server.with_environment().await;
    crate::lab::happened(
        "N16 no descriptor is left",
        "the limit taken down to what was open",
        "nothing ended, and what came later was served",
    );
}

#[tokio::test]
async fn a_body_without_end_is_refused_and_not_kept() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let head = |length: &str| {
        format!(
            "POST /ofrep/v1/evaluate/flags/f HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n{length}\r\n\r\n",
            client.token
        )
    };
    let before = memory_kib(&server);
    // What says how large it is is not read at all.
    let declared = head("Content-Length: 1073741824");
    let mut socket = connect(&server).await;
    socket.write_all(declared.as_bytes()).await.unwrap();
    let answer = String::from_utf8(read_to_close(&mut socket).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // What does not is read for a while, so that the client gets to see the answer.
    let chunk = [b"10000\r\n".as_slice(), &vec![b' '; 0x10000], b"\r\n"].concat();
    let chunked = head("Transfer-Encoding: chunked");
    let (answer, n_bytes) = flood(connect(&server).await, &chunked, &chunk).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(n_bytes < 64 * 1024 * 1024, "{n_bytes}");
    let grown = memory_kib(&server) - before;
    assert!(grown < 16 * 1024, "{grown} KiB");
    server.flag_on("f").await;
    assert_eq!(client.value("f", json!({"targetingKey": "k"})).await, json!(true));
    crate::lab::happened(
        "N5 a body without end",
        "1 GiB declared, and chunks without end",
        "413 or closed after less than 64 MiB, with less than 16 MiB more memory",
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    let mut socket = connect(&server).await;
    let head = format!(
        "POST /ofrep/v1/evaluate/flags/f HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 9\r\n\r\n{{",
        client.token
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    // The server itself waits for 15 seconds.
    timeout(PATIENCE * 2, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn nesting_without_end_is_refused() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let deep =
        |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for nested in [deep("[", "]"), "[".repeat(500_000), "{\"a\":".repeat(100_000)] {
        let body = format!(r#"{{"context":{{"targetingKey":"k","x":{nested}}}}}"#);
        for path in ["/ofrep/v1/evaluate/flags/f", "/ofrep/v1/evaluate/flags"] {
            let answer = client.raw(Method::POST, path, body.clone()).await;
            assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        }
        let body = format!(r#"{{"contexts":[{{"key":"k","x":{nested}}}]}}"#);
        assert_eq!(client.raw(Method::POST, "/api/v1/evaluate", body).await.status, 400);
        let body = format!(r#"{{"key":"g","kind":"json","variations":{nested}}}"#);
        let flags = "/api/v1/projects/shop/flags";
        assert_eq!(server.admin.raw(Method::POST, flags, body).await.status, 400);
    }
    assert_eq!(client.value("f", json!({"targetingKey": "k"})).await, json!(true));
    crate::lab::happened(
        "N7 nesting without end",
        "100,000 and 500,000 levels, in contexts and definitions",
        "refused, and the process went on",
    );
}

/// Pieces of three letters, joined: every one has the same lowest bits of FNV-1a, which hash tables take to choose a place.
fn colliding(n_wanted: usize) -> Vec<String> {
    const PLACE_BITS: u64 = (1 << 20) - 1;
    let fnv = |state: u64, piece: &[u8]| {
        piece
            .iter()
            .fold(state, |state, byte| (state ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let letters: Vec<u8> = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').collect();
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    let mut texts = vec![String::new()];
    while texts.len() < n_wanted {
        let mut seen = std::collections::HashMap::new();
        let two = letters.iter().flat_map(|a| letters.iter().map(move |b| [*a, *b]));
        let mut pieces = two.flat_map(|[a, b]| letters.iter().map(move |c| [a, b, *c]));
        // Two pieces that lead to the same place, so that there are twice as many texts.
        let (one, other) = pieces
            .find_map(|piece| {
                let other = seen.insert(fnv(state, &piece) & PLACE_BITS, piece)?;
                Some((piece, other))
            })
            .expect("so many pieces that two of them meet");
        state = fnv(state, &one) & PLACE_BITS;
        let [one, other] = [one, other].map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        texts = texts
            .iter()
            .flat_map(|text| [format!("{text}{one}"), format!("{text}{other}")])
            .collect();
    }
    texts.truncate(n_wanted);
    texts
}

/// N10: names that meet in a hash table whose hash everybody knows.
#[tokio::test]
async fn names_that_meet_in_a_hash_table_take_no_longer_than_others() {
    const NAMES: usize = 65_000;
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let body = |names: &[String]| {
        let attributes = names.iter().map(|name| format!("\"{name}\":1"));
        format!("{{\"contexts\":[{{{}}}]}}", attributes.collect::<Vec<_>>().join(","))
    };
    let colliding = colliding(NAMES);
    let n_chars = colliding[0].len();
    let harmless: Vec<String> = (0..NAMES).map(|n| format!("{n:0n_chars$}")).collect();
    let mut spent = [Duration::ZERO; 2];
    for (names, spent) in [&harmless, &colliding].into_iter().zip(&mut spent) {
        let before = worked(&server);
        let answer = client.raw(Method::POST, "/api/v1/evaluate", body(names)).await;
        assert_eq!(answer.expect(422)["errors"][0]["code"], "too_many");
        *spent = worked(&server) - before;
    }
    let [usual, spent] = spent;
    // In one place together, they would be compared two billion times.
    assert!(spent < usual * 4 + Duration::from_secs(1), "{spent:?} instead of {usual:?}");
    assert_eq!(client.value("f", json!({"targetingKey": "k"})).await, json!(true));
    crate::lab::happened(
        "N10 names that meet in a hash table",
        "an object of 65,000 names with the same place by FNV-1a, where 256 attributes may be",
        &format!(
            "refused after {} ms of the processor, where other names took {} ms",
            spent.as_millis(),
            usual.as_millis()
        ),
    );
}

/// N9: patterns that would cost much to build, much memory, or much to match.
#[tokio::test]
async fn hostile_patterns_are_refused_or_harmless() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let nested = format!("{}a{}", "(".repeat(40), ")*".repeat(40));
    let long = "a".repeat(513);
    let refused = [
        r"\w{1,1000}",
        r"\w{1000}",
        r"(?:\w{10}){100}",
        r"(\pL{50}){20}",
        "((a{100}){100}){100}",
        "(x{1,1000}){1,1000}",
        r"[^\x00-\x{10FFFF}\pL]{500}\w{100}",
        &nested,
        &long,
        "(",
        "a**{",
        "(?=a)b",
        r"(a)\1",
    ];
    let clause = |pattern: &str| {
        json!([{"kind": "addRule", "variation": "on", "clauses": [
            {"attribute": "x", "op": "matches", "values": [pattern]}]}])
    };
    let before = server.admin.get("/api/v1/projects/shop/environments/production/flags/f").await;
    for pattern in refused {
        let answer = server.admin.change("f", clause(pattern)).await;
        let code = answer.expect(422)["errors"][0]["code"].clone();
        assert!(
            ["invalid_pattern", "pattern_too_large"].contains(&code.as_str().unwrap()),
            "{code}"
        );
    }
    let after = server.admin.get("/api/v1/projects/shop/environments/production/flags/f").await;
    assert_eq!(before.expect(200), after.expect(200), "nothing of it was kept");
    // What other engines need the age of the universe for is accepted, because this one does not.
    for pattern in ["(a+)+$", "(a|a)*$", "(a|aa)+$", "(.*a){12}$"] {
        server.admin.change("f", clause(pattern)).await.expect(200);
    }
    let subject = format!("{}!", "a".repeat(4_000));
    let worked_before = worked(&server);
    for _ in 0..20 {
        client.value("f", json!({"targetingKey": "k", "x": subject})).await;
    }
    let spent = worked(&server) - worked_before;
    // By backtracking, the first alone would take longer than anybody lives.
    assert!(spent < PATIENCE, "{spent:?}");
    crate::lab::happened(
        "N9 hostile patterns",
        "13 patterns that are too large, too deep or none, and 4 that make other engines backtrack, on 4,000 characters",
        &format!(
            "all 13 refused; 20 evaluations of the 4 took {} ms of the processor",
            spent.as_millis()
        ),
    );
}
