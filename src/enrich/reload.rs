use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Guard};

use super::Config;
use super::dpi::Dpi;
use super::leases::Leases;
use super::names::Names;
use super::sites::Site;
use super::sources::{self, Compiled, SourceError, SourceReport};
use super::sql::{Answers, SqlConfig};
use super::table::Table;
use crate::flow::time::now_ms;
use crate::flow::{Text, Uuid};
use crate::telemetry::{Counter, Exposition, Gauge};

/// Everything the workers share: the table in use, the leases, the names.
///
/// A reload builds a new table aside and swaps; a worker sees one table for a whole batch. A reload that fails changes
/// nothing.
#[derive(Debug)]
pub struct Enrichment {
    table: ArcSwap<Table>,
    leases: Leases,
    dpi: Dpi,
    names: Arc<Names>,
    /// One reload at a time; holds what the table in use was made from.
    state: Mutex<State>,
    reloads: Counter,
    failed: Counter,
    loaded_at_ms: Gauge,
    sql_failed: Counter,
    sql_answered_at_ms: Gauge,
}

#[derive(Debug)]
struct State {
    config: Config,
    /// Answers of the queries that are in use.
    answers: Answers,
    sources: Vec<SourceReport>,
    /// What the latest reload found wrong; empty after one that succeeded.
    errors: Vec<SourceError>,
}

/// What a reload brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadReport {
    /// Number of the table now in use.
    pub generation: u64,
    /// What it was made from.
    pub sources: Vec<SourceReport>,
    /// Its size, bytes.
    pub table_bytes: usize,
    /// Statements about prefixes in it.
    pub prefixes: usize,
    /// How long reading and building took, ms.
    pub took_ms: u64,
    /// What is missing and how to get it, a line each. To be told once, at the start.
    pub hints: Vec<String>,
}

/// A site with its names, for lists and alerts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteInfo {
    /// Its access server.
    pub nas_id: Text,
    /// Its name.
    pub site: Text,
    /// Its reseller.
    pub reseller_id: Option<Uuid>,
    /// Committed information rate, bit/s; 0 = not stated.
    pub cir_bps: u64,
}

/// A reload that changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadError {
    /// Everything that is wrong.
    pub errors: Vec<SourceError>,
}

impl std::fmt::Display for ReloadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("enrichment is not reloaded, what was in use stays")?;
        self.errors.iter().try_for_each(|error| write!(f, "\n{error}"))
    }
}

impl std::error::Error for ReloadError {}

fn hints(config: &Config, table: &Table) -> Vec<String> {
    let (has, folder) = (table.has(), config.geoip.display());
    let mut hints = Vec::new();
    if !has.country && !config.geoip.as_os_str().is_empty() {
        hints.push(format!("no country database in {folder}: countries stay null; geoip/update.sh fetches a free one"));
    }
    if !has.asn && !config.geoip.as_os_str().is_empty() {
        hints.push(format!(
            "no AS database in {folder}: AS numbers are the exporters' only; geoip/README.md says how to get one"
        ));
    }
    let by_query = config.sql.as_ref().is_some_and(|sql| !sql.subscribers.is_empty() || !sql.leases.is_empty());
    if config.subscribers.is_none() && !by_query {
        hints.push("no [enrich] subscribers: flows are counted without subscriber until leases are pushed".to_owned());
    }
    hints
}

impl Enrichment {
    /// Enrichment with the built-in knowledge only (default customer networks, ports): what [`Enrichment::reload`] starts from.
    ///
    /// # Errors
    /// Never in practice: the built-in names fit the pools.
    pub fn builtin(config: Config) -> Result<Self, ReloadError> {
        let names = Arc::new(Names::default());
        let nothing = Config { geoip: Default::default(), ..Config::default() };
        let compiled =
            sources::compile(&nothing, &Answers::default(), &names, 0).map_err(|errors| ReloadError { errors })?;
        Ok(Self {
            table: ArcSwap::from_pointee(compiled.table),
            leases: Leases::default(),
            dpi: Dpi::new(config.dpi_memory_max_bytes),
            names,
            state: Mutex::new(State { config, answers: Answers::default(), sources: Vec::new(), errors: Vec::new() }),
            reloads: Counter::default(),
            failed: Counter::default(),
            loaded_at_ms: Gauge::default(),
            sql_failed: Counter::default(),
            sql_answered_at_ms: Gauge::default(),
        })
    }

