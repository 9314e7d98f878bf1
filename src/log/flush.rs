//! The flusher: group fsync, what follows when it fails, and keeping the cursors.

use std::fs::File;
use std::io;
use std::time::{Duration, Instant};

use super::cursors::Cursors;
use super::disk::sync_dir;
use super::ring::Slot;
use super::segment::{Segment, SegmentReader};
use super::writer::{Unsynced, Writer};
use super::{Log, Shared, lock};

impl Log {
    /// Makes everything appended so far durable now, keeps the cursors, deletes what nobody needs.
    pub fn sync(&self) {
        self.shared.tick();
    }

    /// Ends it: no more appends, all durable, cursors kept. Consumers get no more.
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.closed = true;
        // Positions then go on above this end whatever happens to the files.
        state.cursors_moved = true;
        drop(state);
        self.shared.changed.notify_all();
        self.shared.wake_flusher();
        if let Some(flusher) = lock(&self.flusher).take()
            && flusher.join().is_err()
        {
            tracing::error!("the log's flusher panicked");
        }
        if let Some(folder) = lock(&self.folder_lock).take() {
            // Closing would do, were it not for a child process that was forked just now and has the file open as well.
            if let Err(error) = folder.unlock() {
                tracing::warn!(%error, "log: the folder could not be unlocked");
            }
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// The flusher's life.
    pub(super) fn run_flusher(&self, wake: &crossbeam_channel::Receiver<()>) {
        let pause = Duration::from_millis(self.config.fsync_interval_ms.max(1));
        loop {
            let _ = wake.recv_timeout(pause);
            let closed = self.state().closed;
            self.tick();
            if closed {
                return;
            }
        }
    }

    fn tick(&self) {
        let _alone = lock(&self.flush);
        if self.is_stored() {
            self.resume();
            self.flush();
        }
        self.keep_cursors();
        self.changed.notify_all();
    }

    /// Notes that the disk does not take what is appended.
    pub(super) fn degrade(&self, writer: &mut Writer, what: &str, error: &io::Error) {
        self.counters.write_failures.add(1);
        if !writer.degraded {
            tracing::error!(%error, "log: {what} failed; records stay in memory until the disk takes them");
        }
        writer.degraded = true;
    }

    fn flush(&self) {
        let unsynced = lock(&self.writer).take_unsynced();
        if let Err(error) = self.sync_all(&unsynced) {
            self.counters.fsync_failures.add(1);
            tracing::error!(%error, "log: fsync failed; its records are written again to a new segment");
            return self.replace_unsynced(&error);
        }
        self.advance(unsynced.upto);
    }

    fn sync_all(&self, unsynced: &Unsynced) -> io::Result<()> {
        for file in &unsynced.files {
            let start = Instant::now();
            self.disk.sync(file)?;
            self.counters.record_fsync(start.elapsed());
        }
        if unsynced.dir { sync_dir(&self.config.dir) } else { Ok(()) }
    }

    fn advance(&self, upto: u64) {
        let mut state = self.state();
        state.durable = state.durable.max(upto);
        let evicted = state.trim(self.config.memory_bytes_max);
        drop(state);
        self.changed.notify_all();
        self.recycle(evicted);
    }

    /// After a failed fsync nobody knows what of the file is on disk, and a second fsync may falsely succeed. So everything
    /// after the durable position is taken off the files and written again from memory.
    fn replace_unsynced(&self, cause: &io::Error) {
        let mut writer = lock(&self.writer);
        writer.abandon();
        let mut state = self.state();
        let durable = state.durable;
        let mut removed = Vec::new();
        while state.segments.back().is_some_and(|s| s.last > durable && s.header.first > durable) {
            removed.extend(state.segments.pop_back());
        }
        let torn = state.segments.back().filter(|s| s.last > durable).cloned();
        for slot in state.ring.iter_mut().filter(|slot| slot.entry.position > durable) {
            slot.stored = false;
        }
        drop(state);
        if let Some(torn) = torn {
            match cut_after(&torn, durable, self.seed) {
                Ok(cut) => {
                    if let Some(last) = self.state().segments.back_mut() {
                        *last = cut;
                    }
                }
                Err(error) => tracing::error!(%error, "log: what was not durable could not be cut off"),
            }
        }
        self.delete(&removed);
        writer.degraded = true;
        if self.write_missing(&mut writer).is_ok() {
            let unsynced = writer.take_unsynced();
            match self.sync_all(&unsynced) {
                Ok(()) => writer.degraded = false,
                Err(error) => {
                    self.counters.fsync_failures.add(1);
                    self.degrade(&mut writer, "fsync of the new segment", &error);
                    writer.abandon();
                }
            }
        } else {
            self.degrade(&mut writer, "writing again", cause);
        }
        let upto = writer.end;
        drop(writer);
        self.advance(upto);
    }

    /// Tries whether the disk takes records again.
    fn resume(&self) {
        let mut writer = lock(&self.writer);
        if !writer.degraded {
            return;
        }
        match self.write_missing(&mut writer) {
            Ok(()) => {
                writer.degraded = false;
                tracing::info!("log: the disk takes records again");
            }
            Err(error) => self.degrade(&mut writer, "writing again", &error),
        }
    }

    /// Writes the records in memory that are in no file.
    fn write_missing(&self, writer: &mut Writer) -> io::Result<()> {
        let missing: Vec<Slot> = self.state().ring.iter_after(0).filter(|slot| !slot.stored).cloned().collect();
        for slot in missing {
            let position = slot.entry.position;
            let Ok(mut draft) = self.draft(&slot.entry.record, slot.time_ms) else { continue };
            let previous = self.state().previous_of(position);
            let placed = writer.write(&mut draft, position, slot.flows_before, previous, self.now_ms())?;
            let mut state = self.state();
            state.note_placed(placed, position, slot.flows_after(), draft.record_bytes());
            if let Some(slot) = state.ring.iter_mut().find(|slot| slot.entry.position == position) {
                slot.stored = true;
            }
            drop(state);
            self.counters.rewritten_records.add(1);
            self.keep_buffer(draft.into_buffer());
        }
        Ok(())
    }

    /// Keeps the cursors on disk, and only then deletes what they allow.
    pub(super) fn keep_cursors(&self) {
        let next_position = lock(&self.writer).next;
        let mut state = self.state();
        let consumed = state.consumed();
        let moved = std::mem::take(&mut state.cursors_moved);
        let cursors = moved.then(|| Cursors {
            log_id: self.id,
            next_position,
            end: state.end,
            flows_total: state.flows_total,
            dropped_upto: state.dropped_upto,
            consumers: state.consumers.iter().map(|(name, mark)| (name.clone(), mark.place)).collect(),
        });
        drop(state);
        if !self.is_stored() {
            return;
        }
        if let Some(cursors) = cursors
            && let Err(error) = cursors.save(&self.config.dir)
        {
            tracing::warn!(%error, "log: the cursors could not be kept");
            self.state().cursors_moved = true;
            return;
        }
        let released = self.state().release_segments(consumed);
        self.delete(&released);
    }

    /// Deletes the files of segments that are no longer in the list.
    pub(super) fn delete(&self, segments: &[Segment]) {
        for segment in segments {
            if let Err(error) = std::fs::remove_file(&segment.path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(%error, file = %segment.path.display(), "log: a segment could not be deleted");
            }
        }
    }
}

/// Cuts a segment's file after a position.
fn cut_after(segment: &Segment, position: u64, seed: u32) -> io::Result<Segment> {
    let mut reader = SegmentReader::new(File::open(&segment.path)?, 0, seed);
    let mut cut = Segment::new(segment.serial, segment.path.clone(), segment.header);
    while let Some((offset, record)) = reader.skim(segment.bytes)? {
        if record.position > position {
            break;
        }
        cut.add(record.position, record.flows_after(), offset, record.record_bytes());
    }
    File::options().write(true).open(&segment.path)?.set_len(cut.bytes)?;
    Ok(cut)
}
