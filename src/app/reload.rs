//! A new configuration while the collector runs: what can change live does, what cannot is named with its reason.
//!
//! Whatever can fail is tried before anything is put in force, so a configuration with a problem changes nothing. Each key
//! belongs to one class ([`restart_reason`]); what is compared is what is in force, so a key that needs a restart is named at
//! every reload until then.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::collector::Running;
use super::start::enrich_config;
use crate::control::config::{self, Settings, Shown};
use crate::control::http::{Reloaded, Tokens};
use crate::decode::Rules;
use crate::flow::RollupDef;
use crate::flow::sink::KeyError;
use crate::flow::time::now_ms;
use crate::receive::Admission;
use crate::telemetry::{Counter, Exposition, Gauge, logging};

/// How long a reload waits for sinks to close; those that take longer follow later.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long it waits for the aggregator, which may be reading the log after a crash.
const REDEFINE_TIME_MAX: Duration = Duration::from_secs(10);

/// What is counted of reloads.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    succeeded: Counter,
    failed: Counter,
    last_ok: Gauge,
    last_ok_at_ms: Gauge,
}

impl Reloads {
    /// Before the first reload the configuration in force is the one of the start.
    pub fn since_start() -> Self {
        let reloads = Self::default();
        reloads.last_ok.set(1);
        reloads.last_ok_at_ms.set(now_ms());
        reloads
    }

    fn note(&self, ok: bool) {
        if ok { &self.succeeded } else { &self.failed }.add(1);
        self.last_ok.set(i64::from(ok));
        if ok {
            self.last_ok_at_ms.set(now_ms());
        }
    }

    /// Adds them to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        for (result, counter) in [("ok", &self.succeeded), ("failed", &self.failed)] {
            out.counter(
                "netflow_config_reloads_total",
                "Reloads of the configuration.",
                &[("result", result)],
                counter.get(),
            );
        }
        let help = "1 when the configuration read last is right, 0 when it changed nothing because it is not.";
        out.gauge("netflow_config_last_reload_successful", help, &[], self.last_ok.get() as f64);
        let help = "When the configuration in force was read.";
        let at_s = self.last_ok_at_ms.get() as f64 / 1000.0;
        out.gauge("netflow_config_last_reload_success_timestamp_seconds", help, &[], at_s);
    }
}

/// Why a key takes effect at the next start only; `None` for those that change live.
fn restart_reason(key: &str) -> Option<&'static str> {
    let starts = |prefix: &str| key.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || !rest.starts_with('_'));
    match key.split('.').next().unwrap_or_default() {
        "receive" if starts("receive.allow") || starts("receive.protocols") => None,
        "receive" => Some("the sockets and their buffers are made at the start"),
        "decode" if !starts("decode.workers") => None,
        "decode" => Some("the worker threads are made at the start"),
        "enrich" if starts("enrich.dpi_memory_max") => {
            Some("the memory of what the events said is laid out at the start")
        }
        "enrich" if !key.starts_with("enrich.pairing") => None,
        "enrich" => Some("the table of conversations is made at the start"),
        "aggregate" if starts("aggregate.rollup") => None,
        "aggregate" => Some("the aggregator's memory is laid out at the start"),
        "admin" if starts("admin.token") || starts("admin.store") || starts("admin.without_tokens") => None,
        "admin" => Some("the endpoint is opened at the start"),
        "telemetry" if starts("telemetry.log_level") => None,
        "telemetry" => Some("the log file is opened at the start"),
        "log" => Some("the log is opened at the start"),
        "alerts" if !starts("alerts.enabled") => None,
        "alerts" => Some("the thread that reads the log for the alerts is made at the start"),
        _ => Some("takes effect at the next start"),
    }
}