    /// Enrichment from all sources of the configuration.
    ///
    /// # Errors
    /// Everything that is wrong with them.
    pub fn open(config: Config) -> Result<(Self, ReloadReport), ReloadError> {
        let enrichment = Self::builtin(config)?;
        let report = enrichment.reload()?;
        Ok((enrichment, report))
    }

    /// The same with the answers of queries that an earlier run kept in a folder. Answers that cannot be used any more are
    /// left out, which a hint says: the queries will be asked again.
    ///
    /// # Errors
    /// Everything that is wrong with the other sources.
    pub fn open_with_answers(config: Config, folder: &Path) -> Result<(Self, ReloadReport), ReloadError> {
        let answers = config.sql.as_ref().map(|sql| Answers::saved(folder, sql)).unwrap_or_default();
        let enrichment = Self::builtin(config)?;
        enrichment.lock().answers = answers;
        let report = enrichment.reload().or_else(|error| {
            enrichment.lock().answers = Answers::default();
            let mut report = enrichment.reload()?;
            report.hints.push(format!("kept answers are left out until the database answers: {error}"));
            Ok(report)
        })?;
        Ok((enrichment, report))
    }

    /// Reads all sources again, builds a table aside and puts it in use. Blocks for as long as that takes; the workers do not
    /// wait.
    ///
    /// # Errors
    /// Everything that is wrong; the table in use stays. Counted in `netflow_enrichment_reload_failed_total`.
    pub fn reload(&self) -> Result<ReloadReport, ReloadError> {
        let mut state = self.lock();
        let (config, answers) = (state.config.clone(), state.answers.clone());
        self.reload_with(&mut state, config, &answers.clone(), answers, || Ok(()))
    }

    /// The same with another configuration, which is taken over only when its sources are right.
    ///
    /// # Errors
    /// As [`Enrichment::reload`].
    pub fn reconfigure(&self, config: Config) -> Result<ReloadReport, ReloadError> {
        let mut state = self.lock();
        // Answers stay until the queries, which may be others now, are answered again.
        let answers = state.answers.clone().retain(config.sql.as_ref());
        self.reload_with(&mut state, config, &answers.clone(), answers, || Ok(()))
    }

    /// Whether the answer of a query is part of the table in use.
    pub(super) fn uses_answer(&self, name: &str) -> bool {
        self.lock().answers.has(name)
    }

    /// Whether these queries are those of the configuration in force.
    pub(super) fn asks(&self, config: &SqlConfig) -> bool {
        self.lock().config.sql.as_ref() == Some(config)
    }

    /// The same with new answers of the queries. When they are right, `keep` makes the files `kept` of them. `None`, and
    /// nothing changes, when the queries that were asked are those of the configuration no more.
    ///
    /// # Errors
    /// As [`Enrichment::reload`], and what `keep` says.
    pub(super) fn reload_with_answers(
        &self,
        asked: &SqlConfig,
        new: &Answers,
        kept: Answers,
        keep: impl FnOnce() -> Result<(), SourceError>,
    ) -> Result<Option<ReloadReport>, ReloadError> {
        let mut state = self.lock();
        if state.config.sql.as_ref() != Some(asked) {
            return Ok(None);
        }
        let config = state.config.clone();
        self.reload_with(&mut state, config, new, kept, keep).map(Some)
    }

    fn reload_with(
        &self,
        state: &mut State,
        config: Config,
        answers: &Answers,
        kept: Answers,
        keep: impl FnOnce() -> Result<(), SourceError>,
    ) -> Result<ReloadReport, ReloadError> {
        let begun = Instant::now();
        let generation = self.table.load().generation() + 1;
        let compiled = sources::compile(&config, answers, &self.names, generation);
        let compiled = compiled.and_then(|compiled| keep().map(|()| compiled).map_err(|error| vec![error]));
        match compiled {
            Ok(Compiled { table, mut sources }) => {
                sources.iter_mut().for_each(|source| answers.rename(&kept, &mut source.file));
                let report = ReloadReport {
                    generation,
                    sources: sources.clone(),
                    table_bytes: table.bytes(),
                    prefixes: table.prefixes(),
                    took_ms: begun.elapsed().as_millis() as u64,
                    hints: hints(&config, &table),
                };
                self.table.store(Arc::new(table));
                *state = State { config, answers: kept, sources, errors: Vec::new() };
                self.reloads.add(1);
                self.loaded_at_ms.set(now_ms());
                Ok(report)
            }
            Err(errors) => {
                state.errors.clone_from(&errors);
                self.failed.add(1);
                Err(ReloadError { errors })
            }
        }
    }

