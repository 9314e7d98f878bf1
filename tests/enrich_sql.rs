//! Subscribers, sites, networks and leases from queries, against a PostgreSQL of the test's own.

#[path = "../sinks/postgres/tests/server/mod.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use postgres_connect::SslMode;
use rgz_netflow::control::leases::{LeaseBook, LeaseState};
use rgz_netflow::control::state::State;
use rgz_netflow::enrich::sql::{OnAnswer, OnLeases, SqlConfig, SqlSource};
use rgz_netflow::enrich::{Config, Enrichment, ReloadError, ReloadReport};
use rgz_netflow::flow::{Addr, Uuid};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// 2026-06-01.
const NOW_MS: i64 = 1_780_272_000_000;

const A: Uuid = Uuid::from_u128(0xa);
const B: Uuid = Uuid::from_u128(0xb);
const R: Uuid = Uuid::from_u128(0xe);

type Answer = Result<Option<ReloadReport>, ReloadError>;

fn fill(client: &mut postgres::Client) {
    let text = format!(
        "CREATE TABLE subscriber (ip inet, id uuid, reseller uuid, since timestamptz, until timestamptz);
         INSERT INTO subscriber VALUES ('10.1.2.3', '{A}', '{R}', NULL, 'infinity');
         INSERT INTO subscriber VALUES ('10.1.3.0/24', '{B}', NULL, '2026-01-01 01:00:00+01', '2026-05-01');
         CREATE TABLE site (nas text, name text, cir bigint, exporter inet);
         INSERT INTO site VALUES ('gw1', 'hotel, \"north\"', 50000000, '192.0.2.1');
         CREATE TABLE lease (ip inet, id uuid, mac macaddr);
         INSERT INTO lease VALUES ('10.2.0.1', '{A}', 'aa:bb:cc:00:11:22'), ('2001:db8::1', '{B}', NULL);"
    );
    client.batch_execute(&text).unwrap();
}

fn sql(url: String) -> SqlConfig {
    SqlConfig {
        url,
        interval_ms: 50,
        subscribers: "SELECT ip::text AS prefix, id AS subscriber_id, reseller AS reseller_id, since AS \"from\", \
                      until AS \"to\" FROM subscriber ORDER BY ip;\n"
            .into(),
        sites: "SELECT nas AS nas_id, name AS site, cir AS cir_bps, host(exporter) AS exporter FROM site".into(),
        networks: "SELECT '10.0.0.0/8'::cidr AS prefix".into(),
        leases: "SELECT ip, id AS subscriber_id, mac FROM lease".into(),
        ..SqlConfig::default()
    }
}

fn open(folder: &Path, sql: SqlConfig) -> (Arc<Enrichment>, ReloadReport) {
    let config = Config { geoip: Default::default(), sql: Some(sql), ..Config::default() };
    let (enrichment, report) = Enrichment::open_with_answers(config, folder).unwrap();
    (Arc::new(enrichment), report)
}

fn spawn(enrichment: &Arc<Enrichment>, folder: &Path, book: &Arc<LeaseBook>) -> (SqlSource, Receiver<Answer>) {
    let (sender, answers) = mpsc::channel();
    let book = book.clone();
    let on_leases: OnLeases = Box::new(move |changes| book.take_changes(changes, NOW_MS));
    let on_answer: OnAnswer = Box::new(move |answer| drop(sender.send(answer)));
    let sql = enrichment.config().sql.unwrap();
    (SqlSource::spawn(enrichment.clone(), sql, folder.into(), on_leases, on_answer).unwrap(), answers)
}

fn subscriber(enrichment: &Enrichment, ip: &str) -> Option<Uuid> {
    let table = enrichment.table();
    let record = table.record(table.find(ip.parse().unwrap()));
    let holder = table.holder(record.party, NOW_MS)?;
    enrichment.names().uuids.get(holder.subscriber).copied()
}

