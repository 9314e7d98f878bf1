//! Subscribers, sites, networks and leases from queries against a PostgreSQL, on an interval.
//!
//! Each query's answer is fetched as CSV, with the columns of the file of the same name, and goes the way of a file from there.
//! All queries of one round see one state of the database. An answer that is right is put in use and kept on disk for the
//! next start; one that is wrong changes nothing and is told with its query, row and column. The client has a thread of its
//! own: nothing else waits for the database.

mod config;
mod fetch;
mod probe;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::sources::{self, LeaseRow};
use super::{Enrichment, ReloadError, ReloadReport, SourceError};
use crate::flow::Addr;

pub use config::SqlConfig;
pub use probe::{Probed, probe};

/// How long the end of the thread is waited for: a query that is under way is left behind then.
const STOP_TIME_MAX: Duration = Duration::from_secs(1);

/// The queries by name, in the order in which they are asked.
const TABLES: [&str; 3] = ["networks", "sites", "subscribers"];

/// The query of leases, which are no part of the table.
const LEASES: &str = "leases";

/// What changed in the answer about leases since the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseChanges {
    /// Addresses that are new or someone else's.
    pub put: Vec<(Addr, LeaseRow)>,
    /// Addresses that are in the answer no more, as they stood.
    pub gone: Vec<(Addr, LeaseRow)>,
}

/// Takes changes of leases; gives why they are not taken.
pub type OnLeases = Box<dyn FnMut(&LeaseChanges) -> Result<(), String> + Send>;

/// What a round that changed something, or failed, led to; `None` in place of the report: only leases changed.
pub type OnAnswer = Box<dyn FnMut(Result<Option<ReloadReport>, ReloadError>) + Send>;

/// Files with answers, a field a query; `None` = there is no such query, or no answer yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    pub networks: Option<PathBuf>,
    pub sites: Option<PathBuf>,
    pub subscribers: Option<PathBuf>,
}

impl Answers {
    /// The saved answers of those queries that the configuration has.
    pub fn saved(folder: &Path, config: &SqlConfig) -> Self {
        let mut answers = Self::default();
        for name in TABLES {
            let file = saved_file(folder, name);
            if !query(config, name).is_empty() && file.is_file() {
                *answers.file_mut(name) = Some(file);
            }
        }
        answers
    }

    /// Those of queries that the configuration has.
    pub fn retain(mut self, config: Option<&SqlConfig>) -> Self {
        for name in TABLES {
            if config.is_none_or(|config| query(config, name).is_empty()) {
                *self.file_mut(name) = None;
            }
        }
        self
    }

    /// Whether there is one of a query.
    pub fn has(&self, name: &str) -> bool {
        match name {
            "networks" => &self.networks,
            "sites" => &self.sites,
            _ => &self.subscribers,
        }
        .is_some()
    }

    fn file_mut(&mut self, name: &str) -> &mut Option<PathBuf> {
        match name {
            "networks" => &mut self.networks,
            "sites" => &mut self.sites,
            _ => &mut self.subscribers,
        }
    }

    /// Gives a file of these answers the name that it has among the kept ones.
    pub fn rename(&self, kept: &Self, file: &mut PathBuf) {
        let pairs =
            [(&self.networks, &kept.networks), (&self.sites, &kept.sites), (&self.subscribers, &kept.subscribers)];
        if let Some((_, Some(name))) = pairs.into_iter().find(|(own, _)| own.as_ref() == Some(&*file)) {
            file.clone_from(name);
        }
    }

    /// Says which query an error in an answer's file is about, in the place of the file.
    pub fn name_query(&self, error: SourceError) -> SourceError {
        let files = [(&self.networks, TABLES[0]), (&self.sites, TABLES[1]), (&self.subscribers, TABLES[2])];
        match files.into_iter().find(|(file, _)| file.as_ref() == Some(&error.file)) {
            Some((_, name)) => about_query(name, error),
            None => error,
        }
    }
}

fn about_query(name: &str, error: SourceError) -> SourceError {
    // Line 1 names the columns.
    let row = error.line.filter(|line| *line > 1).map_or(String::new(), |line| format!(", row {}", line - 1));
    SourceError { file: format!("[enrich.sql] {name}{row}").into(), line: None, ..error }
}

fn query<'a>(config: &'a SqlConfig, name: &str) -> &'a str {
    match name {
        "networks" => &config.networks,
        "sites" => &config.sites,
        "subscribers" => &config.subscribers,
        _ => &config.leases,
    }
}

fn saved_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.csv"))
}

fn new_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.csv.new"))
}

/// The asking thread. Ends when dropped.
#[derive(Debug)]
pub struct SqlSource {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What a thread that was told to end may still be doing: the next one waits for it before it touches the same files.
#[derive(Debug, Default)]
pub struct Ending(Option<JoinHandle<()>>);

impl SqlSource {
    /// Asks now and on the interval. `folder` is that of [`Enrichment::open_with_answers`].
    ///
    /// # Errors
    /// When the folder or the thread cannot be made.
    pub fn spawn(
        enrichment: Arc<Enrichment>,
        config: SqlConfig,
        folder: PathBuf,
        on_leases: OnLeases,
        on_answer: OnAnswer,
    ) -> std::io::Result<Self> {
        Self::spawn_after(Ending::default(), enrichment, config, folder, on_leases, on_answer)
    }

