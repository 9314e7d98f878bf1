//! What the log refused: its flows are counted, and the next record says so. Otherwise the next start of the collector would
//! find them missing and count them again.

use super::slab::{Slab, SlabStream};
use crate::flow::StreamProgress;

/// Streams remembered at most, about 150 bytes each.
const STREAMS_MAX: usize = 1024;

/// Progress of slabs that the log refused. One per worker.
#[derive(Debug, Default)]
pub struct Untold(Vec<SlabStream>);

impl Untold {
    /// Remembers the streams of a slab that the log refused.
    pub fn keep(&mut self, slab: &Slab) {
        for stream in slab.streams().iter().filter(|stream| stream.progress.has_sequence) {
            let stream = stream.clone().into_gap();
            match self.0.iter().position(|untold| untold.is_of_stream(&stream)) {
                Some(index) => self.0[index].merge(&stream),
                None if self.0.len() < STREAMS_MAX => self.0.push(stream),
                None => stream.book_losses(),
            }
        }
    }

    /// What the next record says besides its own streams.
    pub fn progress(&self) -> impl Iterator<Item = &StreamProgress> {
        self.0.iter().map(|stream| &stream.progress)
    }

    /// The record that says it stands in the log.
    pub fn book_logged(&mut self) {
        self.0.drain(..).for_each(|stream| stream.book_losses());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::receive::{Losses, Pool};
    use crate::telemetry::ledger::Account;

    #[test]
    fn refused_slabs_become_one_gap_of_their_stream() {
        let account = Arc::new(Account::default());
        let mut untold = Untold::default();
        for (first_sequence, units, gap) in [(100, 30, 0), (130, 20, 10)] {
            let mut slab = Pool::new(1, 64).take().unwrap();
            let progress = StreamProgress {
                exporter: "192.0.2.1".parse().unwrap(),
                source_port: 1,
                version: 5,
                source_id: 0,
                has_sequence: true,
                first_sequence,
                next_sequence: first_sequence + units + gap,
                sequence_units: units,
                gap,
                datagrams: 1,
                flows: units,
            };
            let losses = Losses { gap: u64::from(gap), crash: 0 };
            slab.add_stream(SlabStream { progress, losses, account: account.clone() });
            untold.keep(&slab);
        }
        let told: Vec<_> = untold.progress().map(|p| (p.first_sequence, p.gap, p.sequence_units, p.flows)).collect();
        assert_eq!((told, account.sequence_gap.get()), (vec![(100, 60, 0, 0)], 0));
        untold.book_logged();
        assert_eq!((untold.progress().count(), account.sequence_gap.get()), (0, 10));
    }
}
