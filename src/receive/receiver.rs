//! The receiver threads: one per socket, from the kernel into slabs and nothing else.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::Config;
use super::framer::{Admission, Framer, Restored};
use super::inject::Injector;
use super::slab::{self, Outlet, Slab, SlabQueue};
use super::socket::{self, ListenError, Listener, SocketCounters};
use super::sys::{BATCH_DATAGRAMS, Batch};
use crate::flow::time::now_ms;
use crate::telemetry::ledger::Ledger;

/// A slab goes to the workers at the latest this long after its first datagram, ms.
const SLAB_AGE_MAX_MS: i64 = 100;
/// A receiver that finds fewer datagrams than it could take at once pauses, so that more gather: woken for each one, it would
/// spend more on waking than on receiving (at 500,000 flows/s 0.20 CPU s a million flows, with a pause of 1 ms 0.12).
const GATHER_BELOW: usize = BATCH_DATAGRAMS;
/// Shortest such pause that is worth it.
const GATHER_MIN: Duration = Duration::from_millis(1);
/// Longest such pause: with it two sockets at 1 M flows/s find some 50 datagrams each time.
const GATHER_MAX: Duration = Duration::from_millis(3);
/// Bytes of receive buffer that a burst may fill in a second while the receiver pauses: 10 Gbit/s, and as much again for
/// the kernel's own bookkeeping.
const BURST_BYTES_PER_S: f64 = 2.5e9;
/// How long a receiver goes on reading what the kernel still holds when the process ends.
const DRAIN_MAX: Duration = Duration::from_secs(2);
/// Pause after a failed `recvmmsg`, so that a lasting fault does not use a whole core.
const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// The running receivers.
#[derive(Debug)]
pub struct Receivers {
    sockets: Vec<Arc<SocketCounters>>,
    threads: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    queue: SlabQueue,
    outlet: Outlet,
    ledger: Arc<Ledger>,
    admission: Arc<ArcSwap<Admission>>,
    restored: Arc<Restored>,
}

/// The receivers could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address could not be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// `queue_bytes` does not hold a slab per socket.
    #[error("[receive] queue_bytes: holds fewer slabs than there are sockets")]
    Memory,
    /// No thread could be started.
    #[error("cannot start a receiver thread: {0}")]
    Thread(std::io::Error),
}

impl Receivers {
    /// Opens the sockets and starts to receive.
    ///
    /// # Errors
    /// A socket that cannot be opened, a thread that cannot be started.
    pub fn start(config: &Config, ledger: Arc<Ledger>, restored: Restored) -> Result<Self, StartError> {
        let listeners = socket::open_all(config)?;
        let slabs_max = usize::try_from(config.queue_bytes / config.slab_bytes.max(1)).unwrap_or(usize::MAX);
        let (outlet, queue) = slab::queue(slabs_max, config.slab_bytes as usize);
        let mut receivers = Self {
            sockets: Vec::new(),
            threads: Vec::new(),
            stop: Arc::default(),
            queue,
            outlet,
            ledger,
            admission: Arc::new(ArcSwap::from_pointee(Admission::new(&config.allow, &config.protocols))),
            restored: Arc::new(restored),
        };
        for Listener { socket, counters } in listeners {
            let counters = Arc::new(counters);
            receivers.sockets.push(counters.clone());
            let receiver = Receiver {
                batch: Batch::new(config.datagram_bytes_max as usize),
                gather: gather_pause(counters.receive_buffer_bytes),
                framer: receivers.framer(),
                slab: receivers.outlet.pool.take().ok_or(StartError::Memory)?,
                outlet: receivers.outlet.clone(),
                counters,
                stop: receivers.stop.clone(),
            };
            let thread = std::thread::Builder::new()
                .name(format!("receive-{}", receivers.threads.len()))
                .spawn(move || receiver.run(&socket))
                .map_err(StartError::Thread)?;
            receivers.threads.push(thread);
        }
        Ok(receivers)
    }

    /// The workers' end of the queue.
    pub fn queue(&self) -> SlabQueue {
        self.queue.clone()
    }

    /// A way in for datagrams that do not come from a socket. Injectors must be dropped before the queue can close.
    pub fn injector(&self) -> Injector {
        Injector::new(self.framer(), self.outlet.clone())
    }

