//! `run --test`: waits for one datagram, shows its records, writes the first one to the first sink.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::StartError;
use crate::control::config::Settings;
use crate::decode::{Decoder, Quarantine, Rules};
use crate::enrich::{Enricher, Enrichment};
use crate::flow::sink::{Entry, Group, NoTail, RefusedRow, SinkError};
use crate::flow::{Field, FlowBatch, LogId, Record, RollupDef, SinkContext, Value, time};
use crate::receive::{Receivers, Restored, Taken};
use crate::telemetry::ledger::Ledger;

/// Waits for a datagram on the configured addresses, at most this long; prints every record of it as `column=value`, and
/// writes the first to the first sink, under a log id of its own. Gives what failed of that, if anything.
///
/// # Errors
/// The sockets or the enrichment cannot be opened.
pub fn run(settings: &Settings, wait: Duration) -> Result<Option<String>, StartError> {
    let stages = &settings.stages;
    let ledger = Arc::new(Ledger::default());
    let receivers = Receivers::start(&stages.receive, ledger.clone(), Restored::default()).map_err(StartError::new)?;
    let (enrichment, _) = Enrichment::open(super::start::enrich_config(settings)).map_err(StartError::new)?;
    for address in receivers.addresses() {
        eprintln!("waiting for a datagram on udp {address}");
    }
    let Some(batch) = first_batch(settings, &receivers, Arc::new(enrichment), wait) else {
        return Ok(Some(format!("no flow record came within {} s", wait.as_secs())));
    };
    drop(receivers);
    print(&batch).map_err(StartError::new)?;
    let Some(sink) = settings.sinks.first() else { return Ok(None) };
    let mut one = FlowBatch::default();
    one.append_rows(&batch, &[0]);
    if let Err(error) = write(sink, one) {
        return Ok(Some(format!("sink {}: {error}", sink.common.name)));
    }
    println!("the first record is stored in sink {} ({})", sink.common.name, sink.common.kind);
    Ok(None)
}

fn first_batch(
    settings: &Settings,
    receivers: &Receivers,
    enrichment: Arc<Enrichment>,
    wait: Duration,
) -> Option<FlowBatch> {
    let rules = Arc::new(arc_swap::ArcSwap::from_pointee(Rules::new(&settings.stages.decode)));
    let mut decoder = Decoder::new(rules, Arc::new(Quarantine::default()));
    let mut enricher = Enricher::new(enrichment);
    let queue = receivers.queue();
    let deadline = Instant::now() + wait;
    let mut batch = FlowBatch::default();
    while batch.is_empty() {
        match queue.take(deadline.saturating_duration_since(Instant::now())) {
            Taken::Slab(slab) => {
                decoder.decode(&slab, &mut batch);
                enricher.enrich(&mut batch);
                queue.recycle(slab);
            }
            Taken::Nothing | Taken::Closed => return None,
        }
    }
    Some(batch)
}

/// One record a line, what is null left out.
fn print(batch: &FlowBatch) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    for row in 0..batch.len() {
        for field in Field::ALL {
            let value = batch.value(*field, row);
            if value != Value::Null {
                write!(out, "{}={value} ", field.name())?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

fn write(sink: &crate::control::config::SinkSettings, batch: FlowBatch) -> Result<(), SinkError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|e| SinkError::Fatal(e.to_string()))?;
    let context = SinkContext {
        name: sink.common.name.clone(),
        log_id: LogId(id),
        tail: Arc::new(NoTail),
        rollups: Arc::new(RollupDef::defaults()),
        malformed: Arc::default(),
        clock: Arc::new(time::now_ms),
    };
    let mut open = sink.config.open(&context)?;
    let entry = Entry { position: 1, record: Record::Flows(Arc::new(batch)) };
    open.write(&mut OneEntry(Some(entry)))?;
    open.close(Duration::from_secs(10))
}

struct OneEntry(Option<Entry>);

impl Group for OneEntry {
    fn next(&mut self) -> Result<Option<Entry>, SinkError> {
        Ok(self.0.take())
    }

    fn set_aside(&mut self, rows: &[RefusedRow<'_>]) -> Result<(), SinkError> {
        rows.first().map_or(Ok(()), |refused| Err(SinkError::Reject(refused.reason.to_owned())))
    }
}
