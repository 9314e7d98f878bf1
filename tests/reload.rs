//! A new configuration while flows arrive: what can change does and loses nothing, what cannot is named, and a file with a
//! problem changes nothing.

#[path = "../sinks/postgres/tests/server/mod.rs"]
mod server;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Collector, PROGRAM, Process, wait_until};

/// A time range that holds everything.
const ALWAYS: &str = "from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z";
const PATIENCE: Duration = Duration::from_secs(60);

fn sink(name: &str, path: &str, more: &str) -> String {
    format!("[[sink]]\nname = \"{name}\"\nkind = \"parquet\"\npath = \"{path}\"\nflush_interval = \"1s\"\n{more}\n")
}

/// The configuration with other text after `[admin]` listen.
fn write(collector: &Collector, receive: &str, rest: &str) {
    let (port, admin) = (collector.port, collector.admin);
    let text = format!(
        "[receive]\nlisten = [\"127.0.0.1:{port}\"]\n{receive}\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{rest}\n"
    );
    let new = collector.folder.join("pipeline.toml.new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, collector.folder.join("pipeline.toml")).unwrap();
}

fn reload(collector: &Collector) -> (u16, Value) {
    let agent = ureq::Agent::from(ureq::Agent::config_builder().http_status_as_error(false).build());
    let mut answer = agent.post(collector.url("/api/v1/netflow/reload")).send_empty().unwrap();
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap())
}

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

fn stored(collector: &Collector, store: &str) -> u64 {
    let answer = collector.get(&format!("query?{ALWAYS}&tier=flows&measures=flows&store={store}"));
    answer["matched"]["flows"].as_u64().unwrap()
}

fn stored_in_folder(collector: &Collector, path: &str) -> u64 {
    let (from, to) = ("1970-01-02T00:00:00Z", "2100-01-01T00:00:00Z");
    let range = ["--from", from, "--to", to, "--tier", "flows", "--measures", "flows", "--json"];
    let text = collector.cli(&[&["query", "--data", path], &range[..]].concat());
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["matched"]["flows"].as_u64().unwrap()
}

fn sinks(collector: &Collector) -> Vec<String> {
    let sinks = collector.get("sinks");
    sinks["items"].as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sinks_come_change_and_go_while_flows_arrive_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let two = [sink("one", "data", ""), sink("two", "two", "")].concat();
    let mut collector = Collector::with_config(folder.path(), &two).start();
    let output = folder.path().join("generate.json");
    let mut command = Command::new(PROGRAM);
    command.args(["generate", "--json", "--rate", "10000", "--to", &format!("127.0.0.1:{}", collector.port)]);
    let mut generator = Process::start(&mut command, &output);
    let delivered = |collector: &Collector, index: usize| {
        collector.get("sinks")["items"][index]["delivered_flows"].as_u64().unwrap() > 0
    };
    wait_until("both sinks have flows", PATIENCE, || delivered(&collector, 0) && delivered(&collector, 1));

    let three = [sink("one", "data", ""), sink("two", "moved", ""), sink("three", "three", "start = \"oldest\"")];
    write(&collector, "", &three.concat());
    let (status, report) = reload(&collector);
    assert_eq!(status, 200, "{report}");
    assert_eq!(texts(&report["changed"]), ["sink.two.path", "sink.three"]);
    assert_eq!(report["changed"], report["applied"]);
    assert_eq!(report["needs_restart"], serde_json::json!({}));
    assert_eq!(sinks(&collector), ["one", "two", "three"]);
    wait_until("the sinks go on", PATIENCE, || delivered(&collector, 1) && delivered(&collector, 2));
    assert!(collector.get_text("/metrics").contains("sink:three"));

    // Seen by itself, without being asked.
    write(&collector, "", &[sink("one", "data", "batch_rows = 5000"), sink("two", "moved", "")].concat());
    wait_until("the third sink is gone", PATIENCE, || sinks(&collector) == ["one", "two"]);
    wait_until("the sinks go on", PATIENCE, || delivered(&collector, 0) && delivered(&collector, 1));
    assert!(!collector.get_text("/metrics").contains("sink:three"), "its cursor pins nothing");

    generator.signal("INT");
    generator.wait(PATIENCE);
    let sent: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    let sent = sent["flows"].as_u64().unwrap();
    wait_until("everything is received", PATIENCE, || collector.ledger("flows/announced") == sent);
    collector.wait_delivered();
    for status in collector.get("sinks")["items"].as_array().unwrap() {
        assert_eq!(status["received_flows"], status["delivered_flows"], "{status}");
    }
    assert_eq!(stored(&collector, "one"), sent);
    assert_eq!(collector.dropped_flows(), 0);
    collector.stop();
    let (before, after) = (stored_in_folder(&collector, "two"), stored_in_folder(&collector, "moved"));
    assert!(before > 0 && after > 0, "{before} {after}");
    assert_eq!(before + after, sent, "the changed sink went on at its cursor");
}

