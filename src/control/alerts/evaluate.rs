//! Which conditions hold now.

use std::collections::{BTreeMap, VecDeque};

use super::alert::{AlertKey, Measured, Subject};
use super::counters::{BUCKET_MS, Counters, SiteKey};
use super::facts::{ExporterFact, Facts};
use super::kind::Kind;
use super::policy::{Policy, Terms};
use super::summary;
use crate::enrich::SiteInfo;
use crate::flow::Text;
use crate::flow::time::MINUTE_MS;

/// How long after a window's end a site is judged by it, ms: exporters send every 15 minutes, and that takes its time.
pub const SITE_DELAY_MS: i64 = 16 * MINUTE_MS;
/// Windows in a row in which a site has to be over.
pub const SITE_WINDOWS: i64 = 2;
/// Over which time an exporter's loss is measured, ms.
pub const LOSS_WINDOW_MS: i64 = 15 * MINUTE_MS;
/// Flows that have to be expected in that time: of a handful, one more or less says nothing.
const LOSS_FLOWS_MIN: u64 = 100;
/// Silence after which an exporter counts as taken away, ms: its alert ends.
pub const EXPORTER_GONE_MS: i64 = 7 * 24 * 60 * MINUTE_MS;

/// A condition that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is about.
    pub kind: Kind,
    /// Whom or what it concerns.
    pub subject: Subject,
    /// The value, in the unit of the kind.
    pub value: u64,
    /// Further measures.
    pub measured: Measured,
    /// What holds for the subject.
    pub terms: Terms,
    /// One sentence.
    pub summary: String,
}

/// What an evaluation found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Findings {
    /// Every condition that holds.
    pub all: Vec<Finding>,
    /// What cannot be said now: alerts about it stay as they are.
    pub unknown: Vec<AlertKey>,
    /// Kinds of which nothing can be said now.
    pub unknown_kinds: Vec<Kind>,
}

/// Judges counters and facts. Remembers what it needs from one evaluation to the next.
#[derive(Debug, Default)]
pub struct Evaluator {
    /// By exporter: time, flows held and lost until then; the oldest first.
    samples: BTreeMap<String, VecDeque<(i64, u64, u64)>>,
    started_ms: Option<i64>,
    /// When it judged last.
    judged_ms: Option<i64>,
}

impl Evaluator {
    /// Everything that holds. `behind` says that many flows have not been read yet.
    pub fn evaluate(
        &mut self,
        counters: &Counters,
        facts: &Facts,
        policy: &Policy,
        now_ms: i64,
        behind: bool,
    ) -> Findings {
        let started_ms = *self.started_ms.get_or_insert(now_ms);
        let mut found = Findings::default();
        if behind {
            found.unknown_kinds = Kind::ALL.into_iter().filter(|kind| kind.counts_flows()).collect();
        }
        let mut out = Out { policy, found: &mut found };
        subscribers(counters, &mut out);
        facts
            .sites
            .iter()
            .filter(|site| site.cir_bps > 0)
            .for_each(|site| self::site(counters, site, now_ms, &mut out));
        dpi(counters, &mut out);
        hosts(counters, &mut out);
        self.samples.retain(|address, _| facts.exporters.iter().any(|exporter| exporter.address == *address));
        for exporter in &facts.exporters {
            silence(exporter, started_ms, now_ms, &mut out);
            self.loss(exporter, now_ms, &mut out);
        }
        self.judged_ms = Some(now_ms);
        system(facts, now_ms, &mut out);
        found
    }

    fn loss(&mut self, exporter: &ExporterFact, now_ms: i64, out: &mut Out<'_>) {
        // One that came since the last look had nothing then.
        let begin = || self.judged_ms.map(|at| (at, 0, 0)).into_iter().collect();
        let samples = self.samples.entry(exporter.address.clone()).or_insert_with(begin);
        samples.push_back((now_ms, exporter.held_flows, exporter.lost_flows));
        // The oldest that is kept is the newest that is old enough.
        while samples.get(1).is_some_and(|(at, ..)| *at <= now_ms - LOSS_WINDOW_MS) {
            samples.pop_front();
        }
        let Some((since, held, lost)) = samples.front().copied() else { return };
        let (held, lost) = (exporter.held_flows.saturating_sub(held), exporter.lost_flows.saturating_sub(lost));
        let subject = Subject { exporter: Some(exporter.address.clone()), ..Subject::default() };
        let expected = held + lost;
        let percent = if expected < LOSS_FLOWS_MIN { 0 } else { lost.saturating_mul(100) / expected };
        let terms = out.policy.terms(Kind::ExporterLoss, &subject);
        // Compared without rounding: 1.5 % is over 1 %.
        let over = expected >= LOSS_FLOWS_MIN && lost.saturating_mul(100) > terms.threshold.saturating_mul(expected);
        if over {
            let summary = summary::loss(&exporter.address, lost, expected);
            out.push(Kind::ExporterLoss, subject, percent, Measured::default(), summary);
        } else if since > now_ms - LOSS_WINDOW_MS {
            out.unknown(Kind::ExporterLoss, &subject);
        }
    }
}

struct Out<'a> {
    policy: &'a Policy,
    found: &'a mut Findings,
}

impl Out<'_> {
    fn push(&mut self, kind: Kind, subject: Subject, value: u64, measured: Measured, summary: String) {
        let terms = self.policy.terms(kind, &subject);
        if terms.enabled {
            self.found.all.push(Finding { kind, subject, value, measured, terms, summary });
        }
    }

    /// The same when the value is over the threshold of the subject.
    fn push_over(
        &mut self,
        kind: Kind,
        subject: Subject,
        value: u64,
        measured: Measured,
        summary: impl Fn(&Terms) -> String,
    ) {
        let terms = self.policy.terms(kind, &subject);
        if terms.enabled && value > terms.threshold {
            let summary = summary(&terms);
            self.found.all.push(Finding { kind, subject, value, measured, terms, summary });
        }
    }

    fn unknown(&mut self, kind: Kind, subject: &Subject) {
        self.found.unknown.push(AlertKey::new(kind, subject));
    }
}

