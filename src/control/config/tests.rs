use std::path::Path as FsPath;

use super::*;
use crate::flow::sink::{KeyError, ParsedSink, SinkConfig, SinkContext, SinkError};

/// A kind of sink for these tests: takes `path` and `level` (0 to 9).
#[derive(Debug)]
struct Fake {
    path: PathBuf,
}

impl SinkConfig for Fake {
    fn open(&self, _: &SinkContext) -> Result<Box<dyn crate::flow::Sink>, SinkError> {
        Err(SinkError::Fatal("not in these tests".to_owned()))
    }

    fn store(&self, _: &SinkContext) -> Result<Option<std::sync::Arc<dyn crate::flow::FlowStore>>, SinkError> {
        Ok(None)
    }

    fn folders(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn memory_bytes_max(&self) -> u64 {
        1
    }
}

fn parse_fake(table: &toml::Table, base: &FsPath) -> ParsedSink {
    let level = table.get("level").map(|level| level.as_integer());
    if let Some(None | Some(10..)) = level {
        return Err(vec![KeyError { key: "level".into(), problem: "allowed are 0 to 9".into() }]);
    }
    let path = table.get("path").and_then(|path| path.as_str()).unwrap_or("data");
    Ok(Box::new(Fake { path: base.join(path) }))
}

const KINDS: &[::sinks::Kind] =
    &[::sinks::Kind { name: "parquet", about: "", sample: "", keys: &["path", "level"], parse: parse_fake }];

/// A folder with a `p.toml`, and what came out of reading it.
fn load_text(text: &str, environment: &[(&str, &str)], port: Option<u16>) -> Result<Settings, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("p.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let sources = Sources { file: Some(file), env_file: None, environment, port };
    let prefix = format!("{}/", folder.path().display());
    load_with(&sources, KINDS)
        .map_err(|problems| problems.0.iter().map(|p| p.to_string().replace(&prefix, "")).collect())
}

/// The stages without the tables that the sinks were made of.
fn without_sinks(settings: &Settings) -> Stages {
    Stages { sink: Vec::new(), ..settings.stages.clone() }
}

fn origin_of(settings: &Settings, key: &str) -> String {
    let shown = settings.shown.iter().find(|shown| shown.key == key).unwrap_or_else(|| panic!("{key}"));
    shown.origin.to_string().rsplit('/').next().unwrap().to_owned()
}

#[test]
fn an_empty_file_means_the_defaults() {
    let settings = load_text("", &[], None).unwrap();
    assert_eq!(without_sinks(&settings), Stages::default());
    assert_eq!(settings.sinks.len(), 1);
    assert_eq!((&*settings.sinks[0].common.name, &*settings.sinks[0].common.kind), ("local", "parquet"));
    assert!(settings.shown.iter().all(|shown| shown.origin == Origin::Default));
    assert!(settings.sinks[0].config.folders()[0].ends_with("data"));
}

#[test]
fn all_problems_are_reported_at_once_with_line_key_and_nearest_key() {
    let text = r#"
[receive]
lisen = ["0.0.0.0:2055"]
sockets = "two"
protocols = ["v5", "v99"]

[recieve]
x = 1

[decode]
clock_skew_max = "10 parsecs"

[[decode.exporter]]
address = "here"

[admin]
listen = "0.0.0.0:9100"

[[sink]]
name = "a"
kind = "parket"

[[sink]]
name = "b"
kind = "parquet"
pth = "x"
level = 11
flush_interval = 0

[[sink]]
kind = "parquet"
start = "later"
"#;
    let problems =
        load_text(text, &[("PROMETHEUS_NETFLOW_PORT", "many"), ("NETFLOW_PORT", "99999")], None).unwrap_err();
    let expected = [
        ("p.toml:3: receive.lisen: unknown key \"lisen\"", "\"listen\""),
        ("p.toml:4: receive.sockets: ", "string \"two\", expected usize"),
        ("p.toml:5: receive.protocols[1]: unknown value \"v99\"", "v1"),
        ("p.toml:7: recieve: unknown key \"recieve\"", "\"receive\""),
        ("p.toml:11: decode.clock_skew_max: ", "allowed is a whole number with one of ms, s, m, h, d"),
        ("p.toml:14: decode.exporter[0].address: ", "IP address"),
        ("p.toml:17: admin.listen: ", "[[admin.token]]"),
        ("p.toml:21: sink[0].kind: unknown kind \"parket\"", "\"parquet\""),
        ("p.toml:26: sink[1].pth: unknown key \"pth\"", "\"path\""),
        ("p.toml:27: sink[1].level: ", "allowed are 0 to 9"),
        ("p.toml:28: sink[1].flush_interval: ", "greater than 0"),
        ("sink[2]", "needs the key \"name\""),
        ("p.toml:32: sink[2].start: unknown value \"later\"", "oldest"),
        ("PROMETHEUS_NETFLOW_PORT: ", "\"many\" is no whole number"),
        ("NETFLOW_PORT: ", "99999 is no port"),
    ];
    for (start, holds) in expected {
        let found = problems.iter().any(|line| line.contains(start) && line.contains(holds));
        assert!(found, "{start} ... {holds} is not in\n{}", problems.join("\n"));
    }
    assert_eq!(problems.len(), expected.len(), "{}", problems.join("\n"));
}

#[test]
fn syntax_errors_name_their_line() {
    let problems = load_text("[receive]\nsockets = = 2\n", &[], None).unwrap_err();
    assert!(problems[0].starts_with("p.toml:2: "), "{problems:?}");
}

#[test]
fn default_gives_way_to_file_to_environment_to_flag() {
    let text = "[receive]\nlisten = [\"127.0.0.1:1\"]\nsockets = 3\n";
    let listen = |environment: &[_], port| load_text(text, environment, port).unwrap();
    let settings = listen(&[], None);
    assert_eq!(settings.stages.receive.listen, ["127.0.0.1:1".parse().unwrap()]);
    assert_eq!(origin_of(&settings, "receive.listen"), "p.toml:2");
    assert_eq!(origin_of(&settings, "receive.queue_bytes"), "default");

    let settings = listen(&[("NETFLOW_PORT", "2"), ("NETFLOW_LISTEN_PORT", "3  # wins")], None);
    assert_eq!(settings.stages.receive.listen, ["127.0.0.1:3".parse().unwrap()]);
    assert_eq!(origin_of(&settings, "receive.listen"), "NETFLOW_LISTEN_PORT");

    let settings = listen(&[("NETFLOW_LISTEN_PORT", "3"), ("NETFLOW_LISTEN_ADDR", "::1")], Some(4));
    assert_eq!(settings.stages.receive.listen, ["[::1]:4".parse().unwrap()]);
    assert_eq!(origin_of(&settings, "receive.listen"), "--port");
    assert_eq!(settings.stages.receive.sockets, 3);
}

#[test]
fn every_variable_reaches_its_key() {
    let environment = [
        ("NETFLOW_PROTOCOL", "v5, V7"),
        ("BUFFER_SIZE", "4096"),
        ("BATCH_SIZE", " 500 # rows"),
        ("FLUSH_INTERVAL", "2.5"),
        ("PROMETHEUS_NETFLOW_METRICS_ENABLED", "\"False\""),
        ("PROMETHEUS_NETFLOW_PORT", "9101"),
        ("NETFLOW_ALERT_SUBSCRIBER_24H_BYTES", "5368709120  # 5 GiB"),
        ("NETFLOW_ALERT_SITE_CIR_PERCENT", "90"),
        ("NETFLOW_ALERT_DPI_PROTOCOL", "bittorrent, tor"),
        ("LOG_LEVEL", "WARNING"),
        ("LOG_FILE", "/tmp/x.log"),
        ("NETFLOW_LISTEN_ADDR", ""),
    ];
    let text =
        "[[sink]]\nname = \"a\"\nkind = \"parquet\"\n[[sink]]\nname = \"b\"\nkind = \"parquet\"\nbatch_rows = 7\n";
    let settings = load_text(text, &environment, None).unwrap();
    let stages = &settings.stages;
    assert_eq!(stages.receive.protocols, [receive::Protocol::V5, receive::Protocol::V7]);
    assert_eq!(stages.receive.datagram_bytes_max, 4096);
    assert_eq!((stages.admin.metrics, stages.admin.metrics_port), (false, 9101));
    assert_eq!((stages.alerts.subscriber_24h_bytes, stages.alerts.site_cir_percent), (5 << 30, 90));
    assert_eq!(stages.alerts.dpi_protocols, ["bittorrent", "tor"]);
    assert_eq!(stages.telemetry.log_level, telemetry::logging::Level::Warn);
    assert_eq!(stages.telemetry.log_file, PathBuf::from("/tmp/x.log"));
    let commons: Vec<_> = settings.sinks.iter().map(|s| (s.common.batch_rows, s.common.flush_interval_ms)).collect();
    assert_eq!(commons, [(500, 2500), (500, 2500)]);
    assert_eq!(origin_of(&settings, "sink[1].batch_rows"), "BATCH_SIZE");
}

#[test]
fn variables_of_databases_add_a_sink_or_change_those_there_are() {
    let load = |file: Option<&str>, environment: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let file = file.map(|text| {
            std::fs::write(folder.path().join("p.toml"), text).unwrap();
            folder.path().join("p.toml")
        });
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        load(&Sources { file, environment, ..Sources::default() }).unwrap_or_else(|problems| panic!("{problems}"))
    };
    let kinds = |settings: &Settings| settings.sinks.iter().map(|s| s.common.kind.clone()).collect::<Vec<_>>();
    let variables = [
        ("DB_HOST", "rgz-db  # the platform's"),
        ("DB_PORT", "5433"),
        ("DB_NAME", "rgz"),
        ("DB_USER", "rgz"),
        ("DB_PASSWORD", "secret"),
        ("DB_SCHEMA", "net"),
        ("TIMESCALEDB_FLOWS_TABLE", "f"),
        ("TIMESCALEDB_FLOWS_RETENTION_DETAIL", "7"),
        ("TIMESCALEDB_FLOWS_RETENTION_AGGREGATE", "6"),
        ("TIMESCALEDB_FLOWS_CHUNK_INTERVAL", "1 day"),
    ];
    let settings = load(Some(""), &variables);
    assert_eq!(kinds(&settings), ["parquet", "timescaledb"]);
    assert_eq!(settings.stages.admin.store, "");
    let shown = format!("{:?}", settings.sinks[1].config);
    for part in
        ["\"rgz-db\"", "5433", "\"net\"", "\"f\"", "detail_days: 7", "aggregate_months: 6", "chunk_interval_hours: 24"]
    {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    assert!(!shown.contains("secret"), "{shown}");

    let own = "[[sink]]\nname = \"mine\"\nkind = \"postgres\"\nhost = \"x\"\n";
    let settings = load(Some(own), &variables);
    assert_eq!(kinds(&settings), ["postgres"]);
    assert!(format!("{:?}", settings.sinks[0].config).contains("\"rgz-db\""));
    assert_eq!(kinds(&load(Some(""), &[("DB_USER", "rgz")])), ["parquet"]);
}

#[test]
fn a_bad_value_of_a_variable_names_the_variable() {
    let problems = load_text("", &[("NETFLOW_PROTOCOL", "v5,x"), ("BUFFER_SIZE", "100")], None).unwrap_err();
    assert!(problems.iter().any(|p| p.starts_with("NETFLOW_PROTOCOL: receive.protocols[1]: ")), "{problems:?}");
    assert!(problems.iter().any(|p| p.starts_with("BUFFER_SIZE: receive.datagram_bytes_max: ")), "{problems:?}");
}

#[test]
fn environment_files_come_below_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let (file, env_file) = (folder.path().join("p.toml"), folder.path().join("x.env"));
    std::fs::write(&file, "").unwrap();
    std::fs::write(&env_file, "NETFLOW_PORT=1111  # one\nLOG_LEVEL=DEBUG\n").unwrap();
    let environment = Environment::from([("NETFLOW_PORT".to_owned(), "2222".to_owned())]);
    let sources = Sources { file: Some(file), env_file: Some(env_file.clone()), environment, port: None };
    let settings = load_with(&sources, KINDS).unwrap();
    assert_eq!(settings.stages.receive.listen[0].port(), 2222);
    assert_eq!(settings.stages.telemetry.log_level, telemetry::logging::Level::Debug);
    std::fs::remove_file(&env_file).unwrap();
    let problems = load_with(&sources, KINDS).unwrap_err().to_string();
    assert!(problems.contains("x.env") && problems.contains("cannot read"), "{problems}");
}

