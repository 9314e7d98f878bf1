//! Records that a store refuses, kept on disk with the reason: one file a refusal, named by position and row, in the
//! log's own encoding under a line of JSON. Bounded: over the limit the oldest go, counted.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Status;
use crate::flow::sink::Entry;
use crate::flow::time::now_ms;
use crate::flow::{FlowBatch, Record, RollupSums};
use crate::log::codec;

/// A record, or one row of it, that a store refused.
#[derive(Clone, Debug)]
pub(super) struct Refused {
    pub entry: Entry,
    /// `None`: the whole record.
    pub row: Option<usize>,
    pub reason: String,
}

impl Refused {
    /// Flows in it: rows of sums hold none.
    pub fn flows(&self) -> u64 {
        match self.entry.record {
            Record::Flows(_) if self.row.is_some() => 1,
            _ => self.entry.record.flow_count(),
        }
    }
}

/// Head line of a quarantine file.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Head {
    /// Position in the log.
    pub position: u64,
    /// The refused row; `None`: the whole record.
    pub row: Option<u64>,
    /// Flows in it.
    pub flows: u64,
    /// Why.
    pub reason: String,
    /// When, ms since the Unix epoch.
    pub at_ms: i64,
}

/// The quarantine folder of one sink.
#[derive(Debug)]
pub struct Quarantine {
    folder: PathBuf,
    bytes_max: u64,
}

impl Quarantine {
    /// The quarantine in a folder, which is made when something is first kept.
    pub fn new(folder: &Path, bytes_max: u64) -> Self {
        Self { folder: folder.to_owned(), bytes_max }
    }

    /// Everything kept, oldest first.
    ///
    /// # Errors
    /// An I/O error of the folder. Files that are not of ours are passed over.
    pub fn list(&self) -> io::Result<Vec<(PathBuf, Head)>> {
        let mut kept = Vec::new();
        for path in self.files()? {
            let bytes = fs::read(&path)?;
            let head = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
            if let Ok(head) = serde_json::from_slice(head) {
                kept.push((path, head));
            }
        }
        Ok(kept)
    }

    /// Keeps a refusal; drops the oldest over the bound.
    pub(super) fn keep(&self, refused: &Refused, status: &Status) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let position = refused.entry.position;
        let head = Head {
            position,
            row: refused.row.map(|row| row as u64),
            flows: refused.flows(),
            reason: refused.reason.clone(),
            at_ms: now_ms(),
        };
        let name = format!("{position:020}-{}.refused", refused.row.map_or("all".into(), |row| row.to_string()));
        let temporary = self.folder.join(format!("{name}.tmp"));
        let mut file = fs::File::create(&temporary)?;
        serde_json::to_writer(&mut file, &head)?;
        file.write_all(b"\n")?;
        file.write_all(&encode(refused)?)?;
        file.sync_all()?;
        fs::rename(&temporary, self.folder.join(name))?;
        status.set_aside_flows.add(refused.flows());
        self.trim(status)
    }

    fn trim(&self, status: &Status) -> io::Result<()> {
        let files = self.files()?;
        let mut sizes = Vec::with_capacity(files.len());
        for path in &files {
            sizes.push(fs::metadata(path)?.len());
        }
        let mut total: u64 = sizes.iter().sum();
        let kept = self.list()?;
        for (path, size) in files.iter().zip(sizes) {
            if total <= self.bytes_max {
                break;
            }
            let flows = kept.iter().find(|(p, _)| p == path).map_or(0, |(_, head)| head.flows);
            fs::remove_file(path)?;
            status.quarantine_dropped_flows.add(flows);
            total -= size;
        }
        Ok(())
    }

    /// Our files, oldest position first.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        let folder = match fs::read_dir(&self.folder) {
            Ok(folder) => folder,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e),
        };
        let mut files = folder.map(|f| f.map(|f| f.path())).collect::<io::Result<Vec<_>>>()?;
        files.retain(|path| path.extension().is_some_and(|e| e == "refused"));
        files.sort();
        Ok(files)
    }
}

/// The refused record, cut to the refused row, in the log's encoding.
fn encode(refused: &Refused) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let encoded = match (&refused.entry.record, refused.row) {
        (Record::Flows(batch), Some(row)) if row < batch.len() => {
            let mut one = FlowBatch::default();
            one.append_rows(batch, &[row as u32]);
            codec::encode(&Record::Flows(one.into()), &mut bytes)
        }
        (Record::Sums(sums), Some(row)) => codec::encode(&Record::Sums(one_row(sums, row).into()), &mut bytes),
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
            one.rows.push(rows.one_row(row));
            break;
        }
        row -= rows.len();
    }
    one
}
