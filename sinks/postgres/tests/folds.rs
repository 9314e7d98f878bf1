//! Buckets that are over are folded into one row for each key, and no sum changes.

mod database;
mod server;

use std::any::Any;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use database::Database;
use postgres::{Client, NoTls};
use server::Server;
use sink_api::rollup::{Key, Measures, Record, RollupRows, RollupSums};
use sink_api::sink::{Group, RefusedRow};
use sink_api::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use sink_api::value::Value;
use sink_api::{Direction, Entry, Field, Kind, LogId, RollupDef, Sink, SinkConfig, SinkContext, SinkError, Uuid};
use sink_api::{conformance, conformance::OTHER_LOG};

const DAY_START_MS: i64 = 20_000 * DAY_MS;
const SUBSCRIBERS: u64 = 40;

/// An empty database, and a collector whose clock the test sets.
struct Place {
    /// Ends with the place.
    _server: Box<dyn Any>,
    url: String,
    config: sink_postgres::Config,
    context: SinkContext,
    clock: Arc<AtomicI64>,
}

impl Place {
    fn new() -> Option<Self> {
        let server = Server::start()?;
        server.database("flows");
        let config = server::config(&server.url("flows"));
        Some(Self::with(config, Box::new(server)))
    }

    /// One with hypertables.
    fn timescale() -> Option<Self> {
        let database = Database::new("folds")?;
        Some(Self::with(database.config(), Box::new(database)))
    }

    fn with(config: sink_postgres::Config, server: Box<dyn Any>) -> Self {
        let clock = Arc::new(AtomicI64::new(DAY_START_MS));
        let mut context = conformance::context(Arc::new(RollupDef::defaults()), 0);
        let time = Arc::clone(&clock);
        context.clock = Arc::new(move || time.load(Ordering::Relaxed));
        Self { _server: server, url: config.url.0.clone(), config, context, clock }
    }

    fn open(&self) -> Box<dyn Sink> {
        self.config.open(&self.context).unwrap()
    }

    fn other(&self, log_id: LogId) -> Box<dyn Sink> {
        self.config.open(&SinkContext { log_id, ..self.context.clone() }).unwrap()
    }

    fn client(&self) -> Client {
        Client::connect(&self.url, NoTls).unwrap()
    }

    fn set(&self, ms: i64) {
        self.clock.store(ms, Ordering::Relaxed);
    }

