//! A day in the life of the collector, on real parts: softflowd exports, PostgreSQL stores, an Alertmanager is told, a Prometheus
//! scrapes and judges; then the countries are replaced, the storage becomes an InfluxDB, the collector restarts, and the alert ends.

#[path = "../sinks/influxdb/tests/server/mod.rs"]
mod influx_server;
#[path = "../sinks/postgres/tests/server/mod.rs"]
mod postgres_server;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::capture::write_capture;
use support::mmdb::write_country;
use support::{Collector, PROGRAM, Process, free_tcp_port, installed, wait_until};

/// Longest wait for anything; tests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Conversations of the first and of the second capture: softflowd makes a flow of each.
const CONVERSATIONS: [u32; 2] = [300, 100];
/// The one subscriber that the capture's clients belong to.
const SUBSCRIBER: &str = "6f9619ff-8b86-4011-b42d-00c04fc964ff";
const RESELLER: &str = "0e02b2c3-58cc-4372-a567-0e02b2c3d479";
/// Quotas of 24 hours: passed by the first capture, and by nothing.
const QUOTA: &str = "100KB";
const NO_QUOTA: &str = "1TiB";

/// Everything around the collector.
struct Day {
    folder: tempfile::TempDir,
    postgres: postgres_server::Server,
    influx: influx_server::Server,
    alertmanager: u16,
    prometheus: u16,
    _processes: Vec<Process>,
}

impl Day {
    /// Starts all servers, or prints what is missing.
    fn begin(collector_admin: u16) -> Option<Self> {
        let programs = ["softflowd", "prometheus", "prometheus-alertmanager"];
        if !programs.iter().all(|program| installed(program)) {
            return None;
        }
        let (postgres, influx) = (postgres_server::Server::start()?, influx_server::Server::start()?);
        postgres.database("rgz");
        let folder = tempfile::tempdir().unwrap();
        let (alertmanager, prometheus) = (free_tcp_port(), free_tcp_port());
        let processes = vec![
            start_alertmanager(folder.path(), alertmanager),
            start_prometheus(folder.path(), prometheus, alertmanager, collector_admin),
        ];
        let text =
            format!("prefix,subscriber_id,reseller_id,nas_id,site\n10.0.0.0/16,{SUBSCRIBER},{RESELLER},gw,hotel\n");
        std::fs::write(folder.path().join("subscribers.csv"), text).unwrap();
        std::fs::create_dir(folder.path().join("geoip")).unwrap();
        let day = Self { folder, postgres, influx, alertmanager, prometheus, _processes: processes };
        wait_until("the Alertmanager answers", PATIENCE, || day.told().is_some());
        wait_until("Prometheus answers", PATIENCE, || day.measured("1").is_some());
        Some(day)
    }

    /// The configuration after the addresses, with a quota and where flows are stored.
    fn config(&self, quota: &str, sink: &str) -> String {
        format!(
            "[enrich]\ngeoip = \"geoip\"\nsubscribers = \"subscribers.csv\"\n\
             [alerts]\ninterval = \"200ms\"\nhold_down = \"0s\"\nsubscriber_24h_bytes = \"{quota}\"\n\
             [[alerts.receiver]]\nname = \"am\"\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{}\"\n\
             [[sink]]\nname = \"store\"\nflush_interval = \"1s\"\n{sink}\n",
            self.alertmanager
        )
    }

    fn in_tables(&self) -> String {
        format!("kind = \"postgres\"\nurl = \"{}\"\nsslmode = \"disable\"", self.postgres.url("rgz"))
    }

    fn in_points(&self) -> String {
        format!("kind = \"influxdb\"\napi = \"v1\"\nurl = \"{}\"\ndetail = true", self.influx.url())
    }

    /// A number from the tables; 0 while they are not there.
    fn table(&self, sql: &str) -> u64 {
        let row = self.postgres.client("rgz").query_one(sql, &[]);
        row.map_or(0, |row| row.get::<_, i64>(0) as u64)
    }

