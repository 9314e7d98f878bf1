//! The sinks of the configuration, each with its deliverer and the store that answers for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::StartError;
use super::sink::{After, CURSOR_PREFIX, Prepared, RunningSink, cursor};
use crate::control::config::{Settings, SinkSettings};
use crate::control::http::{SinkState, SinkStatus};
use crate::deliver::State;
use crate::flow::malformed::MalformedLog;
use crate::flow::{FlowStore, RollupDef, time};
use crate::log::Log;
use crate::telemetry::Exposition;

/// All sinks, in the order of the configuration.
pub(super) struct Sinks {
    all: Vec<RunningSink>,
    /// Name of the one whose store answers by default; empty = the first that can.
    wanted_store: String,
    data: PathBuf,
    log: Arc<Log>,
    malformed: Arc<MalformedLog>,
}

/// What a reload changes about the sinks.
#[derive(Default)]
pub(super) struct Change {
    /// To be started.
    added: Vec<Prepared>,
    /// To be closed and started anew, each from its cursor.
    changed: Vec<Prepared>,
    /// To be closed for good.
    removed: Vec<String>,
    order: Vec<String>,
    wanted_store: String,
}

impl Change {
    /// Names of the sinks that close.
    pub fn closing(&self) -> impl Iterator<Item = &str> {
        self.changed.iter().map(|sink| &*sink.settings.common.name).chain(self.removed.iter().map(String::as_str))
    }
}

impl Sinks {
    /// Starts a deliverer for each sink. None waits for a server.
    pub fn start(
        settings: &Settings,
        data: &Path,
        log: &Arc<Log>,
        rollups: &Arc<Vec<RollupDef>>,
        malformed: &Arc<MalformedLog>,
    ) -> Result<Self, StartError> {
        forget_removed(settings, log);
        let mut sinks = Self {
            all: Vec::new(),
            wanted_store: String::new(),
            data: data.to_owned(),
            log: log.clone(),
            malformed: malformed.clone(),
        };
        let change = sinks.plan(settings, rollups, true)?;
        sinks.wanted_store = change.wanted_store;
        for prepared in change.added {
            sinks.all.push(RunningSink::start(prepared, log)?);
        }
        Ok(sinks)
    }

    /// What has to happen for these settings to be in force. Changes nothing. With `all`, every sink is opened anew.
    ///
    /// # Errors
    /// A sink whose settings its kind refuses; a store for answers that cannot answer.
    pub fn plan(&self, settings: &Settings, rollups: &Arc<Vec<RollupDef>>, all: bool) -> Result<Change, StartError> {
        let mut change = Change { wanted_store: settings.stages.admin.store.clone(), ..Change::default() };
        let mut can_answer = false;
        for sink in &settings.sinks {
            let name = &sink.common.name;
            change.order.push(name.clone());
            let running = self.all.iter().find(|running| running.name() == name);
            let answers = match running {
                Some(running) if !all && running.is_as(sink) => running.store.is_some(),
                _ => {
                    let prepared = Prepared::new(sink, &self.data, &self.log, rollups, &self.malformed)?;
                    let answers = prepared.answers_questions();
                    let list = if running.is_some() { &mut change.changed } else { &mut change.added };
                    list.push(prepared);
                    answers
                }
            };
            can_answer |= *name == change.wanted_store && answers;
        }
        if !change.wanted_store.is_empty() && !can_answer {
            let name = &change.wanted_store;
            return Err(StartError(format!("[admin] store: no sink named {name:?} can answer questions")));
        }
        let stays = |sink: &&RunningSink| settings.sinks.iter().any(|s| s.common.name == sink.name());
        change.removed = self.all.iter().filter(|sink| !stays(sink)).map(|sink| sink.name().to_owned()).collect();
        Ok(change)
    }

    /// Starts what is new and asks what closes to do so; [`Sinks::settle`] brings it to its end.
    pub fn begin(&mut self, change: Change) {
        let Change { added, changed, removed, order, wanted_store } = change;
        self.wanted_store = wanted_store;
        for sink in &mut self.all {
            if removed.iter().any(|name| name == sink.name()) {
                sink.leave(After::Remove);
            }
        }
        for prepared in changed {
            if let Some(sink) = self.all.iter_mut().find(|sink| sink.name() == prepared.settings.common.name) {
                sink.leave(After::Replace(Box::new(prepared)));
            }
        }
        for prepared in added {
            match RunningSink::start(prepared, &self.log) {
                Ok(sink) => self.all.push(sink),
                Err(error) => tracing::error!(%error, "a sink of the new configuration is not started"),
            }
        }
        let place = |name: &str| order.iter().position(|other| other == name).unwrap_or(usize::MAX);
        self.all.sort_by_key(|sink| place(sink.name()));
    }

    /// Starts anew or lets go of what has closed. Gives whether nothing is left to do.
    pub fn settle(&mut self) -> bool {
        let mut settled = true;
        let mut index = 0;
        while index < self.all.len() {
            let sink = &mut self.all[index];
            if matches!(sink.after, After::Stay) {
                index += 1;
                continue;
            }
            if !sink.has_ended() {
                settled = false;
                index += 1;
                continue;
            }
            match std::mem::replace(&mut sink.after, After::Stay) {
                After::Replace(prepared) => {
                    match RunningSink::start(*prepared, &self.log) {
                        Ok(started) => *sink = started,
                        Err(error) => tracing::error!(%error, "a changed sink is not started again"),
                    }
                    index += 1;
                }
                After::Remove | After::Stay => {
                    let gone = self.all.remove(index);
                    self.log.forget(&cursor(gone.name()));
                    tracing::info!(sink = gone.name(), "removed; its cursor is dropped");
                }
            }
        }
        settled
    }