/// Reads the configuration again and puts into force what can change.
///
/// # Errors
/// Every problem; then nothing was changed.
pub(super) fn reload(running: &Running) -> Result<Reloaded, Vec<String>> {
    let _one_at_a_time = running.reloading.lock().unwrap_or_else(PoisonError::into_inner);
    let result = reload_now(running);
    running.reloads.note(result.is_ok());
    match &result {
        Ok(reloaded) => tell(reloaded),
        Err(problems) => {
            tracing::error!("the configuration is not reloaded, nothing has changed: {}", problems.join("; "))
        }
    }
    result
}

fn tell(reloaded: &Reloaded) {
    tracing::info!(changed = ?reloaded.changed, applied = ?reloaded.applied, "the configuration is reloaded");
    for (key, reason) in &reloaded.needs_restart {
        tracing::warn!("{key} needs a restart: {reason}");
    }
    reloaded.notes.iter().for_each(|note| tracing::info!("{note}"));
}

fn reload_now(running: &Running) -> Result<Reloaded, Vec<String>> {
    let mut new = config::load(&running.sources).map_err(|problems| lines(&problems.0))?;
    let old = running.settings.load_full();
    let mut reloaded = Reloaded::default();

    let defs = new.rollups().map_err(|problems| {
        problems.iter().map(|p| format!("[aggregate] {}: {}", p.key, p.problem)).collect::<Vec<_>>()
    })?;
    let in_force = running.rollups.load();
    let own = old.stages.aggregate.rollups([]).unwrap_or_default();
    let mut defs = with_those_of_sinks(defs, &in_force, &own);
    date(&mut defs, &in_force, now_ms() + REDEFINE_TIME_MAX.as_millis() as i64);
    let rollups = Rollups::compare(&in_force, defs);
    compare(&old, &mut new, &rollups, &mut reloaded);
    let tokens = Tokens::load(&new.stages.admin, &new.base).map_err(|errors| {
        errors.iter().map(|e: &KeyError| format!("[admin] {}: {}", e.key, e.problem)).collect::<Vec<_>>()
    })?;
    let change = {
        let sinks = running.sinks_read();
        sinks.plan(&new, &rollups.defs, rollups.changed).map_err(|e| vec![e.to_string()])?
    };
    new.stages.alerts.enabled = running.alerts.is_some();
    let alerts = running.alerts.as_ref().map(|alerts| alerts.plan(&new.stages.alerts, &new.base));
    let alerts = alerts.transpose().map_err(|problem| vec![format!("[alerts] {problem}")])?;
    let enrich = enrich_config(&new);
    let (sql, mut feeds) = (enrich.sql.clone(), running.feeds.lock().unwrap_or_else(PoisonError::into_inner));
    let dpi = feeds.open_dpi(enrich.dpi.as_deref(), &new.base).map_err(|e| vec![e.to_string()])?;
    let report = running.enrichment.reconfigure(enrich).map_err(|e| lines(&e.errors))?;
    reloaded.notes.push(format!("the sources of enrichment are read: {} prefixes", report.prefixes));
    reloaded.notes.extend(report.hints);

    // From here on nothing fails as a whole.
    feeds.read_dpi(dpi);
    if let Err(problem) = feeds.ask_sql(sql) {
        reloaded.notes.push(problem.to_string());
    }
    drop(feeds);
    running.rules.store(Arc::new(Rules::new(&new.stages.decode)));
    running.admission.store(Arc::new(Admission::new(&new.stages.receive.allow, &new.stages.receive.protocols)));
    if let Some(endpoint) = running.endpoint() {
        endpoint.tokens.store(Arc::new(tokens));
    }
    if let (Some(alerts), Some(plan)) = (&running.alerts, alerts) {
        reloaded.notes.extend(alerts.reconfigure(new.stages.alerts.clone(), plan));
    }
    if old.stages.telemetry.log_level != new.stages.telemetry.log_level
        && let Err(problem) = logging::set_level(new.stages.telemetry.log_level)
    {
        reloaded.notes.push(format!("the log level stays: {problem}"));
    }
    let closing: Vec<String> = change.closing().map(str::to_owned).collect();
    running.sinks_write().begin(change);
    if !settle(running) {
        let names = closing.join(", ");
        reloaded.notes.push(format!("of the sinks {names} some are still closing; what follows them starts then"));
    }
    if rollups.changed {
        // The sinks know the new rollups before the first of their sums comes.
        running.rollups.store(rollups.defs.clone());
        if let Err(problem) = running.aggregator.redefine(rollups.defs.clone(), REDEFINE_TIME_MAX) {
            reloaded.notes.push(format!("the rollups stay as they were: {problem}"));
        } else if let Err(problem) = running.state.save_rollups(&rollups.defs) {
            reloaded.notes.push(format!("since when the rollups are there is not saved: {problem}"));
        }
    }
    running.settings.store(Arc::new(new));
    Ok(reloaded)
}

