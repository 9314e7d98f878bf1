//! The hosts of one window of time: IPv4 in a table that a look-up touches one cache line of, IPv6 in a map.

use std::hash::BuildHasher as _;

use super::Map;
use crate::aggregate::{Place, Table};
use crate::flow::Addr;

/// Bit of the keys of IPv4 hosts above their address: key 0 is none.
const V4: u64 = 1 << 32;
/// Bytes of a host at most: a table grows by half and is at most 3/4 full, a map by doubling and at most 7/8.
pub(super) const HOST_BYTES: usize = 2 * (size_of::<(u128, Cell)>() + 1) * 8 / 7;

/// What is counted of a host.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    pub(super) bytes: u64,
    pub(super) connections: u32,
    /// Number of its sketch plus 1; 0 = none.
    pub(super) sketch: u32,
}

/// A host, and where its cell is likely to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) host: Addr,
    hash: u64,
    place: Place,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Window {
    v4: Table<Cell>,
    v6: Map<u128, Cell>,
    /// Seeded at random: hosts can be chosen by an attacker.
    state: foldhash::fast::RandomState,
    /// Whether it changed since it was saved.
    pub(super) is_dirty: bool,
}

impl Window {
    /// Hosts held.
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Bytes held.
    pub(super) fn memory_bytes(&self) -> usize {
        self.v4.used_bytes() + self.v6.capacity() * (size_of::<(u128, Cell)>() + 1) * 8 / 7
    }

    /// Finds a host, and has the cell of an IPv4 host fetched into the cache.
    #[inline]
    pub(super) fn find(&self, host: Addr) -> Found {
        let hash = host.as_v4().map_or(0, |bits| self.state.hash_one(V4 | u64::from(bits)));
        Found { host, hash, place: self.v4.prefetch(hash) }
    }

    /// The cell of a host that was looked for, made when there is none.
    #[inline]
    pub(super) fn cell(&mut self, Found { host, hash, place }: Found) -> &mut Cell {
        match host.as_v4() {
            Some(bits) => self.v4.entry_at(place, hash, V4 | u64::from(bits), |key| self.state.hash_one(key)),
            None => self.v6.entry(host.0).or_default(),
        }
    }

    /// Every host with its cell.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Addr, &Cell)> {
        let v4 = self.v4.iter().map(|(key, cell)| (Addr::v4(key as u32), cell));
        v4.chain(self.v6.iter().map(|(bits, cell)| (Addr(*bits), cell)))
    }

    /// Keeps the hosts for which `keep` says so.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&Cell) -> bool) {
        self.v6.retain(|_, cell| keep(cell));
        let hash_of = |key| self.state.hash_one(key);
        let kept: Vec<_> = std::mem::take(&mut self.v4).into_entries().filter(|(_, cell)| keep(cell)).collect();
        self.v4.reserve(kept.len(), hash_of);
        for (key, cell) in kept {
            *self.v4.entry(hash_of(key), key, hash_of) = cell;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_one_cell_and_the_chosen_stay() {
        let mut window = Window::default();
        let cell = |window: &mut Window, host: Addr| *window.cell(window.find(host));
        let hosts = |n: u32| [Addr::v4(n), Addr(0x2001_0db8 << 96 | u128::from(n))];
        for n in 0..20_000u32 {
            for host in hosts(n) {
                let found = window.find(host);
                window.cell(found).bytes += u64::from(n);
                window.cell(found).connections += 1;
            }
        }
        assert_eq!(window.len(), 40_000);
        assert!(window.memory_bytes() <= 40_000 * HOST_BYTES, "{}", window.memory_bytes());
        window.retain(|cell| cell.bytes % 4 == 0);
        let mut left: Vec<_> = window.iter().map(|(host, cell)| (host, cell.bytes, cell.connections)).collect();
        left.sort_unstable();
        let want = (0..20_000u32).filter(|n| n % 4 == 0).flat_map(|n| hosts(n).map(|host| (host, u64::from(n), 1)));
        let mut want: Vec<_> = want.collect();
        want.sort_unstable();
        assert_eq!(left, want);
        assert_eq!(cell(&mut window, Addr::v4(8)).bytes, 8);
        assert_eq!(cell(&mut window, Addr::v4(9)).bytes, 0);
    }
}
