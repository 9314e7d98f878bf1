use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::process::Mood;
use super::*;

const QUERY: &str = "/api/v1/netflow/query";
const CSV: &str = "/api/v1/netflow/flows.csv";

#[test]
fn what_a_store_says_becomes_the_status() {
    let server = TestServer::start();
    for (mood, status) in [(Mood::Unsupported, 501), (Mood::Deadline, 504), (Mood::Down, 503), (Mood::Panics, 500)] {
        server.process.set(mood);
        for path in [QUERY, CSV] {
            let got = server.get(path);
            assert_eq!(got.status, status, "{mood:?} {path}: {}", got.body);
            let store = got.json()["store"].as_str().map(str::to_owned);
            assert_eq!(store.as_deref(), (mood != Mood::Panics).then_some("local"), "{mood:?} {path}");
        }
    }
    server.process.set(Mood::Well);
    assert_eq!(server.get(QUERY).status, 200);
}

#[test]
fn an_export_that_fails_half_way_does_not_look_whole() {
    let server = TestServer::start();
    server.process.set(Mood::DownAfterRows);
    let got = server.get(CSV);
    assert_eq!(got.status, 200);
    assert!(got.body.starts_with("cut: "), "{} bytes", got.body.len());
}

#[test]
fn questions_beyond_the_bound_are_turned_away_and_the_others_answered() {
    let server = TestServer::with(Config { queries_max: 1, ..Config::default() }, TestProcess::default());
    server.process.set(Mood::Waits);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| server.get(QUERY));
        let running = "netflow_http_questions_running{kind=\"question\"} 1\n";
        wait_for(|| server.get("/metrics").body.contains(running));
        let second = server.get(QUERY);
        assert_eq!((second.status, second.header("retry-after")), (503, "1"));
        server.process.set(Mood::Well);
        assert_eq!(first.join().unwrap().status, 200);
    });
    assert_eq!(server.get(QUERY).status, 200);
}

#[test]
fn a_caller_that_asks_too_much_is_told_when_to_come_again_and_others_are_answered() {
    let token = |name: &str| TokenConfig { name: name.into(), sha256: sha256(name), ..TokenConfig::default() };
    let config = Config {
        requests_per_second: 1,
        token: vec![token("wild"), token("tame")],
        metrics_port: 0,
        ..Config::default()
    };
    let server = TestServer::with(config, TestProcess::default());
    let ask = |token: &str, path: &str| {
        server.request(Method::Get, path, &[("authorization", &*format!("Bearer {token}"))], b"")
    };
    // Twenty at once, then one a second.
    assert!((0..20).all(|_| ask("wild", "/readyz").status == 200));
    let refused = (0..60).map(|_| ask("wild", "/readyz")).find(|got| got.status == 429).expect("it asks too much");
    assert!(refused.header("retry-after") == "1" && refused.json()["error"].is_string());
    assert_eq!(ask("tame", "/readyz").status, 200);
    // Guessing tokens is slow, and no other's affair.
    assert_eq!(ask("guess", "/readyz").status, 401);
    let got = ask("guess again", "/readyz");
    assert_eq!((got.status, got.header("retry-after").parse::<u64>().is_ok()), (429, true));
    assert_eq!(ask("tame", "/readyz").status, 200);
    // What never waits is always answered.
    assert!((0..60).all(|_| server.get("/healthz").status == 200));
    let counted = ask("tame", "/metrics").body;
    let count = counted.lines().find_map(|line| line.strip_prefix("netflow_http_rate_limited_total "));
    assert!(count.unwrap().parse::<usize>().unwrap() >= 2, "{count:?}");
}

#[test]
fn no_limit_limits_nothing() {
    let server = TestServer::with(Config { requests_per_second: 0, ..Config::default() }, TestProcess::default());
    assert!((0..300).all(|_| server.get("/readyz").status == 200));
}

#[test]
fn bodies_beyond_the_memory_for_them_are_turned_away_and_small_ones_find_room() {
    let config = Config { body_bytes_max: 64 << 20, client_time_max_ms: 60_000, ..Config::default() };
    let server = TestServer::with(config, TestProcess::default());
    let ingest = "/api/v1/netflow/v5-ingest";
    // Announces all there is but a little, and sends nothing.
    let mut greedy = TcpStream::connect(server.addr).unwrap();
    let announced = (64 << 20) - (64 << 10);
    write!(greedy, "POST {ingest} HTTP/1.1\r\nHost: {}\r\nContent-Length: {announced}\r\n\r\n", server.addr).unwrap();
    wait_for(|| server.request(Method::Post, ingest, &[], &[0; 128 << 10]).status == 503);
    assert_eq!(server.request(Method::Post, ingest, &[], &[0; 1000]).status, 200);
    drop(greedy);
    wait_for(|| server.request(Method::Post, ingest, &[], &[0; 128 << 10]).status == 200);
}

