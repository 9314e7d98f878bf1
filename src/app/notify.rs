//! Tells the service manager how the collector is: the protocol of `sd_notify(3)`, datagrams of `NAME=value` lines to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nothing is sent.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

/// A manager that does not read must not hold up the collector for longer.
const SEND_TIME_MAX: Duration = Duration::from_secs(1);

/// The service manager's socket, and what it expects of us.
#[derive(Debug, Default)]
pub(super) struct Notify {
    socket: Option<UnixDatagram>,
    /// How often the watchdog is fed: half of the time after which the manager ends the process.
    watchdog: Option<Duration>,
    fed: Option<Instant>,
}

impl Notify {
    /// The manager of this process, when there is one. A socket that cannot be reached is told in the log and then left alone.
    pub fn of_process() -> Self {
        let Some(path) = std::env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()) else {
            return Self::default();
        };
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let for_us = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| for_us && *usec > 0);
        match connect(&path) {
            Ok(socket) => {
                Self { socket: Some(socket), watchdog: watchdog.map(|usec| Duration::from_micros(usec) / 2), fed: None }
            }
            Err(error) => {
                tracing::warn!(socket = %path.to_string_lossy(), %error, "the service manager cannot be told anything");
                Self::default()
            }
        }
    }

    /// Flows are received and questions answered.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The configuration is being read again; [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_usec()));
    }

    /// The stop has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=delivering what waits");
    }

    /// Feeds the watchdog when it is time to. Called by the thread whose progress it stands for.
    pub fn alive(&mut self) {
        let due = self.watchdog.is_some_and(|pause| self.fed.is_none_or(|fed| fed.elapsed() >= pause));
        if due {
            self.send("WATCHDOG=1");
            self.fed = Some(Instant::now());
        }
    }

    /// How long the thread that calls [`Notify::alive`] may wait until the next call.
    pub fn pause(&self, wished: Duration) -> Duration {
        self.watchdog.map_or(wished, |pause| wished.min(pause / 2))
    }

    fn send(&self, text: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(text.as_bytes()) {
            tracing::warn!(%error, "the service manager was not told {:?}", text.lines().next().unwrap_or_default());
        }
    }
}

fn connect(path: &OsStr) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    match path.as_bytes().split_first() {
        Some((b'@', name)) => socket.connect_addr(&SocketAddr::from_abstract_name(name)?)?,
        _ => socket.connect(path)?,
    }
    socket.set_write_timeout(Some(SEND_TIME_MAX))?;
    Ok(socket)
}

/// CLOCK_MONOTONIC in microseconds, as systemd compares it with its own.
fn monotonic_usec() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer leads to a timespec of ours; the call writes nothing else.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    if done != 0 {
        return 0;
    }
    (now.tv_sec as u64).saturating_mul(1_000_000).saturating_add(now.tv_nsec as u64 / 1000)
}
