//! A leaf's rows, ready to be encoded page by page.

use sink_api::Text;
use uuid::Uuid;

use super::lanes::Lanes;

/// A leaf's rows, in their slots (see [`super::places`]). Presence has one byte a row (1 = set), or is `None` when every row is
/// set; what stands for a null row is not written.
#[derive(Debug)]
pub(super) enum Content {
    /// Every row is null.
    Null,
    /// Every row has the dictionary's only value.
    Same(Distinct),
    /// Codes of the dictionary's values, the first of which is 0.
    Coded(Distinct, Lanes, Option<Vec<u8>>),
    /// Numbers, each as what it is above `base`.
    Numbers { base: u64, values: Lanes, present: Option<Vec<u8>> },
    /// IPv6 addresses.
    Fixed16(Vec<u128>, Option<Vec<u8>>),
}

/// The values of a dictionary. Texts and UUIDs are ordered, so that their codes order as they do.
#[derive(Debug)]
pub(super) enum Distinct {
    /// As they are stored, signed.
    Numbers(Vec<i64>),
    Texts(Vec<Text>),
    Uuids(Vec<Uuid>),
}

impl Content {
    /// Whether one page holds any number of rows in a few bytes.
    pub(super) fn is_uniform(&self) -> bool {
        matches!(self, Self::Null | Self::Same(_))
    }

    /// The dictionary.
    pub(super) fn distinct(&self) -> Option<&Distinct> {
        match self {
            Self::Same(distinct) | Self::Coded(distinct, ..) => Some(distinct),
            Self::Null | Self::Numbers { .. } | Self::Fixed16(..) => None,
        }
    }
}

/// Settles presence for the rows that are stored: nothing when none is set, no presence when all are.
pub(super) fn settle(present: Option<Vec<u8>>, content: impl FnOnce(Option<Vec<u8>>) -> Content) -> Content {
    match present {
        Some(present) if !present.contains(&1) => Content::Null,
        Some(present) if !present.contains(&0) => content(None),
        present => content(present),
    }
}
