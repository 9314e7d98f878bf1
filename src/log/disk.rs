//! The few file operations whose failure the log must survive, so that tests can make them fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// File operations of the writer.
pub trait Disk: Send + Sync {
    /// Writes all bytes at an offset.
    ///
    /// # Errors
    /// The system's.
    fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    /// Makes a file's content durable.
    ///
    /// # Errors
    /// The system's.
    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The operating system.
#[derive(Debug, Default)]
pub struct System;

impl Disk for System {}

/// Makes the names in a folder durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Replaces a small file so that either the old or the new content is there after a crash.
pub fn replace_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    let file = File::create(&new)?;
    file.write_all_at(content, 0)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(name))?;
    sync_dir(dir)
}