    fn point(&self, statement: &str) -> u64 {
        self.influx.numbers(statement).first().copied().unwrap_or(0)
    }

    /// The alerts that last, as the Alertmanager knows them.
    fn told(&self) -> Option<Vec<Value>> {
        let url = format!("http://127.0.0.1:{}/api/v2/alerts", self.alertmanager);
        ureq::get(&url).call().ok()?.body_mut().read_json().ok()
    }

    /// The quota's alert at the Alertmanager.
    fn quota_alert(&self) -> Option<Value> {
        let is_it = |alert: &Value| {
            let labels = &alert["labels"];
            labels["alertname"] == "subscriber_24h" && labels["subscriber_id"] == SUBSCRIBER
        };
        self.told()?.into_iter().find(is_it)
    }

    fn ask_prometheus(&self, path: &str, query: &str) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/api/v1/{path}", self.prometheus);
        let answer: Value = ureq::get(&url).query("query", query).call().ok()?.body_mut().read_json().ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The value of an expression.
    fn measured(&self, expression: &str) -> Option<u64> {
        let data = self.ask_prometheus("query", expression)?;
        let value = if data["resultType"] == "scalar" { &data["result"][1] } else { &data["result"][0]["value"][1] };
        value.as_str()?.parse::<f64>().ok().map(|value| value as u64)
    }

    /// Whether Prometheus evaluates every shipped rule without an error.
    fn rules_are_evaluated(&self) -> bool {
        let Some(data) = self.ask_prometheus("rules", "") else { return false };
        let rules: Vec<&Value> =
            data["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap()).collect();
        assert!(rules.len() >= 10, "{data}");
        assert!(rules.iter().all(|rule| rule["health"] != "err"), "{data}");
        rules.iter().all(|rule| rule["health"] == "ok")
    }

    /// Whether one of the shipped rules fires.
    fn rule_fires(&self, name: &str) -> bool {
        let expression = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
        self.measured(&expression).is_some()
    }

    /// Has softflowd export a capture of so many conversations, and waits until all of them are in the log.
    fn export(&self, collector: &Collector, conversations: u32) {
        let (before, folder) = (collector.ledger("flows/logged"), self.folder.path());
        let capture = folder.join("capture.pcap");
        write_capture(&capture, conversations);
        let mut command = Command::new("/usr/sbin/softflowd");
        command.args(["-d", "-v", "5", "-n", &format!("127.0.0.1:{}", collector.port), "-p"]);
        let output = command.arg(folder.join("softflowd.pid")).arg("-r").arg(&capture).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        wait_until("every conversation is logged", PATIENCE, || {
            collector.ledger("flows/logged") == before + u64::from(conversations)
        });
    }
}

fn start_alertmanager(folder: &Path, port: u16) -> Process {
    let config = folder.join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").unwrap();
    let mut command = Command::new("prometheus-alertmanager");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", folder.join("alertmanager").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=");
    Process::start(&mut command, &folder.join("alertmanager.log"))
}

/// With the shipped configuration and rules, but every second.
fn start_prometheus(folder: &Path, port: u16, alertmanager: u16, collector: u16) -> Process {
    let shipped = |name: &str| format!("{}/docker/prometheus/{name}", env!("CARGO_MANIFEST_DIR"));
    let config = std::fs::read_to_string(shipped("prometheus.yml")).unwrap().replace("15s", "1s");
    let config = config.replace("127.0.0.1:9101", &format!("127.0.0.1:{collector}"));
    let config = config.replace("127.0.0.1:9093", &format!("127.0.0.1:{alertmanager}"));
    std::fs::write(folder.join("prometheus.yml"), config).unwrap();
    std::fs::copy(shipped("rules.yml"), folder.join("rules.yml")).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    Process::start(&mut command, &folder.join("prometheus.log"))
}

