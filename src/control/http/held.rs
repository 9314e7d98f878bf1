//! What was set aside, as the endpoint shows it.

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Who set a record aside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeldBy {
    /// A sink: its store refuses the record or the row.
    #[default]
    Sink,
    /// Decoding: the record cannot be true.
    Decode,
}

/// Something that was set aside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldItem {
    /// Names it in requests.
    pub id: String,
    /// Who set it aside.
    pub by: HeldBy,
    /// When.
    pub at: String,
    /// Why.
    pub reason: String,
    /// Flows in it; sums hold none.
    pub flows: u64,
    /// Bytes: on disk, or of the record as it came.
    pub bytes: u64,
    /// The sink.
    #[schema(required)]
    pub sink: Option<String>,
    /// The log that it stood in.
    #[schema(required)]
    pub log_id: Option<String>,
    /// Its position in that log.
    #[schema(required)]
    pub position: Option<u64>,
    /// The row that is refused; null where the whole record is.
    #[schema(required)]
    pub row: Option<u64>,
    /// `flows` or `sums`.
    #[schema(required)]
    pub holds: Option<&'static str>,
    /// Who exported it.
    #[schema(required)]
    pub exporter: Option<String>,
    /// The exporter's UDP port.
    #[schema(required)]
    pub source_port: Option<u16>,
    /// Version of the export protocol.
    #[schema(required)]
    pub version: Option<u16>,
    /// The record as it came, in hexadecimal.
    #[schema(required)]
    pub raw: Option<String>,
}

/// A page of the list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldPage {
    /// Records.
    pub items: Vec<HeldItem>,
    /// Records on all pages.
    pub total: u64,
    /// Flows on all pages.
    pub flows: u64,
    /// Bytes on all pages.
    pub bytes: u64,
    /// `after` of the next page; null on the last.
    #[schema(required)]
    pub next: Option<String>,
}

/// What a list is to hold.
#[derive(Clone, Copy, Debug)]
pub struct HeldWanted<'a> {
    /// Only by these; both when not given.
    pub by: Option<HeldBy>,
    /// Only of this sink.
    pub sink: Option<&'a str>,
    /// Only after this id.
    pub after: Option<&'a str>,
    /// Most records.
    pub records_max: usize,
}

/// A record with its rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldRecord {
    /// What is said of it.
    pub record: HeldItem,
    /// Its rows, columns by name.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<Map<String, Value>>,
    /// Number of its rows.
    pub total: u64,
}

/// What a replay led to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldReplayed {
    /// The sink.
    pub sink: String,
    /// Records that the store has taken.
    pub records: u64,
    /// Flows in them.
    pub flows: u64,
    /// Of these, flows older than the store's retention, which it did not keep.
    pub expired_flows: u64,
    /// Records that the sink had not gone past yet: the log brings them in their turn.
    pub returned_records: u64,
    /// Records that the store refuses again. They stay.
    pub refused_records: u64,
    /// Why it refuses them, the first few reasons.
    pub reasons: Vec<String>,
    /// `after` of the next request; null when nothing is left to try.
    #[schema(required)]
    pub next: Option<String>,
    /// Why it ended early, where it did. What was not brought stays.
    #[schema(required)]
    pub problem: Option<String>,
}

/// What was dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct HeldDropped {
    /// The sink.
    pub sink: String,
    /// Records.
    pub records: u64,
    /// Flows in them.
    pub flows: u64,
}

/// Why nothing can be done about what was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeldError {
    /// There is no such sink or record.
    Unknown(String),
    /// Not now.
    Busy(String),
    /// The quarantine's folder cannot be read or written.
    Failed(String),
}

impl HeldError {
    /// Where no sink is fed, nothing is set aside.
    pub(super) fn nowhere() -> Self {
        Self::Unknown("nothing is set aside here".into())
    }
}
