//! The worker's part: fills the enrichment columns of a batch, column by column, from one table and the leases.
//!
//! One look-up an address gives the number of a record; everything else is arrays. The table is loaded once a batch, so a
//! batch is consistent with one generation. Columns that nothing configured can fill stay all-null.

mod codes;
mod places;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Enrichment;
use super::app::{App, Service};
use super::dpi::{Dpi, Tuple};
use super::leases::{Leases, LeasesRead};
use super::table::{Holder, Record, Table};
use crate::flow::column::{Column, IpColumn};
use crate::flow::{Addr, CutSpan, Direction, FlowBatch};
use codes::Codes;

/// Rows between two locks of the leases: about 0.1 ms, so that a change of a lease waits no longer.
const ROWS_PER_LEASE_LOCK: usize = 4096;

/// How many rows ahead records and holders are fetched into the cache.
const ROWS_AHEAD: usize = 16;

/// Fills the enrichment columns. One a worker; keeps its scratch memory from batch to batch.
#[derive(Debug)]
pub struct Enricher {
    shared: Arc<Enrichment>,
    src: Vec<u32>,
    dst: Vec<u32>,
    sides: Vec<Side>,
    who: Vec<Who>,
    /// Row and who, of the destinations of internal flows.
    destinations: Vec<(u32, Who)>,
    services: Vec<Service>,
    apps: Vec<App>,
    codes: ColumnCodes,
}

/// One map of codes a dictionary column.
#[derive(Debug, Default)]
struct ColumnCodes {
    nas: Codes,
    site: Codes,
    subscriber: Codes,
    reseller: Codes,
    app: Codes,
    category: Codes,
    internal_subscriber: Codes,
    internal_reseller: Codes,
    internal_site: Codes,
}

/// What the records of a row's two addresses say, gathered in one pass.
#[derive(Clone, Copy, Debug)]
struct Side {
    src: Record,
    dst: Record,
    direction: Direction,
}

/// Who and where a row's customer is, in numbers of names; 0 = unknown.
#[derive(Clone, Copy, Debug, Default)]
struct Who {
    subscriber: u32,
    reseller: u32,
    nas: u32,
    site: u32,
}

impl Who {
    fn is_known(&self) -> bool {
        self.subscriber != 0 || self.reseller != 0 || self.site != 0
    }
}

impl From<&Holder> for Who {
    fn from(holder: &Holder) -> Self {
        Self { subscriber: holder.subscriber, reseller: holder.reseller, nas: holder.nas, site: holder.site }
    }
}

impl Side {
    /// The record of the customer, the source's for internal and transit flows.
    #[inline]
    fn customer(&self) -> &Record {
        if self.direction == Direction::In { &self.dst } else { &self.src }
    }
}

impl Enricher {
    /// An enricher over the process's enrichment.
    pub fn new(shared: Arc<Enrichment>) -> Self {
        Self {
            shared,
            src: Vec::new(),
            dst: Vec::new(),
            sides: Vec::new(),
            who: Vec::new(),
            destinations: Vec::new(),
            services: Vec::new(),
            apps: Vec::new(),
            codes: ColumnCodes::default(),
        }
    }

    /// Fills direction, countries, AS, service port, application, category, subscriber, reseller, access server and site of
    /// every row, whatever these columns held before (the exporter's AS numbers stay where they are not 0).
    pub fn enrich(&mut self, batch: &mut FlowBatch) {
        let shared = self.shared.clone();
        let table = shared.table();
        let table: &Table = &table;
        find(table, &batch.src_ip, &mut self.src);
        find(table, &batch.dst_ip, &mut self.dst);
        // Leases come first, and where there are any they mostly hold all customers.
        let by_table = shared.leases().is_empty();
        self.gather(table, by_table);
        self.fill_where(table, batch);
        self.fill_services(table, batch);
        self.find_who(table, shared.leases(), batch);
        places::find_places(table, batch, &self.sides, &mut self.who);
        places::find_destination_places(table, batch, &self.sides, &mut self.destinations);
        self.fill_who(table, batch);
    }

