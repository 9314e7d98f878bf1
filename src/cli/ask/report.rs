//! `report monthly` and `report peak-hours`: reports as a table, JSON or CSV.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::{Whom, given, print};
use crate::cli::{Common, Failure};

/// Columns of a month as CSV, as paths into an item.
const MONTHLY: &[(&str, &str)] = &[
    ("reseller_id", "/reseller_id"),
    ("nas_id", "/nas_id"),
    ("site", "/site"),
    ("bytes_in", "/bytes_in"),
    ("bytes_out", "/bytes_out"),
    ("bytes_internal", "/bytes_internal"),
    ("bytes_transit", "/bytes_transit"),
    ("packets", "/packets"),
    ("flows", "/flows"),
    ("busy_hour", "/busy_hour/hour"),
    ("busy_hour_mean_bps", "/busy_hour/mean_bps"),
    ("p95_in_bps", "/p95_in_bps"),
    ("p95_out_bps", "/p95_out_bps"),
    ("p95_bps", "/p95_bps"),
    ("active_subscribers", "/active_subscribers"),
    ("bytes_per_subscriber", "/bytes_per_subscriber"),
    ("growth_percent", "/growth/0/growth_percent"),
    ("hours_with_data", "/hours_with_data"),
    ("cir_bps", "/capacity/cir_bps"),
    ("p95_percent_of_cir", "/capacity/p95_percent"),
    ("trend_bps_per_day", "/capacity/trend/slope_bps_per_day"),
    ("trend_error_bps_per_day", "/capacity/trend/slope_error_bps_per_day"),
    ("reaches_80_percent", "/capacity/reaches/0/state"),
    ("reaches_80_percent_on", "/capacity/reaches/0/date"),
    ("reaches_100_percent", "/capacity/reaches/1/state"),
    ("reaches_100_percent_on", "/capacity/reaches/1/date"),
];
/// Of them, those that a terminal has room for.
const MONTHLY_SHOWN: &[&str] =
    &["reseller_id", "nas_id", "site", "bytes_in", "bytes_out", "p95_bps", "active_subscribers", "growth_percent"];
/// Columns of the hours of a week.
const PEAK_HOURS: &[(&str, &str)] = &[
    ("weekday", "/weekday"),
    ("hour", "/hour"),
    ("hours", "/hours"),
    ("bytes_in", "/bytes_in"),
    ("bytes_out", "/bytes_out"),
    ("mean_in_bps", "/mean_in_bps"),
    ("mean_out_bps", "/mean_out_bps"),
];
const PEAK_HOURS_SHOWN: &[&str] = &["weekday", "hour", "mean_in_bps", "mean_out_bps"];

/// Reports.
#[derive(Clone, Debug, Subcommand)]
pub enum Report {
    /// A month by reseller and site: traffic, busy hour, 95th percentile, subscribers, growth, when a line will be full
    #[command(after_help = "Example:\n  rgz-netflow report monthly --month 2026-01 --format csv --out january.csv")]
    Monthly(MonthlyOptions),
    /// Mean traffic by hour of the day and day of the week
    #[command(after_help = "Example:\n  rgz-netflow report peak-hours --nas-id gw1 --days 28")]
    PeakHours(PeakHoursOptions),
}

/// What all reports take.
#[derive(Args, Clone, Debug)]
struct Shared {
    #[command(flatten)]
    whom: Whom,
    /// Only this access server
    #[arg(long, value_name = "NAS")]
    nas_id: Option<String>,
    /// Only this site
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Only this reseller
    #[arg(long, value_name = "UUID")]
    reseller_id: Option<String>,
    /// Whole hours from UTC at which days and months begin, such as +03:00
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true)]
    utc_offset: Option<String>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// File to write; without it standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// Options of `report monthly`.
