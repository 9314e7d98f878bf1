//! Rollups: additive partial sums. Readers sum the rows of one key and bucket; late data, restarts and several collectors
//! need no upsert.

mod rows;

use std::sync::Arc;

use crate::batch::Field;
use crate::column::Text;
use crate::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use crate::value::Kind;

pub use rows::{KeyColumn, Measures, RollupRows};

/// What flows are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A column of the flow record.
    Field(Field),
    /// An address of the flow, one row for the source and one for the destination; goes with [`Key::Role`].
    Host,
    /// Which side [`Key::Host`] was: see [`Role`].
    Role,
    /// Country of [`crate::Direction::outer_side`].
    Country,
    /// AS of [`crate::Direction::outer_side`].
    Asn,
}

impl Key {
    /// Its column name in tables, files and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Key::Field(field) => field.name(),
            Key::Host => "host",
            Key::Role => "role",
            Key::Country => "country",
            Key::Asn => "asn",
        }
    }

    /// The key of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        let own = [Key::Host, Key::Role, Key::Country, Key::Asn].into_iter();
        own.chain(Field::ALL.iter().map(|f| Key::Field(*f))).find(|k| k.name() == name)
    }

    /// What its values mean.
    pub const fn kind(self) -> Kind {
        match self {
            Key::Field(field) => field.kind(),
            Key::Host => Kind::Ip,
            Key::Role | Key::Asn => Kind::Number,
            Key::Country => Kind::Country,
        }
    }
}

/// Which side of the flow a host was. The numbers are stored; they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Role {
    /// The flow's source.
    Src = 1,
    /// The flow's destination.
    Dst = 2,
}

/// How long rows are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// As long as detail: `retention_detail` of the sink (default 30 days).
    Detail,
    /// As long as sums: `retention_aggregate` of the sink (default 12 months).
    Aggregate,
}

/// What a rollup does beyond grouping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One row a key.
    Plain,
    /// `talkers`: every customer host, and at each emission the `others` heaviest hosts that are not, the remainder
    /// folded into one row without host for each combination of the other keys (role among them), whose `cut_bytes` is the
    /// largest sum folded into it.
    Talkers {
        /// How many hosts that are no customers are kept at each emission.
        others: usize,
    },
    /// Flows within the customer networks are booked for the destination's subscriber as well, as `internal_in`.
    PerSubscriber,
}

/// Definition of one rollup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollupDef {
    /// Its name: table, measurement, folder.
    pub name: Text,
    /// Width of a bucket in ms; buckets are aligned to the Unix epoch.
    pub bucket_ms: i64,
    /// Retention class.
    pub keep: Keep,
    /// Grouping, in column order.
    pub by: Vec<Key>,
    /// What it does beyond grouping.
    pub shape: Shape,
    /// Whether buckets wider than 5 minutes are emitted now and then while they are open, and not only at their end: for those who
    /// read the store's tables. Questions to the collector have open sums emitted anyway.
    pub while_open: bool,
    /// From when on flows are in it, ms since the Unix epoch: one that is added while flows are stored already knows nothing of
    /// those of before. `i64::MIN` for one that was always there.
    pub since_ms: i64,
}

/// Grouping of `usage_apps`.
const USAGE_APPS: &[Field] = &[
    Field::NasId,
    Field::Site,
    Field::ResellerId,
    Field::SubscriberId,
    Field::Direction,
    Field::Protocol,
    Field::ServicePort,
    Field::App,
];

fn fields(fields: &[Field]) -> Vec<Key> {
    fields.iter().map(|field| Key::Field(*field)).collect()
}

impl RollupDef {
    /// The five rollups that are always there.
    pub fn defaults() -> Vec<Self> {
        use Field::{App, Direction, NasId, Protocol, ResellerId, ServicePort, Site, SubscriberId};
        let def = |name: &str, bucket_ms, keep, by, shape| Self {
            name: name.into(),
            bucket_ms,
            keep,
            by,
            shape,
            while_open: true,
            since_ms: i64::MIN,
        };
        let mut talkers = fields(&[NasId, ResellerId]);
        talkers.extend([Key::Host, Key::Role]);
        let mut geo = fields(&[NasId, ResellerId, Direction]);
        geo.extend([Key::Country, Key::Asn]);
        vec![
            def(
                "traffic",
                MINUTE_MS,
                Keep::Detail,
                fields(&[NasId, Site, ResellerId, Direction, Protocol, ServicePort, App]),
                Shape::Plain,
            ),
            def("talkers", 5 * MINUTE_MS, Keep::Detail, talkers, Shape::Talkers { others: 1000 }),
            def(
                "usage",
                HOUR_MS,
                Keep::Aggregate,
                fields(&[NasId, Site, ResellerId, SubscriberId, Direction]),
                Shape::PerSubscriber,
            ),
            def("usage_apps", DAY_MS, Keep::Aggregate, fields(USAGE_APPS), Shape::PerSubscriber),
            def("geo", HOUR_MS, Keep::Aggregate, geo, Shape::Plain),
        ]
    }

