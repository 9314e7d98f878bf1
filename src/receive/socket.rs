//! Opening the sockets, and what is counted for each.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use super::{Config, procfs, sys};
use crate::telemetry::{Counter, Exposition};

/// How long a receiver waits for a datagram before it looks whether its slab is due or the process ends.
pub const RECEIVE_TIMEOUT: Duration = Duration::from_millis(50);
/// The classic BPF instruction `ret #0`: the socket takes nothing.
const RETURN: u16 = 0x06;

/// A listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("[receive] listen: udp {address} {}", why(.error))]
pub struct ListenError {
    /// The address in the configuration.
    pub address: SocketAddr,
    /// The system's reason.
    #[source]
    pub error: io::Error,
}

fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "is in use by another process".to_owned(),
        _ => format!("cannot be opened: {error}"),
    }
}

/// One of the sockets of a listener.
#[derive(Debug)]
pub struct Listener {
    /// The socket.
    pub socket: UdpSocket,
    /// What is counted for it.
    pub counters: SocketCounters,
}

/// What is counted for a socket.
#[derive(Debug)]
pub struct SocketCounters {
    /// Where it listens.
    pub address: SocketAddr,
    /// Which of the listener's sockets it is.
    pub index: usize,
    /// Receive buffer granted by the kernel, bytes.
    pub receive_buffer_bytes: u64,
    /// Calls of `recvmmsg` that gave something.
    pub calls: Counter,
    /// Datagrams received.
    pub datagrams: Counter,
    /// Datagrams longer than `datagram_bytes_max`, cut.
    pub truncated: Counter,
    /// Failed calls of `recvmmsg`.
    pub errors: Counter,
    /// Datagrams that the kernel dropped, as it told with later datagrams (SO_RXQ_OVFL).
    pub(super) kernel_drops: Counter,
    kernel_drops_seen: AtomicU32,
    /// The kernel's count when the socket began to take datagrams.
    pub(super) kernel_drops_before: u64,
    pub(super) inode: Option<u64>,
}

/// Opens every socket of the configuration. They take nothing before all are bound: a socket that joins its group later
/// moves streams between receivers, and a stream that two of them follow would be counted wrong.
///
/// # Errors
/// The first address that could not be opened.
pub fn open_all(config: &Config) -> Result<Vec<Listener>, ListenError> {
    let mut listeners = Vec::new();
    for address in &config.listen {
        let mut address = *address;
        for index in 0..config.sockets_per_listener() {
            let listener = open(config, address, index).map_err(|error| ListenError { address, error })?;
            // Port 0 takes a free port once, for all sockets of the listener.
            address = listener.counters.address;
            listeners.push(listener);
        }
    }
    listeners.iter_mut().for_each(Listener::begin);
    Ok(listeners)
}

impl Listener {
    /// From now on the socket takes datagrams.
    fn begin(&mut self) {
        if let Err(error) = SockRef::from(&self.socket).detach_filter()
            && error.raw_os_error() != Some(libc::ENOENT)
        {
            tracing::warn!("udp/{}: its filter cannot be taken away: {error}", self.counters.address);
        }
        // What came before counts as a time without a collector, not as drops of this socket.
        let drops = self.counters.inode.and_then(procfs::drops_of).unwrap_or(0);
        self.counters.kernel_drops_before = drops;
        self.counters.kernel_drops_seen = AtomicU32::new(drops as u32);
    }
}

fn open(config: &Config, address: SocketAddr, index: usize) -> io::Result<Listener> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // An IPv4 listener on the same port would clash with a socket of both families.
        let twin = config.listen.iter().any(|other| other.is_ipv4() && other.port() == address.port());
        socket.set_only_v6(twin)?;
    }
    if index == 0 && address.port() != 0 {
        refuse_foreign_listener(address, &socket)?;
    }
    socket.set_reuse_port(true)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    let asked = usize::try_from(config.receive_buffer_bytes).unwrap_or(usize::MAX);
    if sys::force_receive_buffer(socket.as_fd(), asked).is_err() {
        socket.set_recv_buffer_size(asked)?;
    }
    // Linux gives back twice what it grants: the other half is for its own bookkeeping.
    let granted = socket.recv_buffer_size()? / 2;
    if granted < asked && index == 0 {
        tracing::warn!(
            "udp/{address}: the kernel grants a receive buffer of {granted} bytes instead of {asked}; \
             bursts may be lost. Mend it with: sysctl -w net.core.rmem_max={asked}"
        );
    }
    sys::enable_drop_count(socket.as_fd())?;
    if let Err(error) = socket.attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)]) {
        tracing::debug!("udp/{address}: takes datagrams before all sockets are bound: {error}");
    }
    socket.bind(&address.into())?;
    let socket = UdpSocket::from(socket);
    let counters = SocketCounters {
        address: socket.local_addr()?,
        index,
        receive_buffer_bytes: granted as u64,
        calls: Counter::default(),
        datagrams: Counter::default(),
        truncated: Counter::default(),
        errors: Counter::default(),
        kernel_drops: Counter::default(),
        kernel_drops_seen: AtomicU32::new(0),
        kernel_drops_before: 0,
        inode: procfs::inode_of(socket.as_raw_fd()),
    };
    Ok(Listener { socket, counters })
}

/// SO_REUSEPORT would let a second collector share the port silently, each getting a part of the exporters: so the port is
/// first bound once without it.
fn refuse_foreign_listener(address: SocketAddr, like: &Socket) -> io::Result<()> {
    let probe = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        probe.set_only_v6(like.only_v6()?)?;
    }
    probe.bind(&address.into())
}

impl SocketCounters {
    /// Takes the kernel's running count (32 bits, wrapping) as noted with a datagram.
    pub(super) fn note_kernel_drops(&self, running: u32) {
        let seen = self.kernel_drops_seen.swap(running, Relaxed);
        self.kernel_drops.add(u64::from(running.wrapping_sub(seen)));
    }

    /// Datagrams that the kernel dropped at this socket since it was opened: what came with datagrams, or what
    /// `/proc/net/udp` says, whichever is more; the former is told only with the next datagram, the latter wraps.
    pub fn kernel_drops(&self) -> u64 {
        let told = self.inode.and_then(procfs::drops_of).unwrap_or(0);
        told.saturating_sub(self.kernel_drops_before).max(self.kernel_drops.get())
    }

    /// Adds its figures to a scrape.
    pub fn expose(&self, out: &mut Exposition) {
        let (address, index) = (self.address.to_string(), self.index.to_string());
        let labels = [("listen", &*address), ("socket", &*index)];
        let mut counter = |name, help, value| out.counter(name, help, &labels, value);
        counter("netflow_socket_datagrams_total", "Datagrams received at the socket.", self.datagrams.get());
        counter("netflow_socket_calls_total", "Calls of recvmmsg that gave something.", self.calls.get());
        counter("netflow_socket_truncated_total", "Datagrams cut at datagram_bytes_max.", self.truncated.get());
        counter("netflow_socket_errors_total", "Failed calls of recvmmsg.", self.errors.get());
        counter("netflow_socket_kernel_drops_total", "Datagrams dropped by the kernel.", self.kernel_drops());
        let buffer = self.receive_buffer_bytes as f64;
        out.gauge("netflow_socket_receive_buffer_bytes", "Receive buffer granted by the kernel.", &labels, buffer);
    }
}