#[test]
fn two_sinks_of_one_name_are_refused() {
    let sink = "[[sink]]\nname = \"a\"\nkind = \"parquet\"\n";
    let problems = load_text(&format!("{sink}{sink}"), &[], None).unwrap_err();
    assert_eq!(problems, ["p.toml:5: sink[1].name: two sinks are named \"a\"; names must differ"]);
}

#[test]
fn a_sink_has_a_name_that_is_one_of_a_folder_too() {
    for name in ["../evil", "..", "a/b", " "] {
        let problems = load_text(&format!("[[sink]]\nname = {name:?}\nkind = \"parquet\"\n"), &[], None).unwrap_err();
        let expected = format!("p.toml:2: sink[0].name: {name:?} is no name: it begins with a letter or digit; ");
        assert!(problems.len() == 1 && problems[0].starts_with(&expected), "{problems:?}");
    }
    assert!(load_text("[[sink]]\nname = \"db-1_a.b\"\nkind = \"parquet\"\n", &[], None).is_ok());
}

#[test]
fn missing_files_are_named_and_looked_for_beside_the_file() {
    let problems = load_text("[enrich]\nsubscribers = \"subs.csv\"\n", &[], None).unwrap_err();
    assert_eq!(problems, ["p.toml:2: enrich.subscribers: there is no file subs.csv"]);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("subs.csv"), "").unwrap();
    std::fs::write(folder.path().join("p.toml"), "[enrich]\nsubscribers = \"subs.csv\"\n").unwrap();
    let sources = Sources { file: Some(folder.path().join("p.toml")), ..Sources::default() };
    let settings = load_with(&sources, KINDS).unwrap();
    assert_eq!(settings.base, folder.path());
}

