//! Limits on how much may be asked: who is counted together, what is answered, and what is never limited.

use crate::harness::Answer;
use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::RawStream;
use crate::harness::Server;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// A server with these flags of the command line, and the flag `f`, which clients may see.
async fn start(args: &[&str]) -> (Server, Client) {
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), None, args).await.owning(None, folder);
    let client = server.with_environment().await;
    let availability = json!({"usingEnvironmentId": true, "usingMobileKey": true});
    let flag = json!({"key": "f", "kind": "boolean", "clientSideAvailability": availability});
    server.admin.post("/api/v1/projects/shop/flags", flag).await.expect(201);
    (server, client)
}

/// Evaluates the flag `f`, with what a proxy might have added.
async fn evaluate(client: &Client, forwarded_for: &str) -> Answer {
    let path = "/ofrep/v1/evaluate/flags/f";
    let request = client.request(Method::POST, path).header("X-Forwarded-For", forwarded_for);
    client.send(request.json(&json!({"context": {"targetingKey": "k"}}))).await
}

/// Asks `n` times and returns how many were refused.
async fn refused(client: &Client, n: usize, forwarded_for: &str) -> usize {
    let mut n_refused = 0;
    for _ in 0..n {
        match evaluate(client, forwarded_for).await.status {
            200 => {}
            429 => n_refused += 1,
            other => panic!("{other}"),
        }
    }
    n_refused
}

