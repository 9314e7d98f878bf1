use std::collections::BTreeMap;
use std::fmt::Write;

/// Which text a scraper wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus text format 0.0.4, the default.
    Prometheus,
    /// OpenMetrics 1.0.0, on Accept.
    OpenMetrics,
}

impl Format {
    /// The Content-Type of the answer.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MetricKind {
    /// Its name ends in `_total`.
    Counter,
    Gauge,
    /// Samples carry the label `quantile`, or the suffixes `_sum` and `_count`.
    Summary,
}

/// Collects samples by metric, in any order, and writes them grouped as the formats ask.
#[derive(Debug, Default)]
pub struct Exposition {
    families: BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    kind: MetricKind,
    help: &'static str,
    lines: String,
}

impl Exposition {
    /// Adds one sample of a counter; `name` ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: u64) {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.sample(name, MetricKind::Counter, help, "", labels, value as f64);
    }

    /// Adds one sample of a counter that is no whole number; `name` ends in `_total`.
    pub fn counter_f64(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.sample(name, MetricKind::Counter, help, "", labels, value);
    }

    /// Adds one sample of a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, labels: &[(&str, &str)], value: f64) {
        self.sample(name, MetricKind::Gauge, help, "", labels, value);
    }

    /// Adds a summary: quantiles with their values, sum and count.
    pub fn summary(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
        quantiles: &[(&str, f64)],
        sum: f64,
        count: u64,
    ) {
        for (quantile, value) in quantiles {
            let with: Vec<_> = labels.iter().copied().chain([("quantile", *quantile)]).collect();
            self.sample(name, MetricKind::Summary, help, "", &with, *value);
        }
        self.sample(name, MetricKind::Summary, help, "_sum", labels, sum);
        self.sample(name, MetricKind::Summary, help, "_count", labels, count as f64);
    }

    fn sample(
        &mut self,
        name: &'static str,
        kind: MetricKind,
        help: &'static str,
        suffix: &str,
        labels: &[(&str, &str)],
        value: f64,
    ) {
        let family = self.families.entry(name).or_insert_with(|| Family { kind, help, lines: String::new() });
        let out = &mut family.lines;
        out.push_str(name);
        out.push_str(suffix);
        for (i, (label, text)) in labels.iter().enumerate() {
            out.push(if i == 0 { '{' } else { ',' });
            out.push_str(label);
            out.push_str("=\"");
            escape(out, text);
            out.push('"');
        }
        if !labels.is_empty() {
            out.push('}');
        }
        // Writing into a String cannot fail. Display of f64 gives the shortest text that reads back as the same number.
        let _ = writeln!(out, " {value}");
    }

    /// The whole text.
    pub fn render(&self, format: Format) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            let announced = match (format, family.kind) {
                // OpenMetrics names a counter's family without the suffix of its samples.
                (Format::OpenMetrics, MetricKind::Counter) => name.strip_suffix("_total").unwrap_or(name),
                _ => name,
            };
            let kind = match family.kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
                MetricKind::Summary => "summary",
            };
            let _ = writeln!(out, "# HELP {announced} {}", family.help);
            let _ = writeln!(out, "# TYPE {announced} {kind}");
            out.push_str(&family.lines);
        }
        if format == Format::OpenMetrics {
            out.push_str("# EOF\n");
        }
        out
    }
}

fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_samples_and_escapes_labels() {
        let mut exposition = Exposition::default();
        exposition.counter("x_total", "Things.", &[("who", "a\"b\\\n")], 3);
        exposition.gauge("g", "Level.", &[], 0.5);
        exposition.counter("x_total", "Things.", &[("who", "c")], 4);
        let text = exposition.render(Format::Prometheus);
        assert_eq!(
            text,
            "# HELP g Level.\n# TYPE g gauge\ng 0.5\n# HELP x_total Things.\n# TYPE x_total counter\n\
             x_total{who=\"a\\\"b\\\\\\n\"} 3\nx_total{who=\"c\"} 4\n"
        );
        let open = exposition.render(Format::OpenMetrics);
        assert!(open.contains("# TYPE x counter\nx_total{") && open.ends_with("# EOF\n"));
    }
}
