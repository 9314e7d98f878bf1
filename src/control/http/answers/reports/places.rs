//! Sums by place over the days of a report: filled day by day, so that a month of hours of every site is never held at once by a
//! store.

use std::collections::{BTreeMap, HashSet};

use crate::flow::store::{AnswerRow, TimeRange};
use crate::flow::time::{DAY_MS, HOUR_MS};
use crate::flow::value::Value;
use crate::flow::{Direction, Text, Uuid};

use super::calendar::hour_of_day;

/// Reseller, access server and site; what a level does not tell apart is `None`, as is what is unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceKey {
    /// Reseller.
    pub reseller: Option<Uuid>,
    /// Access server.
    pub nas: Option<Text>,
    /// Site.
    pub site: Option<Text>,
}

impl PlaceKey {
    /// Of a row whose keys begin with nas_id, site, reseller_id.
    pub fn of(row: &AnswerRow) -> Self {
        let text = |index: usize| match row.keys.get(index) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        let reseller = match row.keys.get(2) {
            Some(Value::Uuid(uuid)) => Some(*uuid),
            _ => None,
        };
        Self { reseller, nas: text(0), site: text(1) }
    }

    /// The reseller alone.
    pub fn of_reseller(self) -> Self {
        Self { reseller: self.reseller, nas: None, site: None }
    }

    /// The site alone, whoever's.
    pub fn of_site(self) -> Self {
        Self { reseller: None, ..self }
    }
}

/// Bytes by direction; packets and flows of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Sums {
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub bytes_internal: u64,
    pub bytes_transit: u64,
    pub packets: u64,
    pub flows: u64,
}

impl Sums {
    fn add(&mut self, row: &AnswerRow) {
        let m = &row.measures;
        let bytes = match direction(row) {
            Some(Direction::In) => &mut self.bytes_in,
            Some(Direction::Out) => &mut self.bytes_out,
            Some(Direction::Internal) => &mut self.bytes_internal,
            // The second row of an internal flow.
            Some(Direction::InternalIn) => return,
            _ => &mut self.bytes_transit,
        };
        *bytes = bytes.saturating_add(m.bytes);
        self.packets = self.packets.saturating_add(m.packets);
        self.flows = self.flows.saturating_add(m.flows);
    }

    /// Bytes to and from the customers.
    pub fn in_and_out(&self) -> u64 {
        self.bytes_in.saturating_add(self.bytes_out)
    }
}

fn direction(row: &AnswerRow) -> Option<Direction> {
    match row.keys.get(3) {
        Some(Value::Direction(direction)) => Some(*direction),
        _ => None,
    }
}

/// Bytes in and out of the buckets that have any; the other buckets count as 0.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    bytes_in: Vec<u64>,
    bytes_out: Vec<u64>,
}

impl Buckets {
    fn extend(&mut self, buckets: &BTreeMap<i64, (u64, u64)>) {
        self.bytes_in.extend(buckets.values().map(|b| b.0).filter(|bytes| *bytes > 0));
        self.bytes_out.extend(buckets.values().map(|b| b.1).filter(|bytes| *bytes > 0));
    }

    /// Values held.
    pub fn len(&self) -> usize {
        self.bytes_in.len() + self.bytes_out.len()
    }

    /// The 95th percentiles of in and of out over `all` buckets of this width, bit/s.
    pub fn p95_bps(&self, all: usize, bucket_ms: i64) -> (u64, u64) {
        let bps = |bytes: &[u64]| bits_per_second(percentile_95(bytes, all), bucket_ms);
        (bps(&self.bytes_in), bps(&self.bytes_out))
    }
}

/// Bytes of a bucket as a rate, rounded down.
fn bits_per_second(bytes: u64, bucket_ms: i64) -> u64 {
    let bps = u128::from(bytes) * 8 * 1000 / bucket_ms.max(1) as u128;
    u64::try_from(bps).unwrap_or(u64::MAX)
}

/// The 95th percentile by nearest rank: the smallest value that at least 95 % of all buckets do not exceed. Buckets that are not in
/// the list are 0.
fn percentile_95(bytes: &[u64], all: usize) -> u64 {
    let all = all.max(bytes.len());
    let zeros = all - bytes.len();
    let rank = (all * 95).div_ceil(100);
    let Some(index) = rank.checked_sub(zeros + 1) else { return 0 };
    let mut bytes = bytes.to_vec();
    *bytes.select_nth_unstable(index).1
}

/// What a report holds of one place.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Sums of the report's month and of each month before it.
    pub months: Vec<Sums>,
    /// Bytes in and out by hour of the day, of the report's month.
    pub by_hour: [u64; 24],
    /// Hours of the report's month with any traffic.
    pub hours_seen: u64,
    /// Buckets of the report's month.
    pub buckets: Buckets,
    /// The greater of the 95th percentiles of in and out of each whole day (bit/s, of hours), by the day's start.
    pub days: BTreeMap<i64, u64>,
    /// Subscribers with traffic in the report's month.
    pub subscribers: HashSet<Uuid>,
}