    fn gather(&mut self, table: &Table, by_table: bool) {
        self.sides.clear();
        self.sides.extend(self.src.iter().zip(&self.dst).enumerate().map(|(row, (src, dst))| {
            for numbers in [&self.src, &self.dst] {
                numbers.get(row + ROWS_AHEAD).inspect(|ahead| table.prefetch_record(**ahead));
            }
            let (src, dst) = (*table.record(*src), *table.record(*dst));
            let direction = match (src.customer, dst.customer) {
                (false, true) => Direction::In,
                (true, false) => Direction::Out,
                (true, true) => Direction::Internal,
                (false, false) => Direction::Transit,
            };
            let side = Side { src, dst, direction };
            if by_table {
                table.prefetch_party(side.customer().party);
            }
            side
        }));
    }

    /// Direction, countries, AS.
    fn fill_where(&mut self, table: &Table, batch: &mut FlowBatch) {
        let sides = &self.sides;
        batch.direction.clear();
        batch.direction.extend(sides.iter().map(|side| side.direction as u8));
        let has = table.has();
        for (column, country) in [
            (&mut batch.src_country, (|side| side.src.country) as fn(&Side) -> u16),
            (&mut batch.dst_country, |side| side.dst.country),
        ] {
            column.clear();
            match has.country {
                true => column.extend_options(sides.iter().map(|side| Some(country(side)).filter(|c| *c != 0))),
                false => column.push_nulls(sides.len()),
            }
        }
        fill_as(&mut batch.src_as, has.asn, sides.iter().map(|side| side.src.asn));
        fill_as(&mut batch.dst_as, has.asn, sides.iter().map(|side| side.dst.asn));
    }

    fn fill_services(&mut self, table: &Table, batch: &mut FlowBatch) {
        let apps = table.apps();
        let rows = self.sides.len();
        self.services.clear();
        self.services.extend((0..rows).map(|row| {
            let ports = (batch.src_port.value_or_default(row), batch.dst_port.value_or_default(row));
            apps.service(batch.protocol.value_or_default(row), ports.0, ports.1)
        }));
        batch.service_port.clear();
        batch.service_port.extend_options(self.services.iter().map(|service| service.port));
        let names = &table.names().texts;
        self.apps.clear();
        self.apps.extend(self.services.iter().map(|service| apps.app(service.app).unwrap_or_default()));
        if !self.shared.dpi().is_empty() {
            inspect(self.shared.dpi(), batch, &mut self.apps);
        }
        self.codes.app.fill(&mut batch.app, names, self.apps.iter().map(|app| app.name));
        self.codes.category.fill(&mut batch.app_category, names, self.apps.iter().map(|app| app.category));
    }

    /// Who has the customers' addresses, by leases first, then by static subscribers, at each flow's end.
    /// A flow that began before they had them is cut there for pro-rating; an internal one where the later of both began.
    fn find_who(&mut self, table: &Table, leases: &Leases, batch: &mut FlowBatch) {
        let rows = self.sides.len();
        self.who.clear();
        self.destinations.clear();
        batch.cut_spans.clear();
        let (by_lease, by_table) = (!leases.is_empty(), table.has().holders);
        if !by_lease && !by_table && table.sites().is_empty() {
            self.who.resize(rows, Who::default());
        }
        while self.who.len() < rows {
            let leases = by_lease.then(|| leases.read());
            let from = self.who.len();
            let chunk = &self.sides[from..rows.min(from + ROWS_PER_LEASE_LOCK)];
            for (row, side) in (from..).zip(chunk) {
                if !by_lease {
                    self.sides.get(row + ROWS_AHEAD).inspect(|ahead| table.prefetch_holder(ahead.customer().party));
                }
                let time_ms = batch.time.value_or_default(row);
                let mut since_ms = i64::MIN;
                let mut holder = |record: &Record, addrs: &IpColumn| {
                    if side.direction == Direction::Transit {
                        return Who::default();
                    }
                    let addr = || addrs.get(row).unwrap_or_default();
                    let Some(holder) = holder(table, leases.as_ref(), record, addr, time_ms) else {
                        return Who::default();
                    };
                    since_ms = since_ms.max(holder.from_ms);
                    Who::from(holder)
                };
                self.who.push(match side.direction {
                    Direction::In => holder(&side.dst, &batch.dst_ip),
                    _ => holder(&side.src, &batch.src_ip),
                });
                if side.direction == Direction::Internal {
                    self.destinations.push((row as u32, holder(&side.dst, &batch.dst_ip)));
                }
                if since_ms > batch.flow_start.value_or_default(row) {
                    batch.cut_spans.push(CutSpan { row: row as u32, start_ms: since_ms });
                }
            }
        }
    }

