//! What a collector's figures of an exporter mean, and what to do about it.

use std::fmt;

use serde_json::Value;

use super::views::Views;

/// Clocks that differ by more are worth a word: sums by minute shift by as much.
const SKEW_MS_MAX: i64 = 5_000;
/// Share of flows lost that is worth mending.
const LOSS_MIN: f64 = 0.000_1;
/// Silence that is worth a word: gateways export every 15 minutes.
const SILENT_S_MAX: f64 = 1_200.0;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// As it should be.
    Ok,
    /// Something to mend.
    Mend,
}

/// One thing that was looked at.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Finding {
    /// What was looked at.
    pub about: &'static str,
    /// How it is.
    pub grade: Grade,
    /// What is seen.
    pub seen: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    fn ok(about: &'static str, seen: impl Into<String>) -> Self {
        Self { about, grade: Grade::Ok, seen: seen.into(), mend: None }
    }

    fn mend(about: &'static str, seen: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { about, grade: Grade::Mend, seen: seen.into(), mend: Some(mend.into()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.grade == Grade::Ok { "ok  " } else { "MEND" };
        write!(f, "{mark} {:<16} {}", self.about, self.seen)?;
        match &self.mend {
            Some(mend) => write!(f, "\n     {:<16} {}", "", mend.replace('\n', &format!("\n     {:<16} ", ""))),
            None => Ok(()),
        }
    }
}

/// What the collector knows.
pub struct Seen<'a> {
    /// The exporter's item of `exporters`.
    pub exporter: &'a Value,
    /// The answer of `ledger`.
    pub ledger: &'a Value,
    /// The answer of `query` by minute.
    pub trend: &'a Value,
    /// How long that is, as it was asked for.
    pub period: &'a str,
    /// Second views among its latest records.
    pub views: &'a Views,
}

