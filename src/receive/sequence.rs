//! What a stream's sequence numbers tell: loss, reorder, restart, and what the exporter counts at all.
//!
//! A datagram that is numbered further than expected opens a *hole*. A late datagram fills its part of a hole; what is not
//! filled within [`REORDER_HOLD_MS`] is lost. So reorder is never counted as loss, and counters only grow.
//!
//! What always holds: the number expected first + units + gaps of all steps + units of the holes that are open = the number
//! expected next. A hole is in no gap before it is given up, so a collector that dies meanwhile finds it again.

use crate::wire::Header;

/// How long a hole waits for late datagrams, ms. Paths of one network differ by less.
pub const REORDER_HOLD_MS: i64 = 1000;
/// Holes that one stream keeps open; the oldest becomes loss beyond that.
const HOLES_MAX: usize = 8;
/// A jump ahead beyond this many units is a restart, not loss: 2^24 flows are a minute of a very large exporter.
pub const JUMP_MAX: i32 = 1 << 24;
/// A step back beyond this many units is a restart, not reorder: about 1,000 full datagrams.
const REORDER_MAX: i32 = 1 << 15;
/// Uptime this far back, ms, while the clock went on, is a restart.
const UPTIME_BACK_MS: i32 = 1000;
/// Late datagrams that follow each other in order: this many are no reorder but a restart.
const LATE_RUN_MAX: u8 = 4;
/// Datagrams in a row that show another way of numbering before it is believed.
const NUMBERING_EVIDENCE: u8 = 4;

/// What the exporter's sequence numbers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// Flows, as documented for v5.
    Flows,
    /// Datagrams.
    Datagrams,
    /// Nothing: the number never changes.
    Nothing,
}

impl Numbering {
    fn units(self, count: u16) -> u32 {
        match self {
            Self::Flows => u32::from(count),
            Self::Datagrams => 1,
            Self::Nothing => 0,
        }
    }
}

/// What one datagram showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Units that the datagram covers.
    pub units: u32,
    /// Units that no datagram covers and that no hole waits for any more, wrapping: holes given up, and jumps of the
    /// numbering in either direction.
    pub gap: u32,
    /// Units now known to be lost.
    pub lost: u64,
    /// It came later than one numbered after it.
    pub reordered: bool,
    /// The exporter began anew.
    pub restarted: bool,
}

/// The sequence state of one stream.
#[derive(Clone, Debug)]
pub struct Sequence {
    numbering: Numbering,
    evidence: (Numbering, u8),
    /// Number expected next.
    next: u32,
    /// Number and count of the latest datagram in order.
    last: u32,
    last_count: u16,
    uptime_ms: u32,
    clock_s: u32,
    late_next: u32,
    late_run: u8,
    holes: Vec<Hole>,
}

#[derive(Clone, Copy, Debug)]
struct Hole {
    start: u32,
    units: u32,
    since_ms: i64,
}

impl Sequence {
    /// The state after a stream's first datagram.
    pub fn new(header: &Header) -> Self {
        Self {
            numbering: Numbering::Flows,
            evidence: (Numbering::Flows, 0),
            next: header.sequence.wrapping_add(u32::from(header.count)),
            last: header.sequence,
            last_count: header.count,
            uptime_ms: header.sys_uptime_ms,
            clock_s: header.unix_secs,
            late_next: 0,
            late_run: 0,
            holes: Vec::new(),
        }
    }

    /// What the numbers count, as far as seen.
    pub fn numbering(&self) -> Numbering {
        self.numbering
    }

    /// Number expected next.
    pub fn next(&self) -> u32 {
        self.next
    }

    /// Whether some hole waits for late datagrams.
    pub fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    /// Takes the next datagram's header.
    pub fn observe(&mut self, header: &Header, now_ms: i64) -> Step {
        let ahead = header.sequence.wrapping_sub(self.next) as i32;
        let mut step = Step { lost: self.expire(now_ms), ..Step::default() };
        let mut jump = 0;
        if ahead == 0 || self.is_other_numbering(header) {
            self.evidence.1 = if ahead == 0 { 0 } else { self.evidence.1 };
            jump = ahead;
        } else if self.uptime_went_back(header) || !(-REORDER_MAX..=JUMP_MAX).contains(&ahead) {
            step.restarted = true;
        } else if ahead > 0 {
            step.lost += self.open_hole(ahead as u32, now_ms);
        } else if self.late_run_goes_on(header) {
            step.restarted = true;
        } else {
            step.units = self.numbering.units(header.count);
            step.reordered = true;
            let (filled, lost) = self.fill(header.sequence, step.units);
            step.lost += lost;
            // What fills no hole was given up before, or came twice.
            step.gap = (step.lost as u32).wrapping_sub(step.units - filled);
            return step;
        }
        if step.restarted {
            jump = ahead;
            step.lost += self.finish();
            self.numbering = Numbering::Flows;
        }
        step.units = self.numbering.units(header.count);
        step.gap = (step.lost as u32).wrapping_add(jump as u32);
        self.late_run = 0;
        self.next = header.sequence.wrapping_add(step.units);
        (self.last, self.last_count) = (header.sequence, header.count);
        (self.uptime_ms, self.clock_s) = (header.sys_uptime_ms, header.unix_secs);
        step
    }

