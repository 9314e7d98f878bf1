mod crash;
mod replay;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::flow::sink::{Entry, Group, NoTail, RefusedRow};
use crate::flow::{FlowBatch, FlowStore, LogId, Record, Sink, SinkConfig, SinkContext, SinkError};
use crate::log::Lag;

/// A list of entries as a log.
struct ListSource {
    entries: Vec<Entry>,
    next: usize,
    committed: Arc<Mutex<u64>>,
    place: Arc<Mutex<Place>>,
}

impl Source for ListSource {
    fn next(&mut self, timeout: Duration) -> io::Result<Option<Entry>> {
        let entry = self.entries.get(self.next).cloned();
        if entry.is_none() {
            std::thread::sleep(timeout.min(Duration::from_millis(1)));
        }
        self.next += usize::from(entry.is_some());
        Ok(entry)
    }

    fn seek(&mut self, position: u64) {
        self.next = self.entries.partition_point(|e| e.position < position);
    }

    fn commit(&mut self, position: u64) -> u64 {
        crash(&self.place, Point::BeforeItIsNoted);
        let mut committed = self.committed.lock().unwrap();
        let before = std::mem::replace(&mut *committed, position);
        let waited = self.entries.iter().filter(|e| e.position > before && e.position <= position);
        waited.map(|e| e.record.flow_count()).sum()
    }

    fn committed(&self) -> u64 {
        *self.committed.lock().unwrap()
    }

    fn lag(&self) -> Lag {
        Lag::default()
    }
}

/// A store in memory whose behaviour a test scripts: called with the number of the write and the times of the flows pulled.
type Script = dyn Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync;

enum Commit {
    Yes,
    /// Commits, but the answer is lost.
    AnswerLost,
    /// Commits all flows but these.
    But(Vec<u64>),
    /// The same, and the answer is lost.
    ButAnswerLost(Vec<u64>),
    /// Would leave these out, but is lost before the commit.
    LostBut(Vec<u64>),
}

/// Where the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    BeforeSettingAside,
    WithHalfSetAside,
    BeforeTheCommit,
    AfterTheCommit,
    BeforeItIsNoted,
}

/// Ends the thread when it is time to die: it does nothing after.
fn crash(place: &Mutex<Place>, point: Point) {
    let mut place = place.lock().unwrap();
    let writes = place.writes;
    if place.crash.take_if(|crash| *crash == (writes, point)).is_some() {
        drop(place);
        std::panic::resume_unwind(Box::new("the process dies"));
    }
}

/// What is stored: a flow's time is its identity.
#[derive(Default)]
struct Place {
    stored: Vec<u64>,
    cursors: BTreeMap<LogId, u64>,
    writes: usize,
    /// The write in or after which the process dies.
    crash: Option<(usize, Point)>,
}

impl Place {
    fn sorted(&self) -> Vec<u64> {
        let mut stored = self.stored.clone();
        stored.sort_unstable();
        stored
    }
}

#[derive(Clone)]
struct TestSink {
    log_id: LogId,
    place: Arc<Mutex<Place>>,
    script: Arc<Script>,
}

impl std::fmt::Debug for TestSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestSink")
    }
}

impl SinkConfig for TestSink {
    fn open(&self, context: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(TestSink { log_id: context.log_id, ..self.clone() }))
    }

    fn store(&self, _: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError> {
        Ok(None)
    }

    fn memory_bytes_max(&self) -> u64 {
        0
    }
}

