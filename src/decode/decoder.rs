//! From a slab to a batch of columns.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::layout::Layout;
use super::quarantine::{Absurdity, Quarantine, SetAside, absurdity, any_absurd};
use super::rules::{Rate, Rule, Rules, sampling_rate};
use super::times::Clock;
use super::words::Words;
use crate::flow::{FlowBatch, SourceRun};
use crate::receive::{Frame, Slab, SlabStream};

/// Datagrams decoded together: 16 of 1,464 bytes and their columns stay in the first-level cache, and the cost of a move's
/// set-up is spread over 480 records.
const BLOCK_FRAMES: usize = 16;

/// Decodes slabs. One per worker; reuses its memory.
#[derive(Debug)]
pub struct Decoder {
    rules: Arc<ArcSwap<Rules>>,
    quarantine: Arc<Quarantine>,
    words: Words,
    tallies: Vec<Tally>,
    /// One entry a row of the batch, only once some row is left out.
    keep: Vec<bool>,
    rows: usize,
}

/// What was found in the datagrams of one stream of a slab, in the order of [`Slab::streams`].
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Flows in the batch.
    pub flows: u64,
    /// Their bytes, scaled.
    pub bytes: u64,
    /// Their packets, scaled.
    pub packets: u64,
    absurd: u64,
    second_view: u64,
    clamped: u64,
    clock_replaced: u64,
    sampling_missing: u64,
    skew_ms: i64,
    rate: u32,
    rule: Option<Arc<Rule>>,
    exporter_code: u32,
}

impl Decoder {
    /// A decoder with these rules, which may be replaced while it runs.
    pub fn new(rules: Arc<ArcSwap<Rules>>, quarantine: Arc<Quarantine>) -> Self {
        Self { rules, quarantine, words: Words::default(), tallies: Vec::new(), keep: Vec::new(), rows: 0 }
    }

    /// Fills the batch, whose memory is reused, with the flows of the slab. Oddities are counted in the exporters' accounts;
    /// the flows themselves are booked once the log has answered, see [`Decoder::book_logged`].
    pub fn decode(&mut self, slab: &Slab, batch: &mut FlowBatch) {
        batch.clear();
        self.keep.clear();
        self.rows = 0;
        let rules = self.rules.load();
        self.begin_tallies(slab, &rules, batch);
        let (mut frames, mut version_before) = (slab.frames(), 0);
        while let Some(first) = frames.first() {
            let version = first.header.version;
            let alike = frames.iter().take(BLOCK_FRAMES).take_while(|frame| frame.header.version == version).count();
            let (block, rest) = frames.split_at(alike);
            if let Some(layout) = Layout::of_version(version) {
                if version != version_before {
                    // Columns that the version before does not carry must not fall behind.
                    batch.fill_missing();
                    reserve(layout, (slab.flows() as usize).saturating_sub(self.rows), batch);
                    version_before = version;
                }
                layout.run(slab.bytes(), block, &mut self.words, batch);
                for frame in block {
                    self.finish_frame(layout, frame, slab, &rules, batch);
                }
            }
            frames = rest;
        }
        batch.fill_missing();
        if !self.keep.is_empty() {
            self.keep.resize(self.rows, true);
            batch.retain(&self.keep);
        }
        self.end_tallies(slab, batch);
    }

    /// What was found, one entry a stream of the slab decoded last.
    pub fn tallies(&self) -> &[Tally] {
        &self.tallies
    }

    /// Books the flows of the slab decoded last as logged.
    pub fn book_logged(&self, slab: &Slab) {
        for (tally, SlabStream { account, .. }) in self.tallies.iter().zip(slab.streams()) {
            account.logged_flows.add(tally.flows);
            account.bytes.add(tally.bytes);
            account.packets.add(tally.packets);
        }
        slab.streams().iter().for_each(SlabStream::book_losses);
    }

