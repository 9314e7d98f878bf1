//! Any text as a filter: no panic, no overflow of the stack.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = sink_api::filter::parse(text);
    }
});
