//! Random operations against a list.

use proptest::prelude::*;

use super::*;
use crate::log::open::first_position;
use crate::log::record::SEGMENT_HEADER_BYTES;

const NAMES: [&str; 2] = ["a", "b"];

#[derive(Clone, Debug)]
enum Op {
    Append {
        rows: usize,
    },
    Sums,
    Read {
        consumer: usize,
        records: usize,
    },
    Commit {
        consumer: usize,
    },
    Back {
        consumer: usize,
    },
    Sync,
    Jump {
        by: u64,
    },
    Reopen {
        later_s: u8,
    },
    /// The end of the last file is lost.
    Crash {
        bytes: u64,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let consumer = 0..NAMES.len();
    prop_oneof![
        8 => (0usize..30).prop_map(|rows| Op::Append { rows }),
        1 => Just(Op::Sums),
        6 => (consumer.clone(), 1usize..12).prop_map(|(consumer, records)| Op::Read { consumer, records }),
        3 => consumer.clone().prop_map(|consumer| Op::Commit { consumer }),
        1 => consumer.prop_map(|consumer| Op::Back { consumer }),
        2 => Just(Op::Sync),
        1 => (0u64..20).prop_map(|by| Op::Jump { by }),
        1 => (0u8..3).prop_map(|later_s| Op::Reopen { later_s }),
        1 => (0u64..3000).prop_map(|bytes| Op::Crash { bytes }),
    ]
}

/// The log that is tested, and the list that it should be.
struct Model {
    config: Config,
    log: Option<Log>,
    consumers: Vec<Consumer>,
    /// (position, seed, flows) of every record.
    records: Vec<(u64, u64, u64)>,
    committed: [u64; 2],
    /// Every position up to this one has been given or must not be.
    given: u64,
    seed: u64,
    now_ms: i64,
}

impl Model {
    fn log(&self) -> &Log {
        self.log.as_ref().unwrap()
    }

    fn open(&mut self) {
        let log = open_at(&self.config, self.now_ms);
        self.consumers = NAMES.iter().map(|name| oldest(&log, name)).collect();
        self.log = Some(log);
    }

    fn close(&mut self) {
        self.consumers.clear();
        self.log = None;
    }

    fn append(&mut self, record: Record) {
        let flows = record.flow_count();
        let seed = seed_of(&record).unwrap_or(0);
        let position = self.log().append(record).unwrap();
        assert_eq!(position, self.given + 1);
        self.given = position;
        self.records.push((position, seed, flows));
    }

    fn read(&mut self, consumer: usize, records: usize) {
        let consumer = &mut self.consumers[consumer];
        for _ in 0..records {
            let want = self.records.iter().find(|(position, _, _)| *position > consumer.position());
            let got = consumer.next(Duration::ZERO).unwrap();
            let got = got.map(|e| (e.position, seed_of(&e.record).unwrap_or(0), e.record.flow_count()));
            assert_eq!(got.as_ref(), want);
        }
    }

    fn crash(&mut self, bytes: u64) {
        self.close();
        let mut files: Vec<_> = std::fs::read_dir(&self.config.dir).unwrap().map(|f| f.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|e| e == "seg"));
        if let Some(last) = files.iter().max() {
            let file = std::fs::File::options().write(true).open(last).unwrap();
            let len = file.metadata().unwrap().len().saturating_sub(bytes);
            file.set_len(len.max(SEGMENT_HEADER_BYTES as u64)).unwrap();
        }
        let mut left = Vec::new();
        OfflineLog::open(&self.config.dir)
            .unwrap()
            .read_after(0, &mut |entry| {
                left.push(entry.position);
                true
            })
            .unwrap();
        // What is left is a run of the records, without a hole; only from the end may some be missing.
        let first = left.first().copied().unwrap_or(u64::MAX);
        let run = self.records.iter().map(|(position, _, _)| *position).filter(|p| *p >= first).take(left.len());
        assert_eq!(left, run.collect::<Vec<_>>());
        let last = left.last().copied().unwrap_or(0);
        self.records.retain(|(position, _, _)| *position <= last);
        self.open();
    }

    fn run(&mut self, op: Op) {
        match op {
            Op::Append { rows } => {
                self.seed += 1;
                self.append(flows_of(self.seed, rows));
            }
            Op::Sums => self.append(Record::Sums(Arc::new(sums_of(self.given)))),
            Op::Read { consumer, records } => self.read(consumer, records),
            Op::Commit { consumer } => {
                let position = self.consumers[consumer].position();
                self.consumers[consumer].commit(position);
                self.committed[consumer] = self.committed[consumer].max(position);
            }
            Op::Back { consumer } => self.consumers[consumer].seek(self.committed[consumer]),
            Op::Sync => self.log().sync(),
            Op::Jump { by } => {
                self.log().ensure_position_above(self.given + by);
                self.given += by;
            }
            Op::Reopen { later_s } => {
                self.close();
                self.now_ms += i64::from(later_s) * 1000;
                self.given = self.given.max(first_position(self.now_ms).saturating_sub(1));
                self.open();
            }
            Op::Crash { bytes } => self.crash(bytes),
        }
        for (consumer, name) in self.consumers.iter().zip(NAMES) {
            let lag = consumer.lag();
            let committed = self.committed[NAMES.iter().position(|n| *n == name).unwrap()];
            let waiting = self.records.iter().filter(|(position, _, _)| *position > committed);
            assert_eq!(lag.records, waiting.clone().count() as u64, "{name}");
            assert_eq!(lag.flows, waiting.map(|(_, _, flows)| flows).sum::<u64>(), "{name}");
            assert_eq!(lost_flows(self.log(), name), []);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_is_a_list_whatever_happens(ops in prop::collection::vec(op(), 1..60)) {
        let dir = folder();
        let config = Config { segment_bytes: 3000, memory_bytes_max: 25_000, ..config(dir.path()) };
        let mut model = Model {
            config,
            log: None,
            consumers: Vec::new(),
            records: Vec::new(),
            committed: [0; 2],
            given: 0,
            seed: 0,
            now_ms: 0,
        };
        model.open();
        for op in ops {
            model.run(op);
        }
    }
}