    /// Keeps house until a number is what it should be.
    fn keep_house_until(&self, sink: &mut dyn Sink, sql: &str, wanted: i64) {
        let mut client = self.client();
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            sink.maintain().unwrap();
            let found = number(&mut client, sql);
            if found == wanted {
                break;
            }
            assert!(Instant::now() < until, "{sql}: {found} instead of {wanted}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn number(client: &mut Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}

const USAGE_ROWS: &str = "SELECT count(*) FROM flows_usage";
const USAGE_BYTES: &str = "SELECT sum(bytes)::bigint FROM flows_usage";
const UNFOLDED: &str = "SELECT count(*) FROM netflow.unfolded";

/// An emission of all rollups at one time: a row for each subscriber, some of whose keys are null.
fn emission(time_ms: i64, bytes: u64) -> RollupSums {
    let rows = |def: &RollupDef| {
        let mut out = RollupRows::new(def).unwrap();
        for subscriber in 0..SUBSCRIBERS {
            for (key, column) in &mut out.keys {
                column.push(&match (*key, key.kind()) {
                    (Key::Field(Field::SubscriberId), _) => Value::Uuid(Uuid::from_u64_pair(1, subscriber)),
                    (Key::Field(Field::Site), _) => Value::Null,
                    (_, Kind::Text) if subscriber % 3 > 0 => Value::Text("name".into()),
                    (_, Kind::Direction) => Value::Direction(Direction::Out),
                    (_, Kind::Number) => Value::Number(1 + subscriber % 2),
                    _ => Value::Null,
                });
            }
            let bucket = time_ms.div_euclid(def.bucket_ms) * def.bucket_ms;
            out.push_measures(bucket, &Measures { bytes, packets: 2, flows: 1, rtt_ms_sum: 3, rtt_count: 1 });
            if def.has_cut_bytes() {
                out.cut_bytes.push(0);
            }
        }
        out
    };
    RollupSums { rows: RollupDef::defaults().iter().map(rows).collect(), ..RollupSums::default() }
}

struct One(VecDeque<Entry>);

impl Group for One {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        Ok(self.0.pop_front())
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        assert!(rows.is_empty(), "{rows:?}");
        Ok(())
    }
}

fn write(sink: &mut dyn Sink, position: u64, sums: RollupSums) {
    let entry = Entry { position, record: Record::Sums(Arc::new(sums)) };
    sink.write(&mut One([entry].into())).unwrap();
}

#[test]
fn a_bucket_that_is_over_becomes_one_row_for_each_key() {
    let Some(place) = Place::new() else { return };
    check_folding(&place);
}

#[test]
fn a_bucket_of_a_hypertable_as_well() {
    let Some(place) = Place::timescale() else { return };
    check_folding(&place);
}

#[test]
fn a_bucket_in_a_columnar_chunk_keeps_its_sums() {
    let Some(place) = Place::timescale() else { return };
    let mut sink = place.open();
    for position in 1..=12 {
        write(&mut *sink, position, emission(DAY_START_MS, 100));
    }
    let mut client = place.client();
    let columnar = "ALTER TABLE flows_usage SET (timescaledb.compress, timescaledb.compress_segmentby = 'reseller_id'); \
                    SELECT compress_chunk(chunk) FROM show_chunks('flows_usage') AS chunk";
    client.batch_execute(columnar).unwrap();
    write(&mut *sink, 13, emission(DAY_START_MS, 7));
    place.set(DAY_START_MS + 3 * HOUR_MS);
    place.keep_house_until(&mut *sink, USAGE_ROWS, SUBSCRIBERS as i64);
    assert_eq!(number(&mut client, USAGE_BYTES), (12 * 100 + 7) * SUBSCRIBERS as i64);
}

fn check_folding(place: &Place) {
    let mut sink = place.open();
    for position in 1..=12 {
        place.set(DAY_START_MS + position as i64 * 5 * MINUTE_MS);
        write(&mut *sink, position, emission(DAY_START_MS, 100));
    }
    let mut client = place.client();
    let sums = "SELECT string_agg(sums::text, ';' ORDER BY sums::text) FROM (SELECT bucket, nas_id, site, reseller_id, \
                subscriber_id, direction, sum(bytes), sum(packets), sum(flows), sum(rtt_ms_sum), sum(rtt_count) \
                FROM flows_usage GROUP BY 1, 2, 3, 4, 5, 6) AS sums";
    let summed = |client: &mut Client| client.query_one(sums, &[]).unwrap().get::<_, String>(0);
    let before = summed(&mut client);
    assert_eq!(number(&mut client, USAGE_ROWS), 12 * SUBSCRIBERS as i64);
    assert_eq!(number(&mut client, UNFOLDED), 3, "usage, usage_apps, geo");
    place.set(DAY_START_MS + 2 * HOUR_MS - 1);
    (0..20).for_each(|_| sink.maintain().unwrap());
    assert_eq!(number(&mut client, USAGE_ROWS), 12 * SUBSCRIBERS as i64, "late rows may still come");
    // What waits is known after a restart, which is as if rows had just come.
    sink.close(Duration::from_secs(10)).unwrap();
    let mut sink = place.open();
    place.set(DAY_START_MS + 3 * HOUR_MS);
    place.keep_house_until(&mut *sink, UNFOLDED, 1);
    assert_eq!(number(&mut client, USAGE_ROWS), SUBSCRIBERS as i64);
    assert_eq!(summed(&mut client), before);
    for table in ["usage_apps", "traffic", "talkers"] {
        let rows = number(&mut client, &format!("SELECT count(*) FROM flows_{table}"));
        assert_eq!(rows, 12 * SUBSCRIBERS as i64, "{table}: a day that is not over, or narrow buckets");
    }
    // Late rows are folded in when no more come.
    write(&mut *sink, 13, emission(DAY_START_MS, 7));
    (0..20).for_each(|_| sink.maintain().unwrap());
    assert_eq!(number(&mut client, USAGE_ROWS), 2 * SUBSCRIBERS as i64);
    place.set(DAY_START_MS + 4 * HOUR_MS);
    place.keep_house_until(&mut *sink, USAGE_ROWS, SUBSCRIBERS as i64);
    assert_eq!(number(&mut client, USAGE_BYTES), (12 * 100 + 7) * SUBSCRIBERS as i64);
    place.set(DAY_START_MS + 2 * DAY_MS);
    place.keep_house_until(&mut *sink, UNFOLDED, 0);
    assert_eq!(number(&mut client, "SELECT count(*) FROM flows_usage_apps"), SUBSCRIBERS as i64);
}

#[test]
fn two_collectors_fold_and_write_the_same_bucket_at_once_and_no_byte_is_lost() {
    const WRITES: u64 = 150;
    let Some(place) = Place::new() else { return };
    // Long over, so that each pause of the writers is one in which it may be folded.
    place.set(DAY_START_MS + 100 * DAY_MS);
    let mut sinks = [place.open(), place.other(OTHER_LOG)];
    let clock = &place.clock;
    std::thread::scope(|scope| {
        for sink in &mut sinks {
            scope.spawn(move || {
                for position in 1..=WRITES {
                    write(&mut **sink, position, emission(DAY_START_MS, 1));
                    clock.fetch_add(12 * HOUR_MS, Ordering::Relaxed);
                    for _ in 0..5 {
                        sink.maintain().unwrap();
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
        }
    });
    let mut client = place.client();
    let written = 2 * WRITES as i64 * SUBSCRIBERS as i64;
    assert_eq!(number(&mut client, USAGE_BYTES), written);
    assert!(number(&mut client, USAGE_ROWS) < written, "nothing was folded meanwhile");
    // Whatever still waits is due after a pause.
    let until = Instant::now() + Duration::from_secs(60);
    while number(&mut client, UNFOLDED) > 0 {
        assert!(Instant::now() < until, "something waits for ever");
        place.clock.fetch_add(6 * HOUR_MS, Ordering::Relaxed);
        sinks.iter_mut().for_each(|sink| sink.maintain().unwrap());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(number(&mut client, USAGE_ROWS), SUBSCRIBERS as i64);
    assert_eq!(number(&mut client, USAGE_BYTES), written);
}

#[test]
fn what_cannot_be_folded_is_left_as_it_is() {
    let Some(place) = Place::new() else { return };
    let mut sink = place.open();
    let mut client = place.client();
    client.batch_execute("ALTER TABLE flows_geo ADD COLUMN note text DEFAULT 'mine'").unwrap();
    // Sums that no longer fit their column.
    (1..=3).for_each(|position| write(&mut *sink, position, emission(DAY_START_MS, i64::MAX as u64 / 2)));
    let rows = |client: &mut Client, table: &str| number(client, &format!("SELECT count(*) FROM flows_{table}"));
    for hours in 2..20 {
        place.set(DAY_START_MS + hours * HOUR_MS);
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            sink.maintain().unwrap();
        }
    }
    assert_eq!(rows(&mut client, "geo"), 3 * SUBSCRIBERS as i64, "a column that is not the collector's");
    assert_eq!(rows(&mut client, "usage"), 3 * SUBSCRIBERS as i64);
    let waiting = "SELECT string_agg(rollup, ' ') FROM netflow.unfolded";
    assert_eq!(client.query_one(waiting, &[]).unwrap().get::<_, String>(0), "usage_apps", "given up");
    // The sink goes on.
    write(&mut *sink, 4, emission(DAY_START_MS + 20 * HOUR_MS, 1));
    assert_eq!(rows(&mut client, "usage"), 4 * SUBSCRIBERS as i64);
}
