//! `rgz-netflow generate`: a synthetic NetFlow v5 exporter with exactly known totals.
//!
//! All datagrams are made beforehand (`source`); sending patches and hands them over in batches, paced by tokens. A flow
//! costs a few ns beside the kernel's own work, so the generator is not what a measurement measures.

mod pace;
mod pool;
pub mod profile;
pub mod random;
mod send;
mod source;
mod subscribers;
mod totals;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use pool::{Pool, Prepared};
pub use profile::{Profile, Subscriber};
pub use random::Rng;
pub use source::{Plan, Source};
pub use subscribers::write_csv;
pub use totals::{ExporterSums, SourceSums, SubscriberSums, Sums, Totals};

use super::{Failure, interrupt};
use crate::flow::time::now_ms;
use crate::telemetry::units;

/// Options of `generate`.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Where to send: address and port of a collector
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:2055")]
    pub to: SocketAddr,
    /// Flows a second; 0 sends as fast as possible
    #[arg(long, value_name = "FLOWS", default_value_t = 1000)]
    pub rate: u64,
    /// How long, such as 10s or 5m; without it and --count, until Ctrl-C
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration_ms)]
    pub duration: Option<u64>,
    /// How many flows
    #[arg(long, value_name = "FLOWS")]
    pub count: Option<u64>,
    /// How many exporters; on loopback each has an address of its own (127.0.0.1, 127.0.0.2, ...), elsewhere a port and engine id
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub exporters: u16,
    /// What traffic looks like
    #[arg(long, value_enum, default_value_t = ProfileName::Isp)]
    pub profile: ProfileName,
    /// The same seed gives the same flows
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How many subscribers
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=i64::from(profile::SUBSCRIBERS_MAX)))]
    pub subscribers: u32,
    /// Write the matching subscribers CSV (prefix, subscriber_id, reseller_id, nas_id, site)
    #[arg(long, value_name = "FILE")]
    pub write_subscribers: Option<PathBuf>,
    /// Sampling interval that the exporters announce; 0 for none
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=0x3fff))]
    pub sampling: u16,
    /// Engine id of the first exporter
    #[arg(long, default_value_t = 0)]
    pub engine_id: u8,
    /// First sequence number of each exporter
    #[arg(long, default_value_t = 0)]
    pub start_sequence: u32,
    /// Records of a datagram
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=1364))]
    pub records: u16,
    /// Print the totals as JSON
    #[arg(long)]
    pub json: bool,
}

/// Profiles of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProfileName {
    /// Many subscribers of many resellers, talking to the Internet
    Isp,
}

impl Options {
    /// Flows to send, when rate, duration or count say so.
    fn flows(&self) -> Option<u64> {
        let paced = self.duration.filter(|_| self.rate > 0);
        let paced = paced.map(|ms| (u128::from(self.rate) * u128::from(ms) / 1000).min(u128::from(u64::MAX)) as u64);
        match (paced, self.count) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    fn plan(&self) -> Plan {
        Plan {
            seed: self.seed,
            exporters: self.exporters,
            subscribers: self.subscribers,
            records: self.records,
            flows: self.flows(),
            sampling: self.sampling,
            engine_id: self.engine_id,
            own_engine_ids: !own_addresses(self.to),
            start_sequence: self.start_sequence,
        }
    }
}

/// Runs the command and prints the totals.
///
/// # Errors
/// A socket that cannot be made, a file that cannot be written.
pub fn run(options: &Options) -> Result<(), Failure> {
    let totals = generate(options)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&totals).map_err(Failure::new)?);
    } else {
        print!("{}", totals.text());
    }
    Ok(())
}

/// Sends what the options say and gives the exact totals.
///
/// # Errors
/// As for [`run`].
pub fn generate(options: &Options) -> Result<Totals, Failure> {
    let sockets = open_sockets(options)?;
    let mut source = Source::new(&options.plan());
    if let Some(path) = &options.write_subscribers {
        write_csv(&source.profile, options.exporters, path)
            .map_err(|e| Failure::new(format!("cannot write subscribers to {}: {e}", path.display())))?;
    }
    let mut sender = Sender { sockets: &sockets, refused: 0, cut_short: false, prepared: Vec::new() };
    let started = Instant::now();
    sender.send_all(&mut source, options, started)?;
    let seconds = started.elapsed().as_secs_f64();
    let names: Vec<String> = sockets.iter().map(|socket| name_of(socket, options.to)).collect();
    let mut totals = source.totals(&names);
    totals.seconds = seconds;
    totals.refused = sender.refused;
    Ok(totals)
}

