//! A file of the quarantine: a line of JSON that says what it holds, then the record in the log's own encoding. Its name is the
//! record's position, row and log, so that what is refused again after a restart takes the place of the same file.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::Path;

use crate::flow::sink::{Entry, RefusedRow};
use crate::flow::{FlowBatch, LogId, Record, RollupSums};
use crate::log::codec::{self, PayloadKind};

/// Extension of a file's name.
pub(super) const EXTENSION: &str = "refused";
/// Longest head line, bytes: reasons are sentences, cut to [`REASON_BYTES_MAX`].
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// Longest reason kept, bytes.
const REASON_BYTES_MAX: usize = 2048;
/// Longest file read, bytes: a record has at most `codec::ROWS_MAX` rows.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A record, or one row of it, that a store refused.
#[derive(Clone, Debug)]
pub(in crate::deliver) struct Refused {
    pub entry: Entry,
    /// `None`: the whole record.
    pub row: Option<usize>,
    pub reason: String,
}

impl From<&RefusedRow<'_>> for Refused {
    fn from(refused: &RefusedRow<'_>) -> Self {
        Self { entry: refused.entry.clone(), row: Some(refused.row), reason: refused.reason.to_owned() }
    }
}

impl Refused {
    /// Flows in it: rows of sums hold none.
    pub fn flows(&self) -> u64 {
        match self.entry.record {
            Record::Flows(_) if self.row.is_some() => 1,
            _ => self.entry.record.flow_count(),
        }
    }

    /// Its head, as refused now.
    pub(super) fn head(&self, log: LogId, at_ms: i64) -> Head {
        let mut reason = self.reason.clone();
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        Head {
            log,
            position: self.entry.position,
            row: self.row.map(|row| row as u64),
            flows: self.flows(),
            sums: matches!(self.entry.record, Record::Sums(_)),
            alerts: matches!(self.entry.record, Record::Alerts(_)),
            reason,
            at_ms,
        }
    }
}

/// Head line of a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// The log that it stood in.
    pub log: LogId,
    /// Position in that log.
    pub position: u64,
    /// The refused row; `None`: the whole record.
    pub row: Option<u64>,
    /// Flows in it; sums and alerts hold none.
    pub flows: u64,
    /// Whether it holds sums instead of flows.
    pub sums: bool,
    /// Whether it holds alerts instead of flows.
    #[serde(default)]
    pub alerts: bool,
    /// Why.
    pub reason: String,
    /// When, ms since the Unix epoch.
    pub at_ms: i64,
}

impl Head {
    /// Name of the file, without its extension: in the order of positions and rows.
    pub(super) fn name(&self) -> String {
        let log = self.log.to_string();
        let row = self.row.map_or_else(|| "all".to_owned(), |row| format!("{row:07}"));
        format!("{:020}-{row}-{}", self.position, &log[..8])
    }
}

/// A record in quarantine.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is said of it.
    pub head: Head,
    /// The record, cut to the refused row when it is one row.
    pub record: Record,
}

/// Reads what is said of a record.
pub(super) fn read_head(path: &Path) -> io::Result<Head> {
    let mut line = Vec::new();
    io::BufReader::new(fs::File::open(path)?.take(HEAD_BYTES_MAX)).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// Reads a record.
pub(super) fn read(path: &Path) -> io::Result<Kept> {
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|b| *b == b'\n').ok_or_else(|| io::Error::other("it has no head line"))?;
    let head: Head = serde_json::from_slice(&bytes[..end])?;
    let kind = match (head.sums, head.alerts) {
        (true, _) => PayloadKind::Sums,
        (_, true) => PayloadKind::Alerts,
        _ => PayloadKind::Flows,
    };
    let record = codec::decode(kind, &bytes[end + 1..]).map_err(|e| io::Error::other(e.to_string()))?;
    Ok(Kept { head, record })
}

/// Writes a file under its name, whole or not at all. Gives its length in bytes.
pub(super) fn write(path: &Path, parts: &[&[u8]]) -> io::Result<u64> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary)?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    Ok(parts.iter().map(|part| part.len() as u64).sum())
}

/// The refused record, cut to the refused row, in the log's encoding.
pub(super) fn encode(refused: &Refused) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoded = match (&refused.entry.record, refused.row) {
        (Record::Flows(batch), Some(row)) if row < batch.len() => {
            let mut one = FlowBatch::default();
            one.append_rows(batch, &[row as u32]);
            codec::encode(&Record::Flows(one.into()), &mut bytes)
        }
        (Record::Sums(sums), Some(row)) => codec::encode(&Record::Sums(one_row(sums, row).into()), &mut bytes),
        (Record::Alerts(rows), Some(row)) if row < rows.len() => {
            codec::encode(&Record::Alerts(vec![rows[row].clone()].into()), &mut bytes)
        }
        (record, _) => codec::encode(record, &mut bytes),
    };
    encoded.map_err(io::Error::other)?;
    Ok(bytes)
}

/// The sums with one of their rows alone, counted over all rollups.
fn one_row(sums: &RollupSums, mut row: usize) -> RollupSums {
    let mut one = RollupSums { upto: sums.upto, replay_from: sums.replay_from, ..RollupSums::default() };
    for rows in &sums.rows {
        if row < rows.len() {
            one.rows.push(rows.some_rows(&[row as u32]));
            break;
        }
        row -= rows.len();
    }
    one
}
