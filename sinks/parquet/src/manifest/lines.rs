use super::Change;

/// A change as a line.
pub(super) fn write(change: &Change) -> Vec<u8> {
    // A change holds only numbers, texts and lists, which JSON can always express.
    let json = serde_json::to_vec(change).unwrap_or_default();
    let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
    line.extend_from_slice(&json);
    line.push(b'\n');
    line
}

/// What stands at the start of some bytes.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// A change, and the length of its line.
    Good(Change, usize),
    /// A complete line that does not check, and its length.
    Bad(usize),
    /// No line end yet.
    Unfinished,
}

/// Reads the first line.
pub(super) fn read(bytes: &[u8]) -> Line {
    let Some(end) = bytes.iter().position(|b| *b == b'\n') else {
        return Line::Unfinished;
    };
    let change = bytes[..end].split_at_checked(9).and_then(|(crc, json)| {
        let crc = std::str::from_utf8(crc).ok()?.strip_suffix(' ')?;
        let crc = u32::from_str_radix(crc, 16).ok()?;
        (crc == crc32c::crc32c(json)).then(|| serde_json::from_slice(json).ok()).flatten()
    });
    match change {
        Some(change) => Line::Good(change, end + 1),
        None => Line::Bad(end + 1),
    }
}
