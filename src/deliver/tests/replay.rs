//! Replays: every record once, whatever is cut off where.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};

use super::*;

/// What the store refuses now.
#[derive(Default)]
struct Rule {
    refuses: AtomicBool,
    /// Loses the answer to this many more commits of replays.
    loses: AtomicU8,
}

struct Bench {
    folder: tempfile::TempDir,
    place: Arc<Mutex<Place>>,
    committed: Arc<Mutex<u64>>,
    rule: Arc<Rule>,
}

impl Bench {
    fn new() -> Self {
        let rule = Rule { refuses: AtomicBool::new(true), ..Rule::default() };
        let folder = tempfile::tempdir().unwrap();
        Self { folder, place: Arc::default(), committed: Arc::default(), rule: Arc::new(rule) }
    }

    /// Entries of flows with times; a store that refuses multiples of 5 row by row, and the whole of a group that has 7, while its
    /// rule stands.
    fn start(&self, entries: &[&[u64]]) -> Deliverer {
        let (rule, folder) = (self.rule.clone(), self.folder.path().to_owned());
        let entries: Vec<Entry> = entries.iter().zip(1..).map(|(times, position)| entry(position, times)).collect();
        start_over(self.folder.path(), entries, &self.place, &self.committed, move |_, times| {
            if !rule.refuses.load(SeqCst) {
                let lost = rule.loses.fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1)).is_ok();
                if lost {
                    copy(&folder.join("q"), &folder.join("as at the commit"));
                }
                return Ok(if lost { Commit::AnswerLost } else { Commit::Yes });
            }
            if times.contains(&7) {
                return Err(SinkError::Reject("no 7".into()));
            }
            Ok(Commit::But(times.iter().copied().filter(|time| time % 5 == 0).collect()))
        })
    }

    fn wait_committed(&self, position: u64) {
        wait_until(|| *self.committed.lock().unwrap() >= position);
    }

    fn stored(&self) -> Vec<u64> {
        self.place.lock().unwrap().sorted()
    }
}

/// Asks for a replay of everything and waits for what it led to.
fn replay(deliverer: &Deliverer) -> Replayed {
    let answer = deliverer.replay(Wish::default()).expect("nobody else waits");
    answer.recv_timeout(Duration::from_secs(60)).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn end(mut deliverer: Deliverer) -> Arc<Status> {
    assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
    deliverer.status().clone()
}

const ENTRIES: &[&[u64]] = &[&[1, 2], &[3, 5, 4], &[7], &[10, 11], &[20, 21, 25]];

#[test]
fn what_was_set_aside_is_stored_once_however_often_it_is_replayed() {
    let bench = Bench::new();
    let deliverer = bench.start(ENTRIES);
    bench.wait_committed(5);
    let status = deliverer.status().clone();
    assert_eq!(bench.stored(), [1, 2, 3, 4, 11, 21]);
    assert_eq!((status.delivered_flows.get(), status.set_aside_now()), (6, 5));
    bench.rule.refuses.store(false, SeqCst);
    let replayed = replay(&deliverer);
    assert_eq!((replayed.records, replayed.flows, replayed.problem, replayed.next), (5, 5, None, None));
    assert_eq!(bench.stored(), [1, 2, 3, 4, 5, 7, 10, 11, 20, 21, 25]);
    assert_eq!(replay(&deliverer), Replayed::default());
    assert_eq!(bench.stored().len(), 11);
    assert_eq!((status.taken_flows(), status.set_aside_now(), status.quarantine_records.get()), (11, 0, 0));
    assert_eq!(status.replayed_flows.get(), 5);
    // The cursor of the collector's own log is where it was.
    assert_eq!(bench.place.lock().unwrap().cursors[&LogId([7; 16])], 5);
    end(deliverer);
}

#[test]
fn what_is_refused_again_stays_and_the_rest_is_stored() {
    let bench = Bench::new();
    let deliverer = bench.start(ENTRIES);
    bench.wait_committed(5);
    let replayed = replay(&deliverer);
    assert_eq!((replayed.records, replayed.refused_records), (0, 5));
    assert!(replayed.reasons.iter().any(|reason| reason == "no 7"), "{replayed:?}");
    assert_eq!(deliverer.quarantine().totals().unwrap().records, 5);
    assert_eq!(deliverer.status().set_aside_now(), 5);
    bench.rule.refuses.store(false, SeqCst);
    let listed = deliverer.quarantine().list(None, 10).unwrap();
    let seven = listed.iter().find(|listed| listed.head.reason == "no 7").unwrap();
    let wish = Wish { name: Some(seven.name.clone()), ..Wish::default() };
    let one = deliverer.replay(wish).unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!((one.records, one.flows), (1, 1));
    assert_eq!(bench.stored(), [1, 2, 3, 4, 7, 11, 21]);
    assert_eq!(replay(&deliverer).records, 4);
    assert_eq!(bench.stored().len(), 11);
    end(deliverer);
}

#[test]
fn a_replay_whose_answer_was_lost_stores_nothing_twice() {
    for loses in 1..=2 {
        let bench = Bench::new();
        let deliverer = bench.start(ENTRIES);
        bench.wait_committed(5);
        bench.rule.refuses.store(false, SeqCst);
        bench.rule.loses.store(loses, SeqCst);
        let first = replay(&deliverer);
        assert_eq!(first.problem.as_deref(), Some("connection lost"));
        wait_until(|| replay(&deliverer).problem.is_none());
        assert_eq!(bench.stored(), [1, 2, 3, 4, 5, 7, 10, 11, 20, 21, 25]);
        let status = end(deliverer);
        assert_eq!((status.taken_flows(), status.set_aside_now()), (11, 0));
    }
}

#[test]
fn a_replay_cut_off_by_the_end_of_the_process_is_finished_by_the_next() {
    let bench = Bench::new();
    let deliverer = bench.start(ENTRIES);
    bench.wait_committed(5);
    end(deliverer);
    bench.rule.refuses.store(false, SeqCst);
    bench.rule.loses.store(1, SeqCst);
    let deliverer = bench.start(ENTRIES);
    assert_eq!(replay(&deliverer).problem.as_deref(), Some("connection lost"));
    end(deliverer);
    // As a crash leaves it between the commit and the removal of the files.
    copy(&bench.folder.path().join("as at the commit"), &bench.folder.path().join("q"));
    assert!(bench.folder.path().join("q/replay.json").exists());
    let deliverer = bench.start(ENTRIES);
    wait_until(|| deliverer.quarantine().totals().unwrap().records == 0);
    assert_eq!(replay(&deliverer), Replayed::default());
    assert_eq!(bench.stored(), [1, 2, 3, 4, 5, 7, 10, 11, 20, 21, 25]);
    // They were set aside in an earlier run: this run's sums do not hold them.
    let status = end(deliverer);
    assert_eq!((status.taken_flows(), status.set_aside_now(), status.replayed_flows.get()), (0, 0, 5));
}

#[test]
fn what_the_sink_has_not_gone_past_comes_in_its_turn() {
    let bench = Bench::new();
    let deliverer = bench.start(&[&[1, 2], &[7, 8]]);
    wait_until(|| deliverer.status().set_aside_flows.get() == 2);
    assert_eq!(*bench.committed.lock().unwrap(), 1);
    bench.rule.refuses.store(false, SeqCst);
    let replayed = replay(&deliverer);
    assert_eq!((replayed.records, replayed.returned_records), (0, 1));
    bench.wait_committed(2);
    assert_eq!(bench.stored(), [1, 2, 7, 8]);
    let status = end(deliverer);
    assert_eq!((status.taken_flows(), status.set_aside_now()), (4, 0));
    assert_eq!(bench.stored(), [1, 2, 7, 8]);
}

#[test]
fn a_record_refused_whole_and_then_in_part_is_stored_but_for_the_rows_refused() {
    let bench = Bench::new();
    let deliverer = bench.start(&[&[7, 8, 15], &[9]]);
    bench.wait_committed(2);
    end(deliverer);
    let rule = bench.rule.clone();
    let entries = vec![entry(1, &[7, 8, 15]), entry(2, &[9])];
    let deliverer = start_over(bench.folder.path(), entries, &bench.place, &bench.committed, move |_, times| {
        let refuses = rule.refuses.load(SeqCst);
        Ok(Commit::But(times.iter().copied().filter(|time| refuses && *time == 15).collect()))
    });
    let replayed = replay(&deliverer);
    assert_eq!((replayed.records, replayed.flows, replayed.refused_records), (1, 2, 1));
    let listed = deliverer.quarantine().list(None, 10).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].head.position, listed[0].head.row, listed[0].head.flows), (1, Some(2), 1));
    bench.rule.refuses.store(false, SeqCst);
    assert_eq!(replay(&deliverer).records, 1);
    assert_eq!(bench.stored(), [7, 8, 9, 15]);
    end(deliverer);
}

