//! From the wire to PostgreSQL, every flow a row with all columns, beside bare binary COPY of the same rows on the same server.
//!
//! ```text
//! cargo bench --bench postgres                       # 5 pairs of 2 million flows
//! cargo bench --bench postgres -- --pairs 1 --flows 500000
//! cargo bench --bench postgres -- --all-columns       # of each pair the first two rounds only
//! cargo bench --bench postgres -- --first-columns     # and the last two only
//! ```
//!
//! Rounds are interleaved: `rgz-netflow generate` against `rgz-netflow run` with a `postgres` sink and every default on, from the
//! first datagram until the last row is committed; then the rows that it made, flows and sums, by one client into equal
//! tables, 50,000 a transaction; then the flows alone, and their 11 first columns alone. Then the whole path once more with
//! `columns = "core"`, which stores those 11 alone, and its rows by one client. CPU seconds (user + system) are
//! those of the client and of all of the server's processes. The server is the bench's own, with `fsync = off`, so disks do
//! not count.

#[path = "../sinks/postgres/benches/support/cpu.rs"]
mod cpu;
#[path = "support/memory.rs"]
mod memory;
#[path = "../sinks/postgres/tests/server/mod.rs"]
mod server;

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cpu::{cpu_s, server_cpu_s};
use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_rgz-netflow");

/// Rows of one transaction of bare COPY.
const GROUP_ROWS: usize = 50_000;
/// The columns that the platform's own queries use, in front of all others.
const FIRST: &str =
    "time, src_ip, dst_ip, src_port, dst_port, protocol, bytes, packets, nas_id, subscriber_id, reseller_id";
const TABLES: [&str; 7] =
    ["flows", "flows_traffic", "flows_talkers", "flows_usage", "flows_usage_apps", "flows_usage_ports", "flows_geo"];

struct Options {
    pairs: usize,
    flows: u64,
    rate: u64,
    sink: String,
    all_columns: bool,
    first_columns: bool,
}

/// What one round took.
struct Figures {
    seconds: f64,
    client_cpu_s: f64,
    server_cpu_s: f64,
    /// The most that the collector had resident at a time; none where there was no collector.
    resident_bytes: Option<u64>,
}

impl Figures {
    fn print(&self, what: &str, flows: u64) -> f64 {
        let (rate, millions) = (flows as f64 / self.seconds, flows as f64 / 1e6);
        let (client, server) = (self.client_cpu_s / millions, self.server_cpu_s / millions);
        let resident = self.resident_bytes.map_or(String::new(), |bytes| format!("{:.0}", bytes as f64 / 1e6));
        println!("{what:<22} {rate:>9.0} {client:>12.2} {server:>12.2} {:>12.2} {resident:>11}", client + server);
        rate
    }
}

fn main() {
    let options = options();
    let Some(server) = server::Server::start() else { return };
    let mut admin = server.client("postgres");
    for setting in ["autovacuum = off", "max_wal_size = '16GB'", "checkpoint_timeout = '1h'"] {
        admin.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
    }
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    println!(
        "{:<22} {:>9} {:>12} {:>12} {:>12} {:>11}",
        "CPU s per M flows:", "flows/s", "client", "server", "both", "resident MB"
    );
    let [mut to_all, mut to_flows, mut to_first, mut to_core] = [const { Vec::new() }; 4];
    for pair in 0..options.pairs {
        if !options.first_columns {
            let of_pair = all_columns(&server, &mut admin, &format!("pair{pair}"), &options);
            to_all.push(of_pair[0]);
            to_flows.extend(of_pair.get(1));
            to_first.extend(of_pair.get(2));
        }
        if !options.all_columns {
            to_core.push(first_columns(&server, &mut admin, &format!("core{pair}"), &options));
        }
    }
    let ratios = [
        ("all columns", "all rows", to_all),
        ("all columns", "the flows", to_flows),
        ("all columns", "their first columns", to_first),
        ("11 columns", "its rows", to_core),
    ];
    for (stored, what, mut ratios) in ratios.into_iter().filter(|(_, _, ratios)| !ratios.is_empty()) {
        ratios.sort_by(f64::total_cmp);
        let median = ratios[ratios.len() / 2] * 100.0;
        println!("the wire's rate with {stored} is {median:.0} % of bare COPY of {what} (median)");
    }
}

/// The whole path with all columns, beside bare COPY of its rows, and unless told not to, of its flows and of their first
/// columns. Gives the ratio to each.
fn all_columns(server: &server::Server, admin: &mut postgres::Client, database: &str, options: &Options) -> Vec<f64> {
    server.database(database);
    let (flows, figures) = wire(server, database, options, "");
    let rate = figures.print("wire to PostgreSQL", flows);
    let sizes = sizes(server, database, flows);
    let rows = dumped_all(server, database);
    let mut ratios = vec![rate / bare(server, database, &rows, "").print("bare COPY of all rows", flows)];
    if !options.all_columns {
        ratios.push(rate / bare(server, database, &rows[..1], "").print("bare COPY of the flows", flows));
        drop(rows);
        let first = [("flows", dumped(server, database, "flows", FIRST))];
        ratios.push(rate / bare(server, database, &first, FIRST).print("  their first columns", flows));
    }
    println!("{sizes}");
    admin.batch_execute(&format!("DROP DATABASE {database}")).unwrap();
    ratios
}

