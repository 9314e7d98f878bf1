//! The worker's part: fills the enrichment columns of a batch, column by column, from one table and the leases.
//!
//! One look-up an address gives the number of a record; everything else is arrays. The table is loaded once a batch, so a
//! batch is consistent with one generation. Columns that nothing configured can fill stay all-null.

mod codes;
mod places;
mod services;
mod sides;
#[cfg(test)]
mod tests;

use std::hint::select_unpredictable;
use std::sync::Arc;

use super::Enrichment;
use super::leases::{History, LOOKED_UP_TOGETHER, Leases};
use super::table::{Holder, Table};
use crate::flow::column::Column;
use crate::flow::{Addr, CutSpan, Direction, FlowBatch};
use codes::Codes;
use services::Services;
use sides::{Side, Sides};

/// Rows between two locks of the leases: about 0.1 ms, so that a change of a lease waits no longer.
const ROWS_PER_LEASE_LOCK: usize = 4096;

/// How many rows ahead records and holders are fetched into the cache.
const ROWS_AHEAD: usize = 32;

/// How many rows ahead parties are, which are asked where their holders are by the time that these are fetched.
const PARTIES_AHEAD: usize = 4 * ROWS_AHEAD;

/// Fills the enrichment columns. One a worker; keeps its scratch memory from batch to batch.
#[derive(Debug)]
pub struct Enricher {
    shared: Arc<Enrichment>,
    sides: Sides,
    who: Vec<Who>,
    /// Row and who, of the destinations of internal flows.
    destinations: Vec<(u32, Who)>,
    services: Services,
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

impl Enricher {
    /// An enricher over the process's enrichment.
    pub fn new(shared: Arc<Enrichment>) -> Self {
        Self {
            shared,
            sides: Sides::default(),
            who: Vec::new(),
            destinations: Vec::new(),
            services: Services::default(),
            codes: ColumnCodes::default(),
        }
    }

    /// Fills direction, countries, AS, service port, application, category, subscriber, reseller, access server and site of
    /// every row, whatever these columns held before (the exporter's AS numbers stay where they are not 0).
    pub fn enrich(&mut self, batch: &mut FlowBatch) {
        let shared = self.shared.clone();
        let table = shared.table();
        let table: &Table = &table;
        self.sides.find(table, batch);
        self.fill_where(table, batch);
        self.services.find(table.apps(), shared.dpi(), batch);
        let names = &table.names().texts;
        self.codes.app.fill(&mut batch.app, names, self.services.apps().map(|app| app.name));
        self.codes.category.fill(&mut batch.app_category, names, self.services.apps().map(|app| app.category));
        self.find_who(table, shared.leases(), batch);
        places::find_places(table, batch, &self.sides.sides, &mut self.who);
        places::find_destination_places(table, batch, &self.sides.sides, &mut self.destinations);
        self.fill_who(table, batch);
    }

    /// Direction, countries, AS.
    fn fill_where(&self, table: &Table, batch: &mut FlowBatch) {
        let sides = &self.sides;
        batch.direction.clear();
        batch.direction.extend(sides.sides.iter().map(|side| side.direction as u8));
        let has = table.has();
        for (column, countries) in
            [(&mut batch.src_country, &sides.src_countries), (&mut batch.dst_country, &sides.dst_countries)]
        {
            column.clear();
            match has.country {
                true => column.extend_options(countries.iter().map(|country| Some(*country).filter(|c| *c != 0))),
                false => column.push_nulls(countries.len()),
            }
        }
        fill_as(&mut batch.src_as, has.asn, &sides.src_as);
        fill_as(&mut batch.dst_as, has.asn, &sides.dst_as);
    }

