//! When ranges of the index on flows are summarised: each minute, and at high rates after so many rows, since every question
//! about one subscriber reads what is not summarised.

use std::collections::BTreeSet;

use postgres::Client;
use sink_api::SinkError;
use sink_api::time::DAY_MS;

use super::pulled::FlowRows;
use crate::config::Config;
use crate::schema::{self, Layout, Table};

/// Pause between two runs: one looks at every range of the day, a third of a second for 50 million rows.
const EVERY_MS: i64 = 60_000;

/// Rows after which a run does not wait for its time: some 200 MB, which a question reads in a tenth of a second.
const ROWS: usize = 1_000_000;

/// What was written since the last run.
#[derive(Debug)]
pub(super) struct Summaries {
    /// Starts of the days of the rows, ms since the Unix epoch.
    days: BTreeSet<i64>,
    rows: usize,
    next_ms: i64,
}

impl Default for Summaries {
    fn default() -> Self {
        Self { days: BTreeSet::new(), rows: 0, next_ms: i64::MIN }
    }
}

impl Summaries {
    /// Takes note of rows that are about to be written.
    pub fn note(&mut self, flows: &[FlowRows]) {
        for part in flows {
            let times = part.batch().time.values();
            let mut last = None;
            for day in part.rows.iter().map(|row| times[*row as usize].div_euclid(DAY_MS) * DAY_MS) {
                if last.replace(day) != Some(day) {
                    self.days.insert(day);
                }
            }
            self.rows += part.rows.len();
        }
    }

    /// Has them summarised when it is time.
    pub fn run(
        &mut self,
        client: &mut Client,
        config: &Config,
        layout: Layout,
        flows: &Table,
        now_ms: i64,
    ) -> Result<(), SinkError> {
        if self.days.is_empty() || now_ms < self.next_ms && self.rows < ROWS {
            return Ok(());
        }
        schema::summarise(client, config, layout, flows, &self.days)?;
        *self = Self { next_ms: now_ms.saturating_add(EVERY_MS), ..Self::default() };
        Ok(())
    }
}
