//! Another engine reads what the store wrote: the platform's own queries, through `views.sql`, in DuckDB.

mod support;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sink_api::batch::Field;
use sink_api::rollup::Record;
use sink_api::store::{OrderBy, Question, TierChoice, TimeRange};
use sink_api::{Filter, FlowStore, Key, SinkConfig};
use support::{DAY_START_MS, Entries, Isp, MemoryLog, Random, TestClock, config, context, sums};

/// Runs the views, then prints: flows, a rollup's bytes, an IPv6 address, and the top talkers.
const SCRIPT: &str = r#"
import sys, duckdb
db = duckdb.connect()
db.execute("SET VARIABLE netflow = '" + sys.argv[1] + "'")
db.execute(open(sys.argv[2]).read())
print("flows", *db.execute("SELECT count(*), sum(bytes), sum(packets), count(DISTINCT subscriber_id) FROM flows").fetchone())
print("usage", *db.execute("SELECT sum(bytes) FROM usage").fetchone())
print("views", *[db.execute(f"SELECT count(*) FROM {v}").fetchone()[0] > 0 for v in ("traffic", "talkers", "usage_apps", "geo")])
print("six", *db.execute("SELECT DISTINCT src_ip FROM flows WHERE src_ip LIKE '2001:%' ORDER BY 1").fetchone())
print("words", *db.execute("SELECT DISTINCT direction, src_country FROM flows WHERE direction = 'out'").fetchone())
for row in db.execute("""
    SELECT src_ip, SUM(bytes) AS total_bytes, SUM(packets) AS total_pkts FROM flows
    WHERE time > TIMESTAMPTZ '2026-11-22 02:00:00+00' - INTERVAL '24 hours'
    GROUP BY src_ip ORDER BY total_bytes DESC, src_ip LIMIT 10""").fetchall():
    print("top", *row)
"#;

/// A Python that has DuckDB, made in a folder of its own; the reason when there is none.
fn python_with_duckdb(folder: &Path) -> Result<std::path::PathBuf, String> {
    let run = |command: &mut Command| {
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() { Ok(()) } else { Err(text.lines().last().unwrap_or("failed").to_owned()) }
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(folder))?;
    let python = folder.join("bin/python");
    let pip =
        ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--timeout", "15", "--retries", "1", "duckdb"];
    run(Command::new(&python).args(pip))?;
    Ok(python)
}

#[test]
fn duckdb_gives_the_same_top_talkers_through_the_views() {
    let folder = tempfile::tempdir().unwrap();
    let python = match python_with_duckdb(&folder.path().join("venv")) {
        Ok(python) => python,
        Err(reason) => {
            println!("skipped: no DuckDB from PyPI: {reason}");
            return;
        }
    };
    let data = folder.path().join("data");
    let clock = TestClock::new(DAY_START_MS + 7_200_000);
    let context = context(Arc::new(MemoryLog::default()), &clock);
    let log = MemoryLog::default();
    let mut isp = Isp::new(11);
    for _ in 0..4 {
        let mut batch = isp.batch(3_000);
        let mut sources = sink_api::column::IpColumn::default();
        (0..3_000).for_each(|row| {
            let v6 = "2001:db8::7".parse().unwrap();
            sources.push(if row % 100 == 0 { Some(v6) } else { batch.src_ip.get(row) });
        });
        batch.src_ip = sources;
        log.push(Record::Flows(Arc::new(batch)));
    }
    log.push(Record::Sums(Arc::new(sums(&mut Random(1), 30, DAY_START_MS))));
    let mut sink = config(&data).open(&context).unwrap();
    sink.write(&mut Entries::new(log.after(0))).unwrap();
    let store = config(&data).store(&context).unwrap().unwrap();

    let views = concat!(env!("CARGO_MANIFEST_DIR"), "/views.sql");
    let output = Command::new(python).args(["-c", SCRIPT]).arg(&data).arg(views).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let got = String::from_utf8(output.stdout).unwrap();
    assert_eq!(got, expected(&*store));
}

/// What DuckDB must print, by the store's own answers.
fn expected(store: &dyn FlowStore) -> String {
    let ask = |by: &[Field], tier: TierChoice| {
        let question = Question {
            range: TimeRange { from: DAY_START_MS - 86_400_000, to: DAY_START_MS + 86_400_000 },
            filter: Filter::Any,
            by: by.iter().map(|f| Key::Field(*f)).collect(),
            interval_ms: None,
            order: OrderBy::Bytes,
            limit: Some(10),
            tier,
            deadline: Instant::now() + Duration::from_secs(60),
        };
        store.ask(&question).unwrap()
    };
    let subscribers = ask(&[Field::SubscriberId], TierChoice::Detail);
    let m = subscribers.matched;
    let usage: u64 = store.ask(&question_all("usage")).unwrap().rows.iter().map(|r| r.measures.bytes).sum();
    let mut text = format!("flows {} {} {} {}\n", m.flows, m.bytes, m.packets, subscribers.total_rows);
    text += &format!("usage {usage}\nviews True True True True\n");
    text += "six 2001:0db8:0000:0000:0000:0000:0000:0007\nwords out MA\n";
    for row in ask(&[Field::SrcIp], TierChoice::Detail).rows {
        let ip = row.keys[0].to_string().replace("2001:db8::7", "2001:0db8:0000:0000:0000:0000:0000:0007");
        text += &format!("top {ip} {} {}\n", row.measures.bytes, row.measures.packets);
    }
    text
}

/// Every row of a rollup by subscriber and direction, `internal_in` shown.
fn question_all(rollup: &str) -> Question {
    Question {
        range: TimeRange { from: 0, to: DAY_START_MS + 400 * 86_400_000 },
        filter: Filter::Any,
        by: vec![Key::Field(Field::SubscriberId), Key::Field(Field::Direction)],
        interval_ms: None,
        order: OrderBy::Bytes,
        limit: None,
        tier: TierChoice::Rollup(rollup.into()),
        deadline: Instant::now() + Duration::from_secs(60),
    }
}
