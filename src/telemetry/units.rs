//! Durations and sizes as people write them: `"500ms"`, `"10s"`, `"5m"`, `"24h"`, `"30d"`; `"64MiB"`, `"8GiB"`, `"1GB"`.
//!
//! Config structs hold plain integers (ms, bytes) and read them with
//! `#[serde(with = "crate::telemetry::units::duration_ms")]` or `...::bytes`. A number without quotes is ms or bytes; in text
//! a size may do without a unit, a duration may not: too many write seconds so.
//! What is printed reads back as the same number.

/// What a text may measure.
struct Kind {
    /// What a text of it is called.
    name: &'static str,
    /// A text that is right.
    example: &'static str,
    /// Units with how many of the first they are. Those that are printed come first, in ascending order.
    units: &'static [(&'static str, u64)],
    /// How many of the units are printed; the others are only read.
    printed: usize,
    /// The unit's letters may be of either case.
    any_case: bool,
    /// A number that is not 0 may do without a unit.
    bare: bool,
}

/// In ms.
const DURATION: Kind = Kind {
    name: "duration",
    example: "30s",
    units: &[("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)],
    printed: 5,
    any_case: false,
    bare: false,
};

/// In bytes. The binary units are printed, the decimal ones are only read.
const SIZE: Kind = Kind {
    name: "size",
    example: "64MiB",
    units: &[
        ("B", 1),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("kB", 1000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ],
    printed: 5,
    any_case: true,
    bare: true,
};

/// Why a text is no duration or size. Says what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: allowed is a whole number with one of {allowed}, like {example:?}")]
pub struct UnitError {
    text: String,
    what: &'static str,
    allowed: String,
    example: &'static str,
}

/// Reads a duration in ms.
///
/// # Errors
/// When the text is not a whole number with a unit of time, or too large for 64 bits.
pub fn parse_duration_ms(text: &str) -> Result<u64, UnitError> {
    DURATION.parse(text)
}

/// Reads a size in bytes. Upper and lower case are one: `64mib` is `64MiB`.
///
/// # Errors
/// When the text is not a whole number with a unit of size, or too large for 64 bits.
pub fn parse_bytes(text: &str) -> Result<u64, UnitError> {
    SIZE.parse(text)
}

/// Prints a duration in its largest whole unit: `90_000` is `90s`, `120_000` is `2m`.
pub fn print_duration_ms(ms: u64) -> String {
    if ms == 0 { "0s".to_owned() } else { DURATION.print(ms) }
}

/// Prints a size in its largest whole binary unit.
pub fn print_bytes(bytes: u64) -> String {
    if bytes == 0 { "0B".to_owned() } else { SIZE.print(bytes) }
}

impl Kind {
    fn parse(&self, text: &str) -> Result<u64, UnitError> {
        self.read(text.trim()).ok_or_else(|| self.refuse(text))
    }

    fn read(&self, text: &str) -> Option<u64> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().ok()?;
        let unit = text[digits..].trim_start();
        if unit.is_empty() {
            return (self.bare || number == 0).then_some(number);
        }
        let same = |name: &str| name == unit || (self.any_case && name.eq_ignore_ascii_case(unit));
        let (_, factor) = self.units.iter().find(|(name, _)| same(name))?;
        number.checked_mul(*factor)
    }

    fn print(&self, number: u64) -> String {
        let largest = self.units[..self.printed].iter().rev().find(|(_, factor)| number.is_multiple_of(*factor));
        let (name, factor) = largest.unwrap_or(&self.units[0]);
        format!("{}{name}", number / factor)
    }

    fn refuse(&self, text: &str) -> UnitError {
        let names: Vec<&str> = self.units.iter().map(|(name, _)| *name).collect();
        UnitError { text: text.to_owned(), what: self.name, allowed: names.join(", "), example: self.example }
    }
}

/// Serde for durations: an integer type holding ms, written as text with a unit.
pub mod duration_ms {
    use serde::{Deserializer, Serializer};

    /// Writes the duration as text.
    ///
    /// # Errors
    /// The serializer's, and a negative number.
    pub fn serialize<T: Copy + TryInto<u64>, S: Serializer>(ms: &T, serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize(*ms, serializer, super::print_duration_ms)
    }

    /// Reads text with a unit, or a number of ms.
    ///
    /// # Errors
    /// What is wrong and what is allowed.
    pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        let reader = super::Reader { expecting: "a duration like \"30s\"", parse: super::parse_duration_ms };
        super::deserialize(deserializer, reader)
    }
}

/// Serde for sizes: an integer type holding bytes, written as text with a unit.
pub mod bytes {
    use serde::{Deserializer, Serializer};

    /// Writes the size as text.
    ///
    /// # Errors
    /// The serializer's, and a negative number.
    pub fn serialize<T: Copy + TryInto<u64>, S: Serializer>(bytes: &T, serializer: S) -> Result<S::Ok, S::Error> {
        super::serialize(*bytes, serializer, super::print_bytes)
    }

    /// Reads text with a unit, or a number of bytes.
    ///
    /// # Errors
    /// What is wrong and what is allowed.
    pub fn deserialize<'de, T: TryFrom<u64>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
        super::deserialize(
            deserializer,
            super::Reader { expecting: "a size like \"64MiB\"", parse: super::parse_bytes },
        )
    }
}

