use std::fmt;

use hashbrown::HashSet;
use maxminddb::{MaxMindDbError, Reader, WithinOptions};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// Leaves that a sound search tree can have for each of its nodes, with room.
const LEAVES_PER_NODE_MAX: u64 = 3;

/// Whether a database is sound through and through.
///
/// The crate's check also wants a description, which the databases of ip-location-db lack; of those the search tree and every
/// record are checked here.
pub(super) fn verify(reader: &Reader<Vec<u8>>) -> Result<(), MaxMindDbError> {
    match reader.verify() {
        Err(_) if reader.metadata().description.is_empty() => verify_tree_and_records(reader),
        result => result,
    }
}

/// Its search tree ends everywhere, and every record can be read to its last part.
pub(in crate::enrich::sources) fn verify_tree_and_records(reader: &Reader<Vec<u8>>) -> Result<(), MaxMindDbError> {
    let leaves_max = u64::from(reader.metadata().node_count).saturating_mul(LEAVES_PER_NODE_MAX);
    let mut seen: HashSet<usize, foldhash::fast::RandomState> = HashSet::default();
    for (leaf, result) in (0..).zip(reader.networks(WithinOptions::default().include_networks_without_data())?) {
        if leaf > leaves_max {
            return Err(MaxMindDbError::invalid_database("the search tree has a cycle"));
        }
        let result = result?;
        if result.offset().is_some_and(|offset| seen.insert(offset)) {
            result.decode::<Everything>()?;
        }
    }
    Ok(())
}

/// Any value, read to its last part and dropped.
struct Everything;

impl<'de> Deserialize<'de> for Everything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Everything)
    }
}

/// Accepts these scalars as they are.
macro_rules! accept {
    ($($visit:ident: $ty:ty),*) => {
        $(fn $visit<E>(self, _: $ty) -> Result<Self, E> { Ok(Everything) })*
    };
}

impl<'de> Visitor<'de> for Everything {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    accept!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_u128: u128, visit_f64: f64, visit_str: &str, visit_bytes: &[u8]);

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self, A::Error> {
        while values.next_element::<Everything>()?.is_some() {}
        Ok(Everything)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<Everything, Everything>()?.is_some() {}
        Ok(Everything)
    }
}