    /// Books the flows of the slab decoded last as refused by the log.
    pub fn book_refused(&self, slab: &Slab) {
        for (tally, SlabStream { account, .. }) in self.tallies.iter().zip(slab.streams()) {
            account.log_refused_flows.add(tally.flows);
        }
    }

    fn begin_tallies(&mut self, slab: &Slab, rules: &Rules, batch: &mut FlowBatch) {
        self.tallies.clear();
        for SlabStream { progress, .. } in slab.streams() {
            let rule = rules.of(progress.exporter).cloned();
            let exporter_code = batch.exporter_ip.intern(&progress.exporter);
            self.tallies.push(Tally { rule, exporter_code, ..Tally::default() });
        }
    }

    /// The rows of one datagram have been moved: leaves out what does not count, makes times absolute, scales by sampling,
    /// fills what is alike for the whole datagram.
    fn finish_frame(&mut self, layout: &Layout<'_>, frame: &Frame, slab: &Slab, rules: &Rules, batch: &mut FlowBatch) {
        let stream = frame.stream as usize;
        let (Some(tally), Some(from)) = (self.tallies.get_mut(stream), slab.streams().get(stream)) else { return };
        let records = layout.records(slab.bytes(), frame);
        let count = records.len() / layout.record_bytes;
        let rows = self.rows..self.rows + count;
        self.rows = rows.end;

        let mut view = Rows {
            starts: &mut batch.flow_start.values_mut()[rows.clone()],
            ends: &mut batch.time.values_mut()[rows.clone()],
            bytes: &mut batch.bytes.values_mut()[rows.clone()],
            packets: &mut batch.packets.values_mut()[rows.clone()],
        };
        let mut left_out = 0;
        if any_absurd(view.starts, view.ends, view.bytes, view.packets) {
            self.keep.resize(rows.end, true);
            let records = records.chunks_exact(layout.record_bytes);
            for (row, (keep, record)) in self.keep[rows.clone()].iter_mut().zip(records).enumerate() {
                if let Some(why) = view.absurdity(row) {
                    *keep = false;
                    left_out += 1;
                    self.quarantine.push(SetAside::new(why, frame, &from.progress, record));
                }
            }
            tally.absurd += left_out;
        }
        if let Some(rule) = tally.rule.as_ref().filter(|rule| rule.leaves_out_second_views()) {
            self.keep.resize(rows.end, true);
            for (row, keep) in rows.clone().zip(&mut self.keep[rows.clone()]).filter(|(_, keep)| **keep) {
                *keep = rule.counts(batch.input_if.value_or_default(row), batch.output_if.value_or_default(row));
                tally.second_view += u64::from(!*keep);
                left_out += u64::from(!*keep);
            }
        }
        tally.apply_clock(frame, rules.clock_skew_max_ms, &mut view);
        let rate = tally.apply_sampling(frame, from, &mut view);
        tally.add(&view, (left_out > 0).then(|| &self.keep[rows]));

        batch.received_at.push_repeated(frame.received_at_ms, count);
        batch.exporter_ip.push_code_repeated(tally.exporter_code, count);
        batch.netflow_version.push_repeated(frame.header.version as u8, count);
        batch.sampling_rate.push_repeated(rate, count);
        push_source(&mut batch.sources, frame.header.source_id(), count as u32 - left_out as u32);
    }

