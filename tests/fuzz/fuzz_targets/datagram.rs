//! Any bytes as an export datagram: no panic, everything counted.
#![no_main]

use std::sync::Arc;

use arc_swap::ArcSwap;
use rgz_netflow::decode::{self, Decoder, Rules};
use rgz_netflow::flow::{Addr, FlowBatch};
use rgz_netflow::receive::{self, Admission, Framer, Pool};
use rgz_netflow::telemetry::ledger::Ledger;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let config = receive::Config::default();
    let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&config.allow, &config.protocols)));
    let ledger = Arc::new(Ledger::default());
    let mut framer = Framer::new(ledger.clone(), admission, Arc::default());
    let Some(mut slab) = Pool::new(1, 1 << 16).take() else { return };
    let exporter = Addr::v4(0x0a00_0001);
    let framed = framer.push(&mut slab, exporter, 2055, 1_700_000_000_000, data);
    let rules = Arc::new(ArcSwap::from_pointee(Rules::new(&decode::Config::default())));
    let mut batch = FlowBatch::default();
    Decoder::new(rules, Arc::default()).decode(&slab, &mut batch);
    assert!(batch.len() <= framed.map_or(0, usize::from));
    assert_eq!(batch.ragged_column(), None);
});
