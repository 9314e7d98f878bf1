use std::sync::Mutex;

use super::*;
use crate::flow::sink::{Entry, Group, NoTail};
use crate::flow::{FlowBatch, FlowStore, LogId};
use crate::log::Lag;

/// A list of entries as a log.
struct ListSource {
    entries: Vec<Entry>,
    next: usize,
    committed: Arc<Mutex<u64>>,
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

    fn commit(&mut self, position: u64) {
        *self.committed.lock().unwrap() = position;
    }

    fn committed(&self) -> u64 {
        *self.committed.lock().unwrap()
    }

    fn lag(&self) -> Lag {
        Lag::default()
    }
}

/// A store in memory whose behaviour a test scripts: called with the number of the write and the positions pulled.
type Script = dyn Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync;

enum Commit {
    Yes,
    /// Commits, but the answer is lost.
    AnswerLost,
}

#[derive(Default)]
struct Place {
    stored: Vec<u64>,
    cursor: Option<u64>,
    writes: usize,
}

struct TestSink {
    place: Arc<Mutex<Place>>,
    script: Arc<Script>,
}

impl std::fmt::Debug for TestSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TestSink")
    }
}

impl SinkConfig for TestSink {
    fn open(&self, _: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(TestSink { place: self.place.clone(), script: self.script.clone() }))
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
        Ok(self.place.lock().unwrap().cursor)
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut positions = Vec::new();
        while let Some(entry) = group.next()? {
            positions.push(entry.position);
        }
        let Some(last) = positions.last().copied() else { return Ok(()) };
        let mut place = self.place.lock().unwrap();
        place.writes += 1;
        let answer = (self.script)(place.writes, &positions)?;
        place.stored.extend(positions);
        place.cursor = Some(last);
        match answer {
            Commit::Yes => Ok(()),
            Commit::AnswerLost => Err(SinkError::retry("connection lost")),
        }
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Delivers entries 1 to `n` of one flow each under a script; gives what was stored, the status, and the quarantine's heads.
fn deliver(
    n: u64,
    script: impl Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync + 'static,
) -> (Vec<u64>, Arc<Status>, Vec<u64>) {
    let folder = tempfile::tempdir().unwrap();
    let (mut deliverer, place, committed) = start(folder.path(), n, script);
    let until = Instant::now() + Duration::from_secs(60);
    while *committed.lock().unwrap() < n && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(deliverer.join(Instant::now() + Duration::from_secs(60)));
    assert_eq!(deliverer.status().state(), State::Stopped);
    let kept = Quarantine::new(&folder.path().join("q"), 1 << 20).list().unwrap();
    let stored = place.lock().unwrap().stored.clone();
    (stored, deliverer.status().clone(), kept.into_iter().map(|(_, head)| head.position).collect())
}

/// Starts to deliver; gives the place where it is stored, and the position committed in the log.
fn start(
    folder: &std::path::Path,
    n: u64,
    script: impl Fn(usize, &[u64]) -> Result<Commit, SinkError> + Send + Sync + 'static,
) -> (Deliverer, Arc<Mutex<Place>>, Arc<Mutex<u64>>) {
    let mut batch = FlowBatch::default();
    batch.time.push(Some(1));
    batch.fill_missing();
    let record = Record::Flows(Arc::new(batch));
    let entries = (1..=n).map(|position| Entry { position, record: record.clone() }).collect();
    let committed = Arc::new(Mutex::new(0));
    let place = Arc::new(Mutex::new(Place::default()));
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
        clock: Arc::new(|| 0),
    };
    let sink = Arc::new(TestSink { place: place.clone(), script: Arc::new(script) });
    let source = ListSource { entries, next: 0, committed: committed.clone() };
    let deliverer = Deliverer::start(config, "test", sink, context, Box::new(source)).unwrap();
    (deliverer, place, committed)
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
        deliver(
            9,
            |_, positions| {
                if positions.contains(&3) { Err(SinkError::Reject("no".into())) } else { Ok(Commit::Yes) }
            },
        );
    assert_eq!(stored, [1, 2, 4, 5, 6, 7, 8, 9]);
    assert_eq!(kept, [3]);
    assert_eq!((status.delivered_flows.get(), status.set_aside_flows.get()), (8, 1));
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
