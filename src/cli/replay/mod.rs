//! `rgz-netflow replay`: sends the flow exports of a capture again, in their own time.

mod capture;
mod shift;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

pub use capture::{Datagram, Skipped, read};

use super::client::Client;
use super::{Failure, interrupt};
use crate::flow::time::now_ms;

/// Streams (source address and port) that get a socket of their own; more share the last.
const SOCKETS_MAX: usize = 1000;
/// Datagrams that one request to a collector carries at most.
const INGEST_DATAGRAMS_MAX: usize = 500;

/// Options of `replay`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// The capture: pcap or pcapng
    pub file: PathBuf,
    /// Where to send by UDP: address and port of a collector
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2055")]
    pub to: SocketAddr,
    /// Hand the datagrams to a running collector's API instead, which keeps their exporters' addresses
    #[arg(long, value_name = "URL", conflicts_with = "to")]
    pub into: Option<String>,
    /// Token for --into, role ingest or admin; without it NETFLOW_TOKEN of the environment
    #[arg(long)]
    pub token: Option<String>,
    /// How many times faster than it was captured; 0 sends as fast as possible
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    pub speed: f64,
    /// Move the exporters' clocks so that the capture begins now
    #[arg(long)]
    pub shift_to_now: bool,
    /// Only datagrams to this UDP port; without it every datagram that looks like a flow export
    #[arg(long)]
    pub port: Option<u16>,
}

/// What was replayed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams that are no flow exports, or went to other ports.
    pub left_out: u64,
    /// Datagrams that the collector did not take, with --into.
    pub rejected: u64,
    /// Frames without a datagram.
    pub skipped: Skipped,
    /// Sources in the capture, with the addresses they were sent from.
    pub sources: Vec<(IpAddr, Option<SocketAddr>)>,
}

/// Runs the command and prints what was sent.
///
/// # Errors
/// A file that is no capture, a target that cannot be reached.
pub fn run(options: &Options) -> Result<(), Failure> {
    let replayed = replay(options)?;
    println!("replayed {} datagrams of {} sources", replayed.datagrams, replayed.sources.len());
    for (was, is) in &replayed.sources {
        match is {
            Some(is) => println!("  {was} sent as {is}"),
            None => println!("  {was}"),
        }
    }
    let Skipped { other, fragments, cut, unknown_link } = replayed.skipped;
    for (count, what) in [
        (replayed.left_out, "datagrams left out: no flow exports, or another port"),
        (replayed.rejected, "datagrams rejected by the collector"),
        (other, "frames without UDP"),
        (fragments, "IP fragments, not put together"),
        (cut, "frames cut by the capture"),
        (unknown_link, "frames of an unknown link type"),
    ] {
        if count > 0 {
            println!("  {count} {what}");
        }
    }
    Ok(())
}

/// Replays and tells what was sent.
///
/// # Errors
/// As for [`run`].
pub fn replay(options: &Options) -> Result<Replayed, Failure> {
    let path = options.file.display();
    let file = File::open(&options.file).map_err(|e| Failure::new(format!("cannot read {path}: {e}")))?;
    let bar = progress(file.metadata().map_or(0, |data| data.len()));
    let mut target = match &options.into {
        Some(url) => Target::Collector(Ingest::new(Client::new(url, options.token.as_deref())?)),
        None => Target::Udp(Sockets { to: options.to, sockets: HashMap::new(), order: Vec::new() }),
    };
    let (mut clock, mut replayed, mut failure) = (Clock::new(options), Replayed::default(), None);
    let stop = interrupt::flag();
    let mut payload = Vec::new();
    let read = read(file, &mut |datagram, read_bytes| {
        bar.set_position(read_bytes);
        let wanted = options.port.is_none_or(|port| port == datagram.to_port) && shift::is_export(datagram.payload);
        if !wanted {
            replayed.left_out += 1;
            return true;
        }
        payload.clear();
        payload.extend_from_slice(datagram.payload);
        clock.wait_and_shift(datagram.time_ns, &mut payload, || stop.is_set());
        replayed.datagrams += 1;
        failure = target.send(datagram, &payload).err();
        failure.is_none() && !stop.is_set()
    });
    replayed.skipped = read.map_err(|e| Failure::new(format!("cannot replay {path}: {e}")))?;
    bar.finish_and_clear();
    match failure {
        Some(failure) => Err(failure),
        None => target.finish(&mut replayed).map(|()| replayed),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed: &f64| speed.is_finite() && *speed >= 0.0);
    speed.ok_or_else(|| "allowed is a number from 0, like 1 or 10.5".to_owned())
}

fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {percent:>3} % of {total_bytes}, {eta} left");
    ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// The capture's time against ours.
struct Clock {
    speed: f64,
    shift: bool,
    begun: Option<(Instant, i64, i64)>,
}

impl Clock {
    fn new(options: &Options) -> Self {
        Self { speed: options.speed, shift: options.shift_to_now, begun: None }
    }