    /// The same in the place of another one, once that has ended.
    ///
    /// # Errors
    /// As [`SqlSource::spawn`].
    pub fn spawn_after(
        before: Ending,
        enrichment: Arc<Enrichment>,
        config: SqlConfig,
        folder: PathBuf,
        on_leases: OnLeases,
        mut on_answer: OnAnswer,
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        let (stop, stopped) = mpsc::channel();
        let interval = Duration::from_millis(config.interval_ms);
        let mut round = Round { enrichment, config, folder, on_leases };
        let thread = std::thread::Builder::new().name("enrich-sql".into()).spawn(move || {
            if let Some(before) = before.0 {
                // A panic of it has been printed by then.
                let _ = before.join();
            }
            // Told to end while it waited: there is nothing to begin.
            while stopped.try_recv() != Err(TryRecvError::Disconnected) {
                match round.run() {
                    Ok(Changed::Nothing) => {}
                    Ok(Changed::Leases) => on_answer(Ok(None)),
                    Ok(Changed::Table(report)) => on_answer(Ok(Some(report))),
                    Err(errors) => {
                        round.enrichment.count_sql_failure(&errors);
                        on_answer(Err(ReloadError { errors }));
                    }
                }
                if stopped.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Tells it to end, without waiting. What it has asked for already is not put in use once the configuration has changed.
    pub fn end(mut self) -> Ending {
        self.stop.take();
        Ending(self.thread.take())
    }
}

impl Drop for SqlSource {
    fn drop(&mut self) {
        self.stop.take();
        // A panic of the thread has been printed by then; there is nothing to add to it.
        crate::threads::join(self.thread.take(), Instant::now() + STOP_TIME_MAX);
    }
}

/// What a round of queries changed.
enum Changed {
    Nothing,
    Leases,
    Table(ReloadReport),
}

/// One round of queries, again and again.
struct Round {
    enrichment: Arc<Enrichment>,
    config: SqlConfig,
    folder: PathBuf,
    on_leases: OnLeases,
}

impl Round {
    fn run(&mut self) -> Result<Changed, Vec<SourceError>> {
        let names: Vec<&'static str> =
            TABLES.into_iter().chain([LEASES]).filter(|name| !query(&self.config, name).is_empty()).collect();
        fetch::fetch(&self.config, &names, &self.folder)?;
        let report = self.take_tables(&names)?;
        let leases = names.contains(&LEASES) && self.take_leases()?;
        self.enrichment.count_sql_answer();
        Ok(match report {
            Some(report) => Changed::Table(report),
            None if leases => Changed::Leases,
            None => Changed::Nothing,
        })
    }

    /// Puts the answers about prefixes in use, when any of them is another than before.
    fn take_tables(&self, names: &[&'static str]) -> Result<Option<ReloadReport>, Vec<SourceError>> {
        let names: Vec<_> = names.iter().copied().filter(|name| *name != LEASES).collect();
        let is_new = |name: &&str| {
            !self.enrichment.uses_answer(name)
                || !is_same(&saved_file(&self.folder, name), &new_file(&self.folder, name))
        };
        if !names.iter().any(is_new) {
            return Ok(None);
        }
        let (mut fresh, mut saved) = (Answers::default(), Answers::default());
        for name in &names {
            *fresh.file_mut(name) = Some(new_file(&self.folder, name));
            *saved.file_mut(name) = Some(saved_file(&self.folder, name));
        }
        let keep = || names.iter().try_for_each(|name| self.keep(name));
        self.enrichment.reload_with_answers(&self.config, &fresh, saved, keep).map_err(|error| error.errors)
    }

    /// Tells what changed about leases. The first answer ever is compared with nothing.
    fn take_leases(&mut self) -> Result<bool, Vec<SourceError>> {
        let (new, saved) = (new_file(&self.folder, LEASES), saved_file(&self.folder, LEASES));
        if is_same(&saved, &new) || !self.enrichment.asks(&self.config) {
            return Ok(false);
        }
        let named = |errors: Vec<SourceError>| errors.into_iter().map(|e| about_query(LEASES, e)).collect::<Vec<_>>();
        let now = sources::read_leases(&new).map_err(named)?;
        // A saved answer that cannot be read any more is as good as none: everything is put again.
        let before =
            if saved.is_file() { sources::read_leases(&saved).unwrap_or_default() } else { Default::default() };
        let mut changes = LeaseChanges::default();
        changes
            .put
            .extend(now.iter().filter(|(ip, row)| before.get(*ip) != Some(row)).map(|(ip, row)| (*ip, row.clone())));
        changes.gone.extend(before.iter().filter(|(ip, _)| !now.contains_key(*ip)).map(|(ip, row)| (*ip, row.clone())));
        let problem = |problem: String| vec![about_query(LEASES, SourceError::about(&new, problem))];
        (self.on_leases)(&changes).map_err(problem)?;
        self.keep(LEASES).map_err(|error| vec![error])?;
        Ok(true)
    }

    fn keep(&self, name: &str) -> Result<(), SourceError> {
        let (new, saved) = (new_file(&self.folder, name), saved_file(&self.folder, name));
        std::fs::rename(&new, &saved)
            .map_err(|error| SourceError::about(&saved, format_args!("cannot be kept: {error}")))
    }
}

/// Whether two files hold the same. Files that cannot be read do not.
fn is_same(a: &Path, b: &Path) -> bool {
    let length = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.len()).ok();
    length(a).is_some()
        && length(a) == length(b)
        && matches!((std::fs::read(a), std::fs::read(b)), (Ok(a), Ok(b)) if a == b)
}