#[test]
fn a_sink_that_takes_no_data_says_so_and_nothing_moves() {
    let folder = tempfile::tempdir().unwrap();
    let down = Arc::new(AtomicBool::new(false));
    let (place, committed) = (Arc::default(), Arc::default());
    let is_down = down.clone();
    let script = move |_, times: &[u64]| {
        if is_down.load(SeqCst) {
            return Err(SinkError::retry("down"));
        }
        Ok(Commit::But(times.iter().copied().filter(|time| *time == 5).collect()))
    };
    let deliverer = start_over(folder.path(), vec![entry(1, &[5, 6])], &place, &committed, script);
    wait_until(|| *committed.lock().unwrap() >= 1);
    down.store(true, SeqCst);
    let replayed = replay(&deliverer);
    assert_eq!((replayed.records, replayed.problem.as_deref()), (0, Some("down")));
    assert_eq!(deliverer.quarantine().totals().unwrap().records, 1);
    down.store(false, SeqCst);
    end(deliverer);
    assert_eq!(place.lock().unwrap().stored, [6]);
}

#[test]
fn what_an_earlier_run_set_aside_and_the_sink_takes_in_its_turn_is_not_stored_once_more() {
    let bench = Bench::new();
    let deliverer = bench.start(&[&[1, 2], &[7, 8]]);
    wait_until(|| deliverer.status().set_aside_flows.get() == 2);
    let totals = deliverer.quarantine().totals().unwrap();
    end(deliverer);
    assert_eq!((totals.records, *bench.committed.lock().unwrap()), (1, 1));
    bench.rule.refuses.store(false, SeqCst);
    let deliverer = bench.start(&[&[1, 2], &[7, 8]]);
    bench.wait_committed(2);
    assert_eq!(replay(&deliverer), Replayed::default());
    assert_eq!(bench.stored(), [1, 2, 7, 8]);
    let status = end(deliverer);
    assert_eq!((status.taken_flows(), status.set_aside_now(), status.quarantine_records.get()), (2, 0, 0));
}
