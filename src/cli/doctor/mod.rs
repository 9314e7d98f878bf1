//! `doctor exporter ADDRESS`: asks a running collector what it sees of an exporter, and says what to mend.

mod findings;
mod views;

use std::net::IpAddr;

use clap::{Args, Subcommand};
use serde_json::Value;

use self::findings::{Grade, Seen};
use self::views::{COLUMNS, Views};
use super::client::{Client, Server};
use super::{Common, Failure};

const API: &str = "/api/v1/netflow";
/// Records that are looked at for second views: a few megabytes.
const RECORDS_MAX: u64 = 100_000;

/// What can be looked at.
#[derive(Clone, Debug, Subcommand)]
pub enum Doctor {
    /// What arrives from an exporter: version, rate, clock, sampling, loss, double counting; exit code 1 when something is to mend
    #[command(after_help = "Example:\n  rgz-netflow doctor exporter 192.0.2.1")]
    Exporter(Options),
}

/// Options of `doctor exporter`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// The exporter's address
    address: IpAddr,
    #[command(flatten)]
    server: Server,
    /// How far back flows are looked at; gateways export every 15 minutes
    #[arg(long, value_name = "TIME", default_value = "45m")]
    period: String,
    /// Print the findings as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `doctor`; gives whether all is well.
///
/// # Errors
/// What the collector says, that there is none, or that it never heard the exporter.
pub fn run(common: &Common, doctor: &Doctor) -> Result<bool, Failure> {
    let Doctor::Exporter(options) = doctor;
    let client = options.server.client(common)?;
    let exporters = client.get(&format!("{API}/exporters"), &[])?;
    let exporter = find(&exporters, options.address)?;
    let ledger = client.get(&format!("{API}/ledger"), &[])?;
    let about = [("period", options.period.clone()), ("filter", format!("exporter {}", options.address))];
    let mut by_minute = about.to_vec();
    by_minute.extend([("interval", "1m".to_owned()), ("measures", "flows,bytes".to_owned())]);
    let trend = client.get(&format!("{API}/query"), &by_minute)?;
    let views = views(&client, &about)?;
    let seen = Seen { exporter, ledger: &ledger, trend: &trend, period: &options.period, views: &views };
    let findings = seen.findings();
    if options.json {
        println!("{}", serde_json::to_string_pretty(&findings).map_err(Failure::new)?);
    } else {
        findings.iter().for_each(|finding| println!("{finding}"));
    }
    Ok(findings.iter().all(|finding| finding.grade == Grade::Ok))
}

fn find(exporters: &Value, address: IpAddr) -> Result<&Value, Failure> {
    let items = exporters["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of = |item: &Value| item["exporter_ip"].as_str().and_then(|text| text.parse::<IpAddr>().ok());
    items.iter().find(|item| of(item) == Some(address.to_canonical())).ok_or_else(|| {
        let known: Vec<_> = items.iter().filter_map(|item| item["exporter_ip"].as_str()).collect();
        let known = if known.is_empty() { "nobody".to_owned() } else { known.join(", ") };
        Failure::new(format!(
            "nothing ever arrived from {address}; heard were: {known}\n\
             is it exporting to this address and port, and does no firewall stop it? tcpdump -ni any udp and src {address}"
        ))
    })
}

fn views(client: &Client, about: &[(&'static str, String)]) -> Result<Views, Failure> {
    let mut parameters = about.to_vec();
    parameters.extend([("columns", COLUMNS.join(",")), ("limit", RECORDS_MAX.to_string())]);
    let stream = client.stream(&format!("{API}/flows.csv"), &parameters)?;
    let mut reader = csv::Reader::from_reader(stream);
    let records: Result<Vec<_>, _> = reader.records().collect();
    let records = records.map_err(|e| Failure::new(format!("the collector's flow records broke off: {e}")))?;
    Ok(Views::of(records.iter().map(|record| record.iter().collect())))
}
