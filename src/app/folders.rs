//! Folders that must be writable, tried before anything starts.

use std::io;
use std::path::{Path, PathBuf};

use crate::control::config::Settings;
use crate::log::Durability;

/// A line for each folder, of the log or a sink, that cannot be made or written. A full disk is told for a check only: the
/// collector starts all the same, and goes on as with a disk that fills while it runs.
pub(crate) fn unwritable(settings: &Settings, tell_full: bool) -> Vec<String> {
    let log = settings.base.join(&settings.stages.log.dir);
    let log = (settings.stages.log.durability == Durability::Always).then_some(("log".to_owned(), log));
    let of_sinks = settings.sinks.iter().flat_map(|sink| {
        let whose = format!("sink {}", sink.common.name);
        sink.config.folders().into_iter().map(move |folder| (whose.clone(), folder))
    });
    let problem = |(whose, folder): (String, PathBuf)| {
        let error = write_probe(&folder).err()?;
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        (tell_full || !full).then(|| format!("{whose}: cannot write to {}: {error}", folder.display()))
    };
    log.into_iter().chain(of_sinks).filter_map(problem).collect()
}

/// Whether a file could be made in the folder, or in the nearest one above it that is there. Leaves nothing behind.
fn write_probe(folder: &Path) -> io::Result<()> {
    let mut there = folder;
    while !there.exists() {
        there = match there.parent() {
            Some(above) if above.as_os_str().is_empty() => Path::new("."),
            Some(above) => above,
            None => break,
        };
    }
    let probe = there.join(format!(".rgz-netflow-check-{}", std::process::id()));
    std::fs::File::create(&probe)?;
    std::fs::remove_file(&probe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_probed_above_and_nothing_stays() {
        let folder = tempfile::tempdir().unwrap();
        write_probe(&folder.path().join("a/b/c")).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(write_probe(&file.join("below")).is_err());
    }
}
