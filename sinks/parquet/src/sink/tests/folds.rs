//! What a rollup has of a bucket that is over becomes one row for each key.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sink_api::rollup::Measures;

use super::*;
use crate::compact::Job;
use crate::compact::fold::{self, Fold};
use crate::decode::{DataReader, read_rollup};
use crate::support::key_text;

const USAGE: &str = "usage";

impl Place {
    /// Stores an emission of random sums: the same seed gives the same buckets and keys.
    fn emit(&self, sink: &mut ParquetSink, seed: u64, rows: usize) {
        self.log.push(Record::Sums(Arc::new(sums(&mut Random(seed), rows, DAY_START_MS))));
        self.store(sink);
    }

    fn rows_of(&self, table: &str, files: &[Arc<DataFile>]) -> Vec<(String, Measures)> {
        let def = self.context.rollups.iter().find(|def| *def.name == *table).unwrap();
        let mut rows = Vec::new();
        for file in files {
            let reader = DataReader::open(&self.folder.path().join(&file.path)).unwrap();
            for group in 0..reader.row_groups().len() {
                let part = read_rollup(&reader, group, def, None).unwrap().unwrap();
                rows.extend((0..part.len()).map(|row| (key_text(&part, row), part.measures(row))));
            }
        }
        rows
    }
}

fn summed(rows: Vec<(String, Measures)>) -> BTreeMap<String, Measures> {
    let mut sums = BTreeMap::<String, Measures>::new();
    rows.into_iter().for_each(|(key, measures)| sums.entry(key).or_default().add(&measures));
    sums
}

fn files(sink: &ParquetSink, table: &str) -> Vec<Arc<DataFile>> {
    sink.manifest.state().table(table).cloned().collect()
}

/// Keeps house until nothing changes any more.
fn settle_down(sink: &mut ParquetSink) {
    (0..400).for_each(|_| sink.maintain().unwrap());
    assert!(sink.fold.is_none());
}

/// When the hours of the sums that [`sums`] makes are over, but not their days.
const HOURS_OVER_MS: i64 = DAY_START_MS + 5 * HOUR_MS;

#[test]
fn a_bucket_that_is_over_is_folded_and_again_when_much_came_late() {
    let place = Place::new();
    let mut sink = place.open();
    (0..6).for_each(|_| place.emit(&mut sink, 2, 400));
    let emitted = summed(place.rows_of(USAGE, &files(&sink, USAGE)));
    place.clock.set(HOURS_OVER_MS - 1);
    settle_down(&mut sink);
    assert_eq!(files(&sink, USAGE).len(), 6, "an hour after its end late rows still come");
    place.clock.set(HOURS_OVER_MS);
    settle_down(&mut sink);
    for table in [USAGE, "geo"] {
        assert!(matches!(&files(&sink, table)[..], [file] if file.folded), "{table}");
    }
    let rows = place.rows_of(USAGE, &files(&sink, USAGE));
    assert_eq!(rows.len(), emitted.len());
    let subscriber = |(key, _): &(String, Measures)| key.split('|').nth(4).unwrap().to_owned();
    assert!(rows.iter().map(subscriber).is_sorted(), "one subscriber's rows stand together");
    assert_eq!(summed(rows), emitted);
    for table in ["usage_apps", "traffic", "talkers"] {
        assert_eq!(files(&sink, table).len(), 6, "{table}: a day that is not over, or narrow buckets");
    }
    place.emit(&mut sink, 3, 10);
    settle_down(&mut sink);
    assert_eq!(files(&sink, USAGE).len(), 2, "few rows are not worth it");
    let before = summed(place.rows_of(USAGE, &files(&sink, USAGE)));
    place.emit(&mut sink, 2, 400);
    settle_down(&mut sink);
    assert_eq!(files(&sink, USAGE).len(), 1);
    let after = summed(place.rows_of(USAGE, &files(&sink, USAGE)));
    assert!(before.keys().eq(after.keys()));
    place.clock.set(DAY_START_MS + 5 * DAY_MS);
    settle_down(&mut sink);
    assert_eq!(files(&sink, "usage_apps").len(), 1);
}

#[test]
fn a_crash_at_any_moment_of_a_fold_changes_no_sum() {
    let (mut moments, mut crashes) = (0, 0);
    loop {
        let place = Place::new();
        let mut sink = place.open();
        (0..3).for_each(|_| place.emit(&mut sink, 2, 100));
        let emitted = summed(place.rows_of(USAGE, &files(&sink, USAGE)));
        place.clock.set(HOURS_OVER_MS);
        // Between two steps, or at a step of the commit.
        sink.set_steps(failing(crashes));
        let folded = (0..moments).all(|_| sink.maintain().is_ok());
        crashes += usize::from(!folded);
        let is_over = folded && sink.fold.is_none() && files(&sink, USAGE).len() == 1 && moments > 0;
        drop(sink);
        let sink = place.open();
        let listed: Vec<_> = sink.manifest.state().files.keys().cloned().collect();
        assert_eq!(place.data_files(), listed, "after {moments} calls and {crashes} crashes");
        assert_eq!(summed(place.rows_of(USAGE, &files(&sink, USAGE))), emitted);
        if is_over {
            break;
        }
        moments += usize::from(folded);
    }
    assert!(moments > 6 && crashes >= 2, "{moments} moments, {crashes} crashes");
}

