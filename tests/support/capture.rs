//! A packet capture made by the tests: conversations with known sizes, for exporters that read captures.

use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Writes a pcap of TCP and UDP conversations over the minute before now.
pub fn write_capture(path: &Path, conversations: u32) {
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let mut frames = Vec::new();
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    for i in 0..conversations {
        let source = [10, 0, (i % 7) as u8, 1 + (i % 50) as u8];
        let destination = [198, 51, 100, 1 + (i % 40) as u8];
        let (port, udp) = [(443, false), (80, false), (53, true)][next(3) as usize];
        let mut at_us = now_us - 60_000_000 + next(50_000_000);
        for packet in 0..2 + next(18) {
            at_us += next(400_000);
            let payload = vec![b'x'; next(900) as usize];
            let segment = if udp {
                udp_segment(1024 + i as u16, port, &payload)
            } else {
                tcp_segment(1024 + i as u16, port, packet == 0, &payload)
            };
            frames.push((at_us, ethernet(&ipv4(source, destination, if udp { 17 } else { 6 }, &segment))));
        }
    }
    frames.sort();
    write_frames(path, &frames);
}

/// Writes a pcap of Ethernet frames, each with its time in µs since 1970.
pub fn write_frames(path: &Path, frames: &[(u64, Vec<u8>)]) {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path).unwrap());
    let head: [u32; 6] = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 65_535, 1];
    head.iter().for_each(|word| file.write_all(&word.to_le_bytes()).unwrap());
    for (at_us, frame) in frames {
        let length = frame.len() as u32;
        for word in [(at_us / 1_000_000) as u32, (at_us % 1_000_000) as u32, length, length] {
            file.write_all(&word.to_le_bytes()).unwrap();
        }
        file.write_all(frame).unwrap();
    }
}

pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], packet].concat()
}

pub fn ipv4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = (20 + payload.len()) as u16;
    let mut head = vec![0x45, 0];
    head.extend(length.to_be_bytes());
    head.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    head.extend(source);
    head.extend(destination);
    let sum: u32 = head.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    head[10..12].copy_from_slice(&(!(((folded & 0xffff) + (folded >> 16)) as u16)).to_be_bytes());
    [head, payload.to_vec()].concat()
}

pub fn udp_segment(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let words = [source, destination, 8 + payload.len() as u16, 0];
    [words.map(u16::to_be_bytes).concat(), payload.to_vec()].concat()
}

fn tcp_segment(source: u16, destination: u16, syn: bool, payload: &[u8]) -> Vec<u8> {
    let flags = if syn { 0x02 } else { 0x18 };
    let words = [source, destination, 0, 1, 0, 1, 0x5000 | flags, 1000, 0, 0];
    [words.map(u16::to_be_bytes).concat(), payload.to_vec()].concat()
}
