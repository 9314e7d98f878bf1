//! The loss ledger closes whatever happens: what was sent is stored, or counted as lost with its reason.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::{Collector, PROGRAM, Process, is_root, wait_until};

/// A time range that holds everything.
const ALWAYS: &str = "from=1970-01-02T00:00:00Z&to=2100-01-01T00:00:00Z";

/// Flows in the store, from detail and from the rollup `traffic`: (flows, bytes).
fn stored(collector: &Collector, tier: &str) -> (u64, u64) {
    let answer = collector.get(&format!("query?{ALWAYS}&tier={tier}&measures=bytes,flows"));
    let matched = &answer["matched"];
    let number = |name: &str| matched[name].as_u64().unwrap_or_else(|| panic!("no {name} in {answer}"));
    (number("flows"), number("bytes"))
}

fn wait_settled(collector: &Collector) {
    let mut last = 0;
    wait_until("no more datagrams arrive", Duration::from_secs(60), || {
        let now = collector.ledger("datagrams/received");
        let still = now == last && now > 0;
        last = now;
        std::thread::sleep(Duration::from_millis(300));
        still
    });
    collector.wait_delivered();
    // Of each sink: received = delivered + waiting + set aside + dropped.
    for sink in collector.get("sinks")["items"].as_array().unwrap() {
        assert_eq!(sink["unaccounted_flows"], 0, "{sink}");
    }
}

fn metric_sum(collector: &Collector, name: &str) -> u64 {
    let text = collector.get_text("/metrics");
    let samples = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

#[test]
fn overload_until_the_kernel_drops_is_counted_to_the_datagram() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "[decode]\nworkers = 1\n");
    let path = folder.path().join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[receive]\n", "[receive]\nreceive_buffer_bytes = \"16KiB\"\nsockets = 1\n"))
        .unwrap();
    collector.restart();
    let sent = collector.generate(&["--rate", "0", "--count", "1500000"]);
    wait_settled(&collector);
    let drops = collector.ledger("datagrams/kernel_drops");
    assert!(drops > 0, "the kernel dropped nothing: not an overload");
    assert_eq!(sent["datagrams"].as_u64().unwrap(), collector.ledger("datagrams/received") + drops);
    let (flows, _) = stored(&collector, "flows");
    assert_eq!(collector.ledger("flows/announced"), flows + collector.dropped_flows());
    collector.stop();
}

#[test]
fn a_sink_that_refuses_for_a_while_gets_everything_afterwards() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    // A file where a folder must be: every write of the sink fails.
    let data = folder.path().join("data");
    assert!(!data.join("flows").exists(), "nothing is stored yet");
    std::fs::write(data.join("flows"), "").unwrap();
    let sent = collector.generate(&["--rate", "5000", "--duration", "15s", "--seed", "2"]);
    wait_until("the failure shows", Duration::from_secs(20), || {
        collector.get("sinks")["items"][0]["last_error"].is_string()
    });
    assert!(collector.get("sinks")["items"][0]["waiting_flows"].as_u64().unwrap() > 0);
    std::fs::remove_file(data.join("flows")).unwrap();
    wait_settled(&collector);
    let flows = sent["flows"].as_u64().unwrap();
    assert_eq!(stored(&collector, "flows").0, flows);
    assert_eq!(collector.dropped_flows(), 0);
    collector.stop();
}

#[test]
fn killed_ten_times_under_load_it_stores_nothing_twice_and_counts_what_it_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let to = format!("127.0.0.1:{}", collector.port);
    let mut command = Command::new(PROGRAM);
    command.args(["generate", "--json", "--rate", "20000", "--to", &to]);
    let output = folder.path().join("generate.json");
    let mut generator = Process::start(&mut command, &output);
    // Of a stream that was never logged nobody can know where it began.
    wait_until("all exporters are logged", Duration::from_secs(60), || logged_exporters(&collector) >= 4);
    let (mut lost, mut random) = (0, std::process::id());
    for round in 0..10 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_millis(500 + u64::from(random >> 16) % 2500));
        lost += lost_so_far(&collector);
        collector.kill();
        collector.restart();
        assert!(generator.0.try_wait().unwrap().is_none(), "the generator ended in round {round}");
    }
    // What the last kill took shows with each exporter's next record: they must have sent one.
    wait_until("all exporters are logged", Duration::from_secs(60), || logged_exporters(&collector) >= 4);
    generator.signal("INT");
    generator.wait(Duration::from_secs(60));
    wait_settled(&collector);
    lost += lost_so_far(&collector);
    let sent: Value = serde_json::from_str(&std::fs::read_to_string(&output).unwrap()).unwrap();
    let (flows, bytes) = stored(&collector, "flows");
    assert_eq!(sent["flows"].as_u64().unwrap(), flows + lost, "stored {flows}, lost {lost}");
    assert_eq!(stored(&collector, "traffic"), (flows, bytes), "rollups and detail agree");
    // Killed, not powered off: what was logged is there, so the loss is what arrived while it was down, plus the slabs in flight.
    assert!(flows > sent["flows"].as_u64().unwrap() / 2, "stored only {flows}");
    collector.stop();
}

