use super::{FlowRecord, Header, header_at, lengths, put_u16};

/// Writes one v1, v5 or v7 datagram into a buffer: header first, then records, without allocation.
#[derive(Debug)]
pub struct Builder<'a> {
    out: &'a mut [u8],
    version: u16,
    record_bytes: usize,
    used_bytes: usize,
    count: u16,
}

impl<'a> Builder<'a> {
    /// Starts a datagram with this header; its `count` is set by [`Builder::finish`]. `None` when the version is not 1, 5
    /// or 7 or the buffer does not hold the header.
    pub fn new(out: &'a mut [u8], header: &Header) -> Option<Self> {
        let (header_bytes, record_bytes) = lengths(header.version)?;
        if out.len() < header_bytes {
            return None;
        }
        header.write(out);
        Some(Self { out, version: header.version, record_bytes, used_bytes: header_bytes, count: 0 })
    }

    /// Appends a record; `false` when the buffer or the count is full.
    #[inline]
    pub fn push(&mut self, record: &FlowRecord) -> bool {
        let end = self.used_bytes + self.record_bytes;
        if end > self.out.len() || self.count == u16::MAX {
            return false;
        }
        record.write(self.version, &mut self.out[self.used_bytes..end]);
        self.used_bytes = end;
        self.count += 1;
        true
    }

    /// Writes the count; gives the datagram's length in bytes.
    pub fn finish(self) -> usize {
        put_u16(self.out, header_at::COUNT, self.count);
        self.used_bytes
    }
}

/// A whole datagram of these records; those beyond a count of 65,535 are left out. Empty when the version is not 1, 5 or 7.
pub fn datagram(header: &Header, records: &[FlowRecord]) -> Vec<u8> {
    let Some((header_bytes, record_bytes)) = lengths(header.version) else { return Vec::new() };
    let mut bytes = vec![0; header_bytes + records.len() * record_bytes];
    let Some(mut builder) = Builder::new(&mut bytes, header) else { return Vec::new() };
    records.iter().take_while(|record| builder.push(record)).for_each(drop);
    let length = builder.finish();
    bytes.truncate(length);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_reads_back() {
        let record = FlowRecord {
            src_addr: 0x0a00_0001,
            dst_addr: 0x0102_0304,
            next_hop: 0x0506_0708,
            input_if: 1,
            output_if: 2,
            packets: 3,
            bytes: 400,
            first_ms: 5,
            last_ms: 6,
            src_port: 7,
            dst_port: 8,
            tcp_flags: 9,
            protocol: 6,
            tos: 11,
            src_as: 12,
            dst_as: 13,
            src_mask: 14,
            dst_mask: 15,
        };
        for version in [1, 5, 7] {
            let mut buffer = [0xffu8; 200];
            let header = Header { version, sys_uptime_ms: 9, unix_secs: 10, unix_nsecs: 11, ..Header::default() };
            let mut builder = Builder::new(&mut buffer, &header).unwrap();
            assert!(builder.push(&record) && builder.push(&record));
            let length = builder.finish();
            let (header_bytes, record_bytes) = lengths(version).unwrap();
            assert_eq!(length, header_bytes + 2 * record_bytes);
            assert_eq!(Header::parse(&buffer[..length]), Some(Header { count: 2, ..header }));
            let want = match version {
                1 => FlowRecord { src_as: 0, dst_as: 0, src_mask: 0, dst_mask: 0, ..record },
                _ => record,
            };
            assert_eq!(FlowRecord::parse(version, &buffer[header_bytes + record_bytes..length]), Some(want));
        }
    }

    #[test]
    fn a_full_buffer_takes_no_more_records() {
        let mut buffer = [0u8; 24 + 48 + 47];
        let header = Header { version: 5, ..Header::default() };
        let mut builder = Builder::new(&mut buffer, &header).unwrap();
        assert!(builder.push(&FlowRecord::default()));
        assert!(!builder.push(&FlowRecord::default()));
        assert_eq!(builder.finish(), 72);
        assert!(Builder::new(&mut [0u8; 23], &header).is_none());
        assert!(Builder::new(&mut [0u8; 99], &Header { version: 9, ..header }).is_none());
    }
}
