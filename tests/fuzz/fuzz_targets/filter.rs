//! Any text as a filter: no panic, no overflow of the stack; what parses prints and parses back.
#![no_main]

use sink_api::filter::Filter;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(filter) = text.parse::<Filter>() {
        assert_eq!(filter.to_string().parse::<Filter>().ok(), Some(filter));
    }
});
