//! Rows that are set aside while the sink has not yet committed what they are left out of.
//!
//! They are on disk from then on, so that no crash loses them, but in no list and no sum until they are settled: the commit is
//! known to be done, or not. What a process leaves unsettled the next one finds as any other record, and the sink's
//! cursor tells what becomes of it.

use std::io;

use super::file::{Head, Refused};
use super::{Fate, Item, Quarantine, Status};
use crate::flow::time::now_ms;

impl Quarantine {
    /// Keeps rows that the sink leaves out of what it is about to commit. On `Ok` they are durable.
    pub(in crate::deliver) fn keep_tentatively(&self, refused: &[Refused]) -> io::Result<()> {
        for refused in refused {
            self.write_tentatively(&refused.head(self.log, now_ms()), refused, true)?;
        }
        if refused.is_empty() { Ok(()) } else { self.sync() }
    }

    /// The name of the file for a row of a record that is in quarantine as a whole.
    pub(in crate::deliver) fn part_name(&self, whole: &Head, refused: &Refused) -> String {
        part_head(whole, refused).name()
    }

    /// Keeps rows of records that are in quarantine as a whole, each with the head of its record and what is known of it. To
    /// be settled or withdrawn one by one. On `Ok` they are durable.
    pub(in crate::deliver) fn keep_parts(&self, parts: &[(Head, Item, Refused)]) -> io::Result<()> {
        for (whole, item, refused) in parts {
            self.write_tentatively(&part_head(whole, refused), refused, item.own)?;
        }
        if parts.is_empty() { Ok(()) } else { self.sync() }
    }

    fn write_tentatively(&self, head: &Head, refused: &Refused, own: bool) -> io::Result<()> {
        // The index is read before the file is there, or it would be found as a record.
        self.with_index(|_| ())?;
        let (name, item) = self.write(head, refused, own)?;
        self.with_index(|index| index.tentative.insert(name, item)).map(drop)
    }

    /// The sink's cursor stands at a position. What is tentative up to there is in quarantine now, and counted; what lies after
    /// it was not committed and is no more than what an earlier run left. Gives the flows of the former.
    pub(in crate::deliver) fn settle(&self, position: u64, status: &Status) -> io::Result<u64> {
        let flows = self.with_index(|index| {
            let mut flows = 0;
            for (name, item) in std::mem::take(&mut index.tentative) {
                let own = item.position <= position;
                flows += if own { item.flows } else { 0 };
                index.insert(name, Item { own, ..item });
            }
            flows
        })?;
        status.set_aside_flows.add(flows);
        Ok(flows)
    }

    /// After settling: drops the oldest over the bounds, shows the sums.
    pub(in crate::deliver) fn tidy(&self, status: &Status) {
        if let Err(error) = self.trim(status) {
            tracing::warn!(folder = %self.folder.display(), %error, "the quarantine's oldest records cannot be dropped");
        }
    }

    /// The sink is past a position of which the log did not know it: what an earlier run set aside between the log's position and
    /// the sink's was waiting when this run began, and is counted among what this run set aside. Gives its flows.
    pub(in crate::deliver) fn adopt(&self, after: u64, upto: u64, status: &Status) -> io::Result<u64> {
        let from = format!("{:020}", after.saturating_add(1));
        let flows = self.with_index(|index| {
            let items = index.items.range_mut(from..).map(|(_, item)| item);
            let mut flows = 0;
            for item in items.take_while(|item| item.position <= upto).filter(|item| item.of_this_log && !item.own) {
                item.own = true;
                flows += item.flows;
            }
            flows
        })?;
        status.set_aside_flows.add(flows);
        Ok(flows)
    }

    /// Nothing of what is tentative was committed: it goes, durably.
    pub(in crate::deliver) fn withdraw(&self) -> io::Result<()> {
        let names: Vec<String> = self.with_index(|index| index.tentative.keys().cloned().collect())?;
        names.iter().try_for_each(|name| self.withdraw_one(name))?;
        if names.is_empty() { Ok(()) } else { self.sync() }
    }

    /// A part is in quarantine; its record is to leave it.
    pub(in crate::deliver) fn settle_part(&self, name: &str) -> io::Result<()> {
        self.with_index(|index| {
            if let Some(item) = index.tentative.remove(name) {
                index.insert(name.to_owned(), item);
            }
        })
    }

    /// A part goes, since its record stays. Durable with the next [`Quarantine::sync`].
    pub(in crate::deliver) fn withdraw_one(&self, name: &str) -> io::Result<()> {
        self.remove_file(name)?;
        self.with_index(|index| {
            index.tentative.remove(name);
            index.remove(name);
        })
    }

    /// Takes records out that the log brings to the sink in their turn, durably: else they could come back after the sink has
    /// stored them.
    pub(in crate::deliver) fn take_back(&self, names: &[String], status: &Status) -> io::Result<()> {
        names.iter().try_for_each(|name| self.remove(name, Fate::Returned, status).map(drop))?;
        if names.is_empty() { Ok(()) } else { self.sync() }
    }
}

fn part_head(whole: &Head, refused: &Refused) -> Head {
    Head { position: whole.position, ..refused.head(whole.log, now_ms()) }
}
