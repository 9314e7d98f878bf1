//! `top`, `query`, `report` and `export`: questions to a running collector, or to a data folder without one.

mod alerts;
mod export;
mod folder;
mod print;
mod quarantine;
mod report;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

pub use self::alerts::{Alerts, alerts};
use self::folder::Folder;
use super::client::{Client, Server};
use super::{Common, Failure};
use crate::flow::RollupDef;
pub use quarantine::{Quarantine, quarantine};
pub use report::{Report, report};

/// Where to ask.
#[derive(Args, Clone, Debug)]
pub struct Whom {
    #[command(flatten)]
    server: Server,
    /// A data folder, read directly: for when no collector runs
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["url", "token"])]
    data: Option<PathBuf>,
    /// The sink whose store answers
    #[arg(long, value_name = "SINK")]
    store: Option<String>,
}

impl Whom {
    /// Who answers. Rollups beyond the default ones are those of the configuration.
    fn open(&self, common: &Common) -> Result<Source, Failure> {
        let Some(path) = &self.data else {
            return Ok(Source { client: self.server.client(common)?, _folder: None });
        };
        let rollups = common.load()?.rollups();
        // Loading has checked them: there are no problems left.
        let folder = Folder::serve(path, rollups.unwrap_or_else(|_| RollupDef::defaults()))?;
        let client = Client::new(&folder.url, Some(&folder.token))?;
        Ok(Source { client, _folder: Some(folder) })
    }
}

/// Where to ask, and about what: common to every question.
#[derive(Args, Clone, Debug)]
pub struct Question {
    #[command(flatten)]
    whom: Whom,
    /// Length of the time that is asked about, such as 15m, 24h or 7d
    #[arg(long, value_name = "TIME")]
    period: Option<String>,
    /// Start of that time: RFC 3339, a date, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// End of that time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// Only flows that match, written as tcpdump does: 'src net 10.1.0.0/16 and proto tcp and dst port 443'
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
}

impl Question {
    fn open(&self, common: &Common) -> Result<Source, Failure> {
        self.whom.open(common)
    }

    /// The parameters that were given, in the API's names.
    fn parameters(&self) -> Vec<(&'static str, String)> {
        given([
            ("period", &self.period),
            ("from", &self.from),
            ("to", &self.to),
            ("filter", &self.filter),
            ("store", &self.whom.store),
        ])
    }
}

/// The parameters that have a value.
fn given<const N: usize>(parameters: [(&'static str, &Option<String>); N]) -> Vec<(&'static str, String)> {
    parameters.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
}

/// Who answers; a folder is served for as long as this lives.
struct Source {
    client: Client,
    _folder: Option<Folder>,
}

/// Options of `top`.
#[derive(Args, Clone, Debug)]
pub struct TopOptions {
    #[command(flatten)]
    question: Question,
    /// Which address of a flow counts
    #[arg(long, value_enum, default_value_t = TopBy::SrcIp)]
    by: TopBy,
    /// Rows
    #[arg(long, short = 'n', default_value_t = 10)]
    limit: u64,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
#[value(rename_all = "snake_case")]
enum TopBy {
    /// The source
    SrcIp,
    /// The destination
    DstIp,
    /// Either side
    Host,
}

/// Options of `query`.
#[derive(Args, Clone, Debug)]
pub struct QueryOptions {
    #[command(flatten)]
    question: Question,
    /// Group by these columns, separated by commas: direction, protocol, service_port, app, reseller_id, ...
    #[arg(long, value_name = "KEYS")]
    by: Option<String>,
    /// Width of time steps, such as 5m or 1h
    #[arg(long, value_name = "TIME")]
    interval: Option<String>,
    /// What each row holds
    #[arg(long, value_name = "MEASURES", default_value = "bytes,packets,flows")]
    measures: String,
    /// By what rows are ordered: bytes, packets, flows or time
    #[arg(long)]
    order: Option<String>,
    /// Rows
    #[arg(long, short = 'n', default_value_t = 100)]
    limit: u64,
    /// Which data answer: flows, or a rollup's name; without it the coarsest that can
    #[arg(long)]
    tier: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Formats of `export`.
#[derive(Clone, Debug, Subcommand)]
pub enum Export {
    /// Flow records as CSV
    #[command(after_help = "Example:\n  rgz-netflow export csv --period 1h --filter 'dst port 443' --out flows.csv")]
    Csv(export::Options),
}

/// Runs `top`.
///
/// # Errors
/// What the collector says, or that there is none.
pub fn top(common: &Common, options: &TopOptions) -> Result<(), Failure> {
    let by = options.by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let bytes = match options.by {
        TopBy::SrcIp => "bytes_sent",
        TopBy::DstIp => "bytes_received",
        TopBy::Host => "bytes",
    };
    let mut parameters = options.question.parameters();
    parameters.extend([("by", by.clone()), ("limit", options.limit.to_string())]);
    let answer = options.question.open(common)?.client.get("/api/v1/netflow/top-talkers", &parameters)?;
    print(&answer, options.json, &[&by, bytes, "packets", "flows", "avg_latency_ms"])
}

/// Runs `query`.
///
/// # Errors
/// As for [`top`].
pub fn query(common: &Common, options: &QueryOptions) -> Result<(), Failure> {
    let mut parameters = options.question.parameters();
    parameters.extend([("measures", options.measures.clone()), ("limit", options.limit.to_string())]);
    let more =
        [("by", &options.by), ("interval", &options.interval), ("order", &options.order), ("tier", &options.tier)];
    parameters.extend(more.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
    let answer = options.question.open(common)?.client.get("/api/v1/netflow/query", &parameters)?;
    let by = options.by.as_deref().unwrap_or_default();
    let columns = options.interval.iter().map(|_| "timestamp").chain(by.split(',')).chain(options.measures.split(','));
    let columns: Vec<&str> = columns.map(str::trim).filter(|name| !name.is_empty()).collect();
    print(&answer, options.json, &columns)
}

/// Runs `export`.
///
/// # Errors
/// As for [`top`], and a file that cannot be written.
pub fn export(common: &Common, export: &Export) -> Result<(), Failure> {
    match export {
        Export::Csv(options) => export::csv(common, options),
    }
}

fn print(answer: &Value, json: bool, columns: &[&str]) -> Result<(), Failure> {
    let text =
        if json { serde_json::to_string_pretty(answer).map_err(Failure::new)? } else { print::table(answer, columns) };
    println!("{text}");
    Ok(())
}