    fn fill_who(&mut self, table: &Table, batch: &mut FlowBatch) {
        let (codes, who, names) = (&mut self.codes, &self.who, table.names());
        codes.nas.fill(&mut batch.nas_id, &names.texts, who.iter().map(|who| who.nas));
        codes.site.fill(&mut batch.site, &names.texts, who.iter().map(|who| who.site));
        codes.subscriber.fill_many(&mut batch.subscriber_id, &names.uuids, who.iter().map(|who| who.subscriber));
        codes.reseller.fill(&mut batch.reseller_id, &names.uuids, who.iter().map(|who| who.reseller));
        self.destinations.retain(|(_, who)| who.is_known());
        let (internal, destinations) = (&mut batch.internal, &self.destinations);
        internal.rows.clear();
        internal.rows.extend(destinations.iter().map(|(row, _)| *row));
        let who = destinations.iter().map(|(_, who)| who);
        let (subscribers, resellers) = (who.clone().map(|who| who.subscriber), who.clone().map(|who| who.reseller));
        codes.internal_subscriber.fill(&mut internal.subscriber_id, &names.uuids, subscribers);
        codes.internal_reseller.fill(&mut internal.reseller_id, &names.uuids, resellers);
        codes.internal_site.fill(&mut internal.site, &names.texts, who.map(|who| who.site));
    }
}

#[inline]
fn holder<'a>(
    table: &'a Table,
    leases: Option<&'a LeasesRead<'_>>,
    record: &Record,
    addr: impl Fn() -> Addr,
    time_ms: i64,
) -> Option<&'a Holder> {
    leases.and_then(|leases| leases.get(addr(), time_ms)).or_else(|| table.holder(record.party, time_ms))
}

/// Names by inspection what the ports do not name.
fn inspect(dpi: &Dpi, batch: &FlowBatch, apps: &mut [App]) {
    let mut hits = 0;
    for (row, app) in apps.iter_mut().enumerate().filter(|(_, app)| app.name == 0) {
        let (Some(src), Some(dst)) = (batch.src_ip.get(row), batch.dst_ip.get(row)) else { continue };
        let ports = (batch.src_port.value_or_default(row), batch.dst_port.value_or_default(row));
        let tuple = Tuple::new((src, ports.0), (dst, ports.1), batch.protocol.value_or_default(row));
        let (start_ms, end_ms) = (batch.flow_start.value_or_default(row), batch.time.value_or_default(row));
        if let Some(found) = dpi.find(&tuple, start_ms, end_ms) {
            *app = found;
            hits += 1;
        }
    }
    dpi.count_hits(hits);
}

/// The record number of every row's address. A null address has the record of an unknown one.
fn find(table: &Table, addrs: &IpColumn, numbers: &mut Vec<u32>) {
    numbers.clear();
    match addrs.all_v4() {
        Some(all) => numbers.extend(all.iter().map(|&addr| table.find_v4(addr))),
        None => numbers.extend((0..addrs.len()).map(|row| addrs.get(row).map_or(0, |addr| table.find(addr)))),
    }
}

/// The exporter's AS where it is not 0, else the database's; null when that is 0 too.
fn fill_as(column: &mut Column<u32>, by_table: bool, found: impl ExactSizeIterator<Item = u32> + Clone) {
    let given = !column.values().iter().all(|&asn| asn == 0);
    if given {
        for (row, found) in found.enumerate() {
            let asn = Some(column.value_or_default(row)).filter(|asn| *asn != 0).unwrap_or(found);
            column.set(row, Some(asn).filter(|asn| *asn != 0));
        }
        return;
    }
    let rows = found.len();
    column.clear();
    match by_table {
        true => column.extend_options(found.map(|asn| Some(asn).filter(|asn| *asn != 0))),
        false => column.push_nulls(rows),
    }
}