#[test]
fn connections_beyond_the_bound_wait_until_others_end() {
    let config = Config { connections_max: 2, client_time_max_ms: 60_000, ..Config::default() };
    let server = TestServer::with(config, TestProcess::default());
    let held: Vec<TcpStream> = (0..2).map(|_| TcpStream::connect(server.addr).unwrap()).collect();
    std::thread::scope(|scope| {
        let (sender, answered) = std::sync::mpsc::channel();
        let addr = server.addr;
        scope.spawn(move || sender.send(request(addr, Method::Get, "/healthz", &[], b"").status).unwrap());
        assert!(answered.recv_timeout(Duration::from_millis(300)).is_err());
        drop(held);
        assert_eq!(answered.recv_timeout(Duration::from_secs(60)).unwrap(), 200);
    });
}

#[test]
fn headers_or_a_body_that_trickle_are_cut_however_steadily_they_come() {
    let config = Config { client_time_max_ms: 300, ..Config::default() };
    let server = TestServer::with(config, TestProcess::default());
    let ingest = "POST /api/v1/netflow/v5-ingest HTTP/1.1\r\nContent-Length: 100000\r\n";
    for head in [format!("{ingest}X-Long: "), format!("{ingest}Host: {}\r\n\r\n", server.addr)] {
        let mut client = TcpStream::connect(server.addr).unwrap();
        client.write_all(head.as_bytes()).unwrap();
        let started = Instant::now();
        // A byte at a time, until the other side has closed.
        while client.write_all(b"a").is_ok() {
            assert!(started.elapsed() < Duration::from_secs(20), "still open: {head}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(server.process.ingested.lock().unwrap().is_empty());
}

#[test]
fn clients_that_send_nothing_trickle_or_take_nothing_are_cut() {
    let config = Config { client_time_max_ms: 300, ..Config::default() };
    let server = TestServer::with(config, TestProcess::default());
    server.process.set(Mood::Long);
    let started = Instant::now();
    let mut silent = TcpStream::connect(server.addr).unwrap();
    assert_eq!(silent.read(&mut [0; 16]).unwrap_or(0), 0);
    let mut trickling = TcpStream::connect(server.addr).unwrap();
    let mut sent = 0;
    // One byte at a time, until the other side has closed.
    while trickling.write_all(b"G").is_ok() && sent < 1000 {
        sent += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(sent < 1000);
    let mut greedy = TcpStream::connect(server.addr).unwrap();
    write!(greedy, "GET {CSV} HTTP/1.1\r\nHost: {}\r\n\r\n", server.addr).unwrap();
    // Its turn is given back although it never reads.
    let idle = "netflow_http_questions_running{kind=\"export\"} 0\n";
    wait_for(|| !server.get("/metrics").body.contains(idle));
    wait_for(|| server.get("/metrics").body.contains(idle));
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_question_that_takes_longer_than_a_client_may_is_still_answered() {
    let config = Config { client_time_max_ms: 200, ..Config::default() };
    let server = TestServer::with(config, TestProcess::default());
    server.process.set(Mood::Waits);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| server.get(QUERY));
        std::thread::sleep(Duration::from_millis(700));
        server.process.set(Mood::Well);
        assert_eq!(waiting.join().unwrap().status, 200);
    });
}

#[test]
fn every_answer_carries_the_security_headers() {
    let server = TestServer::start();
    for path in ["/", "/healthz", "/nothing", QUERY, "/metrics"] {
        let got = server.get(path);
        assert_eq!(got.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(got.header("cache-control"), "no-store", "{path}");
        assert!(got.header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
    }
}

#[test]
fn an_address_in_use_is_named() {
    let server = TestServer::start();
    let config = Config { listen: server.addr.to_string(), ..Config::default() };
    let endpoint = Endpoint::new(server.process.clone(), config, Path::new(".")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let problem = runtime.block_on(Server::bind(Arc::new(endpoint))).err().unwrap();
    assert_eq!((&*problem.key, problem.problem), ("listen", format!("{} is in use by another process", server.addr)));
}

fn wait_for(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}
