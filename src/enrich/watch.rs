//! Watches the files of the sources: every 2 s their inode, length and time of change, of the files and of what symbolic links
//! point to. So renames, swapped links and rewrites in place are all seen, on every file system, without help of the kernel.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::{Config, Enrichment, ReloadError, ReloadReport, sources};

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What a reload made by the watch led to, for whoever writes the operator's log.
pub type OnReload = Box<dyn FnMut(Result<ReloadReport, ReloadError>) + Send>;

/// The watching thread. Ends when dropped.
#[derive(Debug)]
pub struct Watch {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch. A change is taken up once two looks in a row see the same: a file that is still being written is left
    /// alone. A broken file is reported once, not at every look.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn spawn(enrichment: Arc<Enrichment>, on_reload: OnReload) -> std::io::Result<Self> {
        Self::spawn_every(enrichment, on_reload, LOOK_EVERY)
    }

    fn spawn_every(enrichment: Arc<Enrichment>, mut on_reload: OnReload, every: Duration) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let mut loaded = look(&enrichment.config());
        let thread = std::thread::Builder::new().name("enrich-watch".into()).spawn(move || {
            let mut before = loaded.clone();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let now = look(&enrichment.config());
                if now != loaded && now == before {
                    on_reload(enrichment.reload());
                    loaded.clone_from(&now);
                }
                before = now;
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by then; there is nothing to add to it.
            let _ = thread.join();
        }
    }
}

/// What is seen of a file: `None` when it is not there.
type Seen = Option<(u64, u64, u64, i64, i64)>;

fn look(config: &Config) -> Vec<(PathBuf, Seen)> {
    let tables = [&config.subscribers, &config.sites, &config.networks, &config.ports, &config.oui];
    let mut files: Vec<PathBuf> = tables.into_iter().flatten().cloned().collect();
    if !config.geoip.as_os_str().is_empty() {
        files.extend(sources::mmdb_files(&config.geoip).unwrap_or_default());
    }
    files.into_iter().map(|file| (file.clone(), see(&file))).collect()
}

fn see(file: &Path) -> Seen {
    use std::os::unix::fs::MetadataExt;
    let seen = std::fs::metadata(file).ok()?;
    Some((seen.dev(), seen.ino(), seen.len(), seen.mtime(), seen.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn rewrites_renames_and_swapped_links_are_taken_up_and_broken_files_reported_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("a.csv"), "prefix\n10.0.0.0/8\n").unwrap();
        std::os::unix::fs::symlink(at("a.csv"), at("networks.csv")).unwrap();
        let config = Config { geoip: PathBuf::new(), networks: Some(at("networks.csv")), ..Config::default() };
        let (enrichment, _) = Enrichment::open(config).unwrap();
        let enrichment = Arc::new(enrichment);
        let (sender, reloads) = mpsc::channel();
        let on_reload: OnReload = Box::new(move |result| drop(sender.send(result)));
        let watch = Watch::spawn_every(enrichment.clone(), on_reload, Duration::from_millis(5)).unwrap();
        let next = || reloads.recv_timeout(Duration::from_secs(20)).unwrap();
        std::fs::write(at("networks.csv"), "prefix\n10.0.0.0/9\n10.128.0.0/9\n").unwrap();
        assert_eq!(next().unwrap().sources[0].rows, 2);
        std::fs::write(at("b.csv"), "prefix\n10.0.0.0/8\n11.0.0.0/8\n12.0.0.0/8\n").unwrap();
        std::os::unix::fs::symlink(at("b.csv"), at("new")).unwrap();
        std::fs::rename(at("new"), at("networks.csv")).unwrap();
        assert_eq!(next().unwrap().sources[0].rows, 3);
        std::fs::write(at("networks.csv"), "prefix\nten\n").unwrap();
        let error = next().unwrap_err().to_string();
        assert!(error.contains("networks.csv:2: column prefix: \"ten\""), "{error}");
        std::fs::rename(at("networks.csv"), at("gone")).unwrap();
        assert!(next().unwrap_err().to_string().contains("cannot be read"));
        assert_eq!(enrichment.table().generation(), 3);
        let begun = Instant::now();
        drop(watch);
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert!(reloads.try_recv().is_err());
    }
}