    /// Gives up holes that waited long enough; gives the units lost.
    pub fn expire(&mut self, now_ms: i64) -> u64 {
        if self.holes.is_empty() {
            return 0;
        }
        let mut lost = 0;
        self.holes.retain(|hole| {
            let waits = now_ms - hole.since_ms < REORDER_HOLD_MS;
            lost += if waits { 0 } else { u64::from(hole.units) };
            waits
        });
        lost
    }

    /// Units of the holes that wait for late datagrams.
    pub fn open_units(&self) -> u32 {
        self.holes.iter().fold(0, |units, hole| units.wrapping_add(hole.units))
    }

    /// Gives up every hole; gives the units lost.
    pub fn finish(&mut self) -> u64 {
        self.holes.drain(..).map(|hole| u64::from(hole.units)).sum()
    }

    /// Whether the datagram follows the latest one by another way of numbering than the one believed. Adopts it after
    /// [`NUMBERING_EVIDENCE`] datagrams in a row.
    fn is_other_numbering(&mut self, header: &Header) -> bool {
        if self.last_count <= 1 {
            return false;
        }
        let other = match header.sequence.wrapping_sub(self.last) {
            0 => Numbering::Nothing,
            1 => Numbering::Datagrams,
            n if n == u32::from(self.last_count) => Numbering::Flows,
            _ => return false,
        };
        if self.evidence.0 != other {
            self.evidence = (other, 0);
        }
        self.evidence.1 += 1;
        if self.evidence.1 >= NUMBERING_EVIDENCE {
            self.numbering = other;
        }
        true
    }

    fn uptime_went_back(&self, header: &Header) -> bool {
        let uptime_ms = header.sys_uptime_ms.wrapping_sub(self.uptime_ms) as i32;
        let clock_s = header.unix_secs.wrapping_sub(self.clock_s) as i32;
        uptime_ms < -UPTIME_BACK_MS && clock_s >= 0
    }

    fn late_run_goes_on(&mut self, header: &Header) -> bool {
        self.late_run = if self.late_run > 0 && header.sequence == self.late_next { self.late_run + 1 } else { 1 };
        self.late_next = header.sequence.wrapping_add(self.numbering.units(header.count));
        self.late_run >= LATE_RUN_MAX && !self.holes.iter().any(|hole| hole.covers(header.sequence))
    }

    fn open_hole(&mut self, units: u32, now_ms: i64) -> u64 {
        let lost = if self.holes.len() < HOLES_MAX { 0 } else { u64::from(self.holes.remove(0).units) };
        self.holes.push(Hole { start: self.next, units, since_ms: now_ms });
        lost
    }

    /// Takes a late datagram's units out of the hole that they belong to; gives the units filled, and those lost because no
    /// room is left for the pieces.
    fn fill(&mut self, sequence: u32, units: u32) -> (u32, u64) {
        let Some(index) = self.holes.iter().position(|hole| hole.covers(sequence)) else { return (0, 0) };
        let hole = self.holes.remove(index);
        let before = sequence.wrapping_sub(hole.start);
        let after = (hole.units - before).saturating_sub(units);
        let pieces =
            [Hole { units: before, ..hole }, Hole { start: sequence.wrapping_add(units), units: after, ..hole }];
        let mut lost = 0;
        for piece in pieces.into_iter().filter(|piece| piece.units > 0) {
            if self.holes.len() < HOLES_MAX {
                self.holes.push(piece);
            } else {
                lost += u64::from(piece.units);
            }
        }
        (hole.units - before - after, lost)
    }
}