async fn count(server: &Server, limit: &str, mode: &str) -> u64 {
    let text = server.admin.get("/metrics").await.text;
    let start = format!("vexil_limited_total{{limit=\"{limit}\",mode=\"{mode}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.unwrap_or_else(|| panic!("no {start}in {text}")).parse().unwrap()
}

#[tokio::test]
async fn a_client_that_asks_too_much_is_told_when_to_come_back() {
    let (server, backend) = start(&["--limit-client-address-rps", "1"]).await;
    let browser = server.token("client", None).await;
    assert!(refused(&browser, 10, "").await > 0);
    let mut refusal = evaluate(&browser, "").await;
    while refusal.status == 200 {
        refusal = evaluate(&browser, "").await;
    }
    assert_eq!(refusal.status, 429);
    let secs: u64 = refusal.header("retry-after").parse().unwrap();
    assert!((1..=4).contains(&secs), "{secs}");
    assert_eq!(refusal.body["errorCode"], "GENERAL");
    assert_eq!(refusal.body["key"], "f");
    // A forged header opens no other account.
    assert!(refused(&browser, 5, "198.51.100.9").await > 0);
    // The other route for clients has the same account, and its own shape of errors.
    let bulk = json!({"contexts": [{"targetingKey": "k"}]});
    let mut refusal = browser.post("/api/v1/evaluate", bulk.clone()).await;
    while refusal.status == 200 {
        refusal = browser.post("/api/v1/evaluate", bulk.clone()).await;
    }
    assert_eq!((refusal.status, &refusal.body["code"]), (429, &json!("rate_limited")));
    assert!(!refusal.header("retry-after").is_empty());
    // Servers and administrators are not counted with clients.
    assert_eq!(refused(&backend, 20, "").await, 0);
    assert!(count(&server, "client_address", "enforced").await > 0);
}

#[tokio::test]
async fn forwarded_addresses_count_behind_a_trusted_proxy_only() {
    let args = &["--limit-client-address-rps", "1", "--trusted-proxies", "127.0.0.0/8,10.0.0.1"];
    let (server, _) = start(args).await;
    let browser = server.token("mobile", None).await;
    for n in 1..=10 {
        let path = format!("203.0.113.1, 198.51.100.{n}, 10.0.0.1");
        assert_eq!(refused(&browser, 1, &path).await, 0, "{path}");
    }
    // What a client puts in front of it is not looked at.
    let mut n_refused = 0;
    for n in 1..=10 {
        n_refused += refused(&browser, 1, &format!("203.0.113.{n}, 198.51.100.77")).await;
    }
    assert!(n_refused > 0);
    // One network of IPv6 is one client.
    let mut n_refused = 0;
    for n in 1..=10 {
        n_refused += refused(&browser, 1, &format!("2001:db8:1:2::{n}")).await;
    }
    assert!(n_refused > 0);
}

#[tokio::test]
async fn a_network_of_ipv6_has_few_streams_of_a_client_token() {
    let (server, _) = start(&["--trusted-proxies", "127.0.0.0/8"]).await;
    let browser = server.token("client", None).await;
    let from = |address: String| {
        let request = browser.request(Method::GET, &format!("/ping/{}", browser.token));
        async { request.header("X-Forwarded-For", address).send().await.unwrap() }
    };
    let mut open = Vec::new();
    for n in 1..=20 {
        open.push(from(format!("2001:db8:1:2::{n}")).await);
    }
    assert!(open.iter().all(|stream| stream.status() == 200));
    assert_eq!(from("2001:db8:1:2:3::9".to_owned()).await.status(), 429);
    assert_eq!(from("2001:db8:1:3::1".to_owned()).await.status(), 200);
}

#[tokio::test]
async fn a_replica_answers_so_many_and_always_health_and_kills() {
    let (server, client) = start(&["--limit-replica-rps", "20"]).await;
    // Together, because one after another they might take longer than what they use up comes back.
    let asked = (0..200).map(|_| client.evaluate("f", json!({"targetingKey": "k"})));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().any(|answer| answer.status == 200));
    let refusal = answers.iter().find(|answer| answer.status == 429).expect("all were answered");
    assert!(refusal.header("retry-after").parse::<u64>().unwrap() > 0);

    let admin = &server.admin;
    let asked = (0..200).map(async |_| admin.get("/api/v1/projects").await.status);
    let flood = futures_util::future::join_all(asked);
    let needed = async {
        for path in ["/livez", "/readyz", "/health"] {
            admin.get(path).await.expect(200);
        }
        admin.post("/kill/f", json!({"comment": "now"})).await.expect(200);
        admin.post("/restore/f", json!({"comment": "now"})).await.expect(200);
    };
    let (statuses, ()) = futures_util::future::join(flood, needed).await;
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[tokio::test]
async fn a_page_can_read_that_it_asks_too_much_and_its_preflights_do_not_count() {
    let (_server, backend) = start(&["--limit-replica-rps", "5"]).await;
    let from_page = |method: Method, path: &'static str| {
        let request = backend.request(method, path).header("Origin", "https://shop.example");
        async { backend.send(request).await }
    };
    for path in ["/ofrep/v1/evaluate/flags", "/sdk/evalx/x/contexts/x", "/events/bulk/x"] {
        let asked = (0..50).map(|_| from_page(Method::OPTIONS, path));
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(|answer| answer.status < 300), "{path}");
        let asked = (0..50).map(|_| from_page(Method::POST, path));
        let answers = futures_util::future::join_all(asked).await;
        let refusal = answers.iter().find(|answer| answer.status == 429).unwrap();
        assert!(!refusal.header("access-control-allow-origin").is_empty(), "{path}");
        let exposed = refusal.header("access-control-expose-headers").to_lowercase();
        assert!(exposed.contains("retry-after"), "{path}: {exposed}");
    }
    let request = backend.request(Method::GET, "/ping/x").header("Origin", "https://shop.example");
    let flooded = (0..65).fold(request, |request, n| request.header(format!("x-flood-{n}"), "1"));
    let refusal = backend.send(flooded).await;
    assert_eq!(
        (refusal.status, refusal.header("access-control-allow-origin").is_empty()),
        (431, false)
    );
}

#[tokio::test]
async fn a_provider_that_asks_too_much_for_a_stream_is_sent_away_for_a_while() {
    for limit in ["--limit-replica-rps", "--limit-client-address-rps"] {
        let (server, _) = start(&[limit, "5"]).await;
        let browser = server.token("client", None).await;
        let asked = (0..50).map(|_| browser.get("/ofrep/v1/events?project=absent"));
        // Those that are not over the limit are told what is wrong with what they ask for.
        let answers = futures_util::future::join_all(asked).await;
        let sent_away = answers.iter().filter(|answer| answer.status == 200);
        let texts: Vec<&str> = sent_away.map(|answer| answer.text.as_str()).collect();
        assert!(!texts.is_empty() && texts.iter().all(|text| text.starts_with("retry: ")));
        assert!(answers.iter().all(|answer| answer.status != 429), "{limit}");
    }
}

#[tokio::test]
async fn a_limit_in_the_shadow_only_counts() {
    let shadow = &["--limit-shadow", "server-token,client-address"];
    let limits = &["--limit-server-token-rps", "1", "--limit-client-address-rps", "1"];
    let (server, backend) = start(&[&shadow[..], limits].concat()).await;
    let browser = server.token("client", None).await;
    assert_eq!(refused(&backend, 20, "").await, 0);
    assert_eq!(refused(&browser, 20, "").await, 0);
    assert!(count(&server, "server_token", "shadow").await > 0);
    assert!(count(&server, "client_address", "shadow").await > 0);
}