    /// Who has the customers' addresses, by leases first, then by static subscribers, at each flow's end.
    /// A flow that began before they had them is cut there for pro-rating; an internal one where the later of both began.
    fn find_who(&mut self, table: &Table, leases: &Leases, batch: &mut FlowBatch) {
        let rows = self.sides.sides.len();
        self.who.clear();
        self.destinations.clear();
        batch.cut_spans.clear();
        let (by_lease, by_table) = (!leases.is_empty(), table.has().holders);
        if !by_lease && !by_table && table.sites().is_empty() {
            return self.who.resize(rows, Who::default());
        }
        if !by_lease {
            return self.find_holders(table, batch, 0..rows, true, |_| None, |_| None);
        }
        while self.who.len() < rows {
            let leases = leases.read();
            let upto = rows.min(self.who.len() + ROWS_PER_LEASE_LOCK);
            while self.who.len() < upto {
                let from = self.who.len();
                let group = from..upto.min(from + LOOKED_UP_TOGETHER);
                let mut addrs = [Addr::default(); LOOKED_UP_TOGETHER];
                gather_customers(&self.sides.sides[group.clone()], batch, from, &mut addrs);
                let histories = leases.find_all(&addrs[..group.len()]);
                // They mostly hold all customers: what the table knows is not fetched.
                self.find_holders(table, batch, group, false, |row| histories[row - from], |addr| leases.find(addr));
            }
        }
    }

    /// As [`Enricher::find_who`] for some rows, with what the leases know of the row's customer, and of any address. `fetches`
    /// says that most customers are the table's, so that what it knows of rows ahead comes into the cache.
    #[inline]
    fn find_holders<'a>(
        &mut self,
        table: &Table,
        batch: &mut FlowBatch,
        rows: std::ops::Range<usize>,
        fetches: bool,
        history_of: impl Fn(usize) -> Option<&'a History>,
        history: impl Fn(Addr) -> Option<&'a History>,
    ) {
        let sides = &self.sides.sides;
        for row in rows {
            let side = &sides[row];
            if fetches {
                sides.get(row + PARTIES_AHEAD).inspect(|ahead| table.prefetch_party(ahead.party));
                sides.get(row + ROWS_AHEAD).inspect(|ahead| table.prefetch_holder(ahead.party));
            }
            let time_ms = batch.time.value_or_default(row);
            let mut since_ms = i64::MIN;
            let mut who_has = |party: u32, history: Option<&History>| {
                let lease = history.and_then(|history| history.at(time_ms)).map(|lease| &lease.holder);
                let Some(holder) = lease.or_else(|| table.holder(party, time_ms)) else { return Who::default() };
                since_ms = since_ms.max(holder.from_ms);
                Who::from(holder)
            };
            self.who.push(who_has(side.party, history_of(row).filter(|_| side.direction != Direction::Transit)));
            if side.direction == Direction::Internal {
                let party = table.record(side.dst).party;
                let of_destination = history(batch.dst_ip.get(row).unwrap_or_default());
                self.destinations.push((row as u32, who_has(party, of_destination)));
            }
            if since_ms > batch.flow_start.value_or_default(row) {
                batch.cut_spans.push(CutSpan { row: row as u32, start_ms: since_ms });
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

/// The customers' addresses of some rows, from `first` on; in transit, the sources'.
fn gather_customers(sides: &[Side], batch: &FlowBatch, first: usize, customers: &mut [Addr]) {
    if let Some((src, dst)) = batch.src_ip.all_v4().zip(batch.dst_ip.all_v4()) {
        let addrs = src[first..].iter().zip(&dst[first..]);
        for ((side, (src, dst)), customer) in sides.iter().zip(addrs).zip(customers) {
            // Which it is nobody can foresee: no branch asks.
            *customer = Addr::v4(select_unpredictable(side.direction == Direction::In, *dst, *src));
        }
        return;
    }
    for ((row, side), customer) in (first..).zip(sides).zip(customers) {
        let addrs = if side.direction == Direction::In { &batch.dst_ip } else { &batch.src_ip };
        *customer = addrs.get(row).unwrap_or_default();
    }
}

/// The exporter's AS where it is not 0, else the database's; null when that is 0 too.
fn fill_as(column: &mut Column<u32>, by_table: bool, found: &[u32]) {
    let known = |asn: u32| Some(asn).filter(|asn| *asn != 0);
    if column.values().iter().all(|&asn| asn == 0) {
        column.clear();
        match by_table {
            true => column.extend_options(found.iter().map(|asn| known(*asn))),
            false => column.push_nulls(found.len()),
        }
        return;
    }
    for (row, found) in found.iter().enumerate() {
        let asn = known(column.value_or_default(row)).unwrap_or(*found);
        column.set(row, known(asn));
    }
}
