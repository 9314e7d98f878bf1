//! UDP payloads of a capture file: pcap and pcapng, Ethernet (with VLAN tags), Linux cooked, raw IP and BSD loopback.
//!
//! Frames that hold no whole UDP datagram are counted by reason, never an error. A file that ends in the middle of a frame
//! (a capture that was killed) gives what it holds.

use std::io::{self, Read};
use std::net::IpAddr;

use etherparse::{EtherType, LaxNetSlice, LaxSlicedPacket, TransportSlice};
use pcap_parser::traits::PcapNGPacketBlock;
use pcap_parser::{Block, Linktype, PcapBlockOwned, PcapError, create_reader};

/// Buffer for the file: the largest frame that tools write (262,144 bytes) and its header fit several times.
const BUFFER_BYTES: usize = 1 << 20;

/// One UDP datagram of the capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Time of capture, ns since the Unix epoch.
    pub time_ns: i64,
    /// Who sent it.
    pub from: (IpAddr, u16),
    /// Its destination port.
    pub to_port: u16,
    /// What it carries.
    pub payload: &'a [u8],
}

/// Frames that gave no datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// No UDP in it.
    pub other: u64,
    /// Fragments of IP datagrams.
    pub fragments: u64,
    /// Cut by the capture's snap length.
    pub cut: u64,
    /// On a link of a type that is not known here.
    pub unknown_link: u64,
}

/// An interface of the capture.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: Linktype,
    ticks_per_second: u64,
    offset_s: i64,
}

/// Reads the capture and calls `visit` for each datagram with the bytes of the file read so far, until it gives false.
///
/// # Errors
/// A file that is no capture, cannot be read, or is broken in the middle.
pub fn read(file: impl Read + Send, visit: &mut dyn FnMut(&Datagram<'_>, u64) -> bool) -> io::Result<Skipped> {
    let broken = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut reader = create_reader(BUFFER_BYTES, file).map_err(|e| match e {
        PcapError::HeaderNotRecognized | PcapError::Incomplete(_) | PcapError::Eof => {
            broken("it is neither pcap nor pcapng")
        }
        e => broken(&format!("not a readable capture: {e:?}")),
    })?;
    let (mut interfaces, mut skipped, mut read_bytes) = (Vec::new(), Skipped::default(), 0u64);
    loop {
        match reader.next() {
            Ok((length, block)) => {
                let frame = frame_of(&block, &mut interfaces);
                let datagram = frame.and_then(|(link, time_ns, data)| datagram_of(link, time_ns, data, &mut skipped));
                let go_on = datagram.is_none_or(|datagram| visit(&datagram, read_bytes));
                reader.consume(length);
                read_bytes += length as u64;
                if !go_on {
                    return Ok(skipped);
                }
            }
            Err(PcapError::Eof | PcapError::UnexpectedEof) => return Ok(skipped),
            Err(PcapError::Incomplete(_)) => {
                if reader.reader_exhausted() {
                    skipped.cut += u64::from(!reader.data().is_empty());
                    return Ok(skipped);
                }
                reader.refill().map_err(|_| broken("it cannot be read on, or a frame is too large"))?;
            }
            Err(_) => return Err(broken(&format!("it is broken after {read_bytes} bytes"))),
        }
    }
}

/// Link type, time and bytes of a block that holds a frame. Blocks that describe interfaces are remembered.
fn frame_of<'a>(block: &'a PcapBlockOwned<'_>, interfaces: &mut Vec<Interface>) -> Option<(Linktype, i64, &'a [u8])> {
    match block {
        PcapBlockOwned::LegacyHeader(header) => {
            let ticks_per_second = if header.is_nanosecond_precision() { 1_000_000_000 } else { 1_000_000 };
            interfaces.clear();
            interfaces.push(Interface { link: header.network, ticks_per_second, offset_s: 0 });
            None
        }
        PcapBlockOwned::Legacy(frame) => {
            let interface = interfaces.first()?;
            let ticks = u64::from(frame.ts_sec) * interface.ticks_per_second + u64::from(frame.ts_usec);
            Some((interface.link, time_ns(ticks, interface), frame.data))
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            interfaces.clear();
            None
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            interfaces.push(Interface {
                link: interface.linktype,
                ticks_per_second: interface.ts_resolution().filter(|ticks| *ticks > 0).unwrap_or(1_000_000),
                offset_s: interface.ts_offset(),
            });
            None
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(frame)) => {
            let interface = interfaces.get(frame.if_id as usize)?;
            let ticks = u64::from(frame.ts_high) << 32 | u64::from(frame.ts_low);
            Some((interface.link, time_ns(ticks, interface), frame.packet_data()))
        }
        // Simple packets carry no time; they follow at once.
        PcapBlockOwned::NG(Block::SimplePacket(frame)) => Some((interfaces.first()?.link, 0, frame.packet_data())),
        PcapBlockOwned::NG(_) => None,
    }
}

fn time_ns(ticks: u64, interface: &Interface) -> i64 {
    let ns = u128::from(ticks) * 1_000_000_000 / u128::from(interface.ticks_per_second);
    i64::try_from(ns).unwrap_or(0).saturating_add(interface.offset_s.saturating_mul(1_000_000_000))
}

fn datagram_of<'a>(link: Linktype, time_ns: i64, data: &'a [u8], skipped: &mut Skipped) -> Option<Datagram<'a>> {
    let packet = packet_of(link, data, skipped)?;
    let from_ip: IpAddr = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => ip.header().source_addr().into(),
        Some(LaxNetSlice::Ipv6(ip)) => ip.header().source_addr().into(),
        _ => {
            skipped.other += 1;
            return None;
        }
    };
    if packet.ip_payload().is_some_and(|payload| payload.fragmented) {
        skipped.fragments += 1;
        return None;
    }
    let Some(TransportSlice::Udp(udp)) = &packet.transport else {
        skipped.other += 1;
        return None;
    };
    let announced = usize::from(udp.length());
    if announced != 0 && udp.slice().len() < announced {
        skipped.cut += 1;
        return None;
    }
    let from = (from_ip, udp.source_port());
    Some(Datagram { time_ns, from, to_port: udp.destination_port(), payload: udp.payload() })
}

fn packet_of<'a>(link: Linktype, data: &'a [u8], skipped: &mut Skipped) -> Option<LaxSlicedPacket<'a>> {
    let ip = |at: usize| data.get(at..).and_then(|ip| LaxSlicedPacket::from_ip(ip).ok());
    let typed = |type_at: usize, at: usize| {
        let ether_type = data.get(type_at..type_at + 2).map(|b| EtherType(u16::from_be_bytes([b[0], b[1]])))?;
        Some(LaxSlicedPacket::from_ether_type(ether_type, data.get(at..)?))
    };
    // Numbers of the registry at tcpdump.org/linktypes.html.
    let packet = match link.0 {
        1 => LaxSlicedPacket::from_ethernet(data).ok(),
        // BSD loopback: an address family of 4 bytes in either byte order, then IP, which says its version itself.
        0 | 108 => ip(4),
        // Raw IP, under the numbers of several systems.
        12 | 14 | 101 | 228 | 229 => ip(0),
        // Linux cooked, versions 1 and 2.
        113 => typed(14, 16),
        276 => typed(0, 20),
        _ => {
            skipped.unknown_link += 1;
            return None;
        }
    };
    skipped.other += u64::from(packet.is_none());
    packet
}
