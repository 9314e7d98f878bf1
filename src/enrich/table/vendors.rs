use hashbrown::HashMap;

use crate::flow::Text;

/// Lengths of the IEEE's assignments, bits, the longest first.
const LENGTHS: [u32; 3] = [36, 28, 24];

/// Vendors of network cards by the first bits of their addresses.
#[derive(Debug, Default)]
pub struct Vendors {
    /// By the bits and how many they are.
    names: HashMap<(u64, u32), Text, foldhash::fast::RandomState>,
}

impl Vendors {
    /// Who has an assignment: its bits and how many they are.
    pub fn add(&mut self, prefix: (u64, u32), name: Text) {
        self.names.insert(prefix, name);
    }

    /// The vendor of an address of 48 bits.
    pub fn get(&self, mac: u64) -> Option<&Text> {
        LENGTHS.iter().find_map(|length| self.names.get(&(mac >> (48 - length), *length)))
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        self.names.values().map(|name| name.len() + 64).sum()
    }
}