    /// `usage_ports`: `usage_apps` by the hour, kept as long as detail, for stores that cannot find one subscriber's flows of a day at
    /// once.
    pub fn usage_ports() -> Self {
        let (name, by, shape) = (Text::from("usage_ports"), fields(USAGE_APPS), Shape::PerSubscriber);
        Self { name, bucket_ms: HOUR_MS, keep: Keep::Detail, by, shape, while_open: false, since_ms: i64::MIN }
    }

    /// Whether a bucket is emitted so often, again and again while it is open, that a store does well to fold its rows into one
    /// for each key once it is over.
    pub fn is_worth_folding(&self) -> bool {
        self.while_open && self.bucket_ms >= HOUR_MS
    }

    /// Whether rows of this rollup carry `cut_bytes`.
    pub fn has_cut_bytes(&self) -> bool {
        matches!(self.shape, Shape::Talkers { .. })
    }
}

/// One emission of the aggregator: partial sums, and the log position up to which they hold.
///
/// Everything up to and including `upto` has been added to a row of this or an earlier emission, except what went into
/// the buckets listed in `open`. After a crash the aggregator reads again from `replay_from` and adds a share of the flow
/// at position `p` to bucket `b` only when `p > drained_upto(b)`: the listed value, or `upto` for a bucket not listed.
#[derive(Clone, Debug, Default)]
pub struct RollupSums {
    /// Last log position whose flows have been taken into account.
    pub upto: u64,
    /// First log position that must be read again after a crash; `upto + 1` when no bucket is open.
    pub replay_from: u64,
    /// Buckets that hold sums not emitted yet.
    pub open: Vec<OpenBucket>,
    /// The rows: an entry for each rollup that has any, more when they are very many.
    pub rows: Vec<RollupRows>,
}

/// A bucket that held sums not yet emitted at the time of an emission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenBucket {
    /// Which rollup.
    pub rollup: Text,
    /// Start of the bucket, ms since the Unix epoch.
    pub bucket: i64,
    /// Positions up to and including this one have been emitted for this bucket; 0 when none has.
    pub drained_upto: u64,
}

/// What stands at one position of the log.
#[derive(Clone, Debug)]
pub enum Record {
    /// Flows, as a worker made them.
    Flows(Arc<crate::FlowBatch>),
    /// Sums, as the aggregator emitted them.
    Sums(Arc<RollupSums>),
    /// Beginnings and ends of alerts. Stores that have no place for them pass over.
    Alerts(Arc<Vec<crate::AlertRow>>),
}

impl Record {
    /// Rows in this record: flows, rows of all rollups, or alerts.
    pub fn row_count(&self) -> usize {
        match self {
            Record::Flows(batch) => batch.len(),
            Record::Sums(sums) => sums.rows.iter().map(RollupRows::len).sum(),
            Record::Alerts(rows) => rows.len(),
        }
    }

    /// Flow rows in this record.
    pub fn flow_count(&self) -> u64 {
        match self {
            Record::Flows(batch) => batch.len() as u64,
            Record::Sums(_) | Record::Alerts(_) => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_rollup_has_the_reseller_in_its_key_and_can_hold_rows() {
        let defs = RollupDef::defaults();
        let names: Vec<_> = defs.iter().map(|d| &*d.name).collect();
        assert_eq!(names, ["traffic", "talkers", "usage", "usage_apps", "geo"]);
        for def in defs.iter().chain([&RollupDef::usage_ports()]) {
            assert!(def.by.contains(&Key::Field(Field::ResellerId)), "{}", def.name);
            assert!(RollupRows::new(def).is_some(), "{}", def.name);
            for key in &def.by {
                assert_eq!(Key::from_name(key.name()), Some(*key));
            }
        }
    }
}
