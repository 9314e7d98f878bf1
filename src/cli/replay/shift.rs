//! Which payloads are flow exports, and their header's clock.

/// NetFlow versions and IPFIX by the number in the first two bytes. sFlow begins with a 32-bit 5.
const NETFLOW: [u16; 5] = [1, 5, 7, 8, 9];
const IPFIX: u16 = 10;

/// Where the seconds of the exporter's clock stand, bytes: NetFlow of all versions, IPFIX.
const NETFLOW_SECS_AT: usize = 8;
const NETFLOW_NSECS_AT: usize = 12;
const IPFIX_SECS_AT: usize = 4;
const SFLOW: [u8; 4] = [0, 0, 0, 5];

/// Whether a payload begins like NetFlow, IPFIX or sFlow.
pub fn is_export(payload: &[u8]) -> bool {
    payload.len() >= 16
        && (version(payload).is_some_and(|v| v == IPFIX || NETFLOW.contains(&v)) || payload.starts_with(&SFLOW))
}

/// Moves the exporter's clock; sFlow has none. Uptimes stay, so flows keep their ages.
pub fn shift(payload: &mut [u8], by_ms: i64) {
    match version(payload) {
        // v9 counts whole seconds only, its word at 12 is the sequence.
        Some(9) => shift_secs(payload, NETFLOW_SECS_AT, by_ms.div_euclid(1000)),
        Some(IPFIX) => shift_secs(payload, IPFIX_SECS_AT, by_ms.div_euclid(1000)),
        Some(v) if NETFLOW.contains(&v) => {
            let nsecs = get(payload, NETFLOW_NSECS_AT);
            // What is no part of a second is left as it is, for the collector to judge.
            if nsecs >= 1_000_000_000 {
                return shift_secs(payload, NETFLOW_SECS_AT, by_ms.div_euclid(1000));
            }
            let ns = i64::from(nsecs) + by_ms.rem_euclid(1000) * 1_000_000;
            shift_secs(payload, NETFLOW_SECS_AT, by_ms.div_euclid(1000) + ns / 1_000_000_000);
            put(payload, NETFLOW_NSECS_AT, (ns % 1_000_000_000) as u32);
        }
        _ => {}
    }
}

fn version(payload: &[u8]) -> Option<u16> {
    payload.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn shift_secs(payload: &mut [u8], at: usize, by_s: i64) {
    let secs = get(payload, at).wrapping_add(by_s as u32);
    put(payload, at, secs);
}

fn get(payload: &[u8], at: usize) -> u32 {
    payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
}

fn put(payload: &mut [u8], at: usize, value: u32) {
    if let Some(field) = payload.get_mut(at..at + 4) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Header;

    #[test]
    fn clocks_move_by_milliseconds_and_uptimes_stay() {
        let mut bytes = [0; 24];
        let header =
            Header { version: 5, sys_uptime_ms: 7, unix_secs: 1000, unix_nsecs: 999_000_001, ..Header::default() };
        for by_ms in [0i64, 1, -1, 1000, -1999, 86_400_123] {
            header.write(&mut bytes);
            shift(&mut bytes, by_ms);
            let moved = Header::parse(&bytes).unwrap();
            assert_eq!(moved.clock_ms(), header.clock_ms() + by_ms);
            assert_eq!((moved.sys_uptime_ms, moved.unix_nsecs % 1_000_000), (7, 1));
        }
    }

    #[test]
    fn sequences_of_v9_and_ipfix_are_no_clocks() {
        let mut v9 = [0u8, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 99, 0, 0, 0, 1];
        shift(&mut v9, 5000);
        assert_eq!((v9[11], v9[15]), (15, 99));
        let mut ipfix = [0u8, 10, 0, 16, 0, 0, 0, 10, 0, 0, 0, 99, 0, 0, 0, 1];
        shift(&mut ipfix, 5000);
        assert_eq!((ipfix[7], ipfix[11]), (15, 99));
    }

    #[test]
    fn short_and_foreign_payloads_are_left_alone() {
        for payload in [&b""[..], b"\0", b"\0\x05", b"GET / HTTP/1.1\r\n\r\n"] {
            let mut copy = payload.to_vec();
            shift(&mut copy, 1234);
            assert!(!is_export(payload));
            if payload.len() > 8 {
                assert_eq!(copy, payload);
            }
        }
    }
}
