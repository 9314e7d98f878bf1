use std::fs::File;
use std::io::{ErrorKind, Read, Result, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::lines::{self, Line};
use super::{State, path_in};

/// Follows a manifest that somebody else writes.
#[derive(Debug)]
pub struct ManifestReader {
    path: PathBuf,
    seen: Mutex<Seen>,
}

/// How far it was read. A rewritten manifest is another file: it has another inode.
#[derive(Debug, Default)]
struct Seen {
    inode: u64,
    offset: u64,
    state: Arc<State>,
}

impl ManifestReader {
    /// A reader of the manifest in a store's folder, which need not exist yet.
    pub fn new(folder: &Path) -> Self {
        Self { path: path_in(folder), seen: Mutex::default() }
    }

    /// What the store consists of now.
    ///
    /// # Errors
    /// Of the file system. A manifest that does not exist is an empty store.
    pub fn current(&self) -> Result<Arc<State>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Arc::default()),
            Err(e) => return Err(e),
        };
        let metadata = file.metadata()?;
        // The state is replaced only as a whole, so a panic elsewhere cannot have left half of one.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.inode != metadata.ino() || metadata.len() < seen.offset {
            *seen = Seen { inode: metadata.ino(), ..Seen::default() };
        }
        if metadata.len() > seen.offset {
            let mut bytes = Vec::new();
            file.seek(SeekFrom::Start(seen.offset))?;
            file.read_to_end(&mut bytes)?;
            let mut rest = &bytes[..];
            let mut state = seen.state.clone();
            while let Line::Good(change, length) = lines::read(rest) {
                Arc::make_mut(&mut state).apply(&change);
                rest = &rest[length..];
            }
            seen.offset += (bytes.len() - rest.len()) as u64;
            seen.state = state;
        }
        Ok(seen.state.clone())
    }
}
