//! `quarantine`: what a running collector set aside, bringing it to its sink again, and dropping it.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::print;
use crate::cli::client::Server;
use crate::cli::{Common, Failure};

/// Where the API has it.
const PATH: &str = "/api/v1/netflow/quarantine";

/// What `quarantine` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Quarantine {
    /// Print what was set aside: refused by a sink's store, or records that cannot be true
    #[command(after_help = "Example:\n  rgz-netflow quarantine list --sink local")]
    List(ListOptions),
    /// Print one record, row by row
    #[command(after_help = "Example:\n  rgz-netflow quarantine show sink/local/00000000000000000012-all-5d41402a")]
    Show(ShowOptions),
    /// Bring what a sink refused to it again; each record is stored once, what is refused again stays (exit code 1)
    #[command(after_help = "Example:\n  rgz-netflow quarantine replay --sink local")]
    Replay(WhichOptions),
    /// Drop what a sink refused: it is lost, and counted so
    #[command(after_help = "Example:\n  rgz-netflow quarantine drop --sink local")]
    Drop(WhichOptions),
}

/// Options of `quarantine list`.
#[derive(Args, Clone, Debug)]
pub struct ListOptions {
    #[command(flatten)]
    server: Server,
    /// Only by a sink, or only by decode
    #[arg(long, value_name = "sink|decode")]
    by: Option<String>,
    /// Only what this sink refused
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Only what comes after this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// Most records
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `quarantine show`.
#[derive(Args, Clone, Debug)]
pub struct ShowOptions {
    #[command(flatten)]
    server: Server,
    /// The record's id in the list
    id: String,
    /// Most rows
    #[arg(long, default_value_t = 100)]
    limit: u32,
}

/// Which records.
#[derive(Args, Clone, Debug)]
pub struct WhichOptions {
    #[command(flatten)]
    server: Server,
    /// One record, by its id in the list
    #[arg(required_unless_present = "sink", conflicts_with = "sink")]
    id: Option<String>,
    /// Everything that this sink refused
    #[arg(long, value_name = "NAME")]
    sink: Option<String>,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `quarantine`; gives whether nothing is amiss.
///
/// # Errors
/// What the collector says, or that there is none.
pub fn quarantine(common: &Common, quarantine: &Quarantine) -> Result<bool, Failure> {
    match quarantine {
        Quarantine::List(options) => list(common, options).map(|()| true),
        Quarantine::Show(options) => show(common, options).map(|()| true),
        Quarantine::Replay(options) => replay(common, options),
        Quarantine::Drop(options) => drop_records(common, options).map(|()| true),
    }
}

fn list(common: &Common, options: &ListOptions) -> Result<(), Failure> {
    let mut parameters = vec![("limit", options.limit.to_string())];
    for (name, value) in [("by", &options.by), ("sink", &options.sink), ("after", &options.after)] {
        parameters.extend(value.clone().map(|value| (name, value)));
    }
    let answer = options.server.client(common)?.get(PATH, &parameters)?;
    print(&answer, options.json, &["id", "at", "flows", "bytes", "reason"])?;
    if let Some(next) = answer["next"].as_str().filter(|_| !options.json) {
        println!("more: --after {next}");
    }
    Ok(())
}

/// One row a line, as `run --test` prints them; of a record that cannot be true its bytes.
fn show(common: &Common, options: &ShowOptions) -> Result<(), Failure> {
    let parameters = [("id", options.id.clone()), ("limit", options.limit.to_string())];
    let answer = options.server.client(common)?.get(&format!("{PATH}/record"), &parameters)?;
    print_values(&answer["record"]);
    for row in answer["rows"].as_array().into_iter().flatten() {
        print_values(row);
    }
    Ok(())
}

fn print_values(row: &Value) {
    let values = row.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let words: Vec<String> = values.map(|(name, value)| format!("{name}={}", text(value))).collect();
    println!("{}", words.join(" "));
}

fn replay(common: &Common, options: &WhichOptions) -> Result<bool, Failure> {
    let client = options.server.client(common)?;
    let (mut sums, mut reasons, mut after) = ([0; 5], Vec::new(), None);
    let problem = loop {
        let mut parameters = which(options);
        parameters.extend(after.take().map(|after| ("after", after)));
        let answer = client.post(&format!("{PATH}/replay"), &parameters, b"")?;
        if options.json {
            println!("{answer}");
        }
        let fields = ["records", "flows", "expired_flows", "returned_records", "refused_records"];
        for (sum, field) in sums.iter_mut().zip(fields) {
            *sum += answer[field].as_u64().unwrap_or_default();
        }
        for reason in answer["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !reasons.iter().any(|known| known == reason) {
                reasons.push(reason.to_owned());
            }
        }
        after = answer["next"].as_str().map(str::to_owned);
        if after.is_none() || !answer["problem"].is_null() {
            break answer["problem"].as_str().map(str::to_owned);
        }
    };
    let [records, flows, expired, returned, refused] = sums;
    if !options.json {
        println!("stored: {records} records with {flows} flows");
        for (count, what) in [
            (expired, "flows of these are older than the store keeps"),
            (returned, "records come to the sink in their turn"),
            (refused, "records are refused again and stay"),
        ] {
            if count > 0 {
                println!("{count} {what}");
            }
        }
        reasons.iter().for_each(|reason| println!("  {reason}"));
    }
    match problem {
        Some(problem) => Err(Failure::new(format!("the replay ended early, the rest stays: {problem}"))),
        None => Ok(refused == 0),
    }
}

fn drop_records(common: &Common, options: &WhichOptions) -> Result<(), Failure> {
    let answer = options.server.client(common)?.post(&format!("{PATH}/drop"), &which(options), b"")?;
    if options.json {
        println!("{answer}");
    } else {
        println!("dropped: {} records with {} flows", answer["records"], answer["flows"]);
    }
    Ok(())
}

fn which(options: &WhichOptions) -> Vec<(&'static str, String)> {
    let (sink, id) = (options.sink.clone().map(|sink| ("sink", sink)), options.id.clone().map(|id| ("id", id)));
    sink.into_iter().chain(id).collect()
}
