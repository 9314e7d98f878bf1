//! Access server and site of a row: what the holder's own record says, else the most specific rule of `sites`: exporter and
//! interface, engine, customer prefix, exporter.

use super::{Side, Who};
use crate::enrich::sites::ExporterRules;
use crate::enrich::table::Table;
use crate::flow::{Addr, Direction, FlowBatch, SourceRun};

/// Exports before version 9 number engines in 8 bits beside the engine's type.
const ENGINE_ID_8_BITS_MAX_VERSION: u8 = 8;

/// What is the same for a run of rows: the exporter's rules and its engine's site.
struct Run<'a> {
    exporter_code: u32,
    source: Option<u32>,
    exporter: Addr,
    rules: Option<&'a ExporterRules>,
    by_engine: Option<u32>,
}

/// Finds the runs of ascending rows. Neighbours mostly share their run: rules are looked up when it changes.
struct Runs<'a> {
    table: &'a Table,
    batch: &'a FlowBatch,
    sources: std::slice::Iter<'a, SourceRun>,
    /// Source of the rows before `source_end`.
    source: Option<u32>,
    source_end: usize,
    run: Option<Run<'a>>,
}

impl<'a> Runs<'a> {
    fn new(table: &'a Table, batch: &'a FlowBatch) -> Self {
        Self { table, batch, sources: batch.sources.iter(), source: None, source_end: 0, run: None }
    }

    fn at(&mut self, row: usize) -> &Run<'a> {
        while row >= self.source_end {
            let next = self.sources.next();
            self.source = next.map(|run| run.source_id);
            self.source_end = next.map_or(usize::MAX, |run| self.source_end + run.rows as usize);
        }
        let source = self.source;
        let code = self.batch.exporter_ip.codes()[row];
        if self.run.as_ref().is_some_and(|run| run.exporter_code != code || run.source != source) {
            self.run = None;
        }
        let (table, batch) = (self.table, self.batch);
        self.run.get_or_insert_with(|| {
            let exporter = batch.exporter_ip.value(code).copied().unwrap_or_default();
            let rules = table.sites().exporter(exporter);
            let version = batch.netflow_version.value_or_default(row);
            let engine = source.map(|id| if version <= ENGINE_ID_8_BITS_MAX_VERSION { id & 0xff } else { id });
            let by_engine = engine.and_then(|engine| table.sites().by_engine(rules, engine));
            Run { exporter_code: code, source, exporter, rules, by_engine }
        })
    }
}

impl Run<'_> {
    /// The site by rules, for a customer behind the first of these interfaces, else the other.
    fn site(&self, table: &Table, interfaces: [Option<u32>; 2], site_group: u32) -> Option<u32> {
        let by_interface = |rules: &ExporterRules| {
            interfaces.into_iter().flatten().find_map(|interface| rules.by_interface(interface))
        };
        self.rules
            .and_then(by_interface)
            .or(self.by_engine)
            .or_else(|| table.site_of_group(site_group, self.exporter))
            .or_else(|| self.rules.and_then(ExporterRules::default_site))
    }
}

fn complete(who: &mut Who, table: &Table, site: Option<u32>) {
    let Some(site) = site.map(|site| table.sites().site(site)) else { return };
    if who.nas == 0 && who.site == 0 {
        (who.nas, who.site) = (site.nas, site.site);
    }
    if who.reseller == 0 {
        who.reseller = site.reseller;
    }
}

/// Completes who has each row by where it is. The customer's interface is the input of what leaves it (`out`, `internal`;
/// `transit` has no customer and takes the input first too) and the output of what comes to it.
pub(super) fn find_places(table: &Table, batch: &FlowBatch, sides: &[Side], who: &mut [Who]) {
    if table.sites().is_empty() {
        return;
    }
    let mut runs = Runs::new(table, batch);
    for (row, (side, who)) in sides.iter().zip(who).enumerate() {
        let run = runs.at(row);
        let mut interfaces = [batch.input_if.get(row), batch.output_if.get(row)];
        if side.direction == Direction::In {
            interfaces.reverse();
        }
        complete(who, table, run.site(table, interfaces, side.customer(table).site_group));
    }
}

/// The same for the destinations of internal flows: their interface is the output.
pub(super) fn find_destination_places(
    table: &Table,
    batch: &FlowBatch,
    sides: &[Side],
    destinations: &mut [(u32, Who)],
) {
    if table.sites().is_empty() {
        return;
    }
    let mut runs = Runs::new(table, batch);
    for (row, who) in destinations {
        let row = *row as usize;
        let interfaces = [batch.output_if.get(row), batch.input_if.get(row)];
        complete(who, table, runs.at(row).site(table, interfaces, table.record(sides[row].dst).site_group));
    }
}
