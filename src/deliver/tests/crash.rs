//! The process dies: what a store refuses is in it or in quarantine afterwards, once, wherever that was.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use super::*;

const POINTS: [Point; 5] = [
    Point::BeforeSettingAside,
    Point::WithHalfSetAside,
    Point::BeforeTheCommit,
    Point::AfterTheCommit,
    Point::BeforeItIsNoted,
];

/// What the store makes of flows with these times: those that it refuses, or why it refuses all of them.
type Rule = fn(&[u64]) -> Result<Vec<u64>, String>;

/// A log, a quarantine and a store that outlive the process.
struct World {
    entries: Vec<Entry>,
    folder: tempfile::TempDir,
    place: Arc<Mutex<Place>>,
    committed: Arc<Mutex<u64>>,
    rule: Arc<Mutex<Rule>>,
    /// Whether the connection is lost after each commit that leaves rows out.
    loses_answers: Arc<AtomicBool>,
}

impl World {
    fn new(entries: &[&[u64]], rule: Rule) -> Self {
        Self {
            entries: entries.iter().zip(1..).map(|(times, position)| entry(position, times)).collect(),
            folder: tempfile::tempdir().unwrap(),
            place: Arc::default(),
            committed: Arc::default(),
            rule: Arc::new(Mutex::new(rule)),
            loses_answers: Arc::default(),
        }
    }

    fn start(&self) -> Deliverer {
        let (rule, loses_answers) = (self.rule.clone(), self.loses_answers.clone());
        start_over(self.folder.path(), self.entries.clone(), &self.place, &self.committed, move |_, times| {
            let refused = (*rule.lock().unwrap())(times).map_err(SinkError::Reject)?;
            let loses = !refused.is_empty() && loses_answers.swap(false, SeqCst);
            Ok(if loses { Commit::ButAnswerLost(refused) } else { Commit::But(refused) })
        })
    }

    fn dies_at(&self, write: usize, point: Point) {
        let mut place = self.place.lock().unwrap();
        (place.writes, place.crash) = (0, Some((write, point)));
    }

    fn is_delivered(&self) -> bool {
        *self.committed.lock().unwrap() == self.entries.len() as u64
    }

    /// Runs until everything is delivered or the process dies; gives whether it died.
    fn run(&self) -> bool {
        let waiting = self.flows_after(*self.committed.lock().unwrap());
        let mut deliverer = self.start();
        wait_until(|| deliverer.has_ended() || self.is_delivered());
        assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
        let died = deliverer.status().state() != State::Stopped;
        if !died {
            let status = deliverer.status();
            assert_eq!(status.taken_flows() + status.set_aside_now(), waiting, "the sums of the ledger close");
            let kept = self.kept();
            let flows = kept.iter().map(Vec::len).sum::<usize>();
            assert_eq!(
                (status.quarantine_records.get(), status.quarantine_flows.get()),
                (kept.len() as i64, flows as i64)
            );
        }
        died
    }

    fn flows_after(&self, position: u64) -> u64 {
        self.entries.iter().filter(|e| e.position > position).map(|e| e.record.flow_count()).sum()
    }

    /// Times of the flows in each record of the quarantine, as its folder has them.
    fn kept(&self) -> Vec<Vec<u64>> {
        let quarantine = Quarantine::new(&self.folder.path().join("q"), 1 << 20, LogId([7; 16]));
        let listed = quarantine.list(None, 1000).unwrap();
        let records = listed.iter().map(|listed| quarantine.read(&listed.name).unwrap().unwrap().record);
        records.map(|record| times_of(&Entry { position: 0, record }).collect()).collect()
    }

    /// Every flow is in the store or in quarantine, once.
    fn assert_each_is_there_once(&self, case: &dyn std::fmt::Debug) {
        let mut found = self.place.lock().unwrap().stored.clone();
        found.extend(self.kept().into_iter().flatten());
        found.sort_unstable();
        let mut all: Vec<u64> = self.entries.iter().flat_map(|entry| times_of(entry).collect::<Vec<_>>()).collect();
        all.sort_unstable();
        assert_eq!(found, all, "{case:?}");
    }

    /// A store that has come to its senses takes all that was set aside.
    fn assert_a_replay_completes_it(&self, case: &dyn std::fmt::Debug) {
        *self.rule.lock().unwrap() = |_| Ok(Vec::new());
        self.place.lock().unwrap().crash = None;
        let mut deliverer = self.start();
        let answer = deliverer.replay(Wish::default()).unwrap();
        assert_eq!(answer.recv_timeout(Duration::from_secs(60)).unwrap().problem, None);
        assert_eq!(deliverer.quarantine().totals().unwrap(), Totals::default(), "{case:?}");
        assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
        self.assert_each_is_there_once(case);
    }
}

