//! Environment variables: one row of [`VARIABLES`] each. Values may carry spaces, quotes and a trailing `  # comment`, as
//! container and systemd environment files pass them on. An empty value counts as not set.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::document::{Document, Origin, Overlay, Path};
use super::read::Problem;

/// One environment variable.
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// What it sets, for help texts.
    pub about: &'static str,
    /// Where its value goes.
    target: Target,
    /// How its text becomes a TOML literal.
    literal: fn(&str) -> Result<String, String>,
}

enum Target {
    /// This key.
    Key(&'static str),
    /// This key of every `[[sink]]`.
    EverySink(&'static str),
    /// This key of every `[[sink]]` of these kinds.
    SinksOf(&'static [&'static str], &'static str),
    /// The port of every listener.
    ListenPort,
    /// The address of every listener.
    ListenAddr,
}

/// Kinds of sink that speak to a PostgreSQL server.
const DATABASES: &[&str] = &["postgres", "timescaledb"];

/// The kind of sink that speaks to InfluxDB.
const INFLUXDB: &[&str] = &["influxdb"];

/// Every variable. Where two set the same thing, the later row wins.
pub const VARIABLES: &[Variable] = &[
    Variable { name: "NETFLOW_PORT", about: "UDP port to listen on", target: Target::ListenPort, literal: number },
    Variable {
        name: "NETFLOW_LISTEN_PORT",
        about: "UDP port to listen on; wins over NETFLOW_PORT",
        target: Target::ListenPort,
        literal: number,
    },
    Variable {
        name: "NETFLOW_LISTEN_ADDR",
        about: "address to listen on",
        target: Target::ListenAddr,
        literal: address,
    },
    Variable {
        name: "NETFLOW_PROTOCOL",
        about: "accepted versions, separated by commas",
        target: Target::Key("receive.protocols"),
        literal: list,
    },
    Variable {
        name: "BUFFER_SIZE",
        about: "longest datagram taken whole, bytes",
        target: Target::Key("receive.datagram_bytes_max"),
        literal: number,
    },
    Variable {
        name: "BATCH_SIZE",
        about: "flows that a sink commits together",
        target: Target::EverySink("batch_rows"),
        literal: number,
    },
    Variable {
        name: "FLUSH_INTERVAL",
        about: "seconds after which a sink commits what it has",
        target: Target::EverySink("flush_interval"),
        literal: seconds,
    },
    Variable {
        name: "DB_HOST",
        about: "host of the database; adds a sink of kind timescaledb when there is none for PostgreSQL",
        target: Target::SinksOf(DATABASES, "host"),
        literal: text,
    },
    Variable {
        name: "DB_PORT",
        about: "port of the database",
        target: Target::SinksOf(DATABASES, "port"),
        literal: number,
    },
    Variable {
        name: "DB_NAME",
        about: "name of the database; adds a sink as DB_HOST does",
        target: Target::SinksOf(DATABASES, "dbname"),
        literal: text,
    },
    Variable {
        name: "DB_USER",
        about: "role at the database",
        target: Target::SinksOf(DATABASES, "user"),
        literal: text,
    },
    Variable {
        name: "DB_PASSWORD",
        about: "password at the database",
        target: Target::SinksOf(DATABASES, "password"),
        literal: text,
    },
    Variable {
        name: "DB_PASSWORD_FILE",
        about: "file that holds the password at the database",
        target: Target::SinksOf(DATABASES, "password_file"),
        literal: text,
    },
    Variable {
        name: "DB_SCHEMA",
        about: "schema of the tables",
        target: Target::SinksOf(DATABASES, "schema"),
        literal: text,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_TABLE",
        about: "name of the table of flows",
        target: Target::SinksOf(DATABASES, "table"),
        literal: text,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_RETENTION_DETAIL",
        about: "days that detail is kept",
        target: Target::SinksOf(DATABASES, "retention_detail_days"),
        literal: number,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_RETENTION_AGGREGATE",
        about: "months that long rollups are kept",
        target: Target::SinksOf(DATABASES, "retention_aggregate_months"),
        literal: number,
    },
    Variable {
        name: "TIMESCALEDB_FLOWS_CHUNK_INTERVAL",
        about: "width of a chunk: hours, or a text such as 1 day",
        target: Target::SinksOf(DATABASES, "chunk_interval_hours"),
        literal: hours,
    },
    Variable {
        name: "INFLUXDB_URL",
        about: "address of the InfluxDB server",
        target: Target::SinksOf(INFLUXDB, "url"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_BUCKET",
        about: "bucket of InfluxDB (on version 1 the database, unless the file names one)",
        target: Target::SinksOf(INFLUXDB, "bucket"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_ORG",
        about: "organisation of InfluxDB",
        target: Target::SinksOf(INFLUXDB, "org"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_TOKEN",
        about: "token of InfluxDB",
        target: Target::SinksOf(INFLUXDB, "token"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_TOKEN_FILE",
        about: "file that holds the token of InfluxDB",
        target: Target::SinksOf(INFLUXDB, "token_file"),
        literal: text,
    },
    Variable {
        name: "INFLUXDB_RETENTION",
        about: "how long InfluxDB keeps detail and short rollups: days, or a text such as 30d, 4w, 720h",
        target: Target::SinksOf(INFLUXDB, "retention_detail_days"),
        literal: days,
    },
    Variable {
        name: "PROMETHEUS_NETFLOW_METRICS_ENABLED",
        about: "whether /metrics is served",
        target: Target::Key("admin.metrics"),
        literal: boolean,
    },
    Variable {
        name: "PROMETHEUS_NETFLOW_PORT",
        about: "port of /metrics and /healthz alone; the admin port itself means one listener",
        target: Target::Key("admin.metrics_port"),
        literal: number,
    },
    Variable {
        name: "NETFLOW_ALERT_SUBSCRIBER_24H_BYTES",
        about: "bytes of a subscriber in 24 hours over which there is an alert",
        target: Target::Key("alerts.subscriber_24h_bytes"),
        literal: text,
    },
    Variable {
        name: "NETFLOW_ALERT_SITE_CIR_PERCENT",
        about: "percent of a site's committed rate over which there is an alert",
        target: Target::Key("alerts.site_cir_percent"),
        literal: number,
    },
    Variable {
        name: "NETFLOW_ALERT_DPI_PROTOCOL",
        about: "applications and categories that are watched for, separated by commas",
        target: Target::Key("alerts.dpi_protocols"),
        literal: list,
    },
    Variable {
        name: "LOG_LEVEL",
        about: "error, warn, info, debug or trace; Python's names too",
        target: Target::Key("telemetry.log_level"),
        literal: text,
    },
    Variable {
        name: "LOG_FILE",
        about: "file for log lines, besides stderr",
        target: Target::Key("telemetry.log_file"),
        literal: text,
    },
];

/// Variables with their values.
pub type Environment = BTreeMap<String, String>;

/// The process's environment. Variables that are not UTF-8 are left out: none of ours can be meant.
pub fn of_process() -> Environment {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Reads an environment file: `NAME=value` lines, `export` allowed, `#` comments.
///
/// # Errors
/// Every line that is neither.
pub fn parse_file(file: &str, text: &str) -> Result<Environment, Vec<Problem>> {
    let (mut environment, mut problems) = (Environment::new(), Vec::new());
    for (index, line) in text.lines().enumerate() {
        let line = line.trim().trim_start_matches('\u{feff}');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        match line.split_once('=').map(|(name, value)| (name.trim(), value)) {
            Some((name, value)) if is_name(name) => {
                environment.insert(name.to_owned(), value.to_owned());
            }
            _ => problems.push(Problem {
                origin: Origin::File { file: file.to_owned(), line: index + 1 },
                key: String::new(),
                problem: "allowed is NAME=value or a comment".to_owned(),
            }),
        }
    }
    if problems.is_empty() { Ok(environment) } else { Err(problems) }
}

/// The values of our variables as overlays over the document, which is asked for listeners and sinks. Appends every problem.
pub fn overlays(
    environment: &Environment,
    document: &Document<'_>,
    listen: &[SocketAddr],
    problems: &mut Vec<Problem>,
) -> Vec<Overlay> {
    let mut listen = listeners(document).unwrap_or_else(|| listen.to_vec());
    let mut overlays = Vec::new();
    for variable in VARIABLES {
        let Some(value) = environment.get(variable.name).map(|value| clean(value)).filter(|v| !v.is_empty()) else {
            continue;
        };
        let origin = Origin::Env(variable.name.to_owned());
        let literal = match (variable.literal)(value) {
            Ok(literal) => literal,
            Err(problem) => {
                problems.push(Problem { origin, key: String::new(), problem });
                continue;
            }
        };
        let mut set = |path: Path, literal: &str| {
            overlays.push(Overlay { path, literal: literal.to_owned(), origin: origin.clone() });
        };
        match variable.target {
            Target::Key(key) => set(Path::parse(key), &literal),
            Target::EverySink(key) => {
                for index in 0..sinks(document) {
                    set(Path::parse(&format!("sink[{index}].{key}")), &literal);
                }
            }
            Target::SinksOf(kinds, key) => {
                let places = sinks_of(document, kinds);
                places.iter().for_each(|index| set(Path::parse(&format!("sink[{index}].{key}")), &literal));
            }
            Target::ListenPort => match literal.parse() {
                Ok(port) => {
                    listen.iter_mut().for_each(|addr| addr.set_port(port));
                    set(Path::parse("receive.listen"), &listen_literal(&listen));
                }
                Err(_) => problems.push(Problem {
                    origin,
                    key: String::new(),
                    problem: format!("{literal} is no port; allowed are 1 to 65535"),
                }),
            },
            Target::ListenAddr => {
                // Several listeners would become one and the same; their ports stay apart.
                if let Ok(ip) = value.trim_matches(['[', ']']).parse::<IpAddr>() {
                    listen.iter_mut().for_each(|addr| addr.set_ip(ip));
                    listen.dedup();
                    set(Path::parse("receive.listen"), &listen_literal(&listen));
                }
            }
        }
    }
    overlays
}

/// The sink that `DB_HOST` or `DB_NAME` adds when the document has none for PostgreSQL, and without a file the choice of it
/// as the store.
pub fn database(environment: &Environment, document: &Document<'_>, has_file: bool) -> Vec<Overlay> {
    let set = |name: &&&str| environment.get(**name).is_some_and(|value| !clean(value).is_empty());
    let Some(variable) = ["DB_HOST", "DB_NAME"].iter().find(set) else { return Vec::new() };
    if !sinks_of(document, DATABASES).is_empty() {
        return Vec::new();
    }
    let overlay = |path: &str, literal: &str| Overlay {
        path: Path::parse(path),
        literal: literal.to_owned(),
        origin: Origin::Env((*variable).to_owned()),
    };
    let mut overlays =
        vec![overlay(&format!("sink[{}]", sinks(document)), "{ name = \"database\", kind = \"timescaledb\" }")];
    if !has_file {
        overlays.push(overlay("admin.store", "\"database\""));
    }
    overlays
}

fn sinks(document: &Document<'_>) -> usize {
    let list = document.get(&Path::parse("sink")).and_then(|sinks| sinks.get_ref().as_array());
    list.map_or(0, |list| list.len())
}

/// Which sinks are of one of these kinds.
fn sinks_of(document: &Document<'_>, kinds: &[&str]) -> Vec<usize> {
    let kind = |index: &usize| {
        let kind = document.get(&Path::parse(&format!("sink[{index}].kind")))?;
        Some(kinds.contains(&kind.get_ref().as_str()?))
    };
    (0..sinks(document)).filter(|index| kind(index).unwrap_or(false)).collect()
}

/// An overlay that puts another port into every listener, for `-p`.
pub fn listen_port(document: &Document<'_>, listen: &[SocketAddr], port: u16, origin: Origin) -> Overlay {
    let mut listen = listeners(document).unwrap_or_else(|| listen.to_vec());
    listen.iter_mut().for_each(|addr| addr.set_port(port));
    listen.dedup();
    Overlay { path: Path::parse("receive.listen"), literal: listen_literal(&listen), origin }
}

/// A value without the comment, the blanks and the quotes around it.
fn clean(value: &str) -> &str {
    let value = value.trim();
    for quote in ['"', '\''] {
        if let Some((inside, after)) = value.strip_prefix(quote).and_then(|rest| rest.split_once(quote)) {
            let after = after.trim_start();
            if after.is_empty() || after.starts_with('#') {
                return inside;
            }
        }
    }
    let comment = value
        .char_indices()
        .find(|(at, c)| *c == '#' && value[..*at].chars().next_back().is_none_or(char::is_whitespace));
    comment.map_or(value, |(at, _)| value[..at].trim_end())
}

/// The file's listeners, when it has any that read.
fn listeners(document: &Document<'_>) -> Option<Vec<SocketAddr>> {
    let list = document.get(&Path::parse("receive.listen"))?.get_ref().as_array()?;
    list.iter().map(|item| item.get_ref().as_str()?.parse().ok()).collect()
}

fn listen_literal(listen: &[SocketAddr]) -> String {
    let mut out = String::from("[");
    for addr in listen {
        // Writing into a String cannot fail.
        let _ = write!(out, "\"{addr}\",");
    }
    out + "]"
}

fn text(value: &str) -> Result<String, String> {
    Ok(toml::Value::from(value).to_string())
}

fn number(value: &str) -> Result<String, String> {
    let number: u32 = value.parse().map_err(|_| format!("{value:?} is no whole number"))?;
    Ok(number.to_string())
}

fn seconds(value: &str) -> Result<String, String> {
    let seconds: f64 = value
        .parse()
        .ok()
        .filter(|s: &f64| *s > 0.0 && *s < 1e9)
        .ok_or_else(|| format!("{value:?} is no number of seconds; allowed is a number over 0, like 10"))?;
    Ok(format!("\"{}ms\"", (seconds * 1000.0).round().max(1.0) as u64))
}

/// Hours: a number of them, or a number of hours, days or weeks as PostgreSQL writes intervals.
fn hours(value: &str) -> Result<String, String> {
    let hours = span_hours(value, 1);
    let allowed = || format!("{value} is not allowed; hours, or a text such as 12 hours, 1 day, 2 weeks");
    hours.map(|hours| hours.to_string()).ok_or_else(allowed)
}

/// Days: a number of them, or a number of hours, days or weeks as InfluxDB writes durations; a part of a day counts whole.
fn days(value: &str) -> Result<String, String> {
    let allowed = || format!("{value} is not allowed; days, or a text such as 30d, 4w, 720h");
    span_hours(value, 24).map(|hours| hours.div_ceil(24).to_string()).ok_or_else(allowed)
}

/// Hours of a number with a unit; without one the number counts as so many hours each.
fn span_hours(value: &str, without_unit: u32) -> Option<u32> {
    let digits = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    let (count, unit) = value.split_at(digits);
    let factor = match unit.trim() {
        "" => without_unit,
        "h" | "hour" | "hours" => 1,
        "d" | "day" | "days" => 24,
        "w" | "week" | "weeks" => 7 * 24,
        _ => return None,
    };
    count.parse::<u32>().ok()?.checked_mul(factor)
}

fn boolean(value: &str) -> Result<String, String> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok("true".to_owned()),
        "0" | "false" | "no" | "off" => Ok("false".to_owned()),
        _ => Err(format!("{value:?} is neither true nor false (also 1, yes, on; 0, no, off)")),
    }
}

fn address(value: &str) -> Result<String, String> {
    let ip: Result<IpAddr, _> = value.trim_matches(['[', ']']).parse();
    ip.map(|ip| format!("\"{ip}\"")).map_err(|_| format!("{value:?} is no address, like 0.0.0.0 or ::"))
}

fn list(value: &str) -> Result<String, String> {
    let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
    let items: Vec<toml::Value> = items.map(|item| item.to_ascii_lowercase().into()).collect();
    Ok(toml::Value::Array(items).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lose_comments_blanks_and_quotes() {
        for (raw, want) in [
            ("2055", "2055"),
            (" 2055   # the port", "2055"),
            ("\"2055\"  # quoted", "2055"),
            ("'a # b'", "a # b"),
            ("a#b", "a#b"),
            ("# nothing", ""),
            ("", ""),
            ("\"half", "\"half"),
        ] {
            assert_eq!(clean(raw), want, "{raw:?}");
        }
    }

    #[test]
    fn spans_read_with_and_without_units() {
        let all = [days("30"), days("30d"), days("4w"), days("25h"), hours("24"), hours("1 day")];
        assert_eq!(all.map(Result::unwrap), ["30", "30", "28", "2", "24", "24"]);
        for wrong in ["", "d", "3 months", "-1", "99999999999"] {
            assert!(days(wrong).is_err() && hours(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn environment_files_read_as_shells_write_them() {
        let text = "# comment\n\nNETFLOW_PORT=9995  # port\nexport LOG_LEVEL=DEBUG\nEMPTY=\n";
        let environment = parse_file("x.env", text).unwrap();
        assert_eq!(environment["NETFLOW_PORT"], "9995  # port");
        assert_eq!((environment["LOG_LEVEL"].as_str(), environment["EMPTY"].as_str()), ("DEBUG", ""));
        let problems = parse_file("x.env", "A=1\nnonsense\n=3").unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            ["x.env:2: allowed is NAME=value or a comment", "x.env:3: allowed is NAME=value or a comment"]
        );
    }
}