fn serialize<T: TryInto<u64>, S: serde::Serializer>(
    value: T,
    serializer: S,
    print: fn(u64) -> String,
) -> Result<S::Ok, S::Error> {
    let number = value.try_into().map_err(|_| serde::ser::Error::custom("a negative number has no unit"))?;
    serializer.serialize_str(&print(number))
}

fn deserialize<'de, T: TryFrom<u64>, D: serde::Deserializer<'de>>(
    deserializer: D,
    reader: Reader,
) -> Result<T, D::Error> {
    let number = deserializer.deserialize_any(reader)?;
    T::try_from(number).map_err(|_| serde::de::Error::custom(format!("{number} is too large here")))
}

/// Takes text or a whole number.
struct Reader {
    expecting: &'static str,
    parse: fn(&str) -> Result<u64, UnitError>,
}

impl serde::de::Visitor<'_> for Reader {
    type Value = u64;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number).map_err(|_| E::invalid_value(serde::de::Unexpected::Signed(number), &self))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
    struct Both {
        #[serde(with = "duration_ms")]
        wait_ms: u64,
        #[serde(with = "bytes")]
        room_bytes: usize,
    }

    #[test]
    fn durations_and_sizes_read_as_people_write_them() {
        for (text, ms) in
            [("500ms", 500), ("10s", 10_000), ("5 m", 300_000), ("24h", 86_400_000), ("30d", 2_592_000_000)]
        {
            assert_eq!(parse_duration_ms(text), Ok(ms));
        }
        assert_eq!(parse_duration_ms("0"), Ok(0));
        for (text, size) in [("64MiB", 64 << 20), ("8gib", 8 << 30), ("1GB", 1_000_000_000), ("12", 12), ("3 kB", 3000)]
        {
            assert_eq!(parse_bytes(text), Ok(size));
        }
    }

    #[test]
    fn errors_say_what_is_allowed() {
        let error = parse_duration_ms("10 min").unwrap_err().to_string();
        assert_eq!(
            error,
            "\"10 min\" is not a duration: allowed is a whole number with one of ms, s, m, h, d, like \"30s\""
        );
        for bad in ["", "s", "10", "-1s", "1.5h", "99999999999999999999s", "18446744073709551615d", "1h30m", "µ"] {
            assert!(parse_duration_ms(bad).is_err(), "{bad:?}");
        }
        assert!(parse_bytes("1 parsec").unwrap_err().to_string().contains("MiB"));
    }

    #[test]
    fn serde_takes_text_and_numbers_and_writes_text() {
        let both: Both = toml::from_str("wait_ms = \"2m\"\nroom_bytes = 2048").unwrap();
        assert_eq!(both, Both { wait_ms: 120_000, room_bytes: 2048 });
        assert_eq!(toml::to_string(&both).unwrap(), "wait_ms = \"2m\"\nroom_bytes = \"2KiB\"\n");
        assert!(toml::from_str::<Both>("wait_ms = -1\nroom_bytes = 1").is_err());
        let error = toml::from_str::<Both>("wait_ms = \"2x\"\nroom_bytes = 1").unwrap_err();
        assert!(error.message().contains("ms, s, m, h, d"), "{error}");
    }

    proptest! {
        #[test]
        fn what_is_printed_reads_back(number: u64) {
            prop_assert_eq!(parse_duration_ms(&print_duration_ms(number)), Ok(number));
            prop_assert_eq!(parse_bytes(&print_bytes(number)), Ok(number));
        }

        #[test]
        fn any_text_is_read_or_refused_without_panic(text: String) {
            let _ = parse_duration_ms(&text).is_ok();
            let _ = parse_bytes(&text).is_ok();
        }
    }
}
