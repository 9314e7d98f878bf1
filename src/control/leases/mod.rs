//! Leases as the outside states and reads them, kept in memory for the workers and in the state database for the next start.
//!
//! A change is in force at once; [`LeaseBook::save`] returns when it is on disk. Changes that come at the same time share one
//! transaction. What is saved of an address is all that is known of it, so saving twice, or in another order, does no harm.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::state::{State, StateError};
use crate::enrich::Enrichment;
use crate::enrich::LeaseRow;
use crate::enrich::leases::{Lease, TooManyLeases};
use crate::enrich::names::TooManyNames;
use crate::enrich::sql::LeaseChanges;
use crate::enrich::table::Holder;
use crate::flow::time::{DAY_MS, MINUTE_MS};
use crate::flow::{Addr, Text, Uuid};

pub use crate::enrich::leases::parse_mac;

/// How long an interval is kept after its end, ms: flows of that time still arrive (the longest export intervals are an
/// hour, an exporter that was cut off may send what it held).
pub const KEPT_AFTER_END_MS: i64 = DAY_MS;

/// How often ended intervals are looked for, ms.
const TIDY_EVERY_MS: i64 = MINUTE_MS;

/// An address is someone's during an interval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// Whose.
    pub subscriber_id: Uuid,
    /// Whose subscriber that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reseller_id: Option<Uuid>,
    /// The access server, when it is known by the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nas_id: Option<Text>,
    /// The site, when it is known by the lease.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<Text>,
    /// MAC address of the customer's device, 48 bits; 0 = not stated.
    #[serde(default)]
    pub mac: u64,
    /// First ms.
    pub from_ms: i64,
    /// First ms after it; `i64::MAX` = open.
    pub to_ms: i64,
}

/// Why a lease is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// See [`crate::enrich::leases::ADDRESSES_MAX`].
    #[error(transparent)]
    Addresses(#[from] TooManyLeases),
    /// See [`crate::enrich::names::NAMES_MAX`].
    #[error(transparent)]
    Names(#[from] TooManyNames),
}

/// Which leases are listed; what is `None` does not matter.
#[derive(Clone, Debug, Default)]
pub struct LeaseQuery {
    /// Only addresses after this one.
    pub after: Option<Addr>,
    /// Only this address.
    pub ip: Option<Addr>,
    /// Only leases of this subscriber.
    pub subscriber_id: Option<Uuid>,
    /// Only leases of this reseller.
    pub reseller_id: Option<Uuid>,
    /// Only leases that name this access server.
    pub nas_id: Option<Text>,
    /// Only leases that name this site.
    pub site: Option<Text>,
    /// Only leases in force at this time, ms.
    pub at_ms: Option<i64>,
    /// Most addresses.
    pub limit: usize,
}

/// A part of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeasePage {
    /// By address, then newest first.
    pub items: Vec<(Addr, LeaseState)>,
    /// Addresses that match, in all pages.
    pub total: usize,
    /// Where the next page begins: its [`LeaseQuery::after`].
    pub next: Option<Addr>,
}

/// The leases, in memory and on disk.
#[derive(Debug)]
pub struct LeaseBook {
    enrichment: Arc<Enrichment>,
    state: Arc<State>,
    /// Addresses whose leases on disk are not those in memory.
    unsaved: Mutex<HashSet<Addr>>,
    /// One transaction at a time.
    saving: Mutex<()>,
    tidied_at_ms: Mutex<i64>,
}

impl LeaseBook {
    /// Takes the saved leases into the enrichment.
    ///
    /// # Errors
    /// The state database refuses.
    pub fn open(enrichment: Arc<Enrichment>, state: Arc<State>) -> Result<Self, StateError> {
        let book = Self {
            enrichment,
            state,
            unsaved: Mutex::default(),
            saving: Mutex::default(),
            tidied_at_ms: Mutex::new(0),
        };
        let mut refused = 0u64;
        for (addr, leases) in book.state.leases()? {
            // Oldest first, as they were given.
            for lease in leases.iter().rev() {
                refused += u64::from(book.set(addr, lease).is_err());
            }
        }
        if refused > 0 {
            tracing::error!(refused, "saved leases are left out: there are more than fit");
        }
        Ok(book)
    }