#[test]
fn what_can_change_live_does_and_what_cannot_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let local = sink("local", "data", "");
    let flows = |collector: &Collector| collector.ledger("flows/logged");
    let first = collector.generate(&["--rate", "0", "--count", "300"]);
    wait_until("it is logged", PATIENCE, || flows(&collector) == 300);

    // Rules of decoding, a rollup, and two that need a restart.
    let rest = format!(
        "queries_max = 7\n[decode]\nworkers = 3\n[[decode.exporter]]\naddress = \"127.0.0.1\"\nsampling_override = 10\n\
         [telemetry]\nlog_level = \"debug\"\n\
         [[aggregate.rollup]]\nname = \"by_port\"\nbucket = \"1m\"\nby = [\"reseller_id\", \"dst_port\"]\n{local}"
    );
    write(&collector, "", &rest);
    let (status, report) = reload(&collector);
    assert_eq!(status, 200, "{report}");
    let waits: Vec<&str> = report["needs_restart"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(waits, ["admin.queries_max", "decode.workers"]);
    let applied = texts(&report["applied"]);
    for key in ["aggregate.rollup[0].name", "decode.exporter[0].sampling_override"] {
        assert!(applied.contains(&key), "{key} in {applied:?}");
    }
    assert!(!texts(&report["changed"]).contains(&"telemetry.log_level"), "the environment still wins");
    assert_eq!(collector.get("config")["decode.workers"]["value"], "0", "what is in force is shown");
    let again = reload(&collector).1;
    assert_eq!(again["needs_restart"], report["needs_restart"], "named until the restart");
    assert_eq!(again["applied"], serde_json::json!([]));

    let second = collector.generate(&["--rate", "0", "--count", "300", "--exporters", "1"]);
    wait_until("it is logged", PATIENCE, || flows(&collector) == 600);
    collector.wait_delivered();
    let matched = |tier: &str| {
        let answer = collector.get(&format!("query?{ALWAYS}&tier={tier}&measures=bytes,flows"));
        (answer["matched"]["bytes"].as_u64().unwrap(), answer["matched"]["flows"].as_u64().unwrap())
    };
    let bytes = |sent: &Value| sent["bytes"].as_u64().unwrap();
    assert_eq!(matched("flows"), (bytes(&first) + 10 * bytes(&second), 600));
    assert_eq!(matched("traffic"), matched("flows"), "sums of before are kept");
    assert_eq!(matched("by_port"), (10 * bytes(&second), 300), "the new rollup begins with the reload");
    let note = collector.get(&format!("query?{ALWAYS}&tier=by_port"))["note"].clone();
    assert!(note.as_str().unwrap().starts_with("by_port begins at "), "{note}");
    let by_port = collector.get(&format!("query?{ALWAYS}&by=dst_port&measures=flows"));
    assert_eq!(
        (&by_port["tier"], &by_port["matched"]["flows"]),
        (&"flows".into(), &600.into()),
        "it is not asked of before"
    );

    // By signal: who may send, and who may ask.
    std::fs::write(folder.path().join("token"), "a-token-of-the-test\n").unwrap();
    let token = "[[admin.token]]\nname = \"test\"\nfile = \"token\"\nrole = \"admin\"\n";
    write(&collector, "allow = [\"10.0.0.0/8\"]\n", &rest.replace("[decode]", &format!("{token}[decode]")));
    collector.process.as_ref().unwrap().signal("HUP");
    let asked = |token: Option<&str>| {
        let mut request = ureq::get(collector.url("/api/v1/netflow/sinks"));
        if let Some(token) = token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().is_ok()
    };
    wait_until("a token is needed", PATIENCE, || !asked(None));
    assert!(asked(Some("a-token-of-the-test")));
    let sent = collector.generate(&["--rate", "0", "--count", "300"]);
    let metrics = || {
        let mut request = ureq::get(collector.url("/metrics"));
        request = request.header("Authorization", "Bearer a-token-of-the-test");
        request.call().unwrap().body_mut().read_to_string().unwrap()
    };
    let counter = "netflow_dropped_datagrams_total{exporter=\"::\",kind=\"not_allowed\"}";
    let refused = format!("{counter} {}", sent["datagrams"]);
    wait_until("the exporters are refused", PATIENCE, || metrics().lines().any(|line| line == refused));
    collector.stop();
    assert!(collector.log().contains("decode.workers needs a restart"), "{}", collector.log());
}

