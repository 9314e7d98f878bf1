//! CPU of the aggregator: all five default rollups over a stream of the profile `isp` (50,000 subscribers of 500 resellers,
//! zipf 0.9; 200,000 remotes, zipf 1.05), emissions included, with the profile's durations and with durations evenly from 0
//! to 900 s, which is what a gateway that exports every 15 minutes sends. Time per element is CPU time of the thread per
//! flow, so other load counts little: 150 ns are 0.15 CPU seconds per million flows. What sinks pay for is the number of rows
//! that a flow gives.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rgz_netflow::aggregate::{Aggregator, Config, Counters};
use rgz_netflow::cli::generate::{Profile, Rng};
use rgz_netflow::flow::column::{Dict, DictValue, Text};
use rgz_netflow::flow::{Direction, FlowBatch, RollupDef};

const SUBSCRIBERS: u32 = 50_000;
const BATCH_FLOWS: usize = 16_384;
const BATCHES: usize = 64;
const DURATION_MS_MAX: u32 = 900_000;
const SERVICES: [u16; 12] = [443, 53, 80, 123, 993, 5222, 3478, 22, 8080, 25, 51_820, 853];
/// Autonomous systems, and countries that they are in.
const SYSTEMS: u32 = 4999;
const COUNTRIES: u32 = 60;
/// Flows a second of the simulated clock: how often emissions fall due.
const RATES: [u64; 3] = [20_000, 200_000, 1_000_000];

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
fn batch(profile: &Profile, rng: &mut Rng, even_durations: bool) -> FlowBatch {
    let mut batch = FlowBatch::default();
    let (mut nas, mut site, mut app) = (Names::<Text>::new(), Names::<Text>::new(), Names::<Text>::new());
    let (mut subscriber, mut reseller) = (Names::new(), Names::new());
    while batch.len() < BATCH_FLOWS {
        let (request, answer) = profile.draw(rng, |_| true);
        for drawn in [Some(request), answer].into_iter().flatten() {
            let record = drawn.record;
            let end = -i64::from(rng.below(1000));
            batch.time.push(Some(end));
            let own_ms = record.first_ms.saturating_sub(record.last_ms);
            let span_ms = if even_durations { rng.below(DURATION_MS_MAX) } else { own_ms };
            batch.flow_start.push(Some(end - i64::from(span_ms)));
            batch.bytes.push(Some(record.bytes.into()));
            batch.packets.push(Some(record.packets.into()));
            batch.protocol.push(Some(record.protocol));
            batch.direction.push(Some(drawn.direction as u8));
            batch.src_ip.extend_v4([record.src_addr].into_iter());
            batch.dst_ip.extend_v4([record.dst_addr].into_iter());
            let port = [record.dst_port, record.src_port].into_iter().find(|port| SERVICES.contains(port));
            batch.service_port.push(Some(port.unwrap_or(0)));
            app.push(port.map(|port| format!("app-{port}").into()));
            let customer = if drawn.direction == Direction::In { record.dst_addr } else { record.src_addr };
            let who = profile.index_of(customer).map(|index| profile.subscriber(index));
            nas.push(who.as_ref().map(|who| format!("nas-{}", who.reseller % 4).into()));
            site.push(who.as_ref().map(|who| who.site.as_str().into()));
            subscriber.push(who.as_ref().map(|who| who.subscriber_id));
            reseller.push(who.as_ref().map(|who| who.reseller_id));
            batch.src_as.push(Some(system_of(record.src_addr)));
            batch.dst_as.push(Some(system_of(record.dst_addr)));
            batch.src_country.push(Some((system_of(record.src_addr) % COUNTRIES) as u16 + 1));
            batch.dst_country.push(Some((system_of(record.dst_addr) % COUNTRIES) as u16 + 1));
        }
    }
    (batch.nas_id, batch.site, batch.app) = (nas.0, site.0, app.0);
    (batch.subscriber_id, batch.reseller_id) = (subscriber.0, reseller.0);
    batch.fill_missing();
    batch
}

/// The AS of an address. A few hold most addresses, as in the Internet; a country follows from the AS.
fn system_of(address: u32) -> u32 {
    let place = u64::from(address % SYSTEMS);
    (place.pow(3) / u64::from(SYSTEMS).pow(2)) as u32
}

fn shift(batch: &mut FlowBatch, by_ms: i64) {
    batch.time.values_mut().iter_mut().for_each(|time| *time += by_ms);
    batch.flow_start.values_mut().iter_mut().for_each(|time| *time += by_ms);
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
    let batches = |even| {
        let mut rng = Rng::new(1, 2);
        (0..BATCHES).map(|_| batch(&profile, &mut rng, even)).collect::<Vec<_>>()
    };
    let (mut own, mut even) = (batches(false), batches(true));
    let mut group = criterion.benchmark_group("aggregate");
    group.sample_size(10);
    let flows: usize = own.iter().map(FlowBatch::len).sum();
    group.throughput(Throughput::Elements(flows as u64));
    let all = RollupDef::defaults();
    let five = |rate: &u64| (format!("five rollups at {rate} flows/s"), all.clone(), *rate, false);
    let mut cases: Vec<_> = RATES.iter().map(five).collect();
    cases.push((format!("five rollups at {} flows/s, even durations", RATES[1]), all.clone(), RATES[1], true));
    cases.extend(all.iter().map(|def| (format!("{} alone", def.name), vec![def.clone()], RATES[1], false)));
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    for (name, defs, rate, has_even_durations) in cases.into_iter().filter(|(name, ..)| name.contains(&wanted)) {
        let batches = if has_even_durations { &mut even } else { &mut own };
        let counters = Arc::new(Counters::default());
        let mut aggregator = Aggregator::new(Arc::new(defs), Config::default(), counters.clone()).unwrap();
        let (mut position, mut now_ms, mut rows) = (0, 1_700_000_000_000, 0u64);
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let begun = cpu_time();
                for batch in (0..rounds).flat_map(|_| 0..BATCHES) {
                    let batch = &mut batches[batch];
                    position += 1;
                    now_ms += batch.len() as i64 * 1000 / rate as i64;
                    shift(batch, now_ms);
                    aggregator.add(position, batch, now_ms);
                    shift(batch, -now_ms);
                    while let Some(sums) = aggregator.emit(now_ms) {
                        rows += sums.rows.iter().map(|rows| rows.len() as u64).sum::<u64>();
                        black_box(sums);
                    }
                }
                cpu_time() - begun
            });
        });
        println!(
            "  rows per 1000 flows: {:.1}, without room: {:.2}, early emissions: {}, held: {} MiB",
            rows as f64 * 1000.0 / counters.flows.get().max(1) as f64,
            counters.refused_keys.get() as f64 * 1000.0 / counters.flows.get().max(1) as f64,
            counters.early_emissions.get(),
            aggregator.held_bytes() >> 20,
        );
    }
    group.finish();
}

criterion_group!(benches, stream);
criterion_main!(benches);