    /// Puts a lease in force, over what was stated of the address and its time before. Not saved yet.
    ///
    /// # Errors
    /// There is no room; nothing was changed.
    pub fn put(&self, addr: Addr, lease: &LeaseState) -> Result<(), LeaseError> {
        self.set(addr, lease)?;
        self.lock_unsaved().insert(addr);
        Ok(())
    }

    fn set(&self, addr: Addr, lease: &LeaseState) -> Result<(), LeaseError> {
        let names = self.enrichment.names();
        let text = |text: &Option<Text>| text.as_ref().map_or(Ok(0), |text| names.texts.number(text));
        let holder = Holder {
            from_ms: lease.from_ms,
            to_ms: lease.to_ms,
            subscriber: names.uuids.number(&lease.subscriber_id)?,
            reseller: lease.reseller_id.as_ref().map_or(Ok(0), |uuid| names.uuids.number(uuid))?,
            nas: text(&lease.nas_id)?,
            site: text(&lease.site)?,
        };
        Ok(self.enrichment.leases().put(addr, Lease { holder, mac: lease.mac })?)
    }

    /// Takes over what changed in a list of who has which address now, and saves it. An address whose holder has not changed
    /// goes on as it is; one that is gone from the list is ended, unless it was given to someone else meanwhile.
    ///
    /// # Errors
    /// There is no room, or the database refuses; the same list may be taken again.
    pub fn take_changes(&self, changes: &LeaseChanges, now_ms: i64) -> Result<(), String> {
        let in_force = |addr| self.enrichment.leases().get(addr, now_ms).and_then(|lease| self.state_of(&lease));
        for (addr, row) in &changes.put {
            let lease = of_row(row, now_ms);
            let goes_on = row.from_ms.is_none() && row.to_ms.is_none();
            if goes_on && in_force(*addr).is_some_and(|held| is_of_the_same(&held, &lease)) {
                continue;
            }
            self.put(*addr, &lease).map_err(|error| error.to_string())?;
        }
        for (addr, row) in &changes.gone {
            if in_force(*addr).is_some_and(|held| is_of_the_same(&held, &of_row(row, now_ms))) {
                self.end(*addr, now_ms);
            }
        }
        self.save().map_err(|error| error.to_string())
    }

    /// Nobody has the address from a time on. Gives whether anybody had it then or later. Not saved yet.
    pub fn end(&self, addr: Addr, at_ms: i64) -> bool {
        let ended = self.enrichment.leases().end(addr, at_ms);
        if ended {
            self.lock_unsaved().insert(addr);
        }
        ended
    }

    /// Every lease of an address, newest first.
    pub fn of(&self, addr: Addr) -> Vec<LeaseState> {
        self.enrichment.leases().of(addr).iter().filter_map(|lease| self.state_of(lease)).collect()
    }

    /// Brings all changes made before the call to the disk.
    ///
    /// # Errors
    /// The database refuses; the changes stay in force and are tried again with the next ones.
    pub fn save(&self) -> Result<(), StateError> {
        let _turn = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let addrs = std::mem::take(&mut *self.lock_unsaved());
        if addrs.is_empty() {
            // Whoever had the turn before has saved this caller's changes as well.
            return Ok(());
        }
        let saved = self.state.save_leases(addrs.iter().map(|addr| (*addr, self.of(*addr))));
        if saved.is_err() {
            self.lock_unsaved().extend(addrs);
        }
        saved
    }

