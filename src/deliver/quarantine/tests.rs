use std::sync::Arc;

use super::*;
use crate::flow::sink::Entry;
use crate::flow::{FlowBatch, Record};

fn refused(position: u64, row: Option<usize>, flows: usize) -> Refused {
    let mut batch = FlowBatch::default();
    for row in 0..flows {
        batch.time.push(Some(row as i64));
    }
    batch.fill_missing();
    Refused { entry: Entry { position, record: Record::Flows(Arc::new(batch)) }, row, reason: format!("no {position}") }
}

fn open(folder: &Path) -> Quarantine {
    Quarantine::new(folder, 1 << 20, LogId([7; 16]))
}

#[test]
fn what_is_kept_is_listed_in_order_and_read_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (quarantine, status) = (open(folder.path()), Status::default());
    quarantine.keep(&[refused(12, None, 3), refused(9, Some(10), 20), refused(9, Some(2), 20)], &status).unwrap();
    std::fs::write(folder.path().join("other.refused"), "not of ours").unwrap();
    for quarantine in [quarantine, open(folder.path())] {
        let listed = quarantine.list(None, 10).unwrap();
        let places: Vec<_> = listed.iter().map(|l| (l.head.position, l.head.row, l.head.flows)).collect();
        assert_eq!(places, [(9, Some(2), 1), (9, Some(10), 1), (12, None, 3)]);
        let totals = quarantine.totals().unwrap();
        assert_eq!((totals.records, totals.flows), (3, 5));
        assert_eq!(totals.bytes, listed.iter().map(|l| l.bytes).sum::<u64>());
        let kept = quarantine.read(&listed[1].name).unwrap().unwrap();
        let Record::Flows(batch) = kept.record else { panic!("flows were kept") };
        assert_eq!((batch.len(), batch.time.get(0), &*kept.head.reason), (1, Some(10), "no 9"));
        let rest = quarantine.list(Some(&listed[1].name), 10).unwrap();
        assert_eq!(rest.len(), 1);
        assert_eq!(quarantine.list(None, 1).unwrap().len(), 1);
    }
    assert_eq!((status.set_aside_flows.get(), status.quarantine_records.get()), (5, 3));
}

#[test]
fn names_that_are_none_of_its_records_read_and_drop_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("q");
    let (quarantine, status) = (open(&inner), Status::default());
    quarantine.keep(&[refused(1, None, 1)], &status).unwrap();
    std::fs::copy(
        inner.join(std::fs::read_dir(&inner).unwrap().next().unwrap().unwrap().file_name()),
        folder.path().join("a.refused"),
    )
    .unwrap();
    for name in ["../a", "", "a", "/etc/passwd"] {
        assert!(quarantine.read(name).unwrap().is_none(), "{name}");
        assert_eq!(quarantine.drop_records(Some(name), &status).unwrap(), Totals::default(), "{name}");
    }
    assert!(folder.path().join("a.refused").exists());
}

#[test]
fn refused_again_before_the_sink_went_past_it_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let (quarantine, status) = (open(folder.path()), Status::default());
    for _ in 0..2 {
        quarantine.keep(&[refused(3, None, 4)], &status).unwrap();
    }
    assert_eq!((status.set_aside_flows.get(), quarantine.totals().unwrap().flows), (4, 4));
    // Of an earlier run: this run's sums have it once more, since the log gives it once more.
    let (quarantine, status) = (open(folder.path()), Status::default());
    quarantine.keep(&[refused(3, None, 4)], &status).unwrap();
    assert_eq!((status.set_aside_flows.get(), quarantine.totals().unwrap().flows), (4, 4));
}

#[test]
fn over_its_bound_the_oldest_go_and_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let status = Status::default();
    let one = {
        let quarantine = open(&folder.path().join("one"));
        quarantine.keep(&[refused(1, None, 2)], &status).unwrap();
        quarantine.totals().unwrap().bytes
    };
    let status = Status::default();
    let quarantine = Quarantine::new(&folder.path().join("q"), one * 3 + one / 2, LogId([7; 16]));
    for position in 1..=9 {
        quarantine.keep(&[refused(position, None, 2)], &status).unwrap();
    }
    let positions: Vec<_> = quarantine.list(None, 10).unwrap().iter().map(|l| l.head.position).collect();
    assert_eq!(positions, [7, 8, 9]);
    assert_eq!((status.set_aside_flows.get(), status.quarantine_dropped_flows.get()), (18, 12));
    assert_eq!(status.set_aside_now(), 6);
    assert_eq!(std::fs::read_dir(folder.path().join("q")).unwrap().count(), 3);
}

#[test]
fn what_is_not_settled_is_on_disk_but_in_no_list_and_drives_nothing_out() {
    let folder = tempfile::tempdir().unwrap();
    let (quarantine, status) = (open(folder.path()), Status::default());
    quarantine.keep(&[refused(1, None, 2)], &status).unwrap();
    let bytes = quarantine.totals().unwrap().bytes;
    let (quarantine, status) = (Quarantine::new(folder.path(), bytes, LogId([7; 16])), Status::default());
    quarantine.keep_tentatively(&[refused(8, Some(1), 2), refused(9, Some(0), 2)]).unwrap();
    quarantine.tidy(&status);
    let listed = |quarantine: &Quarantine| -> Vec<u64> {
        quarantine.list(None, 10).unwrap().iter().map(|listed| listed.head.position).collect()
    };
    assert_eq!(listed(&quarantine), [1]);
    assert_eq!(quarantine.drop_records(Some("8"), &status).unwrap(), Totals::default());
    // The next process finds all of them.
    assert_eq!(listed(&open(folder.path())), [1, 8, 9]);
    assert_eq!(quarantine.settle(8, &status).unwrap(), 1);
    let ahead: Vec<String> = quarantine.after_position(8).unwrap().into_iter().map(|(name, _)| name).collect();
    quarantine.take_back(&ahead, &status).unwrap();
    assert_eq!((listed(&quarantine), listed(&open(folder.path()))), (vec![1, 8], vec![1, 8]));
    quarantine.keep_tentatively(&[refused(10, Some(1), 2)]).unwrap();
    quarantine.withdraw().unwrap();
    quarantine.tidy(&status);
    // One record fits, and the oldest went.
    assert_eq!((listed(&quarantine), listed(&open(folder.path()))), (vec![8], vec![8]));
    assert_eq!((status.set_aside_flows.get(), status.set_aside_now(), status.quarantine_flows.get()), (1, 1, 1));
}

#[test]
fn nothing_is_dropped_by_hand_during_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let (quarantine, status) = (open(folder.path()), Status::default());
    quarantine.keep(&[refused(1, None, 2), refused(2, None, 3)], &status).unwrap();
    let held = quarantine.hold();
    assert!(matches!(quarantine.drop_records(None, &status), Err(DropError::Replaying)));
    drop(held);
    let dropped = quarantine.drop_records(None, &status).unwrap();
    assert_eq!((dropped.records, dropped.flows), (2, 5));
    assert_eq!((status.quarantine_dropped_flows.get(), status.set_aside_now()), (5, 0));
    assert_eq!(quarantine.totals().unwrap(), Totals::default());
}