impl Seen<'_> {
    /// Everything that can be said.
    pub fn findings(&self) -> Vec<Finding> {
        let mut all = vec![self.arrival(), self.version(), self.rate(), self.clock(), self.sampling()];
        all.extend([self.sequence(), self.collector_loss(), self.records(), self.double_counting()]);
        all
    }

    fn count(&self, name: &str) -> u64 {
        self.exporter["counters"][name].as_u64().unwrap_or(0)
    }

    fn arrival(&self) -> Finding {
        let silent = self.exporter["silent_seconds"].as_f64();
        let last = self.exporter["last_seen"].as_str().unwrap_or("never");
        match silent {
            Some(seconds) if seconds <= SILENT_S_MAX => {
                Finding::ok("arrival", format!("latest datagram {seconds:.0} s ago"))
            }
            _ => Finding::mend(
                "arrival",
                format!("latest datagram: {last}"),
                "check that it still exports, and that nothing between drops udp: tcpdump -ni any udp port 2055",
            ),
        }
    }

    fn version(&self) -> Finding {
        let version = self.exporter["version"].as_i64();
        let shown = version.map_or("unknown".to_owned(), |v| format!("version {v}"));
        let (refused, closed) = (self.count("unknown_version"), self.count("not_allowed"));
        if refused > 0 {
            let seen = format!("{shown}; {refused} datagrams of a version that is not taken");
            return Finding::mend(
                "version",
                seen,
                "set the exporter to NetFlow v5, or add the version to [receive] protocols",
            );
        }
        if closed > 0 {
            let seen = format!("{shown}; {closed} datagrams refused by the allow-list");
            return Finding::mend("version", seen, "add its address to [receive] allow");
        }
        Finding::ok("version", shown)
    }

    fn rate(&self) -> Finding {
        let rows = self.trend["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        let flows: u64 = rows.iter().filter_map(|row| row["flows"].as_u64()).sum();
        let minutes: Vec<&str> =
            rows.iter().filter(|row| row["flows"] != 0).filter_map(|row| row["timestamp"].as_str()).collect();
        let seen = format!(
            "{flows} flows ended in the last {}, in {} of its minutes; {} flows since the collector's start",
            self.period,
            minutes.len(),
            self.count("flows")
        );
        Finding::ok("rate", seen)
    }

    fn clock(&self) -> Finding {
        let skew_ms = self.exporter["clock_skew_ms"].as_i64().unwrap_or(0);
        let replaced = self.count("clock_replaced");
        let seen = match skew_ms {
            0 => "its clock agrees with the collector's".to_owned(),
            ms if ms > 0 => format!("its clock is {:.1} s ahead", ms as f64 / 1000.0),
            ms => format!("its clock is {:.1} s behind", -(ms as f64) / 1000.0),
        };
        if replaced > 0 {
            let seen = format!("{seen}; in {replaced} datagrams the receive time replaced it");
            return Finding::mend("clock", seen, "set its clock by NTP, and check its time zone: NetFlow carries UTC");
        }
        if skew_ms.abs() > SKEW_MS_MAX {
            return Finding::mend("clock", seen, "set its clock by NTP: sums by minute are shifted by as much");
        }
        Finding::ok("clock", seen)
    }

    fn sampling(&self) -> Finding {
        let (rate, missing) = (self.exporter["sampling_rate"].as_i64().unwrap_or(1), self.count("sampling_missing"));
        if missing > 0 {
            let address = self.exporter["exporter_ip"].as_str().unwrap_or_default();
            return Finding::mend(
                "sampling",
                format!("{missing} datagrams carry no rate although sampling was expected"),
                format!(
                    "say the rate in pipeline.toml:\n[[decode.exporter]]\naddress = \"{address}\"\nsampling_default = 1000"
                ),
            );
        }
        match rate {
            1 => Finding::ok("sampling", "none: every packet is counted"),
            rate => Finding::ok("sampling", format!("1 in {rate}; bytes and packets are scaled by it")),
        }
    }

    fn sequence(&self) -> Finding {
        let (gap, flows) = (self.count("sequence_gap"), self.count("flows"));
        let unit = if self.exporter["sequence_counts_datagrams"] == true { "datagrams" } else { "flows" };
        let sent = if unit == "flows" { flows } else { self.count("datagrams") };
        let seen = format!(
            "{gap} of {} {unit} never arrived, {} restarts, {} late",
            gap + sent,
            self.count("restarts"),
            self.count("reordered")
        );
        if gap as f64 > (gap + sent) as f64 * LOSS_MIN {
            let mend = "look for drops on the way and in the collector's kernel (next line); over slow links export more often";
            return Finding::mend("loss on the way", seen, mend);
        }
        Finding::ok("loss on the way", seen)
    }

    fn collector_loss(&self) -> Finding {
        let kernel = self.ledger["datagrams"]["kernel_drops"].as_u64().unwrap_or(0);
        let queue = self.count("queue_full_flows");
        let refused = self.count("log_refused_flows");
        let seen =
            format!("kernel dropped {kernel} datagrams of all exporters; queue full: {queue} flows, log: {refused}");
        if kernel > 0 {
            return Finding::mend("loss here", seen, "raise the kernel's bound: sysctl -w net.core.rmem_max=67108864");
        }
        if queue > 0 {
            return Finding::mend("loss here", seen, "give it more [decode] workers or [receive] queue_bytes");
        }
        if refused > 0 {
            return Finding::mend("loss here", seen, "make room on the disk, or look why sinks are behind: /sinks");
        }
        Finding::ok("loss here", seen)
    }

    fn records(&self) -> Finding {
        let names = ["malformed", "torn_flows", "absurd_flows", "times_clamped"];
        let bad: Vec<_> = names
            .iter()
            .filter(|name| self.count(name) > 0)
            .map(|name| format!("{name} {}", self.count(name)))
            .collect();
        if bad.is_empty() {
            return Finding::ok("records", "all are what they should be");
        }
        Finding::mend(
            "records",
            bad.join(", "),
            "the exporter's software sends what cannot be true: update it; docs/operating.md tells each counter",
        )
    }

    fn double_counting(&self) -> Finding {
        let Views { records, doubled, rule } = self.views;
        let left_out = self.count("second_view_flows");
        if !self.views.is_doubled() {
            let seen = format!("{doubled} twins among {records} records; {left_out} second views left out by rule");
            return Finding::ok("double counting", seen);
        }
        let seen =
            format!("{doubled} of {records} records repeat another: 5-tuple, times, bytes and packets are equal");
        let address = self.exporter["exporter_ip"].as_str().unwrap_or_default();
        let Some(rule) = rule else {
            let mend =
                "interfaces do not tell the views apart: turn off either ingress or egress accounting on the exporter";
            return Finding::mend("double counting", seen, mend);
        };
        let mut mend = "turn off either ingress or egress accounting on it, or in pipeline.toml".to_owned();
        mend += &format!("\n[[decode.exporter]]\naddress = \"{address}\"");
        for (key, interfaces) in [("count_input_if", &rule.input_if), ("count_output_if", &rule.output_if)] {
            if !interfaces.is_empty() {
                mend += &format!("\n{key} = {interfaces:?}");
            }
        }
        mend += "\n(records of interfaces that are not named no longer count)";
        Finding::mend("double counting", seen, mend)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn grades(exporter: Value, ledger: Value) -> Vec<(&'static str, Grade)> {
        let views = Views::default();
        let seen = Seen { exporter: &exporter, ledger: &ledger, trend: &Value::Null, period: "30m", views: &views };
        seen.findings().into_iter().filter(|f| f.grade == Grade::Mend).map(|f| (f.about, f.grade)).collect()
    }

    fn exporter(more: Value) -> Value {
        let mut exporter = json!({
            "exporter_ip": "192.0.2.1", "version": 5, "silent_seconds": 2.0, "clock_skew_ms": 0, "sampling_rate": 1,
            "counters": { "flows": 1000, "datagrams": 40 },
        });
        for (key, value) in more.as_object().unwrap() {
            match key.as_str() {
                "counters" => exporter["counters"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone()),
                key => exporter[key] = value.clone(),
            }
        }
        exporter
    }

    #[test]
    fn a_healthy_exporter_has_nothing_to_mend() {
        assert_eq!(grades(exporter(json!({})), json!({})), []);
    }

    #[test]
    fn each_fault_has_its_finding() {
        for (about, fault) in [
            ("arrival", json!({"silent_seconds": 4000.0})),
            ("arrival", json!({"silent_seconds": null})),
            ("version", json!({"counters": {"unknown_version": 3}})),
            ("version", json!({"counters": {"not_allowed": 3}})),
            ("clock", json!({"clock_skew_ms": -61_000})),
            ("clock", json!({"counters": {"clock_replaced": 1}})),
            ("sampling", json!({"counters": {"sampling_missing": 1}})),
            ("loss on the way", json!({"counters": {"sequence_gap": 30}})),
            ("loss here", json!({"counters": {"queue_full_flows": 1}})),
            ("loss here", json!({"counters": {"log_refused_flows": 1}})),
            ("records", json!({"counters": {"absurd_flows": 1}})),
        ] {
            assert_eq!(grades(exporter(fault.clone()), json!({})), [(about, Grade::Mend)], "{fault}");
        }
        let drops = json!({"datagrams": {"kernel_drops": 7}});
        assert_eq!(grades(exporter(json!({})), drops), [("loss here", Grade::Mend)]);
    }
}
