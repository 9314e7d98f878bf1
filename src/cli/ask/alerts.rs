//! `alerts`: subscribers over a volume, what fires, saying that it was seen, and trying a receiver.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Question, print};
use crate::cli::client::Server;
use crate::cli::{Common, Failure};
use crate::control::alerts::{Alert, Kind, Measured, Severity, Subject, test_receiver};
use crate::flow::time::now_ms;
use crate::telemetry::units::parse_bytes;

/// Subscribers asked for: more would be over any threshold worth asking about.
const ROWS_MAX: u64 = 100_000;
/// The period where none is given.
const PERIOD_DEFAULT: &str = "24h";

/// What `alerts` does.
#[derive(Clone, Debug, Subcommand)]
pub enum Alerts {
    /// Say that an alert was seen; it stays until its condition is over
    #[command(after_help = "Example:\n  rgz-netflow alerts ack 12")]
    Ack(AckOptions),
    /// Print the subscribers that moved more than a number of bytes
    #[command(after_help = "Example:\n  rgz-netflow alerts check --period 24h --threshold 1073741824")]
    Check(CheckOptions),
    /// Print what fires, and what did in the past days
    #[command(after_help = "Example:\n  rgz-netflow alerts list --severity high --days 7")]
    List(ListOptions),
    /// Send a made-up alert to a receiver of the configuration, now
    #[command(after_help = "Example:\n  rgz-netflow alerts test ops -c /etc/rgz-netflow/pipeline.toml")]
    Test(TestOptions),
}

/// Options of `alerts ack`.
#[derive(Args, Clone, Debug)]
pub struct AckOptions {
    #[command(flatten)]
    server: Server,
    /// The alert's number
    id: u64,
}

/// Options of `alerts check`.
#[derive(Args, Clone, Debug)]
pub struct CheckOptions {
    #[command(flatten)]
    question: Question,
    /// Bytes, such as 1073741824 or 5GiB
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = |text: &str| parse_bytes(text))]
    threshold: u64,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `alerts list`.
#[derive(Args, Clone, Debug)]
pub struct ListOptions {
    #[command(flatten)]
    server: Server,
    /// Only of this severity: low, medium or high
    #[arg(long)]
    severity: Option<String>,
    /// With those that ended in so many days
    #[arg(long, default_value_t = 7)]
    days: u32,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// Options of `alerts test`.
#[derive(Args, Clone, Debug)]
pub struct TestOptions {
    /// The receiver's name
    receiver: String,
}

/// Runs `alerts`.
///
/// # Errors
/// What the collector or the receiver says, or that there is none.
pub fn alerts(common: &Common, alerts: &Alerts) -> Result<(), Failure> {
    match alerts {
        Alerts::Ack(options) => ack(common, options),
        Alerts::Check(options) => check(common, options),
        Alerts::List(options) => list(common, options),
        Alerts::Test(options) => test(common, options),
    }
}

fn check(common: &Common, options: &CheckOptions) -> Result<(), Failure> {
    let mut parameters = options.question.parameters();
    if !parameters.iter().any(|(name, _)| ["period", "from", "to"].contains(name)) {
        parameters.push(("period", PERIOD_DEFAULT.to_owned()));
    }
    parameters.extend([
        ("by", "subscriber_id,reseller_id".to_owned()),
        ("measures", "bytes".to_owned()),
        ("limit", ROWS_MAX.to_string()),
    ]);
    let answer = options.question.open(common)?.client.get("/api/v1/netflow/query", &parameters)?;
    let over = |item: &&Value| {
        !item["subscriber_id"].is_null() && item["bytes"].as_u64().is_some_and(|bytes| bytes > options.threshold)
    };
    let items: Vec<Value> = answer["items"].as_array().into_iter().flatten().filter(over).cloned().collect();
    let total = items.len();
    let answer = json!({ "items": items, "total": total, "threshold": options.threshold, "range": answer["range"] });
    print(&answer, options.json, &["subscriber_id", "reseller_id", "bytes"])
}

fn list(common: &Common, options: &ListOptions) -> Result<(), Failure> {
    let mut parameters = vec![("days", options.days.to_string())];
    parameters.extend(options.severity.clone().map(|severity| ("severity", severity)));
    let answer = options.server.client(common)?.get("/api/v1/netflow/alerts", &parameters)?;
    print(&answer, options.json, &["id", "timestamp", "state", "severity", "alert_type", "acknowledged_by", "summary"])
}

fn ack(common: &Common, options: &AckOptions) -> Result<(), Failure> {
    let parameters = [("id", options.id.to_string())];
    let alert = options.server.client(common)?.post("/api/v1/netflow/alerts/acknowledge", &parameters, b"")?;
    println!("alert {} was seen by {}", options.id, alert["acknowledged_by"].as_str().unwrap_or("somebody"));
    Ok(())
}

fn test(common: &Common, options: &TestOptions) -> Result<(), Failure> {
    let settings = common.load()?;
    let receivers = &settings.stages.alerts.receiver;
    let Some(receiver) = receivers.iter().find(|receiver| receiver.name == options.receiver) else {
        let names: Vec<_> = receivers.iter().map(|receiver| &*receiver.name).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        return Err(Failure::new(format!(
            "there is no receiver {:?} in [alerts]; there are: {names}",
            options.receiver
        )));
    };
    let failed = |e: String| Failure::new(format!("receiver {}: {e}", receiver.name));
    test_receiver(receiver, &settings.base, made_up(now_ms()), now_ms()).map_err(failed)?;
    println!("receiver {} took the test alert", receiver.name);
    Ok(())
}

fn made_up(now_ms: i64) -> Alert {
    Alert {
        id: 0,
        alert_type: Kind::SinkLag,
        severity: Severity::Low,
        subject: Subject { name: Some("test".to_owned()), ..Subject::default() },
        value: 0,
        threshold: 0,
        measured: Measured::default(),
        summary: "this is a test of rgz-netflow's alerts; nothing is wrong".to_owned(),
        fired_ms: now_ms,
        held_ms: now_ms,
        hold_down_ms: 0,
        resolved_ms: None,
        acknowledged: None,
    }
}