fn error_with(answers: &Receiver<Answer>, word: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match answers.recv_timeout(left).unwrap_or_else(|_| panic!("no error with {word}")) {
            Err(error) if error.to_string().contains(word) => return error.to_string(),
            _ => {}
        }
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn answers_are_used_kept_and_bad_ones_named() {
    let Some(mut server) = server::Server::start() else { return };
    server.database("platform");
    let mut client = server.client("platform");
    fill(&mut client);
    let folder = tempfile::tempdir().unwrap();
    let answers_folder = folder.path().join("enrich");
    let (enrichment, _) = open(&answers_folder, sql(server.url("platform")));
    assert_eq!(subscriber(&enrichment, "10.1.2.3"), None);
    let state = Arc::new(State::open(&folder.path().join("state.redb")).unwrap());
    let book = Arc::new(LeaseBook::open(enrichment.clone(), state).unwrap());
    let (source, answers) = spawn(&enrichment, &answers_folder, &book);
    let report = answers.recv_timeout(PATIENCE).unwrap().unwrap().unwrap();
    assert_eq!(
        report.sources.iter().map(|s| (s.kind, s.rows)).collect::<Vec<_>>(),
        [("networks", 1), ("sites", 1), ("subscribers", 2)]
    );
    assert!(report.sources.iter().all(|source| source.file.extension().is_some_and(|e| e == "csv")));
    assert_eq!(subscriber(&enrichment, "10.1.2.3"), Some(A));
    // B's interval is over.
    assert_eq!(subscriber(&enrichment, "10.1.3.7"), None);
    assert_eq!(&*enrichment.sites()[0].site, "hotel, \"north\"");
    let held = |ip: &str| book.of(ip.parse::<Addr>().unwrap()).first().cloned();
    wait_for("the leases", || held("2001:db8::1").is_some());
    let lease = |subscriber_id, mac, to_ms| {
        let (reseller_id, nas_id, site) = (None, None, None);
        LeaseState { subscriber_id, reseller_id, nas_id, site, mac, from_ms: NOW_MS, to_ms }
    };
    assert_eq!(held("10.2.0.1"), Some(lease(A, 0xaabb_cc00_1122, i64::MAX)));

    // Another subscriber; another lease, one gone, one pushed meanwhile.
    client.batch_execute(&format!("UPDATE subscriber SET id = '{B}' WHERE reseller IS NOT NULL")).unwrap();
    wait_for("the new subscriber", || subscriber(&enrichment, "10.1.2.3") == Some(B));
    book.put("2001:db8::1".parse().unwrap(), &lease(A, 0, i64::MAX)).unwrap();
    client.batch_execute("DELETE FROM lease").unwrap();
    wait_for("the end of the lease", || held("10.2.0.1").is_none());
    wait_for("the answer that is kept", || std::fs::read(answers_folder.join("leases.csv")).unwrap().len() < 30);
    assert_eq!(held("2001:db8::1").map(|lease| lease.subscriber_id), Some(A), "pushed by someone else");

    // A bad row, then a bad query.
    client.batch_execute("INSERT INTO subscriber VALUES ('10.9.9.9', NULL, NULL, NULL, NULL)").unwrap();
    let error = error_with(&answers, "subscribers");
    assert!(error.contains("[enrich.sql] subscribers, row 3: column subscriber_id: is empty"), "{error}");
    assert_eq!(subscriber(&enrichment, "10.1.2.3"), Some(B));
    client.batch_execute("DELETE FROM subscriber WHERE id IS NULL; ALTER TABLE lease RENAME TO leases").unwrap();
    let error = error_with(&answers, "leases");
    assert!(error.contains("[enrich.sql] leases: ") && error.contains("\"lease\" does not exist"), "{error}");
    assert_eq!(enrichment.sources().1.len(), 1);
    server.stop("KILL");
    error_with(&answers, "[enrich.sql]: ");
    drop(source);

    // The next start, without the database.
    let (enrichment, report) = open(&answers_folder, sql(server.url("platform")));
    assert_eq!((subscriber(&enrichment, "10.1.2.3"), report.sources.len()), (Some(B), 3));
    // A kept answer that is damaged does not keep the collector from starting.
    std::fs::write(answers_folder.join("sites.csv"), "nas_id\n\"").unwrap();
    let (enrichment, report) = open(&answers_folder, sql(server.url("platform")));
    assert_eq!(subscriber(&enrichment, "10.1.2.3"), None);
    assert!(report.hints.iter().any(|hint| hint.contains("[enrich.sql] sites")), "{:?}", report.hints);
}

#[test]
fn queries_have_a_time_limit_read_only_and_go_over_tls() {
    let Some(mut server) = server::Server::start() else { return };
    server.database("platform");
    let Some(authority) = server.with_tls() else { return };
    let folder = tempfile::tempdir().unwrap();
    let url = server.url("platform").replace("127.0.0.1", "localhost");
    let base = SqlConfig {
        url,
        interval_ms: 50,
        sslmode: SslMode::VerifyFull,
        sslrootcert: Some(authority.clone()),
        ..SqlConfig::default()
    };
    let networks = |query: &str| SqlConfig { networks: query.into(), ..base.clone() };
    let first = |name: &str, sql: SqlConfig| {
        let answers_folder = folder.path().join(name);
        let (enrichment, _) = open(&answers_folder, sql);
        let state = Arc::new(State::open(&folder.path().join(format!("{name}.redb"))).unwrap());
        let book = Arc::new(LeaseBook::open(enrichment.clone(), state).unwrap());
        let (_source, answers) = spawn(&enrichment, &answers_folder, &book);
        answers.recv_timeout(PATIENCE).unwrap()
    };
    let secure = "SELECT '10.0.0.0/8' AS prefix FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl";
    assert_eq!(first("secure", networks(secure)).unwrap().unwrap().sources[0].rows, 1);
    let error = |name, sql| first(name, sql).unwrap_err().to_string();
    let slow = SqlConfig { statement_timeout_ms: 100, ..networks("SELECT pg_sleep(100)::text AS prefix") };
    let late = error("late", slow);
    assert!(late.contains("[enrich.sql] networks: ") && late.contains("statement timeout"), "{late}");
    let writes = error("writes", networks("INSERT INTO t VALUES (1) RETURNING '10.0.0.0/8' AS prefix"));
    assert!(writes.contains("[enrich.sql] networks: "), "{writes}");
    let wrong = SqlConfig { sslrootcert: None, ..networks(secure) };
    assert!(error("wrong", wrong).contains("[enrich.sql]: connect: "));
}
