//! Any bytes as the payload of a log record: no panic, memory in proportion to the input.
#![no_main]

use rgz_netflow::log::codec::{PayloadKind, decode};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for kind in [PayloadKind::Flows, PayloadKind::Sums] {
        let _ = decode(kind, data);
    }
});
