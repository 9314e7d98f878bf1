//! One sentence for people about each condition.

use super::counters::{HostCounts, Seen};
use super::facts::Facts;
use crate::enrich::SiteInfo;
use crate::flow::Uuid;
use crate::flow::time::rfc3339;

pub(super) fn subscriber(id: Uuid, bytes: u64, threshold: u64) -> String {
    format!("subscriber {id} moved {} in the last 24 hours, over {}", size(bytes), size(threshold))
}

pub(super) fn site(site: &SiteInfo, percent: u64, threshold: u64) -> String {
    let (nas_id, name) = (&site.nas_id, &site.site);
    format!("site {name} at {nas_id} was at {percent} % of its committed rate for half an hour, over {threshold} %")
}

pub(super) fn seen(seen: &Seen) -> String {
    let name = seen.subject.name.as_deref().unwrap_or("unknown");
    let who = seen.subject.subscriber_id.map_or_else(|| "somebody unknown".to_owned(), |id| format!("subscriber {id}"));
    format!("{name} was seen: {who}, {} flows, {}", seen.flows, size(seen.bytes))
}

pub(super) fn host(host: &HostCounts) -> String {
    let address = host.subject.host.as_deref().unwrap_or("unknown");
    format!(
        "host {address} opened {} connections to about {} destinations in the 5 minutes from {}",
        host.connections,
        host.unique_destinations,
        rfc3339(host.window_ms)
    )
}

pub(super) fn silent(address: &str, silent_ms: i64) -> String {
    format!("exporter {address} has sent nothing for {}", span(silent_ms.max(0) as u64))
}

pub(super) fn loss(address: &str, lost: u64, expected: u64) -> String {
    let percent = lost as f64 * 100.0 / expected.max(1) as f64;
    format!("{lost} of {expected} flows of exporter {address} were lost in 15 minutes ({percent:.1} %)")
}

pub(super) fn sink(name: &str, lag_ms: u64) -> String {
    format!("sink {name} is {} behind", span(lag_ms))
}

pub(super) fn database(name: &str, age_ms: u64) -> String {
    format!("database {name} was built {} ago", span(age_ms))
}

pub(super) fn log(facts: &Facts) -> String {
    format!("the log takes {} of {}", size(facts.log_bytes), size(facts.log_bytes_max))
}

/// A size with one digit after the point.
fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A time in its largest sensible unit.
fn span(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7200 => format!("{} min", s / 60),
        s @ 7200..172_800 => format!("{} h", s / 3600),
        s => format!("{} days", s / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!((size(5), size(1536), size(3 << 30)), ("5 B".into(), "1.5 KiB".into(), "3.0 GiB".into()));
        assert_eq!((span(61_000), span(7_199_000), span(7_200_000)), ("61 s".into(), "119 min".into(), "2 h".into()));
    }
}