#[derive(Args, Clone, Debug)]
pub struct MonthlyOptions {
    #[command(flatten)]
    shared: Shared,
    /// The month, such as 2026-01; without it the last one that is over
    #[arg(long, value_name = "MONTH")]
    month: Option<String>,
    /// Earlier months for growth and trend
    #[arg(long, value_name = "MONTHS")]
    compare: Option<String>,
    /// Width of the buckets whose 95th percentile is taken: 1h, or 5m while detail is kept
    #[arg(long, value_name = "WIDTH")]
    bucket: Option<String>,
    /// What rows are
    #[arg(long, value_enum, default_value_t = Rows::Site)]
    by: Rows,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rows {
    /// A reseller's site
    Site,
    /// A reseller
    Reseller,
}

/// Options of `report peak-hours`.
#[derive(Args, Clone, Debug)]
pub struct PeakHoursOptions {
    #[command(flatten)]
    shared: Shared,
    /// Days before now
    #[arg(long)]
    days: Option<String>,
}

/// Runs `report`.
///
/// # Errors
/// What the collector says, or that there is none; a file that cannot be written.
pub fn report(common: &Common, report: &Report) -> Result<(), Failure> {
    match report {
        Report::Monthly(options) => {
            let own = given([("month", &options.month), ("compare", &options.compare), ("bucket", &options.bucket)]);
            let mut answer = options.shared.ask(common, "monthly", own)?;
            if options.by == Rows::Reseller && options.shared.format != Format::Json {
                answer["items"] = answer["resellers"].take();
                answer["total"] = answer["items"].as_array().map_or(0, Vec::len).into();
            }
            options.shared.print(&answer, MONTHLY, MONTHLY_SHOWN)
        }
        Report::PeakHours(options) => {
            let answer = options.shared.ask(common, "peak-hours", given([("days", &options.days)]))?;
            options.shared.print(&answer, PEAK_HOURS, PEAK_HOURS_SHOWN)
        }
    }
}

impl Shared {
    fn ask(&self, common: &Common, name: &str, own: Vec<(&'static str, String)>) -> Result<Value, Failure> {
        let mut parameters = own;
        parameters.extend(given([
            ("nas_id", &self.nas_id),
            ("site", &self.site),
            ("reseller_id", &self.reseller_id),
            ("utc_offset", &self.utc_offset),
            ("store", &self.whom.store),
        ]));
        self.whom.open(common)?.client.get(&format!("/api/v1/netflow/reports/{name}"), &parameters)
    }

    fn print(&self, answer: &Value, columns: &[(&str, &str)], shown: &[&str]) -> Result<(), Failure> {
        let text = match self.format {
            Format::Table => print::table(&flat(answer, columns), shown) + "\n",
            Format::Json => serde_json::to_string_pretty(answer).map_err(Failure::new)? + "\n",
            Format::Csv => csv(answer, columns).map_err(Failure::new)?,
        };
        match &self.out {
            None => {
                std::io::stdout().write_all(text.as_bytes()).map_err(|e| Failure::new(format!("standard output: {e}")))
            }
            Some(path) => std::fs::write(path, text).map_err(|e| Failure::new(format!("{}: {e}", path.display()))),
        }
    }
}

/// The answer with its items as the columns name their parts.
fn flat(answer: &Value, columns: &[(&str, &str)]) -> Value {
    let item = |item: &Value| -> Value {
        columns.iter().map(|(name, path)| ((*name).to_owned(), part(item, path).clone())).collect()
    };
    let mut flat = answer.clone();
    flat["items"] = answer["items"].as_array().into_iter().flatten().map(item).collect();
    flat
}

fn part<'a>(item: &'a Value, path: &str) -> &'a Value {
    item.pointer(path).unwrap_or(&Value::Null)
}

fn csv(answer: &Value, columns: &[(&str, &str)]) -> Result<String, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns.iter().map(|(name, _)| name))?;
    for item in answer["items"].as_array().into_iter().flatten() {
        writer.write_record(columns.iter().map(|(_, path)| match part(item, path) {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }))?;
    }
    let bytes = writer.into_inner().map_err(|e| csv::Error::from(e.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_as_csv_has_a_line_a_site_and_empty_fields_for_what_is_unknown() {
        let answer = json!({ "items": [{
            "reseller_id": null, "nas_id": "gw,1", "site": "north", "bytes_in": 5, "busy_hour": {"hour": 20, "mean_bps": 9},
            "growth": [{"growth_percent": 12.5}],
            "capacity": {"cir_bps": 1000, "reaches": [{"state": "projected", "date": "2026-03-01"}]},
        }] });
        let text = csv(&answer, MONTHLY).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].split(',').count(), MONTHLY.len());
        assert!(lines[1].starts_with(",\"gw,1\",north,5,,"), "{}", lines[1]);
        for part in [",20,9,", ",12.5,", ",1000,", ",projected,2026-03-01,"] {
            assert!(lines[1].contains(part), "{part} is not in {}", lines[1]);
        }
    }

    #[test]
    fn what_a_terminal_shows_are_columns() {
        for (shown, columns) in [(MONTHLY_SHOWN, MONTHLY), (PEAK_HOURS_SHOWN, PEAK_HOURS)] {
            for name in shown {
                assert!(columns.iter().any(|(column, _)| column == name), "{name}");
            }
        }
        let answer = flat(&json!({ "items": [{ "busy_hour": { "hour": 3 } }], "tier": "usage" }), MONTHLY);
        assert_eq!((&answer["items"][0]["busy_hour"], &answer["tier"]), (&json!(3), &json!("usage")));
    }
}
