//! Many addresses at once: each step is made for a group of addresses before the next one, and none of it branches on what was
//! found. So the processor waits for the memory of a whole group at a time, not of one address after another.

use std::hint::select_unpredictable;

use super::{NODE, Tree, first_word};

/// Addresses of a group: enough that their loads fill the processor's queues.
const GROUP: usize = 32;

impl Tree<32> {
    /// Appends the value of each address.
    pub fn find_all(&self, addrs: &[u32], values: &mut Vec<u32>) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("bmi2") {
            // SAFETY: the processor has what the function is compiled for.
            return unsafe { self.find_by_popcnt(addrs, values) };
        }
        self.find(addrs, values);
    }

    /// Counting the runs before a slot is one instruction of these processors, else a dozen.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "popcnt,bmi1,bmi2")]
    fn find_by_popcnt(&self, addrs: &[u32], values: &mut Vec<u32>) {
        self.find(addrs, values);
    }

    #[inline(always)]
    fn find(&self, addrs: &[u32], values: &mut Vec<u32>) {
        let (groups, rest) = addrs.as_chunks::<GROUP>();
        values.reserve(addrs.len());
        for group in groups {
            let mut found = [0; GROUP];
            for (entry, addr) in found.iter_mut().zip(group) {
                *entry = self.top(addr >> 16);
            }
            self.descend(group, 8, &mut found);
            self.descend(group, 0, &mut found);
            values.extend_from_slice(&found);
        }
        values.extend(rest.iter().map(|addr| self.get(*addr)));
    }

    /// One step down for every address whose entry is a node; the others look where nothing is to be found.
    #[inline(always)]
    fn descend(&self, addrs: &[u32; GROUP], shift: u32, found: &mut [u32; GROUP]) {
        if found.iter().fold(0, |all, entry| all | entry) & NODE == 0 {
            return;
        }
        let mut places = [0; GROUP];
        for ((place, entry), addr) in places.iter_mut().zip(&*found).zip(addrs) {
            let word = if entry & NODE != 0 { first_word(*entry) } else { 0 };
            *place = self.place(word, addr >> shift & 0xff);
        }
        for (entry, place) in found.iter_mut().zip(&places) {
            let below = self.entries[*place as usize];
            *entry = select_unpredictable(*entry & NODE != 0, below, *entry);
        }
    }
}
