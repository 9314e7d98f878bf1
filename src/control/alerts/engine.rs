//! Counters, evaluation and saving, without a thread: what the runner drives and tests step through.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;

use super::alert::{Alert, Subject};
use super::board::Board;
use super::config::Config;
use super::counters::{Counters, HostCounts, Untracked, Usage};
use super::deliver::{Deliveries, Plan};
use super::evaluate::{Evaluator, cir_bytes, judged_window, site_bytes};
use super::facts::Facts;
use super::kind::Kind;
use super::outbox::{OUTBOX, Outbox};
use super::policy::Policy;
use crate::control::state::{Keep, StateError};
use crate::enrich::SiteInfo;
use crate::flow::{AlertRow, FlowBatch, LogId};
use crate::telemetry::Counter;

/// Subscribers, sites and hosts that metrics show at most, those with the most first: labels must stay few.
const SHOWN_MAX: usize = 1000;
/// First byte of the key of the cursor's row in the state store.
const CURSOR: u8 = b'C';

/// What others see of the alerts. Shared with the endpoint.
#[derive(Debug)]
pub struct Alerts {
    /// Every alert.
    pub board: Arc<Board>,
    pub(super) deliveries: Deliveries,
    pub(super) shown: Mutex<Shown>,
    pub(super) evaluations: Counter,
    pub(super) save_failures: Counter,
    settings: ArcSwap<Settings>,
    /// Held while the board is brought up to what some settings find, and while other settings take their place: what was
    /// judged by the former must not come after what their end meant for the alerts.
    judging: Mutex<()>,
}

#[derive(Debug)]
struct Settings {
    config: Config,
    policy: Policy,
}

/// What metrics show of the latest evaluation.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) subscribers: Vec<Usage>,
    /// Sites with the share of their committed rate that they used in the window by which they are judged.
    pub(super) sites: Vec<(SiteInfo, f64)>,
    pub(super) hosts: Vec<HostCounts>,
    /// What was watched for, with the number of subscribers who used it.
    pub(super) seen: BTreeMap<String, u64>,
    pub(super) memory_bytes: usize,
    pub(super) subscribers_counted: usize,
    pub(super) untracked: Untracked,
    pub(super) took_s: f64,
}

impl Alerts {
    /// Over a board and its receivers.
    pub fn new(board: Arc<Board>, deliveries: Deliveries, config: Config) -> Self {
        Self {
            board,
            deliveries,
            shown: Mutex::default(),
            evaluations: Counter::default(),
            save_failures: Counter::default(),
            settings: ArcSwap::from_pointee(Settings { policy: Policy::new(&config), config }),
            judging: Mutex::default(),
        }
    }

    /// Tries everything that can be wrong with the receivers of another configuration.
    ///
    /// # Errors
    /// The first receiver that cannot be, and why.
    pub fn plan(&self, config: &Config, base: &Path) -> Result<Plan, String> {
        self.deliveries.plan(&config.receiver, base)
    }

    /// Puts other thresholds and rules into force, from the next evaluation on, and other receivers at once. Alerts whose
    /// terms changed end at that evaluation when they hold no more: the hold-down is for conditions that come and go. Gives
    /// a line about each thing that somebody may miss.
    pub fn reconfigure(&self, config: Config, plan: Plan) -> Vec<String> {
        let notes = self.deliveries.reconfigure(plan);
        let new = Settings { policy: Policy::new(&config), config };
        let _judging = self.judging();
        let old = self.settings.swap(Arc::new(new));
        let new = self.settings.load();
        let watched = |settings: &Settings, alert: &Alert| {
            let terms = settings.policy.terms(alert.alert_type, &alert.subject);
            let name = alert.subject.name.as_ref().filter(|_| alert.alert_type == Kind::DpiSeen);
            let is = |watched: &String| name.is_some_and(|name| name.eq_ignore_ascii_case(watched));
            (terms.enabled, terms.threshold, settings.config.dpi_protocols.iter().any(is))
        };
        self.board.end_hold_down(|alert| watched(&old, alert) != watched(&new, alert));
        notes
    }

    /// The configuration in force.
    pub fn config(&self) -> Config {
        self.settings.load().config.clone()
    }