fn lines(problems: &[impl std::fmt::Display]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// Waits for sinks that close. Gives whether all have.
fn settle(running: &Running) -> bool {
    let deadline = Instant::now() + CLOSE_TIME_MAX;
    while !running.sinks_write().settle() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

/// The rollups of a new configuration.
struct Rollups {
    defs: Arc<Vec<RollupDef>>,
    /// Whether they differ from those in force, and may.
    changed: bool,
    /// Why they stay as they are.
    refused: Option<String>,
}

impl Rollups {
    /// Rollups may be added, and kept for longer or shorter. What a name means must not change: rows that are stored under
    /// it would mean two things.
    fn compare(old: &Arc<Vec<RollupDef>>, defs: Vec<RollupDef>) -> Self {
        if **old == defs {
            return Self { defs: old.clone(), changed: false, refused: None };
        }
        let same = |a: &RollupDef, b: &RollupDef| {
            a.name == b.name && a.bucket_ms == b.bucket_ms && a.by == b.by && a.shape == b.shape
        };
        match old.iter().find(|old| !defs.iter().any(|new| same(old, new))) {
            None => Self { defs: Arc::new(defs), changed: true, refused: None },
            Some(lost) => {
                let why = if defs.iter().any(|new| new.name == lost.name) {
                    format!("the rollup {} would mean something else: give the new one a name of its own", lost.name)
                } else {
                    format!("the rollup {} ends at the next start", lost.name)
                };
                Self { defs: old.clone(), changed: false, refused: Some(why) }
            }
        }
    }
}

/// Adds what is in force because a sink wanted it: the others store it as well, so it stays until the next start, whatever
/// becomes of that sink. `own` are the rollups that no sink had to want.
fn with_those_of_sinks(mut defs: Vec<RollupDef>, in_force: &[RollupDef], own: &[RollupDef]) -> Vec<RollupDef> {
    let has = |defs: &[RollupDef], name: &str| defs.iter().any(|def| &*def.name == name);
    for def in in_force.iter().filter(|def| !has(own, &def.name)) {
        if !has(&defs, &def.name) {
            defs.push(def.clone());
        }
    }
    defs
}

/// Says of each rollup since when it is there: those in force as long as they are, the others from `now_ms` on.
fn date(defs: &mut [RollupDef], in_force: &[RollupDef], now_ms: i64) {
    for def in defs {
        let known = in_force.iter().find(|known| known.name == def.name);
        def.since_ms = known.map_or(now_ms, |known| known.since_ms);
    }
}

/// Notes what differs, and leaves in `new.shown` what will be in force.
fn compare(old: &Settings, new: &mut Settings, rollups: &Rollups, reloaded: &mut Reloaded) {
    let reason = |key: &str| match &rollups.refused {
        Some(why) if key.starts_with("aggregate.rollup") => Some(why.clone()),
        _ => restart_reason(key).map(str::to_owned),
    };
    let value = |shown: &[Shown], key: &str| shown.iter().find(|s| s.key == key).map(|s| s.value.clone());
    let only_old = old.shown.iter().filter(|s| value(&new.shown, &s.key).is_none());
    let keys: Vec<String> = new.shown.iter().chain(only_old).map(|s| s.key.clone()).collect();
    for key in keys.iter().filter(|key| !key.starts_with("sink[")) {
        if value(&old.shown, key) == value(&new.shown, key) {
            continue;
        }
        reloaded.changed.push(key.clone());
        match reason(key) {
            None => reloaded.applied.push(key.clone()),
            Some(reason) => {
                reloaded.needs_restart.insert(key.clone(), reason);
                new.shown.retain(|s| s.key != *key);
                new.shown.extend(old.shown.iter().filter(|s| s.key == *key).cloned());
            }
        }
    }
    // Secrets are masked where values are shown.
    for (key, changed) in [
        ("admin.token", old.stages.admin.token != new.stages.admin.token),
        ("alerts.receiver", old.stages.alerts.receiver != new.stages.alerts.receiver),
    ] {
        if changed && !reloaded.changed.iter().any(|said| said.starts_with(key)) {
            reloaded.changed.push(key.to_owned());
            reloaded.applied.push(key.to_owned());
        }
    }
    new.shown.sort_by(|a, b| a.key.cmp(&b.key));
    for change in sink_changes(old, new) {
        reloaded.changed.push(change.clone());
        reloaded.applied.push(change);
    }
}

/// Keys of sinks by the sinks' names, which stay when others come and go: `sink.NAME.path`; `sink.NAME` when the whole of it
/// came or went.
fn sink_changes(old: &Settings, new: &Settings) -> Vec<String> {
    let mut changes = Vec::new();
    for sink in &new.sinks {
        let name = &sink.common.name;
        match old.sinks.iter().find(|old| old.common.name == *name) {
            None => changes.push(format!("sink.{name}")),
            Some(old) => {
                changes.extend(old.table.changed_keys(&sink.table).iter().map(|key| format!("sink.{name}.{key}")));
            }
        }
    }
    let stays = |name: &str| new.sinks.iter().any(|sink| sink.common.name == name);
    changes.extend(old.sinks.iter().filter(|s| !stays(&s.common.name)).map(|s| format!("sink.{}", s.common.name)));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollups_may_be_added_and_kept_otherwise_but_not_mean_something_else() {
        let old = Arc::new(RollupDef::defaults());
        let with = |change: &dyn Fn(&mut Vec<RollupDef>)| {
            let mut defs = RollupDef::defaults();
            change(&mut defs);
            Rollups::compare(&old, defs)
        };
        assert!(!with(&|_| ()).changed);
        let added = with(&|defs| defs.push(RollupDef { name: "more".into(), ..defs[0].clone() }));
        assert!(added.changed && added.defs.len() == old.len() + 1);
        for refused in [with(&|defs| defs[1].by.truncate(2)), with(&|defs| drop(defs.remove(1)))] {
            assert!(!refused.changed && refused.defs == old);
            assert!(refused.refused.unwrap().contains(&*old[1].name));
        }
    }

    #[test]
    fn a_rollup_that_only_a_sink_wanted_stays_when_the_sink_goes() {
        let own = RollupDef::defaults();
        let mut in_force = own.clone();
        in_force.push(RollupDef::usage_ports());
        assert_eq!(with_those_of_sinks(own.clone(), &in_force, &own), in_force);
        assert_eq!(with_those_of_sinks(in_force.clone(), &in_force, &own), in_force);
        let mut fewer = own.clone();
        fewer.remove(1);
        assert_eq!(with_those_of_sinks(fewer.clone(), &own, &own), fewer, "one of the file's own may go");
    }

    #[test]
    fn every_key_of_the_configuration_has_its_class() {
        let settings = config::load(&config::Sources::default()).unwrap();
        let live: Vec<&str> =
            settings.shown.iter().map(|s| &*s.key).filter(|key| restart_reason(key).is_none()).collect();
        for key in ["receive.allow", "decode.clock_skew_max", "enrich.geoip", "admin.store", "telemetry.log_level"] {
            assert!(live.contains(&key), "{key} in {live:?}");
        }
        for key in ["receive.listen", "decode.workers", "enrich.pairing", "log.dir", "admin.listen", "log.bytes_max"] {
            assert!(!live.contains(&key), "{key}");
        }
    }
}
