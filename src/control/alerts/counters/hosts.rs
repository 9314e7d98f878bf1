//! Connections of each host by windows of 5 minutes, by when they began.
//!
//! A connection is a flow record: a window fills for as long as exporters hold long flows back, so several are open at a
//! time. From the [`SKETCH_FROM`]th connection of a window on, the host's different destinations are estimated. When the
//! table is full, the hosts with the fewest connections are given up and counted.

use std::collections::BTreeMap;
use std::hash::BuildHasher as _;

use datasketches::hll::{HllSketch, HllType};

use super::super::alert::Subject;
use super::window::{Cell, Found, HOST_BYTES, Window};
use super::{HOSTS, key, take};
use crate::aggregate::Width;
use crate::control::state::Change;
use crate::flow::{Addr, Direction, FlowBatch};
use crate::prefetch::prefetch;

/// Width of a window, ms.
pub const WINDOW_MS: i64 = 5 * 60_000;
/// Windows that still fill: exporters send long flows after 15 minutes, and there is the time of their way.
const WINDOWS_OPEN: i64 = 5;
/// Hosts by window that are counted at the same time.
const HOSTS_MAX: usize = 1 << 17;
/// Connections in a window from which on destinations are told apart: most hosts never come there.
const SKETCH_FROM: u32 = 64;
/// Hosts by window whose destinations are told apart.
const SKETCHES_MAX: usize = 2048;
/// Rows whose hosts are fetched into the cache together.
const BLOCK: usize = 32;
/// log2 of the sketch's registers: the estimate is off by 3 % (one standard deviation).
const SKETCH_LG_K: u8 = 10;
/// Bytes of a sketch with its subject, at most about.
const SKETCH_BYTES: usize = (1 << SKETCH_LG_K) + 512;
/// Memory for all of it, bytes.
pub(super) const MEMORY_BYTES_MAX: usize = 15 << 20;
const _: () = assert!(HOSTS_MAX * HOST_BYTES + SKETCHES_MAX * SKETCH_BYTES <= MEMORY_BYTES_MAX);

/// One host in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct HostCounts {
    /// The host and whose it is.
    pub subject: Subject,
    /// Start of the window, ms since the Unix epoch.
    pub window_ms: i64,
    /// Flow records that began in it.
    pub connections: u64,
    /// Their different destinations, estimated.
    pub unique_destinations: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Debug)]
struct Sketch {
    hll: HllSketch,
    subject: Subject,
}

#[derive(Debug)]
pub(super) struct Hosts {
    all: bool,
    width: Width,
    /// With their numbers (start divided by width); as many as are open, in no order.
    windows: Vec<(i64, Window)>,
    newest: i64,
    sketches: Vec<Option<Sketch>>,
    free_sketches: Vec<u32>,
    /// Entries of all windows.
    held: usize,
    removed: Vec<i64>,
    /// The block's sketches by number, each with the hash of a destination.
    destinations: Vec<(u32, u64)>,
    /// Of destinations. The same in every run: sketches are saved.
    hash: foldhash::fast::FixedState,
    pub(super) given_up_connections: u64,
}

impl Default for Hosts {
    fn default() -> Self {
        Self {
            all: false,
            width: Width::new(WINDOW_MS),
            windows: Vec::new(),
            newest: 0,
            sketches: Vec::new(),
            free_sketches: Vec::new(),
            held: 0,
            removed: Vec::new(),
            destinations: Vec::new(),
            hash: foldhash::fast::FixedState::default(),
            given_up_connections: 0,
        }
    }
}

impl Hosts {
    /// Whether sources that are no customers count.
    pub(super) fn set_all(&mut self, all: bool) {
        self.all = all;
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let used = self.sketches.len() - self.free_sketches.len();
        self.windows.iter().map(|(_, window)| window.memory_bytes()).sum::<usize>() + used * SKETCH_BYTES
    }

    pub(super) fn advance(&mut self, now_ms: i64) {
        let newest = now_ms.div_euclid(WINDOW_MS);
        if newest <= self.newest {
            return;
        }
        self.newest = newest;
        for (number, window) in self.windows.extract_if(.., |(number, _)| *number <= newest - WINDOWS_OPEN) {
            self.held -= window.len();
            window.iter().for_each(|(_, cell)| free_sketch(&mut self.sketches, &mut self.free_sketches, cell));
            self.removed.push(number);
        }
    }