#[test]
fn a_configuration_with_problems_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let before = collector.get("config");
    let local = sink("local", "data", "");
    let unreadable = format!("[enrich]\nnetworks = \"networks.csv\"\n{local}{}", sink("more", "more", ""));
    std::fs::write(folder.path().join("networks.csv"), "prefix\nten\n").unwrap();
    for (rest, problem) in [
        (format!("[decode]\nclock_skew = \"1m\"\n{local}"), "pipeline.toml:7"),
        (format!("store = \"elsewhere\"\n{local}"), "unknown sink"),
        (unreadable, "networks.csv:2"),
        (format!("[[admin.token]]\nname = \"x\"\nfile = \"nowhere\"\n{local}"), "token[0].file"),
    ] {
        write(&collector, "", &rest);
        let (status, report) = reload(&collector);
        assert_eq!(status, 422, "{rest}: {report}");
        let problems = report["problems"].to_string();
        assert!(problems.contains(problem), "{problem} in {problems}");
        assert_eq!(collector.get("config"), before);
        assert_eq!(sinks(&collector), ["local"]);
        assert!(collector.get_text("/metrics").contains("netflow_config_last_reload_successful 0"));
    }
    write(&collector, "", &local);
    assert_eq!(reload(&collector).0, 200);
    assert!(collector.get_text("/metrics").contains("netflow_config_last_reload_successful 1"));
    assert!(!Path::new(&folder.path().join("more")).exists());
    collector.stop();
}

/// Applies a configuration that has to be right, all of it at once.
fn apply(collector: &Collector, rest: &str) -> Value {
    write(collector, "", rest);
    let (status, report) = reload(collector);
    assert_eq!(status, 200, "{report}");
    assert_eq!(report["needs_restart"], serde_json::json!({}));
    report
}

fn firing(collector: &Collector) -> usize {
    collector.get("alerts?state=firing&type=subscriber_24h")["items"].as_array().unwrap().len()
}

#[test]
fn thresholds_rules_and_receivers_of_alerts_change_live() {
    let folder = tempfile::tempdir().unwrap();
    let networks = folder.path().join("subscribers.csv");
    let made = Command::new(PROGRAM).args(["generate", "--count", "0", "--write-subscribers"]).arg(networks).output();
    assert!(made.unwrap().status.success());
    let local = sink("local", "data", "");
    let with = |alerts: &str| {
        format!("[enrich]\nsubscribers = \"subscribers.csv\"\n[alerts]\ninterval = \"100ms\"\n{alerts}\n{local}")
    };
    let mut collector = Collector::with_config(folder.path(), &with("")).start();
    collector.generate(&["--rate", "0", "--count", "3000"]);
    collector.wait_delivered();
    assert_eq!(firing(&collector), 0);

    let report = apply(&collector, &with("subscriber_24h_bytes = 1000"));
    assert_eq!(texts(&report["applied"]), ["alerts.subscriber_24h_bytes"]);
    wait_until("alerts fire", PATIENCE, || firing(&collector) > 0);

    // A receiver that nobody listens for: what waits for it is dropped when it goes, and that is said.
    let port = support::free_tcp_port();
    let hook = |secret: &str| {
        format!(
            "subscriber_24h_bytes = 1000\n[[alerts.receiver]]\nname = \"hook\"\nkind = \"webhook\"\n\
             url = \"http://127.0.0.1:{port}/\"\nsecret = \"{secret}\""
        )
    };
    assert!(texts(&apply(&collector, &with(&hook("one")))["applied"]).contains(&"alerts.receiver[0].name"));
    assert_eq!(texts(&apply(&collector, &with(&hook("two")))["applied"]), ["alerts.receiver"], "secrets are masked");
    let off = "[[alerts.rule]]\ntype = \"subscriber_24h\"\nenabled = false";
    apply(&collector, &with(&format!("{}\n{off}", hook("two"))));
    wait_until("the alerts of what is watched for no longer end", PATIENCE, || firing(&collector) == 0);
    let waiting = || {
        let metrics = collector.get_text("/metrics");
        let line = metrics.lines().find(|line| line.starts_with("netflow_alerts_waiting{"))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };
    wait_until("their ends wait for the receiver", PATIENCE, || waiting() > Some(0.0));
    let report = apply(&collector, &with("subscriber_24h_bytes = 1000"));
    let notes = texts(&report["notes"]);
    assert!(notes.iter().any(|note| note.contains("for the receiver hook, which is gone")), "{notes:?}");
    assert_eq!(waiting(), None);
    wait_until("without the rule they fire again", PATIENCE, || firing(&collector) > 0);
    collector.stop();
}

