//! The stage as a whole: sockets, framing, queue, accounts.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use proptest::prelude::*;

use super::sequence::REORDER_HOLD_MS;
use super::*;
use crate::flow::Addr;
use crate::telemetry::ledger::{Account, Ledger};
use crate::wire::{self, FlowRecord, Header};

const PATIENCE: Duration = Duration::from_secs(10);

fn config(listen: &str) -> Config {
    Config { listen: vec![listen.parse().unwrap()], sockets: 1, receive_buffer_bytes: 1 << 20, ..Config::default() }
}

fn v5(sequence: u32, records: usize) -> Vec<u8> {
    let header = Header { version: 5, sequence, sys_uptime_ms: 1000, unix_secs: 1_700_000_000, ..Header::default() };
    wire::datagram(&header, &vec![FlowRecord { packets: 1, bytes: 40, ..FlowRecord::default() }; records])
}

fn framer(ledger: &Arc<Ledger>, allow: &[&str], protocols: &[Protocol], restored: Restored) -> Framer {
    let allow: Vec<_> = allow.iter().map(|net| net.parse().unwrap()).collect();
    Framer::new(ledger.clone(), Arc::new(ArcSwap::from_pointee(Admission::new(&allow, protocols))), Arc::new(restored))
}

fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

/// Takes slabs until this many records came; gives them.
fn take_flows(queue: &SlabQueue, flows: u64) -> Vec<Slab> {
    let (mut slabs, mut got, since) = (Vec::new(), 0, Instant::now());
    while got < flows {
        if let Taken::Slab(slab) = queue.take(Duration::from_millis(20)) {
            got += slab.flows();
            slabs.push(slab);
        }
        assert!(since.elapsed() < PATIENCE, "{got} of {flows} flows came");
    }
    slabs
}

fn account(ledger: &Ledger, exporter: &str) -> Arc<Account> {
    ledger.account(exporter.parse().unwrap())
}

/// The identities of `telemetry::ledger`, as far as receive alone answers for them.
fn assert_closes(account: &Account, in_slabs: (u64, u64)) {
    let dropped = [&account.malformed, &account.unknown_version, &account.not_allowed, &account.queue_full_datagrams];
    assert_eq!(account.datagrams.get(), in_slabs.0 + dropped.iter().map(|c| c.get()).sum::<u64>(), "datagrams");
    assert_eq!(account.flows.get(), in_slabs.1 + account.torn_flows.get() + account.queue_full_flows.get(), "flows");
}

