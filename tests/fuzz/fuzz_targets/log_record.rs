//! Any bytes as the payload of a log record: no panic, memory in proportion to the input.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = rgz_netflow::log::codec::decode(data);
});
