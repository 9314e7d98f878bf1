//! Gives records their numbers and writes them; one at a time, under a lock that is held only for that.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::disk::Disk;
use super::record::{Draft, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::recover::segment_path;
use super::segment::Segment;
use crate::flow::LogId;

/// The end of the log.
pub struct Writer {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    id: LogId,
    segment_bytes: u64,
    next_serial: u64,
    active: Option<Active>,
    /// Files with content that has not been fsynced.
    unsynced: Vec<Arc<File>>,
    /// Whether a file was made whose name has not been fsynced.
    unsynced_dir: bool,
    /// The position that comes next.
    pub next: u64,
    /// Position of the last record.
    pub end: u64,
    /// Flows in all records.
    pub flows_total: u64,
    /// Memory of the records since the last fsync, bytes.
    pub unsynced_memory_bytes: usize,
    /// A write or fsync failed, and what is appended stays in memory until the flusher has written it.
    pub degraded: bool,
}

struct Active {
    file: Arc<File>,
    serial: u64,
    bytes: u64,
}

/// Where a record was written.
#[derive(Debug)]
pub struct Placed {
    /// The segment that was begun for it.
    pub begun: Option<Segment>,
    /// Number of its segment.
    pub serial: u64,
    /// Offset in its segment.
    pub offset: u64,
}

/// What has to be fsynced, taken from the writer.
#[derive(Debug, Default)]
pub struct Unsynced {
    /// Files.
    pub files: Vec<Arc<File>>,
    /// Whether the folder is to be fsynced too.
    pub dir: bool,
    /// Position of the last record in them.
    pub upto: u64,
}

impl Writer {
    /// A writer that begins a segment with its first record.
    pub fn new(disk: Arc<dyn Disk>, dir: PathBuf, id: LogId, segment_bytes: u64, next_serial: u64) -> Self {
        Self {
            disk,
            dir,
            id,
            segment_bytes,
            next_serial,
            active: None,
            unsynced: Vec::new(),
            unsynced_dir: false,
            next: 1,
            end: 0,
            flows_total: 0,
            unsynced_memory_bytes: 0,
            degraded: false,
        }
    }

    /// Ends the present segment; the next record begins another.
    pub fn seal(&mut self) {
        self.active = None;
    }

    /// Takes a record into the count.
    pub fn accept(&mut self, position: u64, flows: u64, memory_bytes: usize) {
        self.next = position + 1;
        self.end = position;
        self.flows_total += flows;
        self.unsynced_memory_bytes += memory_bytes;
    }

    /// Ends the present segment and forgets what was not fsynced.
    pub fn abandon(&mut self) {
        self.active = None;
        self.unsynced.clear();
    }

    /// Takes what has to be fsynced.
    pub fn take_unsynced(&mut self) -> Unsynced {
        self.unsynced_memory_bytes = 0;
        Unsynced {
            files: std::mem::take(&mut self.unsynced),
            dir: std::mem::take(&mut self.unsynced_dir),
            upto: self.end,
        }
    }

    /// Writes a record under a number. `previous` is the last position before it.
    ///
    /// # Errors
    /// The system's. Nothing of the record is then left in the file.
    pub fn write(
        &mut self,
        draft: &mut Draft,
        position: u64,
        flows_before: u64,
        previous: u64,
        now_ms: i64,
    ) -> io::Result<Placed> {
        let begin = self.active.as_ref().is_none_or(|active| {
            active.bytes > SEGMENT_HEADER_BYTES as u64 && active.bytes + draft.record_bytes() > self.segment_bytes
        });
        let mut begun = None;
        if begin {
            self.active = None;
            let header = SegmentHeader { id: self.id, first: position, previous, flows_before, created_ms: now_ms };
            begun = Some(self.begin(header)?);
        }
        let Some(active) = &mut self.active else { return Err(io::Error::other("no segment")) };
        let offset = active.bytes;
        if let Err(error) = self.disk.write_at(&active.file, draft.number(position, flows_before), offset) {
            // A part of the record may have been written: readers stop before it, and so does whoever opens the log.
            let cut = active.file.set_len(offset);
            if begin || cut.is_err() {
                let path = segment_path(&self.dir, active.serial);
                self.active = None;
                if begin {
                    let _ = std::fs::remove_file(path);
                }
            }
            return Err(error);
        }
        active.bytes += draft.record_bytes();
        if !self.unsynced.last().is_some_and(|last| Arc::ptr_eq(last, &active.file)) {
            self.unsynced.push(active.file.clone());
        }
        Ok(Placed { begun, serial: active.serial, offset })
    }

    fn begin(&mut self, header: SegmentHeader) -> io::Result<Segment> {
        let serial = self.next_serial;
        let path = segment_path(&self.dir, serial);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        self.next_serial += 1;
        if let Err(error) = self.disk.write_at(&file, &header.to_bytes(), 0) {
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.unsynced_dir = true;
        self.active = Some(Active { file: Arc::new(file), serial, bytes: SEGMENT_HEADER_BYTES as u64 });
        Ok(Segment::new(serial, path, header))
    }
}