#[test]
fn datagrams_of_every_family_and_socket_arrive_once_and_in_order() {
    for (listen, sockets) in [("127.0.0.1:0", 1), ("[::1]:0", 1), ("127.0.0.1:0", 2)] {
        let ledger = Arc::new(Ledger::default());
        let receivers =
            Receivers::start(&Config { sockets, ..config(listen) }, ledger.clone(), Restored::default()).unwrap();
        let to = receivers.addresses()[0];
        assert_eq!((receivers.addresses().len(), receivers.sockets().len()), (1, sockets));
        let exporters: Vec<_> = (0..4).map(|_| UdpSocket::bind(SocketAddr::new(to.ip(), 0)).unwrap()).collect();
        for i in 0..100 {
            for exporter in &exporters {
                exporter.send_to(&v5(i * 3, 3), to).unwrap();
            }
        }
        let slabs = take_flows(&receivers.queue(), 1200);
        for slab in &slabs {
            for (index, stream) in slab.streams().iter().enumerate() {
                let sequences: Vec<_> =
                    slab.frames().iter().filter(|f| f.stream as usize == index).map(|f| f.header.sequence).collect();
                assert!(sequences.is_sorted() && sequences[0] == stream.progress.first_sequence);
                assert_eq!(stream.progress.exporter, Addr::from(to.ip()));
            }
        }
        let account = ledger.account(to.ip());
        assert_closes(&account, (400, 1200));
        assert_eq!((account.sequence_gap.get(), account.reordered.get()), (0, 0));
        let queue = receivers.queue();
        slabs.into_iter().for_each(|slab| queue.recycle(slab));
        receivers.stop();
        assert!(matches!(queue.take(Duration::ZERO), Taken::Closed));
    }
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_address() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let error = Receivers::start(&config(&address), Arc::default(), Restored::default()).unwrap_err();
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn a_second_collector_does_not_share_the_port_unnoticed() {
    let first = Receivers::start(&config("127.0.0.1:0"), Arc::default(), Restored::default()).unwrap();
    let address = first.addresses()[0].to_string();
    assert!(Receivers::start(&config(&address), Arc::default(), Restored::default()).is_err());
}

#[test]
fn a_datagram_longer_than_the_buffer_is_cut_counted_and_read_as_far_as_it_goes() {
    let ledger = Arc::new(Ledger::default());
    let config = Config { datagram_bytes_max: 2048, ..config("127.0.0.1:0") };
    let receivers = Receivers::start(&config, ledger.clone(), Restored::default()).unwrap();
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    exporter.send_to(&v5(0, 60), receivers.addresses()[0]).unwrap();
    let fit = (2048 - 24) / 48;
    take_flows(&receivers.queue(), fit);
    assert_eq!(receivers.sockets()[0].truncated.get(), 1);
    assert_eq!(account(&ledger, "127.0.0.1").torn_flows.get(), 60 - fit);
    assert_closes(&account(&ledger, "127.0.0.1"), (1, fit));
}

#[test]
fn what_the_kernel_drops_is_counted() {
    let ledger = Arc::new(Ledger::default());
    let config = Config { receive_buffer_bytes: 4096, ..config("127.0.0.1:0") };
    let receivers = Receivers::start(&config, ledger.clone(), Restored::default()).unwrap();
    let socket = receivers.sockets()[0].clone();
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (mut sent, since) = (0, Instant::now());
    while socket.kernel_drops() == 0 && since.elapsed() < PATIENCE {
        for _ in 0..200 {
            exporter.send_to(&v5(sent * 30, 30), receivers.addresses()[0]).unwrap();
            sent += 1;
        }
    }
    assert!(socket.kernel_drops() > 0);
    wait_for("every datagram is either received or dropped", || {
        socket.datagrams.get() + socket.kernel_drops() == u64::from(sent)
    });
    // What the kernel tells with datagrams is what its table of sockets says. A datagram that comes after the drops tells it.
    let listed = || super::procfs::drops_of(socket.inode.unwrap()).unwrap() - socket.kernel_drops_before;
    wait_for("both counts are the same", || {
        exporter.send_to(&v5(sent * 30, 30), receivers.addresses()[0]).unwrap();
        std::thread::sleep(Duration::from_millis(1));
        socket.kernel_drops.get() == listed()
    });
    assert_eq!(socket.kernel_drops(), listed());
}

#[test]
fn when_no_slab_is_free_what_is_held_is_dropped_and_counted() {
    let ledger = Arc::new(Ledger::default());
    let config = Config { slab_bytes: 16 << 10, queue_bytes: 64 << 10, ..config("127.0.0.1:0") };
    let receivers = Receivers::start(&config, ledger.clone(), Restored::default()).unwrap();
    let exporter = UdpSocket::bind("127.0.0.1:0").unwrap();
    let account = account(&ledger, "127.0.0.1");
    for i in 0..200 {
        exporter.send_to(&v5(i * 30, 30), receivers.addresses()[0]).unwrap();
        wait_for("it is received", || account.datagrams.get() == u64::from(i) + 1);
    }
    let queue = receivers.queue();
    receivers.stop();
    let (mut datagrams, mut flows, mut units) = (0, 0, 0u32);
    let mut ends = (None, 0);
    while let Taken::Slab(slab) = queue.take(Duration::ZERO) {
        datagrams += slab.frames().len() as u64;
        flows += slab.flows();
        let progress = &slab.streams()[0].progress;
        units = units.wrapping_add(progress.sequence_units).wrapping_add(progress.gap);
        ends = (ends.0.or(Some(progress.first_sequence)), progress.next_sequence);
    }
    assert!(account.queue_full_flows.get() > 0 && flows > 0);
    assert_closes(&account, (datagrams, flows));
    assert_eq!(account.sequence_gap.get(), 0, "what we dropped is no loss of the network");
    assert_eq!(ends.1 - ends.0.unwrap(), units, "what we dropped does not look like the loss of a crash");
}

#[test]
fn only_allowed_exporters_and_accepted_versions_pass_and_reloads_are_live() {
    let ledger = Arc::new(Ledger::default());
    let admission = Arc::new(ArcSwap::from_pointee(Admission::new(&["10.0.0.0/8".parse().unwrap()], &[Protocol::V5])));
    let mut framer = Framer::new(ledger.clone(), admission.clone(), Arc::default());
    let mut slab = Pool::new(1, 1 << 16).take().unwrap();
    let mut push = |exporter: &str, datagram: &[u8]| {
        framer.tick(1, Some(&mut slab));
        framer.push(&mut slab, exporter.parse().unwrap(), 9, 1, datagram)
    };
    let v9 = [0, 9, 0, 1, 0, 0, 0, 0];
    let v7 = wire::datagram(&Header { version: 7, ..Header::default() }, &[FlowRecord::default()]);
    assert_eq!(push("10.0.0.1", &v5(0, 2)), Ok(2));
    assert_eq!(push("11.0.0.1", &v5(0, 2)), Err(Reject::NotAllowed));
    assert_eq!(push("::a", &[1]), Err(Reject::NotAllowed));
    assert_eq!(push("10.0.0.2", &v9), Err(Reject::UnknownVersion(9)));
    assert_eq!(push("10.0.0.2", &v7), Err(Reject::UnknownVersion(7)));
    assert_eq!(push("10.0.0.2", &v5(0, 2)[..23]), Err(Reject::Malformed));
    assert_eq!(push("10.0.0.2", &[]), Err(Reject::Malformed));
    admission.store(Arc::new(Admission::new(&["11.0.0.0/8".parse().unwrap()], &[Protocol::V5, Protocol::V7])));
    assert_eq!(push("10.0.0.1", &v5(2, 2)), Err(Reject::NotAllowed));
    assert_eq!(push("11.0.0.1", &v7), Ok(1));
    assert_closes(&account(&ledger, "10.0.0.1"), (1, 2));
    assert_closes(&account(&ledger, "10.0.0.2"), (0, 0));
    assert_closes(&account(&ledger, "::"), (0, 0));
    assert_eq!(account(&ledger, "::").not_allowed.get(), 3);
}

#[test]
fn count_and_length_that_differ_are_told_apart() {
    let ledger = Arc::new(Ledger::default());
    let mut framer = framer(&ledger, &[], &Protocol::ALL, Restored::default());
    let mut slab = Pool::new(1, 1 << 16).take().unwrap();
    let mut push = |datagram: &[u8]| framer.push(&mut slab, "10.0.0.1".parse().unwrap(), 9, 1, datagram);
    let mut long = v5(3, 3);
    long.extend([0; 100]);
    assert_eq!(push(&v5(0, 3)[..24 + 48 + 47]), Ok(1), "torn within the second record");
    assert_eq!(push(&long), Ok(3));
    assert_eq!(push(&v5(6, 3)[..24]), Ok(0));
    assert_eq!(push(&v5(9, 0)), Ok(0));
    for (sequence, count) in [(9, 1365), (12, u16::MAX)] {
        let mut impossible = v5(sequence, 3);
        impossible[2..4].copy_from_slice(&count.to_be_bytes());
        assert_eq!(push(&impossible), Ok(3), "{count}: no datagram holds so many");
    }
    assert_eq!(push(&v5(15, 0)), Ok(0));
    let account = account(&ledger, "10.0.0.1");
    assert_eq!((account.torn_flows.get(), account.long_datagrams.get(), account.sequence_gap.get()), (5, 1, 0));
    assert_eq!(account.count_replaced.get(), 2);
    assert_closes(&account, (7, 10));
    assert_eq!((slab.frames().len(), slab.flows(), slab.bytes().len()), (4, 10, 24 * 4 + 48 * 10));
}

#[test]
fn the_gap_after_a_restart_of_the_collector_is_lost_in_crash() {
    let ledger = Arc::new(Ledger::default());
    let key = StreamKey { exporter: "10.0.0.1".parse().unwrap(), source_port: 9, version: 5, source_id: 0 };
    let mut framer = framer(&ledger, &[], &Protocol::ALL, Restored::new([(key, 100)]));
    let mut slab = Pool::new(1, 1 << 16).take().unwrap();
    for sequence in [160, 190] {
        assert_eq!(framer.push(&mut slab, key.exporter, 9, 1, &v5(sequence, 30)), Ok(30));
    }
    framer.finish(1, &mut slab);
    let account = account(&ledger, "10.0.0.1");
    assert_eq!(account.lost_in_crash.get(), 0, "not before the log says so too");
    slab.streams().iter().for_each(SlabStream::book_losses);
    assert_eq!((account.lost_in_crash.get(), account.sequence_gap.get()), (60, 0));
    let progress = &slab.streams()[0].progress;
    assert_eq!((progress.first_sequence, progress.gap, progress.sequence_units), (100, 60, 60));
}

#[test]
fn a_hole_is_told_to_the_log_once_it_is_given_up_even_if_nothing_follows() {
    let ledger = Arc::new(Ledger::default());
    let mut framer = framer(&ledger, &[], &Protocol::ALL, Restored::default());
    let mut slab = Pool::new(1, 1 << 16).take().unwrap();
    for sequence in [0, 90] {
        framer.push(&mut slab, "10.0.0.1".parse().unwrap(), 9, 1, &v5(sequence, 30)).unwrap();
    }
    assert_eq!(slab.streams()[0].progress.gap, 0);
    slab.clear();
    framer.slab_sent();
    framer.tick(2 + REORDER_HOLD_MS, Some(&mut slab));
    slab.streams().iter().for_each(SlabStream::book_losses);
    assert_eq!(account(&ledger, "10.0.0.1").sequence_gap.get(), 60);
    let progress = &slab.streams()[0].progress;
    assert_eq!((progress.first_sequence, progress.gap, progress.datagrams), (60, 60, 0));
}

#[test]
fn streams_are_bounded() {
    let ledger = Arc::new(Ledger::default());
    let mut framer = framer(&ledger, &[], &Protocol::ALL, Restored::default());
    let mut slab = Pool::new(1, 16 << 20).take().unwrap();
    for i in 0..2 * STREAMS_MAX as u32 {
        assert_eq!(framer.push(&mut slab, Addr::v4(i), 9, i64::from(i), &v5(0, 1)), Ok(1));
        assert!(framer.streams() <= STREAMS_MAX);
    }
    assert_eq!(ledger.totals().iter().find(|(name, _)| *name == "flows").unwrap().1, 2 * STREAMS_MAX as u64);
}

#[test]
fn a_body_is_split_into_its_datagrams() {
    let ledger = Arc::new(Ledger::default());
    let config = Config { slab_bytes: 16 << 10, queue_bytes: 256 << 10, ..config("127.0.0.1:0") };
    let receivers = Receivers::start(&config, ledger.clone(), Restored::default()).unwrap();
    let mut injector = receivers.injector();
    let mut body = Vec::new();
    (0..30).for_each(|i| body.extend(v5(i * 30, 30)));
    body.extend(wire::datagram(&Header { version: 1, ..Header::default() }, &[FlowRecord::default(); 2]));
    let end = body.len();
    body.extend(&v5(900, 30)[..100]);
    let report = injector.ingest("10.9.9.9".parse().unwrap(), 0, 5, &body).unwrap();
    assert_eq!((report.accepted_datagrams, report.accepted_flows), (31, 902));
    let short = BodyReject::Short { needs: 1464, has: 100 };
    assert_eq!(report.rejected, [Rejected { offset: end, reason: short }]);
    let queue = receivers.queue();
    for mut slab in take_flows(&queue, 902) {
        slab.acknowledge(Receipt::Logged(7));
        queue.recycle(slab);
    }
    for receipt in report.receipts {
        assert_eq!(receipt.recv_timeout(PATIENCE), Ok(Receipt::Logged(7)));
    }
    let unknown = injector.ingest("10.9.9.9".parse().unwrap(), 0, 5, b"\0\x09not netflow 5").unwrap();
    assert_eq!(unknown.rejected, [Rejected { offset: 0, reason: Reject::UnknownVersion(9).into() }]);
    assert_closes(&account(&ledger, "10.9.9.9"), (31, 902));
}

#[test]
fn a_body_that_the_queue_cannot_take_is_left_whole() {
    let ledger = Arc::new(Ledger::default());
    let config = Config { slab_bytes: 16 << 10, queue_bytes: 64 << 10, ..config("127.0.0.1:0") };
    let receivers = Receivers::start(&config, ledger.clone(), Restored::default()).unwrap();
    let mut injector = receivers.injector();
    let body: Vec<u8> = (0..100).flat_map(|i| v5(i * 30, 30)).collect();
    assert_eq!(injector.ingest("10.9.9.9".parse().unwrap(), 0, 5, &body).unwrap_err(), Busy);
    assert_closes(&account(&ledger, "10.9.9.9"), (0, 0));
    assert!(injector.ingest("10.9.9.9".parse().unwrap(), 0, 5, &body[..1464]).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_counted_once(datagrams in prop::collection::vec(
        (0u32..3, 0u16..2, prop_oneof![prop::collection::vec(any::<u8>(), 0..200), near_v5()]), 0..60,
    )) {
        let ledger = Arc::new(Ledger::default());
        let mut framer = framer(&ledger, &["0.0.0.0/31"], &Protocol::ALL, Restored::default());
        let mut slab = Pool::new(1, 1 << 20).take().unwrap();
        for (now, (exporter, port, bytes)) in datagrams.iter().enumerate() {
            framer.tick(now as i64, Some(&mut slab));
            let _ = framer.push(&mut slab, Addr::v4(*exporter), *port, now as i64, bytes);
        }
        framer.finish(datagrams.len() as i64, &mut slab);
        let (mut datagrams_in, mut flows_in) = (0, 0);
        for exporter in [IpAddr::from([0, 0, 0, 0]), IpAddr::from([0, 0, 0, 1]), "::".parse().unwrap()] {
            let streams = slab.streams().iter().filter(|s| s.progress.exporter == Addr::from(exporter));
            let sums = streams.fold((0, 0), |sums, s| {
                (sums.0 + u64::from(s.progress.datagrams), sums.1 + u64::from(s.progress.flows))
            });
            assert_closes(&ledger.account(exporter), sums);
            datagrams_in += ledger.account(exporter).datagrams.get();
            flows_in += sums.1;
        }
        prop_assert_eq!(datagrams_in, datagrams.len() as u64);
        prop_assert_eq!(flows_in, slab.flows());
        for frame in slab.frames() {
            let (header_bytes, record_bytes) = wire::lengths(frame.header.version).unwrap();
            let end = frame.offset as usize + header_bytes + usize::from(frame.records) * record_bytes;
            prop_assert!(end <= slab.bytes().len());
        }
        for stream in slab.streams() {
            let p = &stream.progress;
            if p.has_sequence && p.datagrams == 1 {
                prop_assert_eq!(p.first_sequence.wrapping_add(p.sequence_units), p.next_sequence);
            }
            if p.has_sequence {
                let told = p.sequence_units.wrapping_add(p.gap);
                prop_assert_eq!(p.first_sequence.wrapping_add(told), p.next_sequence, "no hole is open at the end");
            }
        }
    }
}

prop_compose! {
    /// Bytes that are nearly a v5 datagram.
    fn near_v5()(sequence in any::<u32>(), records in 0usize..4, count in prop::option::of(any::<u16>()), cut in 0usize..250) -> Vec<u8> {
        let mut bytes = v5(sequence, records);
        if let Some(count) = count {
            bytes[2..4].copy_from_slice(&count.to_be_bytes());
        }
        bytes.truncate(cut);
        bytes
    }
}