    /// The store of a sink, or the one that answers by default.
    pub fn store(&self, name: Option<&str>) -> Option<Arc<dyn FlowStore>> {
        let sink = match name {
            None => self.all.get(self.default_store()?)?,
            Some(name) => self.all.iter().find(|sink| sink.name() == name)?,
        };
        sink.store.clone()
    }

    /// Names of the sinks whose stores answer, the default one first.
    pub fn store_names(&self) -> Vec<String> {
        let first = self.default_store();
        let rest = (0..self.all.len()).filter(|i| Some(*i) != first && self.all[*i].store.is_some());
        first.into_iter().chain(rest).map(|i| self.all[i].name().to_owned()).collect()
    }

    fn default_store(&self) -> Option<usize> {
        let wanted = &self.wanted_store;
        self.all.iter().position(|sink| sink.store.is_some() && (wanted.is_empty() || sink.name() == wanted))
    }

    /// What each is doing, and its part of the ledger.
    pub fn status(&self, log: &Log) -> Vec<SinkStatus> {
        let snapshot = log.snapshot();
        let of_sink = |sink: &RunningSink| {
            let status = sink.status();
            let cursor = cursor(&status.name);
            let consumer = snapshot.consumers.iter().find(|consumer| consumer.name == cursor);
            let counters = status.sink_counters();
            let mut dropped: BTreeMap<String, u64> = BTreeMap::new();
            let lost = consumer.map_or(&[][..], |consumer| &consumer.lost_flows);
            dropped.extend(lost.iter().map(|(reason, flows)| ((*reason).to_owned(), *flows)));
            dropped.insert("expired".to_owned(), counters.expired_flows);
            dropped.insert("quarantine".to_owned(), status.dropped_from_quarantine());
            let lag = consumer.map(|consumer| consumer.lag).unwrap_or_default();
            SinkStatus {
                name: status.name.clone(),
                kind: status.kind.clone(),
                state: state(status.state()),
                answers_questions: sink.store.is_some(),
                lag_records: lag.records,
                waiting_flows: lag.flows,
                lag_seconds: lag.age_ms as f64 / 1000.0,
                received_flows: snapshot.flows_total.saturating_sub(sink.flows_before),
                delivered_flows: status.taken_flows().saturating_sub(counters.expired_flows),
                set_aside_flows: status.set_aside_now(),
                dropped_flows: dropped,
                retries: status.retries.get(),
                stored_bytes: counters.stored_bytes,
                last_error: status.last_error().map(|e| format!("{} {}", time::rfc3339(e.at_ms), e.reason)),
            }
        };
        self.all.iter().map(of_sink).collect()
    }

    /// All sinks.
    pub fn iter(&self) -> impl Iterator<Item = &RunningSink> {
        self.all.iter()
    }

    /// A sink by its name.
    pub fn get(&self, name: &str) -> Option<&RunningSink> {
        self.all.iter().find(|sink| sink.name() == name)
    }

    /// A sink whose thread has ended although nobody asked it to, which only a panic does.
    pub fn ended_unasked(&self) -> Option<&str> {
        self.all.iter().find(|sink| matches!(sink.after, After::Stay) && sink.has_ended()).map(RunningSink::name)
    }

    /// Sinks that wait for a person, with the reason.
    pub fn failed(&self) -> Vec<(String, String)> {
        let failed = self.all.iter().map(RunningSink::status).filter(|status| status.state() == State::Failed);
        failed.map(|s| (s.name.clone(), s.last_error().map_or_else(String::new, |e| e.reason))).collect()
    }

    /// Adds all sinks to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        self.all.iter().for_each(|sink| sink.status().expose(out));
    }

    /// Has every sink take what the log holds, then ends it. Gives whether all ended in time.
    pub fn stop(&mut self, deadline: Instant) -> bool {
        self.all.iter().for_each(RunningSink::stop);
        let ended: Vec<bool> = self.all.iter_mut().map(|sink| sink.join(deadline)).collect();
        ended.into_iter().all(|ended| ended)
    }
}

impl RunningSink {
    /// Whether it runs with these settings and is to go on.
    fn is_as(&self, settings: &SinkSettings) -> bool {
        let running = match &self.after {
            After::Stay => &self.settings,
            After::Replace(prepared) => &prepared.settings,
            After::Remove => return false,
        };
        running.table == settings.table && running.config.same_as(&*settings.config)
    }
}

/// A sink that is no longer in the configuration pins nothing in the log.
fn forget_removed(settings: &Settings, log: &Log) {
    for name in log.consumer_names() {
        let Some(sink) = name.strip_prefix(CURSOR_PREFIX) else { continue };
        if !settings.sinks.iter().any(|s| s.common.name == sink) {
            tracing::info!(sink, "no longer configured; its cursor is dropped");
            log.forget(&name);
        }
    }
}

fn state(state: State) -> SinkState {
    match state {
        State::Opening => SinkState::Opening,
        State::Running => SinkState::Running,
        State::Waiting => SinkState::Retrying,
        State::Failed => SinkState::Failed,
        State::Stopped => SinkState::Stopped,
    }
}