fn refuses_fives(times: &[u64]) -> Result<Vec<u64>, String> {
    Ok(times.iter().copied().filter(|time| time % 5 == 0).collect())
}

fn refuses_fives_and_sevens_whole(times: &[u64]) -> Result<Vec<u64>, String> {
    if times.contains(&7) { Err("no 7".into()) } else { refuses_fives(times) }
}

const ENTRIES: &[&[u64]] = &[&[1, 2], &[3, 5, 10, 4], &[15, 20], &[21], &[7, 25], &[30, 31, 35]];

/// Tries every point, side by side: most of the time is pauses.
fn at_each_point(case: impl Fn(Point) + Sync) {
    let case = &case;
    std::thread::scope(|scope| {
        POINTS.map(|point| scope.spawn(move || case(point))).map(|thread| thread.join().unwrap())
    });
}

#[test]
fn each_refused_row_is_there_once_wherever_the_process_dies() {
    at_each_point(|point| {
        for write in 1.. {
            let world = World::new(ENTRIES, refuses_fives);
            world.dies_at(write, point);
            let died = world.run();
            if died {
                assert!(!world.run(), "once is enough");
            }
            world.assert_each_is_there_once(&(point, write));
            world.assert_a_replay_completes_it(&(point, write));
            if !died {
                assert!(write > 3, "several groups were written");
                break;
            }
        }
    });
}

#[test]
fn each_refused_row_is_there_once_when_groups_are_halved_and_answers_are_lost_too() {
    at_each_point(|point| {
        for write in [2, 4, 5, 6] {
            let world = World::new(ENTRIES, refuses_fives_and_sevens_whole);
            world.loses_answers.store(true, SeqCst);
            world.dies_at(write, point);
            if world.run() {
                // And once more.
                world.dies_at(1, point);
                while world.run() {}
            }
            world.assert_each_is_there_once(&(point, write));
        }
    });
}

#[test]
fn a_failed_write_takes_back_what_it_set_aside_and_counts_it_once() {
    let world = World::new(ENTRIES, refuses_fives);
    let mut deliverer =
        start_over(world.folder.path(), world.entries.clone(), &world.place, &world.committed, |write, times| {
            let refused = refuses_fives(times).unwrap();
            Ok(if write <= 3 { Commit::LostBut(refused) } else { Commit::But(refused) })
        });
    wait_until(|| world.is_delivered());
    assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
    let status = deliverer.status();
    assert_eq!((status.set_aside_flows.get(), status.set_aside_now(), status.taken_flows()), (7, 7, 7));
    assert_eq!(status.retries.get(), 3);
    world.assert_each_is_there_once(&"failed writes");
}

#[test]
fn a_sink_whose_refused_rows_cannot_be_kept_commits_nothing_until_they_can() {
    let world = World::new(ENTRIES, refuses_fives);
    let folder = world.folder.path().to_owned();
    std::fs::write(folder.join("q"), "a file where the folder should be").unwrap();
    let mut deliverer = world.start();
    wait_until(|| deliverer.status().last_error().is_some_and(|problem| problem.reason.starts_with("quarantine")));
    assert!(world.place.lock().unwrap().stored.is_empty());
    std::fs::remove_file(folder.join("q")).unwrap();
    wait_until(|| world.is_delivered());
    assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
    world.assert_each_is_there_once(&"no folder");
}

#[test]
fn a_replay_that_dies_loses_and_repeats_no_row_that_is_refused_again() {
    at_each_point(|point| {
        for write in 1..=3 {
            let world = World::new(&[&[7, 8, 10, 15], &[5, 9], &[7, 11, 20], &[1]], refuses_fives_and_sevens_whole);
            assert!(!world.run());
            *world.rule.lock().unwrap() = refuses_fives;
            world.dies_at(write, point);
            let mut deliverer = world.start();
            let answer = deliverer.replay(Wish::default()).unwrap();
            let first = answer.recv_timeout(Duration::from_secs(60));
            assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
            // What was under way is finished by the next process, before anything else.
            world.place.lock().unwrap().crash = None;
            let mut deliverer = world.start();
            let nothing = Wish { name: Some("no such record".into()), ..Wish::default() };
            let answer = deliverer.replay(nothing).unwrap();
            assert_eq!(answer.recv_timeout(Duration::from_secs(60)), Ok(Replayed::default()));
            assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
            world.assert_each_is_there_once(&(point, write, first));
            world.assert_a_replay_completes_it(&(point, write));
        }
    });
}