#[test]
fn files_that_leave_meanwhile_or_do_not_decode_are_no_harm() {
    let place = Place::new();
    let mut sink = place.open();
    (0..3).for_each(|_| place.emit(&mut sink, 2, 100));
    place.clock.set(HOURS_OVER_MS);
    sink.maintain().unwrap();
    let under_way = sink.fold.as_ref().unwrap().files().to_vec();
    sink.drop_files(Change { remove: vec![under_way[0].path.clone()], ..Change::default() }).unwrap();
    sink.maintain().unwrap();
    assert!(sink.fold.is_none() && place.data_files().iter().all(|path| path.ends_with(".parquet")));
    let damaged = place.folder.path().join(&under_way[1].path);
    let good = fs::read(&damaged).unwrap();
    fs::write(&damaged, &good[..good.len() / 2]).unwrap();
    let errors = (0..50).filter_map(|_| sink.maintain().err()).collect::<Vec<_>>();
    assert_eq!(errors.len(), 1, "once: {errors:?}");
    assert!(under_way[1..].iter().all(|file| sink.manifest.state().files.contains_key(&file.path)));
    assert!(place.data_files().iter().all(|path| path.ends_with(".parquet")));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn however_few_rows_fit_every_key_is_left_once_with_its_sums(seed in any::<u64>(), sizes in prop::collection::vec(1usize..300, 2..6), held in 1usize..400) {
        let place = Place::new();
        let mut sink = place.open();
        for (index, rows) in sizes.iter().enumerate() {
            place.emit(&mut sink, seed.wrapping_add(index as u64 / 2), *rows);
        }
        for table in ["usage", "usage_apps", "geo", "talkers"] {
            let inputs = files(&sink, table);
            let want = summed(place.rows_of(table, &inputs));
            let job = Job { files: inputs };
            let mut fold = Fold::begin(job, place.folder.path(), &place.config, &place.context.rollups, held).unwrap();
            let mut steps = 0;
            while !fold.step(place.folder.path()).unwrap() {
                steps += 1;
                prop_assert!(steps < 200_000);
            }
            let (out, job) = fold.finish().unwrap();
            let mut commit = Commit::new(place.folder.path(), &place.config, 1_000, &mut sink.steps);
            commit.take(table, job.files[0].partition(), out);
            let written = commit.finish("folded", true).unwrap();
            let rows = place.rows_of(table, &written);
            prop_assert_eq!(rows.len(), want.len());
            prop_assert_eq!(written[0].rows, want.len() as u64);
            prop_assert_eq!(summed(rows), want);
        }
    }
}

#[test]
fn only_buckets_that_are_over_and_more_than_one_file_are_worth_a_fold() {
    let mut state = crate::manifest::State::default();
    let mut add = |path: &str, rows, max_ms, folded| {
        let file = DataFile { path: path.into(), rows, bytes: 1, min_ms: max_ms, max_ms, folded };
        state.apply(&Change { add: vec![Arc::new(file)], ..Change::default() });
    };
    add("usage/2026-11/a", 1_000_000, DAY_START_MS, false);
    add("usage/2026-11/b", 900_000, DAY_START_MS, false);
    add("usage/2026-11/c", 10, DAY_START_MS + HOUR_MS, false);
    add("traffic/2026-11-22/a", 10, DAY_START_MS, false);
    add("traffic/2026-11-22/b", 10, DAY_START_MS, false);
    add("geo/2026-11/a", 1_000, DAY_START_MS, true);
    add("geo/2026-11/b", 250, DAY_START_MS, false);
    let rollups = sink_api::RollupDef::defaults();
    let next = |spared: &[&str], now_ms| {
        let spared = spared.iter().map(|path| (*path).to_owned()).collect();
        let job = fold::next_job(&state, &rollups, &spared, now_ms)?;
        Some(job.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>())
    };
    assert_eq!(next(&[], DAY_START_MS + 2 * HOUR_MS - 1), None);
    let both = Some(vec!["usage/2026-11/a".to_owned(), "usage/2026-11/b".to_owned()]);
    assert_eq!(next(&[], DAY_START_MS + 2 * HOUR_MS), both);
    assert_eq!(next(&["usage/2026-11/a"], DAY_START_MS + 9 * HOUR_MS), None);
    assert_eq!(next(&[], i64::MAX), both, "times beyond the calendar");
}
