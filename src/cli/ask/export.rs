//! `export csv`: flow records into a file, with progress.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Question;
use crate::cli::{Common, Failure};

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Options of `export csv`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    #[command(flatten)]
    question: Question,
    /// Columns, separated by commas; all without it
    #[arg(long, value_name = "COLUMNS")]
    columns: Option<String>,
    /// Rows at most
    #[arg(long, short = 'n')]
    limit: Option<u64>,
    /// File to write; without it standard output
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Writes the CSV. A file appears only when it is whole.
///
/// # Errors
/// What the collector says, a file that cannot be written, an export that breaks off.
pub fn csv(common: &Common, options: &Options) -> Result<(), Failure> {
    let mut parameters = options.question.parameters();
    parameters.extend(options.columns.clone().map(|columns| ("columns", columns)));
    parameters.extend(options.limit.map(|limit| ("limit", limit.to_string())));
    let asked = options.question.open(common)?;
    let source = asked.client.stream("/api/v1/netflow/flows.csv", &parameters)?;
    match &options.out {
        None => {
            copy(source, io::stdout().lock()).map(|_| ()).map_err(|e| Failure::new(format!("export broke off: {e}")))
        }
        Some(path) => {
            let rows =
                copy_to_file(source, path).map_err(|e| Failure::new(format!("export to {}: {e}", path.display())))?;
            println!("{rows} flows written to {}", path.display());
            Ok(())
        }
    }
}

fn copy_to_file(source: impl Read, path: &Path) -> io::Result<u64> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    let done = File::create(&part).and_then(|file| copy(source, file)).and_then(|lines| {
        std::fs::rename(&part, path)?;
        Ok(lines.saturating_sub(1))
    });
    if done.is_err() {
        // What is not whole must not look whole; that it cannot be removed changes nothing about the error.
        let _ = std::fs::remove_file(&part);
    }
    done
}

/// Copies everything; gives the number of lines.
fn copy(mut source: impl Read, out: impl Write) -> io::Result<u64> {
    let style = ProgressStyle::with_template("{spinner} {bytes} written, {bytes_per_sec}, {elapsed}");
    let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(200));
    let (mut out, mut buffer, mut lines) = (BufWriter::new(out), vec![0; PIECE_BYTES], 0);
    loop {
        match source.read(&mut buffer)? {
            0 => break,
            length => {
                out.write_all(&buffer[..length])?;
                lines += buffer[..length].iter().filter(|byte| **byte == b'\n').count() as u64;
                bar.inc(length as u64);
            }
        }
    }
    bar.finish_and_clear();
    out.flush().map(|()| lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives some bytes, then breaks off.
    struct Broken(bool);

    impl Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 {
                return Err(io::Error::other("gone"));
            }
            self.0 = true;
            buffer[..4].copy_from_slice(b"a,b\n");
            Ok(4)
        }
    }

    #[test]
    fn a_file_appears_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flows.csv");
        assert!(copy_to_file(Broken(false), &path).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert_eq!(copy_to_file(&b"head\n1\n2\n"[..], &path).unwrap(), 2);
        assert_eq!(std::fs::read(&path).unwrap(), b"head\n1\n2\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
