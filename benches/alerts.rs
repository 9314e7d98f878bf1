//! CPU of the alerts' counters over a stream like the profile `isp` (50,000 subscribers, zipf 0.9; 200,000 remotes, zipf 1.05),
//! durations evenly from 0 to 900 s: subscribers, sites, hosts and a watch for one application that is not there. Time per
//! element is CPU time of the thread per flow, so other load does not count: 50 ns are 0.05 CPU seconds per million flows.

#[path = "support/stream.rs"]
mod stream;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use rgz_netflow::cli::generate::{Profile, Rng};
use rgz_netflow::control::alerts::{Config, counters::Counters};
use rgz_netflow::flow::FlowBatch;
use stream::{SUBSCRIBERS, batch, cpu_time, shift};

const BATCHES: usize = 96;
/// Flows a second of the simulated clock.
const RATE: i64 = 200_000;
/// How often the changes are taken out, as for saving, ms.
const SAVE_MS: i64 = 10_000;
const T0: i64 = 1_800_000_000_000;

fn counters(criterion: &mut Criterion) {
    let profile = Profile::isp(1, SUBSCRIBERS);
    let mut rng = Rng::new(1, 2);
    let mut batches: Vec<FlowBatch> = (0..BATCHES).map(|_| batch(&profile, &mut rng, true)).collect();
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

criterion_group!(benches, counters);
criterion_main!(benches);
