//! Any bytes as an export datagram: no panic, everything counted.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    rgz_netflow::decode::fuzz::datagram(data);
});