struct Sender<'a> {
    sockets: &'a [UdpSocket],
    refused: u64,
    /// The last batch went out in part. The kernel keeps the reason to itself then; a single datagram brings it to light.
    cut_short: bool,
    prepared: Vec<Prepared>,
}

impl Sender<'_> {
    fn send_all(&mut self, source: &mut Source, options: &Options, started: Instant) -> Result<(), Failure> {
        let stop = interrupt::flag();
        let mut left = options.flows().unwrap_or(u64::MAX);
        let ends = options.duration.filter(|_| options.rate == 0).map(Duration::from_millis);
        let mut pace = pace::Pace::new(options.rate, u64::from(options.records));
        let mut exporter = 0;
        while left > 0 && !stop.is_set() {
            let elapsed = started.elapsed();
            if ends.is_some_and(|ends| elapsed >= ends) {
                break;
            }
            let whole = u64::from(options.records).min(left);
            let due = pace.due(elapsed).min(left);
            if due < whole {
                std::thread::sleep(pace.sleep(elapsed, whole));
                continue;
            }
            // Whole datagrams only, but for the very last.
            let flows = if due == left { due } else { due - due % u64::from(options.records) };
            let sent = self.send_batch(&mut source.pools[exporter], exporter, flows)?;
            pace.spend(sent);
            left -= sent;
            exporter = (exporter + 1) % self.sockets.len();
        }
        Ok(())
    }

    /// Sends at most one batch of one exporter; gives the flows that went out.
    fn send_batch(&mut self, pool: &mut Pool, exporter: usize, flows: u64) -> Result<u64, Failure> {
        let datagrams = if self.cut_short { 1 } else { send::BATCH_DATAGRAMS_MAX };
        pool.prepare(now_ms(), datagrams, flows, &mut self.prepared);
        let datagrams = self.prepared.iter().map(|prepared| pool.bytes(prepared));
        match send::send_many(&self.sockets[exporter], datagrams) {
            Ok(sent) => {
                self.cut_short = sent < self.prepared.len();
                pool.sent(&self.prepared[..sent]);
                Ok(self.prepared[..sent].iter().map(|p| u64::from(p.flows)).sum())
            }
            // An answer to an earlier datagram; this one was not sent and is tried again.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                if self.refused == 0 {
                    tracing::warn!("nobody listens at the target");
                }
                self.refused += 1;
                Ok(0)
            }
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN | libc::EINTR)) => {
                std::thread::sleep(Duration::from_millis(1));
                Ok(0)
            }
            Err(e) => Err(Failure::new(format!("cannot send: {e}"))),
        }
    }
}

/// Whether every exporter can have an address of its own: on IPv4 loopback.
fn own_addresses(to: SocketAddr) -> bool {
    matches!(to.ip(), IpAddr::V4(ip) if ip.is_loopback())
}

fn open_sockets(options: &Options) -> Result<Vec<UdpSocket>, Failure> {
    (0..options.exporters).map(|exporter| open_socket(options.to, exporter)).collect()
}

fn open_socket(to: SocketAddr, exporter: u16) -> Result<UdpSocket, Failure> {
    let from: IpAddr = match to.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => Ipv4Addr::from(0x7f00_0001 + u32::from(exporter)).into(),
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let failure = |e: io::Error| Failure::new(format!("cannot send from {from} to {to}: {e}"));
    let socket = UdpSocket::bind((from, 0)).map_err(failure)?;
    socket.connect(to).map_err(failure)?;
    Ok(socket)
}

/// The exporter's address, with its port where the address alone does not tell it apart.
fn name_of(socket: &UdpSocket, to: SocketAddr) -> String {
    match socket.local_addr() {
        Ok(from) if own_addresses(to) => from.ip().to_string(),
        Ok(from) => from.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests;
