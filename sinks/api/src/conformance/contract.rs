//! The sink contract: cursors, groups, errors in the middle, reopening.

use std::time::Duration;

use super::data::Random;
use super::deliverer::Slice;
use super::described;
use crate::sink::{Entry, Sink, SinkConfig, SinkContext};
use crate::store::memory::MemoryStore;

/// Entries in a group at the most.
const GROUP_ENTRIES: u64 = 12;

/// Time that a sink gets to close.
const CLOSE: Duration = Duration::from_secs(60);

/// Writes all entries as a deliverer would on a bad day: groups of any size, some empty, some broken off by an error of
/// the log, some whose answer is lost; the sink is dropped or closed and opened again in between. Entries end in the
/// reference as well.
pub(super) fn write_all(
    config: &dyn SinkConfig,
    context: &SinkContext,
    entries: &[Entry],
    reference: &MemoryStore,
) -> Result<(), String> {
    let mut random = Random(entries.len() as u64);
    let mut sink = Some(open(config, context, None)?);
    let mut written = 0;
    while written < entries.len() {
        let mut open_sink = match sink.take() {
            Some(sink) => sink,
            None => open(config, context, written.checked_sub(1).map(|last| entries[last].position))?,
        };
        let rest = &entries[written..];
        let group = &rest[..rest.len().min(random.below(GROUP_ENTRIES) as usize)];
        match random.below(8) {
            0 => torn(open_sink, group)?,
            fate => {
                written += write(&mut *open_sink, group)?;
                match fate {
                    // The answer was lost: the deliverer knows only what the cursor tells it.
                    1 => drop(open_sink),
                    2 => open_sink.close(CLOSE).map_err(|e| described("close", &e))?,
                    3 => {
                        open_sink.maintain().map_err(|e| described("maintain", &e))?;
                        sink = Some(open_sink);
                    }
                    _ => sink = Some(open_sink),
                }
            }
        }
    }
    drop(sink);
    let last = entries.last().map(|entry| entry.position);
    let mut sink = open(config, context, last)?;
    sink.maintain().map_err(|e| described("maintain", &e))?;
    sink.close(CLOSE).map_err(|e| described("close", &e))?;
    entries.iter().for_each(|entry| reference.insert(context.log_id, entry.clone()));
    Ok(())
}

/// Opens and checks the cursor.
fn open(config: &dyn SinkConfig, context: &SinkContext, cursor: Option<u64>) -> Result<Box<dyn Sink>, String> {
    let mut sink = config.open(context).map_err(|e| described("open", &e))?;
    let found = sink.cursor().map_err(|e| described("cursor", &e))?;
    if found == cursor { Ok(sink) } else { Err(format!("cursor after opening: {found:?}, written: {cursor:?}")) }
}

/// Writes one group; gives how many entries the sink took.
fn write(sink: &mut dyn Sink, entries: &[Entry]) -> Result<usize, String> {
    // Nothing in the data set may be refused: a row that is set aside shows as missing in the answers.
    let mut group = Slice::new(entries);
    sink.write(&mut group).map_err(|e| described("write", &e))?;
    Ok(group.taken)
}

/// A group whose log fails after its last entry: nothing of it may be stored.
fn torn(mut sink: Box<dyn Sink>, entries: &[Entry]) -> Result<(), String> {
    let mut group = Slice::new(entries);
    group.fails = true;
    match sink.write(&mut group) {
        Err(_) => Ok(()),
        Ok(()) if group.taken < entries.len() => Err("a sink stopped pulling early from a torn group".to_owned()),
        Ok(()) => Err("the log's error in the middle of a group was not given back".to_owned()),
    }
}
