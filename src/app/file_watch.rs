//! Watches the configuration's files: inode, length and time of change, of the files and of what symbolic links point to. So
//! renames, swapped links and rewrites in place are all seen.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::control::config::{FILE_DEFAULT, Sources};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What is seen of a file: `None` when it is not there.
type Seen = Option<(u64, u64, u64, i64, i64)>;

/// The files and how they looked.
#[derive(Debug)]
pub(super) struct FileWatch {
    files: Vec<PathBuf>,
    looked_at: Instant,
    before: Vec<Seen>,
    loaded: Vec<Seen>,
}

impl FileWatch {
    /// Watches the files of these sources as they look now.
    pub fn new(sources: &Sources) -> Self {
        let file = sources.file.clone().unwrap_or_else(|| FILE_DEFAULT.into());
        let files: Vec<PathBuf> = std::iter::once(file).chain(sources.env_file.clone()).collect();
        let seen: Vec<Seen> = files.iter().map(see).collect();
        Self { files, looked_at: Instant::now(), before: seen.clone(), loaded: seen }
    }

    /// Whether a file has changed and rests: two looks in a row see the same, so one that is being written is left alone. Says
    /// so once per change.
    pub fn has_changed(&mut self) -> bool {
        if self.looked_at.elapsed() < LOOK_EVERY {
            return false;
        }
        self.look()
    }

    fn look(&mut self) -> bool {
        self.looked_at = Instant::now();
        let now: Vec<Seen> = self.files.iter().map(see).collect();
        let rests = now == self.before;
        let changed = rests && now != self.loaded;
        if changed {
            self.loaded.clone_from(&now);
        }
        self.before = now;
        changed
    }
}

fn see(file: &PathBuf) -> Seen {
    use std::os::unix::fs::MetadataExt;
    let seen = std::fs::metadata(file).ok()?;
    Some((seen.dev(), seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_when_it_rests() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pipeline.toml");
        std::fs::write(&file, "a").unwrap();
        let mut watch = FileWatch::new(&Sources { file: Some(file.clone()), ..Sources::default() });
        assert!(!watch.look());
        std::fs::write(&file, "longer").unwrap();
        assert_eq!([watch.look(), watch.look(), watch.look()], [false, true, false]);
        std::fs::write(&file, "longer still").unwrap();
        watch.look();
        std::fs::write(&file, "and still longer").unwrap();
        assert_eq!([watch.look(), watch.look(), watch.look()], [false, true, false]);
        let other = folder.path().join("other");
        std::fs::write(&other, "x").unwrap();
        std::fs::rename(&other, &file).unwrap();
        assert_eq!([watch.look(), watch.look()], [false, true]);
    }
}
