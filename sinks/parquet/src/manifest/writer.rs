use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::lines::{self, Line};
use super::{Change, FORMAT, State, path_in};

/// The manifest is rewritten when it has more lines than this and than twice its files.
const LINES_MAX: u64 = 1024;

/// Why a manifest cannot be opened or written.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Of the file system.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A person must look at it.
    #[error("{path}: {problem}", path = path.display())]
    Damaged {
        /// The manifest.
        path: PathBuf,
        /// What is wrong, and what can be done.
        problem: String,
    },
}

/// The one writer of a manifest.
#[derive(Debug)]
pub struct ManifestWriter {
    folder: PathBuf,
    file: File,
    state: State,
    lines: u64,
    /// Set while a line may stand half written: nothing can be appended after it.
    broken: bool,
}

impl ManifestWriter {
    /// Reads the manifest and starts a fresh file of one line. `has_data` tells whether the folder holds data files.
    ///
    /// # Errors
    /// See [`ManifestError`].
    pub fn open(folder: &Path, has_data: bool) -> Result<Self, ManifestError> {
        let path = path_in(folder);
        let state = match fs::read(&path) {
            Ok(bytes) => read_all(&path, &bytes)?,
            Err(e) if e.kind() == ErrorKind::NotFound && !has_data => State::default(),
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let problem = "missing, though there are data files; put it back, or move the data files away";
                return Err(ManifestError::Damaged { path, problem: problem.into() });
            }
            Err(e) => return Err(e.into()),
        };
        let file = rewrite(folder, &state)?;
        Ok(Self { folder: folder.to_path_buf(), file, state, lines: 1, broken: false })
    }

    /// What the store consists of.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Makes a change durable. Its `seq` is set here.
    ///
    /// # Errors
    /// Of the file system. Whether the change happened is then unknown until the manifest is opened again; nothing more
    /// can be written through this writer.
    pub fn commit(&mut self, mut change: Change) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the manifest must be opened again after an error"));
        }
        change.seq = self.state.seq + 1;
        self.broken = true;
        self.file.write_all(&lines::write(&change))?;
        self.file.sync_data()?;
        self.broken = false;
        self.state.apply(&change);
        self.lines += 1;
        if self.lines > LINES_MAX.max(2 * self.state.files.len() as u64) {
            self.file = rewrite(&self.folder, &self.state)?;
            self.lines = 1;
        }
        Ok(())
    }
}

/// Reads a whole manifest; a line cut off at the end is left out.
fn read_all(path: &Path, bytes: &[u8]) -> Result<State, ManifestError> {
    let damaged = |problem: String| ManifestError::Damaged { path: path.to_path_buf(), problem };
    let mut state = State::default();
    let (mut rest, mut number, mut bad) = (bytes, 0, None);
    loop {
        number += 1;
        match lines::read(rest) {
            Line::Unfinished => break,
            Line::Bad(length) => {
                bad = bad.or(Some(number));
                rest = &rest[length..];
            }
            Line::Good(change, length) => {
                if let Some(line) = bad {
                    return Err(damaged(format!("line {line} is damaged; put a good copy in its place")));
                }
                if let Some(format) = change.format.filter(|f| *f > FORMAT) {
                    return Err(damaged(format!("written by a newer version (format {format}, known up to {FORMAT})")));
                }
                state.apply(&change);
                rest = &rest[length..];
            }
        }
    }
    // The first line is written whole before the file gets its name.
    if state.seq == 0 && !state_was_written(bytes) && !bytes.is_empty() {
        return Err(damaged("the first line is damaged; put a good copy in its place".into()));
    }
    Ok(state)
}

fn state_was_written(bytes: &[u8]) -> bool {
    matches!(lines::read(bytes), Line::Good(..))
}

fn rewrite(folder: &Path, state: &State) -> io::Result<File> {
    let path = path_in(folder);
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(&lines::write(&state.as_change()))?;
    file.sync_all()?;
    fs::rename(&temporary, &path)?;
    File::open(folder)?.sync_all()?;
    OpenOptions::new().append(true).open(&path)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{DataFile, ManifestReader, Stored};
    use super::*;
    use sink_api::LogId;

    fn change(n: u64) -> Change {
        let path = format!("flows/1970-01-01/{n}.parquet");
        let file = DataFile { path, rows: n, bytes: 1, min_ms: 0, max_ms: 1, folded: false };
        let stored = vec![Stored { log: LogId([7; 16]), from: n, to: n }];
        let remove = if n > 2 { vec![format!("flows/1970-01-01/{}.parquet", n - 2)] } else { Vec::new() };
        Change { stored, add: vec![Arc::new(file)], remove, ..Change::default() }
    }

    #[test]
    fn a_manifest_cut_at_any_byte_is_the_state_before_the_cut_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ManifestWriter::open(folder.path(), false).unwrap();
        let mut states = vec![writer.state().clone()];
        let mut lengths = vec![fs::metadata(path_in(folder.path())).unwrap().len()];
        for n in 1..=5 {
            writer.commit(change(n)).unwrap();
            states.push(writer.state().clone());
            lengths.push(fs::metadata(path_in(folder.path())).unwrap().len());
        }
        drop(writer);
        let bytes = fs::read(path_in(folder.path())).unwrap();
        for cut in lengths[0] as usize..=bytes.len() {
            fs::write(path_in(folder.path()), &bytes[..cut]).unwrap();
            let whole = lengths.iter().filter(|l| **l as usize <= cut).count() - 1;
            let reader = ManifestReader::new(folder.path());
            assert_eq!(*reader.current().unwrap(), states[whole], "cut at {cut}");
            let writer = ManifestWriter::open(folder.path(), true).unwrap();
            assert_eq!(*writer.state(), states[whole], "cut at {cut}");
            assert_eq!(*reader.current().unwrap(), states[whole], "rewritten, cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_line_before_good_ones_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = ManifestWriter::open(folder.path(), false).unwrap();
        (1..=3).for_each(|n| writer.commit(change(n)).unwrap());
        drop(writer);
        let path = path_in(folder.path());
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.iter().position(|b| *b == b'\n').unwrap() + 15;
        bytes[second] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = ManifestWriter::open(folder.path(), true).unwrap_err().to_string();
        assert!(error.contains("line 2 is damaged"), "{error}");
    }

    #[test]
    fn data_without_a_manifest_is_refused_instead_of_removed() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(ManifestWriter::open(folder.path(), true), Err(ManifestError::Damaged { .. })));
    }

    #[test]
    fn readers_follow_appends_and_rewrites() {
        let folder = tempfile::tempdir().unwrap();
        let reader = ManifestReader::new(folder.path());
        assert_eq!(*reader.current().unwrap(), State::default());
        let mut writer = ManifestWriter::open(folder.path(), false).unwrap();
        for n in 1..=LINES_MAX + 10 {
            writer.commit(change(n)).unwrap();
            if n % 100 == 0 || n > LINES_MAX - 3 {
                assert_eq!(*reader.current().unwrap(), *writer.state());
            }
        }
        assert!(writer.lines < LINES_MAX);
    }
}