#[test]
fn a_log_file_of_the_file_is_beside_it_and_one_of_the_environment_is_where_it_says() {
    let text = "[telemetry]\nlog_file = \"x.log\"\n";
    let settings = load_text(text, &[], None).unwrap();
    assert_eq!(settings.stages.telemetry.log_file, settings.base.join("x.log"));
    let settings = load_text(text, &[("LOG_FILE", "y.log")], None).unwrap();
    assert_eq!(settings.stages.telemetry.log_file, PathBuf::from("y.log"));
}

#[test]
fn the_answering_store_must_be_a_sink() {
    let problems = load_text("[admin]\nstore = \"loca\"\n", &[], None).unwrap_err();
    assert!(problems[0].starts_with("p.toml:2: admin.store: unknown sink \"loca\""), "{problems:?}");
}

const PIPELINE: &str = include_str!("../../../pipeline.toml");

#[test]
fn pipeline_toml_equals_the_defaults() {
    let settings = load_text(PIPELINE, &[], None).unwrap();
    assert_eq!(without_sinks(&settings), Stages::default());
    let common = &settings.sinks[0].common;
    let default = Common { name: "local".into(), kind: "parquet".into(), ..Common::default() };
    assert_eq!((settings.sinks.len(), common), (1, &default));
}

/// The keys of a table come from serde itself: from its complaint about a key that there is not.
fn keys_of<T: serde::de::DeserializeOwned>(needed: &str) -> Vec<String> {
    let error = toml::from_str::<T>(&format!("{needed}\nno_such_key = 1")).map(|_| ()).unwrap_err();
    assert!(error.message().starts_with("unknown field"), "{error}");
    error.message().split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect()
}