    /// Forgets intervals that ended [`KEPT_AFTER_END_MS`] ago and saves what is not saved; does nothing when it did so within
    /// the last minute.
    ///
    /// # Errors
    /// As [`LeaseBook::save`].
    pub fn tidy(&self, now_ms: i64) -> Result<(), StateError> {
        let mut tidied_at_ms = self.tidied_at_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if now_ms.saturating_sub(*tidied_at_ms) < TIDY_EVERY_MS {
            return Ok(());
        }
        *tidied_at_ms = now_ms;
        let forgotten = self.enrichment.leases().forget_before(now_ms.saturating_sub(KEPT_AFTER_END_MS));
        self.lock_unsaved().extend(forgotten);
        self.save()
    }

    /// A part of the list. It looks at every lease, so it is no question for a hot loop.
    pub fn page(&self, query: &LeaseQuery) -> LeasePage {
        let names = self.enrichment.names();
        // A name that nobody has a number for is nobody's.
        let uuid = |wanted: &Option<Uuid>| wanted.as_ref().map(|uuid| names.uuids.find(uuid).unwrap_or(u32::MAX));
        let text = |wanted: &Option<Text>| wanted.as_ref().map(|text| names.texts.find(text).unwrap_or(u32::MAX));
        let (subscriber, reseller) = (uuid(&query.subscriber_id), uuid(&query.reseller_id));
        let (nas, site) = (text(&query.nas_id), text(&query.site));
        let is = |wanted: Option<u32>, number: u32| wanted.is_none_or(|wanted| wanted == number);
        let wanted = |Lease { holder, .. }: &Lease| {
            is(subscriber, holder.subscriber)
                && is(reseller, holder.reseller)
                && is(nas, holder.nas)
                && is(site, holder.site)
                && query.at_ms.is_none_or(|at_ms| holder.holds_at(at_ms))
        };
        let leases = self.enrichment.leases();
        let (page, total) = match query.ip {
            None => leases.page(query.after, query.limit, wanted),
            Some(ip) => {
                let found: Vec<Lease> = leases.of(ip).into_iter().filter(wanted).collect();
                let total = usize::from(!found.is_empty());
                ([(ip, found)].into(), total)
            }
        };
        let is_full = query.ip.is_none() && page.len() == query.limit;
        let next = page.last_key_value().map(|(addr, _)| *addr).filter(|_| is_full);
        let item = |(addr, leases): (Addr, Vec<Lease>)| {
            leases.into_iter().filter_map(move |lease| Some((addr, self.state_of(&lease)?)))
        };
        LeasePage { items: page.into_iter().flat_map(item).collect(), total, next }
    }

    /// The vendor of a device, where the list of vendors names one.
    pub fn vendor(&self, mac: u64) -> Option<Text> {
        self.enrichment.table().vendor(mac).cloned()
    }

    /// `None` never happens: a lease in force has a subscriber with a number.
    fn state_of(&self, lease: &Lease) -> Option<LeaseState> {
        let (names, holder) = (self.enrichment.names(), lease.holder);
        Some(LeaseState {
            subscriber_id: *names.uuids.get(holder.subscriber)?,
            reseller_id: names.uuids.get(holder.reseller).copied(),
            nas_id: names.texts.get(holder.nas).cloned(),
            site: names.texts.get(holder.site).cloned(),
            mac: lease.mac,
            from_ms: holder.from_ms,
            to_ms: holder.to_ms,
        })
    }

    fn lock_unsaved(&self) -> std::sync::MutexGuard<'_, HashSet<Addr>> {
        self.unsaved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn of_row(row: &LeaseRow, now_ms: i64) -> LeaseState {
    LeaseState {
        subscriber_id: row.subscriber_id,
        reseller_id: row.reseller_id,
        nas_id: row.nas_id.clone(),
        site: row.site.clone(),
        mac: row.mac,
        from_ms: row.from_ms.unwrap_or(now_ms),
        to_ms: row.to_ms.unwrap_or(i64::MAX),
    }
}

fn is_of_the_same(a: &LeaseState, b: &LeaseState) -> bool {
    (a.subscriber_id, a.reseller_id, &a.nas_id, &a.site, a.mac)
        == (b.subscriber_id, b.reseller_id, &b.nas_id, &b.site, b.mac)
}