#[tokio::test]
async fn limits_of_streams_and_triggers_can_be_in_the_shadow() {
    let (server, backend) = start(&["--limit-shadow", "streams,trigger"]).await;
    let mut streams = Vec::new();
    for _ in 0..1_001 {
        streams.push(RawStream::open(&backend).await);
    }
    assert_eq!(count(&server, "stream_token", "shadow").await, 1);
    let fire = async |n| server.admin.post(&format!("/trigger/vxt_{n}"), json!({})).await.status;
    let statuses = (0..100).map(fire);
    let statuses = futures_util::future::join_all(statuses).await;
    assert!(!statuses.contains(&429), "{statuses:?}");
    assert!(count(&server, "trigger_address", "shadow").await > 0);
}

#[tokio::test]
async fn an_administrators_token_has_a_limit_that_kills_do_not_know() {
    let (server, _) = start(&["--limit-admin-token-rps", "5"]).await;
    let asked = (0..50).map(async |_| server.admin.get("/api/v1/projects").await.status);
    let statuses = futures_util::future::join_all(asked).await;
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    let kills = (0..20).map(async |_| server.admin.post("/kill/f", json!({})).await.status);
    let statuses = futures_util::future::join_all(kills).await;
    assert!(!statuses.contains(&429), "{statuses:?}");
    assert!(count(&server, "admin_token", "enforced").await > 0);
}

#[tokio::test]
async fn requests_that_nobody_vouches_for_use_up_nothing_of_what_is_shared() {
    let (server, client) = start(&["--limit-replica-rps", "50"]).await;
    let nobody = server.admin.with_token("nobody's token");
    for _ in 0..100 {
        assert_eq!(evaluate(&nobody, "").await.status, 401);
        assert_eq!(nobody.get("/api/v1/stream").await.status, 401);
    }
    assert_eq!(refused(&client, 20, "").await, 0);
}

