//! Answers as tables for a terminal.

use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use serde_json::Value;

/// The rows of an answer under these columns, and below them what the answer rests on.
pub fn table(answer: &Value, columns: &[&str]) -> String {
    let none = Vec::new();
    let rows = answer["items"].as_array().unwrap_or(&none);
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY).set_header(columns.iter().map(|column| title(column)));
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(column, &row[*column])));
    }
    for (index, column) in columns.iter().enumerate() {
        if let Some(column) = table.column_mut(index).filter(|_| is_number(column)) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let mut lines = vec![table.to_string(), rests_on(answer, rows.len())];
    lines.extend(answer["note"].as_str().map(str::to_owned));
    lines.join("\n")
}

fn is_number(column: &str) -> bool {
    ["bytes", "packets", "flows", "latency"].iter().any(|part| column.contains(part))
}

fn title(column: &str) -> String {
    column.replace('_', " ")
}

fn cell(column: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if column.contains("latency") => format!("{:.1}", number.as_f64().unwrap_or_default()),
        Value::Number(number) if column.contains("bytes") => human_bytes(number.as_u64().unwrap_or_default()),
        other => other.to_string(),
    }
}

/// A size with its unit, and the exact number where they differ.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut value, mut unit) = (bytes as f64 / 1000.0, 0);
    while value >= 999.95 && unit + 1 < UNITS.len() {
        (value, unit) = (value / 1000.0, unit + 1);
    }
    format!("{value:.1} {} ({bytes})", UNITS[unit])
}

/// "10 of 523 rows, 2026-01-30T12:00:00Z to ..., from talkers (pro_rated), exact".
fn rests_on(answer: &Value, shown: usize) -> String {
    let total = answer["total"].as_u64().unwrap_or(shown as u64);
    let mut text = format!("{shown} of {total} rows");
    if let (Some(from), Some(to)) = (answer["range"]["from"].as_str(), answer["range"]["to"].as_str()) {
        text += &format!(", {from} to {to}");
    }
    if let (Some(tier), Some(basis)) = (answer["tier"].as_str(), answer["basis"].as_str()) {
        text += &format!(", from {tier} ({basis})");
    }
    if answer["exact"] == Value::Bool(false) {
        text +=
            &format!(", each row at most {} too small", human_bytes(answer["error_bytes_max"].as_u64().unwrap_or(0)));
    }
    if let Some(completeness) = answer["completeness"].as_f64() {
        text += &format!(", {:.2} % complete", completeness * 100.0);
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sizes_carry_a_unit_and_the_exact_number() {
        assert_eq!(human_bytes(0), "0 B");
        assert_eq!(human_bytes(1500), "1.5 kB (1500)");
        assert_eq!(human_bytes(999_999), "1.0 MB (999999)");
        assert_eq!(human_bytes(u64::MAX), "18.4 EB (18446744073709551615)");
    }

    #[test]
    fn a_table_shows_rows_and_what_they_rest_on() {
        let answer = json!({
            "items": [{"src_ip": "10.0.0.1", "bytes_sent": 1500, "packets": 3, "avg_latency_ms": null}],
            "total": 7,
            "range": {"from": "A", "to": "B"},
            "tier": "talkers", "basis": "pro_rated", "exact": false, "error_bytes_max": 12, "completeness": 0.5,
            "note": "detail expired on C"
        });
        let text = table(&answer, &["src_ip", "bytes_sent", "packets", "avg_latency_ms"]);
        for part in
            ["10.0.0.1", "1.5 kB (1500)", " - ", "1 of 7 rows, A to B, from talkers (pro_rated)", "12 B too small"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(text.ends_with("50.00 % complete\ndetail expired on C"), "{text}");
        assert!(table(&json!({}), &["a"]).contains("0 of 0 rows"));
    }
}