/// What this run of the collector counts as lost. What the run before it lost is counted with the first record of each of
/// the four exporters that it logs.
fn lost_so_far(collector: &Collector) -> u64 {
    wait_until("all exporters are logged", Duration::from_secs(60), || logged_exporters(collector) >= 4);
    collector.ledger("sequence/lost_in_crash") + collector.ledger("sequence/gap") + collector.dropped_flows()
}

/// Exporters whose flows this run of the collector has logged.
fn logged_exporters(collector: &Collector) -> usize {
    let logged = |line: &&str| line.starts_with("netflow_flows_total{") && !line.ends_with(" 0");
    collector.get_text("/metrics").lines().filter(logged).count()
}

#[test]
fn a_full_disk_is_survived_and_its_losses_are_counted() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let Some(_mount) = Tmpfs::mount(&data, "48m") else { return };
    let ballast = folder.path().join("data/ballast");
    std::fs::write(&ballast, vec![0u8; 40 << 20]).unwrap();
    let mut collector = Collector::new(folder.path(), "").start();
    let first = collector.generate(&["--rate", "100000", "--count", "1000000"]);
    wait_until("the full disk shows", Duration::from_secs(30), || {
        metric_sum(&collector, "netflow_log_degraded") > 0
            || collector.get("sinks")["items"][0]["last_error"].is_string()
    });
    std::fs::remove_file(&ballast).unwrap();
    let second = collector.generate(&["--rate", "5000", "--count", "20000", "--seed", "3"]);
    wait_settled(&collector);
    let sent = first["flows"].as_u64().unwrap() + second["flows"].as_u64().unwrap();
    let by_policy = collector.get("sinks")["items"][0]["dropped_flows"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum::<u64>();
    let (flows, _) = stored(&collector, "flows");
    let lost = collector.dropped_flows() + by_policy + collector.ledger("sequence/gap");
    assert_eq!(sent, flows + lost, "stored {flows}, lost {lost}");
    collector.stop();
}

/// A small file system in memory, unmounted with the test.
struct Tmpfs<'a>(&'a Path);

impl<'a> Tmpfs<'a> {
    fn mount(path: &'a Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(path).unwrap();
        let status =
            Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(path).status();
        if !status.is_ok_and(|s| s.success()) {
            println!("skipped: a tmpfs cannot be mounted here");
            return None;
        }
        Some(Self(path))
    }
}

impl Drop for Tmpfs<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_wiped_log_neither_skips_nor_repeats_in_a_store_that_kept_its_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let sinks = "[[sink]]\nname = \"local\"\nkind = \"parquet\"\npath = \"data\"\nflush_interval = \"1s\"\n\
                 [[sink]]\nname = \"kept\"\nkind = \"parquet\"\npath = \"kept\"\nflush_interval = \"1s\"\n";
    let mut collector = Collector::with_config(folder.path(), sinks).start();
    collector.generate(&["--rate", "20000", "--count", "30000"]);
    wait_settled(&collector);
    collector.stop();
    std::fs::remove_dir_all(folder.path().join("data")).unwrap();
    collector.restart();
    collector.generate(&["--rate", "20000", "--count", "6000", "--seed", "5"]);
    wait_settled(&collector);
    assert_eq!(stored(&collector, "flows").0, 6000);
    collector.stop();
    let path = folder.path().join("pipeline.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[admin]\n", "[admin]\nstore = \"kept\"\n")).unwrap();
    collector.restart();
    assert_eq!(stored(&collector, "flows").0, 36_000);
    collector.stop();
}