    /// Sleeps until it is the datagram's turn, then moves its clock.
    fn wait_and_shift(&mut self, time_ns: i64, payload: &mut [u8], stop: impl Fn() -> bool) {
        let (started, first_ns, shift_ms) =
            *self.begun.get_or_insert_with(|| (Instant::now(), time_ns, now_ms() - time_ns / 1_000_000));
        let after_ns = time_ns.saturating_sub(first_ns).max(0);
        if self.speed > 0.0 {
            let due = Duration::try_from_secs_f64(after_ns as f64 / 1e9 / self.speed).unwrap_or_default();
            // Short sleeps, so that an interruption is seen.
            const WAKE: Duration = Duration::from_millis(100);
            while let Some(left) = due.checked_sub(started.elapsed()).filter(|left| !left.is_zero() && !stop()) {
                std::thread::sleep(left.min(WAKE));
            }
        }
        if self.shift {
            shift::shift(payload, shift_ms);
        }
    }
}

enum Target {
    Udp(Sockets),
    Collector(Ingest),
}

impl Target {
    fn send(&mut self, datagram: &Datagram<'_>, payload: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Udp(sockets) => sockets.send(datagram.from, payload),
            Self::Collector(ingest) => ingest.add(datagram.from.0, payload),
        }
    }

    fn finish(mut self, replayed: &mut Replayed) -> Result<(), Failure> {
        match &mut self {
            Self::Udp(sockets) => {
                let local = |socket: &UdpSocket| socket.local_addr().ok();
                let source = |from: &(IpAddr, u16)| (from.0, sockets.sockets.get(from).and_then(local));
                replayed.sources = sockets.order.iter().map(source).collect();
            }
            Self::Collector(ingest) => {
                ingest.flush()?;
                replayed.rejected = ingest.rejected;
                replayed.sources = ingest.seen.iter().map(|ip| (*ip, None)).collect();
            }
        }
        Ok(())
    }
}

/// One socket for each source of the capture, so that the collector keeps their sequences apart.
struct Sockets {
    to: SocketAddr,
    sockets: HashMap<(IpAddr, u16), UdpSocket>,
    order: Vec<(IpAddr, u16)>,
}

impl Sockets {
    fn send(&mut self, from: (IpAddr, u16), payload: &[u8]) -> Result<(), Failure> {
        let from = match self.order.last() {
            Some(last) if self.order.len() >= SOCKETS_MAX && !self.sockets.contains_key(&from) => *last,
            _ => from,
        };
        let to = self.to;
        let failure = |e: std::io::Error| Failure::new(format!("cannot send to {to}: {e}"));
        if !self.sockets.contains_key(&from) {
            self.sockets.insert(from, self.open(from.0).map_err(failure)?);
            self.order.push(from);
        }
        let Some(socket) = self.sockets.get(&from) else { return Ok(()) };
        match socket.send(payload) {
            // The answer to an earlier datagram: nobody listened then. This one is sent again, once.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
                socket.send(payload).map_err(|_| Failure::new(format!("nobody listens at {to}")))?;
                Ok(())
            }
            other => other.map(|_| ()).map_err(failure),
        }
    }

    /// On IPv4 loopback each exporter's address gets a loopback address of its own.
    fn open(&self, exporter: IpAddr) -> std::io::Result<UdpSocket> {
        let from: IpAddr = match self.to.ip() {
            IpAddr::V4(ip) if ip.is_loopback() => {
                let mut known: Vec<IpAddr> = self.order.iter().map(|(ip, _)| *ip).collect();
                known.dedup();
                let number = known.iter().position(|ip| *ip == exporter).unwrap_or(known.len());
                Ipv4Addr::from(0x7f00_0001 + number as u32).into()
            }
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((from, 0))?;
        socket.connect(self.to)?;
        Ok(socket)
    }
}

/// Datagrams handed to a collector's API, one request for many of one exporter.
struct Ingest {
    client: Client,
    exporter: Option<IpAddr>,
    body: Vec<u8>,
    datagrams: usize,
    rejected: u64,
    seen: Vec<IpAddr>,
}

impl Ingest {
    fn new(client: Client) -> Self {
        Self { client, exporter: None, body: Vec::new(), datagrams: 0, rejected: 0, seen: Vec::new() }
    }

    fn add(&mut self, exporter: IpAddr, payload: &[u8]) -> Result<(), Failure> {
        if self.exporter != Some(exporter) || self.datagrams >= INGEST_DATAGRAMS_MAX {
            self.flush()?;
        }
        self.exporter = Some(exporter);
        if !self.seen.contains(&exporter) && self.seen.len() < SOCKETS_MAX {
            self.seen.push(exporter);
        }
        self.body.extend_from_slice(payload);
        self.datagrams += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let Some(exporter) = self.exporter.take().filter(|_| self.datagrams > 0) else { return Ok(()) };
        let answer = self.client.post_patiently(
            "/api/v1/netflow/v5-ingest",
            &[("exporter", exporter.to_string())],
            &self.body,
        )?;
        self.rejected += answer["rejected"].as_array().map_or(0, |list| list.len() as u64);
        self.body.clear();
        self.datagrams = 0;
        Ok(())
    }
}
