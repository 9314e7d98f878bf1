use super::*;

const SECOND_MS: i64 = 1000;

/// A flow as a test writes it: ends as "address:port", start and receive time in ms.
#[derive(Clone, Copy)]
struct Flow {
    src: (&'static str, u16),
    dst: (&'static str, u16),
    protocol: u8,
    flags: u16,
    start_ms: i64,
    received_ms: i64,
    exporter: &'static str,
}

const WEB: Flow = Flow {
    src: ("10.0.0.1", 50_000),
    dst: ("8.8.8.8", 443),
    protocol: TCP,
    flags: SYN,
    start_ms: 1_000_000,
    received_ms: 1_010_000,
    exporter: "192.0.2.1",
};

impl Flow {
    /// The other direction, begun later by so many ms.
    fn back(self, later_ms: i64) -> Self {
        Self { src: self.dst, dst: self.src, start_ms: self.start_ms + later_ms, ..self }
    }
}

fn batch(flows: &[Flow]) -> FlowBatch {
    let mut batch = FlowBatch::default();
    for flow in flows {
        batch.time.push(Some(flow.start_ms + SECOND_MS));
        batch.flow_start.push(Some(flow.start_ms));
        batch.received_at.push(Some(flow.received_ms));
        batch.exporter_ip.push(Some(&flow.exporter.parse().unwrap()));
        batch.src_ip.push(Some(flow.src.0.parse().unwrap()));
        batch.dst_ip.push(Some(flow.dst.0.parse().unwrap()));
        batch.src_port.push(Some(flow.src.1));
        batch.dst_port.push(Some(flow.dst.1));
        batch.protocol.push(Some(flow.protocol));
        batch.tcp_flags.push(Some(flow.flags));
    }
    batch.fill_missing();
    batch
}

/// What each row of each batch, one after the other, is marked with: `None`, or the round trip (0 = none).
fn marks(batches: &[&[Flow]]) -> Vec<Vec<Option<u32>>> {
    let mut pairer = Pairer::new(Arc::new(Pairing::new(1 << 12)));
    let marked = |flows: &&[Flow]| {
        let mut batch = batch(flows);
        pairer.pair(&mut batch);
        assert_eq!(batch.ragged_column(), None);
        let mark = |row| {
            let rtt = batch.rtt_ms.get(row);
            assert!(batch.bidirectional.get(row) == Some(1) || rtt.is_none());
            batch.bidirectional.get(row).map(|_| rtt.unwrap_or(0))
        };
        (0..batch.len()).map(mark).collect()
    };
    batches.iter().map(marked).collect()
}

#[test]
fn the_later_record_is_marked_within_a_batch_and_across_batches() {
    let other = Flow { src: ("10.0.0.2", 1), ..WEB };
    assert_eq!(marks(&[&[WEB, other, WEB.back(25)]]), [vec![None, None, Some(25)]]);
    assert_eq!(marks(&[&[WEB, other], &[other, WEB.back(25)]]), [vec![None, None], vec![None, Some(25)]]);
    // The answer may be exported first.
    assert_eq!(marks(&[&[WEB.back(25)], &[WEB]]), [vec![None], vec![Some(25)]]);
    let v6 = Flow { src: ("2001:db8::1", 50_000), dst: ("2001:db8::2", 443), ..WEB };
    assert_eq!(marks(&[&[v6, WEB], &[WEB.back(3), v6.back(4)]]), [vec![None, None], vec![Some(3), Some(4)]]);
    // An IPv4 conversation is the same beside an IPv6 row and without one.
    assert_eq!(marks(&[&[WEB], &[v6, WEB.back(3)]]), [vec![None], vec![None, Some(3)]]);
}

#[test]
fn a_pair_is_used_up_and_the_batch_goes_before_the_table() {
    let back = WEB.back(25);
    assert_eq!(
        marks(&[&[WEB], &[back, back], &[back], &[WEB]])[1..],
        [vec![Some(25), None], vec![None], vec![Some(25)]]
    );
    assert_eq!(marks(&[&[WEB, back, WEB, back]]), [vec![None, Some(25), None, Some(25)]]);
    let late = Flow { start_ms: WEB.start_ms + 500, ..WEB };
    assert_eq!(marks(&[&[WEB], &[back.back(0), back], &[]])[1], [None, Some(0)]);
    assert_eq!(marks(&[&[WEB], &[late, back], &[back]])[1..], [vec![None, Some(475)], vec![Some(25)]]);
}

#[test]
fn a_round_trip_needs_a_handshake_seen_by_one_exporter_and_a_difference_that_can_be_one() {
    let pair = |a: Flow, b: Flow| {
        let within = marks(&[&[a, b]])[0][1];
        assert_eq!(marks(&[&[a], &[b]])[1][0], within);
        within
    };
    assert_eq!(pair(WEB, WEB.back(0)), Some(0));
    assert_eq!(pair(WEB, WEB.back(1)), Some(1));
    assert_eq!(pair(WEB, WEB.back(10_000)), Some(10_000));
    assert_eq!(pair(WEB, WEB.back(10_001)), Some(0));
    assert_eq!(pair(WEB, WEB.back(-40)), Some(40));
    assert_eq!(pair(WEB, Flow { flags: 0x10, ..WEB.back(5) }), Some(0));
    assert_eq!(pair(Flow { flags: 0x18, ..WEB }, WEB.back(5)), Some(0));
    assert_eq!(pair(WEB, Flow { exporter: "192.0.2.2", ..WEB.back(5) }), Some(0));
    let udp = Flow { protocol: 17, ..WEB };
    assert_eq!(pair(udp, udp.back(5)), Some(0));
}

#[test]
fn only_the_same_conversation_pairs() {
    let back = WEB.back(5);
    for other in [
        WEB,
        Flow { protocol: 17, ..back },
        Flow { dst: ("10.0.0.1", 50_001), ..back },
        Flow { src: ("8.8.8.9", 443), ..back },
        Flow { src: ("8.8.8.8", 50_000), dst: ("10.0.0.1", 443), ..back },
        Flow { received_ms: WEB.received_ms + 1801 * SECOND_MS, ..back },
    ] {
        assert_eq!(marks(&[&[WEB], &[other]])[1], [None]);
    }
    let itself = Flow { dst: WEB.src, ..WEB };
    assert_eq!(marks(&[&[itself, itself], &[itself]]), [vec![None, None], vec![None]]);
    // Echo request and reply differ in type, which flows carry as a port.
    let ping = Flow { src: ("10.0.0.1", 0), dst: ("8.8.8.8", 0x800), protocol: 1, ..WEB };
    let pong = Flow { src: ("8.8.8.8", 0), dst: ("10.0.0.1", 0), ..ping };
    assert_eq!(marks(&[&[ping], &[pong]])[1], [Some(0)]);
}

#[test]
fn the_table_is_bounded_gives_up_the_oldest_and_counts_them() {
    // One bucket a shard.
    let entries = SHARDS * shard::WAYS;
    let pairing = Arc::new(Pairing::new(entries));
    let mut pairer = Pairer::new(pairing.clone());
    let flow = |i: u16| Flow { src: ("10.0.0.1", i), ..WEB };
    let flows: Vec<_> = (1..=20_000).map(flow).collect();
    flows.chunks(700).for_each(|chunk| pairer.pair(&mut batch(chunk)));
    let waiting = |pairing: &Pairing| (0..SHARDS).map(|shard| pairing.lock(shard).waiting()).sum::<usize>();
    assert_eq!(waiting(&pairing), entries);
    assert_eq!(pairing.evicted.get(), 20_000 - entries as u64);
    // The last 6 of each shard are there: surely the last 6 of all, surely none of the first thousand.
    let mut last = batch(&(19_995..=20_000).map(|i| flow(i).back(7)).collect::<Vec<_>>());
    pairer.pair(&mut last);
    assert!((0..6).all(|row| last.rtt_ms.get(row) == Some(7)));
    let mut first = batch(&(1..=1000).map(|i| flow(i).back(7)).collect::<Vec<_>>());
    pairer.pair(&mut first);
    assert!(first.bidirectional.all_null());
    assert!(pairing.bytes_max() <= entries * ENTRY_BYTES);
    let mut out = Exposition::default();
    pairing.expose(&mut out);
    let text = out.render(crate::telemetry::Format::Prometheus);
    assert!(text.contains("netflow_pairing_pairs_total{found=\"table\"} 6"), "{text}");
}

#[test]
fn workers_side_by_side_pair_every_conversation_once() {
    let pairing = Arc::new(Pairing::new(1 << 16));
    let marked: usize = std::thread::scope(|scope| {
        let worker = |back: bool| {
            let pairing = pairing.clone();
            scope.spawn(move || {
                let mut pairer = Pairer::new(pairing);
                let flows: Vec<_> = (1..=8000).map(|i| Flow { src: ("10.0.0.1", i), ..WEB }).collect();
                let flows: Vec<_> = flows.into_iter().map(|flow| if back { flow.back(9) } else { flow }).collect();
                let mut marked = 0;
                for chunk in flows.chunks(97) {
                    let mut batch = batch(chunk);
                    pairer.pair(&mut batch);
                    marked += batch.len() - batch.bidirectional.null_count();
                }
                marked
            })
        };
        [worker(false), worker(true)].map(|worker| worker.join().unwrap()).iter().sum()
    });
    assert_eq!(marked, 8000);
    assert_eq!(pairing.in_table.get() + pairing.in_batch.get(), 8000);
}
