use super::{
    UDP_PAYLOAD_MAX, V5_SAMPLING_INTERVAL_MASK, get_u16, get_u32, header_at as at, lengths, put_u16, put_u32,
    records_in,
};

/// The header of a v1, v5 or v7 datagram. Fields that the version lacks are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// 1, 5 or 7.
    pub version: u16,
    /// Records that the datagram announces.
    pub count: u16,
    /// ms since the exporter started, modulo 2^32.
    pub sys_uptime_ms: u32,
    /// Exporter's clock, s since the Unix epoch.
    pub unix_secs: u32,
    /// Exporter's clock, ns beyond `unix_secs`. Some exporters put more than a second here.
    pub unix_nsecs: u32,
    /// Flows exported before this datagram, modulo 2^32 (v5, v7).
    pub sequence: u32,
    /// v5.
    pub engine_type: u8,
    /// v5.
    pub engine_id: u8,
    /// v5: mode in the upper 2 bits, interval in the lower 14.
    pub sampling: u16,
}

impl Header {
    /// Reads a header; `None` when the version is not 1, 5 or 7 or the bytes do not hold its header.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let version = get_u16(bytes, at::VERSION);
        let (header_bytes, _) = lengths(version)?;
        if bytes.len() < header_bytes {
            return None;
        }
        let mut header = Self {
            version,
            count: get_u16(bytes, at::COUNT),
            sys_uptime_ms: get_u32(bytes, at::SYS_UPTIME),
            unix_secs: get_u32(bytes, at::UNIX_SECS),
            unix_nsecs: get_u32(bytes, at::UNIX_NSECS),
            ..Self::default()
        };
        if version != 1 {
            header.sequence = get_u32(bytes, at::SEQUENCE);
        }
        if version == 5 {
            header.engine_type = bytes[at::ENGINE_TYPE];
            header.engine_id = bytes[at::ENGINE_ID];
            header.sampling = get_u16(bytes, at::SAMPLING);
        }
        Some(header)
    }

    /// Whether a datagram can hold the records that the header announces.
    #[inline]
    pub fn is_possible(&self) -> bool {
        records_in(self.version, UDP_PAYLOAD_MAX) >= usize::from(self.count)
    }

    /// Writes the header to the start of `bytes`.
    ///
    /// # Panics
    /// When `bytes` is shorter than the version's header; nothing is written for a version that is not 1, 5 or 7.
    pub fn write(&self, bytes: &mut [u8]) {
        let Some((header_bytes, _)) = lengths(self.version) else { return };
        let bytes = &mut bytes[..header_bytes];
        put_u16(bytes, at::VERSION, self.version);
        put_u16(bytes, at::COUNT, self.count);
        put_u32(bytes, at::SYS_UPTIME, self.sys_uptime_ms);
        put_u32(bytes, at::UNIX_SECS, self.unix_secs);
        put_u32(bytes, at::UNIX_NSECS, self.unix_nsecs);
        if self.version == 1 {
            return;
        }
        put_u32(bytes, at::SEQUENCE, self.sequence);
        put_u32(bytes, at::ENGINE_TYPE, 0);
        if self.version == 5 {
            bytes[at::ENGINE_TYPE] = self.engine_type;
            bytes[at::ENGINE_ID] = self.engine_id;
            put_u16(bytes, at::SAMPLING, self.sampling);
        }
    }

    /// Whether the version numbers its exports.
    pub const fn has_sequence(&self) -> bool {
        self.version != 1
    }

    /// Engine type and id in one number, as `StreamProgress::source_id` holds it.
    pub const fn source_id(&self) -> u32 {
        (self.engine_type as u32) << 8 | self.engine_id as u32
    }

    /// The exporter's clock, ms since the Unix epoch. Nanoseconds beyond a second are ignored: exporters that write
    /// microseconds or garbage there would shift every time.
    pub const fn clock_ms(&self) -> i64 {
        let sub_second_ms = if self.unix_nsecs < 1_000_000_000 { self.unix_nsecs / 1_000_000 } else { 0 };
        self.unix_secs as i64 * 1000 + sub_second_ms as i64
    }

    /// The sampling interval, 0 when the header gives none.
    pub const fn sampling_interval(&self) -> u16 {
        self.sampling & V5_SAMPLING_INTERVAL_MASK
    }
}
