//! CPU of the alerts' counters over a stream like the profile `isp` (50,000 subscribers, zipf 0.9; 200,000 remotes, zipf 1.05),
//! durations evenly from 0 to 900 s: subscribers, sites, hosts and a watch for one application that is not there. Time per
//! element is CPU time of the thread per flow, so other load does not count: 50 ns are 0.05 CPU seconds per million flows.

use std::collections::HashMap;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rgz_netflow::cli::generate::{Profile, Rng};
use rgz_netflow::control::alerts::{Config, counters::Counters};
use rgz_netflow::flow::column::{Dict, DictValue, Text};
use rgz_netflow::flow::{Direction, FlowBatch};

const SUBSCRIBERS: u32 = 50_000;
const BATCH_FLOWS: usize = 16_384;
const BATCHES: usize = 96;
const DURATION_MS_MAX: u32 = 900_000;
/// Flows a second of the simulated clock.
const RATE: i64 = 200_000;
/// How often the changes are taken out, as for saving, ms.
const SAVE_MS: i64 = 10_000;
const T0: i64 = 1_800_000_000_000;

/// A dictionary column with its values found by hash.
struct Names<T>(Dict<T>, HashMap<T, u32>);

impl<T: DictValue> Names<T> {
    fn new() -> Self {
        Self(Dict::default(), HashMap::new())
    }

    fn push(&mut self, value: Option<T>) {
        let code = value.map_or(0, |v| *self.1.entry(v.clone()).or_insert_with(|| self.0.add_value(v)));
        self.0.push_code(code);
    }
}

/// Flows that ended at most a second before time 0.
fn batch(profile: &Profile, rng: &mut Rng) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let (mut nas, mut site, mut app) = (Names::<Text>::new(), Names::<Text>::new(), Names::<Text>::new());
    let (mut subscriber, mut reseller) = (Names::new(), Names::new());
    while batch.len() < BATCH_FLOWS {
        let (request, answer) = profile.draw(rng, |_| true);
        for drawn in [Some(request), answer].into_iter().flatten() {
            let record = drawn.record;
            let end = -i64::from(rng.below(1000));
            batch.time.push(Some(end));
            batch.flow_start.push(Some(end - i64::from(rng.below(DURATION_MS_MAX))));
            batch.bytes.push(Some(record.bytes.into()));
            batch.direction.push(Some(drawn.direction as u8));
            batch.src_ip.extend_v4([record.src_addr].into_iter());
            batch.dst_ip.extend_v4([record.dst_addr].into_iter());
            app.push(Some(format!("app-{}", record.dst_port % 40).into()));
            let customer = if drawn.direction == Direction::In { record.dst_addr } else { record.src_addr };
            let who = profile.index_of(customer).map(|index| profile.subscriber(index));
            nas.push(who.as_ref().map(|who| format!("nas-{}", who.reseller % 4).into()));
            site.push(who.as_ref().map(|who| who.site.as_str().into()));
            subscriber.push(who.as_ref().map(|who| who.subscriber_id));
            reseller.push(who.as_ref().map(|who| who.reseller_id));
        }
    }
    (batch.nas_id, batch.site, batch.app) = (nas.0, site.0, app.0);
    (batch.subscriber_id, batch.reseller_id) = (subscriber.0, reseller.0);
    batch.fill_missing();
    batch
}

fn shift(batch: &mut FlowBatch, by_ms: i64) {
    for column in [&mut batch.time, &mut batch.flow_start, &mut batch.received_at] {
        column.values_mut().iter_mut().for_each(|time| *time += by_ms);
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn stream(criterion: &mut Criterion) {
    let profile = Profile::isp(1, SUBSCRIBERS);
    let mut rng = Rng::new(1, 2);
    let mut batches: Vec<FlowBatch> = (0..BATCHES).map(|_| batch(&profile, &mut rng)).collect();
    let flows: usize = batches.iter().map(FlowBatch::len).sum();
    let mut group = criterion.benchmark_group("alerts");
    group.sample_size(10);
    group.throughput(Throughput::Elements(flows as u64));
    let config = Config { dpi_protocols: vec!["not there".into()], ..Config::default() };
    let mut counters = Counters::new(3_600_000);
    counters.configure(&config, true);
    let (mut now_ms, mut saved_ms) = (T0, T0);
    let (mut saves, mut saved_bytes) = (0u64, 0usize);
    group.bench_function("counters at 200,000 flows/s, saves included", |bencher| {
        bencher.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for index in (0..rounds).flat_map(|_| 0..BATCHES) {
                let batch = &mut batches[index];
                now_ms += batch.len() as i64 * 1000 / RATE;
                shift(batch, now_ms);
                let begun = cpu_time();
                counters.add(batch, now_ms);
                if now_ms - saved_ms >= SAVE_MS {
                    saved_ms = now_ms;
                    let changes = counters.changes();
                    saves += 1;
                    saved_bytes += changes
                        .iter()
                        .map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len))
                        .sum::<usize>();
                    black_box(changes);
                }
                spent += cpu_time() - begun;
                shift(batch, -now_ms);
            }
            spent
        });
    });
    group.finish();
    println!("{} bytes held; {} saves of {} bytes", counters.memory_bytes(), saves, saved_bytes as u64 / saves.max(1));
}

criterion_group!(benches, stream);
criterion_main!(benches);
