use sink_api::LogId;
use sink_api::rollup::Record;
use sink_api::sink::LogTail;
use sink_api::store::StoreError;

use crate::manifest::{ManifestReader, State};

/// Calls `visit` for the records after a state's cursor. Gives false when a commit happened meanwhile and records are
/// missing: they may be in files that the state does not list.
pub(super) fn read_tail(
    tail: &dyn LogTail,
    manifest: &ManifestReader,
    log_id: LogId,
    state: &State,
    visit: &mut dyn FnMut(&Record) -> Result<(), StoreError>,
    store: &str,
) -> Result<bool, StoreError> {
    let down = |e: std::io::Error| StoreError::Down { store: store.to_owned(), reason: e.to_string() };
    let cursor = state.cursors.get(&log_id).copied().unwrap_or(0);
    let (mut last, mut whole, mut result) = (cursor, true, Ok(()));
    tail.read_after(cursor, &mut |entry| {
        whole &= entry.position == last + 1;
        last = entry.position;
        result = visit(&entry.record);
        result.is_ok()
    })
    .map_err(down)?;
    result?;
    if whole && last > cursor {
        return Ok(true);
    }
    // Nothing, or a gap: either the log is like that, or a commit let it forget.
    let now = manifest.current().map_err(down)?;
    Ok(now.cursors.get(&log_id).copied().unwrap_or(0) == cursor)
}