/// The whole path with the first columns alone, beside bare COPY of its rows. Gives the ratio.
fn first_columns(server: &server::Server, admin: &mut postgres::Client, database: &str, options: &Options) -> f64 {
    server.database(database);
    let (flows, figures) = wire(server, database, options, "columns = \"core\"\n");
    let rate = figures.print("wire, 11 columns", flows);
    let rows = dumped_all(server, database);
    let ratio = rate / bare(server, database, &rows, "").print("bare COPY of its rows", flows);
    println!("{}", sizes(server, database, flows));
    admin.batch_execute(&format!("DROP DATABASE {database}")).unwrap();
    ratio
}

fn options() -> Options {
    let (sink, all_columns, first_columns) = (String::new(), false, false);
    let mut options = Options { pairs: 5, flows: 2_000_000, rate: 400_000, sink, all_columns, first_columns };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = |default| args.next().and_then(|text| text.parse().ok()).unwrap_or(default);
        match &*arg {
            "--pairs" => options.pairs = number(5) as usize,
            "--flows" => options.flows = number(2_000_000),
            "--rate" => options.rate = number(400_000),
            "--all-columns" => options.all_columns = true,
            "--first-columns" => options.first_columns = true,
            // More lines of the sink's table.
            "--sink" => options.sink = args.next().unwrap_or_default(),
            // Cargo adds `--bench`.
            _ => {}
        }
    }
    options
}

/// One run of the collector; gives how many flows there were.
fn wire(server: &server::Server, database: &str, options: &Options, keys: &str) -> (u64, Figures) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (port, admin) = (free_udp_port(), free_tcp_port());
    let subscribers = folder.join("subscribers.csv");
    run(Command::new(PROGRAM).args(["generate", "--count", "0", "--write-subscribers"]).arg(subscribers));
    let config = format!(
        "[receive]\nlisten = [\"127.0.0.1:{port}\"]\n[enrich]\nsubscribers = \"subscribers.csv\"\n\
         [admin]\nlisten = \"127.0.0.1:{admin}\"\n[[sink]]\nname = \"tables\"\nkind = \"postgres\"\n\
         url = \"{}\"\nsslmode = \"disable\"\n{keys}{}\n",
        server.url(database),
        options.sink.replace("\\n", "\n")
    );
    std::fs::write(folder.join("pipeline.toml"), config).unwrap();
    let log = std::fs::File::create(folder.join("collector.log")).unwrap();
    let collector =
        Command::new(PROGRAM).arg("run").current_dir(folder).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let ready = format!("http://127.0.0.1:{admin}/readyz");
    wait_until("the collector is ready", || ureq::get(&ready).call().is_ok());
    // Its tables are made when the first flows come: that is not what is measured.
    let (to, sinks) = (format!("127.0.0.1:{port}"), format!("http://127.0.0.1:{admin}/api/v1/netflow/sinks"));
    generate(&to, &["--count", "30"]);
    wait_delivered(&sinks, 30, folder);
    let question = format!("http://127.0.0.1:{admin}/api/v1/netflow/query?period=7d&tier=usage");
    let (backend, client, start) = (server_cpu_s(server.pid()), cpu_s(collector.id()), Instant::now());
    let count = options.flows.to_string();
    let sent = generate(&to, &["--count", &count, "--rate", &options.rate.to_string()]);
    wait_delivered(&sinks, sent + 30, folder);
    // A question has all open sums emitted: they belong to these flows.
    drop(ureq::get(&question).call());
    let flows = wait_delivered(&sinks, sent + 30, folder);
    let seconds = start.elapsed().as_secs_f64();
    let figures = Figures {
        seconds,
        client_cpu_s: cpu_s(collector.id()) - client,
        server_cpu_s: server_cpu_s(server.pid()) - backend,
        resident_bytes: Some(memory::peak_resident_bytes(collector.id())),
    };
    stop(collector);
    if flows < sent + 30 {
        println!("{} of {} flows were lost on the way to the log", sent + 30 - flows, sent + 30);
    }
    (flows, figures)
}

/// Runs the generator to its end; gives how many flows it sent.
fn generate(to: &str, args: &[&str]) -> u64 {
    let output = Command::new(PROGRAM).args(["generate", "--json", "--to", to]).args(args).output().unwrap();
    let totals: Value = serde_json::from_slice(&output.stdout).unwrap();
    totals["flows"].as_u64().unwrap()
}

