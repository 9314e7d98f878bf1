use super::{get_u16, get_u32, lengths, put_u16, put_u32, record_at as at};

/// One flow record in the fields of v5; v1 and v7 carry a part of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowRecord {
    /// IPv4 address, host byte order.
    pub src_addr: u32,
    /// IPv4 address, host byte order.
    pub dst_addr: u32,
    /// IPv4 address, host byte order.
    pub next_hop: u32,
    /// SNMP index of the input interface.
    pub input_if: u16,
    /// SNMP index of the output interface.
    pub output_if: u16,
    /// Packets.
    pub packets: u32,
    /// Layer 3 bytes.
    pub bytes: u32,
    /// Exporter's uptime at the first packet, ms modulo 2^32.
    pub first_ms: u32,
    /// Exporter's uptime at the last packet, ms modulo 2^32.
    pub last_ms: u32,
    /// Source port.
    pub src_port: u16,
    /// Destination port; ICMP type * 256 + code.
    pub dst_port: u16,
    /// TCP flags of all packets, ORed.
    pub tcp_flags: u8,
    /// IP protocol number.
    pub protocol: u8,
    /// IP type of service.
    pub tos: u8,
    /// v5 and v7.
    pub src_as: u16,
    /// v5 and v7.
    pub dst_as: u16,
    /// v5 and v7.
    pub src_mask: u8,
    /// v5 and v7.
    pub dst_mask: u8,
}

impl FlowRecord {
    /// Writes the record in the form of `version` to the start of `bytes`, padding as zeros.
    ///
    /// # Panics
    /// When `bytes` is shorter than the version's record; nothing is written for a version that is not 1, 5 or 7.
    #[inline]
    pub fn write(&self, version: u16, bytes: &mut [u8]) {
        let Some((_, record_bytes)) = lengths(version) else { return };
        let bytes = &mut bytes[..record_bytes];
        put_u32(bytes, at::SRC_ADDR, self.src_addr);
        put_u32(bytes, at::DST_ADDR, self.dst_addr);
        put_u32(bytes, at::NEXT_HOP, self.next_hop);
        put_u16(bytes, at::INPUT_IF, self.input_if);
        put_u16(bytes, at::OUTPUT_IF, self.output_if);
        put_u32(bytes, at::PACKETS, self.packets);
        put_u32(bytes, at::BYTES, self.bytes);
        put_u32(bytes, at::FIRST, self.first_ms);
        put_u32(bytes, at::LAST, self.last_ms);
        put_u16(bytes, at::SRC_PORT, self.src_port);
        put_u16(bytes, at::DST_PORT, self.dst_port);
        bytes[at::DST_PORT + 2..].fill(0);
        bytes[at::PROTOCOL] = self.protocol;
        bytes[at::TOS] = self.tos;
        if version == 1 {
            bytes[at::V1_TCP_FLAGS] = self.tcp_flags;
            return;
        }
        bytes[at::TCP_FLAGS] = self.tcp_flags;
        put_u16(bytes, at::SRC_AS, self.src_as);
        put_u16(bytes, at::DST_AS, self.dst_as);
        bytes[at::SRC_MASK] = self.src_mask;
        bytes[at::DST_MASK] = self.dst_mask;
    }

    /// Reads one record, field by field: the plain way, beside which the columnar decoder is tested. `None` when the bytes
    /// are too short or the version is not 1, 5 or 7.
    pub fn parse(version: u16, bytes: &[u8]) -> Option<Self> {
        let (_, record_bytes) = lengths(version)?;
        let bytes = bytes.get(..record_bytes)?;
        let mut record = Self {
            src_addr: get_u32(bytes, at::SRC_ADDR),
            dst_addr: get_u32(bytes, at::DST_ADDR),
            next_hop: get_u32(bytes, at::NEXT_HOP),
            input_if: get_u16(bytes, at::INPUT_IF),
            output_if: get_u16(bytes, at::OUTPUT_IF),
            packets: get_u32(bytes, at::PACKETS),
            bytes: get_u32(bytes, at::BYTES),
            first_ms: get_u32(bytes, at::FIRST),
            last_ms: get_u32(bytes, at::LAST),
            src_port: get_u16(bytes, at::SRC_PORT),
            dst_port: get_u16(bytes, at::DST_PORT),
            protocol: bytes[at::PROTOCOL],
            tos: bytes[at::TOS],
            ..Self::default()
        };
        if version == 1 {
            record.tcp_flags = bytes[at::V1_TCP_FLAGS];
        } else {
            record.tcp_flags = bytes[at::TCP_FLAGS];
            record.src_as = get_u16(bytes, at::SRC_AS);
            record.dst_as = get_u16(bytes, at::DST_AS);
            record.src_mask = bytes[at::SRC_MASK];
            record.dst_mask = bytes[at::DST_MASK];
        }
        Some(record)
    }
}
