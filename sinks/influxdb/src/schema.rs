//! How columns and keys stand in points.
//!
//! Tags are what has few values: a series exists for each combination of them, in the server's memory. Addresses, ports and
//! everything else are fields. An absent tag or field is null.
//!
//! Texts in tags: what line protocol cannot hold there (control characters, backslashes, the empty text) is written as `%`
//! and two hexadecimal digits, and a `%` that would read as such as `%25`. All other texts stand as they are.

use std::borrow::Cow;

use sink_api::rollup::{Key, RollupDef};
use sink_api::{Direction, Field};

/// Measurement of the flows.
pub const FLOWS: &str = "flows";

/// Measurement of the cursors.
pub const CURSOR: &str = "netflow_cursor";

/// The rollup in which subscribers are tags.
pub const BY_SUBSCRIBER: &str = "usage";

/// Value of the tag `subscriber_id` of rows whose subscriber stands in the field [`OTHER_FIELD`].
pub const OTHER: &str = "other";

/// The field of subscribers that have no tag.
pub const OTHER_FIELD: &str = "subscriber";

/// The tag that tells logs apart.
pub const COLLECTOR: &str = "collector";

/// The field with the end of a flow in ms: timestamps of flows are whole seconds and an offset.
pub const FLOW_END: &str = "flow_end";

/// Width of the buckets in which flows stand, ms.
pub const FLOWS_BUCKET_MS: i64 = 1000;

/// Width of the buckets in which alerts stand, ms: their time is kept as it is.
pub const ALERTS_BUCKET_MS: i64 = 1;

/// Columns that are tags, in the order of their names.
const TAGS: [Field; 6] = [Field::App, Field::Direction, Field::NasId, Field::Protocol, Field::ResellerId, Field::Site];

/// Whether a key is a tag of a rollup's points.
pub fn is_tag(rollup: &str, key: Key) -> bool {
    match key {
        Key::Field(Field::SubscriberId) => rollup == BY_SUBSCRIBER,
        Key::Field(field) => is_flow_tag(field),
        _ => false,
    }
}

/// Whether a column is a tag of the flows' points.
pub fn is_flow_tag(field: Field) -> bool {
    TAGS.contains(&field)
}

/// Whether a rollup's subscribers are tags, up to the bound.
pub fn has_subscriber_tag(def: &RollupDef) -> bool {
    *def.name == *BY_SUBSCRIBER && def.by.contains(&Key::Field(Field::SubscriberId))
}

/// The name of a key's tag or field in a rollup's points. A key that has the name of a sum is named `key_bytes`.
pub fn key_name(key: Key) -> &'static str {
    match key {
        Key::Field(Field::Bytes) => "key_bytes",
        Key::Field(Field::Packets) => "key_packets",
        key => key.name(),
    }
}

/// The name of a column's tag or field in the flows' points.
pub fn field_name(field: Field) -> &'static str {
    if field == Field::Time { FLOW_END } else { field.name() }
}

/// The text of a direction's number, `None` for an undefined one.
pub fn direction_name(code: u8) -> Option<&'static str> {
    Direction::from_code(code).map(Direction::name)
}

/// A text as a tag holds it.
pub fn tag_text(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed(EMPTY);
    }
    let bytes = text.as_bytes();
    let is_escape = |at: usize| bytes.get(at + 1..at + 3).is_some_and(|two| two.iter().all(u8::is_ascii_hexdigit));
    let special = |at: usize, b: u8| b.is_ascii_control() || b == b'\\' || b == b'%' && is_escape(at);
    if !bytes.iter().enumerate().any(|(at, b)| special(at, *b)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        if c.is_ascii() && special(at, c as u8) {
            out += &format!("%{:02X}", c as u8);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// The tag of an empty text: a byte that no text has.
const EMPTY: &str = "%FF";

/// The text that a tag holds.
pub fn text_of_tag(tag: &str) -> Cow<'_, str> {
    if tag == EMPTY {
        return Cow::Borrowed("");
    }
    if !tag.contains('%') {
        return Cow::Borrowed(tag);
    }
    let mut out = String::with_capacity(tag.len());
    let mut rest = tag;
    while let Some(at) = rest.find('%') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let digits = from.get(1..3).filter(|two| two.bytes().all(|b| b.is_ascii_hexdigit()));
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                out.push(char::from(byte));
                rest = &from[3..];
            }
            _ => {
                out.push('%');
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tag_gives_back_its_text(text in "([%0-9A-Fa-f]|[\\PC]|[\\x00-\\x1f\\\\]){0,12}") {
            let tag = tag_text(&text).into_owned();
            prop_assert_eq!(text_of_tag(&tag), text.as_str());
            prop_assert!(!tag.is_empty() && !tag.contains(|c: char| c.is_ascii_control() || c == '\\'));
        }
    }

    #[test]
    fn usual_texts_stand_as_they_are() {
        for text in ["edge-1", "Zürich", "a b", "x,y=1", "60%", "say \"hi\"", "%zz", "100%2"] {
            assert_eq!(tag_text(text), text);
            assert_eq!(text_of_tag(text), text);
        }
        assert_eq!(tag_text("a\\b%41"), "a%5Cb%2541");
    }
}
