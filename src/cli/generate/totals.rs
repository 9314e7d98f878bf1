//! What was sent, exactly: the figures that a collector without loss must report.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;

use serde::Serialize;
use uuid::Uuid;

use crate::flow::Direction;

/// Sums of flows. Bytes and packets are scaled by the sampling interval, as a collector must scale them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Sums {
    pub flows: u64,
    pub bytes: u64,
    pub packets: u64,
}

impl Sums {
    /// Adds the same flow several times.
    pub fn add(&mut self, bytes: u64, packets: u64, times: u64) {
        self.flows += times;
        self.bytes += bytes * times;
        self.packets += packets * times;
    }
}

/// One source address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct SourceSums {
    pub src_ip: Ipv4Addr,
    #[serde(flatten)]
    pub sums: Sums,
}

/// One subscriber, by the directions of DESIGN: an internal flow counts `internal` for its source and `internal_in` for its
/// destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct SubscriberSums {
    pub subscriber_id: Uuid,
    pub reseller_id: Uuid,
    pub address: Ipv4Addr,
    pub by_direction: BTreeMap<&'static str, Sums>,
}

/// One exporter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct ExporterSums {
    pub exporter: String,
    pub datagrams: u64,
    #[serde(flatten)]
    pub sums: Sums,
}

/// Everything that was sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Totals {
    /// All flows.
    #[serde(flatten)]
    pub sums: Sums,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Their UDP payload, bytes.
    pub datagram_bytes: u64,
    /// Sampling interval by which bytes and packets are scaled.
    pub sampling: u64,
    /// Seconds from the first datagram to the last.
    pub seconds: f64,
    /// Times that the kernel said that nobody listens at the target.
    pub refused: u64,
    /// By direction, as customer networks 10/8 give it.
    pub by_direction: BTreeMap<&'static str, Sums>,
    /// By exporter.
    pub by_exporter: Vec<ExporterSums>,
    /// Heaviest source addresses by bytes.
    pub top_sources: Vec<SourceSums>,
    /// Heaviest subscribers by bytes in all directions.
    pub top_subscribers: Vec<SubscriberSums>,
    /// Every source address.
    #[serde(skip)]
    pub sources: BTreeMap<Ipv4Addr, Sums>,
}

impl Totals {
    /// Sums of one direction.
    pub fn direction(&self, direction: Direction) -> Sums {
        self.by_direction.get(direction.name()).copied().unwrap_or_default()
    }

    /// Flows per second.
    pub fn flows_per_second(&self) -> f64 {
        if self.seconds > 0.0 { self.sums.flows as f64 / self.seconds } else { 0.0 }
    }

    /// As text for a terminal.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let Sums { flows, bytes, packets } = self.sums;
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "sent {flows} flows in {} datagrams ({} bytes) in {:.3} s: {:.0} flows/s",
            self.datagrams,
            self.datagram_bytes,
            self.seconds,
            self.flows_per_second()
        );
        let _ = writeln!(out, "they carry {bytes} bytes and {packets} packets (sampling 1:{})", self.sampling);
        let _ = writeln!(out, "\n{:<16}{:>14}{:>20}{:>16}", "direction", "flows", "bytes", "packets");
        for (name, sums) in &self.by_direction {
            let _ = writeln!(out, "{name:<16}{:>14}{:>20}{:>16}", sums.flows, sums.bytes, sums.packets);
        }
        let _ = writeln!(out, "\n{:<16}{:>14}{:>20}{:>16}", "top sources", "flows", "bytes", "packets");
        for SourceSums { src_ip, sums } in &self.top_sources {
            let _ = writeln!(out, "{src_ip:<16}{:>14}{:>20}{:>16}", sums.flows, sums.bytes, sums.packets);
        }
        if self.refused > 0 {
            let _ = writeln!(out, "\nthe target refused {} times: nobody listens there", self.refused);
        }
        out
    }
}