/// Places at one level of detail.
pub struct Level {
    /// Sums by place.
    pub places: BTreeMap<PlaceKey, Place>,
    key: fn(PlaceKey) -> PlaceKey,
}

/// One day of a report.
pub struct Day {
    /// Its time: the report may begin or end within it.
    pub range: TimeRange,
    /// How many months before the report's month: 0 = that month.
    pub month: usize,
    /// Months of the report.
    pub months: usize,
    /// Offset from UTC, ms.
    pub offset_ms: i64,
    /// Whether its hours are the buckets of the month's percentile.
    pub hours_are_buckets: bool,
}

impl Level {
    /// No places yet.
    pub fn new(key: fn(PlaceKey) -> PlaceKey) -> Self {
        Self { places: BTreeMap::new(), key }
    }

    /// Adds a day's hours: rows by nas_id, site, reseller_id, direction.
    pub fn add_hours(&mut self, day: &Day, rows: &[AnswerRow]) {
        let mut hours: BTreeMap<PlaceKey, BTreeMap<i64, (u64, u64)>> = BTreeMap::new();
        for row in rows {
            let key = (self.key)(PlaceKey::of(row));
            let place = self.places.entry(key.clone()).or_default();
            place.months.resize(day.months, Sums::default());
            place.months[day.month].add(row);
            add_bucket(hours.entry(key).or_default(), row);
        }
        let whole = day.range.to - day.range.from == DAY_MS;
        for (key, hours) in hours {
            let Some(place) = self.places.get_mut(&key) else { continue };
            if whole {
                let mut buckets = Buckets::default();
                buckets.extend(&hours);
                let (p95_in, p95_out) = buckets.p95_bps(24, HOUR_MS);
                place.days.insert(day.range.from, p95_in.max(p95_out));
            }
            if day.month > 0 {
                continue;
            }
            place.hours_seen += hours.len() as u64;
            for (at, (bytes_in, bytes_out)) in &hours {
                let sum = &mut place.by_hour[hour_of_day(*at, day.offset_ms)];
                *sum = sum.saturating_add(bytes_in.saturating_add(*bytes_out));
            }
            if day.hours_are_buckets {
                place.buckets.extend(&hours);
            }
        }
    }

    /// Adds a day's buckets where those of the percentile are narrower than hours.
    pub fn add_buckets(&mut self, rows: &[AnswerRow]) {
        let mut buckets: BTreeMap<PlaceKey, BTreeMap<i64, (u64, u64)>> = BTreeMap::new();
        for row in rows {
            add_bucket(buckets.entry((self.key)(PlaceKey::of(row))).or_default(), row);
        }
        for (key, buckets) in buckets {
            self.places.entry(key).or_default().buckets.extend(&buckets);
        }
    }

    /// Adds subscribers: rows by nas_id, site, reseller_id, subscriber_id.
    pub fn add_subscribers(&mut self, rows: &[AnswerRow]) {
        for row in rows {
            let Some(Value::Uuid(subscriber)) = row.keys.get(3) else { continue };
            let place = self.places.entry((self.key)(PlaceKey::of(row))).or_default();
            place.subscribers.insert(*subscriber);
        }
    }

    /// Bucket values held, of all places.
    pub fn values(&self) -> usize {
        self.places.values().map(|place| place.buckets.len()).sum()
    }
}

fn add_bucket(buckets: &mut BTreeMap<i64, (u64, u64)>, row: &AnswerRow) {
    let Some(at) = row.interval else { return };
    let (bytes_in, bytes_out) = buckets.entry(at).or_default();
    match direction(row) {
        Some(Direction::In) => *bytes_in = bytes_in.saturating_add(row.measures.bytes),
        Some(Direction::Out) => *bytes_out = bytes_out.saturating_add(row.measures.bytes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_95th_percentile_is_of_all_buckets_the_empty_ones_too() {
        let to_100: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile_95(&to_100, 100), 95);
        // 744 hours of January, 40 with traffic: rank 707, the third of them.
        let some: Vec<u64> = (1..=40).rev().collect();
        assert_eq!(percentile_95(&some, 744), 3);
        assert_eq!(percentile_95(&some, 10_000), 0);
        assert_eq!(percentile_95(&[7], 1), 7);
        assert_eq!(percentile_95(&[], 0), 0);
        assert_eq!(percentile_95(&[1, 2], 1), 2);
    }

    #[test]
    fn rates_are_bits_a_second() {
        assert_eq!(bits_per_second(450_000_000, HOUR_MS), 1_000_000);
        assert_eq!(bits_per_second(u64::MAX, 1), u64::MAX);
    }
}