    pub(super) fn add(&mut self, batch: &FlowBatch) {
        let (oldest, newest) = (self.newest - WINDOWS_OPEN + 1, self.newest);
        let mut block: Vec<(usize, usize, Found)> = Vec::with_capacity(BLOCK);
        for start in (0..batch.len()).step_by(BLOCK) {
            block.clear();
            for row in start..batch.len().min(start + BLOCK) {
                let direction = batch.direction.value_or_default(row);
                let counts = self.all || direction == Direction::Out as u8 || direction == Direction::Internal as u8;
                let number = self.width.bucket_of(batch.flow_start.value_or_default(row)).0.min(newest);
                if counts && number >= oldest {
                    let window = self.window(number);
                    let source = batch.src_ip.get(row).unwrap_or_default();
                    block.push((row, window, self.windows[window].1.find(source)));
                }
            }
            for (row, window, source) in &block {
                self.add_row(batch, *row, *window, *source);
            }
            self.add_destinations();
        }
    }

    /// Index of a window, which is there from now on.
    #[inline]
    fn window(&mut self, number: i64) -> usize {
        let known = self.windows.iter().position(|(known, _)| *known == number);
        known.unwrap_or_else(|| {
            self.windows.push((number, Window::default()));
            self.windows.len() - 1
        })
    }

    /// Takes the block's destinations into their sketches: apart from the hosts, so that one's memory is fetched while another
    /// is worked on.
    fn add_destinations(&mut self) {
        for (sketch, destination) in self.destinations.drain(..) {
            if let Some(Some(sketch)) = self.sketches.get_mut(sketch as usize) {
                sketch.hll.update(destination);
            }
        }
    }

    #[inline]
    fn add_row(&mut self, batch: &FlowBatch, row: usize, window: usize, source: Found) {
        let (_, window) = &mut self.windows[window];
        window.is_dirty = true;
        let before = window.len();
        let cell = window.cell(source);
        cell.connections = cell.connections.saturating_add(1);
        cell.bytes = cell.bytes.wrapping_add(batch.bytes.value_or_default(row));
        if cell.connections >= SKETCH_FROM {
            let has_room = self.sketches.len() < SKETCHES_MAX || !self.free_sketches.is_empty();
            if cell.sketch == 0 && has_room {
                cell.sketch = new_sketch(&mut self.sketches, &mut self.free_sketches, batch, row, source.host);
            }
            if let Some(sketch) = cell.sketch.checked_sub(1) {
                self.sketches.get(sketch as usize).inspect(|sketch| prefetch(*sketch));
                let destination = batch.dst_ip.get(row).unwrap_or_default();
                self.destinations.push((sketch, self.hash.hash_one(destination.0)));
            }
        }
        self.held += window.len() - before;
        if self.held >= HOSTS_MAX {
            self.give_up_idle();
        }
    }

    /// Lets at least a quarter of the entries go, those with the fewest connections.
    #[cold]
    fn give_up_idle(&mut self) {
        let mut by_count = [0usize; SKETCH_FROM as usize + 1];
        let cells = self.windows.iter().flat_map(|(_, window)| window.iter());
        cells.for_each(|(_, cell)| by_count[cell.connections.min(SKETCH_FROM) as usize] += 1);
        let mut gone = 0;
        let level = by_count.iter().position(|hosts| {
            gone += hosts;
            gone >= HOSTS_MAX / 4
        });
        let level = level.unwrap_or_default() as u32;
        // The last level stands for all above it: then every host goes that has no sketch.
        for (_, window) in &mut self.windows {
            window.retain(|cell| {
                let kept = cell.connections > level && level < SKETCH_FROM || cell.sketch != 0;
                self.given_up_connections += if kept { 0 } else { u64::from(cell.connections) };
                kept
            });
        }
        self.held = self.windows.iter().map(|(_, window)| window.len()).sum();
    }

    pub(super) fn busy(&self, above: u64) -> Vec<HostCounts> {
        let mut busiest: BTreeMap<Addr, HostCounts> = BTreeMap::new();
        for (number, window) in &self.windows {
            for (host, cell) in window.iter().filter(|(_, cell)| u64::from(cell.connections) > above) {
                let (connections, window_ms) = (u64::from(cell.connections), number * WINDOW_MS);
                // Of windows alike, the earliest.
                let rank = |connections, window_ms| (connections, std::cmp::Reverse(window_ms));
                let known = busiest.get(&host).map(|known| rank(known.connections, known.window_ms));
                if known.is_some_and(|known| known >= rank(connections, window_ms)) {
                    continue;
                }
                let sketch = self.sketches.get((cell.sketch as usize).wrapping_sub(1)).and_then(Option::as_ref);
                let subject = Subject { host: Some(host.to_string()), ..Subject::default() };
                let counts = HostCounts {
                    subject: sketch.map_or(subject, |sketch| sketch.subject.clone()),
                    window_ms,
                    connections,
                    unique_destinations: sketch.map_or(0, |s| s.hll.estimate().round() as u64).min(connections),
                    bytes: cell.bytes,
                };
                busiest.insert(host, counts);
            }
        }
        busiest.into_values().collect()
    }

