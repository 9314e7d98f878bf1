use super::*;
use crate::store::memory::MemoryConfig;

#[test]
fn the_reference_passes_its_own_suite() {
    let options = Options { flows: 3000, days: 40, detail: true };
    let store = MemoryStore::new("memory", Arc::new(rollup_defs()));
    let report = run(&MemoryConfig { store }, &options).unwrap_or_else(|failures| panic!("{}", failures.join("\n")));
    assert!(report.questions > 500, "{report:?}");
}

#[test]
fn every_filter_and_key_of_the_questions_is_understood() {
    let set = DataSet::new(&Options { flows: 10, ..Options::default() }, &rollup_defs());
    for question in questions::questions(&set) {
        assert_ne!(question.filter, crate::Filter::Or(Vec::new()));
    }
}

#[test]
fn the_data_set_has_what_stores_get_wrong() {
    use crate::batch::Field;
    let set = DataSet::new(&Options { flows: 20_000, ..Options::default() }, &rollup_defs());
    let batches: Vec<_> = set
        .entries
        .iter()
        .filter_map(|entry| match &entry.record {
            crate::Record::Flows(batch) => Some(batch),
            crate::Record::Sums(_) | crate::Record::Alerts(_) => None,
        })
        .collect();
    assert!(batches.iter().all(|batch| batch.ragged_column().is_none()));
    assert!(batches.iter().any(|batch| batch.src_ip.as_v4().is_some()));
    assert!(batches.iter().any(|batch| batch.src_ip.as_wide().is_some()));
    let null = |field: Field| (0..batches[0].len()).any(|row| batches[0].value(field, row) == crate::Value::Null);
    assert!(null(Field::SrcPort) && null(Field::App) && null(Field::RttMs) && !null(Field::Bytes));
    assert!(batches.windows(2).any(|pair| Arc::ptr_eq(pair[0], pair[1])), "a batch comes again");
    let ends: Vec<_> = batches.iter().map(|batch| batch.time.values()).collect();
    let late = ends.windows(2).any(|pair| pair[1].iter().min() < pair[0].iter().max());
    assert!(late, "some flows come late");
}
