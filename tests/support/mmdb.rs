//! A database of countries made by the tests: one country for every IPv4 address, in MaxMind's format and layout.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Puts a database under a name in a folder, by rename, as built so many days ago.
pub fn write_country(folder: &Path, name: &str, country: &str, days_ago: u64) {
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let hidden = folder.join(format!(".{name}.new"));
    std::fs::write(&hidden, database(country, now_s - days_ago * 86_400)).unwrap();
    std::fs::rename(hidden, folder.join(name)).unwrap();
}

/// One node whose two records are the one entry of the data section.
fn database(country: &str, built_s: u64) -> Vec<u8> {
    const NODES: u32 = 1;
    let record = (NODES + 16).to_be_bytes();
    let entry = map(&[("country", map(&[("iso_code", text(country))]))]);
    let metadata = map(&[
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", number(9, built_s)),
        ("database_type", text("Test-Country")),
        ("description", map(&[("en", text("made by a test"))])),
        ("ip_version", number(5, 4)),
        ("languages", vec![0, 11 - 7]),
        ("node_count", number(6, NODES.into())),
        ("record_size", number(5, 24)),
    ]);
    let tree = [&record[1..], &record[1..]].concat();
    [tree, vec![0; 16], entry, b"\xab\xcd\xefMaxMind.com".to_vec(), metadata].concat()
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![7 << 5 | entries.len() as u8];
    entries.iter().for_each(|(name, value)| out.extend([text(name), value.clone()].concat()));
    out
}

fn text(text: &str) -> Vec<u8> {
    assert!(text.len() < 29, "longer texts have another head");
    [&[2 << 5 | text.len() as u8], text.as_bytes()].concat()
}

/// A number of a type of the format: 5 = 16 bits, 6 = 32, 9 = 64, with its leading zeros left out.
fn number(kind: u8, n: u64) -> Vec<u8> {
    let bytes = n.to_be_bytes();
    let bytes = &bytes[n.leading_zeros() as usize / 8..];
    let head = if kind <= 7 { vec![kind << 5 | bytes.len() as u8] } else { vec![bytes.len() as u8, kind - 7] };
    [head, bytes.to_vec()].concat()
}
