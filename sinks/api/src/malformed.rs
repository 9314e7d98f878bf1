//! Datagrams that were dropped because they cannot be read: the latest of them, for sinks that show them to a person.
//!
//! Bounded in number and bytes, and empty unless a sink asks: until then it costs a receiver one load for each. It is no account;
//! every dropped datagram is counted elsewhere, also those that are no longer here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::Addr;

/// Datagrams that are kept: some seconds of a badly broken exporter.
const DATAGRAMS_MAX: usize = 1024;

/// Bytes that are kept of each: header and first record of every version.
pub const DATAGRAM_BYTES_MAX: usize = 256;

/// A dropped datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// When it came, ms since the Unix epoch.
    pub received_at_ms: i64,
    /// Who sent it.
    pub exporter: Addr,
    /// Why it was dropped.
    pub reason: String,
    /// Its length in bytes.
    pub length: u32,
    /// Its first bytes, at most [`DATAGRAM_BYTES_MAX`].
    pub bytes: Vec<u8>,
}

/// The latest malformed datagrams, numbered from 0.
#[derive(Debug, Default)]
pub struct MalformedLog {
    wanted: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    /// The number of the first one.
    first: u64,
    datagrams: VecDeque<Arc<Malformed>>,
}

impl MalformedLog {
    /// Has datagrams kept from now on.
    pub fn want(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// Keeps a datagram, if anybody wants it.
    pub fn push(&self, received_at_ms: i64, exporter: Addr, datagram: &[u8], reason: impl FnOnce() -> String) {
        if !self.wanted.load(Ordering::Relaxed) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.datagrams.len() == DATAGRAMS_MAX {
            kept.datagrams.pop_front();
            kept.first += 1;
        }
        kept.datagrams.push_back(Arc::new(Malformed {
            received_at_ms,
            exporter,
            reason: reason(),
            length: u32::try_from(datagram.len()).unwrap_or(u32::MAX),
            bytes: datagram[..datagram.len().min(DATAGRAM_BYTES_MAX)].to_vec(),
        }));
    }

    /// Those from a number on that are still kept, with their numbers.
    pub fn since(&self, number: u64) -> Vec<(u64, Arc<Malformed>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let skipped = number.saturating_sub(kept.first);
        let skipped = usize::try_from(skipped).unwrap_or(usize::MAX);
        let numbers = kept.first + skipped.min(kept.datagrams.len()) as u64..;
        numbers.zip(kept.datagrams.iter().skip(skipped).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_are_kept_with_their_numbers_once_they_are_wanted() {
        let log = MalformedLog::default();
        let push = |n: usize| log.push(n as i64, Addr::v4(1), &[7; 300], || format!("{n}"));
        push(0);
        assert!(log.since(0).is_empty(), "nobody wanted it");
        log.want();
        (0..DATAGRAMS_MAX + 10).for_each(push);
        let kept = log.since(0);
        assert_eq!((kept.len(), kept[0].0, &*kept[0].1.reason), (DATAGRAMS_MAX, 10, "10"));
        assert_eq!((kept[0].1.bytes.len(), kept[0].1.length), (DATAGRAM_BYTES_MAX, 300));
        let last = DATAGRAMS_MAX as u64 + 9;
        assert_eq!(log.since(last).iter().map(|(number, _)| *number).collect::<Vec<_>>(), [last]);
        assert!(log.since(last + 1).is_empty() && log.since(u64::MAX).is_empty());
    }
}
