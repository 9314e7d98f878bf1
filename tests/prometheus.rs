//! A real Prometheus scrapes both formats: OpenMetrics, which it asks for, and the plain text that it gets when it does not.

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use support::{Collector, Process, free_tcp_port, installed, wait_until};

/// Longest wait for anything; tests on a busy machine are slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Passes requests on to a collector, with or without the header that asks for a format. Notes the content types that came back.
struct Between {
    port: u16,
    types: Arc<Mutex<Vec<String>>>,
}

impl Between {
    fn start(collector: u16, asks: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let types = Arc::new(Mutex::new(Vec::new()));
        let noted = types.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A scrape that breaks off comes again a second later.
                if let Some(kind) = pass_on(stream, collector, asks) {
                    noted.lock().unwrap().push(kind);
                }
            }
        });
        Self { port, types }
    }

    /// Whether anything came, and all of it in this format.
    fn gave_only(&self, format: &str) -> bool {
        let types = self.types.lock().unwrap();
        assert!(types.iter().all(|kind| kind.contains(format)), "{types:?}");
        !types.is_empty()
    }
}

fn pass_on(stream: TcpStream, collector: u16, asks: bool) -> Option<String> {
    let mut head = String::new();
    for line in BufReader::new(stream.try_clone().ok()?).lines().map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
        let name = line.to_ascii_lowercase();
        if !name.starts_with("connection:")
            && !name.starts_with("accept-encoding:")
            && (asks || !name.starts_with("accept:"))
        {
            head += &format!("{line}\r\n");
        }
    }
    let mut server = TcpStream::connect(("127.0.0.1", collector)).ok()?;
    server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).ok()?;
    (&stream).write_all(&answer).ok()?;
    let text = String::from_utf8_lossy(&answer);
    let line = text.lines().find(|line| line.to_ascii_lowercase().starts_with("content-type:"))?;
    Some(line.to_owned())
}

#[test]
fn both_formats_are_scraped_and_say_the_same() {
    if !installed("prometheus") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    collector.generate(&["--count", "900", "--rate", "0"]);
    wait_until("they are logged", PATIENCE, || collector.ledger("flows/logged") == 900);
    let (asking, plain) = (Between::start(collector.admin, true), Between::start(collector.admin, false));
    let port = free_tcp_port();
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: netflow\n  static_configs:\n\
         \x20 - targets: ['127.0.0.1:{}', '127.0.0.1:{}']\n",
        asking.port, plain.port
    );
    std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", folder.path().join("tsdb").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    let _prometheus = Process::start(&mut command, &folder.path().join("prometheus.log"));
    let ask = |expression: &str| -> Option<Vec<String>> {
        let url = format!("http://127.0.0.1:{port}/api/v1/query");
        let answer: Value = ureq::get(url).query("query", expression).call().ok()?.body_mut().read_json().ok()?;
        let rows = answer["data"]["result"].as_array()?;
        Some(rows.iter().map(|row| row["value"][1].as_str().unwrap().to_owned()).collect())
    };
    wait_until("both targets are up", PATIENCE, || ask("up{job=\"netflow\"} == 1").is_some_and(|rows| rows.len() == 2));
    assert!(asking.gave_only("application/openmetrics-text") && plain.gave_only("text/plain; version=0.0.4"));
    for metric in ["sum by (instance) (netflow_flows_total)", "sum by (instance) (netflow_bytes_total)"] {
        wait_until(&format!("{metric} is the same in both"), PATIENCE, || {
            ask(metric).is_some_and(|rows| rows.len() == 2 && rows[0] == rows[1] && rows[0] != "0")
        });
    }
    let names = |target: &Between| ask(&format!("count({{instance=\"127.0.0.1:{}\"}})", target.port));
    wait_until("both have as many series", PATIENCE, || names(&asking).is_some() && names(&asking) == names(&plain));
    collector.stop();
}

#[test]
fn promtool_finds_nothing_to_mend_in_what_a_whole_collector_says() {
    if !installed("promtool") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    collector.generate(&["--count", "3000", "--rate", "0"]);
    collector.wait_delivered();
    // A datagram that is refused, and questions good and bad: so that every counter has a sample.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[0, 99, 0, 1, 0, 0, 0, 0], ("127.0.0.1", collector.port)).unwrap();
    collector.get("top-talkers?period=1h");
    assert!(ureq::get(&collector.url("/api/v1/netflow/query?nonsense=1")).call().is_err());
    wait_until("the datagram is counted", PATIENCE, || collector.ledger("datagrams/dropped/unknown_version") == 1);
    let text = collector.get_text("/metrics");
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
    collector.stop();
}