#[tokio::test]
async fn what_passes_a_bound_is_counted() {
    let (server, client) = start(&[]).await;
    let deep = format!("{{\"context\":{{\"x\":{}1{}}}}}", "[".repeat(40), "]".repeat(40));
    let large = format!("{{\"context\":{{\"x\":\"{}\"}}}}", "x".repeat(1_100_000));
    let many: serde_json::Map<String, Value> =
        (0..300).map(|n| (n.to_string(), json!(1))).collect();
    let many = json!({"context": many}).to_string();
    for (code, body) in [("too_deep", deep), ("body_too_large", large), ("too_many", many)] {
        let path = "/ofrep/v1/evaluate/flags/f";
        let answer = client.raw(Method::POST, path, body).await;
        assert!((400..500).contains(&answer.status), "{code}: {}", answer.text);
        let counted = format!("vexil_bounds_refused_total{{reason=\"{code}\"}}");
        assert_eq!(server.metric(&counted).await, 1, "{code}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_large_body_in_the_shadow_is_counted_up_to_four_times_the_limit() {
    let (server, client) = start(&["--limit-shadow", "body"]).await;
    let evaluated = async |n_bytes: usize| {
        let filler = " ".repeat(n_bytes);
        let body = format!("{filler}{{\"context\":{{\"targetingKey\":\"k\"}}}}");
        client.raw(Method::POST, "/ofrep/v1/evaluate/flags/f", body).await
    };
    evaluated(1_000).await.expect(200);
    assert_eq!(count(&server, "body", "shadow").await, 0);
    evaluated(1_100_000).await.expect(200);
    assert_eq!(count(&server, "body", "shadow").await, 1);
    assert_eq!(evaluated(4_300_000).await.expect(413)["errorCode"], "GENERAL");

    let created = async |n_bytes: usize| {
        let body = format!("{}{{\"key\":\"g\",\"kind\":\"boolean\"}}", " ".repeat(n_bytes));
        server.admin.raw(Method::POST, "/api/v1/projects/shop/flags", body).await
    };
    assert_eq!(created(17_000_000).await.expect(413)["code"], "body_too_large");
    created(4_300_000).await.expect(201);
    assert_eq!(count(&server, "body", "shadow").await, 2);
    let refused = "vexil_bounds_refused_total{reason=\"body_too_large\"}";
    assert_eq!(server.metric(refused).await, 2);
}

#[tokio::test]
async fn many_headers_in_the_shadow_are_counted_and_hyper_still_has_its_own_bound() {
    let (server, client) = start(&["--limit-shadow", "headers"]).await;
    let flooded = async |path: &str, n_headers: usize| {
        let request = client.request(Method::POST, path).json(&json!({}));
        let request =
            (0..n_headers).fold(request, |request, n| request.header(format!("x-{n}"), "1"));
        client.send(request).await.status
    };
    for (n, path) in [(1, "/ofrep/v1/evaluate/flags"), (2, "/api/v1/evaluate")] {
        assert_ne!(flooded(path, 70).await, 431, "{path}");
        assert_eq!(count(&server, "headers", "shadow").await, n, "{path}");
        assert_eq!(flooded(path, 200).await, 431, "{path}");
    }
}

#[tokio::test]
async fn a_large_context_in_the_shadow_is_counted_up_to_four_times_the_limits() {
    let (server, backend) = start(&["--limit-shadow", "context"]).await;
    let browser = server.token("client", None).await;
    let with = |n_attributes: usize, depth: usize| {
        let mut context = json!({"kind": "user", "key": "k"});
        for n in 0..n_attributes {
            context[n.to_string()] = json!(1);
        }
        context["deep"] = (0..depth).fold(json!(1), |inner, _| json!([inner]));
        context
    };
    let statuses = async |context: Value| {
        let one = backend.evaluate("f", context.clone()).await;
        let many = backend.post("/api/v1/evaluate", json!({"contexts": [context]})).await;
        let evalx = format!("/sdk/evalx/{}/context", browser.token);
        let evalx = browser.request(Method::from_bytes(b"REPORT").unwrap(), &evalx).json(&context);
        [one.status, many.status, browser.send(evalx).await.status]
    };
    assert_eq!(statuses(with(3, 3)).await, [200, 200, 200]);
    assert_eq!(count(&server, "context", "shadow").await, 0);
    assert_eq!(statuses(with(300, 3)).await, [200, 200, 200]);
    assert_eq!(count(&server, "context", "shadow").await, 3);
    assert_eq!(statuses(with(3, 20)).await, [200, 200, 200]);
    assert_eq!(count(&server, "context", "shadow").await, 6);
    assert_eq!(statuses(with(1_100, 3)).await, [400, 422, 400]);
    // Deeper than any JSON is read; LaunchDarkly's and OFREP's routes read a little deeper.
    assert_eq!(statuses(with(3, 40)).await, [400, 400, 400]);
    // And where nothing is in the shadow, the same is refused.
    let (_server, backend) = start(&[]).await;
    assert_eq!(backend.evaluate("f", with(300, 3)).await.status, 400);
    assert_eq!(backend.evaluate("f", with(3, 20)).await.status, 400);
}

#[tokio::test]
async fn a_server_token_has_its_own_limit() {
    let (server, noisy) = start(&["--limit-server-token-rps", "1"]).await;
    let quiet = server.token("server", None).await;
    assert!(refused(&noisy, 20, "").await > 0);
    assert_eq!(refused(&quiet, 1, "").await, 0);
    assert!(count(&server, "server_token", "enforced").await > 0);
}

#[tokio::test]
async fn a_request_has_so_many_headers() {
    let server = Server::start(Backend::Sqlite).await;
    for path in ["/ofrep/v1/evaluate/flags/f", "/api/v1/projects", "/livez"] {
        let flooded = |n_headers: usize| {
            let request = server.admin.request(Method::POST, path);
            (0..n_headers).fold(request, |request, n| request.header(format!("x-flood-{n}"), "1"))
        };
        let answer = server.admin.send(flooded(65)).await;
        assert_eq!(answer.status, 431, "{path}: {}", answer.text);
        assert_ne!(server.admin.send(flooded(50)).await.status, 431, "{path}");
        // More than hyper takes at all.
        assert_eq!(server.admin.send(flooded(200)).await.status, 431, "{path}");
    }
    let long = format!("/ofrep/v1/evaluate/flags/{}", "x".repeat(17 * 1024));
    let status = server.admin.get(&long).await.status;
    assert!(matches!(status, 414 | 431), "{status}");
    let request =
        server.admin.request(Method::GET, "/livez").header("x-fill", "x".repeat(17 * 1024));
    assert_eq!(server.admin.send(request).await.status, 431);
    server.admin.get("/livez").await.expect(200);
    crate::lab::happened(
        "N6 heads without end",
        "65 headers, 200 headers, a path and a header of 17 KiB",
        "431 or 414 each, and the process went on",
    );
}
