//! CPU of the aggregator: all five default rollups over a stream of the profile `isp` (50,000 subscribers of 500 resellers,
//! zipf 0.9; 200,000 remotes, zipf 1.05), emissions included, with the profile's durations and with durations evenly from 0
//! to 900 s, which is what a gateway that exports every 15 minutes sends. Time per element is CPU time of the thread per
//! flow, so other load counts little: 150 ns are 0.15 CPU seconds per million flows. What sinks pay for is the number of rows
//! that a flow gives.

#[path = "support/stream.rs"]
mod stream;

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rgz_netflow::aggregate::{Aggregator, Config, Counters};
use rgz_netflow::cli::generate::{Profile, Rng};
use rgz_netflow::flow::{FlowBatch, RollupDef};
use stream::{SUBSCRIBERS, batch, cpu_time, shift};

const BATCHES: usize = 64;
/// Flows a second of the simulated clock: how often emissions fall due.
const RATES: [u64; 3] = [20_000, 200_000, 1_000_000];

fn rollups(criterion: &mut Criterion) {
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

criterion_group!(benches, rollups);
criterion_main!(benches);