impl Sink for TestSink {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        Ok(self.place.lock().unwrap().cursors.get(&self.log_id).copied())
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let (mut entries, mut times) = (Vec::new(), Vec::new());
        while let Some(entry) = group.next()? {
            times.extend(times_of(&entry));
            entries.push(entry);
        }
        let Some(last) = entries.last().map(|entry| entry.position) else { return Ok(()) };
        let writes = {
            let mut place = self.place.lock().unwrap();
            place.writes += 1;
            place.writes
        };
        let answer = (self.script)(writes, &times)?;
        let none = Vec::new();
        let refused = match &answer {
            Commit::But(times) | Commit::ButAnswerLost(times) | Commit::LostBut(times) => times,
            Commit::Yes | Commit::AnswerLost => &none,
        };
        let rows: Vec<(&Entry, usize, String)> = entries
            .iter()
            .flat_map(|entry| times_of(entry).enumerate().map(move |(row, time)| (entry, row, time)))
            .filter(|(_, _, time)| refused.contains(time))
            .map(|(entry, row, time)| (entry, row, format!("no {time}")))
            .collect();
        let rows: Vec<_> = rows.iter().map(|(entry, row, reason)| RefusedRow { entry, row: *row, reason }).collect();
        let (half, rest) = rows.split_at(rows.len() / 2);
        crash(&self.place, Point::BeforeSettingAside);
        group.set_aside(half)?;
        crash(&self.place, Point::WithHalfSetAside);
        group.set_aside(rest)?;
        crash(&self.place, Point::BeforeTheCommit);
        if matches!(answer, Commit::LostBut(_)) {
            return Err(SinkError::retry("connection lost"));
        }
        {
            let mut place = self.place.lock().unwrap();
            place.stored.extend(times.iter().filter(|time| !refused.contains(time)));
            place.cursors.insert(self.log_id, last);
        }
        crash(&self.place, Point::AfterTheCommit);
        match answer {
            Commit::Yes | Commit::But(_) => Ok(()),
            Commit::AnswerLost | Commit::ButAnswerLost(_) | Commit::LostBut(_) => {
                Err(SinkError::retry("connection lost"))
            }
        }
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

fn times_of(entry: &Entry) -> impl Iterator<Item = u64> {
    let Record::Flows(batch) = &entry.record else { panic!("only flows are delivered here") };
    batch.time.values().to_vec().into_iter().map(|time| time as u64)
}

/// An entry whose flows have these times.
fn entry(position: u64, times: &[u64]) -> Entry {
    let mut batch = FlowBatch::default();
    times.iter().for_each(|time| batch.time.push(Some(*time as i64)));
    batch.fill_missing();
    Entry { position, record: Record::Flows(Arc::new(batch)) }
}

/// Delivers entries 1 to `n` of one flow each, its time the position, under a script; gives what was stored, the status, and the
/// positions in quarantine.
fn deliver(
    n: u64,
    script: impl Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync + 'static,
) -> (Vec<u64>, Arc<Status>, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let (mut deliverer, place, committed) = start(folder.path(), n, script);
    wait_until(|| *committed.lock().unwrap() >= n);
    assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
    assert_eq!(deliverer.status().state(), State::Stopped);
    let kept = deliverer.quarantine().list(None, 1000).unwrap();
    let stored = place.lock().unwrap().stored.clone();
    (stored, deliverer.status().clone(), kept.into_iter().map(|listed| listed.head.position).collect())
}

fn wait_until(mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < until, "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Starts to deliver; gives the place where it is stored, and the position committed in the log.
fn start(
    folder: &Path,
    n: u64,
    script: impl Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync + 'static,
) -> (Deliverer, Arc<Mutex<Place>>, Arc<Mutex<u64>>) {
    let (place, committed) = (Arc::default(), Arc::default());
    let entries = (1..=n).map(|position| entry(position, &[position])).collect();
    let deliverer = start_over(folder, entries, &place, &committed, script);
    (deliverer, place, committed)
}

/// Starts to deliver entries into a place that may hold something already.
fn start_over(
    folder: &Path,
    entries: Vec<Entry>,
    place: &Arc<Mutex<Place>>,
    committed: &Arc<Mutex<u64>>,
    script: impl Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync + 'static,
) -> Deliverer {
    let config = Config {
        name: "test".into(),
        batch_rows: 4,
        flush_interval: Duration::from_millis(20),
        quarantine: folder.join("q"),
        quarantine_bytes_max: 1 << 20,
    };
    let context = SinkContext {
        name: "test".into(),
        log_id: LogId([7; 16]),
        tail: Arc::new(NoTail),
        rollups: Arc::default(),
        malformed: Arc::default(),
        clock: Arc::new(|| 0),
    };
    let sink = Arc::new(TestSink { log_id: context.log_id, place: place.clone(), script: Arc::new(script) });
    let source = ListSource { entries, next: 0, committed: committed.clone(), place: place.clone() };
    Deliverer::start(config, "test", sink, context, Box::new(source)).unwrap()
}

#[test]
fn every_entry_arrives_once_and_in_order() {
    let (stored, status, kept) = deliver(10, |_, _| Ok(Commit::Yes));
    assert_eq!(stored, (1..=10).collect::<Vec<_>>());
    assert_eq!(status.delivered_flows.get(), 10);
    assert!(kept.is_empty());
}

#[test]
fn a_commit_whose_answer_was_lost_is_not_sent_twice() {
    let (stored, status, _) = deliver(10, |n, _| Ok(if n == 2 { Commit::AnswerLost } else { Commit::Yes }));
    assert_eq!(stored, (1..=10).collect::<Vec<_>>());
    assert_eq!(status.retries.get(), 1);
    assert_eq!(status.last_error().unwrap().reason, "connection lost");
    assert_eq!(status.delivered_flows.get(), 10);
}

#[test]
fn a_passing_failure_loses_nothing() {
    let (stored, status, _) = deliver(6, |n, _| if n <= 2 { Err(SinkError::retry("down")) } else { Ok(Commit::Yes) });
    assert_eq!(stored, (1..=6).collect::<Vec<_>>());
    assert_eq!(status.retries.get(), 2);
}

#[test]
fn what_the_store_refuses_is_set_aside_alone() {
    let (stored, status, kept) =
        deliver(9, |_, times| if times.contains(&3) { Err(SinkError::Reject("no".into())) } else { Ok(Commit::Yes) });
    assert_eq!(stored, [1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(kept, [3]);
    assert_eq!((status.delivered_flows.get(), status.set_aside_flows.get()), (8, 1));
}

#[test]
fn rows_refused_in_a_commit_whose_answer_was_lost_are_set_aside() {
    let (stored, status, kept) = deliver(9, |n, times| {
        let refused: Vec<u64> = times.iter().copied().filter(|time| time % 3 == 0).collect();
        Ok(if n == 1 { Commit::ButAnswerLost(refused) } else { Commit::But(refused) })
    });
    assert_eq!(stored, [1, 2, 4, 5, 7, 8]);
    assert_eq!(kept, [3, 6, 9]);
    assert_eq!((status.delivered_flows.get(), status.set_aside_now()), (6, 3));
}

#[test]
fn one_that_leaves_commits_its_group_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let (began, begun) = std::sync::mpsc::channel();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let (mut deliverer, place, committed) = start(folder.path(), 1000, move |_, _| {
        began.send(()).unwrap();
        gate.lock().unwrap().recv().unwrap();
        Ok(Commit::Yes)
    });
    begun.recv_timeout(Duration::from_secs(60)).unwrap();
    deliverer.leave();
    assert!(!deliverer.has_ended());
    go.send(()).unwrap();
    assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
    assert_eq!(place.lock().unwrap().stored, [1, 2, 3, 4]);
    assert_eq!(*committed.lock().unwrap(), 4);
}
