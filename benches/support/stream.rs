//! A stream of the profile `isp`, enriched, for the benches of what reads the log.

use std::collections::HashMap;
use std::time::Duration;

use rgz_netflow::cli::generate::{Profile, Rng};
use rgz_netflow::flow::column::{Dict, DictValue, Text};
use rgz_netflow::flow::{Direction, FlowBatch};

/// Subscribers of the profile.
pub const SUBSCRIBERS: u32 = 50_000;
const BATCH_FLOWS: usize = 16_384;
const DURATION_MS_MAX: u32 = 900_000;
const SERVICES: [u16; 12] = [443, 53, 80, 123, 993, 5222, 3478, 22, 8080, 25, 51_820, 853];
/// Autonomous systems, and countries that they are in.
const SYSTEMS: u32 = 4999;
const COUNTRIES: u32 = 60;

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

/// Flows of the profile that ended at most a second before time 0, with the profile's durations or with durations evenly from 0
/// to 900 s, which is what a gateway that exports every 15 minutes sends.
pub fn batch(profile: &Profile, rng: &mut Rng, even_durations: bool) -> FlowBatch {
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

/// Moves the flows in time.
pub fn shift(batch: &mut FlowBatch, by_ms: i64) {
    batch.time.values_mut().iter_mut().for_each(|time| *time += by_ms);
    batch.flow_start.values_mut().iter_mut().for_each(|time| *time += by_ms);
}

/// CPU time of this thread.
pub fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to be written to.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
