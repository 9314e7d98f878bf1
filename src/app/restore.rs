//! Where the export streams stood when the collector last stopped, from the newest records of the log.
//!
//! Each record tells, per stream, the number up to which the records before tell everything, and how many units it adds:
//! arrived, dropped and counted, or lost and counted. So the number that a stream's next datagram has, if nothing was lost,
//! is that of its first record plus what all of them add, in whatever order they were appended.

use std::collections::HashMap;
use std::io;

use crate::flow::StreamProgress;
use crate::log::Log;
use crate::receive::{Restored, StreamKey};

/// Records looked at; streams that sent nothing in this many records start afresh.
const RECORDS: u64 = 4096;
/// How far apart two neighbours of a stream may stand in the log, records: workers append out of order, by a few slabs each.
const DISORDER_RECORDS: u64 = 256;

#[derive(Clone, Copy, Debug)]
struct Span {
    /// Number from which on the records tell everything.
    first: u32,
    /// Position of the record seen first.
    position: u64,
    /// Units told since.
    known_units: u32,
}

impl Span {
    fn of(position: u64, progress: &StreamProgress) -> Self {
        let known_units = progress.sequence_units.wrapping_add(progress.gap);
        Self { first: progress.first_sequence, position, known_units }
    }

    /// Adds a later record. It holds the earlier part of the stream only when it stands close by: farther away, a lower
    /// number means that the exporter began anew.
    fn add(&mut self, other: Self) {
        if self.is_after(other.first) && other.position - self.position <= DISORDER_RECORDS {
            self.first = other.first;
        }
        self.known_units = self.known_units.wrapping_add(other.known_units);
    }

    fn is_after(&self, number: u32) -> bool {
        (number.wrapping_sub(self.first) as i32) < 0
    }

    /// Number of the next datagram, if nothing was lost.
    fn next(&self) -> u32 {
        self.first.wrapping_add(self.known_units)
    }
}

/// What the records tell, by stream.
#[derive(Default)]
struct Spans {
    /// Records from here on are looked at.
    from: u64,
    spans: HashMap<StreamKey, Span>,
    /// What stands just before: later parts of a stream that overtook an earlier one count, earlier ones do not.
    before: Vec<(StreamKey, Span)>,
}

impl Spans {
    fn visit(&mut self, position: u64, progress: &StreamProgress) {
        if !progress.has_sequence {
            return;
        }
        let key = StreamKey {
            exporter: progress.exporter,
            source_port: progress.source_port,
            version: progress.version,
            source_id: progress.source_id,
        };
        let span = Span::of(position, progress);
        if position < self.from {
            self.before.push((key, span));
        } else {
            self.spans.entry(key).and_modify(|known| known.add(span)).or_insert(span);
        }
    }

    fn finish(self) -> impl Iterator<Item = (StreamKey, u32)> {
        let Self { mut spans, before, .. } = self;
        let mut quiet: HashMap<StreamKey, Span> = HashMap::new();
        for (key, span) in before {
            match spans.get_mut(&key) {
                Some(known) if known.is_after(span.first) => {}
                Some(known) => known.known_units = known.known_units.wrapping_add(span.known_units),
                None => {
                    quiet.entry(key).and_modify(|known| known.add(span)).or_insert(span);
                }
            }
        }
        spans.into_iter().chain(quiet).map(|(key, span)| (key, span.next()))
    }
}

