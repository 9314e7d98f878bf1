use std::sync::Arc;

use proptest::prelude::*;
use sink_api::batch::Field;

use super::*;
use crate::encode::{FileWriter, Rows};
use crate::support::Isp;
use crate::table::{Table, flow_cells};

fn write(path: &Path, batch: &sink_api::FlowBatch, fields: &[Field]) {
    let mut table = Table::flows();
    table.columns.retain(|c| fields.iter().any(|f| f.name() == c.name));
    let mut writer = FileWriter::create(path, &table, 1).unwrap();
    let rows = Rows::new(batch.len(), None);
    writer.row_group(&rows, |column| vec![flow_cells(batch, fields[column])]).unwrap();
    let written = writer.finish().unwrap();
    assert_eq!((written.rows, written.bytes), (batch.len() as u64, path.metadata().unwrap().len()));
}

#[test]
fn columns_that_a_file_lacks_are_null_and_the_others_as_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.parquet");
    let batch = Isp::new(1).batch(1000);
    let old: Vec<Field> =
        Field::ALL.iter().copied().filter(|f| !matches!(f, Field::App | Field::RttMs | Field::SrcIp)).collect();
    write(&path, &batch, &old);
    let reader = DataReader::open(&path).unwrap();
    let got = read_flows(&reader, 0, Field::ALL, None, None).unwrap();
    assert_eq!(got.ragged_column(), None);
    for field in Field::ALL {
        for row in 0..batch.len() {
            let want = if old.contains(field) { batch.value(*field, row) } else { sink_api::Value::Null };
            assert_eq!(got.value(*field, row), want, "{} row {row}", field.name());
        }
    }
}

#[test]
fn chosen_rows_come_from_their_pages_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pages.parquet");
    let batch = Isp::new(2).batch(50_000);
    write(&path, &batch, Field::ALL);
    let reader = DataReader::open(&path).unwrap();
    let wanted = [3..7, 16_380..16_390, 40_000..40_001, 49_999..50_000];
    let got = read_flows(&reader, 0, Field::ALL, Some(&wanted), None).unwrap();
    let rows: Vec<usize> = wanted.into_iter().flatten().collect();
    assert_eq!(got.len(), rows.len());
    for field in Field::ALL {
        for (at, row) in rows.iter().enumerate() {
            assert_eq!(got.value(*field, at), batch.value(*field, *row), "{} row {row}", field.name());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// A damaged file gives an error or other values, never a panic.
    #[test]
    fn a_damaged_file_is_no_panic(at in 0usize..20_000, bit in 0u8..8) {
        static BYTES: std::sync::OnceLock<Arc<[u8]>> = std::sync::OnceLock::new();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("damaged.parquet");
        let bytes = BYTES.get_or_init(|| {
            write(&path, &Isp::new(3).batch(300), Field::ALL);
            std::fs::read(&path).unwrap().into()
        });
        let mut damaged = bytes.to_vec();
        let at = at % damaged.len();
        damaged[at] ^= 1 << bit;
        std::fs::write(&path, damaged).unwrap();
        if let Ok(reader) = DataReader::open(&path) {
            for group in 0..reader.row_groups().len() {
                for wanted in [None, Some([3..7, 9..10].as_slice())] {
                    if let Ok(batch) = read_flows(&reader, group, Field::ALL, wanted, None) {
                        prop_assert!(batch.len() <= 300 || batch.ragged_column().is_none());
                    }
                }
            }
        }
    }
}

#[test]
fn a_footer_that_points_outside_the_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.parquet");
    write(&path, &Isp::new(4).batch(300), Field::ALL);
    let whole = std::fs::read(&path).unwrap();
    let footer = u32::from_le_bytes(whole[whole.len() - 8..whole.len() - 4].try_into().unwrap()) as usize + 8;
    // The data are gone, the footer is whole.
    std::fs::write(&path, [b"PAR1", &whole[whole.len() - footer..]].concat()).unwrap();
    let error = DataReader::open(&path).err().unwrap().to_string();
    assert!(error.contains("outside the file"), "{error}");
}