    fn judging(&self) -> MutexGuard<'_, ()> {
        self.judging.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The alerts' consumer of flows.
#[derive(Debug)]
pub struct Engine {
    alerts: Arc<Alerts>,
    keep: Keep,
    counters: Counters,
    evaluator: Evaluator,
    outbox: Outbox,
    log_id: LogId,
    position: u64,
    /// What could not be saved, by key.
    unsaved: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Engine {
    /// As the state store has it. Flows that span more than `span_max_ms` are booked whole at their end.
    ///
    /// # Errors
    /// The store refuses.
    pub fn open(alerts: Arc<Alerts>, keep: Keep, log_id: LogId, span_max_ms: i64) -> Result<Self, StateError> {
        let mut counters = Counters::new(span_max_ms);
        counters.configure(&alerts.config(), true);
        let (mut position, mut outbox) = (0, Outbox::default());
        keep.each(|key, value| {
            if key == [CURSOR] {
                let cursor = value.split_first_chunk::<16>().filter(|(id, _)| LogId(**id) == log_id);
                position = cursor.and_then(|(_, at)| at.try_into().ok()).map_or(0, u64::from_be_bytes);
            } else if key.first() == Some(&OUTBOX) {
                outbox.restore(value);
            } else {
                counters.restore(key, value);
            }
        })?;
        counters.restored();
        let (evaluator, unsaved) = (Evaluator::default(), BTreeMap::new());
        Ok(Self { alerts, keep, counters, evaluator, outbox, log_id, position, unsaved })
    }

    /// Log position up to which everything is counted; 0 when nothing of this log is.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Has counted from now on only what may be judged, as it is configured and by what is known of the process.
    pub fn watch(&mut self, facts: &Facts) {
        let settings = self.alerts.settings.load();
        self.counters.configure(&settings.config, facts.sites.iter().any(|site| site.cir_bps > 0));
    }

    /// Counts the flows at a position.
    pub fn add(&mut self, position: u64, batch: &FlowBatch, now_ms: i64) {
        self.counters.add(batch, now_ms);
        self.position = position;
    }

    /// Goes past a position that holds no flows.
    pub fn pass(&mut self, position: u64) {
        self.position = position;
    }

    /// Takes note of the alerts at a position: they are in the log.
    pub fn confirm(&mut self, position: u64, rows: &[AlertRow]) {
        let mut changes = Vec::new();
        self.outbox.confirm(rows, &mut changes);
        self.unsaved.extend(changes);
        self.position = position;
    }

    /// Beginnings and ends of alerts that are saved and have to get into the log. To be asked for once everything that the log
    /// held at the start was read, or what a crash left would get there twice.
    pub fn due(&self) -> Vec<AlertRow> {
        self.outbox.due()
    }

    /// What was due is in the log.
    pub fn logged(&mut self) {
        self.outbox.logged();
    }

    /// Judges what holds now. When an alert begins or ends, everything is saved and then the receivers are told. `behind`
    /// says that many flows have not been read yet.
    ///
    /// # Errors
    /// The state store refuses. The receivers are told all the same: a full disk is no time for silence.
    pub fn evaluate(&mut self, facts: &Facts, now_ms: i64, behind: bool) -> Result<(), StateError> {
        let begun = Instant::now();
        let alerts = self.alerts.clone();
        let judging = alerts.judging();
        let settings = alerts.settings.load();
        self.watch(facts);
        self.counters.advance(now_ms);
        let findings = self.evaluator.evaluate(&self.counters, facts, &settings.policy, now_ms, behind);
        let history_ms = i64::try_from(settings.config.history_ms).unwrap_or(i64::MAX);
        let events = alerts.board.apply(&findings, history_ms, now_ms);
        drop(judging);
        let mut saved = Ok(());
        if !events.is_empty() {
            let mut staged = Vec::new();
            self.outbox.stage(&events, &mut staged);
            self.unsaved.extend(staged);
            saved = alerts.deliveries.tell(&events, |staged| {
                self.unsaved.extend(staged);
                self.save()
            });
        }
        for (event, alert) in &events {
            tracing::info!(?event, id = alert.id, kind = alert.alert_type.name(), "alert: {}", alert.summary);
        }
        alerts.evaluations.add(1);
        let mut shown = self.show(facts, &settings.policy, now_ms);
        shown.took_s = begun.elapsed().as_secs_f64();
        *alerts.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        saved
    }

    fn show(&self, facts: &Facts, policy: &Policy, now_ms: i64) -> Shown {
        let half = |kind: Kind, subject: &Subject| policy.terms(kind, subject).threshold / 2;
        let mut subscribers: Vec<_> =
            self.counters.usage((policy.lowest(Kind::Subscriber24h) / 2).saturating_sub(1)).collect();
        subscribers.retain(|usage| {
            let subject = Subject {
                subscriber_id: Some(usage.subscriber_id),
                reseller_id: usage.reseller_id,
                ..Subject::default()
            };
            usage.bytes >= half(Kind::Subscriber24h, &subject)
        });
        subscribers.sort_unstable_by_key(|usage| (std::cmp::Reverse(usage.bytes), usage.subscriber_id));
        subscribers.truncate(SHOWN_MAX);
        let window = judged_window(now_ms);
        let share =
            |site: &SiteInfo| site_bytes(&self.counters, site, window) as f64 / cir_bytes(site.cir_bps).max(1) as f64;
        let with_rate = facts.sites.iter().filter(|site| site.cir_bps > 0).take(SHOWN_MAX);
        let mut hosts = self.counters.busy_hosts(policy.lowest(Kind::HostConnections) / 2);
        hosts.sort_unstable_by_key(|host| std::cmp::Reverse(host.connections));
        hosts.truncate(SHOWN_MAX);
        let mut seen: BTreeMap<String, u64> = BTreeMap::new();
        for one in self.counters.seen() {
            *seen.entry(one.subject.name.clone().unwrap_or_default()).or_default() += 1;
        }
        Shown {
            subscribers,
            sites: with_rate.map(|site| (site.clone(), share(site))).collect(),
            hosts,
            seen,
            memory_bytes: self.counters.memory_bytes(),
            subscribers_counted: self.counters.subscribers(),
            untracked: self.counters.untracked(),
            took_s: 0.0,
        }
    }

    /// Saves counters, cursor, alerts and queues in one step.
    ///
    /// # Errors
    /// The state store refuses; everything is kept for the next time.
    pub fn save(&mut self) -> Result<(), StateError> {
        self.unsaved.extend(self.alerts.board.changes());
        for (key, value) in self.counters.changes() {
            self.unsaved.insert(key, value);
        }
        let cursor = [&self.log_id.0[..], &self.position.to_be_bytes()].concat();
        self.unsaved.insert(vec![CURSOR], Some(cursor));
        let changes: Vec<_> = std::mem::take(&mut self.unsaved).into_iter().collect();
        let saved = self.keep.apply(&changes);
        if saved.is_err() {
            self.alerts.save_failures.add(1);
            self.unsaved = changes.into_iter().collect();
        } else {
            self.outbox.saved();
        }
        saved
    }
}
