//! A thread of a stage that panics is counted, and the process saves what it has and ends with an error. Alone in its binary: the
//! count is the process's.

mod support;

use std::sync::Arc;
use std::time::Duration;

use rgz_netflow::app;
use rgz_netflow::control::config::{self, Sources};
use rgz_netflow::flow::sink::Group;
use rgz_netflow::flow::{FlowStore, Sink, SinkConfig, SinkContext, SinkError};
use rgz_netflow::telemetry::{Exposition, Format, panics};
use support::{Collector, wait_until};

const FLOWS: u64 = 3000;

/// A sink whose code is wrong.
#[derive(Debug)]
struct Wrong;

impl SinkConfig for Wrong {
    fn open(&self, _: &SinkContext) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Self))
    }

    fn store(&self, _: &SinkContext) -> Result<Option<Arc<dyn FlowStore>>, SinkError> {
        Ok(None)
    }

    fn memory_bytes_max(&self) -> u64 {
        0
    }
}

impl Sink for Wrong {
    fn cursor(&mut self) -> Result<Option<u64>, SinkError> {
        Ok(None)
    }

    fn write(&mut self, group: &mut dyn Group) -> Result<(), SinkError> {
        let mut flows = 0;
        while let Some(entry) = group.next()? {
            flows += entry.record.flow_count();
        }
        assert!(flows < FLOWS, "expected by the test");
        // Until all are in one group nothing is taken.
        if flows > 0 { Err(SinkError::retry("again, with more")) } else { Ok(()) }
    }

    fn close(self: Box<Self>, _: Duration) -> Result<(), SinkError> {
        Ok(())
    }
}

#[test]
fn a_thread_that_panics_is_counted_and_the_process_saves_what_it_has_and_ends_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = "[[sink]]\nname = \"wrong\"\nkind = \"parquet\"\npath = \"wrong\"\nflush_interval = \"2s\"\n";
    let collector = Collector::new(folder.path(), wrong);
    let sources = Sources { file: Some(folder.path().join("pipeline.toml")), ..Sources::default() };
    let mut settings = config::load(&sources).unwrap();
    settings.sinks.iter_mut().find(|sink| sink.common.name == "wrong").unwrap().config = Arc::new(Wrong);
    let running = std::thread::Builder::new().name("main".into()).spawn(move || app::run(settings, sources)).unwrap();
    wait_until("the collector is ready", Duration::from_secs(60), || {
        ureq::get(&collector.url("/readyz")).call().is_ok()
    });
    collector.generate(&["--count", &FLOWS.to_string(), "--rate", "30000"]);
    let ended = running.join().unwrap().unwrap_err().to_string();
    assert!(ended.starts_with("thread sink-wrong panicked at tests/panics.rs:"), "{ended}");
    assert!(ended.ends_with("expected by the test; what was received is saved, start it again"), "{ended}");
    let mut out = Exposition::default();
    panics::expose(&mut out);
    assert!(out.render(Format::Prometheus).contains("netflow_thread_panics_total{threads=\"stages\"} 1\n"));
    let stored = collector.cli(&["query", "--data", "data", "--period", "7d", "--tier", "flows", "--json"]);
    let stored: serde_json::Value = serde_json::from_str(&stored).unwrap();
    assert_eq!(stored["matched"]["flows"], FLOWS, "{stored}");
}