    pub(super) fn changes(&mut self, changes: &mut Vec<Change>) {
        changes.extend(self.removed.drain(..).map(|number| (key(HOSTS, &[&number.to_be_bytes()]), None)));
        for (number, window) in self.windows.iter_mut().filter(|(_, window)| window.is_dirty) {
            window.is_dirty = false;
            let mut value = Vec::with_capacity(window.len() * 32);
            for (host, cell) in window.iter() {
                let sketch = self.sketches.get((cell.sketch as usize).wrapping_sub(1)).and_then(Option::as_ref);
                let hll = sketch.map_or_else(Vec::new, |sketch| sketch.hll.serialize());
                let subject = sketch.and_then(|sketch| serde_json::to_vec(&sketch.subject).ok()).unwrap_or_default();
                value.extend(host.0.to_be_bytes());
                value.extend(cell.bytes.to_be_bytes());
                value.extend(cell.connections.to_be_bytes());
                for part in [hll, subject] {
                    value.extend((part.len() as u32).to_be_bytes());
                    value.extend(part);
                }
            }
            changes.push((key(HOSTS, &[&number.to_be_bytes()]), Some(value)));
        }
    }

    pub(super) fn restore(&mut self, key: &[u8], mut value: &[u8]) {
        let Some((number, [])) = take::<8>(key) else { return };
        let number = i64::from_be_bytes(number);
        self.newest = self.newest.max(number);
        while let Some((host, cell, sketch, rest)) = read_host(value) {
            value = rest;
            if self.held >= HOSTS_MAX {
                break;
            }
            let sketch = sketch.map_or(0, |sketch| keep_sketch(&mut self.sketches, &mut self.free_sketches, sketch));
            let window = self.window(number);
            let (_, window) = &mut self.windows[window];
            let before = window.len();
            *window.cell(window.find(Addr(host))) = Cell { sketch, ..cell };
            self.held += window.len() - before;
        }
    }
}

fn read_host(value: &[u8]) -> Option<(u128, Cell, Option<Sketch>, &[u8])> {
    let (host, value) = take::<16>(value)?;
    let (bytes, value) = take::<8>(value)?;
    let (connections, value) = take::<4>(value)?;
    let cell = Cell { bytes: u64::from_be_bytes(bytes), connections: u32::from_be_bytes(connections), sketch: 0 };
    let part = |value| {
        let (length, value) = take::<4>(value)?;
        value.split_at_checked(u32::from_be_bytes(length) as usize)
    };
    let (hll, value) = part(value)?;
    let (subject, value) = part(value)?;
    let sketch = HllSketch::deserialize(hll).ok().zip(serde_json::from_slice(subject).ok());
    Some((u128::from_be_bytes(host), cell, sketch.map(|(hll, subject)| Sketch { hll, subject }), value))
}

#[cold]
fn new_sketch(
    sketches: &mut Vec<Option<Sketch>>,
    free: &mut Vec<u32>,
    batch: &FlowBatch,
    row: usize,
    source: Addr,
) -> u32 {
    let Ok(hll) = HllSketch::new(SKETCH_LG_K, HllType::Hll8) else { return 0 };
    let subject = Subject {
        host: Some(source.to_string()),
        subscriber_id: batch.subscriber_id.get(row).copied(),
        reseller_id: batch.reseller_id.get(row).copied(),
        nas_id: batch.nas_id.get(row).map(ToString::to_string),
        site: batch.site.get(row).map(ToString::to_string),
        ..Subject::default()
    };
    keep_sketch(sketches, free, Sketch { hll, subject })
}

/// Number of the sketch plus 1; 0 when there is no room.
fn keep_sketch(sketches: &mut Vec<Option<Sketch>>, free: &mut Vec<u32>, sketch: Sketch) -> u32 {
    if let Some(number) = free.pop() {
        sketches[number as usize] = Some(sketch);
        return number + 1;
    }
    if sketches.len() >= SKETCHES_MAX {
        return 0;
    }
    sketches.push(Some(sketch));
    sketches.len() as u32
}

fn free_sketch(sketches: &mut [Option<Sketch>], free: &mut Vec<u32>, cell: &Cell) {
    if let Some(number) = cell.sketch.checked_sub(1) {
        sketches[number as usize] = None;
        free.push(number);
    }
}