#[test]
fn queries_and_events_that_feed_the_enrichment_change_live() {
    let folder = tempfile::tempdir().unwrap();
    let local = sink("local", "data", "");
    let mut collector = Collector::with_config(folder.path(), &local).start();
    let metric = |name: &str| {
        let metrics = collector.get_text("/metrics");
        let line = metrics.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse::<f64>().ok()
    };

    // Events: a file, then a socket in its place, then none.
    let event = r#"{"timestamp":"2026-01-01T00:00:00.000000+0000","event_type":"tls","src_ip":"10.0.0.1","src_port":1,"dest_ip":"192.0.2.1","dest_port":443,"proto":"TCP","app_proto":"tls"}"#;
    std::fs::write(folder.path().join("eve.json"), format!("{event}\n")).unwrap();
    let used = "netflow_dpi_events_total{result=\"used\"}";
    assert_eq!(metric(used), None);
    let report = apply(&collector, &format!("[enrich]\ndpi = \"eve.json\"\n{local}"));
    assert_eq!(texts(&report["applied"]), ["enrich.dpi"]);
    wait_until("the event is read", PATIENCE, || metric(used) == Some(1.0));
    let on_socket = format!("[enrich]\ndpi = \"unix_dgram:eve.socket\"\n{local}");
    apply(&collector, &on_socket);
    let sender = std::os::unix::net::UnixDatagram::unbound().unwrap();
    sender.send_to(event.as_bytes(), folder.path().join("eve.socket")).unwrap();
    wait_until("the event is read", PATIENCE, || metric(used) == Some(2.0));
    write(&collector, "", &format!("[enrich]\ndpi = \"unix_dgram:nowhere/eve.socket\"\n{local}"));
    let (status, report) = reload(&collector);
    assert_eq!(status, 422);
    assert!(report["problems"].to_string().contains("[enrich] dpi"), "{report}");
    apply(&collector, &local);
    assert!(!folder.path().join("eve.socket").exists());

    // Queries: put in, replaced, taken out.
    let Some(mut server) = server::Server::start() else { return };
    server.database("platform");
    server.client("platform").batch_execute("CREATE TABLE customer AS SELECT '10.0.0.0/8' AS prefix").unwrap();
    let sql = |networks: &str| {
        let url = server.url("platform");
        format!("[enrich.sql]\nurl = \"{url}\"\ninterval = \"1s\"\nnetworks = \"{networks}\"\n{local}")
    };
    let rows = "netflow_enrichment_source_rows{source=\"networks\"";
    assert_eq!(metric(rows), None);
    apply(&collector, &sql("SELECT prefix FROM customer"));
    wait_until("the answer is used", PATIENCE, || metric(rows) == Some(1.0));
    let said = collector.cli(&["check"]);
    assert!(said.contains("[enrich.sql] networks: answered, the first 1 rows are right"), "{said}");
    assert!(said.contains("log: ") && said.contains(" sound"), "{said}");
    apply(&collector, &sql("SELECT prefix FROM customer UNION SELECT '172.16.0.0/12'"));
    wait_until("the other answer is used", PATIENCE, || metric(rows) == Some(2.0));
    apply(&collector, &local);
    assert_eq!(metric(rows), None, "the answer went with its query");
    apply(&collector, &sql("SELECT prefix FROM customer UNION SELECT '172.16.0.0/12'"));
    wait_until("an answer that was kept is used again", PATIENCE, || metric(rows) == Some(2.0));

    let failing = |problem: &str| {
        let output = Command::new(PROGRAM).arg("check").current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(problem), "{said}");
    };
    write(&collector, "", &sql("SELECT prefix AS net FROM customer"));
    failing("[enrich.sql] networks");
    server.stop("INT");
    failing("[enrich.sql]: connect");
    collector.stop();
}