    /// Where it listens: one address per listener, with the port that was taken for port 0.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = self.sockets.iter().map(|socket| socket.address).collect();
        addresses.dedup();
        addresses
    }

    /// What is counted per socket.
    pub fn sockets(&self) -> &[Arc<SocketCounters>] {
        &self.sockets
    }

    /// Who may send what: to be replaced while they run.
    pub fn admission(&self) -> Arc<ArcSwap<Admission>> {
        self.admission.clone()
    }

    /// Stops receiving: reads what the kernel still holds, hands over what is filled, closes the queue. Workers see
    /// `Closed` once they have taken the rest and every injector is gone.
    pub fn stop(mut self) {
        self.stop_threads();
    }

    fn stop_threads(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a receiver thread panicked");
            }
        }
    }

    fn framer(&self) -> Framer {
        Framer::new(self.ledger.clone(), self.admission.clone(), self.restored.clone())
    }
}

impl Drop for Receivers {
    fn drop(&mut self) {
        self.stop_threads();
    }
}

/// The pause that half the receive buffer bridges at any rate; none where the kernel capped the buffer at less than a useful
/// pause needs, since then every datagram must be taken at once.
fn gather_pause(receive_buffer_bytes: u64) -> Duration {
    let bridged = Duration::from_secs_f64(receive_buffer_bytes as f64 / 2.0 / BURST_BYTES_PER_S);
    if bridged < GATHER_MIN { Duration::ZERO } else { bridged.min(GATHER_MAX) }
}

struct Receiver {
    batch: Batch,
    gather: Duration,
    framer: Framer,
    /// Being filled.
    slab: Slab,
    outlet: Outlet,
    counters: Arc<SocketCounters>,
    stop: Arc<AtomicBool>,
}

impl Receiver {
    fn run(mut self, socket: &std::net::UdpSocket) {
        let mut stopping_since: Option<Instant> = None;
        loop {
            let received = self.batch.receive(socket.as_fd()).unwrap_or_else(|error| {
                self.counters.errors.add(1);
                tracing::debug!("udp/{}: {error}", self.counters.address);
                std::thread::sleep(ERROR_PAUSE);
                0
            });
            let now = now_ms();
            self.frame(received, now);
            if (1..GATHER_BELOW).contains(&received) && !self.gather.is_zero() {
                std::thread::sleep(self.gather);
            }
            if !self.slab.is_empty() && now - self.slab.first_received_ms() >= SLAB_AGE_MAX_MS {
                self.hand_over();
            }
            if self.stop.load(Ordering::Relaxed) {
                let since = *stopping_since.get_or_insert_with(Instant::now);
                if received == 0 || since.elapsed() > DRAIN_MAX {
                    break;
                }
            }
        }
        self.framer.finish(now_ms(), &mut self.slab);
        self.hand_over();
    }

    fn frame(&mut self, received: usize, now: i64) {
        self.framer.tick(now, Some(&mut self.slab));
        if received == 0 {
            return;
        }
        self.counters.calls.add(1);
        self.counters.datagrams.add(received as u64);
        if let Some(running) = self.batch.kernel_drops(received - 1) {
            self.counters.note_kernel_drops(running);
        }
        for i in 0..received {
            let datagram = self.batch.datagram(i);
            if datagram.truncated {
                self.counters.truncated.add(1);
            }
            if !self.slab.has_room(datagram.bytes.len()) {
                self.hand_over();
            }
            let datagram = self.batch.datagram(i);
            // A rejected datagram is counted by the framer.
            let _ = self.framer.push(&mut self.slab, datagram.source, datagram.source_port, now, datagram.bytes);
        }
    }

    /// Sends the slab off and takes an empty one. When none is free, the workers are behind by the whole queue: then the
    /// slab's datagrams are dropped, counted, and it is filled anew.
    fn hand_over(&mut self) {
        if self.slab.is_empty() {
            return;
        }
        let Some(empty) = self.outlet.pool.take() else {
            self.framer.slab_dropped(&self.slab);
            self.slab.clear();
            return;
        };
        let full = std::mem::replace(&mut self.slab, empty);
        match self.outlet.filled.try_send(full) {
            Ok(()) => self.framer.slab_sent(),
            Err(refused) => {
                let full = refused.into_inner();
                self.framer.slab_dropped(&full);
                self.outlet.pool.give(full);
            }
        }
    }
}
