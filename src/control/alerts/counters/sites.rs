//! Bytes in and out of each site in the latest quarters of an hour.

use super::{Map, NONE, SITE, key, take};
use crate::control::state::Change;
use crate::flow::{FlowBatch, Text};

/// Buckets that are remembered, 15 minutes each: the two that are judged, those that still fill, and room for a clock that
/// is ahead.
const BUCKETS: usize = 8;
/// Sites that are counted.
const SITES_MAX: usize = 8192;
/// Bytes of a site: its ring, and its names in two places.
const SITE_BYTES: usize = size_of::<Ring>() + 112;
/// Memory for all of it, bytes.
pub(super) const MEMORY_BYTES_MAX: usize = 2 << 20;
const _: () = assert!(SITES_MAX * SITE_BYTES <= MEMORY_BYTES_MAX);

/// Access server and site. Either can be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SiteKey {
    /// Name of the access server.
    pub nas_id: Option<Text>,
    /// Name of the site.
    pub site: Option<Text>,
}

/// Bytes of a site in one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    /// To the site.
    pub bytes_in: u64,
    /// From it.
    pub bytes_out: u64,
}

#[derive(Clone, Debug, Default)]
struct Ring {
    cells: [Rates; BUCKETS],
    /// Bucket of the newest cell that was cleared.
    head: i64,
    is_dirty: bool,
}

impl Ring {
    fn advance(&mut self, head: i64) {
        for bucket in self.head.max(head - BUCKETS as i64) + 1..=head {
            self.cells[bucket.rem_euclid(BUCKETS as i64) as usize] = Rates::default();
        }
        self.head = self.head.max(head);
    }
}

#[derive(Debug, Default)]
pub(super) struct Sites {
    numbers: Map<SiteKey, u32>,
    rings: Vec<(SiteKey, Ring)>,
    head: i64,
    unwanted: bool,
    /// The codes looked up last, and what they led to: neighbours mostly are of one site.
    last: (u32, u32, u32),
    /// By codes of access server and site in this batch.
    by_codes: Map<(u32, u32), u32>,
    pub(super) untracked_bytes: u64,
}

impl Sites {
    /// Whether any site has a rate to be judged by.
    pub(super) fn set_wanted(&mut self, wanted: bool) {
        self.unwanted = !wanted;
    }

    #[inline]
    pub(super) fn are_wanted(&self) -> bool {
        !self.unwanted
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.rings.len() * SITE_BYTES
    }

    pub(super) fn advance(&mut self, bucket: i64) {
        self.head = self.head.max(bucket);
    }

    /// Forgets the codes of the batch before.
    pub(super) fn begin(&mut self, batch: &FlowBatch) {
        self.by_codes.clear();
        self.last = (0, 0, NONE);
        debug_assert_eq!(batch.nas_id.len(), batch.site.len());
    }

    /// Number of a row's site; to be asked for while sites are wanted.
    #[inline]
    pub(super) fn of(&mut self, batch: &FlowBatch, row: usize) -> u32 {
        let codes = (batch.nas_id.codes()[row], batch.site.codes()[row]);
        if codes == (0, 0) {
            return NONE;
        }
        if (self.last.0, self.last.1) == codes {
            return self.last.2;
        }
        let number = match self.by_codes.get(&codes) {
            Some(number) => *number,
            None => {
                let (nas_id, site) = (batch.nas_id.value(codes.0).cloned(), batch.site.value(codes.1).cloned());
                let number = self.number(SiteKey { nas_id, site });
                self.by_codes.insert(codes, number);
                number
            }
        };
        self.last = (codes.0, codes.1, number);
        number
    }

    /// Number of a site; [`SITES_MAX`] stands for all that have no room.
    fn number(&mut self, site: SiteKey) -> u32 {
        if let Some(number) = self.numbers.get(&site) {
            return *number;
        }
        if self.rings.len() >= SITES_MAX {
            return SITES_MAX as u32;
        }
        let number = self.rings.len() as u32;
        self.numbers.insert(site.clone(), number);
        self.rings.push((site, Ring::default()));
        number
    }

    #[inline]
    pub(super) fn add(&mut self, site: u32, bucket: i64, outward: bool, bytes: u64) {
        let bucket = bucket.min(self.head);
        let Some((_, ring)) = self.rings.get_mut(site as usize) else {
            self.untracked_bytes += bytes;
            return;
        };
        if bucket <= self.head - BUCKETS as i64 {
            return;
        }
        if ring.head < self.head {
            ring.advance(self.head);
        }
        let cell = &mut ring.cells[bucket.rem_euclid(BUCKETS as i64) as usize];
        let side = if outward { &mut cell.bytes_out } else { &mut cell.bytes_in };
        *side = side.wrapping_add(bytes);
        ring.is_dirty = true;
    }

    pub(super) fn window(&self, site: &SiteKey, bucket: i64) -> Option<Rates> {
        let (_, ring) = &self.rings[*self.numbers.get(site)? as usize];
        let known = bucket > ring.head.max(self.head) - BUCKETS as i64 && bucket <= self.head;
        let cell = ring.cells[bucket.rem_euclid(BUCKETS as i64) as usize];
        known.then(|| if bucket > ring.head { Rates::default() } else { cell })
    }

    pub(super) fn changes(&mut self, changes: &mut Vec<Change>) {
        for (site, ring) in self.rings.iter_mut().filter(|(_, ring)| ring.is_dirty) {
            ring.is_dirty = false;
            let name = |name: &Option<Text>| name.as_ref().map(ToString::to_string);
            // Two texts or nulls always serialise.
            let names = serde_json::to_vec(&(name(&site.nas_id), name(&site.site))).unwrap_or_default();
            let mut value = ring.head.to_be_bytes().to_vec();
            ring.cells.iter().for_each(|cell| {
                value.extend(cell.bytes_in.to_be_bytes());
                value.extend(cell.bytes_out.to_be_bytes());
            });
            changes.push((key(SITE, &[&names]), Some(value)));
        }
    }

    pub(super) fn restore(&mut self, key: &[u8], value: &[u8]) {
        let Ok((nas_id, site)) = serde_json::from_slice::<(Option<String>, Option<String>)>(key) else { return };
        let (Some((head, cells)), true) = (take::<8>(value), value.len() == 8 + BUCKETS * 16) else { return };
        let text = |text: Option<String>| text.map(|text| Text::from(&*text));
        let number = self.number(SiteKey { nas_id: text(nas_id), site: text(site) });
        let Some((_, ring)) = self.rings.get_mut(number as usize) else { return };
        ring.head = i64::from_be_bytes(head);
        self.head = self.head.max(ring.head);
        for (cell, bytes) in ring.cells.iter_mut().zip(cells.chunks_exact(16)) {
            let number = |bytes: &[u8]| take::<8>(bytes).map_or(0, |(number, _)| u64::from_be_bytes(number));
            *cell = Rates { bytes_in: number(&bytes[..8]), bytes_out: number(&bytes[8..]) };
        }
    }
}