impl Hole {
    fn covers(&self, sequence: u32) -> bool {
        sequence.wrapping_sub(self.start) < self.units
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(sequence: u32, count: u16, uptime_s: u32) -> Header {
        Header {
            version: 5,
            sequence,
            count,
            sys_uptime_ms: uptime_s * 1000,
            unix_secs: 1000 + uptime_s,
            ..Header::default()
        }
    }

    /// Feeds (sequence, count, uptime s, now ms) and gives the sums (lost, reordered, restarts).
    fn run(start: Header, steps: &[(u32, u16, u32, i64)]) -> (Sequence, (u64, u32, u32)) {
        let mut sequence = Sequence::new(&start);
        let (mut first, mut sums) = (start.sequence.wrapping_add(u32::from(start.count)), (0, 0, 0));
        for (number, count, uptime_s, now_ms) in steps {
            let step = sequence.observe(&header(*number, *count, *uptime_s), *now_ms);
            first = first.wrapping_add(step.units).wrapping_add(step.gap);
            let number = first.wrapping_add(sequence.open_units());
            assert_eq!(number, sequence.next(), "units, gaps and holes add up to the next number");
            sums = (sums.0 + step.lost, sums.1 + u32::from(step.reordered), sums.2 + u32::from(step.restarted));
        }
        (sequence, sums)
    }

    #[test]
    fn in_order_loses_nothing_even_over_the_wrap() {
        let (_, sums) = run(header(u32::MAX - 29, 30, 1), &[(0, 30, 1, 0), (30, 10, 1, 0), (40, 30, 1, 9999)]);
        assert_eq!(sums, (0, 0, 0));
    }

    #[test]
    fn a_gap_is_loss_once_it_stayed_open() {
        let (mut sequence, sums) = run(header(0, 30, 1), &[(90, 30, 1, 0), (120, 30, 1, 10)]);
        assert_eq!((sums, sequence.has_holes()), ((0, 0, 0), true));
        assert_eq!(sequence.expire(REORDER_HOLD_MS - 1), 0);
        assert_eq!(sequence.expire(REORDER_HOLD_MS), 60);
        assert_eq!(sequence.finish(), 0);
    }

    #[test]
    fn a_late_datagram_is_reorder_and_not_loss() {
        let (mut sequence, sums) =
            run(header(0, 30, 1), &[(90, 30, 1, 0), (60, 30, 1, 1), (30, 30, 1, 2), (120, 30, 1, 3)]);
        assert_eq!(sums, (0, 2, 0));
        assert_eq!(sequence.finish(), 0);
    }

    #[test]
    fn a_hole_filled_in_its_middle_leaves_both_ends() {
        let (mut sequence, sums) = run(header(0, 30, 1), &[(120, 30, 1, 0), (60, 30, 1, 1)]);
        assert_eq!(sums, (0, 1, 0));
        assert_eq!(sequence.finish(), 60);
    }

    #[test]
    fn holes_are_bounded_and_the_oldest_become_loss() {
        let steps: Vec<_> = (1..=20u32).map(|i| (i * 100, 30, 1, 0)).collect();
        let (mut sequence, sums) = run(header(0, 30, 1), &steps);
        assert_eq!(sums.0 + sequence.finish(), 20 * 70);
    }

    #[test]
    fn uptime_back_while_the_clock_goes_on_is_a_restart() {
        let mut sequence = Sequence::new(&header(100_000, 30, 5000));
        let began_anew = Header { unix_secs: 7000, ..header(0, 30, 1) };
        let step = sequence.observe(&began_anew, 0);
        assert_eq!((step.restarted, step.lost, step.reordered), (true, 0, false));
        let (_, sums) = run(began_anew, &[(30, 30, 1, 0)]);
        assert_eq!(sums, (0, 0, 0));
    }

    #[test]
    fn numbers_far_off_are_a_restart_and_so_is_a_run_of_late_ones() {
        assert_eq!(run(header(0, 30, 1), &[(JUMP_MAX as u32 + 31, 30, 1, 0)]).1, (0, 0, 1));
        assert_eq!(run(header(1 << 30, 30, 1), &[(0, 30, 1, 0), (30, 30, 1, 0)]).1, (0, 0, 1));
        let again = [(0, 30, 9, 0), (30, 30, 9, 0), (60, 30, 9, 0), (90, 30, 9, 0), (120, 30, 9, 0)];
        assert_eq!(run(header(900, 30, 9), &again).1, (0, 3, 1));
    }

    #[test]
    fn exporters_that_count_datagrams_are_recognised_without_a_false_event() {
        let steps: Vec<_> = (1..10u32).map(|i| (i, 30, 1, 0)).collect();
        let (mut sequence, sums) = run(header(0, 30, 1), &steps);
        assert_eq!((sequence.numbering(), sums), (Numbering::Datagrams, (0, 0, 0)));
        assert!(!sequence.observe(&header(13, 30, 1), 0).reordered);
        assert_eq!(sequence.finish(), 3, "three datagrams");
        let (sequence, sums) = run(header(7, 30, 1), &[(7, 30, 1, 0); 9]);
        assert_eq!((sequence.numbering(), sums), (Numbering::Nothing, (0, 0, 0)));
    }

    proptest::proptest! {
        #[test]
        fn any_numbers_keep_the_sum_and_the_bound(start: (u32, u16, u32), steps: Vec<(u32, u16, u32, i32)>) {
            let mut sequence = Sequence::new(&header(start.0, start.1, start.2 % 4_000_000));
            let mut next = sequence.next();
            let mut known = next;
            for (number, count, uptime_s, now_ms) in steps {
                let near = if now_ms % 2 == 0 { next.wrapping_add(number % 200).wrapping_sub(100) } else { number };
                let step = sequence.observe(&header(near, count, uptime_s % 4_000_000), i64::from(now_ms));
                known = known.wrapping_add(step.units).wrapping_add(step.gap);
                next = sequence.next();
                proptest::prop_assert_eq!(known.wrapping_add(sequence.open_units()), next);
                proptest::prop_assert!(sequence.holes.len() <= HOLES_MAX);
            }
        }
    }
}