#[test]
fn pipeline_toml_names_every_key() {
    let tables = [
        ("receive", keys_of::<receive::Config>("")),
        ("decode", keys_of::<decode::Config>("")),
        ("decode.exporter", keys_of::<decode::ExporterConfig>("address = \"192.0.2.1\"")),
        ("enrich", keys_of::<enrich::Config>("")),
        ("enrich.sql", keys_of::<enrich::sql::SqlConfig>("")),
        ("aggregate", keys_of::<aggregate::Config>("")),
        ("aggregate.rollup", keys_of::<aggregate::RollupConfig>("")),
        ("log", keys_of::<log::Config>("")),
        ("admin", keys_of::<control::http::Config>("")),
        ("admin.token", keys_of::<control::http::TokenConfig>("")),
        ("telemetry", keys_of::<telemetry::logging::Config>("")),
        ("sink", sinks::COMMON_KEYS.iter().map(|key| (*key).to_owned()).collect()),
    ];
    for (table, keys) in tables {
        let section = section(table);
        for key in keys {
            let is_list = tables_named(&format!("{table}.{key}"));
            let named = section.iter().any(|line| line.split('=').next().unwrap_or("").trim() == key);
            assert!(named || is_list, "{table}.{key} is not in pipeline.toml");
        }
    }
}

/// The lines of a table, of an example behind `#` too.
fn section(table: &str) -> Vec<&'static str> {
    let bare = |line: &'static str| line.trim_start_matches("# ");
    let begins = |line: &str| line.starts_with(&format!("[{table}]")) || line.starts_with(&format!("[[{table}]]"));
    let lines = PIPELINE.lines().map(bare).skip_while(|line| !begins(line)).skip(1);
    lines.take_while(|line| !line.starts_with('[')).collect()
}

fn tables_named(name: &str) -> bool {
    PIPELINE.contains(&format!("[[{name}]]")) || PIPELINE.contains(&format!("[{name}]"))
}

#[test]
fn samples_of_every_kind_read_and_name_every_key() {
    for kind in ::sinks::KINDS {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.toml");
        std::fs::write(&file, kind.sample).unwrap();
        let sources = Sources { file: Some(file), ..Sources::default() };
        let settings = load(&sources).unwrap_or_else(|problems| panic!("{}: {problems}", kind.name));
        assert_eq!(settings.sinks[0].common.kind, kind.name);
        for key in kind.keys {
            let named = kind.sample.lines().any(|line| line.trim_start_matches("# ").starts_with(&format!("{key} =")));
            assert!(named, "{key} is not in the sample of {}", kind.name);
        }
    }
}

#[test]
fn every_variable_is_named_beside_its_key() {
    for variable in VARIABLES {
        assert!(PIPELINE.contains(variable.name), "{}", variable.name);
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_panic(text in "[\\[\\]a-z=\"\\n .0-9,{}]{0,200}") {
        let _ = load_text(&text, &[("NETFLOW_PORT", "1"), ("BATCH_SIZE", "1")], Some(1)).is_ok();
    }
}