/// Waits until nothing waits for the sink any more; gives the flows it has: fewer than were sent, if some were lost.
fn wait_delivered(sinks: &str, sent: u64, folder: &Path) -> u64 {
    let mut before = (0, Instant::now());
    let mut stored = 0;
    wait_until("everything is in the sink", || {
        std::thread::sleep(Duration::from_millis(50));
        let Ok(mut answer) = ureq::get(sinks).call() else { return false };
        let Ok(answer) = answer.body_mut().read_json::<Value>() else { return false };
        let sink = &answer["items"][0];
        assert!(
            sink["last_error"].is_null(),
            "{sink}\n{}",
            std::fs::read_to_string(folder.join("collector.log")).unwrap()
        );
        stored = sink["delivered_flows"].as_u64().unwrap_or(0);
        if stored != before.0 {
            before = (stored, Instant::now());
        }
        let patience = before.1.elapsed() > Duration::from_secs(10);
        sink["lag_records"].as_u64() == Some(0) && (stored == sent || stored > 0 && patience)
    });
    stored
}

/// Bytes that the tables take, with their indexes.
fn sizes(server: &server::Server, database: &str, flows: u64) -> String {
    let mut client = server.client(database);
    let size = "SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint, \
                (SELECT count(*) FROM ";
    let mut text = String::from("bytes a flow (rows a flow):");
    for table in TABLES {
        let sql = format!("{size}{table}) FROM pg_inherits WHERE inhparent = '{table}'::regclass");
        let row = client.query_one(&sql, &[]).unwrap();
        let (bytes, rows): (i64, i64) = (row.get(0), row.get(1));
        text += &format!(" {table} {:.0} ({:.2})", bytes as f64 / flows as f64, rows as f64 / flows as f64);
    }
    text
}

/// The rows of a table in the binary form of COPY, in pieces that are whole by themselves.
fn dumped(server: &server::Server, database: &str, table: &str, columns: &str) -> Vec<Vec<u8>> {
    const HEADER: usize = 19;
    let mut client = server.client(database);
    let sql = format!("COPY (SELECT {columns} FROM {table}) TO STDOUT (FORMAT binary)");
    let mut bytes = Vec::new();
    client.copy_out(&sql).unwrap().read_to_end(&mut bytes).unwrap();
    let number = |at: usize| i32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let (mut pieces, mut start, mut at, mut rows) = (Vec::new(), HEADER, HEADER, 0);
    let piece = |rows: &[u8]| [&bytes[..HEADER], rows, &[0xff, 0xff]].concat();
    loop {
        let columns = i16::from_be_bytes(bytes[at..at + 2].try_into().unwrap());
        if columns < 0 || rows == GROUP_ROWS {
            pieces.extend((at > start).then(|| piece(&bytes[start..at])));
            (start, rows) = (at, 0);
            if columns < 0 {
                return pieces;
            }
        }
        at += 2;
        for _ in 0..columns {
            at += 4 + usize::try_from(number(at)).unwrap_or(0);
        }
        rows += 1;
    }
}

/// The rows of every table.
fn dumped_all(server: &server::Server, database: &str) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    TABLES.iter().map(|table| (*table, dumped(server, database, table, "*"))).collect()
}

/// The same rows into equal tables: native partitions, BRIN on the time.
fn bare(server: &server::Server, database: &str, tables: &[(&str, Vec<Vec<u8>>)], columns: &str) -> Figures {
    let mut client = server.client(database);
    for (table, _) in tables {
        let time = if *table == "flows" { "time" } else { "bucket" };
        let make = format!(
            "DROP TABLE IF EXISTS bare_{table}; CREATE TABLE bare_{table} (LIKE {table} INCLUDING ALL) PARTITION BY RANGE ({time}); \
             CREATE TABLE bare_{table}_all PARTITION OF bare_{table} FOR VALUES FROM ('2000-01-01') TO ('2100-01-01')"
        );
        client.batch_execute(&make).unwrap();
    }
    client.batch_execute("CHECKPOINT").unwrap();
    let (own, backend, start) = (cpu_s(std::process::id()), server_cpu_s(server.pid()), Instant::now());
    let columns = if columns.is_empty() { String::new() } else { format!("({columns})") };
    for (table, pieces) in tables {
        for bytes in pieces {
            let mut tx = client.transaction().unwrap();
            let mut writer = tx.copy_in(&format!("COPY bare_{table} {columns} FROM STDIN (FORMAT binary)")).unwrap();
            bytes.chunks(256 * 1024).for_each(|chunk| writer.write_all(chunk).unwrap());
            writer.finish().unwrap();
            tx.commit().unwrap();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let (client_cpu_s, server_cpu_s) = (cpu_s(std::process::id()) - own, server_cpu_s(server.pid()) - backend);
    tables.iter().for_each(|(table, _)| client.batch_execute(&format!("DROP TABLE bare_{table}")).unwrap());
    Figures { seconds, client_cpu_s, server_cpu_s, resident_bytes: None }
}

fn stop(mut child: Child) {
    run(Command::new("kill").args(["-TERM", &child.id().to_string()]));
    child.wait().unwrap();
}

fn run(command: &mut Command) {
    let status = command.stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}: {status}");
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(300);
    while !condition() {
        assert!(Instant::now() < until, "timed out waiting until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn free_udp_port() -> u16 {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn free_tcp_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