    fn end_tallies(&self, slab: &Slab, batch: &mut FlowBatch) {
        for (tally, SlabStream { progress, account, .. }) in self.tallies.iter().zip(slab.streams()) {
            batch.streams.push(crate::flow::StreamProgress { flows: tally.flows as u32, ..progress.clone() });
            if tally.rate == 0 {
                continue;
            }
            if tally.sampling_missing > 0 && account.sampling_missing.get() == 0 {
                tracing::warn!(
                    "exporter {}: a sampling rate was expected and is missing; its flows count as unsampled. \
                     Mend it with sampling_default in [[decode.exporter]]",
                    progress.exporter
                );
            }
            for (counter, n) in [
                (&account.absurd_flows, tally.absurd),
                (&account.second_view_flows, tally.second_view),
                (&account.times_clamped, tally.clamped),
                (&account.clock_replaced, tally.clock_replaced),
                (&account.sampling_missing, tally.sampling_missing),
            ] {
                if n > 0 {
                    counter.add(n);
                }
            }
            account.clock_skew_ms.set(tally.skew_ms);
            if tally.rate > 1 || tally.sampling_missing == 0 {
                account.sampling_rate.set(i64::from(tally.rate));
            }
        }
    }
}

/// Makes room in all columns that records of a layout fill, so that they do not grow step by step.
fn reserve(layout: &Layout<'_>, rows: usize, batch: &mut FlowBatch) {
    layout.reserve(rows, batch);
    batch.received_at.reserve(rows);
    batch.exporter_ip.reserve(rows);
    batch.netflow_version.reserve(rows);
    batch.sampling_rate.reserve(rows);
}

/// The columns of one datagram's rows that the passes change.
struct Rows<'a> {
    starts: &'a mut [i64],
    ends: &'a mut [i64],
    bytes: &'a mut [u64],
    packets: &'a mut [u64],
}

impl Rows<'_> {
    fn absurdity(&self, row: usize) -> Option<Absurdity> {
        absurdity(self.starts[row], self.ends[row], self.bytes[row], self.packets[row])
    }
}

impl Tally {
    fn apply_clock(&mut self, frame: &Frame, skew_max_ms: u64, rows: &mut Rows<'_>) {
        let header = &frame.header;
        let clock = Clock::new(header.clock_ms(), header.sys_uptime_ms, frame.received_at_ms, skew_max_ms);
        self.skew_ms = clock.skew_ms;
        self.clock_replaced += u64::from(clock.replaced);
        self.clamped += clock.apply(rows.starts, rows.ends);
    }

    /// Scales bytes and packets; gives the rate.
    fn apply_sampling(&mut self, frame: &Frame, from: &SlabStream, rows: &mut Rows<'_>) -> u32 {
        let header = &frame.header;
        let rate = match sampling_rate(self.rule.as_deref(), u32::from(header.sampling_interval())) {
            Rate::Known(rate) => rate,
            Rate::Unknown => {
                // An exporter that names a sampling mode, or has named a rate before, was expected to name one.
                let expected = header.sampling != 0 || self.rate > 1 || from.account.sampling_rate.get() > 1;
                self.sampling_missing += u64::from(expected);
                1
            }
        };
        self.rate = self.rate.max(rate);
        if rate > 1 {
            let scaled = rows.bytes.iter_mut().chain(rows.packets.iter_mut());
            scaled.for_each(|n| *n = n.saturating_mul(u64::from(rate)));
        }
        rate
    }

    fn add(&mut self, rows: &Rows<'_>, kept: Option<&[bool]>) {
        let flows = kept.map_or(rows.bytes.len(), |kept| kept.iter().filter(|kept| **kept).count());
        self.flows += flows as u64;
        self.bytes = self.bytes.wrapping_add(sum(rows.bytes, kept));
        self.packets = self.packets.wrapping_add(sum(rows.packets, kept));
    }
}

fn sum(values: &[u64], kept: Option<&[bool]>) -> u64 {
    match kept {
        None => values.iter().fold(0, |sum, n| sum.wrapping_add(*n)),
        Some(kept) => values.iter().zip(kept).fold(0, |sum, (n, kept)| sum.wrapping_add(if *kept { *n } else { 0 })),
    }
}

fn push_source(runs: &mut Vec<SourceRun>, source_id: u32, rows: u32) {
    match runs.last_mut() {
        Some(last) if last.source_id == source_id => last.rows += rows,
        _ => runs.push(SourceRun { source_id, rows }),
    }
}