    /// Notes that the queries were answered and the answers are in use.
    pub(super) fn count_sql_answer(&self) {
        self.sql_answered_at_ms.set(now_ms());
    }

    /// Notes that a round of queries led to nothing.
    pub(super) fn count_sql_failure(&self, errors: &[SourceError]) {
        self.sql_failed.add(1);
        self.lock().errors = errors.to_vec();
    }

    /// The table in use. Load it once a batch.
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.table.load()
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What inspection says of flows.
    pub fn dpi(&self) -> &Dpi {
        &self.dpi
    }

    /// The pools of names, for making [`super::table::Holder`]s.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The configuration in use.
    pub fn config(&self) -> Config {
        self.lock().config.clone()
    }

    /// What the table in use was made from, and what the latest reload found wrong.
    pub fn sources(&self) -> (Vec<SourceReport>, Vec<SourceError>) {
        let state = self.lock();
        (state.sources.clone(), state.errors.clone())
    }

    /// Every site of the table in use.
    pub fn sites(&self) -> Vec<SiteInfo> {
        let table = self.table.load();
        let text = |number| self.names.texts.get(number).cloned().unwrap_or_default();
        let info = |site: &Site| SiteInfo {
            nas_id: text(site.nas),
            site: text(site.site),
            reseller_id: self.names.uuids.get(site.reseller).copied(),
            cir_bps: site.cir_bps,
        };
        table.sites().all().iter().map(info).collect()
    }

    /// Bytes of the table in use.
    pub fn table_bytes(&self) -> usize {
        self.table.load().bytes()
    }

    /// Adds counters, sizes and ages to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let table = self.table.load();
        out.counter("netflow_enrichment_reload_total", "Tables put in use.", &[], self.reloads.get());
        let help = "Reloads that changed nothing because a source was broken.";
        out.counter("netflow_enrichment_reload_failed_total", help, &[], self.failed.get());
        out.gauge("netflow_enrichment_generation", "Number of the table in use.", &[], table.generation() as f64);
        out.gauge("netflow_enrichment_table_bytes", "Size of the table in use.", &[], table.bytes() as f64);
        out.gauge("netflow_enrichment_prefixes", "Statements about prefixes in use.", &[], table.prefixes() as f64);
        out.gauge("netflow_enrichment_leases", "Addresses with leases.", &[], self.leases.len() as f64);
        let loaded_at_s = self.loaded_at_ms.get() as f64 / 1000.0;
        let help = "When the table in use was built; 0 = never.";
        out.gauge("netflow_enrichment_loaded_timestamp_seconds", help, &[], loaded_at_s);
        let state = self.lock();
        if state.config.dpi.is_some() {
            self.dpi.expose(out);
        }
        if state.config.sql.is_some() {
            let help = "Rounds of [enrich.sql] that led to nothing: no answer, or a bad one.";
            out.counter("netflow_enrichment_sql_failed_total", help, &[], self.sql_failed.get());
            let help = "When the queries were last answered and the answers in use; 0 = not in this run.";
            let answered_at_s = self.sql_answered_at_ms.get() as f64 / 1000.0;
            out.gauge("netflow_enrichment_sql_answered_timestamp_seconds", help, &[], answered_at_s);
        }
        for source in &state.sources {
            let file = source.file.file_name().map_or_else(Default::default, |name| name.to_string_lossy());
            let labels = [("source", source.kind), ("file", &*file)];
            let age_s = (now_ms() - source.changed_ms) as f64 / 1000.0;
            let help = "Age of a source in use (databases: since they were built).";
            out.gauge("netflow_enrichment_source_age_seconds", help, &labels, age_s);
            out.gauge("netflow_enrichment_source_rows", "Rows of a source in use.", &labels, source.rows as f64);
        }
    }

    /// Puts a table of a test's own in use.
    #[cfg(test)]
    pub(super) fn publish(&self, mut builder: super::table::Builder) {
        builder.customer("10.0.0.0/8".parse().unwrap());
        let apps = super::app::Apps::builtin(&self.names).unwrap();
        self.table.store(Arc::new(builder.build(1, self.names.clone(), apps, Default::default()).unwrap()));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
