//! Vendors of network cards: the IEEE's lists (`oui.csv`, `mam.csv`, `oui36.csv`, or `oui.txt`), or lines of a prefix and a name.

use std::path::Path;

use super::{ERRORS_MAX, Reading, SourceError, changed_ms, read_file};
use crate::enrich::table::Vendors;
use crate::flow::Text;

/// Longest name kept, characters.
const NAME_CHARS_MAX: usize = 64;

/// Reads a list. Lines that begin with no prefix are passed over, as the text form has addresses between its entries.
pub(super) fn read(reading: &mut Reading<'_>, file: &Path) {
    let bytes = match read_file(file) {
        Ok(bytes) => bytes,
        Err(error) => return reading.errors.push(error),
    };
    let mut vendors = Vendors::default();
    let rows = match bytes.starts_with(b"Registry,") {
        true => read_csv(file, &bytes, &mut vendors),
        false => read_text(file, &bytes, &mut vendors),
    };
    match rows {
        Ok(rows) => {
            reading.done("oui", file, rows, changed_ms(file));
            reading.builder.vendors(vendors);
        }
        Err(errors) => reading.errors.extend(errors),
    }
}

/// Registry,Assignment,Organization Name,Organization Address
fn read_csv(file: &Path, bytes: &[u8], vendors: &mut Vendors) -> Result<usize, Vec<SourceError>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
    let (mut rows, mut errors) = (0, Vec::new());
    for record in reader.byte_records() {
        let problem = match &record {
            Err(error) => Some((error.position().map(csv::Position::line), error.to_string())),
            Ok(record) => {
                let assignment = record.get(1).and_then(|text| std::str::from_utf8(text).ok()).and_then(prefix);
                let name = String::from_utf8_lossy(record.get(2).unwrap_or_default());
                rows += 1;
                match assignment {
                    Some(prefix) => {
                        vendors.add(prefix, short(&name));
                        None
                    }
                    None => Some((
                        record.position().map(csv::Position::line),
                        "column Assignment: must be 6, 7 or 9 digits of hex".to_owned(),
                    )),
                }
            }
        };
        if let Some((line, problem)) = problem {
            errors.push(SourceError { file: file.into(), line, column: None, problem });
            if errors.len() >= ERRORS_MAX {
                break;
            }
        }
    }
    if errors.is_empty() { Ok(rows) } else { Err(errors) }
}

/// `AA-BB-CC   (hex)  Name`, or `aa:bb:cc Name`.
fn read_text(file: &Path, bytes: &[u8], vendors: &mut Vendors) -> Result<usize, Vec<SourceError>> {
    let text = String::from_utf8_lossy(bytes);
    let mut rows = 0;
    for line in text.lines() {
        let Some((first, rest)) = line.trim_end().split_once(char::is_whitespace) else { continue };
        let Some(prefix) = prefix(first) else { continue };
        let rest = rest.trim_start();
        // The text form says each prefix twice, the second time in base 16 without separators.
        if rest.starts_with("(base 16)") {
            continue;
        }
        vendors.add(prefix, short(rest.strip_prefix("(hex)").unwrap_or(rest)));
        rows += 1;
    }
    let problem = "holds no line that begins with a prefix like aa:bb:cc; the IEEE's oui.csv or oui.txt is expected";
    if rows > 0 { Ok(rows) } else { Err(vec![SourceError::about(file, problem)]) }
}

/// The digits of a prefix and its bits: 24, 28 or 36.
fn prefix(text: &str) -> Option<(u64, u32)> {
    let digits: String = text.chars().filter(|c| !matches!(c, ':' | '-')).collect();
    let is_prefix = matches!(digits.len(), 6 | 7 | 9) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    let number = is_prefix.then(|| u64::from_str_radix(&digits, 16).ok()).flatten()?;
    Some((number, digits.len() as u32 * 4))
}

fn short(name: &str) -> Text {
    name.trim().chars().take(NAME_CHARS_MAX).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use crate::enrich::{Config, Enrichment};

    const CSV: &str = "Registry,Assignment,Organization Name,Organization Address\n\
        MA-L,AABBCC,\"Big, Inc.\",\"1 Road\nTown\"\nMA-M,AABBCC1,Middle,\nMA-S,AABBCC123,Small,x\n";
    const TEXT: &str = "OUI/MA-L                Organization\ncompany_id\n\n\
        AA-BB-CC   (hex)\t\tBig, Inc.\nAABBCC     (base 16)\t\tBig, Inc.\n\t\t\t\t1 Road\n\nddeeff Other\n";

    fn open(text: &str) -> Result<Enrichment, String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("oui");
        std::fs::write(&file, text).unwrap();
        let config = Config { geoip: Default::default(), oui: Some(file), ..Config::default() };
        Enrichment::open(config).map(|opened| opened.0).map_err(|error| error.to_string())
    }

    #[test]
    fn the_longest_assignment_names_the_vendor_in_every_form_of_the_list() {
        let vendor = |enrichment: &Enrichment, mac| enrichment.table().vendor(mac).map(|name| name.to_string());
        let csv = open(CSV).unwrap();
        let macs = [0xaabb_ccff_0000u64, 0xaabb_cc1f_0000, 0xaabb_cc12_3000, 0x1122_3300_0000, 0];
        let want = [Some("Big, Inc."), Some("Middle"), Some("Small"), None, None];
        assert_eq!(macs.map(|mac| vendor(&csv, mac)), want.map(|name| name.map(str::to_owned)));
        let text = open(TEXT).unwrap();
        assert_eq!(vendor(&text, 0xaabb_cc00_0000).as_deref(), Some("Big, Inc."));
        assert_eq!(vendor(&text, 0xddee_ff00_0000).as_deref(), Some("Other"));
        assert_eq!(text.sources().0[0].rows, 2);
    }

    #[test]
    fn a_file_that_is_no_list_is_an_error() {
        assert!(open("hello\nworld and more\n").is_err_and(|error| error.contains("oui.csv")));
        assert!(open("Registry,Assignment\nMA-L,XYZ,Name\n").is_err_and(|error| error.contains("oui:2")));
    }
}
