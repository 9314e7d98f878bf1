//! What feeds the enrichment from outside with threads of its own: the queries of `[enrich.sql]`, the events of `[enrich] dpi`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::StartError;
use super::collector::tell_reload;
use crate::control::leases::LeaseBook;
use crate::enrich::dpi::{DpiSource, Place};
use crate::enrich::sql::{Ending, LeaseChanges, SqlConfig, SqlSource};
use crate::enrich::{Enrichment, ReloadError, ReloadReport};
use crate::flow::time::now_ms;

/// Folder in the data folder with the last good answers of `[enrich.sql]`.
const ANSWERS_FOLDER: &str = "enrich";

/// The folder of the answers.
pub(super) fn answers_folder(data: &Path) -> PathBuf {
    data.join(ANSWERS_FOLDER)
}

/// The threads.
#[derive(Debug)]
pub(super) struct Feeds {
    enrichment: Arc<Enrichment>,
    leases: Arc<LeaseBook>,
    answers: PathBuf,
    sql: Option<(SqlConfig, SqlSource)>,
    /// A thread of queries that was told to end and may still be at it.
    ending: Ending,
    dpi: Option<(Place, DpiSource)>,
}

/// Events of another place, being read already.
#[derive(Debug)]
pub(super) enum DpiChange {
    /// The place is the same.
    None,
    /// Another place, or none.
    To(Option<(Place, DpiSource)>),
}

impl Feeds {
    /// Nothing yet. `data` is the data folder.
    pub fn new(enrichment: Arc<Enrichment>, leases: Arc<LeaseBook>, data: &Path) -> Self {
        let answers = answers_folder(data);
        Self { enrichment, leases, answers, sql: None, ending: Ending::default(), dpi: None }
    }

    /// Begins to read events from another place than now. What is read now goes on until [`Feeds::read_dpi`].
    ///
    /// # Errors
    /// The place cannot be read from; nothing has changed.
    pub fn open_dpi(&self, dpi: Option<&str>, base: &Path) -> Result<DpiChange, StartError> {
        let place = dpi.map(|dpi| Place::parse(dpi, base));
        if place.as_ref() == self.dpi.as_ref().map(|(place, _)| place) {
            return Ok(DpiChange::None);
        }
        let open = |place: Place| match DpiSource::spawn(self.enrichment.clone(), &place) {
            Ok(source) => Ok((place, source)),
            Err(error) => Err(StartError(format!("[enrich] dpi {}: {error}", dpi.unwrap_or_default()))),
        };
        place.map(open).transpose().map(DpiChange::To)
    }

    /// Leaves the former place.
    pub fn read_dpi(&mut self, change: DpiChange) {
        if let DpiChange::To(dpi) = change {
            self.dpi = dpi;
        }
    }

    /// Asks these queries from now on, and hands the leases among the answers on.
    ///
    /// # Errors
    /// The folder of the answers or the thread cannot be made: nothing is asked then.
    pub fn ask_sql(&mut self, config: Option<SqlConfig>) -> Result<(), StartError> {
        if config.as_ref() == self.sql.as_ref().map(|(config, _)| config) {
            return Ok(());
        }
        if let Some((_, source)) = self.sql.take() {
            self.ending = source.end();
        }
        let Some(config) = config else { return Ok(()) };
        let leases = self.leases.clone();
        let on_leases = Box::new(move |changes: &LeaseChanges| leases.take_changes(changes, now_ms()));
        let on_answer = Box::new(|result: Result<Option<ReloadReport>, ReloadError>| match result {
            Ok(Some(report)) => tell_reload(Ok(report)),
            Ok(None) => tracing::debug!("leases have changed by [enrich.sql]"),
            Err(error) => tell_reload(Err(error)),
        });
        let (before, enrichment) = (std::mem::take(&mut self.ending), self.enrichment.clone());
        let source =
            SqlSource::spawn_after(before, enrichment, config.clone(), self.answers.clone(), on_leases, on_answer);
        self.sql = Some((config, source.map_err(|error| StartError(format!("[enrich.sql] {error}")))?));
        Ok(())
    }

    /// Ends all of it; a query that is under way is left behind.
    pub fn stop(&mut self) {
        (self.sql, self.dpi) = (None, None);
    }
}