/// Reads the log's newest records. What they do not tell is lost: a stream's first datagram counts it, once, and the record
/// that holds it says so.
///
/// # Errors
/// The log's files could not be read.
pub fn streams(log: &Log) -> io::Result<Restored> {
    let mut spans = Spans { from: log.position_before_last(RECORDS) + 1, ..Spans::default() };
    log.streams_after(log.position_before_last(RECORDS + DISORDER_RECORDS), &mut |position, progress| {
        spans.visit(position, progress);
    })?;
    Ok(Restored::new(spans.finish()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arc_swap::ArcSwap;
    use proptest::prelude::*;

    use super::*;
    use crate::flow::Addr;
    use crate::receive::{Admission, Framer, Pool, Protocol, Slab, SlabStream};
    use crate::telemetry::ledger::Ledger;
    use crate::wire::{self, FlowRecord, Header};

    fn progress(first: u32, units: u32, gap: u32) -> StreamProgress {
        StreamProgress {
            exporter: "192.0.2.1".parse().unwrap(),
            source_port: 1,
            version: 5,
            source_id: 0,
            has_sequence: true,
            first_sequence: first,
            next_sequence: first.wrapping_add(units).wrapping_add(gap),
            sequence_units: units,
            gap,
            datagrams: 1,
            flows: units,
        }
    }

    fn next(from: u64, records: &[(u64, StreamProgress)]) -> Vec<u32> {
        let mut spans = Spans { from, ..Spans::default() };
        records.iter().for_each(|(position, progress)| spans.visit(*position, progress));
        spans.finish().map(|(_, next)| next).collect()
    }

    #[test]
    fn what_no_record_tells_is_missing_whatever_their_order() {
        // 10 to 40, then 5 counted as lost and 15 that came; 60 to 90 in flight and lost; 90 to 100. The numbers wrap.
        let at = |n: u32| n.wrapping_sub(50);
        let records = [progress(at(10), 30, 0), progress(at(90), 10, 0), progress(at(40), 15, 5)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
            let records: Vec<_> = (1..).zip(order.map(|i: usize| records[i].clone())).collect();
            assert_eq!(next(0, &records), [at(100 - 30)]);
        }
    }

    #[test]
    fn an_exporter_that_began_anew_goes_on_from_its_new_number() {
        let restart = progress(1_000_000, 30, 0u32.wrapping_sub(1_000_000));
        let records = [(1, progress(999_970, 30, 0)), (300, restart), (301, progress(30, 30, 0))];
        assert_eq!(next(0, &records), [60]);
    }

    #[test]
    fn where_the_records_begin_a_neighbour_out_of_order_is_not_missed() {
        let overtook = (9, progress(130, 30, 0));
        let records = [(8, progress(70, 30, 0)), overtook, (10, progress(100, 30, 0)), (11, progress(160, 30, 0))];
        assert_eq!(next(10, &records), [190]);
    }

    #[test]
    fn a_stream_that_was_quiet_is_still_known() {
        assert_eq!(next(10, &[(8, progress(70, 30, 0)), (9, progress(100, 30, 0))]), [130]);
    }

    /// Flows of a datagram.
    const FLOWS: u32 = 3;

    #[derive(Clone, Copy, Debug)]
    enum Event {
        /// Datagrams arrive.
        Arrive(u8),
        /// The network loses datagrams.
        Lose(u8),
        /// Two datagrams arrive in the wrong order, within the time that holes wait.
        Swap,
        /// The slab that is being filled goes to the workers.
        HandOver,
        /// A worker logs one of the slabs that wait.
        Log(u8),
        /// The queue is full: the slab that is being filled is dropped.
        Drop,
        /// So much time goes by, ms.
        Wait(u16),
        Kill,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            4 => (1u8..6).prop_map(Event::Arrive),
            1 => (1u8..4).prop_map(Event::Lose),
            1 => Just(Event::Swap),
            3 => Just(Event::HandOver),
            3 => any::<u8>().prop_map(Event::Log),
            1 => Just(Event::Drop),
            1 => (0u16..1500).prop_map(Event::Wait),
            1 => Just(Event::Kill),
        ]
    }

    /// A collector with one exporter, and a log that survives it.
    struct Run {
        ledger: Arc<Ledger>,
        framer: Framer,
        slab: Slab,
        waiting: Vec<Slab>,
        logged: Vec<(u64, StreamProgress)>,
        stored_flows: u64,
        now_ms: i64,
        sequence: u32,
    }

    impl Run {
        fn framer(ledger: &Arc<Ledger>, restored: Restored) -> Framer {
            let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&[], &[Protocol::V5])));
            Framer::new(ledger.clone(), admission, Arc::new(restored))
        }

        fn slab() -> Slab {
            Pool::new(1, 1 << 16).take().unwrap()
        }

        fn new() -> Self {
            let ledger = Arc::new(Ledger::default());
            let framer = Self::framer(&ledger, Restored::default());
            let mut run = Self {
                ledger,
                framer,
                slab: Self::slab(),
                waiting: Vec::new(),
                logged: Vec::new(),
                stored_flows: 0,
                now_ms: 1,
                sequence: 0u32.wrapping_sub(100),
            };
            run.arrive(1);
            run.log_all();
            run
        }

        fn number(&mut self, datagrams: u32) -> u32 {
            let number = self.sequence;
            self.sequence = number.wrapping_add(datagrams * FLOWS);
            number
        }

        fn push(&mut self, sequence: u32) {
            let header =
                Header { version: 5, sequence, sys_uptime_ms: 1000, unix_secs: 1_700_000_000, ..Header::default() };
            let datagram = wire::datagram(&header, &[FlowRecord::default(); FLOWS as usize]);
            self.framer.tick(self.now_ms, Some(&mut self.slab));
            self.framer.push(&mut self.slab, Addr::v4(1), 9, self.now_ms, &datagram).unwrap();
        }

        fn arrive(&mut self, datagrams: u8) {
            for _ in 0..datagrams {
                let number = self.number(1);
                self.push(number);
            }
        }

        fn hand_over(&mut self) {
            self.waiting.push(std::mem::replace(&mut self.slab, Self::slab()));
            self.framer.slab_sent();
        }

        fn log(&mut self, which: usize) {
            if self.waiting.is_empty() {
                return;
            }
            let slab = self.waiting.remove(which % self.waiting.len());
            let position = self.logged.last().map_or(1, |(position, _)| position + 1);
            self.logged.extend(slab.streams().iter().map(|s| (position, s.progress.clone())));
            self.stored_flows += slab.flows();
            slab.streams().iter().for_each(SlabStream::book_losses);
        }

        fn log_all(&mut self) {
            self.hand_over();
            (0..self.waiting.len()).for_each(|_| self.log(0));
        }

        fn kill(&mut self) {
            let mut spans = Spans::default();
            self.logged.iter().for_each(|(position, progress)| spans.visit(*position, progress));
            self.framer = Self::framer(&self.ledger, Restored::new(spans.finish()));
            (self.slab, self.waiting) = (Self::slab(), Vec::new());
        }

        fn apply(&mut self, event: Event) {
            match event {
                Event::Arrive(datagrams) => self.arrive(datagrams),
                Event::Lose(datagrams) => {
                    self.number(u32::from(datagrams));
                }
                Event::Swap => {
                    let (first, second) = (self.number(1), self.number(1));
                    self.push(second);
                    self.push(first);
                }
                Event::HandOver => self.hand_over(),
                Event::Log(which) => self.log(usize::from(which)),
                Event::Drop => {
                    self.framer.slab_dropped(&self.slab);
                    self.slab = Self::slab();
                }
                Event::Wait(ms) => self.now_ms += i64::from(ms),
                Event::Kill => self.kill(),
            }
        }
    }

    proptest! {
        #[test]
        fn whatever_dies_or_is_lost_every_flow_is_stored_or_counted_once(
            events in prop::collection::vec(event(), 0..120),
        ) {
            let mut run = Run::new();
            let start = run.sequence.wrapping_sub(FLOWS);
            let (mut killed, mut dropped, mut queue_full) = (false, false, 0);
            let full = |run: &Run| run.ledger.totals().into_iter().find(|(name, _)| *name == "queue_full_flows").unwrap().1;
            for event in events {
                // A datagram that comes late to a collector that was killed meanwhile cannot be told from one twice sent.
                if matches!(event, Event::Swap) && killed {
                    continue;
                }
                killed = matches!(event, Event::Kill) || killed && !matches!(event, Event::Arrive(_));
                dropped |= matches!(event, Event::Drop);
                // Drops that the log was not told of would be counted by the dead collector and by the next.
                if matches!(event, Event::Kill) && std::mem::take(&mut dropped) {
                    run.arrive(1);
                    run.log_all();
                }
                run.apply(event);
                queue_full = full(&run);
            }
            run.arrive(1);
            run.framer.finish(run.now_ms, &mut run.slab);
            run.log_all();
            let sent = u64::from(run.sequence.wrapping_sub(start));
            let account = run.ledger.account([0, 0, 0, 1].into());
            let lost = account.sequence_gap.get() + account.lost_in_crash.get() + queue_full;
            prop_assert_eq!(sent, run.stored_flows + lost);
        }
    }
}