fn subscribers(counters: &Counters, out: &mut Out<'_>) {
    for usage in counters.usage(out.policy.lowest(Kind::Subscriber24h)) {
        let subject =
            Subject { subscriber_id: Some(usage.subscriber_id), reseller_id: usage.reseller_id, ..Subject::default() };
        let measured = Measured { bytes: Some(usage.bytes), ..Measured::default() };
        out.push_over(Kind::Subscriber24h, subject, usage.bytes, measured, |terms| {
            summary::subscriber(usage.subscriber_id, usage.bytes, terms.threshold)
        });
    }
}

/// Number of the latest window by which sites are judged.
pub fn judged_window(now_ms: i64) -> i64 {
    (now_ms - SITE_DELAY_MS).div_euclid(BUCKET_MS) - 1
}

/// Bytes of a site in a window: the greater of in and out.
pub fn site_bytes(counters: &Counters, site: &SiteInfo, window: i64) -> u64 {
    let name = |name: &Text| Some(name.clone()).filter(|name| !name.is_empty());
    let key = SiteKey { nas_id: name(&site.nas_id), site: name(&site.site) };
    counters.site_window(&key, window).map_or(0, |rates| rates.bytes_in.max(rates.bytes_out))
}

/// Bytes that a committed rate carries in one window.
pub fn cir_bytes(cir_bps: u64) -> u64 {
    (u128::from(cir_bps) * BUCKET_MS as u128 / 8000).min(u128::from(u64::MAX)) as u64
}

fn site(counters: &Counters, site: &SiteInfo, now_ms: i64, out: &mut Out<'_>) {
    let judged = judged_window(now_ms);
    let subject = Subject {
        reseller_id: site.reseller_id,
        nas_id: Some(site.nas_id.to_string()),
        site: Some(site.site.to_string()),
        ..Subject::default()
    };
    let (terms, room) = (out.policy.terms(Kind::SiteCir, &subject), cir_bytes(site.cir_bps));
    let percent = |bytes: u64| u128::from(bytes) * 100;
    let over = |bytes: u64| percent(bytes) > u128::from(terms.threshold) * u128::from(room);
    let windows: Vec<u64> = (0..SITE_WINDOWS).map(|back| site_bytes(counters, site, judged - back)).collect();
    if windows.iter().all(|bytes| over(*bytes)) {
        let bytes = windows[0];
        let value = (percent(bytes) / u128::from(room.max(1))).min(u128::from(u64::MAX)) as u64;
        let summary = summary::site(site, value, terms.threshold);
        let measured = Measured { bytes: Some(bytes), ..Measured::default() };
        out.push(Kind::SiteCir, subject, value, measured, summary);
    }
}

fn dpi(counters: &Counters, out: &mut Out<'_>) {
    for seen in counters.seen() {
        let measured = Measured { bytes: Some(seen.bytes), ..Measured::default() };
        out.push(Kind::DpiSeen, seen.subject.clone(), seen.flows, measured, summary::seen(seen));
    }
}

fn hosts(counters: &Counters, out: &mut Out<'_>) {
    for host in counters.busy_hosts(out.policy.lowest(Kind::HostConnections)) {
        let measured = Measured {
            bytes: Some(host.bytes),
            connections: Some(host.connections),
            unique_destinations: Some(host.unique_destinations),
        };
        out.push_over(Kind::HostConnections, host.subject.clone(), host.connections, measured, |_| {
            summary::host(&host)
        });
    }
}

fn silence(exporter: &ExporterFact, started_ms: i64, now_ms: i64, out: &mut Out<'_>) {
    let subject = Subject { exporter: Some(exporter.address.clone()), ..Subject::default() };
    let silent_ms = now_ms - exporter.last_seen_ms;
    let threshold = out.policy.terms(Kind::ExporterSilent, &subject).threshold;
    if exporter.last_seen_ms == 0 || silent_ms > EXPORTER_GONE_MS {
        return;
    }
    // While the collector was away nobody could be heard: each gets as much time as it has anyway.
    if !exporter.heard && now_ms - started_ms <= i64::try_from(threshold).unwrap_or(i64::MAX) {
        return out.unknown(Kind::ExporterSilent, &subject);
    }
    out.push_over(Kind::ExporterSilent, subject, silent_ms.max(0) as u64, Measured::default(), |_| {
        summary::silent(&exporter.address, silent_ms)
    });
}

fn system(facts: &Facts, now_ms: i64, out: &mut Out<'_>) {
    let named = |name: &str| Subject { name: Some(name.to_owned()), ..Subject::default() };
    for sink in &facts.sinks {
        out.push_over(Kind::SinkLag, named(&sink.name), sink.lag_ms, Measured::default(), |_| {
            summary::sink(&sink.name, sink.lag_ms)
        });
    }
    for database in &facts.databases {
        let age_ms = (now_ms - database.built_ms).max(0) as u64;
        out.push_over(Kind::DatabaseStale, named(&database.name), age_ms, Measured::default(), |_| {
            summary::database(&database.name, age_ms)
        });
    }
    if facts.log_bytes_max > 0 {
        let percent = (u128::from(facts.log_bytes) * 100 / u128::from(facts.log_bytes_max)) as u64;
        let measured = Measured { bytes: Some(facts.log_bytes), ..Measured::default() };
        out.push_over(Kind::LogFilling, named("log"), percent, measured, |_| summary::log(facts));
    }
}
