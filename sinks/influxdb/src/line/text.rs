//! Numbers, addresses and texts in line protocol.

use sink_api::Addr;

/// A whole number as a field: the server's are signed, so the largest stands for all above it.
#[inline]
pub fn whole(out: &mut Vec<u8>, n: u64) {
    unsigned(out, n.min(i64::MAX as u64));
    out.push(b'i');
}

/// A whole number as it is.
pub fn signed(out: &mut Vec<u8>, n: i64) {
    if n < 0 {
        out.push(b'-');
    }
    unsigned(out, n.unsigned_abs());
}

/// Digits of a number.
#[inline]
fn unsigned(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// An address as a field.
pub fn address(out: &mut Vec<u8>, addr: Addr) {
    out.push(b'"');
    match addr.as_v4() {
        Some(bits) => {
            for (index, byte) in bits.to_be_bytes().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                unsigned(out, byte.into());
            }
        }
        None => out.extend_from_slice(addr.to_string().as_bytes()),
    }
    out.push(b'"');
}

/// A text as a field.
pub fn quoted(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for byte in text.bytes() {
        if matches!(byte, b'"' | b'\\') {
            out.push(b'\\');
        }
        out.push(byte);
    }
    out.push(b'"');
}

/// A text as a measurement or a tag's value; it holds no backslash and no control character.
pub fn escaped(out: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        if matches!(byte, b',' | b'=' | b' ') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}
