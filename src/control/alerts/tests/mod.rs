//! Properties of the alerts as a whole, with a clock of the test's own.

mod conditions;
mod delivery;
mod reconfigure;
mod restart;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::control::state::{Keep, State};
use crate::flow::time::{HOUR_MS, MINUTE_MS};
use crate::flow::{Direction, FlowBatch, LogId, Text, Uuid};

/// Some time on a day's boundary.
const T0: i64 = 1_800_057_600_000;
const LOG: LogId = LogId([7; 16]);
const RESELLER: Uuid = Uuid::from_u128(0xA);
const SUBSCRIBER: Uuid = Uuid::from_u128(1);

/// One run of the alerts over a state database.
struct Bench {
    _state: State,
    alerts: Arc<Alerts>,
    engine: Engine,
    facts: Facts,
}

impl Bench {
    fn open(folder: &Path, config: Config) -> Self {
        let state = State::open(&folder.join("state.redb")).unwrap();
        let (alerts, engine) = open(state.alerts(), config);
        Self { _state: state, alerts, engine, facts: Facts::default() }
    }

    /// Puts another configuration in force, as a reload does. Gives what it says.
    fn reconfigure(&self, config: Config) -> Vec<String> {
        let plan = self.alerts.plan(&config, Path::new(".")).unwrap();
        self.alerts.reconfigure(config, plan)
    }

    fn evaluate(&mut self, now_ms: i64) {
        self.engine.evaluate(&self.facts, now_ms, false).unwrap();
    }

    /// Types of the alerts that last, with their values.
    fn firing(&self) -> Vec<(&'static str, u64)> {
        let mut firing: Vec<_> = self.alerts.board.active().iter().map(|a| (a.alert_type.name(), a.value)).collect();
        firing.sort_unstable();
        firing
    }

    fn fired(&self) -> u64 {
        self.alerts.board.counts().fired.values().sum()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.alerts.deliveries.stop(std::time::Instant::now() + std::time::Duration::from_secs(60));
    }
}

fn open(keep: Keep, config: Config) -> (Arc<Alerts>, Engine) {
    let board = Arc::new(Board::open(keep.clone()).unwrap());
    let clock: crate::flow::Clock = Arc::new(|| T0);
    let deliveries = Deliveries::start(&config.receiver, Path::new("."), &board, &keep, &clock).unwrap();
    let alerts = Arc::new(Alerts::new(board, deliveries, config));
    let engine = Engine::open(alerts.clone(), keep, LOG, HOUR_MS).unwrap();
    (alerts, engine)
}

/// One flow of a subscriber at site north of nas1, a minute long.
fn flow(end: i64, bytes: u64, direction: Direction) -> FlowBatch {
    let mut batch = FlowBatch::default();
    batch.time.push(Some(end));
    batch.flow_start.push(Some(end - MINUTE_MS));
    batch.received_at.push(Some(end));
    batch.bytes.push(Some(bytes));
    batch.direction.push(Some(direction as u8));
    batch.subscriber_id.push(Some(&SUBSCRIBER));
    batch.reseller_id.push(Some(&RESELLER));
    batch.nas_id.push(Some(&Text::from("nas1")));
    batch.site.push(Some(&Text::from("north")));
    batch.app.push(Some(&Text::from("tor")));
    batch.fill_missing();
    batch
}
