//! Where events come from: a file that grows and rotates, or a unix socket that Suricata connects to.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Dpi;
use crate::enrich::Enrichment;

/// Time between two looks at what has come.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Longest event, bytes; events with file contents and packets are longer and say nothing more of use.
const EVENT_BYTES_MAX: usize = 256 << 10;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// Of a file that is there at the start, its last bytes are read: the flows of the last minutes are still to come.
const TAIL_BYTES: u64 = 16 << 20;

/// Connections at a time; one Suricata has one, or one a thread.
const CONNECTIONS_MAX: usize = 64;

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file (`filetype: regular`).
    File(PathBuf),
    /// A socket (`filetype: unix_stream`).
    Stream(PathBuf),
    /// A socket (`filetype: unix_dgram`).
    Datagrams(PathBuf),
}

impl Place {
    /// Reads the key `dpi`: a path, or `unix_stream:` or `unix_dgram:` with a path; relative ones are taken from `base`.
    pub fn parse(text: &str, base: &Path) -> Self {
        if let Some(path) = text.strip_prefix("unix_stream:") {
            return Self::Stream(base.join(path));
        }
        match text.strip_prefix("unix_dgram:") {
            Some(path) => Self::Datagrams(base.join(path)),
            None => Self::File(base.join(text)),
        }
    }
}

/// The reading thread. Ends when dropped.
#[derive(Debug)]
pub struct DpiSource {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    socket: Option<PathBuf>,
}

impl DpiSource {
    /// Begins to read. A file may come later; a socket is made now, in the place of one that nobody listens on any more.
    ///
    /// # Errors
    /// The socket or the thread cannot be made.
    pub fn spawn(enrichment: Arc<Enrichment>, place: &Place) -> std::io::Result<Self> {
        Self::spawn_every(enrichment, place, LOOK_EVERY)
    }

    pub(super) fn spawn_every(enrichment: Arc<Enrichment>, place: &Place, every: Duration) -> std::io::Result<Self> {
        let (mut input, socket): (Box<dyn Input>, _) = match place {
            Place::File(path) => (Box::new(Tail { path: path.clone(), open: None, first: true }), None),
            Place::Stream(path) => {
                let listener = UnixListener::bind(vacant(path)?)?;
                listener.set_nonblocking(true)?;
                (Box::new(Streams { listener, open: Vec::new() }), Some(path.clone()))
            }
            Place::Datagrams(path) => {
                let socket = UnixDatagram::bind(vacant(path)?)?;
                socket.set_nonblocking(true)?;
                (Box::new(Datagrams { socket, buffer: vec![0; EVENT_BYTES_MAX + 1] }), Some(path.clone()))
            }
        };
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::Builder::new().name("enrich-dpi".into()).spawn(move || {
            loop {
                input.read_all(&mut |event| enrichment.dpi().take(enrichment.names(), event), enrichment.dpi());
                if stopped.recv_timeout(every) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread), socket })
    }
}

impl Drop for DpiSource {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed by then; there is nothing to add to it.
            let _ = thread.join();
        }
        if let Some(socket) = &self.socket {
            // Somebody else may have taken it away already.
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// The path, after a socket that an earlier run left there was removed.
fn vacant(path: &Path) -> std::io::Result<&Path> {
    use std::os::unix::fs::FileTypeExt;
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
    let is_left_over = || {
        UnixStream::connect(path).is_err_and(refused)
            || UnixDatagram::unbound().and_then(|socket| socket.connect(path)).is_err_and(refused)
    };
    if is_socket && is_left_over() {
        std::fs::remove_file(path)?;
    }
    Ok(path)
}

/// Something that gives events.
trait Input: Send {
    /// Gives everything that has come since, an event at a time. Never waits.
    fn read_all(&mut self, take: &mut dyn FnMut(&[u8]), dpi: &Dpi);
}

/// Cuts a stream of bytes into lines. A line that is too long is left out and counted.
#[derive(Debug, Default)]
struct Lines {
    held: Vec<u8>,
    skipping: bool,
}

impl Lines {
    fn add(&mut self, mut bytes: &[u8], take: &mut dyn FnMut(&[u8]), dpi: &Dpi) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.held.is_empty() {
                take(line);
            } else {
                self.held.extend_from_slice(line);
                take(&self.held);
                self.held.clear();
            }
        }
        if self.skipping {
            return;
        }
        self.held.extend_from_slice(bytes);
        if self.held.len() > EVENT_BYTES_MAX {
            self.held.clear();
            self.skipping = true;
            dpi.too_long.add(1);
        }
    }
}

/// Reads what is there. Gives whether it goes on.
fn read_some(from: &mut impl Read, lines: &mut Lines, take: &mut dyn FnMut(&[u8]), dpi: &Dpi) -> bool {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) => lines.add(&chunk[..n], take, dpi),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
    }
}

/// A file that grows; when another file has taken its place, or it is cut, that is read from its start.
struct Tail {
    path: PathBuf,
    open: Option<(File, Lines)>,
    /// Nothing was opened yet.
    first: bool,
}

impl Input for Tail {
    fn read_all(&mut self, take: &mut dyn FnMut(&[u8]), dpi: &Dpi) {
        if let Some((file, lines)) = &mut self.open {
            read_some(file, lines, take, dpi);
            if is_still(file, &self.path) {
                return;
            }
            // What was written between the read and the rotation.
            read_some(file, lines, take, dpi);
            self.open = None;
        }
        let Ok(mut file) = File::open(&self.path) else { return };
        dpi.reopened.add(1);
        let mut lines = Lines::default();
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if std::mem::take(&mut self.first) && length > TAIL_BYTES {
            // The first line is then a part of one.
            lines.skipping = file.seek(SeekFrom::End(-(TAIL_BYTES as i64))).is_ok();
        }
        read_some(&mut file, &mut lines, take, dpi);
        self.open = Some((file, lines));
    }
}

/// Whether the open file is the one at the path (or none is there), and no shorter than what was read of it.
fn is_still(file: &mut File, path: &Path) -> bool {
    // Between the rename of the old file and the making of the new one Suricata goes on to write to the old one.
    let (Ok(own), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return true };
    let read = file.stream_position().unwrap_or_default();
    (own.dev(), own.ino()) == (there.dev(), there.ino()) && there.len() >= read
}

struct Streams {
    listener: UnixListener,
    open: Vec<(UnixStream, Lines)>,
}

impl Input for Streams {
    fn read_all(&mut self, take: &mut dyn FnMut(&[u8]), dpi: &Dpi) {
        while self.open.len() < CONNECTIONS_MAX {
            let Ok((stream, _)) = self.listener.accept() else { break };
            if stream.set_nonblocking(true).is_ok() {
                dpi.reopened.add(1);
                self.open.push((stream, Lines::default()));
            }
        }
        self.open.retain_mut(|(stream, lines)| read_some(stream, lines, take, dpi));
    }
}

struct Datagrams {
    socket: UnixDatagram,
    buffer: Vec<u8>,
}

impl Input for Datagrams {
    fn read_all(&mut self, take: &mut dyn FnMut(&[u8]), dpi: &Dpi) {
        while let Ok(n) = self.socket.recv(&mut self.buffer) {
            match n > EVENT_BYTES_MAX {
                true => dpi.too_long.add(1),
                false => take(&self.buffer[..n]),
            }
        }
    }
}