/// Puts a configuration in force by the API.
fn reload(collector: &Collector, rest: &str) {
    let (port, admin) = (collector.port, collector.admin);
    let text = format!("[receive]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{rest}");
    let new = collector.folder.join("pipeline.toml.new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, collector.folder.join("pipeline.toml")).unwrap();
    let mut answer = ureq::post(collector.url("/api/v1/netflow/reload")).send_empty().unwrap();
    let report: Value = answer.body_mut().read_json().unwrap();
    assert_eq!(report["needs_restart"], serde_json::json!({}), "{report}");
}

fn metric(collector: &Collector, name: &str) -> f64 {
    let metrics = collector.get_text("/metrics");
    let samples = metrics.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// Numbers of the quota's alerts that the collector knows, with their states.
fn known(collector: &Collector) -> Vec<(u64, String)> {
    let answer = collector.get("alerts?type=subscriber_24h");
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|i| (i["id"].as_u64().unwrap(), i["state"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_day_in_the_life_on_real_parts() {
    // The ports are chosen first: Prometheus has to know where to look.
    let scratch = tempfile::tempdir().unwrap();
    let mut collector = Collector::with_config(scratch.path(), "");
    let Some(day) = Day::begin(collector.admin) else { return };
    let folder = day.folder.path();
    collector.folder = folder.to_owned();
    write_country(&folder.join("geoip"), "country.mmdb", "FR", 100);
    std::fs::write(folder.join("pipeline.toml"), {
        let (port, admin) = (collector.port, collector.admin);
        let rest = day.config(QUOTA, &day.in_tables());
        format!("[receive]\nlisten = [\"127.0.0.1:{port}\"]\n[admin]\nlisten = \"127.0.0.1:{admin}\"\n{rest}")
    })
    .unwrap();
    let mut collector = collector.start();

    let first_alert = morning(&day, &collector);
    noon(&day, &collector);
    let logged = afternoon(&day, &collector);
    evening(&day, &mut collector, &first_alert);

    // Every flow of the day stands in exactly one of the two stores, and so does every alert's beginning and end.
    let tables = day.table("SELECT count(*) FROM flows");
    wait_until("no flow is lost or there twice", PATIENCE, || {
        tables + day.point("SELECT count(bytes) FROM netflow.flows") == logged
    });
    assert!(tables > u64::from(CONVERSATIONS[0] + CONVERSATIONS[1]) && tables < logged, "{tables} of {logged}");
    let of_quota = format!("alert_type = 'subscriber_24h' AND subscriber_id = '{SUBSCRIBER}'");
    let began = day.table(&format!("SELECT count(*) FROM alerts WHERE event = 'firing' AND {of_quota}"));
    let ended =
        day.point(&format!("SELECT count(value) FROM netflow_long.alerts WHERE event = 'resolved' AND {of_quota}"));
    let elsewhere = day.table(&format!("SELECT count(*) FROM alerts WHERE event = 'resolved' AND {of_quota}"))
        + day.point(&format!("SELECT count(value) FROM netflow_long.alerts WHERE event = 'firing' AND {of_quota}"));
    assert_eq!((began, ended, elsewhere), (1, 1, 0));
    collector.stop();
}

/// softflowd exports: the flows are rows, the subscriber is over the quota, and Prometheus sees both. Gives the alert.
fn morning(day: &Day, collector: &Collector) -> Value {
    day.export(collector, CONVERSATIONS[0]);
    let flows = u64::from(CONVERSATIONS[0]);
    let ours = format!("subscriber_id = '{SUBSCRIBER}' AND direction = 'out' AND dst_country = 'FR'");
    wait_until("the flows are rows with who and where", PATIENCE, || {
        day.table(&format!("SELECT count(*) FROM flows WHERE {ours}")) == flows
    });
    wait_until("the Alertmanager has the alert", PATIENCE, || day.quota_alert().is_some());
    wait_until("Prometheus has the flows", PATIENCE, || day.measured("sum(netflow_flows_total)") == Some(flows));
    let bytes = format!("netflow_subscriber_bytes_24h{{subscriber_id=\"{SUBSCRIBER}\"}}");
    wait_until("Prometheus has the subscriber's bytes", PATIENCE, || day.measured(&bytes) > Some(100_000));
    wait_until("Prometheus evaluates the rules", PATIENCE, || day.rules_are_evaluated());
    wait_until("the rule about the old database fires", PATIENCE, || day.rule_fires("NetflowDatabaseStale"));
    day.quota_alert().unwrap()
}

/// The countries are replaced while it runs.
fn noon(day: &Day, collector: &Collector) {
    let generation = metric(collector, "netflow_enrichment_generation");
    write_country(&day.folder.path().join("geoip"), "country.mmdb", "DE", 0);
    wait_until("the new countries are in use", PATIENCE, || {
        metric(collector, "netflow_enrichment_generation") > generation
    });
    day.export(collector, CONVERSATIONS[1]);
    wait_until("later flows have the new country", PATIENCE, || {
        let german = day.table("SELECT count(*) FROM flows WHERE dst_country = 'DE'");
        let french = day.table("SELECT count(*) FROM flows WHERE dst_country = 'FR'");
        (french, german) == (CONVERSATIONS[0].into(), CONVERSATIONS[1].into())
    });
    wait_until("the rule about the old database is quiet", PATIENCE, || !day.rule_fires("NetflowDatabaseStale"));
}

/// The storage becomes another one while flows arrive. Gives all flows that were logged.
fn afternoon(day: &Day, collector: &Collector) -> u64 {
    let output = day.folder.path().join("generate.json");
    let mut command = Command::new(PROGRAM);
    command.args(["generate", "--json", "--rate", "2000", "--to", &format!("127.0.0.1:{}", collector.port)]);
    let mut generator = Process::start(&mut command, &output);
    let exported = u64::from(CONVERSATIONS[0] + CONVERSATIONS[1]);
    wait_until("the tables grow", PATIENCE, || day.table("SELECT count(*) FROM flows") > exported);
    reload(collector, &day.config(QUOTA, &day.in_points()));
    wait_until("points come", PATIENCE, || day.point("SELECT count(bytes) FROM netflow.flows") > 0);
    generator.signal("INT");
    generator.wait(PATIENCE);
    let sent: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    let logged = exported + sent["flows"].as_u64().unwrap();
    wait_until("everything that was sent is logged", PATIENCE, || collector.ledger("flows/logged") == logged);
    collector.wait_delivered();
    logged
}

/// It restarts: the alert is neither repeated nor forgotten. Then the quota is raised, and it ends.
fn evening(day: &Day, collector: &mut Collector, first_alert: &Value) {
    let before = known(collector);
    assert_eq!(before.iter().filter(|(_, state)| state == "firing").count(), before.len(), "{before:?}");
    collector.stop();
    collector.restart();
    wait_until("it judges again", PATIENCE, || metric(collector, "netflow_alerts_evaluations_total") >= 3.0);
    wait_until("it tells again what lasts", PATIENCE, || {
        day.quota_alert().is_some_and(|alert| alert["updatedAt"].as_str() > first_alert["updatedAt"].as_str())
    });
    assert_eq!(known(collector), before);
    assert_eq!(metric(collector, "netflow_alerts_fired_total"), 0.0);
    let still = day.quota_alert().unwrap();
    for same in ["fingerprint", "startsAt", "labels"] {
        assert_eq!(still[same], first_alert[same], "{same}");
    }
    assert_eq!(still["annotations"]["alert_id"], first_alert["annotations"]["alert_id"]);

    reload(collector, &day.config(NO_QUOTA, &day.in_points()));
    wait_until("the Alertmanager has its end", PATIENCE, || day.quota_alert().is_none());
    assert!(known(collector).iter().all(|(_, state)| state == "resolved"), "{:?}", known(collector));
    wait_until("its end is a point", PATIENCE, || {
        day.point(&format!(
            "SELECT count(value) FROM netflow_long.alerts WHERE event = 'resolved' AND alert_type = 'subscriber_24h' \
             AND subscriber_id = '{SUBSCRIBER}'"
        )) == 1
    });
}
