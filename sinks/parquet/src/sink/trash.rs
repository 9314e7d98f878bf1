use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sink_api::time::MINUTE_MS;

use super::is_missing;
use crate::layout::{REMOVED, removed_path};

/// How long a file that is no longer listed stays readable: longer than any query's deadline.
const GRACE_MS: i64 = 10 * MINUTE_MS;

/// Files that queries may still read although the manifest no longer lists them.
pub(super) struct Trash {
    folder: PathBuf,
    /// When each came in, oldest first.
    waiting: VecDeque<(i64, PathBuf)>,
}

impl Trash {
    /// What an earlier process left starts its time anew.
    pub(super) fn open(folder: &Path, now_ms: i64) -> io::Result<Self> {
        fs::create_dir_all(folder.join(REMOVED))?;
        let mut waiting = VecDeque::new();
        for entry in fs::read_dir(folder.join(REMOVED))? {
            waiting.push_back((now_ms, entry?.path()));
        }
        Ok(Self { folder: folder.to_path_buf(), waiting })
    }

    /// Takes a file that the manifest no longer lists.
    pub(super) fn take(&mut self, path: &str, now_ms: i64) -> io::Result<()> {
        let to = removed_path(&self.folder, path);
        let from = self.folder.join(path);
        match fs::rename(&from, &to) {
            Err(e) if !is_missing(&e) => return Err(e),
            _ => self.waiting.push_back((now_ms, to)),
        }
        // A partition that is empty now goes with its last file; one that is not stays.
        if let Some(partition) = from.parent() {
            let _ = fs::remove_dir(partition);
        }
        Ok(())
    }

    /// Deletes what nobody can be reading any more.
    pub(super) fn empty(&mut self, now_ms: i64) -> io::Result<()> {
        while let Some((since, path)) = self.waiting.front() {
            // A clock that was set back starts no endless wait.
            if now_ms.abs_diff(*since) < GRACE_MS as u64 {
                break;
            }
            match fs::remove_file(path) {
                Err(e) if !is_missing(&e) => return Err(e),
                _ => self.waiting.pop_front(),
            };
        }
        Ok(())
    }
}
