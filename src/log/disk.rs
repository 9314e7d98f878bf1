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
    let replaced = write_whole(&new, content).and_then(|()| std::fs::rename(&new, dir.join(name)));
    if replaced.is_err() {
        // What a full disk left of it takes room that others need.
        let _ = std::fs::remove_file(&new);
    }
    replaced?;
    sync_dir(dir)
}

/// Overwrites a small file where it stands. Works on a full disk, but a crash may leave neither content.
pub fn overwrite_file(dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let file = File::options().write(true).open(dir.join(name))?;
    file.write_all_at(content, 0)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let file = File::create(path)?;
    file.write_all_at(content, 0)?;
    file.sync_all()
}
